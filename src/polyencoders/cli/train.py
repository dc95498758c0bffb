"""`polyencoders train`: a recipe, or a file of pairs, to a saved model.

Knows recipes, readers and the training run; each does its part.
"""

from __future__ import annotations

from pathlib import Path

from rich.markup import escape
from rich.table import Table
from transformers import set_seed

from polyencoders.cli.architectures import build_model
from polyencoders.cli.display import TrainingProgress, console, progress, quieten, resumable
from polyencoders.cli.recipes import Recipe
from polyencoders.data import Example, load_examples, read_jsonl, split_examples
from polyencoders.data.sources import BUILT_IN
from polyencoders.errors import TrainingError
from polyencoders.training import TrainingResult, train
from polyencoders.training.train import CHECKPOINTS


def run(recipe: Recipe, overwrite: bool = False) -> None:
    """Train by a recipe and say what came of it."""
    quieten()
    output = Path(recipe.output)
    check_output(output, overwrite)
    examples, validation = read_splits(recipe.train, recipe.validation, recipe.options.seed)
    console.print(
        f"{recipe.architecture} on {recipe.backbone}: {len(examples):,} examples to train on, "
        f"{len(validation):,} to validate on"
    )
    set_seed(recipe.options.seed)
    model = build_model(recipe.architecture, recipe.backbone, recipe.settings, "backbone" in recipe.options.frozen)
    with resumable(), progress() as bar:
        shown = TrainingProgress(bar)
        result = train(model, examples, validation, output, recipe.options, [shown], shown.on_texts)
    _report(result, output, recipe)


def check_output(output: Path, overwrite: bool) -> None:
    """Refuse a place where a model cannot be saved without replacing something."""
    if (output / "modules.json").exists() and not (output / CHECKPOINTS).exists() and not overwrite:
        raise TrainingError(f"{output} holds a model already: choose another output, or say --overwrite")
    if output.is_file():
        raise TrainingError(f"{output} is a file; the model is saved to a directory: choose another output")
    others = {entry.name for entry in output.iterdir()} - {CHECKPOINTS} if output.is_dir() else set()
    if others and not (output / "modules.json").exists():
        raise TrainingError(f"{output} is a directory with other things in it: choose a new one for the model")


def read_splits(train: str, held_out: str | None, seed: int) -> tuple[list[Example], list[Example]]:
    """Examples to train and to validate on; a tenth of a file is held out where no validation data is given."""
    if train in BUILT_IN:
        splits = load_examples(train)
        examples, validation = splits.train, splits.validation
    elif held_out is None:
        splits = split_examples(read_jsonl(train), validation=0.1, seed=seed)
        examples, validation = splits.train, splits.validation
    else:
        examples, validation = read_jsonl(train), []
    if held_out is not None:
        validation = load_examples(held_out).validation if held_out in BUILT_IN else read_jsonl(held_out)
    return examples, validation


def _report(result: TrainingResult, output: Path, recipe: Recipe) -> None:
    table = Table("", "", show_header=False, box=None)
    took = f"{result.seconds:.0f} seconds" if result.seconds < 90 else f"{result.seconds / 60:.1f} minutes"
    early = f" of {recipe.options.steps:,}, then validation no longer improved" * (result.steps < recipe.options.steps)
    table.add_row("steps", f"{result.steps:,}{early}; {took}")
    if result.metric is not None and result.before is not None and result.after is not None:
        table.add_row(f"validation {result.metric} before", f"{result.before:.3f}")
        table.add_row("after", f"{result.after:.3f} (step {result.best_step:,}, the best, is what was kept)")
    table.add_row("saved", escape(str(output)))
    console.print(table)
    if result.before is not None and result.after is not None and result.after <= result.before:
        hint = ", which finds every answer: they are too easy to tell."
        if result.before < 1:
            cheaper = "" if "backbone" in recipe.options.frozen else " or --freeze backbone"
            hint = f". More data or fewer steps{cheaper} may help."
        console.print(
            f"[yellow]On the held-out examples the trained model is no better than the one it started from{hint}"
        )
    console.print(f"Next: polyencoders rank {escape(str(output))} --query '...' --documents FILE", soft_wrap=True)
