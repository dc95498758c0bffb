"""What every model does in the same way: settings are checked, and it is saved whole or not at all, with its card."""

import copy
import json
import os
import re
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

import sentence_transformers
import torch
import transformers
from safetensors import SafetensorError
from sentence_transformers.base.model import BaseModel
from sentence_transformers.base.modules import Transformer
from sentence_transformers.util import load_dir_path
from torch import nn

from polyencoders.encoders.protocols import Token
from polyencoders.errors import ModelError
from polyencoders.files import whole_directory
from polyencoders.models.card import write_card
from polyencoders.models.directory import ARCHITECTURE_KEY, hub_arguments, load_modules, name_of, read_config

CONFIG = "config_sentence_transformers.json"
_PARTS_OF_A_MODEL = re.compile(
    r"(\d+|query_\d+|document_\d+)_[A-Z]\w+|model[\w.-]*\.safetensors(\.index\.json)?|vocab\.(txt|json)|merges\.txt"
    r"|(modules|calibration|config|config_sentence_transformers|sentence_\w+_config|router_config)\.json"
    r"|(tokenizer|tokenizer_config|special_tokens_map|added_tokens)\.json"
    r"|onnx"  # exported graphs, which would be loaded before the weights that they were not made from
)
_counting = threading.Lock()


def settings_among(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return an architecture's own settings among its constructor's `locals()`; `..._arguments` are passed on."""
    others = ("self", "__class__", "model_name_or_path")
    return {name: value for name, value in arguments.items() if name not in others and "_arguments" not in name}


class SavedModel(BaseModel):
    """Settings, saving and loading, shared by dual and joint encoders.

    The modules are built first and handed to the constructor of the sentence-transformers class. What they do not say
    (the architecture, the separator of turns, ...) is kept in `saved_settings`, part of
    `config_sentence_transformers.json`.
    """

    summary: ClassVar[str]  # One sentence for the model card: how the architecture scores
    module_classes: ClassVar[tuple[type[nn.Module], ...]] = ()
    """The classes of modules of this package that a saved model may hold."""

    def __init__(
        self,
        model_name_or_path: str | os.PathLike[str] | None = None,
        *,
        settings: Mapping[str, Any],
        **arguments: Any,
    ) -> None:
        if model_name_or_path is None:
            raise ModelError(
                f"{type(self).__name__} needs a saved model or a backbone: a directory, or a name on the hub"
            )
        name = name_of(model_name_or_path, self.default_huggingface_organization)
        # nn.Module allows plain attributes before its own __init__. Building the modules needs these.
        self._given = {setting: value for setting, value in settings.items() if value is not None}
        self._counter: Any = None
        self.saved_settings: dict[str, Any] = {}
        self.card_text: str | None = None
        self.training_record: dict[str, Any] | None = None
        config = read_config(name, hub_arguments(arguments))
        is_new = ARCHITECTURE_KEY not in config
        try:
            modules, kept = (self._build if is_new else self._load)(name, config, arguments)
        except SafetensorError as error:
            raise ModelError(f"the weights in {name} are damaged or cut short ({error}): copy them again") from error
        if (arguments.get("model_kwargs") or {}).get("device_map") and arguments.get("device") is None:
            arguments["device"] = next(modules[0].parameters()).device  # where transformers has put it
        super().__init__(modules=modules, **{**arguments, **kept})
        if not Path(name).is_dir():
            card: Any = self.model_card_data
            card.base_model, card.base_model_revision = name, arguments.get("revision")
        self._check_settings(name, is_new)

    def _check_settings(self, name: str, is_new: bool) -> None:
        for setting, value in self._given.items():
            actual = getattr(self, setting)
            if actual == value:
                continue
            if is_new:
                raise ModelError(
                    f"{setting}={value!r} does not apply to a {self.architecture} with the other settings given: "
                    f"its {setting} is {actual!r}"
                )
            raise ModelError(
                f"{name} was saved with {setting}={actual!r} and cannot be loaded with {setting}={value!r}; "
                "leave it out, or give a backbone to build a new model on"
            )

    @property
    def turn_separator(self) -> str:
        """What stands between the turns of a conversation: the tokeniser's separator unless given."""
        return str(self.saved_settings["turn_separator"])

    def train(self, mode: bool = True) -> Self:
        """Set training mode. Frozen transformers run without dropout, as they will when they are used."""
        super().train(mode)
        for module in self.modules():
            if isinstance(module, Transformer) and not any(weights.requires_grad for weights in module.parameters()):
                module.eval()
        return self

    @property
    def architecture(self) -> str:
        """Name of the class."""
        return type(self).__name__

    @property
    def configuration(self) -> dict[str, Any]:
        """What decides the scores beside the modules: settings, prompts, and the versions of what computes."""
        versions = [package.__version__ for package in (torch, transformers, sentence_transformers)]
        prompts = {"prompts": self.prompts, "default_prompt_name": self.default_prompt_name}
        return {**self.saved_settings, **prompts, "versions": versions}

    @property
    def longest(self) -> int | None:
        """Tokens of a document that are read, special ones included."""
        return getattr(self, "document_length", None) or self.max_seq_length

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """Count the tokens of texts, as many as the model reads. Any thread may call it."""
        longest = self.max_seq_length
        counted = self._tokenised(texts, truncation=longest is not None, max_length=longest)
        return [len(ids) for ids in counted["input_ids"]]

    def tokens_of(self, texts: Sequence[str]) -> list[list[Token]]:
        """Return all tokens of each text, without a prompt. Any thread may call it."""
        made = self._tokenised(texts, return_offsets_mapping=True)
        special = set(self.tokenizer.all_special_ids) - {self.tokenizer.unk_token_id}
        names = self.tokenizer.convert_ids_to_tokens
        return [
            [
                Token(id, name if id in special else text[start:end], start, end, id in special)
                for id, name, (start, end) in zip(ids, names(ids), places, strict=True)
            ]
            for text, ids, places in zip(texts, made["input_ids"], made["offset_mapping"], strict=True)
        ]

    def _tokenised(self, texts: Sequence[str], **how: Any) -> Any:
        """Tokenise with a copy that nothing else uses: two threads must not use a tokeniser at once."""
        with _counting:
            if self._counter is None:
                self._counter = copy.deepcopy(self.tokenizer)
            return self._counter(list(texts), verbose=False, **how)

    def card_properties(self) -> dict[str, Any]:
        """Return the rows of the model card's table."""
        prompts = {f"Put before a {side}": f"`{text}`" for side, text in self.prompts.items() if text}
        return {"Turns are joined by": f"`{self.turn_separator}`", **prompts}

    def _build(
        self, name: str, config: dict[str, Any], arguments: dict[str, Any]
    ) -> tuple[list[nn.Module], dict[str, Any]]:
        """Build a new model's modules on a backbone; return them, and the constructor's arguments that it decides."""
        raise NotImplementedError

    def _load(
        self, name: str, config: dict[str, Any], arguments: dict[str, Any]
    ) -> tuple[list[nn.Module], dict[str, Any]]:
        """Load a saved model's modules; return them, and the constructor's arguments that were saved with it."""
        self.saved_settings = config[ARCHITECTURE_KEY]
        architecture, expected = self.saved_settings.get("architecture"), type(self).__name__
        if architecture != expected:
            raise ModelError(
                f"{name} holds a {architecture}, not a {expected}: "
                f"load it with {architecture}(...), or give a backbone to build a {expected} on"
            )
        directory = load_dir_path(name, "", **hub_arguments(arguments))
        if directory is None:
            raise ModelError(f"{name}: no such model on the hub or in its cache")
        if (card := Path(directory) / "README.md").is_file():
            self.card_text = card.read_text(encoding="utf-8", errors="replace")
        given = {name: prompt for name, prompt in (arguments.get("prompts") or {}).items() if prompt is not None}
        kept = {"prompts": {**config.get("prompts", {}), **given}, **self._saved_arguments(config)}
        unless_given = {key: value for key, value in kept.items() if key == "prompts" or arguments.get(key) is None}
        return load_modules(directory, self.module_classes, arguments), unless_given

    def _saved_arguments(self, config: dict[str, Any]) -> dict[str, Any]:
        """Return the constructor's arguments, beside the prompts, that a saved configuration decides unless given."""
        return {"default_prompt_name": config.get("default_prompt_name")}

    def _start(self, tokenizer: Any) -> None:
        separator = self._given.get("turn_separator", f" {tokenizer.sep_token} " if tokenizer.sep_token else " ")
        if not isinstance(separator, str):
            raise ModelError(f"turn_separator must be a text, got {separator!r}")
        self.saved_settings = {"architecture": type(self).__name__, "turn_separator": separator}

    def save(
        self,
        path: str | os.PathLike[str],
        model_name: str | None = None,
        create_model_card: bool = True,
        train_datasets: list[str] | None = None,
        safe_serialization: bool = True,
    ) -> None:
        """Save the model to a directory that `type(self)(path)` loads again: whole, or not at all.

        Files in it that are no part of a model are kept. `model_name` is its name on a hub, for the card, which
        `create_model_card` asks for; `train_datasets`, an argument of sentence-transformers' own models, is not used.
        Raises a `ModelError` for `safe_serialization=False`, which would pickle, and where the directory holds no model
        and files in it would be replaced; an `OSError`, as on a full disk, leaves what was there unchanged.
        """
        if not safe_serialization:
            raise ModelError("models are saved as safetensors; safe_serialization=False, which pickles, is refused")
        try:
            with whole_directory(path, replaced=_PARTS_OF_A_MODEL.fullmatch) as scratch:
                super().save(str(scratch), model_name, create_model_card=False)
                config = json.loads((scratch / CONFIG).read_text(encoding="utf-8"))
                config = json.dumps({**config, ARCHITECTURE_KEY: self.saved_settings}, indent=2, sort_keys=True)
                (scratch / CONFIG).write_text(config, encoding="utf-8")
                if create_model_card:
                    write_card(self, scratch, model_name)
                _check_room(Path(path), scratch)
        except SafetensorError as error:  # safetensors raises it on a full disk
            raise OSError(f"the model could not be written to {os.fspath(path)}: {error}") from error

    def _create_model_card(self, path: str, model_name: str | None = None, train_datasets: Any = None) -> None:
        # sentence-transformers' trainer calls this one when it writes a card of its own accord.
        write_card(self, Path(path), model_name)


def _check_room(target: Path, scratch: Path) -> None:
    """Refuse to replace files of a directory that holds no model: they are somebody's."""
    if not target.is_dir() or (target / "modules.json").exists():
        return
    ours = {entry.name for entry in scratch.iterdir()}
    theirs = sorted(
        entry.name for entry in target.iterdir() if entry.name in ours or _PARTS_OF_A_MODEL.fullmatch(entry.name)
    )
    if theirs:
        raise ModelError(
            f"{target} holds {', '.join(theirs)} and no model: choose another directory, so that nothing is replaced"
        )
