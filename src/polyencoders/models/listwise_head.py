"""A listwise head: a shallow transformer over a query's codes and the vectors of its documents, which see each other.

CMC, *Comparing Multiple Candidates* (Song et al., EMNLP 2024, arXiv 2405.12801), reads one query vector and the vectors
of K candidates together; here a query has m codes. Knows vectors and the score; nothing of text or of a base model.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from polyencoders.models.checks import check_whole_number
from polyencoders.scoring import attend, code_weights, present_codes

HEAD_WIDTH = 64
"""Width of an attention head, where the width can be divided by it."""


class ListwiseHead(nn.Module):
    """Scores of the documents of a list, each read beside the query's codes and the other documents.

    With codes `y_1..y_m`, documents `c_1..c_n` and the base's score `f_j = sum_i w_ij (y_i . c_j)`, whose attended
    codes are `z_j = sum_i w_ij y_i` (Humeau et al. 2020, equation 2), and N a layer normalisation:

        u_i = A N(y_i) + a                                          a query token for every code
        v_j = B N(c_j) + b + P (N(z_j) * N(c_j)) + r(f_j)           a document token; * is elementwise
        (u', v') = Transformer(u_1..u_m, v_1..v_n)                  every token sees every other
        score_j = f_j + (o . N(v'_j)) / scale

    The biases `a` and `b` tell queries from documents. There are no positions: documents in another order get the same
    scores in that order. `o` starts as zeros, so that a new head's scores are the base's to the last bit.

    Parameters
    ----------
    dimension
        d, of the vectors.
    temperature
        Of the base's softmax over the codes.
    scale
        What scores are multiplied by in a loss, as `score_scale` of the base says.
    layers
        Of the transformer.
    width
        Of its tokens; default d.
    dropout
        While it is trained.

    Raises
    ------
    ModelError
        A size is not a whole number of at least 1.

    Examples
    --------
    >>> head = ListwiseHead(4, width=8)
    >>> head(torch.eye(4)[None, :2], torch.eye(4)[None, :3]).shape
    torch.Size([1, 3])
    """

    def __init__(
        self,
        dimension: int,
        *,
        temperature: float = 1.0,
        scale: float = 1.0,
        layers: int = 2,
        width: int | None = None,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        self.dimension = check_whole_number("dimension", dimension)
        self.temperature = float(temperature)
        self.scale = float(scale)
        self.width = check_whole_number("width", dimension if width is None else width)
        self.dropout = float(dropout)
        self.query = nn.Linear(dimension, self.width)
        self.document = nn.Linear(dimension, self.width)
        self.product = nn.Linear(dimension, self.width, bias=False)
        self.standing = nn.Linear(2, self.width, bias=False)
        number = check_whole_number("layers", layers)
        self.layers = nn.ModuleList([_Layer(self.width, self.dropout) for _ in range(number)])
        self.norm = nn.LayerNorm(self.width)
        self.output = nn.Linear(self.width, 1, bias=False)
        nn.init.zeros_(self.output.weight)

    @property
    def settings(self) -> dict[str, Any]:
        """What `ListwiseHead(**settings)` makes another one of the same shape from."""
        return {
            "dimension": self.dimension,
            "temperature": self.temperature,
            "scale": self.scale,
            "layers": len(self.layers),
            "width": self.width,
            "dropout": self.dropout,
        }

    def extra_repr(self) -> str:
        """The settings, for `repr`."""
        return ", ".join(f"{name}={value!r}" for name, value in self.settings.items())

    def forward(self, codes: Tensor, documents: Tensor, present: Tensor | None = None) -> Tensor:
        """Scores of the documents of each list.

        Parameters
        ----------
        codes
            `(q, m, d)`; a code of zeros is absent.
        documents
            `(q, n, d)`: a list for each query.
        present
            `(q, n)`, false where a shorter list was filled up; what stands there changes no score. Default: all.

        Returns
        -------
        Tensor
            `(q, n)`; `-inf` where nothing is present.

        Raises
        ------
        ValueError
            The shapes do not fit.
        """
        weights, scores = self._base(codes, documents)
        change = self._change(codes, documents, weights, scores, present)
        scores = scores + change
        return scores if present is None else scores.masked_fill(~present, -torch.inf)

    def change(self, codes: Tensor, documents: Tensor, present: Tensor | None = None) -> Tensor:
        """What the head adds to the base's scores, `(q, n)`; arguments as of `forward`."""
        return self._change(codes, documents, *self._base(codes, documents), present)

    def _base(self, codes: Tensor, documents: Tensor) -> tuple[Tensor, Tensor]:
        """The weights of the codes `(q, n, m)`, and the base's scores `(q, n)`."""
        if codes.ndim != 3 or documents.ndim != 3 or codes.shape[0] != documents.shape[0]:
            raise ValueError(
                "expected query codes (q, m, d) and documents (q, n, d), a list for each query, "
                f"got {tuple(codes.shape)} and {tuple(documents.shape)}"
            )
        if {codes.shape[2], documents.shape[2]} != {self.dimension}:
            raise ValueError(
                f"expected vectors of {self.dimension} dimensions, got {codes.shape[2]} and {documents.shape[2]}"
            )
        products = documents @ codes.transpose(1, 2)
        here = present_codes(codes)[:, None, :]
        return code_weights(products, here, self.temperature), attend(products, here, self.temperature)

    def _change(
        self, codes: Tensor, documents: Tensor, weights: Tensor, scores: Tensor, present: Tensor | None
    ) -> Tensor:
        if present is None:
            present = documents.new_ones(documents.shape[:2], dtype=torch.bool)
        query, document = _normal(codes), _normal(documents)
        # How far behind the best of the list, as a softmax over it sees it. (What fills up may be far ahead: inf * 0.)
        behind = self.scale * (scores - scores.masked_fill(~present, -torch.inf).amax(1, keepdim=True))
        behind = behind.clamp(max=0)
        standing = torch.stack([behind / 5, behind.exp()], dim=-1)
        tokens = torch.cat(
            [
                self.query(query),
                self.document(document) + self.product(_normal(weights @ codes) * document) + self.standing(standing),
            ],
            dim=1,
        )
        tokens = functional.dropout(tokens, self.dropout, self.training)
        seen = torch.cat([present_codes(codes), present], dim=1)[:, None, None, :]
        for layer in self.layers:
            tokens = layer(tokens, seen)
        return self.output(self.norm(tokens[:, codes.shape[1] :]))[..., 0] / self.scale


class _Layer(nn.Module):
    """A transformer layer, normalised first: `x + attention(N(x))`, then `x + W2 gelu(W1 N(x))` of twice the width."""

    def __init__(self, width: int, dropout: float) -> None:
        super().__init__()
        self.heads = width // HEAD_WIDTH if width % HEAD_WIDTH == 0 else 1
        self.attention_norm, self.feed_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.query_key_value = nn.Linear(width, 3 * width)
        self.mixed = nn.Linear(width, width)
        self.feed = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))
        self.dropout = nn.Dropout(dropout)

    def forward(self, tokens: Tensor, seen: Tensor) -> Tensor:
        """Tokens `(b, t, w)` to tokens; `seen (b, 1, 1, t)` is false for those that nobody may attend to."""
        b, t, w = tokens.shape
        parts = self.query_key_value(self.attention_norm(tokens)).view(b, t, 3, self.heads, w // self.heads)
        query, key, value = parts.permute(2, 0, 3, 1, 4)
        mixed = functional.scaled_dot_product_attention(query, key, value, attn_mask=seen)
        tokens = tokens + self.dropout(self.mixed(mixed.transpose(1, 2).reshape(b, t, w)))
        return tokens + self.dropout(self.feed(self.feed_norm(tokens)))


def _normal(vectors: Tensor) -> Tensor:
    """To mean 0 and variance 1 over the dimensions, whatever length the base's vectors have."""
    return functional.layer_norm(vectors, vectors.shape[-1:])
