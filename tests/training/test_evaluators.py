"""The evaluator for trainers: names, files and the model card as sentence-transformers has them."""

import csv
import json

import numpy as np
import pytest
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.evaluation import BaseEvaluator, SequentialEvaluator
from sentence_transformers.sentence_transformer.modules import StaticEmbedding
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace

from polyencoders.data import Example
from polyencoders.errors import PolyencodersError
from polyencoders.evaluation import CandidateTask, whole_corpus
from polyencoders.training.evaluators import RankingEvaluator

TASK = CandidateTask(["a", "b"], [["x", "y"]] * 2, [[0], [1]])


class XFirst:
    """Scores x above y, for every query."""

    def score_lists(self, queries, documents, *, batch_size=32, show_progress_bar=False):
        return [np.array([{"x": 2.0, "y": 1.0}[text] for text in texts]) for texts in documents]


@pytest.fixture
def model():
    return XFirst()


def test_metrics_and_history(model, tmp_path):
    evaluator = RankingEvaluator(TASK)
    assert isinstance(evaluator, BaseEvaluator)
    assert evaluator.greater_is_better
    assert evaluator(model, tmp_path / "eval", epoch=0.5, steps=10) == {"R@1/2": 0.5, "MRR": 0.75}
    evaluator(model, str(tmp_path / "eval"), epoch=1, steps=20)
    assert evaluator.primary_metric == "R@1/2"
    with (tmp_path / "eval" / "RankingEvaluator_results.csv").open(newline="") as file:
        assert list(csv.reader(file)) == [
            ["epoch", "steps", "R@1/2", "MRR"],
            ["0.5", "10", "0.5", "0.75"],
            ["1", "20", "0.5", "0.75"],
        ]


def test_name_and_measures(model, tmp_path):
    evaluator = RankingEvaluator(TASK, name="mine", measures=["nDCG@10", "R@2"], write_csv=False)
    assert evaluator.primary_metric == "mine_nDCG@10", "known before the first call"
    metrics = evaluator(model, tmp_path)
    assert list(metrics) == ["mine_nDCG@10", "mine_R@2/2"]
    assert evaluator.primary_metric == "mine_nDCG@10"
    assert not list(tmp_path.iterdir())
    with pytest.raises(PolyencodersError, match="unknown measure"):
        RankingEvaluator(TASK, measures=["R@1/2"])


def test_several_in_sequence(model):
    both = SequentialEvaluator([RankingEvaluator(TASK, name="one"), RankingEvaluator(TASK, name="two")])
    assert both(model)["sequential_score"] == 0.5


def test_with_a_real_model_and_its_card(tmp_path):
    tokenizer = Tokenizer(WordLevel({"[UNK]": 0, "tea": 1, "milk": 2}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = Whitespace()
    model = SentenceTransformer(modules=[StaticEmbedding(tokenizer, embedding_dim=8)], device="cpu")
    task = whole_corpus([Example("tea", "tea please"), Example("milk", "milk please")])
    metrics = RankingEvaluator(task, name="drinks")(model, epoch=1, steps=5)
    assert list(metrics) == ["drinks_R@1/2", "drinks_MRR"]
    model.save_pretrained(str(tmp_path))
    card = (tmp_path / "README.md").read_text()
    assert "R@1/2" in card
    assert json.dumps("whole corpus") in card
