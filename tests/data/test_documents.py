"""Documents for an index: each format is read right, memory does not grow, and errors say what is wrong.

The files are written by json, csv, gzip and pyarrow, or by hand, never by the code that is tested.
"""

import csv
import datetime
import gzip
import json
import os
import re
import threading
import tracemalloc
from decimal import Decimal
from itertools import pairwise
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from polyencoders.data import DocumentFile, read_texts, tables
from polyencoders.errors import DataError


def written(folder, content, name):
    path = folder / name
    if isinstance(content, pa.Table):
        pq.write_table(content, path)
    else:
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def rows(path, **fields):
    return list(DocumentFile(path, **fields))


def error_of(path, **fields):
    """What the error says after the file's name."""
    with pytest.raises(DataError) as caught:
        rows(path, **fields)
    message = str(caught.value)
    assert "\n" not in message
    assert len(message) < len(str(path)) + 350
    assert message.startswith(str(path))
    return message.removeprefix(str(path))


# What is read


def test_json_lines(tmp_path):
    content = '\ufeff{"price": 2.5, "text": " Tea ", "id": 7, "tags": [{"a": null}], "no": null}\r\n\n"Coffee \u2028"'
    for name in ("d.jsonl", "d.ndjson", "d.json", "d.v2.JSONL"):
        with pytest.raises(DataError, match=r'd.*:3: no "id", which the documents before have: expected one in each'):
            rows(written(tmp_path, content, name))
        assert rows(written(tmp_path, content.split("\n")[0], name)) == [
            {"text": " Tea ", "id": "7", "price": 2.5, "tags": [{"a": None}], "no": None}
        ]
        assert rows(written(tmp_path, content.split("\n")[2], name)) == [{"text": "Coffee \u2028"}]


def test_other_names_of_fields(tmp_path):
    path = written(tmp_path, '{"title": "Tea", "key": "a"}\n{"title": "Milk", "key": -1}', "d.jsonl")
    assert rows(path, text="title", id="key") == [{"text": "Tea", "id": "a"}, {"text": "Milk", "id": "-1"}]
    assert rows(path, text="title") == [{"text": "Tea", "key": "a"}, {"text": "Milk", "key": -1}]
    path = written(tmp_path, '{"title": "Tea", "key": "a"}', "d.jsonl")
    assert rows(path, text="key", id="title") == [{"text": "a", "id": "Tea"}]
    path = written(tmp_path, '{"id": "Tea", "x": 1}', "d.jsonl")
    assert rows(path, text="id") == [{"text": "Tea", "x": 1}], "the text is no id as well"
    path = written(tmp_path, '{"body": "Tea", "text": "a"}', "d.jsonl")
    assert rows(path, text="body", id="text") == [{"text": "Tea", "id": "a"}]


def test_csv(tmp_path):
    content = '\ufeffid,text,note,"a ""b"""\r\n07,"Tea,\r\n\n""two""",,x\r\n\r\n8,\u2028 Milk ,\u00e9, \r\n'
    expected = [
        {"text": 'Tea,\r\n\n"two"', "id": "07", "note": None, 'a "b"': "x"},
        {"text": "\u2028 Milk ", "id": "8", "note": "\u00e9", 'a "b"': " "},
    ]
    assert rows(written(tmp_path, content, "d.csv")) == expected
    assert rows(written(tmp_path, content.rstrip(), "d.CSV"))[0] == expected[0]
    assert rows(written(tmp_path, "text\tid\nTea, hot\t1\n", "d.tsv")) == [{"text": "Tea, hot", "id": "1"}]


def test_csv_fields_may_be_long(tmp_path):
    before = csv.field_size_limit(1000)
    try:
        path = written(tmp_path, "text,x\n" + "a" * 1_000_000 + ",1\n", "d.csv")
        assert len(rows(path)[0]["text"]) == 1_000_000
        csv.field_size_limit(1 << 30)
        rows(path)
        assert csv.field_size_limit() == 1 << 30, "what others need is not taken from them"
    finally:
        csv.field_size_limit(before)


def later(array):
    """The same times and 999 nanoseconds, which Python's do not have."""
    return pc.add(array.cast(pa.int64()), 999).cast(array.type)


def test_parquet(tmp_path):
    time = datetime.datetime(2024, 1, 2, 3, 4, 5, 678901)
    span = datetime.timedelta(1, 2, 3)
    columns = {
        "key": (pa.array([1, 2], pa.uint8()), ["1", "2"]),
        "text": (pa.array(["Tea", "Milk"]).dictionary_encode(), ["Tea", "Milk"]),
        "large": (pa.array(["a", None], pa.large_string()), ["a", None]),
        "view": (pa.array(["a", None], pa.string_view()), ["a", None]),
        "second": (
            pa.array([time.replace(microsecond=0), None], pa.timestamp("s")),
            [time.replace(microsecond=0), None],
        ),
        "nano": (later(pa.array([time, None], pa.timestamp("ns"))), [time, None]),
        "clock": (later(pa.array([time.time(), None], pa.time64("ns"))), [time.time(), None]),
        "span": (later(pa.array([span, None], pa.duration("ns"))), [span, None]),
        "day": (pa.array([time.date(), None]), [time.date(), None]),
        "money": (pa.array([Decimal("1.20"), None]), [Decimal("1.20"), None]),
        "flag": (pa.array([True, None]), [True, None]),
        "number": (pa.array([0.5, None], pa.float32()), [0.5, None]),
        "nested": (pa.array([{"a": [1, None]}, None]), [{"a": [1, None]}, None]),
        "map": (pa.array([[("k", 1)], None], pa.map_(pa.string(), pa.int64())), [[("k", 1)], None]),
    }
    table = pa.table({name: array for name, (array, _) in columns.items()})
    read = rows(written(tmp_path, table, "d.parquet"), id="key")
    for i in range(2):
        expected = {"id" if name == "key" else name: values[i] for name, (_, values) in columns.items()}
        assert read[i] == expected
        assert {name: type(value) for name, value in read[i].items()} == {
            name: type(value) for name, value in expected.items()
        }
    assert list(read[0])[:3] == ["text", "id", "large"]


def test_times_have_their_zone(tmp_path):
    noon = datetime.datetime(2024, 7, 1, 12, tzinfo=datetime.UTC)
    table = pa.table({"text": ["Tea"], "at": pa.array([noon], pa.timestamp("ns", "Europe/Berlin"))})
    (row,) = rows(written(tmp_path, table, "d.parquet"))
    assert row["at"] == noon
    assert row["at"].hour == 14


def test_text_a_line(tmp_path):
    content = "\ufeff one \r\n\n  \t\n{two}\none"
    for name in ("d.txt", "d", "d.md"):
        path = written(tmp_path, content, name)
        assert rows(path) == [{"text": "one"}, {"text": "{two}"}, {"text": "one"}]
        assert [row["text"] for row in rows(path, text="body")] == read_texts(path)


@pytest.mark.parametrize(("name", "content"), [("d.jsonl", '"a"\n"b"'), ("d.csv", "text\na\nb"), ("d.txt", "a\nb")])
def test_gzip_by_content(tmp_path, name, content):
    expected = [{"text": "a"}, {"text": "b"}]
    assert rows(written(tmp_path, gzip.compress(content.encode()), name + ".gz")) == expected
    assert rows(written(tmp_path, gzip.compress(content.encode()), name)) == expected
    assert rows(written(tmp_path, content, name + ".gz")) == expected


STRINGS = st.text(st.characters(codec="utf-8"), max_size=12)
ODD = st.text(st.sampled_from("\"',;\t\r\n\\ab\u2028\u0085\x1c\ufeff\0 "), max_size=12)
METADATA = STRINGS | ODD
TEXTS = METADATA.filter(lambda text: text.strip() and "\0" not in text)


@given(st.lists(st.tuples(TEXTS, TEXTS, METADATA), min_size=1, max_size=6), st.sampled_from([".csv", ".tsv.gz"]))
def test_what_csv_writes_is_read(tmp_path_factory, table, ending):
    path = tmp_path_factory.mktemp("csv") / f"d{ending}"
    with (gzip.open if ending.endswith(".gz") else open)(path, "wt", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, delimiter="," if ending == ".csv" else "\t")
        writer.writerows([("note", "text", "id"), *[(note, text, name) for text, name, note in table]])
    assert rows(path) == [{"text": text, "id": name, "note": note or None} for text, name, note in table]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | STRINGS | ODD,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(STRINGS, inner, max_size=3),
    max_leaves=6,
)


@given(
    st.lists(
        st.tuples(
            TEXTS, TEXTS | st.integers(), st.dictionaries(METADATA.filter(lambda n: n not in ("text", "id")), JSON)
        ),
        min_size=1,
        max_size=4,
    ),
    st.booleans(),
)
def test_what_json_writes_is_read(tmp_path_factory, table, ascii_only):
    path = tmp_path_factory.mktemp("jsonl") / "d.jsonl"
    lines = [json.dumps({**note, "id": name, "text": text}, ensure_ascii=ascii_only) for text, name, note in table]
    path.write_text("\n".join(lines), encoding="utf-8", newline="")
    assert rows(path) == [{"text": text, "id": str(name), **note} for text, name, note in table]


# How it is read

LINES = {
    "d.jsonl": "".join(f'{{"text": "{i:05}"}}\n' for i in range(20_000)),
    "d.csv": "text,x\n" + "".join(f"{i:05},0123456789\n" for i in range(20_000)),
    "d.txt": "".join(f"{i:016}\n" for i in range(20_000)),
}


@pytest.mark.parametrize("name", LINES)
@pytest.mark.parametrize("zipped", [False, True])
def test_fraction(tmp_path, name, zipped):
    """Half of the lines, all of one length, are half of the bytes. Gzipped lines come in blocks."""
    content = LINES[name].encode()
    read = DocumentFile(written(tmp_path, gzip.compress(content) if zipped else content, name))
    assert read.fraction == 0.0
    for _ in range(2):
        fractions = []
        loop = iter(read)
        for number, _row in enumerate(loop, start=1):
            fractions.append(read.fraction)
            if number == 10_000:
                assert read.fraction == pytest.approx(0.5, abs=0.25 if zipped else 0.001)
        assert fractions == sorted(fractions)
        assert 0 < fractions[0] < 0.5
        assert read.fraction == 1.0
    next(iter(read))
    assert read.fraction == fractions[0], "another loop begins at the start"


def test_fractions_are_fine_however_far_gzip_reads_ahead(tmp_path, monkeypatch):
    monkeypatch.setattr(gzip, "READ_BUFFER_SIZE", 1 << 20, raising=False)  # from 3.12 on; 128 KB as it comes
    content = "".join(f"{os.urandom(50).hex()}\n" for _ in range(10_000)).encode()
    read = DocumentFile(written(tmp_path, gzip.compress(content), "d.txt.gz"))
    fractions = [read.fraction for _ in read]
    assert max(later - earlier for earlier, later in pairwise(fractions)) < 0.03


def test_a_pipe_is_read_too(tmp_path):
    path = tmp_path / "pipe.txt"
    os.mkfifo(path)
    writer = threading.Thread(target=path.write_text, args=("one\ntwo\n",))
    writer.start()
    read = DocumentFile(path)
    assert [(row["text"], read.fraction) for row in read] == [("one", 0.0), ("two", 0.0)]
    assert read.fraction == 1.0
    writer.join()
    path.unlink()
    with pytest.raises(DataError, match="no such file"):
        next(iter(read))
    assert read.fraction == 0.0


def test_fraction_of_parquet(tmp_path):
    read = DocumentFile(written(tmp_path, pa.table({"text": [str(i) for i in range(1000)]}), "d.parquet"))
    assert read.fraction == 0.0
    assert [read.fraction for _ in read] == [(i + 1) / 1000 for i in range(1000)]


def test_loops_do_not_disturb_each_other(tmp_path):
    for name, content in LINES.items():
        read = DocumentFile(written(tmp_path, content, name))
        assert all(one == two for one, two in zip(read, read, strict=True))
    read = DocumentFile(written(tmp_path, pa.table({"text": [str(i) for i in range(1000)]}), "d.parquet"))
    assert all(one == two for one, two in zip(read, read, strict=True))


@pytest.mark.parametrize("name", ["d.jsonl", "d.csv", "d.txt", "d.jsonl.gz"])
def test_memory_does_not_grow(tmp_path, name):
    text = "Tea is served at four. " * 200
    line = f'{{"text": "{text}"}}\n' if "json" in name else text + "\n"
    with (gzip.open if name.endswith(".gz") else open)(tmp_path / name, "wb") as file:
        file.write(b"text\n" if name == "d.csv" else b"")
        for _ in range(120):
            file.write((line * 100).encode())  # 55 MB
    read = DocumentFile(tmp_path / name)
    tracemalloc.start()
    try:
        assert sum(1 for _ in read) in (12_000, 12_001)
        assert tracemalloc.get_traced_memory()[1] < 2_000_000
    finally:
        tracemalloc.stop()


def test_memory_does_not_grow_with_a_row_group(tmp_path):
    texts = [f"{i:06}" * 1000 for i in range(5000)]  # 30 MB in one row group, neither compressed nor a dictionary
    path = tmp_path / "d.parquet"
    pq.write_table(pa.table({"text": texts}), path, compression="none", use_dictionary=False, row_group_size=5000)
    del texts
    before = pa.total_allocated_bytes()
    tracemalloc.start()
    try:
        assert max(pa.total_allocated_bytes() - before for _ in DocumentFile(path)) < 12_000_000
        assert tracemalloc.get_traced_memory()[1] < 12_000_000
    finally:
        tracemalloc.stop()


def test_memory_does_not_grow_with_a_line(tmp_path):
    with (tmp_path / "d.txt").open("wb") as file:
        file.truncate(200_000_000)  # nothing but NUL characters, none of which is on the disk
    tracemalloc.start()
    try:
        assert error_of(tmp_path / "d.txt") == ":1: the line has more than 16,777,216 bytes"
        assert tracemalloc.get_traced_memory()[1] < 60_000_000
    finally:
        tracemalloc.stop()


# What is refused


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (
            "{'text': 1}",
            "not valid JSON (Expecting property name enclosed in double quotes, column 2): \"{'text': 1}\"",
        ),
        (
            '[{"text": "a"},',
            'not valid JSON (Expecting value, column 16): \'[{"text": "a"},\'; JSON Lines has one object',
        ),
        (
            '["a"]',
            "expected a string or an object with a \"text\" field, given ['a']; JSON Lines has one object a line",
        ),
        ("3", 'expected a string or an object with a "text" field, given 3'),
        ('{"texts": "a", "x": 1}', "no \"text\" field, did you mean \"texts\"?; given only ['texts', 'x']"),
        ('{"TEXT": "a"}', 'no "text" field, did you mean "TEXT"?; given only [\'TEXT\']'),
        ("{}", 'no "text" field; given only []'),
        ('{"text": "a", "text": "b"}', 'the field "text" is given twice'),
        ('{"text": null}', "text: expected text, given nothing (null)"),
        ('{"text": 3}', "text: expected text, given int 3"),
        ('{"text": " "}', "text: the text is empty, given ' '"),
        ('""', "text: the text is empty, given ''"),
        (r'"\ud800"', r"text: not valid Unicode (half a surrogate pair), given '\ud800'"),
        (r'"a\u0000"', r"text: a NUL character, which no text has, in 'a\x00'"),
        ('{"text": "a", "id": ""}', "id: the text is empty, given ''"),
        ('{"text": "a", "id": null}', "id: expected a text or a whole number as the id, given None"),
        ('{"text": "a", "id": true}', "id: expected a text or a whole number as the id, given True"),
        ('{"text": "a", "id": 7.0}', "id: expected a text or a whole number as the id, given 7.0"),
        ('{"text": "a", "id": ["b"]}', "id: expected a text or a whole number as the id, given ['b']"),
        (r'{"text": "a", "id": "\udfff"}', "id: not valid Unicode (half a surrogate pair)"),
        (r'{"text": "a", "id": "\u0000"}', "id: a NUL character"),
        ('{"text": "a", "x": NaN}', 'not valid JSON: NaN is no number, write null: \'{"text"'),
        ('{"text": "a", "x": [-Infinity]}', "not valid JSON: -Infinity is no number, write null: "),
        ('{"text": "a", "x": -1e999}', "not valid JSON: -1e999 is no number, write null: "),
        ('{"text": "a", "x": ' + "[" * 100_000, 'not usable JSON (nested too deep): \'{"text"'),
        ('{"text": "a", "x": ' + "1" * 10_000 + "}", "not usable JSON (Exceeds the limit"),
        ('{"text": "a", "id": 1}', 'an "id", which the documents before lack: expected one in each, or in none'),
        (b'{"text": "caf\xe9"}', ":3: not UTF-8 (byte 0xe9 at column 14): save the file as UTF-8"),
    ],
)
@pytest.mark.parametrize("compress", [bytes, gzip.compress])
def test_errors_of_json_lines(tmp_path, line, message, compress):
    line = line.encode() if isinstance(line, str) else line
    before = b'{"text": "a"}\n\n'
    if b'"id"' in line and not message.startswith("an"):
        before = b'{"text": "a", "id": 1}\n\n'
    error = error_of(written(tmp_path, compress(before + line + b'\n"b"'), "d.jsonl"))
    assert error.startswith(":3: ")
    assert message in error


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("id,Texte,x\n1,a,b", ":1: no \"text\" field, did you mean \"Texte\"?; given only ['Texte', 'x']: say which"),
        ("\n\nid,text,id\n", ':3: the column "id" is given twice'),
        ("text,\na,\nc,b", ":3: column 2 of 2 has no name in the header, and holds 'b': give it a name"),
        (",\n1,2", ":1: no column has a name in the header"),
        (
            "text,x\na,b\nc,d,e",
            ":3: 3 fields, expected 2, as the header has; a field that holds a comma or a line break",
        ),
        ('text,x\n"a\nb",b\n\nc\n', ":5: 1 field, expected 2, as the header has; a field that holds a comma"),
        ('text,x\na,b\n"c\nd\ne\n', ":3: a quote is opened in the row that begins here, and never closed"),
        (
            'text,x\n"a" b,c',
            ":2: not usable CSV (',' expected after '\"'): a field that begins with a quote ends with one",
        ),
        ("text,x\na\rb,c", ":2: a carriage return within a field: quote the field, or end lines with a line feed"),
        ('text,id\n"a\nb",1\n"c\nd",\n', ":4: id: the text is empty, given ''"),
        ("text,x\n,b", ":2: text: the text is empty, given ''"),
        ("text,x\na\0,b", ":2: text: a NUL character"),
        (b"text,x\na\xc3\xa9,b\ncaf\xe9,b", ":3: not UTF-8 (byte 0xe9 at column 4)"),
        (b"text,x\na,b\ncaf\x81,b", ":3: not UTF-8 (byte 0x81 at column 4)"),
        (b"\xff\xfet\0e\0x\0t\0\n\0\0\xd8", ":2: not UTF-16-LE, as the file's first bytes say"),
        ("text,id\n", ": no documents: the file is empty, or has only a header or blank lines"),
    ],
)
@pytest.mark.parametrize("compress", [bytes, gzip.compress])
def test_errors_of_csv(tmp_path, content, message, compress):
    content = content.encode() if isinstance(content, str) else content
    error = error_of(written(tmp_path, compress(content), "d.csv"))
    assert error.startswith(message)


def test_errors_of_tsv(tmp_path):
    assert "a field that holds a tab or a line break is quoted" in error_of(written(tmp_path, "text\tx\na", "d.tsv"))


def test_what_never_ends_does_not_fill_the_memory(tmp_path):
    row = "a" * 999 + "\n"
    error = error_of(written(tmp_path, 'text\nb\n"' + row * 20_000, "d.csv"))
    assert (
        error == ":3: the row that begins here has more than 16,777,216 characters: is a quote opened and never closed?"
    )
    error = error_of(written(tmp_path, '"a"\n[{"text": "a"}' + ', {"text": "a"}' * 1_300_000, "d.json"))
    assert error == ":2: the line has more than 16,777,216 bytes; JSON Lines has one object a line, not one list"
    assert error_of(written(tmp_path, gzip.compress(b"a" * (1 << 24) + b"a"), "d.txt.gz")).endswith("16,777,216 bytes")
    assert len(rows(written(tmp_path, "a" * (1 << 24), "d.txt"))[0]["text"]) == 1 << 24


BINARY = [
    pa.array([b"x"]),
    pa.array([b"x"], pa.large_binary()),
    pa.array([b"x"], pa.binary(1)),
    pa.array([b"x"], pa.binary_view()),
    pa.array([b"x"]).dictionary_encode(),
    pa.array([[b"x"]]),
    pa.array([{"a": [{"bytes": b"x"}]}]),
    pa.array([[("k", b"x")]], pa.map_(pa.string(), pa.binary())),
    pa.array([b"x" * 16], pa.uuid()),
]


@pytest.mark.parametrize("array", BINARY, ids=lambda array: str(array.type))
def test_binary_columns_are_refused(tmp_path, array):
    error = error_of(written(tmp_path, pa.table({"text": ["Tea"], "image": array}), "d.parquet"))
    assert re.fullmatch(r': the column "image" is binary \(.+\), expected text: leave it out', error)


def strings(*values):
    """A column of strings that holds these bytes."""
    lengths = pa.array(["x" * len(value) for value in values]).buffers()[1]
    return pa.StringArray.from_buffers(len(values), lengths, pa.py_buffer(b"".join(values)))


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"Texte": ["a"], "x": ["b"]}, ": no \"text\" field, did you mean \"Texte\"?; given only ['Texte', 'x']"),
        ({"text": ["a", None]}, ": row 2: text: expected text, given nothing (null)"),
        ({"text": ["a"] * 300 + [" "]}, ": row 301: text: the text is empty, given ' '"),
        ({"text": [1]}, ": row 1: text: expected text, given int 1"),
        ({"text": ["a"], "id": [1.0]}, ": row 1: id: expected a text or a whole number as the id, given 1.0"),
        ({"text": ["a", "b"], "id": [1, None]}, ": row 2: id: expected a text or a whole number as the id, given None"),
        ({"text": strings(*[b"a"] * 299, b"\xff")}, ": row 300: text: a value that Python cannot hold ('utf-8' codec"),
        (
            {"text": ["a", "b"], "x": pa.array([0, 4 * 10**11], pa.timestamp("s"))},
            ": row 2: x: a value that Python cannot hold (",
        ),
        (
            {"text": ["a", "b"], "x": pa.array([None, 4], pa.timestamp("s", "Mars/Olympus"))},
            ": row 2: x: a value that Python cannot hold (",
        ),
        ({"text": pa.array([], pa.string())}, ": no documents: the file is empty"),
    ],
)
def test_errors_of_parquet(tmp_path, table, message):
    assert error_of(written(tmp_path, pa.table(table), "d.parquet")).startswith(message)


def test_errors_of_the_parquet_file(tmp_path):
    texts = [f"{i:06}" * 100 for i in range(10_000)]
    path = written(tmp_path, pa.table({"text": texts}), "d.parquet")
    good = path.read_bytes()
    for content in (b"", b"hello", good[:-50], gzip.compress(good), b"PAR1" + b"x" * 100 + b"PAR1"):
        assert error_of(written(tmp_path, content, "d.parquet")).startswith(": not a Parquet file, or damaged (")
    middle = len(good) // 2
    damaged = good[:middle] + bytes(2000) + good[middle + 2000 :]
    error = error_of(written(tmp_path, damaged, "d.parquet"))
    assert re.match(r": not a Parquet file, or damaged after row \d+ \(", error)
    error = error_of(written(tmp_path, gzip.compress(good), "d.parquet.gz"))
    assert error == ": a gzipped Parquet file, which cannot be read in parts: unpack it first"
    twice = pa.table([pa.array(["a"]), pa.array(["b"])], names=["text", "text"])
    assert error_of(written(tmp_path, twice, "d.parquet")) == ': the column "text" is given twice'


@pytest.mark.parametrize("name", ["d.jsonl", "d.csv", "d.tsv", "d.parquet", "d.txt"])
def test_errors_of_the_file_itself(tmp_path, name):
    path = tmp_path / name
    assert error_of(path) == ": no such file"
    path.mkdir()
    assert error_of(path) == ": a directory, expected a file"
    if name != "d.parquet":
        for content in (b"", b"\n\r\n", gzip.compress(b""), gzip.compress(b"\n")):
            path = written(tmp_path, content, f"empty-{name}")
            assert error_of(path) == ": no documents: the file is empty, or has only a header or blank lines"
        assert ": cannot be read (Not a directory)" in error_of(path / "below.txt")


@pytest.mark.parametrize("name", ["d.jsonl.gz", "d.csv.gz", "d.txt.gz"])
def test_errors_of_gzip(tmp_path, name):
    content = gzip.compress(b"text\na\nb\n" if "json" not in name else b'"a"\n"b"\n"c"\n')
    error = error_of(written(tmp_path, content[:-8], name))
    assert re.fullmatch(r":\d: the gzip file ends too early \(truncated\): copy it again", error)
    damaged = content[:-8] + bytes([content[-8] ^ 1]) + content[-7:]  # the checksum
    assert re.match(r":\d: the gzip file is damaged \(.+\): copy it again", error_of(written(tmp_path, damaged, name)))


@pytest.mark.parametrize(
    ("name", "content", "place"),
    [
        ("d.jsonl", '\n{"text": "a", "key": "b", "id": 1}', ":2"),
        ("d.csv", "\ntext,key,id\na,b,1", ":2"),
        ("d.parquet", pa.table({"text": ["a"], "key": ["b"], "id": [1]}), ""),
    ],
)
def test_errors_of_names(tmp_path, name, content, place):
    path = written(tmp_path, content, name)
    given = "given only ['text', 'key', 'id']"
    assert error_of(path, id="kye") == f'{place}: no "kye" field, did you mean "key"?; {given}'
    assert error_of(path, text="zzz") == f'{place}: no "zzz" field; {given}'
    beside = "rename one, or leave it out"
    assert (
        error_of(path, text="key") == f'{place}: the field "text" beside "key", which is the document\'s text: {beside}'
    )
    assert error_of(path, id="key") == f'{place}: the field "id" beside "key", which is the document\'s id: {beside}'


def test_an_id_that_was_named_must_be_there(tmp_path):
    for name, content, place in (("d.txt", "a", ":1"), ("d.jsonl", '"a"', ":1"), ("d.csv", "text\na", ":1")):
        path = written(tmp_path, content, name)
        assert error_of(path, id="key") == f"{place}: no \"key\" field; given only ['text']"
        assert rows(path) == [{"text": "a"}]
        with pytest.raises(DataError, match='no "id" field'):
            list(DocumentFile(path, id="id"))
    with pytest.raises(DataError, match='text and id are both "x": expected two fields'):
        DocumentFile("d.csv", text="x", id="x")


def test_names_the_index_refuses_are_left_to_it(tmp_path):
    metadata = {"score": 1, "vector": [1], "_x": None}
    path = written(tmp_path, json.dumps({"text": "a", **metadata}), "d.jsonl")
    assert rows(path) == [{"text": "a", **metadata}]


def test_the_page_says_what_is_printed(tmp_path, monkeypatch, capsys):
    page = (Path(__file__).parents[2] / "docs" / "data.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n((?:(?!```).)*DocumentFile.*?)```", page, re.S)
    monkeypatch.chdir(tmp_path)
    exec(code, {})
    assert capsys.readouterr().out == "".join(re.findall(r"^# (.*\n)", code, re.M))


def test_the_limit_is_the_one_documented():
    assert tables.LONGEST == 16 * 2**20
