"""``--data FORMAT:PATH``: the commands keep a set's sides, its candidates, and the one list that all queries rank."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def mutual(tmp_path: Path) -> Path:
    """40 questions to train on, 8 to report on, and a test side whose answers are blank."""
    for side, count in (("train", 40), ("dev", 8), ("test", 3)):
        (tmp_path / "mutual" / side).mkdir(parents=True)
        for i in range(count):
            record = {
                "answers": " " if side == "test" else "ABCD"[i % 4],
                "options": [f"m : {word} {i} ." for word in ("tea", "milk", "water", "juice")],
                "article": f"f : this is {side} question {i} . m : what may i bring ?",
                "id": f"{side}_{i}",
            }
            (tmp_path / "mutual" / side / f"{side}_{i}.txt").write_text(json.dumps(record))
    return tmp_path / "mutual"


@pytest.fixture
def intents(tmp_path: Path) -> Path:
    (tmp_path / "intents").mkdir()
    for side, count in (("train", 60), ("test", 12)):
        rows = [f"{side} text {i},class_{i % 6}" for i in range(count)]
        (tmp_path / "intents" / f"{side}.csv").write_text("\n".join(["text,category", *rows]))
    return tmp_path / "intents"


def test_evaluate_ranks_the_official_lists(run: Run, mutual: Path, tiny_backbone: str, tmp_path: Path) -> None:
    code, _, err = run("evaluate", tiny_backbone, "--data", f"mutual:{mutual}", "--output", tmp_path / "report.json")
    assert code == 0, err
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["queries"] == 8
    assert report["protocol"] == "given candidates"
    assert "R@1/4" in report["metrics"]


def test_evaluate_ranks_the_one_list_of_a_set(run: Run, intents: Path, tiny_backbone: str, tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    values = []
    for protocol in ("auto", "corpus", "given"):
        arguments = ("--data", f"labelled:{intents}", "--protocol", protocol, "--output", report)
        code, _, err = run("evaluate", tiny_backbone, *arguments)
        assert code == 0, err
        found = json.loads(report.read_text())
        assert found["queries"] == 12
        assert found["protocol"] == "given corpus"
        values.append(found["metrics"]["R@1/6"]["mean"])
    assert values[0] == values[1] == pytest.approx(values[2])


def test_train_and_compare_keep_the_sides(
    run: Run, mutual: Path, intents: Path, tiny_backbone: str, tmp_path: Path
) -> None:
    train = ["train", "--backbone", tiny_backbone, "--steps", 2, "--batch-size", 4, "--data", f"mutual:{mutual}"]
    code, out, err = run(*train, "--output", tmp_path / "a")
    assert code == 0, err
    assert "36 examples to train on, 4 to validate on" in out
    assert "validation MRR/4 before" in out
    code, out, err = run(*train, "--output", tmp_path / "b", "--validation", f"labelled:{intents}")
    assert code == 0, err
    assert "36 examples to train on, 6 to validate on" in out

    compare = ["compare", "--backbone", tiny_backbone, "--architectures", "bi", "--steps", 2, "--batch-size", 4]
    code, out, err = run(*compare, "--no-plot", "--data", f"mutual:{mutual}", "--output", tmp_path / "compare")
    assert code == 0, err
    rows = json.loads((tmp_path / "compare" / "compare.json").read_text())["rows"]
    assert all("R@1/4" in row["metrics"] for row in rows)


def test_formats_that_are_not_known(run: Run) -> None:
    code, _, err = run("evaluate", "model", "--data", "mutul:here")
    assert code == 1
    assert "no format 'mutul', did you mean \"mutual\"?; expected FORMAT:PATH with one of the formats babi" in err


def test_beir_is_scored_by_its_judgements_and_trained_on_by_its_training_side_alone(run, tmp_path, backbone):
    folder = tmp_path / "set"
    (folder / "qrels").mkdir(parents=True)
    texts = [f"{word} is {word}" for word in ("tea", "milk", "rain", "snow", "soup")]
    for name, prefix in (("queries", "q"), ("corpus", "d")):
        rows = [json.dumps({"_id": f"{prefix}{i}", "text": text}) for i, text in enumerate(texts)]
        (folder / f"{name}.jsonl").write_text("\n".join(rows))
    rows = [f"q{i}\td{i}\t2" for i in range(5)] + ["q0\td1\t1", "q1\tgone\t1"]
    (folder / "qrels" / "test.tsv").write_text("\n".join(["query-id\tcorpus-id\tscore", *rows]))
    options = ["--measure", "nDCG@10", "--measure", "R@1", "--measure", "Success@1", "--output", "report.json"]
    code, out, err = run("evaluate", backbone, "--data", f"beir:{folder}", "--rerank", "none", *options)
    assert code == 0, err
    metrics = {name: one["mean"] for name, one in json.loads(Path("report.json").read_text())["metrics"].items()}
    assert metrics["Success@1/5"] == 1
    assert metrics["R@1/5"] == pytest.approx((0.5 + 0.5 + 3) / 5)
    assert 0.9 < metrics["nDCG@10"] < 1
    assert "A query has 1.2 right answers on average. R@k is recall" in out
    code, _, err = run("train", "--data", f"beir:{folder}", "--backbone", backbone, "--output", "model")
    assert code == 1
    assert "no training side, only examples to test with" in err


def test_a_table_trains_and_is_ranked_and_what_is_cut_is_said(run, tmp_path, tiny_backbone):
    rows = [f'{i},How do I return item {i}?,"Send item {i} back,\nwe pay {i}."' for i in range(120)]
    Path("faq.csv").write_text("\n".join(["faq_id,question,answer", *rows]) + "\nx,no answer,\n")
    train = ["train", "--data", "faq.csv", "--backbone", tiny_backbone, "--steps", 2, "--output", "model"]
    code, _, err = run(*train)
    assert code == 1
    assert "faq.csv:242: positive: expected text" in err
    lengths = ["--query-length", 16, "--document-length", 8, "--query-prompt", "query: ", "--on-error", "skip"]
    code, out, err = run(*train, "--columns", "query=question,positive=answer", *lengths)
    assert code == 0, err
    assert "left out, as they cannot be used: 1 (faq.csv:242" in err
    assert "96 examples to train on, 24 to validate on" in out
    saved = json.loads(Path("model/config_sentence_transformers.json").read_text())
    assert saved["prompts"]["query"] == "query: "
    code, out, err = run("evaluate", "model", "--data", "faq.csv", "--on-error", "skip")
    assert code == 0, err
    assert "100% of the documents are longer than the 8 tokens that are read of each" in out
    code, out, err = run("rank", "model", "--query", "item 3", "--documents", "faq.csv", "--text", "question", "--json")
    assert code == 0, err
    assert sum(json.loads(line)["text"].startswith("How do I return item") for line in out.splitlines()) >= 9


def test_few_pairs(run, tmp_path, tiny_backbone):
    Path("p.jsonl").write_text("".join(json.dumps({"query": f"q {i}", "positive": f"a {i}"}) + "\n" for i in range(4)))
    train = ["train", "--data", "p.jsonl", "--backbone", tiny_backbone, "--freeze", "backbone", "--steps", 2]
    code, out, err = run(*train, "--output", "one")
    assert code == 1
    assert "4 distinct queries are too few to tell whether training helps" in err
    code, out, err = run(*train, "--output", "one", "--validation", "none")
    assert code == 0, err
    assert "0 to validate on" in out
    code, out, err = run(*train, "--output", "two", "--backbone", "one", "--validation", "none")
    assert code == 0, err


def test_a_model_that_reads_pairs_trains_on_fewer_answers_than_it_would_draw(run, caplog, tiny_backbone):
    from polyencoders.training import losses

    losses._say_fewer.cache_clear()
    Path("p.jsonl").write_text("".join(json.dumps({"query": f"q {i}", "positive": f"a {i}"}) + "\n" for i in range(5)))
    train = ["train", "--data", "p.jsonl", "--backbone", tiny_backbone, "--architecture", "cross", "--steps", 1]
    code, _, err = run(*train, "--output", "model", "--learning-rate", 1e-4)
    assert code == 0, err
    assert "7 negatives a query are too many for the 4 distinct right answers of the training set: 3 are drawn" in (
        caplog.messages
    )


def test_an_error_that_nobody_foresaw_is_one_line(run, monkeypatch):
    import polyencoders.data

    def broken(*arguments, **options):
        raise ValueError("first line\nsecond line")

    monkeypatch.setattr(polyencoders.data, "read_source", broken)
    code, _, err = run("evaluate", "model", "--data", "x.jsonl")
    assert code == 1
    assert err.strip() == "polyencoders: ValueError: first line (POLYENCODERS_TRACEBACK=1 shows where)"
    monkeypatch.setenv("POLYENCODERS_TRACEBACK", "1")
    with pytest.raises(ValueError, match="second line"):
        run("evaluate", "model", "--data", "x.jsonl")
