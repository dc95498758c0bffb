"""ARC-II, a convolutional interaction model (Hu et al., NIPS 2014, section 3.2): a small historical baseline.

Of a backbone it takes the tokeniser and the token embeddings, and no layers.
"""

import os
from collections.abc import Mapping, Sequence
from typing import Any, Self

import torch
from sentence_transformers.base.modules import InputModule
from torch import Tensor, nn
from transformers import AutoModel, AutoTokenizer

from polyencoders.checks import check_whole_number
from polyencoders.models.base import settings_among
from polyencoders.models.directory import hub_arguments, transformers_arguments
from polyencoders.models.joint import JointEncoder


class ConvolutionalInteraction(InputModule):
    """Scores pairs of texts.

    With `x_i` and `y_j` the windows of `window` embeddings at place i of the query and j of the document:

        z1_ij = g_ij relu(W [x_i; y_j] + b)         g_ij = 0 where a window holds only padding
        z2    = max-pool 2x2 (z1)
        z3    = max-pool 2x2 (relu(conv 3x3 (z2)))
        score = MLP(z3)

    Texts are padded or cut to fixed lengths, so a score depends on its pair alone. The query keeps its newest tokens,
    the document its first.
    """

    config_keys: list[str] = [  # noqa: RUF012 as in the base class
        "vocabulary", "embedding_dimension", "query_length", "document_length", "channels", "hidden", "window"
    ]  # fmt: skip
    save_in_root = True

    def __init__(
        self,
        vocabulary: int,
        embedding_dimension: int,
        query_length: int = 64,
        document_length: int = 32,
        channels: int = 64,
        hidden: int = 128,
        window: int = 3,
        tokenizer: Any = None,
    ) -> None:
        super().__init__()
        for name, length in (("query_length", query_length), ("document_length", document_length)):
            check_whole_number(name, length, at_least=16)
        self.vocabulary = vocabulary
        self.embedding_dimension = embedding_dimension
        self.query_length = query_length
        self.document_length = document_length
        self.channels = channels
        self.hidden = hidden
        self.window = window
        self.tokenizer = tokenizer
        self.embeddings = nn.Embedding(vocabulary, embedding_dimension)
        # W [x_i; y_j] = W_x x_i + W_y y_j: a convolution over each text, and every pair of places added.
        self.query_windows = nn.Conv1d(embedding_dimension, channels, window)
        self.document_windows = nn.Conv1d(embedding_dimension, channels, window, bias=False)
        self.convolution = nn.Conv2d(channels, channels, 3)
        # Windows, halved by pooling, less the 3x3 convolution's border, halved again.
        places = [((length - window + 1) // 2 - 2) // 2 for length in (query_length, document_length)]
        self.mlp = nn.Sequential(
            nn.Flatten(), nn.Linear(channels * places[0] * places[1], hidden), nn.ReLU(), nn.Linear(hidden, 1)
        )

    def preprocess(self, inputs: Sequence[Any], prompt: str | None = None, **kwargs: Any) -> dict[str, Tensor]:
        """Turn pairs of texts into token ids of fixed lengths."""
        queries = [f"{prompt or ''}{query}" for query, _ in inputs]
        query_ids = [ids[-self.query_length :] for ids in self._ids(queries)]
        document_ids = [ids[: self.document_length] for ids in self._ids([document for _, document in inputs])]
        query, query_mask = _padded(query_ids, self.query_length)
        document, document_mask = _padded(document_ids, self.document_length)
        names = ("query_ids", "query_mask", "document_ids", "document_mask")
        return dict(zip(names, (query, query_mask, document, document_mask), strict=True))

    def _ids(self, texts: list[str]) -> list[list[int]]:
        tokenizer: Any = self.tokenizer
        return tokenizer(texts, add_special_tokens=False, truncation=False, verbose=False)["input_ids"]

    def forward(self, features: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        """Turn token ids into `scores (b, 1)`."""
        query_mask, document_mask = features["query_mask"], features["document_mask"]
        x = self.query_windows(self._embedded(features["query_ids"], query_mask))
        y = self.document_windows(self._embedded(features["document_ids"], document_mask))
        gate = self._occupied(query_mask)[:, None, :, None] * self._occupied(document_mask)[:, None, None, :]
        z = gate * torch.relu(x[:, :, :, None] + y[:, :, None, :])
        z = torch.max_pool2d(z, 2)
        z = torch.max_pool2d(torch.relu(self.convolution(z)), 2)
        features["scores"] = self.mlp(z)
        return features

    def _embedded(self, ids: Tensor, mask: Tensor) -> Tensor:
        return (self.embeddings(ids) * mask[..., None]).transpose(1, 2)

    def _occupied(self, mask: Tensor) -> Tensor:
        """Mark the windows that hold at least one token: `(b, t) -> (b, t - window + 1)`."""
        return torch.max_pool1d(mask[:, None, :], self.window, stride=1)[:, 0]

    @property
    def max_seq_length(self) -> int:
        """Tokens of both texts."""
        return self.query_length + self.document_length

    def save(self, output_path: str, *args: Any, safe_serialization: bool = True, **kwargs: Any) -> None:
        """Write settings, weights and tokeniser to the model's root."""
        self.save_config(output_path)
        self.save_torch_weights(output_path, safe_serialization=safe_serialization)
        self.save_tokenizer(output_path)

    @classmethod
    def load(cls, model_name_or_path: str, subfolder: str = "", *args: Any, **kwargs: Any) -> Self:
        """Load the module from a model directory or hub repository."""
        hub = hub_arguments(kwargs)
        config = cls.load_config(model_name_or_path, subfolder=subfolder, **hub)
        module = cls(**config, tokenizer=_tokenizer(model_name_or_path, kwargs))
        return cls.load_torch_weights(model_name_or_path, subfolder=subfolder, model=module, **hub)


class ArcII(JointEncoder):
    """ARC-II on the word embeddings of a backbone.

    Parameters
    ----------
    model_name_or_path
        A saved `ArcII`, or a backbone whose tokeniser and token embeddings it starts with.
    query_length
        Tokens of a query, the newest, at least 16; default 64.
    document_length
        Tokens of a document, the first, at least 16; default 32.
    turn_separator, **cross_encoder_arguments
        As for `CrossEncoder`, with its errors.
    """

    summary = (
        "Convolutions over every pair of places in query and document, and an MLP, give the score (Hu et al. 2014)."
    )
    module_classes = (ConvolutionalInteraction,)

    def __init__(
        self,
        model_name_or_path: str | os.PathLike[str] | None = None,
        *,
        query_length: int | None = None,
        document_length: int | None = None,
        turn_separator: str | None = None,
        **cross_encoder_arguments: Any,
    ) -> None:
        settings = settings_among(locals())
        cross_encoder_arguments.setdefault("activation_fn", nn.Identity())
        super().__init__(model_name_or_path, settings=settings, **cross_encoder_arguments)

    @property
    def query_length(self) -> int:
        """Tokens of a query, the newest."""
        return self._interaction.query_length

    @property
    def document_length(self) -> int:
        """Tokens of a document, the first."""
        return self._interaction.document_length

    @property
    def _interaction(self) -> ConvolutionalInteraction:
        module = self[0]
        assert isinstance(module, ConvolutionalInteraction)
        return module

    def card_properties(self) -> dict[str, Any]:
        """Return the rows of the model card's table."""
        return {
            "Score": "ARC-II",
            "Longest query": f"{self.query_length} tokens",
            "Longest document": f"{self.document_length} tokens",
            **super().card_properties(),
        }

    def _build(
        self, name: str, config: dict[str, Any], arguments: dict[str, Any]
    ) -> tuple[list[nn.Module], dict[str, Any]]:
        tokenizer = _tokenizer(name, arguments)
        self._start(tokenizer)
        embeddings = AutoModel.from_pretrained(name, **transformers_arguments(arguments)).get_input_embeddings()
        vocabulary, dimension = embeddings.weight.shape
        lengths = {name: self._given[name] for name in ("query_length", "document_length") if name in self._given}
        module = ConvolutionalInteraction(vocabulary, dimension, **lengths, tokenizer=tokenizer)
        with torch.no_grad():
            module.embeddings.weight.copy_(embeddings.weight)
        return [module], {}


def _tokenizer(model_name_or_path: str, arguments: Mapping[str, Any]) -> Any:
    return AutoTokenizer.from_pretrained(model_name_or_path, **transformers_arguments(arguments))


def _padded(rows: list[list[int]], length: int) -> tuple[Tensor, Tensor]:
    ids = torch.zeros(len(rows), length, dtype=torch.long)
    mask = torch.zeros(len(rows), length)
    for row, values in enumerate(rows):
        ids[row, : len(values)] = torch.tensor(values, dtype=torch.long)
        mask[row, : len(values)] = 1.0
    return ids, mask
