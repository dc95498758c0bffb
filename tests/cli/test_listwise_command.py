"""`polyencoders listwise` as people run it: a head that helps, one that is refused, and its directory."""

import json

import pytest

from polyencoders import BiEncoder, CrossEncoder, ListwiseReranker

PAIRS = [{"query": f"what is {i} and {i}?", "positive": f"it is {2 * i}"} for i in range(40)]


@pytest.fixture
def pairs(tmp_path):
    path = tmp_path / "pairs.jsonl"
    path.write_text("".join(json.dumps(pair) + "\n" for pair in PAIRS))
    return path


@pytest.fixture
def base(tiny_backbone, tmp_path):
    BiEncoder(tiny_backbone, normalize=True).save_pretrained(tmp_path / "base")
    return tmp_path / "base"


def test_a_model_gets_a_head_and_then_ranks_and_is_evaluated_with_it(run, base, pairs, tmp_path):
    listed = tmp_path / "listed"
    command = ["listwise", base, "--data", pairs, "--validation", pairs, "--output", listed, "--steps", 300]
    code, out, err = run(*command)
    assert code == 0, out + err
    assert "gain, and its 95% interval" in out
    assert type(ListwiseReranker(listed).base) is BiEncoder
    (tmp_path / "documents.txt").write_text("it is 4\nit is 6\nit is 8\n")
    code, out, err = run(
        "rank", listed, "--query", "what is 3 and 3?", "--documents", tmp_path / "documents.txt", "--json"
    )
    assert code == 0, err
    assert len(out.splitlines()) == 3
    measured = {}
    for model in (base, listed):
        report = tmp_path / "report.json"
        code, _, err = run("evaluate", model, "--data", pairs, "--protocol", "corpus", "--output", report)
        assert code == 0, err
        measured[model] = json.loads(report.read_text())["metrics"]["MRR"]["mean"]
    assert measured[listed] > measured[base]
    code, _, err = run(*command)
    assert code == 1
    assert "holds a model already" in err


def test_a_head_that_does_not_help_is_refused_with_the_figures(run, base, pairs, tmp_path):
    code, out, _ = run("listwise", base, "--data", pairs, "--output", tmp_path / "listed", "--steps", 1)
    assert code == 1
    assert "The head is refused" in out
    assert "the model alone" in out
    assert not (tmp_path / "listed").exists()


def test_a_model_that_reads_pairs_is_refused(run, tiny_backbone, pairs, tmp_path):
    CrossEncoder(tiny_backbone).save_pretrained(tmp_path / "cross")
    code, _, err = run("listwise", tmp_path / "cross", "--data", pairs)
    assert code == 1
    assert "is a CrossEncoder; a listwise head goes on a bi- or poly-encoder" in err
