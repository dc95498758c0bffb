"""`polyencoders pretrain`: unlabelled conversations to a backbone.

Knows readers and the pre-training run; each does its part.
"""

from __future__ import annotations

from pathlib import Path

from rich.markup import escape
from rich.table import Table

from polyencoders.cli.architectures import resolve_backbone
from polyencoders.cli.display import TrainingProgress, console, progress, quieten, resumable
from polyencoders.cli.train import check_output
from polyencoders.data.conversations import load_conversations
from polyencoders.training.pretraining import PretrainingOptions, PretrainingResult, pretrain


def run(
    data: str, output: Path, backbone: str, from_scratch: bool, options: PretrainingOptions, overwrite: bool
) -> None:
    """Pre-train a backbone and say what came of it."""
    quieten()
    # A backbone of ours has the record of its pre-training beside it.
    check_output(output, overwrite, "backbone", "pretraining.json")
    conversations, validation = load_conversations(data, options.seed)
    start = "from scratch, built as" if from_scratch else "on from"
    console.print(
        f"{start} {backbone}: {len(conversations):,} conversations to train on, {len(validation):,} to validate on"
    )
    with resumable(), progress() as bar:
        shown = TrainingProgress(bar, "pre-training")
        result = pretrain(conversations, validation, output, resolve_backbone(backbone), from_scratch, options, [shown])
    _report(result, output)


def _report(result: PretrainingResult, output: Path) -> None:
    table = Table("", "before", f"after step {result.best_step:,}, the best", box=None)
    table.add_row("validation loss", f"{result.before.loss:.3f}", f"{result.after.loss:.3f}")
    table.add_row("of a masked token", f"{result.before.masked_loss:.3f}", f"{result.after.masked_loss:.3f}")
    table.add_row(
        "next utterance told", f"{result.before.next_accuracy:.3f}", f"{result.after.next_accuracy:.3f} (by chance 0.5)"
    )
    console.print(table)
    console.print(f"saved to {escape(str(output))}")
    console.print(f"Next: polyencoders train --backbone {escape(str(output))} --data FILE", soft_wrap=True)
