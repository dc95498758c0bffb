"""The entropy of documents' attention over a poly-encoder's codes: low where documents tell the codes apart."""

import math
from typing import Any

from polyencoders.encoders import distinct
from polyencoders.encoders.protocols import reads_queries
from polyencoders.evaluation.tasks import CandidateTask
from polyencoders.scoring import attention_entropy, present_codes

QUERIES = 100
"""At most so many queries are used. A mean over some thousands of pairs is known to a hundredth."""


def attention(model: Any, task: CandidateTask) -> tuple[float, float] | None:
    """Return the mean entropy of `w = softmax(s / temperature)` over the pairs of a task, and its maximum, in nats.

    The maximum is the entropy if all codes weighed the same. None: the model is no poly-encoder.
    """
    if not reads_queries(model):
        return None
    queries, lists = list(task.queries[:QUERIES]), task.documents[:QUERIES]
    texts, places = distinct([text for documents in lists for text in documents])
    codes, vectors = model.encode_queries(queries), model.encode_documents(texts, bf16=False)
    entropy = uniform = 0.0
    start = 0
    for query_codes, documents in zip(codes, lists, strict=True):
        chosen = vectors[places[start : start + len(documents)]]
        start += len(documents)
        entropy += len(documents) * float(attention_entropy(query_codes[None], chosen, model.temperature))
        uniform += len(documents) * math.log(max(1, int(present_codes(query_codes).sum())))
    return entropy / start, uniform / start
