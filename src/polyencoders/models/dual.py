"""What bi- and poly-encoders share: a query side and a document side that meet only in the score.

A `DualEncoder` is a `SentenceTransformer`, so its trainer, losses, evaluators and hub work with it. It must be told
which side a text is on, and cuts long queries from the oldest end.
"""

import copy
import functools
from collections.abc import Callable, Sequence
from typing import Any, Literal, cast

import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Dense, Router, Transformer
from sentence_transformers.base.modules.module import Module
from sentence_transformers.sentence_transformer.modules import Normalize
from torch import nn

from polyencoders.checks import check_whole_number
from polyencoders.encoders.protocols import Advance, Fingerprints, Vectors, ignore
from polyencoders.encoders.queries import Query, check_document, query_text
from polyencoders.encoders.ranking import VectorRanking
from polyencoders.errors import ModelError
from polyencoders.models import encoding
from polyencoders.models.backbone import Backbone, as_backbone, positions
from polyencoders.models.base import SavedModel
from polyencoders.models.directory import loading_arguments
from polyencoders.models.fingerprint import fingerprint
from polyencoders.models.precision import bf16_is_native
from polyencoders.models.query_codes import QueryCodes
from polyencoders.models.reductions import AverageOfCodes, MeanOfFirst, reduction_module, reduction_name

Side = Literal["query", "document"]
SIDES: tuple[Side, Side] = ("query", "document")


class DualEncoder(VectorRanking, SavedModel, SentenceTransformer):
    """Encodes queries and documents apart; use `BiEncoder` or `PolyEncoder`.

    The modules of a side, its route, are a `Transformer` and what reduces its outputs. With a shared tower both routes
    begin with the same transformer, otherwise with two that are the same at the start.
    """

    module_classes = (QueryCodes, MeanOfFirst, AverageOfCodes)

    precomputed: Callable[[Sequence[str], Side], dict[str, Any]] | None = None
    """Set while training on a frozen backbone: turns texts into features after `modules_applied` modules."""

    # -- what a model is ---------------------------------------------------------------------------------------------

    def route(self, task: Side) -> list[nn.Module]:
        """Return the modules that a query (or a document) goes through, in order."""
        modules: list[nn.Module] = []
        for module in self.children():
            modules.extend(module.sub_modules[task].children() if isinstance(module, Router) else [module])
        return modules

    @property
    def query_codes(self) -> QueryCodes | None:
        """The module that makes a query's codes, where it has any."""
        return next((module for module in self.route("query") if isinstance(module, QueryCodes)), None)

    @property
    def m(self) -> int | None:
        """Number of query codes, where there are any; `last-and-first` has one more."""
        return self.query_codes.m if self.query_codes else None

    @property
    def maps(self) -> str | None:
        """The linear maps after the codes."""
        return self.query_codes.maps if self.query_codes else None

    @property
    def position_bias(self) -> bool | None:
        """Whether the codes weigh how far from the query's end an output stands."""
        return self.query_codes.position_bias if self.query_codes else None

    @property
    def shared_tower(self) -> bool:
        """Whether both sides go through one transformer."""
        return self.route("query")[0] is self.route("document")[0]

    @property
    def document_reduction(self) -> str:
        """How a document's outputs become one vector."""
        return next(name for module in self.route("document") if (name := reduction_name(module)) is not None)

    @property
    def n(self) -> int | None:
        """The n of the reduction `mean-first-n`."""
        modules = self.route("document") + self.route("query")
        return next((module.n for module in modules if isinstance(module, MeanOfFirst)), None)

    @property
    def normalize(self) -> bool:
        """Whether document vectors and query codes have length 1, so that inner products are cosines."""
        return any(isinstance(module, Normalize) for module in self.route("document"))

    @property
    def document_map(self) -> bool:
        """Whether a linear map follows on the document side."""
        return isinstance(self.route("document")[-1], Dense)

    @property
    def query_length(self) -> int | None:
        """The most tokens of a query; None: as many as the backbone reads."""
        return self._transformer("query").query_length

    @property
    def document_length(self) -> int | None:
        """The most tokens of a document; None: as many as the backbone reads."""
        return self._transformer("document").document_length

    @property
    def score_scale(self) -> float:
        """The factor of scores in a loss: 20 for cosines, whose softmax would be flat, else 1 (the paper)."""
        return 20.0 if self.normalize else 1.0

    def _transformer(self, task: Side) -> Transformer:
        transformer = self.route(task)[0]
        assert isinstance(transformer, Transformer)
        return transformer

    def card_properties(self) -> dict[str, Any]:
        """Return the rows of the model card's table."""
        return {
            "Document vector": f"{self.get_embedding_dimension()} dimensions, {self.document_reduction}"
            + (f" (n = {self.n})" if self.document_reduction == "mean-first-n" else "")
            + (", length 1" if self.normalize else ""),
            "Towers": "one, shared" if self.shared_tower else "two",
            "Longest query": f"{self.query_length or self.max_seq_length} tokens",
            "Longest document": f"{self.document_length or self.max_seq_length} tokens",
            **super().card_properties(),
        }

    # -- building and loading ----------------------------------------------------------------------------------------

    def _build(
        self, name: str, config: dict[str, Any], arguments: dict[str, Any]
    ) -> tuple[list[nn.Module], dict[str, Any]]:
        given = {key: arguments.get(key) for key in ("prompts", "default_prompt_name", "truncate_dim")}
        loading: dict[str, Any] = {**loading_arguments(arguments), **given}
        existing = SentenceTransformer(name, device="cpu", **loading)
        backbone = as_backbone(list(existing.children()), config, name)
        transformer = backbone.transformer
        self._start(transformer.tokenizer)
        for length in ("query_length", "document_length"):
            if length in self._given:
                setattr(transformer, length, _checked_length(length, self._given[length], transformer))
        query_side, document_side = self._build_sides(backbone)
        modules: list[nn.Module]
        if self._given.get("shared_tower", True):
            modules = [transformer, router(query_side, document_side)]
        else:
            modules = [router([copy.deepcopy(transformer), *query_side], [transformer, *document_side])]
        return modules, {key: getattr(existing, key) for key in given}

    def _saved_arguments(self, config: dict[str, Any]) -> dict[str, Any]:
        return {**super()._saved_arguments(config), "truncate_dim": config.get("truncate_dim")}

    def _build_sides(self, backbone: Backbone) -> tuple[list[nn.Module], list[nn.Module]]:
        """Return what follows the transformer on the query side, and on the document side."""
        raise NotImplementedError

    def _build_document_side(self, backbone: Backbone, reduction: str | None = None) -> list[nn.Module]:
        dimension = backbone.transformer.get_embedding_dimension()
        reduction = reduction or self._given.get("reduction", backbone.reduction)
        side: list[nn.Module] = [reduction_module(reduction, dimension, self._given.get("n"))]
        if self._given.get("normalize", backbone.normalize):
            side.append(Normalize())
        if self._given.get("document_map", False):
            # After the normalisation, so that it can be folded into the query side: (A q) . (B c) = (B'A q) . c.
            side.append(linear_map(dimension))
        return side

    def fold_document_map(self) -> None:
        """Move the document side's linear map to the query side; scores stay the same: `y . (B c) = (B'y) . c`.

        Document vectors are then the backbone's own, so vectors that it has already made can be searched.
        """
        if not self.document_map:
            return
        query_side, document_side = list(self.route("query")), list(self.route("document"))
        dense = document_side.pop()
        assert isinstance(dense, Dense)
        with torch.no_grad():
            dense.linear.weight.copy_(dense.linear.weight.T.clone())
        self.set_sides([*query_side, dense], document_side)

    def set_sides(self, query_side: list[nn.Module], document_side: list[nn.Module]) -> None:
        """Replace the modules of both sides, each from its transformer on."""
        shared = query_side[0] is document_side[0]
        self[len(self) - 1] = router(query_side[shared:], document_side[shared:])

    # -- text to features to vectors ---------------------------------------------------------------------------------

    def preprocess(
        self, inputs: Sequence[Any], prompt: str | None = None, task: Side | None = None, **kwargs: Any
    ) -> dict[str, Any]:
        """Turn queries or documents into the features that `forward` takes, with `task`, the side, among them.

        Raises a `ValueError` without a task, a `TypeError` where an input is not a query, or not a document.
        """
        task = _checked_side(task, "preprocess")
        if not len(inputs):
            return {}
        texts = [self.text_of(text, task, prompt) for text in inputs]
        if self.precomputed is not None:
            features = self.precomputed([f"{prompt or ''}{text}" for text in texts], task)
        else:
            features = self.tokenized(texts, task, prompt=prompt, **kwargs)
        features["task"] = task
        return features

    def text_of(self, text: Query, task: Side, prompt: str | None = None) -> str:
        """Return the text that is tokenised: turns joined, and a long query cut from its oldest end."""
        if task == "document":
            return check_document(text)
        transformer = self._transformer("query")
        longest = transformer.query_length or transformer.max_seq_length
        return query_text(text, self.turn_separator, transformer.tokenizer, longest, prompt)

    def tokenized(self, texts: Sequence[str], task: Side, prompt: str | None = None, **kwargs: Any) -> dict[str, Any]:
        """Tokenise texts that are cut already, as the transformer of their side takes them."""
        return dict(super().preprocess(list(texts), prompt=prompt, task=task, **kwargs))

    def forward(self, input: dict[str, Any], task: Side | None = None, **kwargs: Any) -> dict[str, Any]:
        """Turn features into `sentence_embedding`: `(n, d)`, or `(q, m, d)` for a poly-encoder's queries."""
        task = _checked_side(task or input.get("task"), "forward")
        for module in self.route(task)[input.get("modules_applied", 0) :]:
            input = module(input)
        return input

    def encode(self, inputs: Any, *args: Any, task: Side | None = None, **kwargs: Any) -> Any:
        """Encode as sentence-transformers does; raise a `ValueError` where `task` does not name the side."""
        return super().encode(inputs, *args, task=_checked_side(task, "encode"), **kwargs)

    def is_singular_input(self, inputs: Any) -> bool:  # type: ignore[override]
        """Tell a text from a list, which is a batch of texts, or of conversations."""
        return isinstance(inputs, str)

    # -- the contract of `encoders/` ---------------------------------------------------------------------------------

    @property
    def cosine(self) -> bool:
        """Whether scores are cosines: vectors of both sides have length 1."""
        return self.normalize

    @property
    def dimension(self) -> int:
        """d, of document vectors and of query codes."""
        return int(self.get_embedding_dimension() or 0)

    @property
    def temperature(self) -> float:
        """The temperature of the softmax over the query codes; it changes nothing for a single vector."""
        return 1.0

    @property
    def fingerprints(self) -> Fingerprints:
        """Names of what makes the vectors of both sides, from the weights and settings as they are now."""
        lengths = ("query_length", "document_length")
        documents = {"prompt": self.prompts.get("document") or "", "length": self.document_length}
        queries = {
            "prompt": self.prompts.get("query") or "",
            "length": self.query_length,
            "separator": self.turn_separator,
            "temperature": self.temperature,
        }
        return Fingerprints(
            documents=fingerprint(self.route("document"), documents, lengths),
            queries=fingerprint(self.route("query"), queries, lengths),
        )

    @property
    def bf16_is_native(self) -> bool:
        """Whether the model's device multiplies bf16 in hardware."""
        return bf16_is_native(self.device)

    @property
    def engine(self) -> str:
        """What computes the model."""
        return "PyTorch"

    @property
    def trial(self) -> str:
        """Empty: there is one way to encode documents."""
        return ""

    @property
    def has_query_codes(self) -> bool:
        """Whether `read_query` can show which words a query's codes are made of."""
        return False

    def encode_queries(self, queries: Sequence[Query], advance: Advance = ignore) -> Vectors:
        """Return query codes `(q, m, d)`, float32; one code where a query is a single vector."""
        vectors = encoding.encode_queries(self, queries, advance=advance)
        return vectors if vectors.ndim == 3 else vectors[:, None]

    def encode_documents(self, texts: Sequence[str], bf16: bool | None = None, advance: Advance = ignore) -> Vectors:
        """Return document vectors `(n, d)`, float32, as `encode_document` does, in a fraction of the time."""
        return encoding.encode_documents(self, texts, bf16, advance)

    def document_encoder(self, bf16: bool) -> Callable[[Sequence[str]], Vectors]:
        """Return a function that encodes documents, with weights cast to bf16 once where that is asked."""
        reader = encoding.in_bf16(self) if bf16 else self
        return functools.partial(encoding.encode_documents, reader, bf16=False)

    def predict(
        self,
        inputs: Any,
        batch_size: int = 32,
        show_progress_bar: bool | None = None,
        convert_to_numpy: bool = True,
        convert_to_tensor: bool = False,
    ) -> Any:
        """Score pairs as `VectorRanking.predict` does, with the further arguments of `CrossEncoder.predict`."""
        scores = super().predict(inputs, batch_size, show_progress_bar)
        if convert_to_tensor or not convert_to_numpy:
            scores = torch.as_tensor(scores)
            return scores if convert_to_tensor or scores.ndim == 0 else list(scores)
        return scores


def linear_map(dimension: int) -> Dense:
    """Return a linear map that starts as the identity."""
    return Dense(dimension, dimension, bias=False, activation_function=nn.Identity(), init_weight=torch.eye(dimension))


def router(query_side: list[nn.Module], document_side: list[nn.Module]) -> Router:
    """Return the module that sends a text through the modules of its side."""
    return Router.for_query_document(
        cast(list[Module], query_side), cast(list[Module], document_side), default_route=None, allow_empty_key=False
    )


def _checked_length(setting: str, value: Any, transformer: Transformer) -> int:
    tokenizer: Any = transformer.tokenizer
    check_whole_number(setting, value, at_least=tokenizer.num_special_tokens_to_add(pair=False) + 1)
    most = positions(transformer)
    if most is not None and value > most:
        raise ModelError(f"{setting} is {value}, but the backbone has positions for {most} tokens only")
    return int(value)


def _checked_side(task: Any, method: str) -> Side:
    if task not in SIDES:
        raise ValueError(
            f"{method} needs to know the side of a text: task='query' or task='document', got {task!r}; "
            "encode_query and encode_document say it for you"
        )
    return task
