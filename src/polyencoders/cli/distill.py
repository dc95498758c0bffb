"""`polyencoders distill`: train on the scores of a slower model."""

from pathlib import Path
from typing import Annotated

import typer
from typer import Option

from polyencoders.cli import options
from polyencoders.cli.architectures import DEFAULT_ARCHITECTURE, DEFAULT_BACKBONE
from polyencoders.cli.train import check_recipe, run, run_from_options


def distill(
    context: typer.Context,
    recipe: options.Recipe = None,
    data: options.DataOrRecipe = None,
    teacher: Annotated[
        str | None,
        Option(help="The model that scores: a cross-encoder, or any other; a directory, or a name on the hub."),
    ] = None,
    columns: options.ColumnsOf = None,
    validation: options.Validation = None,
    architecture: options.Architecture = DEFAULT_ARCHITECTURE,
    backbone: options.Backbone = DEFAULT_BACKBONE,
    output: options.Output = Path("models/distilled"),
    steps: options.Steps = 1000,
    batch_size: Annotated[int, options.in_training(help="Queries in a step, each with its list of documents.")] = 32,
    freeze: options.Freeze = None,
    seed: options.Seed = 0,
    on_error: options.OnError = "stop",
    overwrite: options.Overwrite = False,
    export: options.Export = None,
) -> None:
    """Train a bi- or poly-encoder on the scores of a slower model, by a recipe or on a file of pairs.

    For each pair the teacher scores the right answer, wrong ones that the student ranks high, and random ones, once;
    the scores are kept. An interrupted run goes on where it stopped.

    Example:

        polyencoders distill --teacher models/cross --data mine.jsonl --output models/distilled
    """
    from polyencoders.cli.recipes import read_recipe

    check_recipe(context, recipe, data)
    if recipe is not None:
        found = read_recipe(recipe)
        if found.options.distillation is None:
            raise typer.BadParameter(f"{recipe} has no `distillation` under `training`; `polyencoders train` runs it")
        run(found, overwrite, export)
        return
    if teacher is None:
        raise typer.BadParameter("give --teacher, the model whose scores are to be learnt")
    run_from_options(context, {"batch_size": batch_size, "distillation": {"teacher": teacher}})
