"""What held-out pairs confirm is kept, and nothing else; a search then does it by itself."""

import json
import re

import numpy as np
import pytest

from polyencoders import PolyEncoder
from polyencoders.data import Example
from polyencoders.encoders import Reranker
from polyencoders.errors import DataError, IndexingError, ModelError
from polyencoders.evaluation import tuning as module
from polyencoders.evaluation.tuning import tune
from polyencoders.index import Index
from polyencoders.index.tuning import TUNING, Tuning

PEOPLE = ["Ada", "Bela", "Cleo", "Dora", "Emil", "Finn", "Gwen", "Hans", "Iris", "Jona"]
THINGS = ["tea", "bread", "music", "paint", "snow", "cheese", "salt", "rain"]
TEXTS = [f"{one} likes {thing}." for one in PEOPLE for thing in THINGS]
PAIRS = [Example(f"who wants {thing}, {one}?", f"{one} likes {thing}.") for one in PEOPLE for thing in THINGS]


class Knowing:
    """Reads who and what; or says anything at all."""

    def __init__(self, knows=True):
        self.knows, self.chance = knows, np.random.default_rng(0)
        self.fingerprint = "knows" if knows else "guesses"

    def score_pairs(self, pairs, batch_size=32):
        if not self.knows:
            return self.chance.normal(size=len(pairs))
        words = [({*re.findall(r"\w+", query)}, {*re.findall(r"\w+", text)}) for query, text in pairs]
        return np.array([10.0 * len(asked & told) for asked, told in words])


@pytest.fixture(scope="module")
def index(tiny_backbone, tmp_path_factory):
    made = Index.create(tmp_path_factory.mktemp("tuned") / "index", tiny_backbone)
    made.add(TEXTS)
    return made


@pytest.fixture
def loads(monkeypatch):
    """What a name loads."""
    models = {"knowing": Knowing(), "guessing": Knowing(knows=False)}
    monkeypatch.setattr("polyencoders.encoders.reranking.load", lambda name: models[name])
    return models


@pytest.fixture(autouse=True)
def no_words(monkeypatch):
    """So that only the reader can help; each test asks for words itself."""
    monkeypatch.setattr(module, "WORDS", (0.0,))


def test_a_reader_that_helps_is_kept(index, loads):
    asked = next(pair for pair in PAIRS if pair.positives[0] in [hit.text for hit in index.search(pair.query[0], 10)])
    query = asked.query[0]
    plain = index.search(query, 5, rerank=False)
    tuned = tune(index, PAIRS, "knowing")
    (_, _, step), tuning = tuned.steps, tuned.tuning
    assert step.kept
    assert step.gain.low > 0
    assert step.measures["R@1"].mean > tuned.steps[0].measures["R@1"].mean + 0.3
    assert (tuning.rerank, tuning.rerank_fingerprint, tuning.held_out) == ("knowing", "knows", 40)
    assert index.tuning is None, "nothing is kept until it is said"
    index.set_tuning(tuning)
    try:
        opened = Index.open(index.path)
        assert opened.tuning == tuning
        assert opened.info().tuning == tuning
        answer = opened.search(query, 5)
        expected = index.search(query, 5, rerank=Reranker(loads["knowing"], tuning.rerank_top, tuning.rerank_weight))
        assert [hit.id for hit in answer] == [hit.id for hit in expected]
        assert answer[0].text == asked.positives[0]
        # Probabilities are those of the calibration, of what was read; and can be asked for.
        said = tuning.calibration.probability([hit.score for hit in answer])
        np.testing.assert_allclose([hit.probability for hit in answer], said)
        assert answer[0].probability > 0.8
        likely = opened.search(query, 5, min_probability=0.8)
        assert [hit.id for hit in likely] == [hit.id for hit in answer if hit.probability >= 0.8]
        # Options override it, and other scores have no probabilities.
        assert opened.search(query, 5, rerank=False) == plain
        assert opened.search(query, 5, rerank_top=1).read == 1
        with pytest.raises(IndexingError, match="knows no probabilities for such a search"):
            opened.search(query, 5, rerank=False, min_probability=0.5)
        # Codes without texts cannot be read; with texts they can.
        codes = opened.loaded_model().encode_queries([query])
        assert opened.search(codes, 5)[0].read is None
        assert opened.search(codes, 5, texts=[query])[0].hits[0].id == answer[0].id
        # Another reranker at its place is refused.
        loads["knowing"].fingerprint = "another"
        with pytest.raises(ModelError, match="is another model than the one that the index was tuned with"):
            Index.open(index.path).search(query, 5)
    finally:
        index.set_tuning(None)
    assert Index.open(index.path).tuning is None


def test_a_reader_that_guesses_is_left_out(index, loads):
    tuned = tune(index, PAIRS, "guessing")
    assert not tuned.steps[-1].kept
    assert tuned.tuning.rerank is None


def test_what_says_nothing_keeps_nothing(index, loads):
    """Right answers that have nothing to do with the queries."""
    chance = np.random.default_rng(1)
    pairs = [Example(f"question {number}", TEXTS[chance.integers(len(TEXTS))]) for number in range(120)]
    tuned = tune(index, pairs, "guessing")
    assert [step.kept for step in tuned.steps] == [True, False, False]
    assert tuned.tuning.calibration is None
    assert tuned.no_probabilities
    assert not tuned.tuning.says_something


def test_words_that_help_are_kept(index, monkeypatch):
    monkeypatch.setattr(module, "WORDS", (0.5, 50.0))
    tuned = tune(index, PAIRS)
    assert tuned.steps[1].kept
    assert tuned.tuning.words in (0.5, 50.0)
    index.set_tuning(tuned.tuning)
    try:
        opened = Index.open(index.path)
        query = PAIRS[5].query[0]
        assert opened.search(query, 5) != index.search(query, 5, words=False)
        assert [hit.id for hit in opened.search(query, 5)] == [
            hit.id for hit in index.search(query, 5, words=tuned.tuning.words)
        ]
        assert opened.search(query, 5, words=False)[0].probability is None
    finally:
        index.set_tuning(None)


def test_an_index_of_passages(tiny_backbone, loads, tmp_path):
    """Right answers are known by their documents, and a reader reads the best passage of each."""
    model = PolyEncoder(tiny_backbone, m=2, document_length=12)
    opening = "All rights are reserved, and nothing of this may be copied. "
    long = [f"{opening} {i} {opening} {i}: {text}" for i, text in enumerate(TEXTS)]
    whole = Index.create(tmp_path / "whole", model)
    whole.add(TEXTS)
    cut = Index.create(tmp_path / "cut", model)
    cut.add([{"id": i, "text": text} for i, text in enumerate(long)], passages=True)
    assert len(cut) > 2 * len(TEXTS)
    pairs = [Example(pair.query, text) for pair, text in zip(PAIRS, long, strict=True)]
    tuned = tune(cut, pairs, "knowing")
    part = module.Part(cut, [("who wants tea, Ada?", [frozenset({"0"})])])
    (found,) = part.search(0)
    expected = cut.search("who wants tea, Ada?", module.DEPTHS[-1], rerank=False)
    assert found.scores.tolist() == [hit.score for hit in expected], "each document once, by its best passage"
    assert found.texts == [hit.text for hit in expected]
    assert found.right.tolist() == [hit.id == "0" for hit in expected]
    assert tuned.tuning.held_out == 40
    asked = [pair.query[0] for pair in pairs]
    first = np.mean([hits[0].id == str(i) for i, hits in enumerate(cut.search(asked, 1))])
    halves = [step.measures["R@1"].mean for step in tuned.steps[:1]]
    assert abs(first - halves[0]) < 0.1, "of half of the queries"


def test_too_few_pairs_are_refused(index):
    unknown = [Example(f"question {number}", f"answer {number}") for number in range(100)]
    with pytest.raises(DataError, match=r"39 queries of these pairs have a right answer in .*at least 40 are needed"):
        tune(index, [*PAIRS[:39], *unknown])


def test_what_was_kept_is_checked(index, caplog):
    kept = Tuning(index.loaded_model().fingerprints.queries, words=0.3)
    index.set_tuning(kept)
    storage = index._writer.storage
    try:
        content = json.loads(storage.read(TUNING))
        storage.write(TUNING, json.dumps({**content, "queries": "another"}).encode())
        assert Index.open(index.path).tuning is None
        assert "was tuned for another model" in caplog.text
        for broken, said in ((b'{"format": 1', "is damaged"), (b'{"format": 2}', "is of format 2")):
            storage.write(TUNING, broken)
            with pytest.raises(IndexingError, match=said):
                Index.open(index.path).search("who?")
    finally:
        index.set_tuning(None)
