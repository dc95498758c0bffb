"""`polyencoders listwise`: a trained model and pairs, to the same model with a listwise head, if that is better.

Knows readers and the training run; each does its part.
"""

from __future__ import annotations

import random
from pathlib import Path

from rich.markup import escape
from rich.progress import TaskID
from rich.table import Table

from polyencoders.cli.architectures import resolve_backbone
from polyencoders.cli.display import console, progress, quieten
from polyencoders.cli.train import check_output, read_splits
from polyencoders.errors import ModelError
from polyencoders.models import BiEncoder, ListwiseReranker, PolyEncoder
from polyencoders.models.loading import load_model
from polyencoders.training import ListwiseOptions, ListwiseResult, Teacher, train_listwise


def run(
    model: str,
    data: str,
    validation: str | None,
    output: Path,
    teacher: str | None,
    train_examples: int,
    options: ListwiseOptions,
    overwrite: bool,
) -> None:
    """Train a head and say what came of it; a head that is refused is a failure."""
    quieten()
    check_output(output, overwrite)
    examples, held_out = read_splits(data, validation, options.seed)
    if train_examples < len(examples):
        examples = random.Random(options.seed).sample(examples, train_examples)
    base = load_model(resolve_backbone(model))
    base = base.base if isinstance(base, ListwiseReranker) else base
    if not isinstance(base, BiEncoder | PolyEncoder):
        raise ModelError(f"{model} is a {type(base).__name__}; a listwise head goes on a bi- or poly-encoder")
    taught_by = Teacher(resolve_backbone(teacher)) if teacher is not None else None
    console.print(
        f"a listwise head on {escape(model)}: {len(examples):,} examples to train on, {len(held_out):,} held out"
    )
    with progress() as bar:
        bars: dict[str, TaskID] = {}

        def show(what: str, done: int, total: int) -> None:
            # Training and held-out texts come one after another: a new total is a new beginning of the bar.
            if what not in bars:
                bars[what] = bar.add_task(what, total=total)
            bar.update(bars[what], completed=done, total=total)

        _, result = train_listwise(base, examples, held_out, output, options, taught_by, show)
    _report(result, output, options)
    if not result.accepted:
        raise SystemExit(1)


def _report(result: ListwiseResult, output: Path, options: ListwiseOptions) -> None:
    early = f" of {options.steps:,}, then validation no longer improved" * (result.steps < options.steps)
    table = Table("", "", show_header=False, box=None)
    table.add_row("steps", f"{result.steps:,}{early}; {result.seconds:.0f} seconds")
    table.add_row(f"validation {result.metric}, the model alone", f"{result.before:.3f}")
    table.add_row("with the head", f"{result.after:.3f} (step {result.best_step:,}, the best)")
    low, high = result.gain.low, result.gain.high
    table.add_row("gain, and its 95% interval", f"{result.gain.mean:+.3f}, {low:+.3f} to {high:+.3f}")
    if result.accepted:
        table.add_row("saved", escape(str(output)))
    console.print(table)
    if result.accepted:
        console.print(f"Next: polyencoders rank {escape(str(output))} --query '...' --documents FILE", soft_wrap=True)
    else:
        console.print(
            "[yellow]The head is refused: on the held-out examples it is not better than the model alone by more than "
            "chance could give. Nothing was written; the model ranks as well without it."
        )
