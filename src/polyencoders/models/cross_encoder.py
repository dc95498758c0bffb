"""The cross-encoder: query and document in one sequence, the first output times W (Humeau et al. 2020, section 4.3)."""

import os
from typing import Any

import sentence_transformers
from sentence_transformers.base.modules import Dense, Transformer
from sentence_transformers.sentence_transformer.modules import Pooling
from torch import nn
from transformers import AutoConfig

from polyencoders.encoders.queries import fit_pair
from polyencoders.errors import ModelError
from polyencoders.models.backbone import as_backbone
from polyencoders.models.directory import hub_arguments, loading_arguments, transformers_arguments
from polyencoders.models.joint import JointEncoder

_DETAILS = ("model_kwargs", "processor_kwargs", "config_kwargs")
_OF_A_RERANKER = ("prompts", "default_prompt_name", "activation_fn", "keep_in_fp32_modules")


class CrossEncoder(JointEncoder):
    """`y = first(T(query, document))`, `score = y W`.

    A pair that is too long loses the end of its document beyond half the room, then the oldest part of its query.

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
        """Return the rows of the model card's table."""
        return {
            "Score": "first output times W",
            "Longest pair": f"{self.max_seq_length} tokens",
            **super().card_properties(),
        }

    def _build(
        self, name: str, config: dict[str, Any], arguments: dict[str, Any]
    ) -> tuple[list[nn.Module], dict[str, Any]]:
        loading = loading_arguments(arguments)
        trust = {"trust_remote_code": bool(arguments.get("trust_remote_code"))}
        encoder = AutoConfig.from_pretrained(name, **trust, **transformers_arguments(arguments))
        if (encoder.architectures or [""])[0].endswith("ForSequenceClassification"):
            return self._existing_reranker(name, encoder.num_labels, arguments)
        # The transformer alone: a cross-encoder's reduction is the first output, whatever the backbone's own is.
        hub = {key: value for key, value in hub_arguments(arguments).items() if key != "cache_folder"}
        details = {key: {**hub, **trust, **loading.get(key, {})} for key in _DETAILS}
        backend = loading.get("backend", "torch")
        loaded = Transformer(name, cache_dir=hub_arguments(arguments)["cache_folder"], backend=backend, **details)
        transformer = as_backbone([loaded, Pooling(loaded.get_embedding_dimension(), "mean")], {}, name).transformer
        self._start(transformer.tokenizer)
        dimension = transformer.get_embedding_dimension()
        weights = Dense(dimension, 1, bias=False, activation_function=nn.Identity(), module_output_name="scores")
        return [transformer, Pooling(dimension, "cls"), weights], {"activation_fn": nn.Identity()}

    def _existing_reranker(
        self, name: str, labels: int, arguments: dict[str, Any]
    ) -> tuple[list[nn.Module], dict[str, Any]]:
        if labels != 1:
            raise ModelError(f"{name} tells {labels} classes apart; a cross-encoder has one score a pair")
        given = {key: value for key, value in arguments.items() if key not in ("device", "model_card_data")}
        reranker = sentence_transformers.CrossEncoder(name, device="cpu", **given)
        modules = list(reranker.children())
        self._start(reranker.tokenizer)
        return modules, {key: getattr(reranker, key) for key in _OF_A_RERANKER}

    def _fit(self, query: str, document: str, prompt: str | None) -> tuple[str, str]:
        return fit_pair(self.tokenizer, query, document, self.max_seq_length, prompt)
