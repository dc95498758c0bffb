"""Puts the commands together."""

import os
from typing import Annotated

import typer

from polyencoders.cli.calibrate import calibrate
from polyencoders.cli.compare import compare
from polyencoders.cli.demo import demo
from polyencoders.cli.display import quieten
from polyencoders.cli.distill import distill
from polyencoders.cli.evaluate import evaluate
from polyencoders.cli.export import export
from polyencoders.cli.index import index_app
from polyencoders.cli.pretrain import pretrain
from polyencoders.cli.rank import rank
from polyencoders.cli.search import search
from polyencoders.cli.serve import serve
from polyencoders.cli.train import train
from polyencoders.cli.tune import tune
from polyencoders.cli.upgrade import upgrade
from polyencoders.errors import TrainingError

IN_SEVERAL_PROCESSES = ("train", "distill")
COMMANDS = {
    "Start": (demo,),
    "Train": (train, distill, pretrain, upgrade),
    "Measure": (evaluate, compare, calibrate, tune),
    "Use": (rank, search, serve, export),
}
"""Commands by the panel of the help that lists them. Commands import what is slow when they run: `--help` is quick."""

app = typer.Typer(
    help=(
        "Match text with text: train, compare and query bi-, poly- and cross-encoders.\n\n"
        "Begin with `polyencoders demo`; with pairs of your own, `polyencoders train --data mine.jsonl`."
    ),
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    add_completion=False,
)
for panel, commands in COMMANDS.items():
    for command in commands:
        app.command(rich_help_panel=panel)(command)
app.add_typer(index_app, name="index", rich_help_panel="Use")


@app.callback(invoke_without_command=True)
def start(
    context: typer.Context, version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False
) -> None:
    if version:
        from polyencoders import __version__

        typer.echo(__version__)
        raise typer.Exit
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())
    elif context.invoked_subcommand not in IN_SEVERAL_PROCESSES and int(os.environ.get("WORLD_SIZE", 1)) > 1:
        raise TrainingError(
            f"`polyencoders {context.invoked_subcommand}` runs in one process: start it without torchrun or "
            f"accelerate, which are for {' and '.join(IN_SEVERAL_PROCESSES)}"
        )
    quieten()
