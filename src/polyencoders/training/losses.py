"""The losses: cross-entropy over the batch or over sampled negatives, and distillation from a teacher's scores."""

import logging
from collections.abc import Iterable, Sequence
from functools import cache
from typing import Any

import torch
from sentence_transformers.base.losses.gradcache import CachedLossMixin
from sentence_transformers.sentence_transformer.losses import DistillKLDivLoss, MarginMSELoss
from sentence_transformers.util import all_gather, all_gather_with_grad, batch_to_device, get_rank
from torch import Tensor, nn
from torch.nn import functional

from polyencoders.data import Example
from polyencoders.data.examples import right_answers
from polyencoders.errors import TrainingError
from polyencoders.training.collator import text_id
from polyencoders.training.options import Distillation

logger = logging.getLogger(__name__)

PAIRS_PER_PASS = 64
"""Pairs of like length that `SampledCrossEntropy` reads in one pass, so that little of it is padding."""

NO_TEXT = text_id("")  # In the place of a negative where an example has fewer than another


class InBatchCrossEntropy(nn.Module, CachedLossMixin):
    """`-log softmax_j(score(query_i, document_j))_i` over the batch's documents (Humeau et al. 2020, section 4.2).

    Negatives are the other queries' documents and the explicit negatives of all queries. Left out are texts that equal
    the right answer or a right answer of the same query in another row, because they are not wrong; and empty texts,
    which stand where an example has fewer negatives than another.

    Columns of the training table: query, positive, and optionally negative_1 to negative_k; no labels.

    Parameters
    ----------
    model
        A `BiEncoder` or `PolyEncoder`.
    mini_batch_size
        Texts encoded at a time, with cached gradients (GradCache, Gao et al. 2021): large batches need little memory,
        and the gradients are the same. None: all at once.
    gather_across_devices
        Whether the documents of all processes are negatives.

    Raises
    ------
    ValueError
        The features lack `text_id`, which `polyencoders.training.DualEncoderTrainer` adds.
    """

    mini_batch_size: int | None  # type: ignore[assignment]
    packs_negatives = True  # Whose negative a text is does not matter: all columns but the first two may be mixed

    def __init__(self, model: Any, mini_batch_size: int | None = None, gather_across_devices: bool = False) -> None:
        super().__init__()
        self.model = model
        # Under DDP `self.model` becomes the wrapper, which has neither.
        self.similarity = model.similarity
        self.scale = float(model.score_scale)
        self.mini_batch_size = mini_batch_size
        self.uses_gradient_cache = mini_batch_size is not None
        self.gather_across_devices = gather_across_devices

    def forward(self, sentence_features: Iterable[dict[str, Any]], labels: Tensor | None = None) -> Tensor:
        features = list(sentence_features)
        if len(features) < 2:
            raise ValueError(f"expected the columns query and positive, and optional negatives; got {len(features)}")
        if any("text_id" not in column for column in features):
            raise ValueError("the features carry no text_id: train with polyencoders.training.DualEncoderTrainer")
        # Removed from the features, so that mini-batches are cut along the model's own tensors.
        ids = torch.stack([column.pop("text_id") for column in features])
        if self.mini_batch_size is not None:
            return self.forward_cached(features, ids)
        return self.calculate_loss([[self.model(column)["sentence_embedding"]] for column in features], ids)

    def calculate_loss(
        self,
        reps: list[list[Tensor]],
        labels: Tensor | None = None,
        *,
        with_backward: bool = False,
        weight: float = 1.0,
    ) -> Tensor:
        """Returns the loss times `weight`, computed from embeddings by blocks of queries.

        `reps` has the embeddings of each column's mini-batches, and `labels` `(columns, batch)` the texts' identities.
        With `with_backward`, gradients are computed block by block, and the loss is detached.
        """
        assert labels is not None
        queries, columns = torch.cat(reps[0]), [torch.cat(column) for column in reps[1:]]
        query_ids, document_ids = labels[0], list(labels[1:])
        right_pairs = _pair_id(query_ids, document_ids[0])
        offset = 0
        if self.gather_across_devices:
            offset = get_rank() * len(queries)
            columns = [all_gather_with_grad(column) for column in columns]
            document_ids = [all_gather(ids) for ids in document_ids]
            right_pairs = all_gather(right_pairs)
        documents, ids = torch.cat(columns), torch.cat(document_ids)
        rows = self.mini_batch_size or len(queries)
        total = torch.zeros((), device=queries.device)
        for start in range(0, len(queries), rows):
            block = queries[start : start + rows]
            row = torch.arange(len(block), device=queries.device)
            right = row + start + offset
            pairs = _pair_id(query_ids[start : start + rows, None], ids[None, :])
            not_wrong = torch.isin(pairs, right_pairs) | (ids == NO_TEXT)[None, :]
            not_wrong[row, right] = False
            with torch.autocast(queries.device.type, enabled=False):
                scores = self.similarity(block.float(), documents.float()) * self.scale
                scores = scores.masked_fill(not_wrong, -torch.inf)
                loss = functional.cross_entropy(scores, right, reduction="sum") * (weight / len(queries))
            if with_backward:
                # GradCache makes each document a leaf of the graph, so blocks can be freed one by one.
                loss.backward()
                loss = loss.detach()
            total = total + loss
        return total

    def get_config_dict(self) -> dict[str, Any]:
        """Returns the settings, for model cards."""
        return {name: getattr(self, name) for name in ("scale", "mini_batch_size", "gather_across_devices")}


class DistillationLoss(InBatchCrossEntropy):
    """`kl KL + margin_mse MarginMSE + cross_entropy CE`, where CE is `InBatchCrossEntropy`.

    `s_ij` is the model's score of query i and document j of its list, `t_ij` the teacher's; j = 0 is the right answer:

        MarginMSE = mean_ij ((s_i0 - s_ij) - (t_i0 - t_ij))^2           (Hofstätter et al. 2020, arXiv 2010.02666)
        KL        = T^2 mean_i sum_j p_ij log(p_ij / q_ij)              (RocketQAv2: Ren et al. 2021, arXiv 2110.07367)
                    p_i = softmax_j(t_ij / T),  q_i = softmax_j(s_ij / T)

    T is 1 there; T^2 keeps the size of the gradients for another T (Hinton et al. 2015, arXiv 1503.02531).

    The teacher judges the negatives of a list, so the cross-entropy leaves them out. Its negatives are the other
    queries' right answers and columns beyond the list, which are mined during training.

    Columns of the training table: query, positive, negative_1 to negative_k, and `label`: the teacher's scores of the
    k + 1 documents.

    Parameters
    ----------
    model
        A `BiEncoder` or `PolyEncoder`.
    options
        The weights of the losses, and the temperature.
    mini_batch_size, gather_across_devices
        As for `InBatchCrossEntropy`; lists are never gathered.

    Raises
    ------
    ValueError
        `label` is missing, or does not fit the columns.
    """

    packs_negatives = False  # The teacher's scores are of a row's own list

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
            return pairwise(queries, documents) * self.scale

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
        """Returns the loss from embeddings; see `InBatchCrossEntropy.calculate_loss`."""
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
            for factor, loss in ((self.options.kl, self.kl), (self.options.margin_mse, self.margin_mse)):
                if factor:
                    computed = loss.compute_loss_from_embeddings(columns, self._teacher.float())
                    learnt = learnt + weight * factor * computed
        if with_backward:
            learnt.backward()
            learnt = learnt.detach()
        return total + learnt

    def get_config_dict(self) -> dict[str, Any]:
        """Returns the settings, for model cards."""
        names = ("kl", "margin_mse", "cross_entropy", "temperature")
        return {**super().get_config_dict(), **{name: getattr(self.options, name) for name in names}}


class SampledCrossEntropy(nn.Module):
    """`-log softmax_j(score(query, document_j))_0` over the right document and n others, for models that read pairs.

    Humeau et al. 2020, section 4.3, with n = 15 there.

    Columns of the training table: query, positive, and optionally negative_1 to negative_k; no labels.

    Parameters
    ----------
    model
        A `CrossEncoder`, `WarmCrossEncoder`, `OneWayCrossEncoder` or `ArcII`.
    examples
        The training set. Negatives are drawn from its documents, never a right one of the query.
    negatives
        n, or as many as every query has, which a warning says. Explicit negatives come first, those of the columns,
        and drawn ones fill up. They are drawn with PyTorch's generator, so that a seed or a resumed run draws the same.

    Raises
    ------
    TrainingError
        `negatives` is below 1, or a query has no wrong document.
    """

    def __init__(self, model: Any, examples: Sequence[Example], negatives: int = 15) -> None:
        super().__init__()
        if negatives < 1:
            raise TrainingError(f"negatives must be at least 1, got {negatives}")
        self.model = model
        self.preprocess = model.preprocess
        self.scale = float(model.score_scale)
        self.negatives = negatives
        self.documents = list(dict.fromkeys(text for example in examples for text in example.positives))
        self.right = right_answers(examples)
        there = len(self.documents) - max((len(answers) for answers in self.right.values()), default=0)
        if there < 1:
            raise TrainingError(
                "a model that reads pairs learns from wrong documents too, which are other queries' right answers: "
                f"{len(self.documents)} distinct ones are too few, give more examples"
            )
        if there < negatives:
            _say_fewer(negatives, there, len(self.documents))
            self.negatives = there

    def forward(self, inputs: Sequence[Sequence[Any]], labels: Tensor | None = None, **_: Any) -> Tensor:
        queries, positives, *explicit = inputs
        pairs: list[tuple[Any, str]] = []
        # Each row draws what it would draw in one process with the whole batch.
        seed = int(torch.randint(1 << 62, ())) + get_rank() * len(queries)
        for row, (query, positive) in enumerate(zip(queries, positives, strict=True)):
            drawing = torch.Generator().manual_seed(seed + row)
            wrong = self._wrong(tuple(query), positive, [column[row] for column in explicit], drawing)
            pairs.extend((query, document) for document in (positive, *wrong))
        scores = self._score(pairs).view(len(queries), -1) * self.scale
        return functional.cross_entropy(scores, torch.zeros(len(queries), dtype=torch.long, device=scores.device))

    def _wrong(self, query: tuple[str, ...], positive: str, explicit: list[str], drawing: torch.Generator) -> list[str]:
        """Returns n distinct documents that do not answer the query: explicit ones first, then drawn ones."""
        right = {*self.right.get(query, ()), positive, ""}
        wrong = [text for text in dict.fromkeys(explicit) if text not in right][: self.negatives]
        excluded = {*right, *wrong}
        while len(wrong) < self.negatives:
            document = self.documents[int(torch.randint(len(self.documents), (), generator=drawing))]
            if document not in excluded:
                excluded.add(document)
                wrong.append(document)
        return wrong

    def _score(self, pairs: list[tuple[Any, str]]) -> Tensor:
        order = sorted(range(len(pairs)), key=lambda i: sum(map(len, pairs[i][0])) + len(pairs[i][1]))
        device = next(self.model.parameters()).device
        scores = []
        for start in range(0, len(order), PAIRS_PER_PASS):
            features = self.preprocess([pairs[i] for i in order[start : start + PAIRS_PER_PASS]])
            scores.append(self.model(batch_to_device(features, device))["scores"].flatten().float())
        return torch.cat(scores)[torch.tensor(order).argsort().to(device)]

    def get_config_dict(self) -> dict[str, Any]:
        """Returns the settings, for model cards."""
        return {"negatives": self.negatives, "scale": self.scale}


@cache  # Each fold and each learning rate would say it again
def _say_fewer(asked: int, there: int, documents: int) -> None:
    logger.warning(
        "%d negatives a query are too many for the %d distinct right answers of the training set: %d are drawn",
        *(asked, documents, there),
    )


def _pair_id(query_ids: Tensor, document_ids: Tensor) -> Tensor:
    """Returns a hash (64 bits) of a query and a document: an odd multiplier, and overflow."""
    return query_ids * 6364136223846793005 + document_ids
