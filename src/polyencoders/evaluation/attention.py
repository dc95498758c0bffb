"""Whether a poly-encoder's codes are told apart: the entropy of the documents' attention over them, on a ranking task.

Knows tasks and models; what the entropy is, scoring says.
"""

from __future__ import annotations

import math
from typing import Any

from polyencoders.evaluation.protocols import CandidateTask
from polyencoders.models.poly_encoder import PolyEncoder
from polyencoders.models.ranking import distinct
from polyencoders.scoring import attention_entropy, present_codes

QUERIES = 100
"""Of a task, the first of them, at most: a mean over some thousands of pairs is known to a hundredth."""


def attention(model: Any, task: CandidateTask) -> tuple[float, float] | None:
    """The mean entropy of `w = softmax(s / temperature)` over the pairs of the lists, and `log m`, its highest; nats.

    Parameters
    ----------
    model
        Any; None is returned for all but poly-encoders.
    task
        Queries with lists of documents.

    Returns
    -------
    tuple of float, or None
        The entropy, and what it would be were all codes attended to alike.
    """
    if not isinstance(model, PolyEncoder):
        return None
    queries, lists = list(task.queries[:QUERIES]), task.documents[:QUERIES]
    texts, places = distinct([text for documents in lists for text in documents])
    codes = model.encode_query(queries, convert_to_tensor=True, show_progress_bar=False)
    vectors = model.encode_document(texts, convert_to_tensor=True, show_progress_bar=False)
    entropy = uniform = 0.0
    start = 0
    for query_codes, documents in zip(codes, lists, strict=True):
        chosen = vectors[places[start : start + len(documents)]]
        start += len(documents)
        entropy += len(documents) * float(attention_entropy(query_codes[None], chosen, model.temperature))
        uniform += len(documents) * math.log(max(1, int(present_codes(query_codes).sum())))
    return entropy / start, uniform / start
