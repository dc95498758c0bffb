"""Draws docs/images/time.svg, where the time of a search goes, from what benchmarks/encoding.py measured.

python tools/pictures.py
"""

from __future__ import annotations

import json
from pathlib import Path

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "benchmarks" / "results" / "encoding.json"
PICTURE = ROOT / "docs" / "images" / "time.svg"
THREADS, TOKENS = 2, 13
RIVALS = (
    ("sentence-transformers and FAISS flat", "SentenceTransformer.encode", "sentence-transformers, FAISS flat"),
    ("polyencoders, exported, proven", "float32", "float32, four codes, proven"),
)
"""A name, and what the report calls its encoder and its search."""
LEFT, WIDTH, BAR = 290, 520, 22


def drawn(results: dict[str, list[dict[str, object]]]) -> str:
    """The picture: a bar for each rival and size of index, of the time to encode the query and to search."""
    [queries] = [row["ms"] for row in results["queries"] if (row["threads"], row["tokens"]) == (THREADS, TOKENS)]
    searches = {row["n"]: row["ms"] for row in results["search"] if row["threads"] == THREADS}
    longest = max(ms[search] for ms in searches.values() for _, _, search in RIVALS)  # type: ignore[index]
    parts, y = [], 40
    for documents, ms in searches.items():
        parts.append(f'<text x="20" y="{y + 4}" font-weight="600">{documents:,} documents</text>')
        for name, encoder, search in RIVALS:
            y += BAR + 8
            whole, encoding = ms[search], min(queries[encoder], ms[search])  # type: ignore[index]
            first, all_of_it = encoding / longest * WIDTH, whole / longest * WIDTH
            parts += [
                f'<text x="{LEFT - 8}" y="{y + 15}" text-anchor="end">{name}</text>',
                f'<rect x="{LEFT}" y="{y}" width="{first:.1f}" height="{BAR}" fill="#ff8f00"/>',
                f'<rect x="{LEFT + first:.1f}" y="{y}" width="{all_of_it - first:.1f}" height="{BAR}" fill="#3f51b5"/>',
                f'<text x="{LEFT + all_of_it + 6:.1f}" y="{y + 15}">{whole:.0f} ms</text>',
            ]
        y += BAR + 34
    parts += [
        f'<rect x="{LEFT}" y="{y}" width="14" height="14" fill="#ff8f00"/>',
        f'<text x="{LEFT + 20}" y="{y + 12}">encoding a query of {TOKENS} tokens</text>',
        f'<rect x="{LEFT + 230}" y="{y}" width="14" height="14" fill="#3f51b5"/>',
        f'<text x="{LEFT + 250}" y="{y + 12}">everything else: finding the ten best</text>',
    ]
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 900 {y + 40}" font-family="system-ui, sans-serif" '
            'font-size="13" fill="#222">',
            "<title>Where the time of a search goes</title>",
            f'<rect width="900" height="{y + 40}" fill="#fff"/>',
            *parts,
            "</svg>\n",
        ]
    )


if __name__ == "__main__":
    PICTURE.write_text(drawn(json.loads(SOURCE.read_text(encoding="utf-8"))), encoding="utf-8")
