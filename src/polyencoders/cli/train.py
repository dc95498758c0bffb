"""`polyencoders train` and `distill`: a recipe, or a file of pairs, to a saved model.

Knows recipes, readers and the training run; each does its part.
"""

from __future__ import annotations

import re
from pathlib import Path

from rich.markup import escape
from rich.table import Table
from transformers import set_seed

from polyencoders.cli.architectures import build_model, resolve_backbone
from polyencoders.cli.display import TrainingProgress, console, progress, quieten, resumable
from polyencoders.cli.recipes import Recipe
from polyencoders.data import Example, read_source
from polyencoders.errors import DataError, TrainingError
from polyencoders.training import Distillation, Teacher, TrainingResult, distill, train
from polyencoders.training.resume import CHECKPOINTS


def run(recipe: Recipe, overwrite: bool = False) -> None:
    """Train by a recipe, on a teacher's scores where it says so, and say what came of it."""
    quieten()
    learning = recipe.options.distillation
    if isinstance(learning, Distillation) and learning.teacher is None:
        raise TrainingError("training: distillation: no teacher is given, a directory or a name on the hub")
    output = Path(recipe.output)
    check_output(output, overwrite)
    # Before the data, so that a teacher that is not there is said at once.
    teacher = (
        Teacher(resolve_backbone(learning.teacher), bf16=recipe.options.bf16)
        if isinstance(learning, Distillation) and learning.teacher is not None
        else None
    )
    examples, validation = read_splits(recipe.train, recipe.validation, recipe.options.seed)
    console.print(
        f"{recipe.architecture} on {recipe.backbone}: {len(examples):,} examples to train on, "
        f"{len(validation):,} to validate on" + (f"; taught by {teacher.name}" if teacher is not None else "")
    )
    set_seed(recipe.options.seed)
    model = build_model(recipe.architecture, recipe.backbone, recipe.settings, "backbone" in recipe.options.frozen)
    with resumable(), progress() as bar:
        shown = TrainingProgress(bar)
        given = (examples, validation, output, recipe.options, [shown], shown.on_texts)
        result = train(model, *given) if teacher is None else distill(model, teacher, *given, shown.on_pairs)
    _report(result, output, recipe)


def check_output(output: Path, overwrite: bool, what: str = "model", marker: str = "modules.json") -> None:
    """Refuse a place where a model cannot be saved without replacing something; its marker tells one that is ours."""
    if (output / marker).exists() and not (output / CHECKPOINTS).exists() and not overwrite:
        raise TrainingError(f"{output} holds a {what} already: choose another output, or say --overwrite")
    if output.is_file():
        raise TrainingError(f"{output} is a file; the {what} is saved to a directory: choose another output")
    others = {entry.name for entry in output.iterdir()} - {CHECKPOINTS} if output.is_dir() else set()
    if others and not (output / marker).exists():
        raise TrainingError(f"{output} is a directory with other things in it: choose a new one for the {what}")


def read_splits(train: str, held_out: str | None, seed: int) -> tuple[list[Example], list[Example]]:
    """Examples to train and to validate on: a set's own sides, or a tenth held out of what has none."""
    source = read_source(train, seed)
    if held_out is not None:
        return source.examples_of("train"), read_source(held_out, seed).examples_of("validation")
    try:
        splits = source.split(validation=0.1, test=0.0, seed=seed)
    except DataError as error:
        raise DataError(f"{train}: {error}") from None
    return splits.train, splits.validation


def _averaged(architecture: str) -> str | None:
    """The architecture that is this one with its codes averaged into one vector, if there is one."""
    learnt = re.fullmatch(r"poly(-\d+)?", architecture)
    return f"bi-attention{learnt[1] or ''}" if learnt else None


def _report(result: TrainingResult, output: Path, recipe: Recipe) -> None:
    table = Table("", "", show_header=False, box=None)
    took = f"{result.seconds:.0f} seconds" if result.seconds < 90 else f"{result.seconds / 60:.1f} minutes"
    early = f" of {recipe.options.steps:,}, then validation no longer improved" * (result.steps < recipe.options.steps)
    table.add_row("steps", f"{result.steps:,}{early}; {took}")
    if result.metric is not None and result.before is not None and result.after is not None:
        table.add_row(f"validation {result.metric} before", f"{result.before:.3f}")
        table.add_row("after", f"{result.after:.3f} (step {result.best_step:,}, the best, is what was kept)")
    if result.rates:
        tried = ", ".join(f"{rate:g} ({after:.3f})" for rate, after in result.rates.items())
        table.add_row("learning rate", f"{result.learning_rate:g}, the best of {tried}")
    if result.attention_entropy is not None:
        mean, uniform = result.attention_entropy
        table.add_row("entropy of the attention", f"{mean:.2f} nats; {uniform:.2f} were all codes attended to alike")
    if result.averaged is not None:
        table.add_row("its codes averaged", f"{result.averaged:.3f}: without the document's attention over them")
    table.add_row("saved", escape(str(output)))
    console.print(table)
    averaged = _averaged(recipe.architecture)
    if averaged and result.averaged is not None and result.after is not None and result.averaged >= result.after:
        console.print(
            f"Averaged into one vector, the codes rank as well here: --architecture {averaged} trains them so, and any "
            "vector store searches it.",
            soft_wrap=True,
        )
    if result.before is not None and result.after is not None and result.after <= result.before:
        hint = ", which finds every answer: they are too easy to tell."
        if result.before < 1:
            cheaper = "" if "backbone" in recipe.options.frozen else " or --freeze backbone"
            hint = f". More data or fewer steps{cheaper} may help."
        console.print(
            f"[yellow]On the held-out examples the trained model is no better than the one it started from{hint}"
        )
    console.print(f"Next: polyencoders rank {escape(str(output))} --query '...' --documents FILE", soft_wrap=True)
