"""Data that people reported to other projects of this field as what broke them, read and used by the commands.

Each test names the report. What is wanted is the right value, or one line that says what to change.
"""

import json
from pathlib import Path

import pytest

PAIRS = [(f"How do I return item {number}?", f"Send item {number} back, we pay it.") for number in range(12)]


def lines(path: Path, *records: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join((one if isinstance(one, str) else json.dumps(one)) + "\n" for one in records))
    return path


def beir(folder: Path, *judgements: str, **changed: list[object]) -> str:
    """A set of two queries and three documents."""
    texts = {"d1": "Tea is a drink.", "d2": "Coffee is another.", "d3": "An engine."}
    lines(folder / "corpus.jsonl", *changed.get("corpus", [{"_id": id, "text": text} for id, text in texts.items()]))
    lines(folder / "queries.jsonl", {"_id": "q1", "text": "Tea is a drink."}, {"_id": "q2", "text": "An engine."})
    lines(folder / "qrels" / "test.tsv", "query-id\tcorpus-id\tscore", *(judgements or ["q1\td1\t1", "q2\td3\t1"]))
    return f"beir:{folder}"


@pytest.fixture
def measured(run, backbone, caplog):
    """Run `evaluate` with R@1; gives the figure, or the last line of the error, and all that was said."""

    def measure(data, *more):
        code, out, err = run("evaluate", backbone, "--data", data, "--measure", "R@1", "--output", "report.json", *more)
        said = " ".join((out + err + caplog.text).split())
        if code:
            return err.splitlines()[-1], said
        return json.loads(Path("report.json").read_text())["metrics"].popitem()[1]["mean"], said

    return measure


def test_a_judged_passage_that_is_not_in_the_corpus_is_missed(measured, tmp_path):
    """beir-cellar/beir#101: ArguAna judges a passage that its corpus does not have."""
    found, said = measured(beir(tmp_path, "q1\td9\t1", "q2\td3\t1"))
    assert found == 0.5
    assert "1 of 2 judged documents (such as 'd9') are not there; they count as not found" in said


def test_empty_rows_of_a_corpus_are_kept(measured, tmp_path):
    """beir-cellar/beir#158: FiQA's corpus has empty rows."""
    corpus = [{"_id": "d1", "text": "Tea is a drink."}, {"_id": "d2", "text": "", "title": ""}]
    found, _ = measured(beir(tmp_path, corpus=[*corpus, {"_id": "d3", "text": "An engine."}]))
    assert found == 1.0


def test_a_corpus_without_titles_needs_none(measured, tmp_path):
    """beir-cellar/beir#78: a missing title is None, and added to a text."""
    corpus = [{"_id": "d1", "text": "Tea is a drink."}, {"_id": "d3", "title": None, "text": "An engine."}]
    assert measured(beir(tmp_path, corpus=corpus))[0] == 1.0


def test_documents_and_judgements_that_are_there_twice(measured, tmp_path):
    """castorini/pyserini#1902: duplicate ids in corpus and qrels of MIRACL."""
    twice = {"_id": "d1", "text": "Tea is a drink."}
    said, _ = measured(beir(tmp_path, corpus=[twice, twice]))
    assert "corpus.jsonl:2: the _id 'd1' is given twice" in said
    corpus = [twice, twice, {"_id": "d3", "text": "An engine."}]
    found, said = measured(beir(tmp_path, "q1\td1\t1", "q1\td1\t1", "q2\td3\t1", corpus=corpus), "--on-error", "skip")
    assert found == 1.0
    assert "corpus.jsonl:2: the _id 'd1' is given twice" in said


def test_judgements_end_with_an_empty_line(measured, tmp_path):
    """castorini/pyserini#1128: a blank line in qrels, "not enough values to unpack (expected 4, got 0)"."""
    source = beir(tmp_path)
    (tmp_path / "qrels" / "test.tsv").write_text("q1 0 d1 1\n\nq2 0 d3 1\n\n")
    assert measured(source)[0] == 1.0


def test_a_table_that_excel_wrote_in_windows_1252(measured, tmp_path):
    """siyuanzhao/automated-essay-grading#3: byte 0x92, an apostrophe, is no UTF-8."""
    rows = [("question", "answer"), *((question, f"It’s so: {answer}") for question, answer in PAIRS)]
    path = tmp_path / "faq.tsv"
    path.write_bytes("".join(f"{one}\t{two}\n" for one, two in rows).encode("cp1252"))
    found, said = measured(path)
    assert found > 0.5
    assert "read as Windows-1252: line 2 has" in said
    assert "It’s so" in said


def test_semicolons_between_the_columns(measured, tmp_path):
    """ahmedbesbes/character-based-cnn#1: `SentimentText;Sentiment`, read as one column."""
    path = lines(tmp_path / "faq.csv", "question;answer", *(f"{question};{answer}" for question, answer in PAIRS))
    found, said = measured(path)
    assert found > 0.5
    assert "separated by ';'" in said


def test_labels_0_and_1_are_wrong_and_right_pairs(measured, tmp_path):
    """huggingface/sentence-transformers#702 and #2625: what 0 and 1 mean to a model of pairs."""
    path = tmp_path / "pairs.csv"
    wrong = [(question, PAIRS[number - 1][1], 0) for number, (question, _) in enumerate(PAIRS)]
    rows = [("sentence1", "sentence2", "label"), *wrong, *((*pair, 1) for pair in PAIRS)]
    path.write_text("".join(f'"{one}","{two}",{label}\n' for one, two, label in rows))
    found, said = measured(path)
    assert found > 0.5
    assert "label is 'label'" in said


def test_negatives_of_unlike_number_are_each_its_own(run, tiny_backbone, tmp_path):
    """huggingface/sentence-transformers#3153: one example has two wrong answers, another three."""
    rows = [
        {"query": question, "positive": answer, "negatives": [f"No {wrong}." for wrong in range(number % 4)]}
        for number, (question, answer) in enumerate(PAIRS)
    ]
    data = lines(tmp_path / "pairs.jsonl", *rows)
    options = ("--backbone", tiny_backbone, "--validation", "none", "--steps", 1, "--output", "m")
    code, out, err = run("train", "--data", data, *options)
    assert code == 0, err
    assert "12 examples to train on" in out


def test_pairs_without_wrong_answers_train_a_cross_encoder(run, tiny_backbone, tmp_path):
    """chijames/Poly-Encoder#7: the augmented DSTC7 has no wrong answers, which its cross-encoder needs."""
    data = lines(tmp_path / "pairs.jsonl", *({"query": one, "positive": two} for one, two in PAIRS))
    options = ("--backbone", tiny_backbone, "--validation", "none", "--steps", 1, "--output", "m")
    code, out, err = run("train", "--data", data, "--architecture", "cross", *options)
    assert code == 0, err
    assert "12 examples to train on" in out


def test_what_is_cut_off_is_said(run, tiny_backbone, tmp_path):
    """huggingface/sentence-transformers#4060: texts are cut, and nothing says so."""
    data = lines(tmp_path / "long.jsonl", *({"text": f"{answer} " * 40} for _, answer in PAIRS))
    code, out, err = run("index", "create", "i", "--data", data, "--model", tiny_backbone)
    said = " ".join((out + err).split())
    assert code == 0, err
    assert "--chunks" in said
