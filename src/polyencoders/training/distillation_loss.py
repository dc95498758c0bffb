"""What a model learns from a teacher's scores: margins (MarginMSE) and lists (KL), beside the cross-entropy.

With `s_ij` the model's score of query i and document j of its list, `t_ij` the teacher's, and j = 0 the right answer:

    MarginMSE = mean_ij ((s_i0 - s_ij) - (t_i0 - t_ij))^2                   (Hofstätter et al. 2020, arXiv 2010.02666)
    KL        = T^2 mean_i sum_j p_ij log(p_ij / q_ij)                      (RocketQAv2: Ren et al. 2021, 2110.07367)
                p_i = softmax_j(t_ij / T),  q_i = softmax_j(s_ij / T)

T is 1 there; T^2 keeps the gradients' size where it is not (Hinton et al. 2015, arXiv 1503.02531). Both are
sentence-transformers' own, told what a score is. Knows embeddings, scores and the cross-entropy over the batch.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from sentence_transformers.sentence_transformer.losses import DistillKLDivLoss, MarginMSELoss
from torch import Tensor

from polyencoders.training.in_batch import InBatchCrossEntropy
from polyencoders.training.options import Distillation


class DistillationLoss(InBatchCrossEntropy):
    """`kl KL + margin_mse MarginMSE + cross_entropy CE`.

    The negatives of a list are judged by the teacher and are none of the cross-entropy's, which knows right answers of
    other queries alone, and columns beyond the list (mined anew while training).

    Columns of the training table: query, positive, negative_1 to negative_k, and `label`: the teacher's scores of the
    k + 1 documents.

    Parameters
    ----------
    model
        A `BiEncoder` or `PolyEncoder`.
    options
        The weights, and the temperature.
    mini_batch_size, gather_across_devices
        As for `InBatchCrossEntropy`; the lists are each process's own.

    Raises
    ------
    ValueError
        There is no `label`, or it does not fit the columns.
    """

    def __init__(
        self,
        model: Any,
        options: Distillation,
        mini_batch_size: int | None = None,
        gather_across_devices: bool = False,
    ) -> None:
        super().__init__(model, mini_batch_size, gather_across_devices)
        self.options = options
        pairwise = model.similarity_pairwise

        def score(queries: Tensor, documents: Tensor) -> Tensor:
            scores: Tensor = pairwise(queries, documents) * self.scale
            return scores

        self.margin_mse = MarginMSELoss(model, similarity_fct=score)
        self.kl = DistillKLDivLoss(model, similarity_fct=score, temperature=options.temperature)
        self._teacher: Tensor | None = None

    def forward(self, sentence_features: Iterable[dict[str, Any]], labels: Tensor | None = None) -> Tensor:
        features = list(sentence_features)
        if labels is None or labels.ndim != 2 or labels.shape[1] > len(features) - 1:
            raise ValueError(
                f"expected a teacher's scores (b, k + 1) as label beside {len(features)} columns, got "
                f"{'none' if labels is None else tuple(labels.shape)}"
            )
        self._teacher = labels
        return super().forward(features)

    def calculate_loss(
        self,
        reps: list[list[Tensor]],
        labels: Tensor | None = None,
        *,
        with_backward: bool = False,
        weight: float = 1.0,
    ) -> Tensor:
        """The loss from embeddings; see `InBatchCrossEntropy.calculate_loss`."""
        assert labels is not None
        assert self._teacher is not None
        listed = self._teacher.shape[1]
        total = torch.zeros((), device=self._teacher.device)
        if self.options.cross_entropy:
            others = [0, 1, *range(1 + listed, len(reps))]
            total = total + super().calculate_loss(
                [reps[column] for column in others],
                labels[others],
                with_backward=with_backward,
                weight=weight * self.options.cross_entropy,
            )
        columns = [torch.cat(column).float() for column in reps[: 1 + listed]]
        learnt = torch.zeros((), device=self._teacher.device)
        with torch.autocast(columns[0].device.type, enabled=False):
            for share, loss in ((self.options.kl, self.kl), (self.options.margin_mse, self.margin_mse)):
                if share:
                    scores = loss.compute_loss_from_embeddings(columns, self._teacher.float())
                    learnt = learnt + weight * share * scores
        if with_backward:
            learnt.backward()
            learnt = learnt.detach()
        return total + learnt

    def get_config_dict(self) -> dict[str, Any]:
        """The settings, for model cards."""
        names = ("kl", "margin_mse", "cross_entropy", "temperature")
        return {**super().get_config_dict(), **{name: getattr(self.options, name) for name in names}}
