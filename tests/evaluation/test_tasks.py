"""Tasks: which documents each query ranks, and which are right."""

from collections import Counter

import pytest

from polyencoders.data import Example
from polyencoders.errors import DataError
from polyencoders.evaluation import CandidateTask, CorpusTask, given_candidates, sampled_candidates, whole_corpus

SUMS = [Example(["Hi!", f"{i} + 1?"], [str(i + 1), f"{i} + 1"]) for i in range(200)]


def test_given_candidates():
    task = given_candidates(
        [Example("a", ["x", "z"], candidates=["y", "x", "z"]), Example(["b", "c"], "y", candidates=["y", "x"])]
    )
    assert task.queries == ["a", ["b", "c"]]
    assert task.documents == [["y", "x", "z"], ["y", "x"]]
    assert task.relevant == [[1, 2], [0]]
    assert task.candidates == "2-3"
    with pytest.raises(DataError, match=r"example 2 of 2 has no candidates to rank \('c'\): give it some, or"):
        given_candidates([Example("a", "x", candidates=["x"]), Example("c", "x")])


def test_sampled_candidates():
    task = sampled_candidates(SUMS, candidates=20, seed=4)
    assert task.candidates == 20
    assert task.seed == 4
    for example, query, documents, relevant in zip(SUMS, task.queries, task.documents, task.relevant, strict=True):
        assert query == list(example.query)
        assert len(set(documents)) == len(documents) == 20
        assert [i for i, text in enumerate(documents) if text in example.positives] == relevant
    assert task == sampled_candidates(SUMS, candidates=20, seed=4)
    assert task != sampled_candidates(SUMS, candidates=20, seed=5)


def test_sampled_positions_and_positives_are_spread():
    task = sampled_candidates(SUMS * 5, candidates=4)
    positions = Counter(relevant[0] for relevant in task.relevant)
    assert set(positions) == {0, 1, 2, 3}
    assert min(positions.values()) > 200
    chosen = Counter(
        example.positives.index(documents[relevant[0]])
        for example, documents, relevant in zip(SUMS * 5, task.documents, task.relevant, strict=True)
    )
    assert min(chosen.values()) > 400, "either positive, at random"


def test_sampled_wrong_answers_are_drawn_evenly():
    drawn = Counter()
    examples = [Example(str(i), f"answer {i}") for i in range(10)]
    for seed in range(100):
        drawn.update(sampled_candidates(examples, candidates=4, seed=seed).documents[0])
    assert drawn.pop("answer 0") == 100
    assert len(drawn) == 9
    assert 15 < min(drawn.values()) <= max(drawn.values()) < 55  # 33 expected


def test_answers_to_the_same_query_elsewhere_are_not_wrong():
    examples = [Example("Hello?", f"Hi {i}") for i in range(10)] + [Example(f"{i}?", f"{i}!") for i in range(5)]
    task = sampled_candidates(examples, candidates=6)
    for documents in task.documents[:10]:
        assert sum(text.startswith("Hi") for text in documents) == 1
    with pytest.raises(DataError, match="not enough distinct texts for 7 candidates: example 1 of 15 has 5 wrong ans"):
        sampled_candidates(examples, candidates=7)
    assert sampled_candidates(examples, candidates=7, extra_documents=["Hi 3", "more"]).candidates == 7


def test_sampled_candidates_refuses():
    with pytest.raises(DataError, match="candidates=1: expected 2 or more"):
        sampled_candidates(SUMS, candidates=1)
    with pytest.raises(DataError, match="no queries to evaluate"):
        sampled_candidates([])


def test_whole_corpus_merges_equal_queries():
    examples = [
        Example(["a", "b"], ["x", "y"], negatives="n"),
        Example("c", "y", candidates=["y", "z"]),
        Example(["a", "b"], "z"),
    ]
    task = whole_corpus(examples, extra_documents=["w", "x", "w"])
    assert task.queries == [["a", "b"], "c"]
    assert task.corpus == ["x", "y", "n", "z", "w"]
    assert task.relevant == [[0, 1, 3], [1]]
    assert task.candidates == 5
    with pytest.raises(DataError, match="no queries to evaluate"):
        whole_corpus([])


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ((["a"], [["x"]], [[]]), "query 1 has no right answer among its 1 documents"),
        ((["a"], [["x"]], [[1]]), r"query 1: the positions of its right answers are \[1\], expected distinct"),
        ((["a"], [["x", "y"]], [[0, 0]]), "expected distinct positions below 2"),
        ((["a"], [["x"]], [[-1]]), "expected distinct positions below 1"),
        ((["a"], [["x"], ["y"]], [[0]]), "1 queries but 2 lists of documents"),
        ((["a"], [["x"]], [[0], [0]]), "1 queries but 2 lists of right answers"),
        (([], [], []), "no queries to evaluate"),
    ],
)
def test_tasks_are_checked(fields, message):
    with pytest.raises(DataError, match=message):
        CandidateTask(*fields)
    if "lists of documents" not in message:
        with pytest.raises(DataError, match=message):
            CorpusTask(fields[0], fields[1][0] if fields[1] else [], fields[2])
