"""Cross-entropy over the batch: the other queries' documents are the negatives (Humeau et al. 2020, section 4.2).

For bi- and poly-encoders. Knows embeddings and the identity of texts; what a score is, the model says.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from sentence_transformers.base.losses.gradcache import CachedLossMixin
from sentence_transformers.util import all_gather, all_gather_with_grad, get_rank
from torch import Tensor, nn
from torch.nn import functional


class InBatchCrossEntropy(nn.Module, CachedLossMixin):
    """`-log softmax_j(score(query_i, document_j))_i` over every document of the batch.

    Negatives are the documents of the other queries, and explicit negatives of all queries. Left out are texts that
    equal the right answer, or a right answer of the same query in another row: they are not wrong.

    Columns of the training table: query, positive, and optionally negative_1 to negative_k; no labels.

    Parameters
    ----------
    model
        A `BiEncoder` or `PolyEncoder`.
    mini_batch_size
        Texts encoded at a time, with gradients cached (GradCache, Gao et al. 2021): a batch of any size in the memory
        of a small one, and the same gradients. None: all at once.
    gather_across_devices
        Whether the documents of all processes are negatives.

    Raises
    ------
    ValueError
        When the features lack `text_id`, which `polyencoders.training.DualEncoderTrainer` puts there.
    """

    mini_batch_size: int | None  # type: ignore[assignment]

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
        # Popped, so that mini-batches are cut along tensors of the model's alone.
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
        """The loss from embeddings, by blocks of queries.

        Parameters
        ----------
        reps
            Per column the embeddings of its mini-batches.
        labels
            `(columns, batch)`, the identities of the texts.
        with_backward
            Whether to back-propagate block by block and return the detached loss.
        weight
            What the loss is multiplied by.
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
            not_wrong = torch.isin(pairs, right_pairs)
            not_wrong[row, right] = False
            with torch.autocast(queries.device.type, enabled=False):
                scores = self.similarity(block.float(), documents.float()) * self.scale
                scores = scores.masked_fill(not_wrong, -torch.inf)
                loss = functional.cross_entropy(scores, right, reduction="sum") * (weight / len(queries))
            if with_backward:
                # The documents' graph is a leaf each (GradCache), so blocks can be let go of one by one.
                loss.backward()
                loss = loss.detach()
            total = total + loss
        return total

    def get_config_dict(self) -> dict[str, Any]:
        """The settings, for model cards."""
        return {
            "scale": self.scale,
            "mini_batch_size": self.mini_batch_size,
            "gather_across_devices": self.gather_across_devices,
        }


def _pair_id(query_ids: Tensor, document_ids: Tensor) -> Tensor:
    """A number for a query and a document, as good as unique to them (64 bits, an odd multiplier, overflow wanted)."""
    return query_ids * 6364136223846793005 + document_ids
