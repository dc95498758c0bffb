"""Tables of every kind as examples and as documents: columns, labels, delimiters, encodings, and what is left out."""

import csv
import importlib.util
import io
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from polyencoders.data import (
    DocumentFile,
    Example,
    as_examples,
    load_examples,
    read_examples,
    read_jsonl,
    read_source,
    read_texts,
)
from polyencoders.data.columns import Columns, parse_columns
from polyencoders.data.lines import leaving_out_bad
from polyencoders.errors import DataError

SPEC = importlib.util.spec_from_file_location("samples", Path(__file__).with_name("samples.py"))
samples = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(samples)
put, error_of = samples.put, samples.error_of

ROWS = [(i, f"How do I return item {i}?", f"Send item {i} back,\nwe pay {i} “euros”.") for i in range(6)]
FAQ = [Example(question, answer) for _, question, answer in ROWS]


def table(path, header, rows, **options):
    """Writes a table of a kind that the name of the file says."""
    if path.suffix == ".xlsx":
        book = pytest.importorskip("openpyxl", reason="needs polyencoders[excel]").Workbook()
        for row in [header, *rows]:
            book.active.append(row)
        book.save(path)
    elif path.suffix == ".parquet":
        pq.write_table(pa.table(dict(zip(header, map(list, zip(*rows, strict=True)), strict=True))), path)
    elif path.suffix == ".json":
        path.write_text(json.dumps([dict(zip(header, row, strict=True)) for row in rows], indent=1))
    elif path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(dict(zip(header, row, strict=True))) + "\n" for row in rows))
    else:
        content = io.StringIO(newline="")
        csv.writer(content, **({"delimiter": "\t"} if path.suffix == ".tsv" else {}) | options).writerows(
            [header, *rows]
        )
        path.write_text(content.getvalue(), encoding="utf-8", newline="")
    return path


@pytest.mark.parametrize("name", ["faq.csv", "faq.tsv", "faq.xlsx", "faq.parquet", "faq.json", "faq.jsonl"])
def test_a_table_of_any_kind_is_read_wherever_data_is_named(tmp_path, name, caplog):
    path = table(tmp_path / name, ["faq_id", "Question", "Answer"], ROWS)
    assert read_source(path).examples == FAQ
    assert caplog.messages == [f"{path}: query is 'Question', positive is 'Answer'; not read: faq_id"]
    assert read_texts(path, "Answer") == [answer for _, _, answer in ROWS]
    documents = list(DocumentFile(path, text="Question", id="faq_id"))
    assert documents[2] == {"text": ROWS[2][1], "id": "2", "Answer": ROWS[2][2]}
    asked = read_examples(path, {"query": "Answer", "positive": "Question"})[0]
    assert asked == [Example(answer, question) for _, question, answer in ROWS]
    assert 'no column "answer", did you mean "Answer"?' in error_of(read_source, path, columns={"positive": "answer"})


def test_columns_that_cannot_be_told_are_asked_for(tmp_path):
    path = table(tmp_path / "faq.csv", ["a", "b"], [row[1:] for row in ROWS])
    assert "cannot tell the query and its right answer by the columns ['a', 'b']: say which" in error_of(
        read_source, path
    )
    assert read_source(path, columns={"query": "a", "positive": "b"}).examples == FAQ
    assert "say which one holds the text" in error_of(read_texts, path)
    assert "columns are those of a file" in error_of(read_source, "chitchat", columns={"query": "a"})
    for bad in ("query", "question=a", "query=a,query=b", "query="):
        with pytest.raises(DataError, match="say which is which"):
            parse_columns(bad)


def test_labels_say_whether_a_pair_is_right(tmp_path, caplog):
    wrong = [(ROWS[i][1], ROWS[i - 1][2], 0) for i in range(6)]
    rows = [(question, answer, 1) for _, question, answer in ROWS] + wrong + [("Never?", "No.", 0)]
    for name in ("pairs.csv", "pairs.xlsx", "pairs.parquet"):
        path = table(tmp_path / name, ["sentence1", "sentence2", "label"], rows)
        expected = [Example(ROWS[i][1], ROWS[i][2], [ROWS[i - 1][2]]) for i in range(6)]
        assert read_source(path).examples == expected
        assert "1 of 7 queries have no right answer, and are left out" in caplog.messages
    assert read_source(f"labelled:{tmp_path / 'pairs.csv'}").examples == expected


def test_grades_are_refused_or_cut(tmp_path):
    rows = [(question, answer, 4.5) for _, question, answer in ROWS] + [(ROWS[0][1], ROWS[1][2], 2.0)]
    path = table(tmp_path / "sts.csv", ["sentence1", "sentence2", "score"], rows)
    error = error_of(read_source, path)
    assert f"{path}:2: score: expected 0 or 1, given '4.5': what is trained on, and ranked, is right or wrong" in error
    assert "label=score>=NUMBER says from where on a pair is right; query=sentence1,positive=sentence2 alone" in error
    found = read_source(path, columns=parse_columns("label=score>=4")).examples
    assert found == [Example(FAQ[0].query, FAQ[0].positives, [ROWS[1][2]]), *FAQ[1:]]


def test_classes(tmp_path):
    rows = [(f"text {i}", f"class_{'ab'[i % 2]}") for i in range(10)]
    source = read_source(table(tmp_path / "intents.csv", ["text", "intent"], rows))
    assert source.corpus == ("class a", "class b")
    assert source.examples[0] == Example("text 0", "class a")
    one = table(tmp_path / "one.csv", ["text", "label"], [("a", "same"), ("b", "same")])
    assert "a single class, 'same'" in error_of(read_source, one)
    numbers = table(tmp_path / "numbers.csv", ["text", "label"], [("a", 0), ("b", 1)])
    assert "the class is the number 0, which says nothing of it" in error_of(read_source, numbers)


def test_every_class_of_a_text_with_several_is_ranked(tmp_path):
    rows = [{"text": "a", "label": ["one", "two_or_more"]}, {"text": "b", "label": "one"}]
    source = read_source(put(tmp_path, "intents.jsonl", "\n".join(map(json.dumps, rows))))
    assert source.examples == [Example("a", ["one", "two or more"]), Example("b", "one")]
    assert source.corpus == ("one", "two or more")


def test_the_first_two_columns_of_a_labelled_table_are_no_guess_where_there_are_more(tmp_path):
    path = table(tmp_path / "ids.csv", ["faq_id", "question", "answer"], ROWS)
    assert load_examples(f"labelled:{path}").train[0] in FAQ
    path = table(tmp_path / "other.csv", ["n", "says", "about"], ROWS)
    assert "cannot tell" in error_of(read_source, f"labelled:{path}")


def test_negatives(tmp_path):
    header = ["anchor", "positive", "negative_1", "negative_2"]
    path = table(tmp_path / "triplets.csv", header, [("a?", "b", "c", "d"), ("e?", "f", "g", "")])
    assert read_source(path).examples == [Example("a?", "b", ["c", "d"]), Example("e?", "f", ["g"])]
    lists = table(tmp_path / "lists.parquet", ["query", "positive", "negatives"], [(["a", "b"], "c", ["d", "e"])])
    assert read_source(lists).examples == [Example(["a", "b"], "c", ["d", "e"])]


@pytest.mark.parametrize("mark", [";", "\t", "|"])
def test_another_delimiter_is_found_and_said(tmp_path, mark, caplog):
    path = table(tmp_path / "faq.csv", ["question", "answer"], [row[1:] for row in ROWS], delimiter=mark)
    assert read_source(path).examples == FAQ
    assert f"{path}: the fields are separated by {mark!r}" in caplog.messages


def test_encodings_are_found_and_said(tmp_path, caplog):
    rows = "question,answer\n" + "Tea?,At four.\n" * 3 + "Größe?,Zwölf €.\n"
    for encoding in ("utf-8", "utf-8-sig", "utf-16", "utf-32", "cp1252"):
        path = put(tmp_path, f"{encoding}.csv", rows.encode(encoding))
        assert read_source(path).examples[-1] == Example("Größe?", "Zwölf €.")
    assert f"{path}: not UTF-8, read as Windows-1252: line 5 has 'Größe?,Zwölf €.'" in caplog.messages
    assert sum("Windows-1252" in message for message in caplog.messages) == 1


@pytest.mark.parametrize("name", ["faq.csv", "faq.xlsx"])
def test_columns_without_a_name_are_left_out_where_nothing_is_lost(tmp_path, name, caplog):
    """The index that pandas writes in front, and empty columns behind."""
    rows = [(i, question, "", answer, "") for i, question, answer in ROWS]
    path = table(tmp_path / name, ["", "question", "", "answer", ""], rows)
    assert read_source(path).examples == FAQ
    assert f"{path}: column 1 has no name, and is not read" in caplog.messages
    path = table(tmp_path / name, ["question", "answer", "", "more"], [("a?", "b", "", "x"), ("c?", "d", "e", "x")])
    assert "3: column 3 of 4 has no name in the header, and holds 'e': give it a name" in error_of(
        read_source, path
    ).replace("row ", "")


def test_the_line_in_which_excel_says_what_separates(tmp_path):
    path = put(tmp_path, "faq.csv", "sep=;\nquestion;answer\nTea, now?;At four.\n")
    assert read_source(path).examples == [Example("Tea, now?", "At four.")]


def test_rows_above_the_names(tmp_path):
    path = table(tmp_path / "faq.xlsx", ["All about tea"], [[], ["question", "answer"], ["Tea?", "At four."]])
    assert "row 3: 2 cells, and 1 in row 1, the first that is not blank" in error_of(read_source, path)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("faq.xls", b"\xd0\xcf\x11\xe0", "a file of the kind .xls is not read: save it as .xlsx or CSV"),
        ("faq.pdf", b"%PDF-1.7", "a file of the kind .pdf is not read: take its text out first"),
        ("faq.tar.gz", b"\x1f\x8b", "a file of the kind .tar is not read: unpack it"),
        ("faq.json", b'{"data": [{"query": "a", "positive": "b"}]}', "one object, with ['data']: expected a list of"),
        ("faq.json", b'{\n "query": {"0": "a"},\n "positive": {"0": "b"}\n}', "one object, with ['query', 'positive']"),
        ("faq.json", b'{"query": ["a", "c"], "positive": ["b", "d"]}', "one object, with ['query', 'positive']"),
        ("faq.txt", b"a\tb\n", "a table is known by the ending of its name: .csv, .tsv, .xlsx, .parquet"),
    ],
)
def test_what_is_not_read_is_said_with_what_would_be(tmp_path, name, content, message):
    path = put(tmp_path, name, content)
    assert message in error_of(read_source, path)
    if name != "faq.txt":
        assert message in error_of(read_texts, path)


def test_one_record_in_a_json_file_is_a_record(tmp_path):
    path = put(tmp_path, "one.json", '{"query": ["a", "b"], "positive": "c"}')
    assert read_source(path).examples == [Example(["a", "b"], "c")]


def test_fields_with_common_names_are_guessed_in_json_lines_too(tmp_path):
    path = put(tmp_path, "faq.jsonl", '{"query": "a?", "pos": ["b"], "neg": ["c", "d"]}\n')
    assert read_source(path).examples == [Example("a?", "b", ["c", "d"])]


LATER = [
    ({"question": "b?", "answer": "c", "label": 0}, "a field 'label', which would be the label, and which those befo"),
    ({"question": "b?", "answer": "c", "score": 0.1}, "a field 'score', which would be the label, and which those be"),
    ({"query": "b?", "answer": "c"}, "a field 'query', which would be the query, and which those before lack: expect"),
    ({"question": "b?", "positive": "c"}, "a field 'positive', which would be the positive, and which those before"),
]


@pytest.mark.parametrize(("row", "message"), LATER)
def test_a_field_that_only_later_records_have_is_not_passed_over(tmp_path, row, message):
    """What is labelled 0 is no right answer because the first record has no label."""
    rows = [{"question": "a?", "answer": "b"}, row]
    lines = put(tmp_path, "a.jsonl", "\n".join(map(json.dumps, rows)))
    assert f"{lines}:2: {message}" in error_of(read_source, lines)
    array = put(tmp_path, "a.json", json.dumps(rows))
    assert f"{array}: item 2: {message}" in error_of(read_source, array)
    assert f"row 2: {message}" in error_of(as_examples, rows)
    with leaving_out_bad() as left_out:
        assert read_source(lines).examples == [Example("a?", "b")]
    assert left_out.number == 1


def test_negatives_that_only_later_records_have_are_read(tmp_path, caplog):
    rows = [
        {"question": "a?", "answer": "b", "id": 1},
        {"question": "c?", "answer": "d", "negative": "e"},
        {"question": "f?", "answer": "g", "more": ""},
    ]
    expected = [Example("a?", "b"), Example("c?", "d", ["e"]), Example("f?", "g")]
    path = put(tmp_path, "a.jsonl", "\n".join(map(json.dumps, rows)))
    assert read_source(path).examples == expected
    assert caplog.messages == [
        f"{path}: query is 'question', positive is 'answer', negative is 'negative'; not read: id, more"
    ]
    assert as_examples(iter(rows)) == expected
    asked = {"query": "question", "positive": "answer", "negative": "negative"}
    assert read_source(path, columns=asked).examples == expected


def test_a_folder_of_tables_as_the_hub_has_them(tmp_path):
    for split in ("train", "test"):
        rows = [(f"{split} {question}", answer) for _, question, answer in ROWS * 3]
        table(tmp_path / f"{split}-00000-of-00001.parquet", ["question", "answer"], rows)
    splits = load_examples(f"labelled:{tmp_path}")
    assert splits.test == [Example(f"test {one.query[0]}", one.positives) for one in FAQ * 3]
    assert sorted(splits.corpus) == sorted(one.positives[0] for one in FAQ)
    assert f"labelled:{tmp_path} reads tables in it that are called train and test" in error_of(read_source, tmp_path)


def test_nested_columns_hold_texts(tmp_path):
    """Answers as SQuAD has them, and the messages of a chat."""
    rows = {
        "question": ["a?", "b?"],
        "answers": [{"text": ["yes", "yes!"], "answer_start": [1, 2]}, {"text": ["no"], "answer_start": [3]}],
        "messages": [[{"role": "user", "content": "Hi!"}, {"role": "assistant", "content": "Hello."}]] * 2,
    }
    pq.write_table(pa.table(rows), tmp_path / "squad.parquet")
    assert read_source(tmp_path / "squad.parquet").examples == [Example("a?", ["yes", "yes!"]), Example("b?", "no")]
    found = read_source(tmp_path / "squad.parquet", columns={"query": "messages", "positive": "question"}).examples
    assert found[0] == Example(["Hi!", "Hello."], "a?")


def test_bad_rows_are_left_out_where_that_is_asked(tmp_path):
    path = put(tmp_path, "faq.csv", "question,answer\nTea?,At four.\nMilk?,\none field\nRain?,No.\n")
    assert f"{path}:3: positive: expected text or a list of texts, given nothing" in error_of(read_source, path)
    with leaving_out_bad() as left_out:
        assert read_source(path).examples == [Example("Tea?", "At four."), Example("Rain?", "No.")]
    assert left_out.number == 2
    assert left_out.first[1].startswith(f"{path}:4: 1 field, expected 2")
    documents = put(tmp_path, "d.jsonl", '"a"\n{"text": ""}\n{\n3\n"b"\n')
    with leaving_out_bad() as left_out:
        assert [document["text"] for document in DocumentFile(documents)] == ["a", "b"]
    assert left_out.number == 3


FIRST = {
    "broken": '{"question": "a?", "answ',
    "without an answer": '{"question": "a?"}',
    "no object": '["a?", "b"]',
    "with other fields": '{"frage": "a?", "antwort": "b"}',
}


@pytest.mark.parametrize("first", FIRST.values(), ids=FIRST)
def test_the_first_record_that_can_be_used_says_what_the_fields_are(tmp_path, first):
    rows = [{"question": f"{i}?", "answer": f"{i}."} for i in range(3)]
    path = put(tmp_path, "faq.jsonl", "\n".join([first, *map(json.dumps, rows)]))
    assert error_of(read_source, path).startswith(f"{path}:1: ")
    for columns in (None, {"query": "question", "positive": "answer"}):
        with leaving_out_bad() as left_out:
            assert read_source(path, columns=columns).examples == [Example(f"{i}?", f"{i}.") for i in range(3)]
        assert left_out.number == 1
        assert left_out.first[0].startswith(f"{path}:1: ")


def test_all_left_out_is_not_said_to_be_empty(tmp_path):
    path = put(tmp_path, "faq.jsonl", '{\n{"question": "a?"}\n{"query": "a?", "positive": ""}\n[]\n')
    for read, what in ((read_source, "no examples"), (read_jsonl, "no examples"), (read_texts, "no documents")):
        with leaving_out_bad():
            error = error_of(read, path)
        assert error.startswith(
            f"{path}: {what}: all 4 were left out, as they cannot be used ({path}:1: not valid JSON"
        )
        assert error.endswith("; ...)")
    with leaving_out_bad() as left_out:
        for number in range(4):
            left_out.note(f"of another file, {number}")
        one = put(tmp_path, "one.csv", "question,answer\na?,\n")
        said = f"{one}: no examples: all 1 were left out, as they cannot be used ({one}:2: positive: expected text"
        assert error_of(read_source, one).startswith(said)
        assert "the file is empty" in error_of(read_source, put(tmp_path, "none.jsonl", "\n"))


def test_a_column_of_grades_is_no_row_that_can_be_left_out(tmp_path):
    """Without the rows graded 2 to 5, the pair graded 1 would be the right one."""
    rows = [("a?", "poor", 1.0), ("a?", "best", 5.0), ("a?", "wrong", "?")]
    path = table(tmp_path / "grades.csv", ["query", "document", "score"], rows)
    with leaving_out_bad():
        assert f"{path}:3: score: expected 0 or 1, given" in error_of(read_source, path)
    with leaving_out_bad() as left_out:
        assert read_source(path, columns=parse_columns("label=score>=4")).examples == [Example("a?", "best", ["poor"])]
    assert left_out.number == 1


def test_a_damaged_workbook_is_one_line(tmp_path):
    pytest.importorskip("openpyxl", reason="needs polyencoders[excel]")
    assert "not an Excel workbook (.xlsx), or damaged" in error_of(read_source, put(tmp_path, "a.xlsx", b"PK\3\4"))
    path = table(tmp_path / "b.xlsx", ["question", "question"], [("a", "b")])
    assert 'the column "question" is given twice' in error_of(read_source, path)


def test_roles_by_their_names():
    assert Columns.of(["utterance", "label"]) == Columns("utterance", "label", is_class=True)
    assert Columns.of(["Document", "Query", "score"]) == Columns("Query", "Document", label="score")
    assert Columns.of(["sentence1", "sentence2"], {"positive": "sentence1", "query": "sentence2"}).query == "sentence2"
