"""Stops sentence-transformers' evaluators that score a poly-encoder's vectors by something else than its score."""

from typing import Any

from sentence_transformers.sentence_transformer.evaluation import RerankingEvaluator, TripletEvaluator
from sentence_transformers.sentence_transformer.model_card import SentenceTransformerModelCardData
from sentence_transformers.util import cos_sim


class PolyEncoderCardData(SentenceTransformerModelCardData):
    """Receives the figures of every evaluator: the one place where a model sees them all."""

    def set_evaluation_metrics(self, evaluator: Any, metrics: dict[str, Any], epoch: int = 0, step: int = 0) -> None:
        """Take the figures of an evaluator that used the model's score.

        Raises a `ValueError` for one that cannot use it (`TripletEvaluator`), or that was not told to
        (`RerankingEvaluator`, whose default is cosine).
        """
        if isinstance(evaluator, TripletEvaluator):
            raise ValueError(
                "TripletEvaluator knows cosine, dot, euclidean and manhattan, and a poly-encoder's score is none of "
                "them; polyencoders.training.evaluators.RankingEvaluator ranks by the model's own"
            )
        if isinstance(evaluator, RerankingEvaluator) and evaluator.similarity_fct is cos_sim:
            raise ValueError(
                "RerankingEvaluator scored by cosine, which is not a poly-encoder's score: "
                "give it similarity_fct=model.similarity"
            )
        super().set_evaluation_metrics(evaluator, metrics, epoch, step)
