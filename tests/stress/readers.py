"""Whether a damaged file stops a reader with anything but one clear line, hangs it, or fills the memory.

    python tests/stress/readers.py              # 10,000 files of each kind, twenty minutes or so
    python tests/stress/readers.py --files 20
    python tests/stress/readers.py --kinds beir scifact

A good file of each kind is damaged by hypothesis: bytes are changed, taken out, doubled, put elsewhere. Each is read as
examples, and as the documents of an index, in full. A set of each published format is damaged in one file at a time,
and read as examples. What may come of it is what is read, or a DataError. The last line printed is the summary as one
JSON object; exits with 1 if anything else came.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import importlib.util
import io
import json
import logging
import resource
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Collection
from functools import partial
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from polyencoders.data import DocumentFile, read_source, read_texts
from polyencoders.data.formats import FORMATS
from polyencoders.errors import DataError

SPEC = importlib.util.spec_from_file_location("samples", Path(__file__).parents[1] / "data" / "samples.py")
assert SPEC is not None
assert SPEC.loader is not None
samples = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(samples)

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


BABI, DSTC7 = "dialog-babi-task6-dstc2-", "ubuntu_train_subtask_1.json"
REPLIES = {
    f"{side}.json": "\n".join(json.dumps(samples.dailydialogpp(number)) for number in range(3))
    for side in ("train", "dev", "test")
}
SETS: dict[str, dict[str, object] | Callable[[Path], object]] = {
    "babi": {
        f"{BABI}trn.txt": samples.BABI,
        f"{BABI}tst.txt": samples.BABI,
        f"{BABI}candidates.txt": samples.BABI_CANDIDATES,
    },
    "beir": samples.beir,
    "clinc150": {"data_full.json": samples.CLINC150},
    "convai2": {"train_self_original.txt": samples.CONVAI2, "valid_self_original.txt": samples.CONVAI2},
    "dailydialog++": REPLIES,
    "dailydialog++-random": REPLIES,
    "dstc7": {DSTC7: [samples.dstc7(number) for number in range(20)]},
    "labelled": {"data.csv": samples.LABELLED * 9},
    "mutual": {
        f"{side}/{side}_{number}.txt": samples.mutual(number, article=f"m : is it {number} ?")
        for side in ("train", "dev")
        for number in range(4)
    },
    "scifact": samples.scifact,
    "self-dialogue": {"talk.csv": samples.SELF_DIALOGUE},
    "ubuntu": {"train.csv": samples.UBUNTU_TRAIN, "test.csv": samples.UBUNTU_VALID},
    "ubuntu-irc": {
        f"{side}/x.{name}.txt": content
        for side in ("train", "dev", "test")
        for name, content in (("raw", samples.IRC_LOG), ("annotation", samples.IRC_LINKS))
    },
    "wikiqa": lambda folder: [samples.wikiqa(folder / side) for side in ("train", "dev", "test")],
}
"""A small set of each format: its files, or what writes them."""


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
    ways = (read_source, read_texts, lambda path: list(DocumentFile(path)))
    return sum((_outcome(partial(way, path), str(path)) for way in ways), Counter())


def _outcome(way: Callable[[], object], place: str) -> Counter[str]:
    started = time.perf_counter()
    try:
        way()
        outcome = "read"
    except DataError as error:
        if "\n" in str(error) or place not in str(error):
            raise AssertionError(f"no line that names its file: {error!r}") from error
        outcome = "refused"
    took = time.perf_counter() - started
    assert took < LONGEST, f"{took:.0f} seconds"
    return Counter({outcome: 1})


def attack(folder: Path, files: int, start: int = 0, only: Collection[str] = ()) -> dict[str, object]:
    """Damage and read `files` files of each kind and format, or of some; the seed is `start`."""
    counts: Counter[str] = Counter()
    problems: list[str] = []
    logger = logging.getLogger("polyencoders")
    level = logger.level
    logger.setLevel(logging.ERROR)  # what is found out of a damaged file is said of each
    try:
        for name, content in [(name, content) for name, content in kinds().items() if not only or name in only]:
            path = folder / name
            path.write_bytes(content)
            assert read(path)["read"], f"{name}: as it is, nothing reads it"
            _attack_one(path, partial(read, path), files, start, counts, problems)
        for name in [name for name in FORMATS if not only or name in only]:
            place = folder / name
            put_set(place, name)
            parts = sorted(path for path in place.rglob("*") if path.is_file())
            source = f"{name}:{place if len(parts) > 1 else parts[0]}"
            assert _outcome(partial(read_source, source), str(place))["read"], f"{name}: as it is, nothing reads it"
            for path in parts:
                way = partial(_outcome, partial(read_source, source), str(place))
                _attack_one(path, way, max(1, files // len(parts)), start, counts, problems)
    finally:
        logger.setLevel(level)
    return {**counts, "megabytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024, "problems": problems}


def put_set(place: Path, name: str) -> None:
    """Write the small set of a format into a folder."""
    found = SETS[name]
    if callable(found):
        found(place)
        return
    for path, content in found.items():
        samples.put(place, path, content)


def _attack_one(
    path: Path,
    outcome: Callable[[], Counter[str]],
    files: int,
    start: int,
    counts: Counter[str],
    problems: list[str],
) -> None:
    content = path.read_bytes()

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
            counts.update(outcome())
        except Exception as error:
            problems.append(f"{path.name}: {type(error).__name__}: {error}"[:300] + f" ({harmed[:60]!r})")

    one()
    path.write_bytes(content)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=10_000, help="of each kind")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kinds", nargs="+", choices=[*kinds(), *FORMATS], default=[], help="default: all")
    given_arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="readers-") as place:
        summary = attack(Path(place), given_arguments.files, given_arguments.seed, given_arguments.kinds)
    print(json.dumps(summary))
    sys.exit(bool(summary["problems"]))
