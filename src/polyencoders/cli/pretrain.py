"""`polyencoders pretrain`: unlabelled conversations to a backbone."""

from pathlib import Path
from typing import Annotated

from rich.markup import escape
from rich.table import Table
from typer import Option

from polyencoders.cli import options
from polyencoders.cli.architectures import DEFAULT_BACKBONE, resolve_backbone
from polyencoders.cli.display import console, progress, resumable


def pretrain(
    data: Annotated[
        str,
        Option(
            help='`chitchat`, the built-in conversations; JSON Lines of `{"turns": ["oldest", "...", "newest"]}` or of '
            "lists of turns; or plain text, a turn a line, with blank lines between conversations."
        ),
    ],
    output: options.Output = Path("models/backbone"),
    backbone: options.Backbone = DEFAULT_BACKBONE,
    from_scratch: Annotated[
        bool, Option(help="Take the architecture and the tokeniser of --backbone only, with new weights.")
    ] = False,
    steps: options.Steps = 10_000,
    batch_size: Annotated[int, Option(help="Pairs of a context and an utterance in a step.")] = 32,
    learning_rate: Annotated[float, Option(help="The highest of the run.")] = 5e-5,
    max_length: Annotated[int, Option(help="The most tokens of a pair; the oldest of a context are cut.")] = 128,
    seed: options.Seed = 0,
    overwrite: options.Overwrite = False,
) -> None:
    """Pre-train a backbone on unlabelled conversations; an interrupted run goes on where it stopped.

    Masked words and next utterances, as in the paper; then `polyencoders train --backbone models/backbone`.
    """
    from polyencoders import training
    from polyencoders.cli.training_progress import TrainingProgress
    from polyencoders.data.conversations import load_conversations
    from polyencoders.training.output import check_output

    settings = training.PretrainingOptions(
        steps=steps, batch_size=batch_size, learning_rate=learning_rate, max_length=max_length, seed=seed
    )
    # `pretraining.json` is written beside every backbone of ours.
    check_output(output, overwrite, "backbone", "pretraining.json")
    conversations, validation = load_conversations(data, seed)
    start = "from scratch, built as" if from_scratch else "on from"
    console.print(
        f"{start} {backbone}: {len(conversations):,} conversations to train on, {len(validation):,} to validate on"
    )
    with resumable(), progress() as bar:
        result = training.pretrain(
            conversations,
            validation,
            output,
            resolve_backbone(backbone),
            from_scratch,
            settings,
            [TrainingProgress(bar, "pre-training")],
        )
    before, after = result.before, result.after
    table = Table("", "before", f"after step {result.best_step:,}, the best", box=None)
    table.add_row("validation loss", f"{before.loss:.3f}", f"{after.loss:.3f}")
    table.add_row("of a masked token", f"{before.masked_loss:.3f}", f"{after.masked_loss:.3f}")
    table.add_row("next utterance told", f"{before.next_accuracy:.3f}", f"{after.next_accuracy:.3f} (by chance 0.5)")
    console.print(table)
    console.print(f"saved to {escape(str(output))}")
    console.print(f"Next: polyencoders train --backbone {escape(str(output))} --data FILE", soft_wrap=True)
