"""From a model and a task to a report: right numbers, bounded memory, and clear refusals."""

import io
import json

import numpy as np
import pytest
import torch
from rich.console import Console

from polyencoders import PolyEncoder
from polyencoders.data import Example
from polyencoders.errors import PolyencodersError
from polyencoders.evaluation import (
    CandidateTask,
    CorpusTask,
    evaluate,
    given_candidates,
    rank_task,
    ranking,
    sampled_candidates,
    whole_corpus,
)

WORDS = [f"{a}{b}{c}" for a in "abcdef" for b in "ghijkl" for c in "mnopqr"]
EXAMPLES = [Example(["well", word], f"{word} {word[0]}{i % 10}") for i, word in enumerate(WORDS)]


def test_report(table_ranker):
    model = table_ranker({("a", "x"): 2, ("a", "y"): 1, ("b", "x"): 2, ("b", "y"): 1, ("c", "x"): 1, ("c", "y"): 1})
    task = CandidateTask(["a", "b", "c"], [["x", "y"]] * 3, [[0], [1], [0]])
    report = evaluate(model, task, measures=["R@1", "R@2", "MRR"])
    assert {name: values.tolist() for name, values in report.values.items()} == {
        "R@1/2": [1, 0, 0],
        "R@2/2": [1, 1, 1],
        "MRR": [1, 0.5, 0.5],
    }
    assert report.metrics["MRR"].mean == pytest.approx(2 / 3)
    assert (report.protocol, report.candidates, report.queries, report.seed) == ("given candidates", 2, 3, None)
    record = json.loads(json.dumps(report.to_dict(), allow_nan=False))
    assert record["metrics"]["R@2/2"] == {"mean": 1, "low": 1, "high": 1}
    assert record["candidates"] == 2

    console = Console(width=100, record=True, file=io.StringIO())
    console.print(report.table())
    text = console.export_text()
    assert "given candidates: 3 queries, 2 documents each" in text
    assert "R@1/2" in text
    assert "0.333" in text


def test_one_query_has_no_interval(table_ranker):
    report = evaluate(table_ranker({("a", "x"): 1}), CandidateTask(["a"], [["x"]], [[0]]))
    record = json.loads(json.dumps(report.to_dict(), allow_nan=False))
    assert record["metrics"]["R@1/1"] == {"mean": 1, "low": None, "high": None}
    assert "one query" in [cell for column in report.table().columns for cell in column.cells]


def test_order_of_candidates_does_not_matter(letter_encoder):
    task = sampled_candidates(EXAMPLES, candidates=10)
    backwards = CandidateTask(
        task.queries, [texts[::-1] for texts in task.documents], [[9 - relevant[0]] for relevant in task.relevant]
    )
    there, back = (evaluate(letter_encoder, each).values for each in (task, backwards))
    assert 0.2 < there["MRR"].mean() < 0.95, "a task that could tell"
    for name in there:
        np.testing.assert_array_equal(there[name], back[name])


def test_whole_corpus_equals_lists_of_the_whole_corpus(letter_encoder, monkeypatch):
    task = whole_corpus(EXAMPLES)
    lists = CandidateTask(task.queries, [task.corpus] * len(task.queries), task.relevant)
    monkeypatch.setattr(ranking, "_QUERIES", 50)
    monkeypatch.setattr(ranking, "_SCORES", 8 * len(task.corpus))
    ranks = rank_task(letter_encoder, task)
    assert max(letter_encoder.blocks) == 8, "scores held at a time are bounded"
    assert sum(letter_encoder.blocks) == len(task.queries)
    for found, expected in zip(ranks, rank_task(letter_encoder, lists), strict=True):
        np.testing.assert_array_equal(found, expected)
    assert evaluate(letter_encoder, task, ["R@10"]).metrics.keys() == {f"R@10/{len(task.corpus)}"}


def test_an_encoder_ranks_a_whole_corpus_as_it_ranks_lists(tiny_backbone, monkeypatch):
    model = PolyEncoder(tiny_backbone, device="cpu", m=3)
    corpus = ["tea", "milk", "rain", "a cup of tea", "milk"]  # the last equals the second: a tie against the model
    task = CorpusTask(["tea?", ["Hello.", "milk or rain?"]], corpus, [[0], [1]])
    lists = CandidateTask(task.queries, [corpus] * 2, task.relevant)
    monkeypatch.setattr(ranking, "_SCORES", 24)  # documents go by twos
    for found, expected in zip(rank_task(model, task), rank_task(model, lists), strict=True):
        np.testing.assert_array_equal(found, expected)
    assert rank_task(model, task)[1][0] > 1


def test_whole_corpus_counts_to_1000_and_lists_to_their_end(table_ranker, letter_encoder):
    corpus = ["a"] + [f"aa {i}" for i in range(2000)]
    examples = [Example("a", "a", candidates=corpus)]
    assert evaluate(letter_encoder, whole_corpus(examples), ["MRR"]).metrics["MRR"].mean == 0
    assert evaluate(letter_encoder, given_candidates(examples), ["MRR"]).metrics["MRR"].mean == pytest.approx(1 / 2001)


def test_bfloat16(letter_encoder):
    letter_encoder.dtype = torch.bfloat16
    assert evaluate(letter_encoder, whole_corpus(EXAMPLES), ["MRR"]).metrics["MRR"].mean > 0.1


def test_a_cross_encoder_does_not_rank_a_whole_corpus(table_ranker):
    with pytest.raises(PolyencodersError) as caught:
        evaluate(table_ranker({}), whole_corpus(EXAMPLES))
    assert str(caught.value) == (
        "TableRanker has no encode_query or encode_document or similarity, needed to rank a whole corpus "
        "(a cross-encoder would have to read all 216 x 216 pairs): evaluate it with given or sampled candidates instead"
    )
    with pytest.raises(PolyencodersError, match="object has no score_lists, needed to rank lists of candidates"):
        evaluate(object(), sampled_candidates(EXAMPLES))


def test_bad_scores(table_ranker, letter_encoder):
    task = CandidateTask(["a", "b"], [["x", "y"]] * 2, [[0], [1]])
    nan = table_ranker({("a", "x"): 1, ("a", "y"): 1, ("b", "x"): 1, ("b", "y"): np.nan})
    with pytest.raises(PolyencodersError, match=r"TableRanker, query 2 \('b'\): 1 of 2 scores are NaN"):
        evaluate(nan, task)

    letter_encoder.score_lists = lambda queries, documents, **_: [np.zeros(2), np.zeros((2, 1))]
    with pytest.raises(PolyencodersError, match=r"scores of shape \(2, 1\) for the 2 documents of query 2 \('b'\)"):
        evaluate(letter_encoder, task)
    letter_encoder.score_lists = lambda queries, documents, **_: [np.zeros(2)]
    with pytest.raises(PolyencodersError, match="LetterEncoder gave 1 lists of scores for 2 queries"):
        evaluate(letter_encoder, task)
    letter_encoder.similarity = lambda queries, documents: torch.full((len(queries), len(documents)), torch.nan)
    with pytest.raises(PolyencodersError, match=r"LetterEncoder, query 1 \(\['well', 'agm'\]\): 216 of 216 scores"):
        evaluate(letter_encoder, whole_corpus(EXAMPLES))


def test_unknown_measures_are_refused_before_the_model_works():
    with pytest.raises(PolyencodersError, match="unknown measure 'R'"):
        evaluate(None, sampled_candidates(EXAMPLES), ["R"])


def test_a_reranker_reads_the_best_of_each_query():
    """Of lists and of a corpus: what is not among the best of the first stage stays behind what was read."""
    from polyencoders.encoders import Reranker
    from polyencoders.evaluation import CandidateTask, rank_task

    class ByLength:
        def score_lists(self, queries, documents, *, batch_size=32, show_progress_bar=False):
            return [np.array([len(text) for text in texts], dtype=float) for texts in documents]

    class ByLetter:
        def score_pairs(self, pairs, batch_size=32):
            return np.array([text.count("a") for _, text in pairs], dtype=float)

    documents = ["bbbb", "aaa", "b", "aabaa"]  # by length 1, 2, 3, 0; by letter 0, 3, 0, 4
    task = CandidateTask(["?"] * 4, [documents] * 4, [[0], [1], [2], [3]])
    found = rank_task(ByLength(), task, reranker=Reranker(ByLetter(), top=3, weight=100.0))
    assert [ranks.tolist() for ranks in found] == [[3], [2], [4], [1]]
    found = rank_task(ByLength(), task, reranker=Reranker(ByLetter(), top=2, weight=100.0))
    assert [ranks.tolist() for ranks in found] == [[2], [3], [4], [1]]


def test_a_report_says_what_helped_the_model(table_ranker):
    from polyencoders.encoders import Reranker

    class ByLetter:
        def score_pairs(self, pairs, batch_size=32):
            return np.array([text.count("a") for _, text in pairs], dtype=float)

    model = table_ranker({("q", "a tea"): 2, ("q", "milk"): 1})
    task = CandidateTask(["q"], [["a tea", "milk"]], [[0]])
    report = evaluate(model, task, words=0.5, reranker=Reranker(ByLetter(), top=2))
    assert report.protocol == "given candidates + words 0.5 + ByLetter over the best 2"
