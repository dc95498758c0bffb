"""What every model of ours does the same way: settings that are checked, saving whole or not at all, a truthful card.

A mixin over sentence-transformers' own model classes; knows nothing of what a score is.
"""

from __future__ import annotations

import copy
import os
import re
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar, Self

from safetensors import SafetensorError
from sentence_transformers.base.model import BaseModel
from sentence_transformers.base.modules import Transformer

from polyencoders.errors import ModelError
from polyencoders.files import whole_directory
from polyencoders.models.backbone import ARCHITECTURE_KEY, check_architecture, read_config
from polyencoders.models.card import write_card
from polyencoders.models.hub import hub_arguments

_PARTS_OF_A_MODEL = re.compile(
    r"(\d+|query_\d+|document_\d+)_[A-Z]\w+|model[\w.-]*\.safetensors(\.index\.json)?|vocab\.(txt|json)|merges\.txt"
    r"|(modules|config|config_sentence_transformers|sentence_\w+_config|router_config)\.json"
    r"|(tokenizer|tokenizer_config|special_tokens_map|added_tokens)\.json"
)

_counting = threading.Lock()


class SavedModel(BaseModel):
    """Settings, saving and loading, shared by dual and joint encoders.

    A model keeps what its modules do not say (its architecture, the separator of turns, ...) in `_own`, which is saved
    in `config_sentence_transformers.json`.
    """

    summary: ClassVar[str]
    """One sentence for the model card: how the architecture scores."""

    def __init__(
        self,
        model_name_or_path: str | os.PathLike[str] | None = None,
        *,
        settings: Mapping[str, Any],
        **arguments: Any,
    ) -> None:
        architecture = type(self).__name__
        if model_name_or_path is None:
            raise ModelError(f"{architecture} needs a saved model or a backbone: a directory, or a name on the hub")
        name = os.fspath(model_name_or_path)
        # nn.Module allows plain attributes before its own __init__, and loading, inside it, needs these.
        self._given = {name: value for name, value in settings.items() if value is not None}
        self._own: dict[str, Any] = {}
        self._is_new = True
        self._counter: Any = None
        self.training_record: dict[str, Any] | None = None
        try:
            super().__init__(name, **arguments)
        except SafetensorError as error:
            raise ModelError(f"the weights in {name} are damaged or cut short ({error}): copy them again") from error
        for setting, value in self._given.items():
            actual = getattr(self, setting)
            if actual == value:
                continue
            if self._is_new:
                raise ModelError(
                    f"{setting}={value!r} does not apply to a {architecture} with the other settings given: "
                    f"its {setting} is {actual!r}"
                )
            raise ModelError(
                f"{name} was saved with {setting}={actual!r} and cannot be loaded with {setting}={value!r}; "
                "leave it out, or give a backbone to build a new model on"
            )

    @property
    def turn_separator(self) -> str:
        """What stands between the turns of a conversation: the tokeniser's separator unless given."""
        return str(self._own["turn_separator"])

    def train(self, mode: bool = True) -> Self:
        """Training mode, but for frozen transformers: they run without dropout, as they will when they are used."""
        super().train(mode)
        for module in self.modules():
            if isinstance(module, Transformer) and not any(weights.requires_grad for weights in module.parameters()):
                module.eval()
        return self

    def card_properties(self) -> dict[str, Any]:
        """What the model card says of the model, row by row."""
        return {"Turns are joined by": f"`{self.turn_separator}`"}

    def _load_modules(self, model_name_or_path: str, *args: Any, **arguments: Any) -> tuple[Any, dict[str, Any]]:
        config = read_config(model_name_or_path, hub_arguments(arguments))
        if ARCHITECTURE_KEY in config:
            check_architecture(config[ARCHITECTURE_KEY], type(self).__name__, model_name_or_path)
            self._own = config[ARCHITECTURE_KEY]
            self._is_new = False
            return self._load_config_modules(model_name_or_path, *args, **arguments)
        modules = self._load_backbone(model_name_or_path, config, arguments)
        # A backbone's card describes the backbone.
        self._model_card_text = None
        return modules, {}

    def _load_backbone(self, model_name_or_path: str, config: dict[str, Any], arguments: dict[str, Any]) -> list[Any]:
        """The modules of a new model on a backbone, by the settings given."""
        raise NotImplementedError

    def _start(self, tokenizer: Any) -> None:
        separator = self._given.get("turn_separator", f" {tokenizer.sep_token} " if tokenizer.sep_token else " ")
        if not isinstance(separator, str):
            raise ModelError(f"turn_separator must be a text, got {separator!r}")
        self._own = {"architecture": type(self).__name__, "turn_separator": separator}

    def save(
        self,
        path: str | os.PathLike[str],
        model_name: str | None = None,
        create_model_card: bool = True,
        train_datasets: list[str] | None = None,
        safe_serialization: bool = True,
    ) -> None:
        """Save the model to a directory that `type(self)(path)` loads again: whole, or not at all.

        Parameters
        ----------
        path
            The directory to make, or to replace; files in it that are no part of a model are kept.
        model_name
            Its name on a hub, for the card.
        create_model_card
            Whether to write a `README.md`.
        train_datasets
            Not used; sentence-transformers' own models have it.
        safe_serialization
            True: as safetensors.

        Raises
        ------
        ModelError
            `safe_serialization=False`, which would pickle; or the directory is no model's, and files in it would be
            replaced.
        OSError
            It could not be written, as on a full disk; what was there before is as it was.
        """
        if not safe_serialization:
            raise ModelError("models are saved as safetensors; safe_serialization=False, which pickles, is refused")
        with model_directory(path) as scratch:
            super().save(str(scratch), model_name, create_model_card, train_datasets)

    def _create_model_card(self, path: str, model_name: str | None = None, train_datasets: Any = None) -> None:
        write_card(self, Path(path), model_name)

    def _get_model_config(self) -> dict[str, Any]:
        return {**super()._get_model_config(), ARCHITECTURE_KEY: self._own}


def count_tokens(model: SavedModel, texts: Sequence[str]) -> list[int]:
    """Count the tokens of texts, as many as the model reads, with a tokeniser of its own made at the first call.

    The model's tokeniser must not be used by two threads at once; a copy is, so long as only counting uses it.
    """
    longest = model.max_seq_length
    with _counting:
        if model._counter is None:
            model._counter = copy.deepcopy(model.tokenizer)
        counted = model._counter(list(texts), truncation=longest is not None, max_length=longest, verbose=False)
    return [len(ids) for ids in counted["input_ids"]]


@contextmanager
def model_directory(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Write the directory of a model, whole or not at all; files in it that are no part of a model are kept.

    Parameters
    ----------
    path
        The directory to make, or to replace.

    Yields
    ------
    Path
        The directory to write to meanwhile.

    Raises
    ------
    ModelError
        The directory is no model's, and files in it would be replaced.
    OSError
        It could not be written, as on a full disk; what was there before is as it was.
    """
    try:
        with whole_directory(path, replaced=_PARTS_OF_A_MODEL.fullmatch) as scratch:
            yield scratch
            _check_room(Path(path), scratch)
    except SafetensorError as error:
        # What safetensors makes of a full disk.
        raise OSError(f"the model could not be written to {os.fspath(path)}: {error}") from error


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
