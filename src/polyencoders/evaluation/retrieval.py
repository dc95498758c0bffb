"""How well a model finds right answers among the documents of an index, by an exact search of all of them.

Right answers need not be in the index: one that is not is ranked as if it were. Knows what an index can be asked, and
sentence-transformers' conventions for evaluators; nothing of training.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sentence_transformers.base.evaluation import BaseEvaluator

from polyencoders.data import Example
from polyencoders.data.examples import right_answers
from polyencoders.errors import DataError
from polyencoders.evaluation.metrics import measure_ranks

DEPTH = 100
"""How far down the index a right answer still counts as found."""

MEASURES = (f"MRR@{DEPTH}", "R@1", "R@10")

_EQUAL = 1e-9
"""Scores that differ by less are a tie: a document's own may be computed in another order."""


class RetrievalEvaluator(BaseEvaluator):
    """Searches an index for the right answers of examples; ties, as everywhere, count against the model.

    Texts that equal a right answer are right answers, under whatever id; examples with the same query are one.

    Parameters
    ----------
    index
        An `Index` that holds at least one document.
    examples
        Queries with their right answers.
    vectors
        Of right answers that are not in the index, by text, as its documents' side makes them.

    Raises
    ------
    DataError
        No examples.

    Attributes
    ----------
    primary_metric
        `MRR@100`.
    """

    def __init__(self, index: Any, examples: Sequence[Example], vectors: Mapping[str, NDArray[np.float32]]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.index = index
        self.primary_metric = MEASURES[0]
        self.right = right_answers(examples)
        if not self.right:
            raise DataError("no queries to evaluate")
        texts = list(dict.fromkeys(text for answers in self.right.values() for text in answers))
        self.vectors = {**vectors, **index.stored(texts)}
        missing = [text for text in texts if text not in self.vectors]
        if missing:
            raise DataError(f"{len(missing)} right answers are neither in the index nor among the vectors given")

    def __call__(
        self, model: Any, output_path: str | None = None, epoch: int = -1, steps: int = -1
    ) -> dict[str, float]:
        """The mean of each measure, by name."""
        return {name: float(values.mean()) for name, values in self.values(model).items()}

    def values(self, model: Any) -> dict[str, NDArray[np.float64]]:
        """Each query's value of each measure, `(q,)`, for a model with the document side of the index's own."""
        queries = [query[0] if len(query) == 1 else list(query) for query in self.right]
        codes = model.encode_query(queries, convert_to_tensor=True, show_progress_bar=False).detach().cpu().double()
        found = self.index.search(codes, k=DEPTH, temperature=getattr(model, "temperature", 1.0))
        ranks = []
        for query_codes, answer, right in zip(codes, found, self.right.values(), strict=True):
            vectors = torch.from_numpy(np.stack([self.vectors[text] for text in right])).double()
            own = model.similarity(query_codes[None], vectors)[0].sort(descending=True).values.numpy()
            wrong = np.array([hit.score for hit in answer if hit.text not in right])
            above = [int(np.count_nonzero(wrong >= score - _EQUAL)) for score in own]
            ranks.append(np.array(above, dtype=np.int64) + np.arange(1, len(own) + 1))
        return measure_ranks(ranks, MEASURES, depth=DEPTH)

    def get_config_dict(self) -> dict[str, Any]:
        """What was measured; what tells one run's validation from another's."""
        return {
            "index": str(self.index.path),
            "version": self.index.version,
            "queries": [[list(query), list(right)] for query, right in self.right.items()],
        }
