"""Reading and writing JSON Lines and texts: what is accepted, and what each error says."""

import gzip
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from polyencoders.data import Example, read_jsonl, read_queries, read_texts, write_jsonl
from polyencoders.errors import DataError, PolyencodersError

LINE = b'{"query": "Tea?", "positive": "Yes."}'
TEA = Example("Tea?", "Yes.")


def written(folder, content, name="mine.jsonl"):
    path = folder / name
    path.write_bytes(content)
    return path


def error_of(read, path):
    with pytest.raises(DataError) as caught:
        read(path)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_reads_all_fields(tmp_path):
    content = b"""
        {"query": ["Hi!", "Tea?"], "positives": ["Yes.", "Sure."], "negatives": ["No."], "candidates": ["No.", "Yes."]}

        {"query": "Tea?", "positives": "Yes."}\r
        {"query": ["Tea?"], "positive": ["Yes."], "negatives": null, "candidates": null}
    """
    assert read_jsonl(written(tmp_path, content)) == [
        Example(["Hi!", "Tea?"], ["Yes.", "Sure."], ["No."], ["No.", "Yes."]),
        TEA,
        TEA,
    ]


def test_tolerates(tmp_path):
    assert read_jsonl(written(tmp_path, b"\xef\xbb\xbf" + LINE)) == [TEA], "a byte order mark"
    assert read_jsonl(written(tmp_path, gzip.compress(LINE), "no-suffix")) == [TEA], "gzip by content"
    assert read_jsonl(written(tmp_path, LINE, "plain.gz")) == [TEA], "a plain file called .gz"
    assert read_jsonl(written(tmp_path, gzip.compress(LINE + b"\n") + gzip.compress(LINE))) == [TEA, TEA], "two members"
    separator = '{"query": "a\u2028b", "positive": "c"}'.encode()
    assert read_jsonl(written(tmp_path, separator))[0].query == ("a\u2028b",), "U+2028 is no end of line"
    assert read_jsonl(str(written(tmp_path, LINE))) == [TEA], "a path as text"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b'{"query": "Tea?" "positive": "Yes."}', "not valid JSON (Expecting ',' delimiter, column 18): '{"),
        (b'["Tea?", "Yes."', "JSON Lines has one object a line, not one list"),
        (b"[" * 100_000, "not usable JSON"),
        (b"1" * 10_000, "not usable JSON"),
        (b'["Tea?", "Yes."]', "expected an object such as {\"query\": ..., \"positive\": ...}, given ['Tea?', 'Yes.']"),
        (b'{"query": "", "positive": "Yes."}', "query: the text is empty, given ''"),
        (b'{"query": 3, "positive": "Yes."}', "query: expected text or a list of texts, given int 3"),
        (b'{"query": "Tea?", "positive": null}', "positive: expected text or a list of texts, given nothing (null)"),
        (b'{"query": "Tea?", "positives": []}', "positive: an empty list, expected at least one right answer"),
        (b'{"query": "Tea?"}', 'no "positive" (or "positives"): expected the right answer; given only [\'query\']'),
        (b'{"positive": "Yes."}', "no \"query\": expected a text or a list of turns; given only ['positive']"),
        (b'{"query": "T", "positive": "Y", "positives": ["N"]}', 'both "positive" and "positives"'),
        (
            b'{"query": "T", "positive": "Y", "negative": ["N"]}',
            "unknown field 'negative', did you mean \"negatives\"?",
        ),
        (b'{"query": "T", "positive": "Y", "zzz": 1}', "unknown field 'zzz'; the fields are query, positive or"),
        (b'{"query": "T", "query": "U", "positive": "Y"}', 'the field "query" is given twice'),
        (b'{"query": "T", "positive": "Y", "candidates": ["N"]}', "candidates lack the right answer"),
        (b'{"query": "T", "positive": "Y", "negatives": ["Y"]}', "both a positive and a negative: 'Y'"),
        (b'{"query": "caf\xe9", "positive": "Y"}', "not UTF-8 (byte 0xe9 at column 15): save the file as UTF-8"),
    ],
)
@pytest.mark.parametrize("compress", [bytes, gzip.compress])
def test_errors_name_file_and_line(tmp_path, line, message, compress):
    path = written(tmp_path, compress(LINE + b"\n" * 36 + line + b"\n" + LINE))
    error = error_of(read_jsonl, path)
    assert error.startswith(f"{path}:37: ")
    assert message in error
    assert len(error) < len(str(path)) + 300


def test_errors_of_the_file_itself(tmp_path):
    assert error_of(read_jsonl, tmp_path / "none.jsonl") == f"{tmp_path}/none.jsonl: no such file"
    assert error_of(read_jsonl, tmp_path) == f"{tmp_path}: a directory, expected a file"
    path = written(tmp_path, b"")
    assert error_of(read_jsonl, path) == f"{path}: no examples: the file is empty, expected one JSON object a line"
    assert "no examples" in error_of(read_jsonl, written(tmp_path, b"\n \n"))
    assert "no examples" in error_of(read_jsonl, written(tmp_path, gzip.compress(b"")))
    assert "cannot be read (Not a directory)" in error_of(read_jsonl, path / "below")


def test_errors_of_gzip(tmp_path):
    content = gzip.compress(b"\n".join([LINE] * 5))
    path = written(tmp_path, content[:-8])
    assert error_of(read_jsonl, path).endswith("the gzip file ends too early (truncated): copy it again")
    damaged = bytearray(content)
    damaged[-8] ^= 1  # the checksum
    assert "the gzip file is damaged" in error_of(read_jsonl, written(tmp_path, bytes(damaged)))


TEXTS = st.text(st.characters(codec="utf-8"), min_size=1, max_size=8).filter(str.strip)


@given(
    st.lists(
        st.builds(
            lambda query, texts, some: Example(query, texts[:1], texts[1:], texts if some else None),
            st.lists(TEXTS, min_size=1, max_size=3),
            st.lists(TEXTS, min_size=1, max_size=4, unique=True),
            st.booleans(),
        ),
        min_size=1,
        max_size=5,
    ),
    st.sampled_from(["mine.jsonl", "mine.jsonl.gz"]),
)
def test_what_is_written_is_read(tmp_path_factory, examples, name):
    path = tmp_path_factory.mktemp("jsonl") / name
    write_jsonl(examples, path)
    assert read_jsonl(path) == examples
    assert (path.read_bytes()[:2] == b"\x1f\x8b") == name.endswith(".gz")
    assert list(path.parent.iterdir()) == [path]


def test_written_whole_or_not_at_all(tmp_path, monkeypatch):
    path = written(tmp_path, LINE)

    def full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(PolyencodersError, match=r"mine.jsonl: could not be written \(No space left on device\)"):
        write_jsonl([TEA] * 3, path)
    with pytest.raises(DataError, match="no examples to write"):
        write_jsonl([], path)
    assert path.read_bytes() == LINE
    assert list(tmp_path.iterdir()) == [path]


def test_reads_texts(tmp_path):
    assert read_texts(written(tmp_path, b"\xef\xbb\xbf one \r\n\n two words\n one", "d.txt")) == [
        "one",
        "two words",
        "one",
    ]
    assert read_texts(written(tmp_path, gzip.compress(b"one\ntwo"), "d.txt.gz")) == ["one", "two"]
    assert read_texts(written(tmp_path, b'"one"\n\n{"text": "two", "id": 7}', "d.jsonl")) == ["one", "two"]
    assert read_texts(written(tmp_path, gzip.compress(b'"one"'), "d.v2.JSONL.gz")) == ["one"]
    assert read_texts(written(tmp_path, b'"one"', "d.txt")) == ['"one"'], "only the suffix makes it JSON"


@pytest.mark.parametrize(
    ("name", "line", "message"),
    [
        ("d.txt", b"caf\xe9", "not UTF-8 (byte 0xe9 at column 4)"),
        ("d.jsonl", b"one", "not valid JSON (Expecting value, column 1): 'one'"),
        ("d.jsonl", b"3", 'expected a string or an object with a "text" field, given 3'),
        ("d.jsonl", b'{"texts": "one"}', 'no "text" field, did you mean "texts"?; given only'),
        ("d.jsonl", b'{"text": null}', "text: expected text, given nothing (null)"),
        ("d.jsonl", b'" "', "text: the text is empty, given ' '"),
    ],
)
def test_errors_of_texts(tmp_path, name, line, message):
    path = written(tmp_path, b'"one"\n\n' + line, name)
    error = error_of(read_texts, path)
    assert error.startswith(f"{path}:3: ")
    assert message in error


def test_no_texts(tmp_path):
    assert "no documents" in error_of(read_texts, written(tmp_path, b"\n", "d.txt"))


def test_queries_without_answers(tmp_path):
    log = tmp_path / "log.txt"
    log.write_text("opening hours\n\n  tickets \nopening hours\n")
    assert read_queries(log) == [("opening hours",), ("tickets",), ("opening hours",)]
    lines = tmp_path / "log.jsonl"
    lines.write_text('["Hello.", "Where?"]\n{"query": "tickets", "clicks": 3}\n')
    assert read_queries(lines) == [("Hello.", "Where?"), ("tickets",)]
    for bad, said in (('{"q": "a"}', 'no "query" field'), ('""', "the text is empty"), ("3", "expected text")):
        lines.write_text('"fine"\n' + bad)
        with pytest.raises(DataError, match=rf"log.jsonl:2: .*{said}"):
            read_queries(lines)
    log.write_text("\n")
    with pytest.raises(DataError, match="no queries"):
        read_queries(log)
