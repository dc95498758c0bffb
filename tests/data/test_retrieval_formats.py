"""Readers of retrieval sets and labelled tables: what each returns for a small sample, and its errors for a bad one."""

import gzip
import importlib.util
import json
from pathlib import Path

import pytest

from polyencoders.data import (
    Example,
    Retrieval,
    class_names,
    load_examples,
    read_beir,
    read_clinc150,
    read_labelled,
    read_scifact,
    read_source,
    read_wikiqa,
)
from polyencoders.data.lines import leaving_out_bad

SPEC = importlib.util.spec_from_file_location("samples", Path(__file__).with_name("samples.py"))
samples = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(samples)
put, error_of = samples.put, samples.error_of


def test_beir(tmp_path):
    found = read_beir(samples.beir(tmp_path))
    assert found.corpus == {"d1": "Tea A drink.", "d2": "A bean.", "d3": "An engine."}
    assert repr(found) == "Retrieval(3 documents, 12 queries, qrels: train 10, test 4)"
    assert found.qrels["test"] == {"q10": {"d1": 2, "d3": 1, "d2": 0}, "q11": {"d2": 0}}
    # Nothing is relevant to q11, so it is no example.
    assert found.examples("test") == [Example("question 10", ["Tea A drink.", "An engine."], ["A bean."])]
    assert error_of(found.examples, "dev") == "no judgements for 'dev': there are train, test"
    splits = load_examples(f"beir:{tmp_path}")
    assert [len(split) for split in (splits.train, splits.validation, splits.test)] == [9, 1, 1]
    assert splits.corpus == ("Tea A drink.", "A bean.", "An engine.")


def test_beir_gzipped_and_with_one_split(tmp_path):
    samples.beir(tmp_path)
    for path in [tmp_path / "corpus.jsonl", tmp_path / "qrels" / "test.tsv"]:
        put(path.parent, f"{path.name}.gz", gzip.compress(path.read_bytes()))
        path.unlink()
    (tmp_path / "qrels" / "train.tsv").unlink()
    source = read_source(f"beir:{tmp_path}")
    assert source.examples_of("test") == read_beir(tmp_path).examples("test")
    assert "no training side" in error_of(source.examples_of, "train")
    assert "no validation side, only examples to test with" in error_of(source.examples_of, "validation")
    assert len(source.corpus) == 3


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("corpus.jsonl", "[1]", "corpus.jsonl:1: expected an object with _id and text, given [1]"),
        ("corpus.jsonl", '{"_id": 1.5, "text": "a"}', 'corpus.jsonl:1: expected "_id" to be text, given 1.5'),
        ("corpus.jsonl", '{"_id": "d1"}', 'corpus.jsonl:1: expected "text" to be text, given None'),
        ("corpus.jsonl", "", "corpus.jsonl: no texts: the file is empty"),
        ("queries.jsonl", '{"_id": "q", "text": "a"}\n' * 2, "queries.jsonl:2: the _id 'q' is given twice"),
        ("qrels/test.tsv", "query-id\tcorpus-id\tscore\nq1\td1\t1.5\n", "test.tsv:2: score: expected a whole number"),
        (
            "qrels/test.tsv",
            "query-id\tcorpus-id\tscore\nq1\td1\t1\nq1\td1\t0\n",
            "test.tsv:3: document 'd1' is judged twice",
        ),
        ("qrels/test.tsv", "query\tcorpus-id\tscore\n", 'test.tsv:1: no column "query-id", did you mean "query"?'),
        ("qrels/test.tsv", "query-id\tcorpus-id\tscore\n", "test.tsv: no judgements under the header"),
    ],
)
def test_beir_refuses(tmp_path, name, content, message):
    put(samples.beir(tmp_path), name, content)
    assert message in error_of(read_beir, tmp_path)


def test_beir_leaves_out_what_it_cannot_use_when_asked(tmp_path, caplog):
    samples.beir(tmp_path)
    for name, line in {
        "corpus.jsonl": '{"_id": "d4"}\n[1]\n',
        "queries.jsonl": "no JSON\n",
        "qrels/test.tsv": "q10\td2\t1.5\nq10\td4\t1\n",
    }.items():
        with (tmp_path / name).open("a") as file:
            file.write(line if file.tell() == 0 else f"\n{line}")
    with leaving_out_bad() as left_out:
        found = read_beir(tmp_path)
    assert found.corpus == {"d1": "Tea A drink.", "d2": "A bean.", "d3": "An engine."}
    assert found.qrels["test"]["q10"] == {"d1": 2, "d3": 1, "d2": 0, "d4": 1}, "d4 is judged, so it is missed"
    assert left_out.number == 4
    assert "corpus.jsonl:" in left_out.first[0]
    assert "(such as 'd4') are not there" in caplog.messages[-1]
    put(tmp_path, "queries.jsonl", "[1]\n[2]\n")
    with leaving_out_bad():
        assert "queries.jsonl: no texts: all 2 were left out" in error_of(read_beir, tmp_path)


def test_what_is_judged_and_not_there_is_kept_and_counted(tmp_path, caplog):
    header = "query-id\tcorpus-id\tscore\n"
    put(samples.beir(tmp_path), "qrels/test.tsv", f"{header}q10\td1\t1.0\nq10\td9\t1\nq99\td1\t1\n")
    put(
        tmp_path,
        "corpus.jsonl",
        '{"_id": "d1", "text": "Tea."}\n{"_id": "d2", "text": " "}\n{"_id": "d3", "text": "C."}',
    )
    found = read_beir(tmp_path)
    assert found.corpus["d2"] == ""
    assert found.qrels["test"] == {"q10": {"d1": 1, "d9": 1}, "q99": {"d1": 1}}
    assert found.examples("test") == [Example("question 10", "Tea.")]
    (said,) = caplog.messages
    assert "1 of 12 judged queries (such as 'q99') and 1 of 4 judged documents (such as 'd9') are not there" in said
    put(tmp_path, "qrels/test.tsv", f"{header}q99\td1\t1\n")
    (tmp_path / "qrels" / "train.tsv").unlink()
    assert "none of the judged queries is there: are the ids those of another set?" in error_of(read_beir, tmp_path)


@pytest.mark.parametrize(
    "content",
    [
        "q10\td1\t2\nq10\td2\t0\nq11\td2\t-1\n",
        "q10 0 d1 2\nq10 0 d2 0\nq11 0 d2 -1\n",
        "q10\tQ0\td1\t2\n\nq10\tQ0\td2\t0\nq11\tQ0\td2\t-1\n",
        "query-id\titeration\tcorpus-id\tscore\nq10\t0\td1\t2\nq10\t0\td2\t0\nq11\t0\td2\t-1\n",
        "query-id,corpus-id,score\nq10,d1,2\nq10,d2,0\nq11,d2,-1\n",
    ],
)
def test_judgements_with_and_without_a_header(tmp_path, content, caplog):
    put(samples.beir(tmp_path), "qrels/test.tsv", content)
    assert read_beir(tmp_path).qrels["test"] == {"q10": {"d1": 2, "d2": 0}, "q11": {"d2": -1}}
    assert len(caplog.messages) == ("iteration" not in content)


def test_judgements_of_which_nothing_comes(tmp_path):
    put(samples.beir(tmp_path), "qrels/test.tsv", "q10 0 d1 1\nq10 0 d2\n")
    assert "test.tsv:2: 3 fields, expected 4, as the first line has" in error_of(read_beir, tmp_path)
    put(tmp_path, "qrels/test.tsv", "q10 0 d1 0\nq10 0 d2 -2\n")
    assert "test.tsv: no document is judged above 0: nothing is relevant" in error_of(read_beir, tmp_path)


def test_beir_without_judgements(tmp_path):
    samples.beir(tmp_path)
    for split in ("train", "test"):
        (tmp_path / "qrels" / f"{split}.tsv").unlink()
    assert "no judgements: expected train.tsv, dev.tsv or test.tsv" in error_of(read_beir, tmp_path)


def test_texts_that_are_right_and_wrong_are_right():
    found = Retrieval({"d1": "A.", "d2": "A.", "d3": "B."}, {"q": "Q?"}, {"test": {"q": {"d1": 1, "d2": 0, "d3": 0}}})
    assert found.examples("test") == [Example("Q?", "A.", ["B."])]


def test_scifact(tmp_path):
    found = read_scifact(samples.scifact(tmp_path))
    assert found.corpus == {
        "7": "On tea, briefly Tea is a drink. It's hot. It isn't [cold].",
        "8": "Beans Beans are not.",
    }
    assert found.qrels == {"train": {"1": {"7": 1, "8": 1}, "2": {"8": 1}}, "test": {"3": {"7": 1}}}
    assert load_examples(f"scifact:{tmp_path}").test[0].query == ("Tea, too.",)
    header = "id,claim,cited_doc_ids\n"
    for rows, message in [
        ("1,Tea.,9\n", "claims_train.csv:2: cited_doc_ids: expected whole numbers in brackets, given '9'"),
        ("1,Tea.,[9]\n", "claims_train.csv:2: document '9' is not among the 2"),
        ("1,Tea.,[7]\n1,Milk.,[7]\n", "claims_train.csv:3: the id 1 is given to two claims"),
    ]:
        put(tmp_path, "claims_train.csv", header + rows)
        assert message in error_of(read_scifact, tmp_path)
    put(tmp_path, "corpus_train.csv", "doc_id,title,abstract\n7,a,b\n7,c,d\n")
    assert "corpus_train.csv:3: the doc_id 7 is given twice" in error_of(read_scifact, tmp_path)


def test_scifact_with_bad_rows(tmp_path):
    samples.scifact(tmp_path)
    printed = "[' a\\N{tea} ']"
    put(tmp_path, "corpus_train.csv", f'doc_id,title,abstract\n7,a,b\n8,c,d\n7,e,f\n9,g,"{printed}"\n')
    message = error_of(read_scifact, tmp_path)
    assert "corpus_train.csv:4: the doc_id 7 is given twice" in message
    with leaving_out_bad() as left_out:
        assert list(read_scifact(tmp_path).corpus) == ["7", "8"]
    assert left_out.number == 2
    assert "corpus_train.csv:5: abstract: expected a printed list of sentences" in left_out.last
    put(tmp_path, "corpus_train.csv", "doc_id,title,abstract\n")
    assert "corpus_train.csv: no documents under the header" in error_of(read_scifact, tmp_path)
    samples.scifact(tmp_path)
    put(tmp_path, "claims_train.csv", "id,claim,cited_doc_ids\n1,Tea.,[]\n")
    assert "claims_train.csv: no claims that cite a document" in error_of(read_scifact, tmp_path)


@pytest.mark.parametrize(
    ("kind", "name", "rows"),
    [
        ("beir", "qrels/train.tsv", "query-id\tcorpus-id\tscore\nq0\td1\t1\n"),
        ("scifact", "claims_train.csv", "id,claim,cited_doc_ids\n1,Tea.,[7]\n"),
    ],
)
def test_too_few_to_hold_some_out(tmp_path, kind, name, rows):
    put(getattr(samples, kind)(tmp_path), name, rows)
    message = f"{tmp_path}: too few examples to split into 2 parts: 1 distinct queries"
    assert error_of(read_source, f"{kind}:{tmp_path}") == message


def test_wikiqa(tmp_path):
    drink = ["tea is a drink .", "a drink made of leaves ."]
    expected = [
        Example("what is tea ?", drink, (), ["coffee is not .", *drink]),
        Example("when ?", "at four .", (), ["at four ."]),
    ]
    assert read_wikiqa(samples.wikiqa(tmp_path)) == expected
    for split in ("train", "dev", "test"):
        samples.wikiqa(tmp_path / "all" / split)
    splits = load_examples(f"wikiqa:{tmp_path / 'all'}")
    assert splits.train == splits.validation == splits.test == expected


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("sim.txt", "0\n1\n", "the files differ in length: id.txt 5, a.toks 5, b.toks 5, sim.txt 2 lines"),
        ("sim.txt", "0\n1\n2\n0\n1\n", "sim.txt:3: expected 0 or 1, given '2'"),
        ("sim.txt", "0\n" * 5, "no question has an answer"),
        ("id.txt", "Q1\n" * 5, "a.toks:4: another question than line 1 has, with id Q1"),
        ("b.toks", "a\nb\n\nc\nd\n", "a.toks:1: positive, text 2 of 2: the text is empty"),
    ],
)
def test_wikiqa_refuses(tmp_path, name, content, message):
    put(samples.wikiqa(tmp_path), name, content)
    assert message in error_of(read_wikiqa, tmp_path)


def test_questions_of_wikiqa_are_left_out_where_that_is_asked(tmp_path):
    good = read_wikiqa(samples.wikiqa(tmp_path / "good"))
    folder = samples.wikiqa(tmp_path / "bad")
    labels = (folder / "sim.txt").read_text().split()
    put(folder, "sim.txt", "\n".join(["2", *labels[1:]]))
    with leaving_out_bad() as left_out:
        assert read_wikiqa(folder) == good[1:]
    assert left_out.first == [f"{folder / 'sim.txt'}:1: expected 0 or 1, given '2'"]
    put(folder, "sim.txt", "\n".join("2" for _ in labels))
    with leaving_out_bad():
        assert "no examples: all 3 were left out" in error_of(read_wikiqa, folder)


def test_labelled(tmp_path):
    path = put(tmp_path, "train.csv", samples.LABELLED)
    found = read_labelled(path)
    assert found == [
        Example("Where is my card, please?", "card arrival"),
        Example("Lost it", "lost card"),
        Example("Declined", "Refund not showing up"),
    ]
    assert class_names(found, found[:1]) == ("Refund not showing up", "card arrival", "lost card")
    assert read_labelled(path, text="text", label="category") == found
    swapped = put(tmp_path, "b.tsv", "label\tn\ttext\na_b\t1\tHi, you\n")
    assert read_labelled(swapped, text="text", label="label") == [Example("Hi, you", "a b")]
    put(tmp_path, "folder/train.csv", "text,category\n" + "".join(f"text {i},class_{i % 3}\n" for i in range(20)))
    put(tmp_path, "folder/test.csv", "text,category\nnew,class_9\n")
    splits = load_examples(f"labelled:{tmp_path / 'folder'}")
    assert [len(split) for split in (splits.train, splits.validation, splits.test)] == [18, 2, 1]
    assert splits.corpus == ("class 0", "class 1", "class 2", "class 9")
    put(tmp_path, "folder/validation.csv", "text,category\nvalid,class_1\n")
    assert len(load_examples(f"labelled:{tmp_path / 'folder'}").train) == 20
    assert read_source(f"labelled:{path}").corpus == class_names(found)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("text\na\n", ":2: cannot tell the query and its right answer by the columns ['text']: say which"),
        ("text,category\na\n", ":2: 1 field, expected 2"),
        ("text,category\na,_\n", ":2: positive: the text is empty"),
        ("text,category\n", ": no examples"),
    ],
)
def test_labelled_refuses(tmp_path, content, message):
    path = put(tmp_path, "train.csv", content)
    assert error_of(read_labelled, path).startswith(f"{path}{message}")


def test_labelled_refuses_columns_and_folders(tmp_path):
    path = put(tmp_path, "train.csv", samples.LABELLED)
    assert 'no column "categry", did you mean "category"?' in error_of(read_labelled, path, label="categry")
    assert "no validation or test data, expected a file such as" in error_of(load_examples, f"labelled:{tmp_path}")
    path.unlink()
    assert "no training data, expected a file such as train.csv" in error_of(load_examples, f"labelled:{tmp_path}")


def test_clinc150(tmp_path):
    path = put(tmp_path, "data_full.json", json.dumps(samples.CLINC150, indent=4))
    parts = read_clinc150(path)
    assert parts["train"][:2] == [Example("freeze my account", "freeze account"), Example("send 5 euros", "transfer")]
    assert [len(parts[split]) for split in ("train", "validation", "test")] == [12, 1, 1], "nothing is out of scope"
    splits = load_examples(f"clinc150:{path}")
    assert splits.corpus == ("freeze account", "transfer")
    assert splits.test == [Example("please freeze it", "freeze account")]
    for bad, message in [
        ([1], "expected an object with train, val and test, given [1]"),
        ({"train": []}, "no list \"val\"; given only ['train']"),
        (samples.CLINC150 | {"test": [["a", "b"], ["a"]]}, "test, 2 of 2: expected a text and an intent's name"),
        (samples.CLINC150 | {"test": [["", "b"]]}, "test, 1 of 1: query: the text is empty"),
    ]:
        assert message in error_of(read_clinc150, put(tmp_path, "data_full.json", bad))
