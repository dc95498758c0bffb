"""Whether a damaged file stops a reader with anything but one clear line, hangs it, or fills the memory.

    python tests/stress/readers.py              # 10,000 files, several minutes
    python tests/stress/readers.py --files 500

A good file of each kind is damaged by hypothesis: bytes are changed, taken out, doubled, put elsewhere. Each is read as
examples, and as the documents of an index, in full. What may come of it is what is read, or a DataError. The last line
printed is the summary as one JSON object; exits with 1 if anything else came.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import io
import json
import logging
import resource
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from polyencoders.data import DocumentFile, read_source, read_texts
from polyencoders.errors import DataError

LONGEST = 10.0  # Seconds that a file of some kilobytes may take, on the busiest machine
ROWS = [(f"Question {i}, is it “{i}”?", f"It is {i};\nor so.", i % 2) for i in range(20)]
HEADER = ("query", "positive", "label")


def _csv(delimiter: str = ",", encoding: str = "utf-8") -> bytes:
    text = io.StringIO(newline="")
    csv.writer(text, delimiter=delimiter).writerows([HEADER, *ROWS])
    return text.getvalue().encode(encoding)


def _objects() -> list[dict[str, object]]:
    return [{"query": [query, "And?"], "positive": positive, "text": query} for query, positive, _ in ROWS]


def _parquet() -> bytes:
    content = io.BytesIO()
    pq.write_table(pa.table(dict(zip(HEADER, map(list, zip(*ROWS, strict=True)), strict=True))), content)
    return content.getvalue()


def _excel() -> bytes:
    import openpyxl

    book, content = openpyxl.Workbook(), io.BytesIO()
    for row in [HEADER, *ROWS]:
        book.active.append(row)
    book.save(content)
    return content.getvalue()


KINDS: dict[str, Callable[[], bytes]] = {
    "a.csv": _csv,
    "b.csv": lambda: _csv(";", "utf-16"),
    "c.tsv": lambda: _csv("\t", "cp1252"),
    "d.jsonl": lambda: "\n".join(map(json.dumps, _objects())).encode(),
    "e.json": lambda: json.dumps(_objects(), indent=1).encode(),
    "f.jsonl.gz": lambda: gzip.compress("\n".join(map(json.dumps, _objects())).encode(), mtime=0),
    "g.parquet": _parquet,
    "h.xlsx": _excel,
    "i.txt": lambda: "\n".join(query for query, _, _ in ROWS).encode(),
}


def kinds() -> dict[str, bytes]:
    """A good file of each kind, by name; without Excel's where openpyxl is not installed."""
    found = {}
    for name, make in KINDS.items():
        try:
            found[name] = make()
        except ModuleNotFoundError:
            continue
    return found


@st.composite
def damaged(draw: st.DrawFn, content: bytes) -> bytes:
    """A file with one to four kinds of damage."""
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, max(0, len(content) - 1)))
        end = min(len(content), start + draw(st.integers(0, 40)))
        put = draw(
            st.one_of(st.binary(max_size=12), st.sampled_from([b'"', b"\n", b"\0", b"[", b"{", b",", b"\xff\xfe"]))
        )
        content = {
            "change": content[:start] + put + content[start + len(put) :],
            "take out": content[:start] + content[end:],
            "put in": content[:start] + put + content[start:],
            "double": content[:end] + content[start:],
            "cut": content[:start],
        }[draw(st.sampled_from(["change", "take out", "put in", "double", "cut"]))]
    return content


def read(path: Path) -> Counter[str]:
    """Read a file in each way, in full. Anything but what is read and a DataError of one line goes on up."""
    counts: Counter[str] = Counter()
    for how in (read_source, read_texts, lambda path: list(DocumentFile(path))):
        started = time.perf_counter()
        try:
            how(path)
            counts["read"] += 1
        except DataError as error:
            if "\n" in str(error) or not str(error).startswith(str(path)):
                raise AssertionError(f"no line that begins with its file: {error!r}") from error
            counts["refused"] += 1
        took = time.perf_counter() - started
        assert took < LONGEST, f"{took:.0f} seconds"
    return counts


def attack(folder: Path, files: int, start: int = 0) -> dict[str, object]:
    """Damage and read `files` files, as many of each kind; the seed is `start`."""
    counts: Counter[str] = Counter()
    problems: list[str] = []
    good = kinds()
    logger = logging.getLogger("polyencoders")
    level = logger.level
    logger.setLevel(logging.ERROR)  # what is found out of a damaged file is said of each
    try:
        for name, content in good.items():
            path = folder / name
            path.write_bytes(content)
            assert read(path)["read"], f"{name}: as it is, nothing reads it"
            _attack_one(path, content, max(1, files // len(good)), start, counts, problems)
    finally:
        logger.setLevel(level)
    return {**counts, "megabytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024, "problems": problems}


def _attack_one(path: Path, content: bytes, files: int, start: int, counts: Counter[str], problems: list[str]) -> None:
    @seed(start)
    @settings(
        max_examples=files,
        deadline=None,
        database=None,
        phases=(Phase.generate,),
        suppress_health_check=list(HealthCheck),
    )
    @given(damaged(content))
    def one(harmed: bytes) -> None:
        path.write_bytes(harmed)
        counts["files"] += 1
        try:
            counts.update(read(path))
        except Exception as error:
            problems.append(f"{path.name}: {type(error).__name__}: {error}"[:300] + f" ({harmed[:60]!r})")

    one()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    given_arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="readers-") as place:
        summary = attack(Path(place), given_arguments.files, given_arguments.seed)
    print(json.dumps(summary))
    sys.exit(bool(summary["problems"]))
