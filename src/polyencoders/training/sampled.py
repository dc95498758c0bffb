"""Cross-entropy over one positive and n sampled negatives (Humeau et al. 2020, section 4.3; 15 there).

For cross-encoders and ARC-II, which read every pair: the negatives are explicit ones first, then documents drawn from
the training set. Knows texts; what a score is, the model says.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from sentence_transformers.util import batch_to_device, get_rank
from torch import Tensor, nn
from torch.nn import functional

from polyencoders.data import Example
from polyencoders.data.examples import right_answers
from polyencoders.errors import TrainingError

PAIRS_PER_PASS = 64
"""Pairs of about the same length that are read in one pass, so that little of it is padding."""


class SampledCrossEntropy(nn.Module):
    """`-log softmax_j(score(query, document_j))_0` over the right document and n others.

    Columns of the training table: query, positive, and optionally negative_1 to negative_k; no labels.

    Parameters
    ----------
    model
        A `CrossEncoder`, `WarmCrossEncoder` or `ArcII`.
    examples
        The training set, from whose documents negatives are drawn; never a right one of the query.
    negatives
        n: of the explicit ones the first n, then as many as are missing. Drawn with PyTorch's generator, so that a
        seed, and a resumed run, draw the same.

    Raises
    ------
    TrainingError
        When the training set has too few distinct documents.
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
        most = max((len(answers) for answers in self.right.values()), default=0)
        if len(self.documents) - most < negatives:
            raise TrainingError(
                f"{negatives} negatives a query need at least {negatives + most} distinct documents in the training "
                f"set, which has {len(self.documents)}: ask for fewer negatives, or give more examples"
            )

    def forward(self, inputs: Sequence[Sequence[Any]], labels: Tensor | None = None, **_: Any) -> Tensor:
        queries, positives, *explicit = inputs
        pairs: list[tuple[Any, str]] = []
        # A row draws what it would draw in one process with the whole batch.
        seed = int(torch.randint(1 << 62, ())) + get_rank() * len(queries)
        for row, (query, positive) in enumerate(zip(queries, positives, strict=True)):
            drawing = torch.Generator().manual_seed(seed + row)
            wrong = self._wrong(tuple(query), positive, [column[row] for column in explicit], drawing)
            pairs.extend((query, document) for document in (positive, *wrong))
        scores = self._score(pairs).view(len(queries), -1) * self.scale
        return functional.cross_entropy(scores, torch.zeros(len(queries), dtype=torch.long, device=scores.device))

    def _wrong(self, query: tuple[str, ...], positive: str, explicit: list[str], drawing: torch.Generator) -> list[str]:
        """n documents that do not answer the query: explicit ones first, then drawn ones, none twice."""
        right = {*self.right.get(query, ()), positive}
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
        places = torch.empty(len(order), dtype=torch.long)
        places[torch.tensor(order)] = torch.arange(len(order))
        return torch.cat(scores)[places.to(device)]

    def get_config_dict(self) -> dict[str, Any]:
        """The settings, for model cards."""
        return {"negatives": self.negatives, "scale": self.scale}
