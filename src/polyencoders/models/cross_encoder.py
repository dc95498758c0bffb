"""The cross-encoder: query and document in one sequence, the first output times W (Humeau et al. 2020, section 4.3)."""

from __future__ import annotations

import os
from typing import Any, cast

import sentence_transformers
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Dense, Transformer
from sentence_transformers.sentence_transformer.modules import Pooling
from torch import nn
from transformers import AutoConfig

from polyencoders.encoders.queries import fit_pair
from polyencoders.errors import ModelError
from polyencoders.models.backbone import as_backbone
from polyencoders.models.hub import transformers_arguments
from polyencoders.models.joint import JointEncoder


class CrossEncoder(JointEncoder):
    """`y = first(T(query, document))`, `score = y W`.

    A pair that is too long loses the end of its document beyond half the room, then the oldest of its query.

    Parameters
    ----------
    model_name_or_path
        A saved `CrossEncoder`, a backbone (any Hugging Face encoder or sentence-transformers model), or an existing
        reranker (a sequence-classification model of one label), which is used as it is.
    turn_separator
        Stands between the turns of a conversation; default the tokeniser's separator.
    **cross_encoder_arguments
        As for sentence-transformers' `CrossEncoder`: `device`, `token`, `revision`, ...

    Raises
    ------
    ModelError
        A directory of another architecture, settings that contradict a saved model, damaged weights; a classifier of
        several labels, which gives no score to rank by.
    """

    summary = "Query and document are read together; the score is the first output times W."

    def __init__(
        self,
        model_name_or_path: str | os.PathLike[str] | None = None,
        *,
        turn_separator: str | None = None,
        **cross_encoder_arguments: Any,
    ) -> None:
        super().__init__(model_name_or_path, settings={"turn_separator": turn_separator}, **cross_encoder_arguments)

    def card_properties(self) -> dict[str, Any]:
        """What the model card says of the model, row by row."""
        return {
            "Score": "first output times W",
            "Longest pair": f"{self.max_seq_length} tokens",
            **super().card_properties(),
        }

    def _load_backbone(self, model_name_or_path: str, config: dict[str, Any], arguments: dict[str, Any]) -> list[Any]:
        trust = bool(arguments.get("trust_remote_code"))
        encoder = AutoConfig.from_pretrained(
            model_name_or_path, trust_remote_code=trust, **transformers_arguments(arguments)
        )
        architectures = encoder.architectures or [""]
        if architectures[0].endswith("ForSequenceClassification"):
            modules, _ = sentence_transformers.CrossEncoder._load_modules(self, model_name_or_path, **arguments)
            modules = list(modules.values() if isinstance(modules, dict) else modules)
            if encoder.num_labels != 1:
                raise ModelError(
                    f"{model_name_or_path} tells {encoder.num_labels} classes apart; "
                    "a cross-encoder has one score a pair"
                )
            self._start(modules[0].tokenizer)
            return modules
        # The transformer alone: a cross-encoder's reduction is the first output, whatever the backbone's own.
        # Borrowed, unbound: it uses nothing of a SentenceTransformer that a CrossEncoder has not.
        loaded, _ = SentenceTransformer._load_default_modules(cast(Any, self), model_name_or_path, **arguments)
        transformer: Transformer = as_backbone(list(loaded), {}, model_name_or_path).transformer
        self._start(transformer.tokenizer)
        dimension = transformer.get_embedding_dimension()
        weights = Dense(dimension, 1, bias=False, activation_function=nn.Identity(), module_output_name="scores")
        self.activation_fn = nn.Identity()
        return [transformer, Pooling(dimension, "cls"), weights]

    def _fit(self, query: str, document: str) -> tuple[str, str]:
        return fit_pair(self.tokenizer, query, document, self.max_seq_length)
