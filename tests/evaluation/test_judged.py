"""Judged sets as trec_eval and BEIR score them: grades, what is not there, and a query's own document."""

import ir_measures
import numpy as np
import pytest
from ir_measures import AP, RR, R, Success, nDCG

from polyencoders.data import Retrieval
from polyencoders.errors import DataError
from polyencoders.evaluation import evaluate, judged_corpus

NAMES = {"nDCG@10": nDCG @ 10, "nDCG": nDCG, "R@5": R @ 5, "Success@5": Success @ 5, "MAP": AP, "MRR": RR}
QUERIES, DOCUMENTS = 25, 60


class Given:
    """Scores that are given by the texts, which are numbers; all different."""

    def __init__(self, scores):
        self.scores = scores

    def encode_query(self, texts, **options):
        return np.array([[int(text)] for text in texts])

    def encode_document(self, texts, **options):
        return np.array([[int(text or 0)] for text in texts])

    def similarity(self, queries, documents):
        return self.scores[queries[:, 0]][:, documents[:, 0]]


@pytest.fixture
def drawn():
    """A judged set with grades from -1 to 3, and a model's scores. Query 7 and document 7 are one and the same."""
    rng = np.random.default_rng(3)
    scores = rng.permutation(QUERIES * DOCUMENTS).reshape(QUERIES, DOCUMENTS) / 100
    scores[7, 7] = scores.max() + 1
    corpus = {f"d{i}": str(i) for i in range(DOCUMENTS)} | {"q7": "7"}
    del corpus["d7"]
    corpus["d0"] = ""  # an empty document is a document
    judged = {
        f"q{i}": {f"d{j}": int(rng.integers(-1, 4)) for j in rng.choice(range(10, DOCUMENTS), 6, replace=False)}
        for i in range(QUERIES)
    }
    return Retrieval(corpus, {f"q{i}": str(i) for i in range(QUERIES)}, {"test": judged}, leave_out_own=True), scores


def by_trec_eval(found, scores, missing=()):
    """The means of trec_eval's own, over all that is judged."""
    names = list(found.corpus)
    run = {
        query: {
            name: float(scores[int(text), int(found.corpus[name] or 0)])
            for name in names
            if name != query  # what BEIR does
        }
        for query, text in found.queries.items()
    }
    means = ir_measures.calc_aggregate(list(NAMES.values()), found.qrels["test"], run)
    return {name: means[measure] for name, measure in NAMES.items()}


def ours(found, scores):
    report = evaluate(Given(scores), judged_corpus(found, "test"), list(NAMES))
    return {name.partition("/")[0]: interval.mean for name, interval in report.metrics.items()}, report


def test_grades_and_the_own_document_as_trec_eval_and_beir(drawn):
    found, scores = drawn
    means, report = ours(found, scores)
    assert means == pytest.approx(by_trec_eval(found, scores), abs=1e-6)
    assert report.queries == QUERIES
    plain = Retrieval(found.corpus, found.queries, found.qrels)
    assert ours(plain, scores)[0] != means, "the own document would have been the first"


def test_what_is_judged_and_not_there_is_missed(drawn):
    found, scores = drawn
    found.qrels["test"]["q3"] |= {"gone": 3, "gone too": 1}
    found.qrels["test"]["nobody"] = {"d20": 1}
    found.qrels["test"]["q4"] = {"d20": 0}
    means, report = ours(found, scores)
    assert means == pytest.approx(by_trec_eval(found, scores), abs=1e-6)
    assert report.queries == QUERIES + 1
    assert report.values["nDCG"][-1] == 0


def test_of_equal_scores_the_lower_grade_ranks_first():
    found = Retrieval({"a": "1", "b": "2"}, {"q": "0"}, {"test": {"q": {"a": 3, "b": 1}}})
    means, _ = ours(found, np.zeros((1, 3)))
    assert means["nDCG"] == pytest.approx((1 + 3 / np.log2(3)) / (3 + 1 / np.log2(3)))


def test_some_queries(drawn):
    found, _ = drawn
    assert len(judged_corpus(found, "test", queries=5).queries) == 5
    assert judged_corpus(found, "test", 5, seed=1).queries == judged_corpus(found, "test", 5, seed=1).queries
    with pytest.raises(DataError, match="no judgements for 'dev': there are test"):
        judged_corpus(found, "dev")
