"""Where a run saves its model: nothing of somebody's is replaced without being told."""

import json
import re
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from polyencoders.errors import TrainingError
from polyencoders.files import whole_directory
from polyencoders.training.resume import CHECKPOINTS

_PARTS_OF_A_BACKBONE = re.compile(
    r"model[\w.-]*\.safetensors(\.index\.json)?|vocab\.(txt|json)|merges\.txt|spiece\.model"
    r"|(config|tokenizer|tokenizer_config|special_tokens_map|added_tokens|pretraining)\.json"
    r"|(modules|config_sentence_transformers|sentence_bert_config)\.json|\d+_(Pooling|Normalize)|README\.md"
)
"""What of a backbone in the place of the new one goes; the last line is what sentence-transformers adds."""


def check_output(output: Path, overwrite: bool, what: str = "model", marker: str = "modules.json") -> None:
    """Refuse a directory where saving would replace something. A file of ours, the marker, tells what is ours."""
    check_no_model(output, overwrite, what, marker)
    if output.is_file():
        raise TrainingError(f"{output} is a file; the {what} is saved to a directory: choose another output")
    others = {entry.name for entry in output.iterdir()} - {CHECKPOINTS} if output.is_dir() else set()
    if others and not (output / marker).exists():
        raise TrainingError(f"{output} is a directory with other things in it: choose a new one for the {what}")


def check_no_model(output: Path, overwrite: bool, what: str = "model", marker: str = "modules.json") -> None:
    """Refuse a directory that holds a model, unless it is to be overwritten or a run goes on there."""
    if (output / marker).exists() and not (output / CHECKPOINTS).exists() and not overwrite:
        raise TrainingError(f"{output} holds a {what} already: choose another output, or say overwrite")


def save_backbone(folder: Path, save: Callable[[str], object], record: Mapping[str, Any]) -> None:
    """Save a pre-trained backbone, whole or not at all, with `pretraining.json` beside it; the run's checkpoints go."""
    with whole_directory(folder, replaced=_PARTS_OF_A_BACKBONE.fullmatch) as scratch:
        save(str(scratch))
        (scratch / "pretraining.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    shutil.rmtree(folder / CHECKPOINTS, ignore_errors=True)
