"""Texts to token ids by `tokenizers` alone, as transformers' fast tokenisers make them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tokenizers import Encoding, Tokenizer

from polyencoders.encoders.protocols import Token
from polyencoders.errors import ModelError


class Tokens:
    """A tokeniser that cuts and pads only when told to. Any thread may use it.

    Called as transformers' tokenisers are, it gives the ids of one text, which is all that `encoders.queries` asks.
    """

    def __init__(self, file: Path, padding: int) -> None:
        try:
            self.tokenizer = Tokenizer.from_file(str(file))
        except Exception as error:  # the package raises Exception itself
            raise ModelError(f"{file} is damaged, or of a later version of tokenizers ({error})") from error
        self.tokenizer.no_padding()
        self.tokenizer.no_truncation()
        self.padding = padding
        unknown = getattr(self.tokenizer.model, "unk_token", None)
        added = self.tokenizer.get_added_tokens_decoder().items()
        self.special = {id for id, token in added if token.special and token.content != unknown}
        """Ids of tokens such as `[SEP]` that stand for no word."""

    def __call__(self, text: str, *, add_special_tokens: bool = True, **ignored: Any) -> dict[str, list[int]]:
        """Return `{"input_ids": [...]}` for one text."""
        return {"input_ids": self.tokenizer.encode(text, add_special_tokens=add_special_tokens).ids}

    def num_special_tokens_to_add(self, pair: bool) -> int:
        """Count the special tokens that are added to a text, or to a pair."""
        return int(self.tokenizer.num_special_tokens_to_add(pair))

    def encode(self, texts: Sequence[Any], longest: int | None) -> list[Encoding]:
        """Tokenise texts, or pairs of texts, special tokens included.

        A text that is too long loses its end; of a pair the longer text is cut first.
        """
        encoded = self.tokenizer.encode_batch(list(texts))
        if longest is None or all(len(one) <= longest for one in encoded):
            return list(encoded)
        cutting = Tokenizer.from_str(self.tokenizer.to_str())
        cutting.enable_truncation(longest)
        return [
            cutting.encode(*([text] if isinstance(text, str) else text)) if len(one) > longest else one
            for text, one in zip(texts, encoded, strict=True)
        ]

    def count(self, texts: Sequence[str], longest: int | None) -> list[int]:
        """Count the tokens of texts, special tokens included, up to the longest that is read."""
        found = [len(one) for one in self.tokenizer.encode_batch(list(texts))]
        return found if longest is None else [min(number, longest) for number in found]

    def of(self, texts: Sequence[str]) -> list[list[Token]]:
        """Return all tokens of each text, special ones included."""
        return [
            [
                Token(id, name if id in self.special else text[start:end], start, end, id in self.special)
                for id, name, (start, end) in zip(one.ids, one.tokens, one.offsets, strict=True)
            ]
            for text, one in zip(texts, self.tokenizer.encode_batch(list(texts)), strict=True)
        ]

    def padded(self, rows: Sequence[Sequence[int]], value: int | None = None) -> NDArray[np.int64]:
        """Return `(b, t)` ids, filled up on the right."""
        out = np.full((len(rows), max(map(len, rows))), self.padding if value is None else value, dtype=np.int64)
        for row, ids in zip(out, rows, strict=True):
            row[: len(ids)] = ids
        return out
