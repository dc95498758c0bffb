"""`polyencoders train`: a recipe, or a file of pairs, to a saved model. `polyencoders distill` runs through it too."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from polyencoders.cli import options
from polyencoders.cli.architectures import (
    DEFAULT_ARCHITECTURE,
    DEFAULT_BACKBONE,
    build_model,
    reads_pairs,
    resolve_backbone,
)
from polyencoders.cli.display import console, is_first, progress, resumable
from polyencoders.cli.export import write_export
from polyencoders.encoders.cut import said_of_documents
from polyencoders.errors import TrainingError

if TYPE_CHECKING:
    from polyencoders.cli.recipes import Recipe
    from polyencoders.data import Example
    from polyencoders.training import Comparison, TrainingResult


def train(
    context: typer.Context,
    recipe: options.Recipe = None,
    data: options.DataOrRecipe = None,
    columns: options.ColumnsOf = None,
    validation: options.Validation = None,
    architecture: options.Architecture = DEFAULT_ARCHITECTURE,
    backbone: options.Backbone = DEFAULT_BACKBONE,
    output: options.Output = Path("models/mine"),
    steps: options.Steps = 1000,
    batch_size: Annotated[
        int | None,
        options.in_training(
            help="Queries in a step. [default: 32; cross, cross-warm, cross-one-way and arc-ii: 8, with 7 wrong "
            "documents each]"
        ),
    ] = None,
    learning_rate: Annotated[
        list[float] | None,
        options.in_training(
            help="The highest rate; several are each tried. [default: 5e-5; frozen backbone: 1e-4, 3e-4, 1e-3]"
        ),
    ] = None,
    freeze: options.Freeze = None,
    query_length: options.QueryLength = None,
    document_length: options.DocumentLength = None,
    query_prompt: options.QueryPrompt = None,
    document_prompt: options.DocumentPrompt = None,
    hard_negatives: Annotated[
        int | None,
        options.in_training(help="Wrong documents for each query that the model ranks high, mined every 500 steps."),
    ] = None,
    seed: options.Seed = 0,
    on_error: options.OnError = "stop",
    overwrite: options.Overwrite = False,
    export: options.Export = None,
) -> None:
    """Train a model, by a recipe or on a file of pairs; an interrupted run goes on where it stopped.

    Examples:

        polyencoders train recipes/chitchat.yaml

        polyencoders train --data mine.jsonl --freeze backbone --output models/mine
    """
    from polyencoders.cli.recipes import read_recipe

    check_recipe(context, recipe, data)
    if recipe is not None:
        run(read_recipe(recipe), overwrite, export)
        return
    training: dict[str, Any] = {"batch_size": 8, "negatives": 7} if reads_pairs(architecture) else {}
    if batch_size is not None:
        training["batch_size"] = batch_size
    if learning_rate:
        training["learning_rate"] = learning_rate
    if hard_negatives is not None:
        training["hard_negatives"] = {"number": hard_negatives}
    run_from_options(context, training)


def check_recipe(context: typer.Context, recipe: Path | None, data: str | None) -> None:
    """Refuse anything but a recipe alone, which says everything itself, or data."""
    if (recipe is None) == (data is None):
        raise typer.BadParameter("give a recipe, or --data FILE")
    beside = [
        f"--{name.replace('_', '-')}"
        for name in context.params
        if name not in ("recipe", "overwrite", "export") and "COMMANDLINE" in str(context.get_parameter_source(name))
    ]
    if recipe is not None and beside:
        raise typer.BadParameter(f"{', '.join(beside)}: a recipe says these itself; change them in {recipe}")


def run_from_options(context: typer.Context, training: dict[str, Any]) -> None:
    """Train by the options of the command line: those that `train` and `distill` share, and further ones of the run."""
    from polyencoders.cli.recipes import parse_recipe

    given = context.params
    lengths = {name: given[name] for name in ("query_length", "document_length") if given.get(name) is not None}
    prompts = {side: given[f"{side}_prompt"] for side in ("query", "document") if given.get(f"{side}_prompt")}
    content = {
        "model": {
            "architecture": given["architecture"],
            "backbone": given["backbone"],
            **lengths,
            **({"prompts": prompts} if prompts else {}),
        },
        "data": {
            "train": given["data"],
            "validation": given["validation"],
            "columns": given.get("columns"),
            "on_error": given.get("on_error", "stop"),
        },
        "training": {"steps": given["steps"], "seed": given["seed"], "freeze": list(given["freeze"] or ()), **training},
        "output": str(given["output"]),
    }
    run(parse_recipe(content), given["overwrite"], Path(given["export"]) if given["export"] else None)


def run(recipe: Recipe, overwrite: bool = False, export: Path | None = None) -> None:
    """Train by a recipe, on a teacher's scores where it says so, and print what came of it."""
    from transformers import set_seed

    from polyencoders import training
    from polyencoders.cli.training_progress import TrainingProgress
    from polyencoders.training.folds import FOLDS, MOST_STEPS
    from polyencoders.training.output import check_output

    chosen = recipe.options
    teacher = None
    output = Path(recipe.output)
    if isinstance(chosen.distillation, training.Distillation) and chosen.distillation.teacher is None:
        raise TrainingError("training: distillation: no teacher is given, a directory or a name on the hub")
    check_output(output, overwrite)
    if isinstance(chosen.distillation, training.Distillation):
        # Before the data, so that a teacher that is not there is named at once.
        teacher = training.Teacher(resolve_backbone(str(chosen.distillation.teacher)), bf16=chosen.bf16)
    examples, validation, corpus = read_splits(recipe)
    few = recipe.validation is None and teacher is None and len(validation) == 0
    if few:
        said = (
            f"{len(examples)} pairs are few: a fifth of them in turn is held out, to choose the learning rate and the "
            f"step ({FOLDS} folds of at most {MOST_STEPS} steps); then all are trained on."
        )
        console.print(said, soft_wrap=True)
    console.print(
        f"{recipe.architecture} on {recipe.backbone}: {len(examples):,} examples to train on, "
        f"{len(validation):,} to validate on" + (f"; taught by {teacher.name}" if teacher is not None else "")
    )
    set_seed(chosen.seed)
    model = build_model(recipe.architecture, recipe.backbone, recipe.settings, "backbone" in chosen.frozen)
    answers = [text for example in examples for text in example.positives]
    for line in said_of_documents(model, answers, "--document-length says how much is read, up to what the model can."):
        console.print(escape(line), highlight=False, soft_wrap=True)
    if teacher is not None and validation and is_first():
        _say_who_ranks_better(training.compare_with_teacher(model, teacher, validation, chosen))
    with resumable(), progress() as bar:
        shown = TrainingProgress(bar)
        given = (examples, validation, output, chosen, [shown], shown.on_texts)
        if few:
            result = training.train_in_folds(model, examples, *given[2:], overwrite=overwrite)
        elif teacher is None:
            result = training.train(model, *given, corpus=corpus, overwrite=overwrite)
        else:
            result = training.distill(model, teacher, *given, shown.on_pairs, corpus, overwrite)
    _report(result, output, recipe)
    if export is not None and is_first():
        write_export(model, export)


def _say_who_ranks_better(found: Comparison) -> None:
    gap = found.difference
    console.print(
        f"On {found.queries} validation queries the teacher's MRR is {found.teacher.mean:.3f}, that of the model as it "
        f"comes {found.student.mean:.3f}: {gap.mean:+.3f} ({gap.low:+.3f} to {gap.high:+.3f}).",
        soft_wrap=True,
    )
    if gap.mean <= 0:
        console.print(
            "[yellow]A teacher that ranks no better teaches nothing: `polyencoders train` learns from the pairs alone.",
            soft_wrap=True,
        )


def read_splits(recipe: Recipe) -> tuple[list[Example], list[Example], tuple[str, ...]]:
    """Return examples to train and to validate on, and the set's corpus, if it has one.

    The examples are a set's own sides, or a part is held out of a set without sides. None are held out of few examples,
    which are validated in folds, or where no validation is asked for.
    """
    from polyencoders.data.examples import right_answers
    from polyencoders.data.lines import located
    from polyencoders.training.folds import FEW

    source = options.read_data(recipe.train, recipe.columns, recipe.on_error)
    with located(recipe.train):
        examples = source.examples_of("train")
        if recipe.validation is None:
            alone = recipe.options.distillation is None and int(os.environ.get("WORLD_SIZE", 1)) == 1
            if alone and source.splits is None and len(right_answers(examples)) < FEW:
                return examples, [], source.corpus
            splits = source.split(validation=0.2 if len(examples) < 2 * FEW else 0.1, test=0.0)
            return splits.train, splits.validation, source.corpus
    if recipe.validation == "none":
        return examples, [], source.corpus
    held_out = options.read_data(recipe.validation, recipe.columns, recipe.on_error)
    return examples, held_out.examples_of("validation"), source.corpus


def _report(result: TrainingResult, output: Path, recipe: Recipe) -> None:
    before, after = result.before, result.after
    table = Table("", "", show_header=False, box=None)
    took = f"{result.seconds:.0f} seconds" if result.seconds < 90 else f"{result.seconds / 60:.1f} minutes"
    early = f" of {recipe.options.steps:,}, then validation no longer improved" * (result.steps < recipe.options.steps)
    table.add_row("steps", f"{result.steps:,}{early}; {took}")
    if result.metric is not None and before is not None and after is not None:
        table.add_row(f"validation {result.metric} before", f"{before:.3f}")
        table.add_row("after", f"{after:.3f} (step {result.best_step:,}, the best, is what was kept)")
    if result.rates:
        tried = ", ".join(f"{rate:g} ({reached:.3f})" for rate, reached in result.rates.items())
        table.add_row("learning rate", f"{result.learning_rate:g}, the best of {tried}")
    if result.attention_entropy is not None:
        mean, uniform = result.attention_entropy
        table.add_row("entropy of the attention", f"{mean:.2f} nats; {uniform:.2f} if it were equal over all codes")
    if result.averaged is not None:
        table.add_row("its codes averaged", f"{result.averaged:.3f}: without the document's attention over them")
    table.add_row("saved", escape(str(output)))
    console.print(table)
    learnt = re.fullmatch(r"poly(-\d+)?", recipe.architecture)
    if learnt and result.averaged is not None and after is not None and result.averaged >= after:
        console.print(
            f"Averaged into one vector, the codes rank as well here: --architecture bi-attention{learnt[1] or ''} "
            "trains them so, and any vector store searches it.",
            soft_wrap=True,
        )
    if before is not None and after is not None and after <= before:
        hint = (
            ", which finds every answer: they cannot show whether training helps. Harder ones would: --validation FILE."
        )
        if before < 1:
            cheaper = "" if "backbone" in recipe.options.frozen else " or --freeze backbone"
            hint = f". More data or fewer steps{cheaper} may help."
        console.print(
            f"[yellow]On the held-out examples the trained model is no better than the one it started from{hint}"
        )
        if result.best_step == 0:
            console.print(
                "[yellow]What was saved is the model as it came; --validation none trains all the same.", soft_wrap=True
            )
    console.print(f"Next: polyencoders rank {escape(str(output))} --query '...' --documents FILE", soft_wrap=True)
