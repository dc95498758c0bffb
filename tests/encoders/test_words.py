"""What words add to scores that are not of an index: when documents are ranked, and when a model is measured."""

import numpy as np
import pytest

from polyencoders.encoders import Words
from polyencoders.encoders.ranking import VectorRanking
from polyencoders.encoders.words import fits, split
from polyencoders.evaluation import CandidateTask, evaluate
from polyencoders.evaluation.tasks import CorpusTask

DOCUMENTS = ["It rains in Oslo.", "The tea is green.", "Tea, green tea!", "In Oslo."]


class Blind(VectorRanking):
    """A model to which all documents are the same."""

    architecture, temperature, dimension, cosine, model = "BiEncoder", 1.0, 2, True, None

    def encode_queries(self, queries, advance=lambda number: None):
        return np.ones((len(queries), 1, 2), dtype=np.float32)

    def encode_documents(self, texts, bf16=None, advance=lambda number: None):
        return np.ones((len(texts), 2), dtype=np.float32)

    def score_lists(self, queries, documents, batch_size=32, show_progress_bar=False):
        return [np.zeros(len(texts), dtype=np.float32) for texts in documents]


def test_documents_are_ranked_by_words_as_well():
    found = Blind().rank("green tea", DOCUMENTS, words=0.4)
    assert [hit["corpus_id"] for hit in found] == [2, 1, 0, 3]
    assert 0 < found[1]["score"] < found[0]["score"] < 0.4
    assert [hit["corpus_id"] for hit in Blind().rank("green tea", DOCUMENTS)] == [0, 1, 2, 3]
    assert Blind().rank(["nothing", "tea!", "green"], DOCUMENTS, words=0.4) == Blind().rank(
        "tea green", DOCUMENTS, words=0.4
    )


def test_a_list_and_a_corpus_are_measured_with_words():
    queries, right = ["green tea", "rain: does it rain in Oslo?"], [[2], [0]]
    task = CandidateTask(queries, [DOCUMENTS] * 2, right)
    assert evaluate(Blind(), task, ["R@1"], words=True).metrics["R@1/4"].mean == 1
    assert evaluate(Blind(), task, ["R@1"]).metrics["R@1/4"].mean == 0  # ties count against it
    corpus = CorpusTask(queries, DOCUMENTS, right, "given corpus")
    assert evaluate(Blind(), corpus, ["R@1"], words=0.1).metrics["R@1/4"].mean == 1


def test_a_documents_share_of_the_words():
    (row,) = fits(Words(2.0), ["tea"], ["tea", "tea tea tea tea tea", "water"])
    saturation = 1.5 * (0.25 + 0.75 * np.array([1, 5]) / (7 / 3))
    np.testing.assert_allclose(row, [*2 * np.array([1, 5]) / (np.array([1, 5]) + saturation), 0], rtol=1e-6)
    (nothing,) = fits(Words(2.0), ["?!"], ["tea", "", "..."])
    assert nothing.tolist() == [0, 0, 0]


@pytest.mark.parametrize(
    ("language", "text", "words"),
    [
        ("none", "C'est l'été, à 8h30!", ["c", "est", "l", "été", "à", "8h30"]),
        ("none", "お茶 ABC 中文x", ["お", "茶", "abc", "中", "文", "x"]),
        ("english", "The dogs are running", ["dog", "run"]),
        ("german", "Die Hunde und der Hund", ["hund", "hund"]),
    ],
)
def test_words_of_a_text(language, text, words):
    assert list(split([text], language)) == [words]
