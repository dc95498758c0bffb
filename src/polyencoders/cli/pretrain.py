"""`polyencoders pretrain`: unlabelled conversations to a backbone."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from rich.markup import escape
from rich.table import Table
from typer import BadParameter, Option

from polyencoders.cli import options
from polyencoders.cli.architectures import DEFAULT_BACKBONE, resolve_backbone
from polyencoders.cli.display import console, progress, resumable

if TYPE_CHECKING:
    from polyencoders.training import PretrainingResult, TrainingResult

STEPS = {"contrastive": 1_000, "masked": 10_000}


def pretrain(
    data: Annotated[
        list[str],
        Option(
            help='`chitchat`, the built-in conversations; JSON Lines of `{"turns": ["oldest", "...", "newest"]}` or of '
            "lists of turns; plain text, a turn a line, with blank lines between conversations; or "
            "`self-dialogue:PATH`. More than once: all of them."
        ),
    ],
    output: options.Output = Path("models/backbone"),
    backbone: options.Backbone = DEFAULT_BACKBONE,
    objective: Annotated[
        Literal["contrastive", "masked"],
        Option(
            help="`contrastive`: a context finds its next utterance among those of the batch. `masked`: masked words, "
            "and next utterances told from others, as in the paper."
        ),
    ] = "contrastive",
    hard_negatives: Annotated[
        bool,
        Option(
            "--hard-negatives",
            help="Of `contrastive`: a context's last turn and another of its conversation are wrong documents, too.",
        ),
    ] = False,
    from_scratch: Annotated[
        bool,
        Option(help="Of `masked`: take the architecture and the tokeniser of --backbone only, with new weights."),
    ] = False,
    steps: Annotated[
        int | None, Option(help="Updates of the weights. Default: 1,000 of `contrastive`, 10,000 of `masked`.")
    ] = None,
    batch_size: Annotated[int, Option(help="Pairs of a context and an utterance in a step.")] = 32,
    learning_rate: Annotated[float, Option(help="The highest of the run.")] = 5e-5,
    max_length: Annotated[
        int,
        Option(
            help="The most tokens of a context, whose oldest are cut, and of an utterance; of `masked` both together."
        ),
    ] = 128,
    seed: options.Seed = 0,
    overwrite: options.Overwrite = False,
) -> None:
    """Pre-train a backbone on unlabelled conversations; an interrupted run goes on where it stopped.

    Then `polyencoders train --backbone models/backbone`. docs/pretraining.md says what it brings.
    """
    from polyencoders import training
    from polyencoders.cli.training_progress import TrainingProgress
    from polyencoders.data.conversations import load_conversations
    from polyencoders.training.output import check_output

    if from_scratch and objective != "masked":
        raise BadParameter("new weights are trained by --objective masked", param_hint="--from-scratch")
    if hard_negatives and objective != "contrastive":
        raise BadParameter("they are of --objective contrastive", param_hint="--hard-negatives")
    # `pretraining.json` is written beside every backbone of ours.
    check_output(output, overwrite, "backbone", "pretraining.json")
    loaded = [load_conversations(source, seed) for source in data]
    conversations, validation = ([talk for sides in loaded for talk in sides[side]] for side in (0, 1))
    start = "from scratch, built as" if from_scratch else "on from"
    console.print(
        f"{start} {backbone}: {len(conversations):,} conversations to train on, {len(validation):,} to validate on"
    )
    steps = steps or STEPS[objective]
    found, place = resolve_backbone(backbone), escape(str(output))
    with resumable(), progress() as bar:
        callbacks = [TrainingProgress(bar, "pre-training")]
        if objective == "contrastive":
            table = _ranked(
                training.pretrain_contrastive(
                    conversations,
                    validation,
                    output,
                    found,
                    training.TrainingOptions(
                        steps=steps, batch_size=batch_size, learning_rate=learning_rate, seed=seed
                    ),
                    max_length=max_length,
                    hard_negatives=hard_negatives,
                    callbacks=callbacks,
                )
            )
        else:
            settings = training.PretrainingOptions(
                steps=steps, batch_size=batch_size, learning_rate=learning_rate, max_length=max_length, seed=seed
            )
            table = _told(
                training.pretrain(conversations, validation, output, found, from_scratch, settings, callbacks)
            )
    console.print(table)
    console.print(f"saved to {place}")
    console.print(f"Next: polyencoders train --backbone {place} --data FILE", soft_wrap=True)


def _ranked(result: "TrainingResult") -> Table:
    table = Table("of held-out contexts", "before", f"after step {result.best_step:,}, the best", box=None)
    table.add_row(f"{result.metric}, next utterance", f"{result.before:.3f}", f"{result.after:.3f}")
    return table


def _told(result: "PretrainingResult") -> Table:
    before, after = result.before, result.after
    table = Table("", "before", f"after step {result.best_step:,}, the best", box=None)
    table.add_row("validation loss", f"{before.loss:.3f}", f"{after.loss:.3f}")
    table.add_row("of a masked token", f"{before.masked_loss:.3f}", f"{after.masked_loss:.3f}")
    table.add_row("next utterance told", f"{before.next_accuracy:.3f}", f"{after.next_accuracy:.3f} (by chance 0.5)")
    return table
