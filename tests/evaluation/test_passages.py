"""A document that is longer than the model reads, evaluated by its best passage."""

import numpy as np
import pytest

from polyencoders import BiEncoder, CrossEncoder
from polyencoders.encoders.passages import passages_of
from polyencoders.encoders.words import Words
from polyencoders.errors import ModelError
from polyencoders.evaluation import CandidateTask, CorpusTask, evaluate
from polyencoders.evaluation.ranking import task_scores

OPENING = "All rights are reserved, and nothing of this may be copied without leave. "
ANSWERS = ["Tea is served at four.", "The train leaves at nine.", "A cat sleeps on the roof.", "Rain falls in May."]
DOCUMENTS = [*(OPENING * 3 + answer for answer in ANSWERS), "Short."]  # alike as far as they are read
QUERIES = ["When is tea served?", "When does the train leave?", "Where does the cat sleep?", "When does it rain?"]


@pytest.fixture(scope="module")
def short(backbone):
    return BiEncoder(backbone, document_length=24)


def tasks():
    right = [[0], [1], [2], [3]]
    return [CorpusTask(QUERIES, DOCUMENTS, right), CandidateTask(QUERIES, [DOCUMENTS] * 4, right)]


@pytest.mark.parametrize("task", tasks())
def test_what_stands_at_the_end_is_found(short, task):
    assert evaluate(short, task, ["MRR"]).metrics["MRR"].mean < 0.5, "the documents are alike: ties count against"
    assert evaluate(short, task, ["MRR"], passages=True).metrics["MRR"].mean == 1


@pytest.mark.parametrize("task", tasks())
def test_the_score_is_that_of_the_best_passage(short, task):
    passages = passages_of(short, DOCUMENTS)
    for query, scores in zip(QUERIES, task_scores(short, task, passages=True), strict=True):
        expected = [max(some) for some in short.score_lists([query] * len(passages), passages)]
        np.testing.assert_allclose(scores, expected, rtol=1e-4, atol=1e-5)
    for with_words, without in zip(
        task_scores(short, task, words=Words(0.5), passages=True), task_scores(short, task, passages=True), strict=True
    ):
        assert (with_words >= without - 1e-6).all()
        assert with_words.shape == (5,)


def test_a_model_that_reads_pairs_is_refused(tiny_backbone):
    with pytest.raises(ModelError, match="reads a query and a document together"):
        evaluate(CrossEncoder(tiny_backbone), tasks()[1], passages=True)
