"""The commands and their help. Each imports its part when it runs, so that `--help` is quick."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any

import typer

from polyencoders.cli.architectures import DEFAULT_ARCHITECTURE
from polyencoders.cli.index_app import index_app
from polyencoders.cli.options import (
    DATA_HELP,
    ON_RAY,
    AcceptDocumentsFrom,
    Backbone,
    Data,
    Freeze,
    IndexPath,
    MadeBy,
    Seed,
)
from polyencoders.errors import TrainingError

IN_SEVERAL_PROCESSES = ("train", "distill")

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
app.add_typer(index_app, name="index")


@app.callback(invoke_without_command=True)
def version(
    context: typer.Context, show: Annotated[bool, typer.Option("--version", help="Print the version.")] = False
) -> None:
    if show:
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


@app.command()
def demo(
    output: Annotated[Path, typer.Option(help="Where the trained model is saved.")] = Path("models/demo"),
) -> None:
    """Train on real conversations and answer five of them, in minutes, from nothing.

    Needs `pip install "polyencoders[demo]"`.
    """
    from polyencoders.cli import demo as command

    command.run(output)


@app.command()
def train(
    context: typer.Context,
    recipe: Annotated[
        Path | None, typer.Argument(help="A recipe in YAML (see recipes/); or give --data instead.", show_default=False)
    ] = None,
    data: Annotated[str | None, typer.Option(help=DATA_HELP, show_default=False)] = None,
    validation: Annotated[
        str | None,
        typer.Option(
            help="Held-out examples to choose the checkpoint by. [default: the set's own, or a tenth of --data]"
        ),
    ] = None,
    architecture: Annotated[
        str,
        typer.Option(
            help="`bi`, `bi-attention`, `poly-M`, `poly-first-M`, `poly-last-M`, `poly-last-and-first-M`, `cross` or "
            "`arc-ii`."
        ),
    ] = DEFAULT_ARCHITECTURE,
    backbone: Backbone = "sentence-transformers/all-MiniLM-L6-v2",
    output: Annotated[Path, typer.Option(help="Where the model is saved, whole or not at all.")] = Path("models/mine"),
    steps: Annotated[int, typer.Option(help="Updates of the weights.")] = 1000,
    batch_size: Annotated[
        int | None,
        typer.Option(
            help="Queries in a step. [default: 32; 8, with 7 wrong documents each, of models that read every pair: "
            "cross, cross-warm, arc-ii]",
            show_default=False,
        ),
    ] = None,
    learning_rate: Annotated[
        list[float] | None,
        typer.Option(
            help="The highest of the run. Say it more than once and each is tried, and validation chooses. [default: "
            "5e-5; on a frozen backbone 1e-4, 3e-4 and 1e-3]",
            show_default=False,
        ),
    ] = None,
    freeze: Freeze = None,
    hard_negatives: Annotated[
        int | None,
        typer.Option(
            help="Wrong documents a query that the model itself ranks highest, mined anew every 500 steps, beside the "
            "other queries' documents (bi- and poly-encoders). [default: none]",
            show_default=False,
        ),
    ] = None,
    seed: Seed = 0,
    overwrite: Annotated[bool, typer.Option(help="Replace a model that is there already.")] = False,
) -> None:
    """Train a model, by a recipe or on a file of pairs; an interrupted run goes on where it stopped.

    Examples:

        polyencoders train recipes/chitchat.yaml

        polyencoders train --data mine.jsonl --freeze backbone --output models/mine
    """
    from polyencoders.cli import train as command
    from polyencoders.cli.architectures import reads_pairs
    from polyencoders.cli.recipes import parse_recipe, read_recipe

    _check_recipe(context, recipe, data)
    if recipe is not None:
        command.run(read_recipe(recipe), overwrite)
        return
    training: dict[str, Any] = {"steps": steps, "seed": seed, "freeze": freeze or []}
    if reads_pairs(architecture):
        training |= {"batch_size": 8, "negatives": 7}
    if batch_size is not None:
        training["batch_size"] = batch_size
    if learning_rate:
        training["learning_rate"] = learning_rate
    if hard_negatives is not None:
        training["hard_negatives"] = {"number": hard_negatives}
    content = {
        "model": {"architecture": architecture, "backbone": backbone},
        "data": {"train": data, "validation": validation},
        "training": training,
        "output": str(output),
    }
    command.run(parse_recipe(content), overwrite)


@app.command()
def distill(
    context: typer.Context,
    recipe: Annotated[
        Path | None,
        typer.Argument(help="A recipe in YAML (see recipes/distill.yaml); or give --data instead.", show_default=False),
    ] = None,
    data: Annotated[str | None, typer.Option(help=DATA_HELP, show_default=False)] = None,
    teacher: Annotated[
        str | None,
        typer.Option(
            help="What scores: a cross-encoder, or any other model; a directory, or a name on the hub.",
            show_default=False,
        ),
    ] = None,
    validation: Annotated[
        str | None, typer.Option(help="Held-out examples to choose the checkpoint by. [default: a tenth of --data]")
    ] = None,
    architecture: Annotated[str, typer.Option(help="Of the model that learns: `bi`, `poly-M` and so on.")] = (
        DEFAULT_ARCHITECTURE
    ),
    backbone: Backbone = "sentence-transformers/all-MiniLM-L6-v2",
    output: Annotated[Path, typer.Option(help="Where the model is saved, whole or not at all.")] = Path(
        "models/distilled"
    ),
    steps: Annotated[int, typer.Option(help="Updates of the weights.")] = 1000,
    batch_size: Annotated[int, typer.Option(help="Queries in a step, each with its list.")] = 32,
    freeze: Freeze = None,
    seed: Seed = 0,
    overwrite: Annotated[bool, typer.Option(help="Replace a model that is there already.")] = False,
) -> None:
    """Train a bi- or poly-encoder on the scores of a slower model, by a recipe or on a file of pairs.

    For each pair the teacher scores the right answer, wrong ones that the student ranks high, and random ones, once;
    the scores are kept. An interrupted run goes on where it stopped.

    Example:

        polyencoders distill --teacher models/cross --data mine.jsonl --output models/distilled
    """
    from polyencoders.cli import train as command
    from polyencoders.cli.recipes import parse_recipe, read_recipe

    _check_recipe(context, recipe, data)
    if recipe is not None:
        found = read_recipe(recipe)
        if found.options.distillation is None:
            raise typer.BadParameter(f"{recipe} has no `distillation` under `training`; `polyencoders train` runs it")
        command.run(found, overwrite)
        return
    if teacher is None:
        raise typer.BadParameter("give --teacher, whose scores are to be learnt")
    training = {
        "steps": steps,
        "batch_size": batch_size,
        "seed": seed,
        "freeze": freeze or [],
        "distillation": {"teacher": teacher},
    }
    content = {
        "model": {"architecture": architecture, "backbone": backbone},
        "data": {"train": data, "validation": validation},
        "training": training,
        "output": str(output),
    }
    command.run(parse_recipe(content), overwrite)


def _check_recipe(context: typer.Context, recipe: Path | None, data: str | None) -> None:
    """A recipe, which then says all there is to say, or data: one of the two."""
    if (recipe is None) == (data is None):
        raise typer.BadParameter("give a recipe, or --data FILE")
    beside = [
        f"--{name.replace('_', '-')}"
        for name in context.params
        if name not in ("recipe", "overwrite") and "COMMANDLINE" in str(context.get_parameter_source(name))
    ]
    if recipe is not None and beside:
        raise typer.BadParameter(f"{', '.join(beside)}: a recipe says these itself; change them in {recipe}")


@app.command()
def upgrade(
    index: Annotated[str, typer.Option(help="The index: a folder, or `s3://bucket/name` in object storage.")],
    data: Data,
    held_out: Annotated[
        str | None,
        typer.Option(help="Pairs to decide by. [default: a fifth of --data]", show_default=False),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(help="Where the new model is saved. [default: beside the index]", show_default=False),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            help="The index's model. [default: from where it was when the index was made]", show_default=False
        ),
    ] = None,
    freeze: Annotated[
        str,
        typer.Option(
            help="What is not trained of the query side: `backbone`, codes and maps alone learn, on one core; "
            "`all-but-top-K`, its last K layers as well; or `embeddings`, nearly all of it, for many pairs."
        ),
    ] = "backbone",
    steps: Annotated[
        int | None,
        typer.Option(
            help="Updates of the weights, at most, in each of two ways that are tried. [default: 200 and 400]",
            show_default=False,
        ),
    ] = None,
    seed: Seed = 0,
) -> None:
    """Make the queries of an index better with pairs of your own; its vectors stay as they are.

    A minute or two on one core. Held-out pairs are searched for in the index, before and after: what they do not
    confirm is refused, and the index stays as it was.

    Example:

        polyencoders upgrade --index answers --data pairs.jsonl
    """
    from polyencoders.cli import upgrade as command

    command.run(index, data, held_out, output, model, freeze, steps, seed)


@app.command()
def pretrain(
    data: Annotated[
        str,
        typer.Option(
            help='`chitchat`, the built-in conversations; JSON Lines of `{"turns": ["oldest", "...", "newest"]}` or of '
            "lists of turns; or plain text, a turn a line, with blank lines between conversations."
        ),
    ],
    output: Annotated[Path, typer.Option(help="Where the backbone is saved, whole or not at all.")] = Path(
        "models/backbone"
    ),
    backbone: Backbone = "sentence-transformers/all-MiniLM-L6-v2",
    from_scratch: Annotated[
        bool, typer.Option(help="Take the architecture and the tokeniser of --backbone only, with new weights.")
    ] = False,
    steps: Annotated[int, typer.Option(help="Updates of the weights.")] = 10_000,
    batch_size: Annotated[int, typer.Option(help="Pairs of a context and an utterance in a step.")] = 32,
    learning_rate: Annotated[float, typer.Option(help="The highest of the run.")] = 5e-5,
    max_length: Annotated[int, typer.Option(help="The most tokens of a pair; the oldest of a context are cut.")] = 128,
    seed: Seed = 0,
    overwrite: Annotated[bool, typer.Option(help="Replace a backbone that is there already.")] = False,
) -> None:
    """Pre-train a backbone on unlabelled conversations; an interrupted run goes on where it stopped.

    Masked words and next utterances, as in the paper; then `polyencoders train --backbone models/backbone`.
    """
    from polyencoders.cli import pretrain as command
    from polyencoders.training.pretraining import PretrainingOptions

    options = PretrainingOptions(
        steps=steps, batch_size=batch_size, learning_rate=learning_rate, max_length=max_length, seed=seed
    )
    command.run(data, output, backbone, from_scratch, options, overwrite)


@app.command()
def evaluate(
    model: Annotated[str, typer.Argument(help="A model directory, or a backbone, which is measured as it comes.")],
    data: Data,
    protocol: Annotated[
        str,
        typer.Option(
            help="`given`: the data's own `candidates`; `sampled`: the right answer among random others; `corpus`: "
            "among all; `auto`: given where all examples have them, the corpus where the set has one, else sampled."
        ),
    ] = "auto",
    candidates: Annotated[int, typer.Option(help="Documents each query ranks, when they are sampled.")] = 20,
    queries: Annotated[int, typer.Option(help="The most queries.")] = 1000,
    measure: Annotated[
        list[str] | None, typer.Option(help="`R@k`, `MRR`, `MAP`, `nDCG@k`; several times. [default: R@1, MRR]")
    ] = None,
    seed: Seed = 0,
    output: Annotated[Path | None, typer.Option(help="Also write the report there, as JSON.")] = None,
) -> None:
    """Measure how well a model ranks, with 95% intervals. Ties count against it."""
    from polyencoders.cli import evaluate as command

    command.run(model, data, protocol, candidates, queries, measure or ["R@1", "MRR"], seed, output)


@app.command()
def rank(
    model: Annotated[str, typer.Argument(help="A model directory, or a backbone.")],
    query: Annotated[
        list[str], typer.Option(help="The query; given several times, the turns of a conversation, oldest first.")
    ],
    documents: Annotated[
        Path, typer.Option(help="A text file with a document on each line, or JSON Lines of texts; plain or gzipped.")
    ],
    top_k: Annotated[int, typer.Option(help="How many to show.")] = 10,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line instead of a table.")] = False,
) -> None:
    """Rank the documents of a file for a query."""
    from polyencoders.cli import rank as command

    command.run(model, query, documents, top_k, as_json)


@app.command()
def compare(
    data: Data,
    architectures: Annotated[
        str, typer.Option(help="Separated by commas.")
    ] = "bi,bi-attention,poly-4,poly-16,poly-first-16,cross",
    backbone: Backbone = "sentence-transformers/all-MiniLM-L6-v2",
    steps: Annotated[int, typer.Option(help="Updates in each training.")] = 300,
    batch_size: Annotated[int, typer.Option(help="Queries in a step (cross-encoders and ARC-II: 8).")] = 32,
    seeds: Annotated[str, typer.Option(help="Separated by commas; every architecture is trained with each.")] = "0",
    freeze: Freeze = None,
    train_examples: Annotated[int | None, typer.Option(help="The most examples to train on.")] = None,
    queries: Annotated[int, typer.Option(help="The most test queries.")] = 500,
    candidates: Annotated[int, typer.Option(help="Documents each of them ranks.")] = 20,
    query_length: Annotated[int, typer.Option(help="The most tokens of a query, the newest.")] = 64,
    document_length: Annotated[int, typer.Option(help="The most tokens of a document.")] = 64,
    output: Annotated[Path, typer.Option(help="For the table, the picture and the models.")] = Path("models/compare"),
    plot: Annotated[bool, typer.Option(help="Draw the picture (needs `polyencoders[plot]`).")] = True,
) -> None:
    """Train and evaluate architectures the same way; print one table, draw one picture.

    Runs that are finished are not run again: stop it, and the same command goes on. With another --freeze or --steps
    and the same --output, the new rows join the old ones.
    """
    from polyencoders.cli import compare as command
    from polyencoders.errors import DataError
    from polyencoders.training import TrainingOptions

    try:
        numbers = [int(seed) for seed in seeds.split(",")]
    except ValueError:
        raise DataError(f"--seeds: expected whole numbers separated by commas, given {seeds!r}") from None
    plan = command.Plan(
        data=data,
        backbone=backbone,
        architectures=[name.strip() for name in architectures.split(",")],
        seeds=numbers,
        options=TrainingOptions(steps=steps, batch_size=batch_size, freeze=freeze or [], validation_queries=300),
        train_examples=train_examples,
        queries=queries,
        candidates=candidates,
        query_length=query_length,
        document_length=document_length,
    )
    command.run(plan, output, plot)


@app.command()
def serve(
    model: Annotated[
        str | None,
        typer.Argument(
            help="A model directory, or a name on the hub. [default: the model that made the index]", show_default=False
        ),
    ] = None,
    index: Annotated[
        str | None,
        typer.Option(
            help="An index to search and to change: a folder, or `s3://bucket/name` in object storage.",
            show_default=False,
        ),
    ] = None,
    compare: Annotated[
        list[str] | None,
        typer.Option(help="Another model, whose ranking the page shows beside; can be given several times."),
    ] = None,
    host: Annotated[str, typer.Option(help="The address to listen on; `0.0.0.0`: every one of the machine.")] = (
        "127.0.0.1"
    ),
    port: Annotated[int, typer.Option(min=0, max=65535)] = 8080,
    key: Annotated[
        str | None,
        typer.Option(
            "--api-key",
            envvar="POLYENCODERS_API_KEY",
            help="Asked for with every request. Better given in the environment, where `ps` does not show it.",
            show_default=False,
        ),
    ] = None,
    allow_host: Annotated[
        list[str] | None,
        typer.Option(help="A name by which this server is reached; can be given several times. `*`: any."),
    ] = None,
    cache: Annotated[
        Path | None, typer.Option(help="A file that keeps document vectors over restarts.", show_default=False)
    ] = None,
    cache_mb: Annotated[int, typer.Option(help="Document vectors in memory, MB.", min=1)] = 512,
    max_body_mb: Annotated[float, typer.Option(help="The largest request, MB.", min=0.001)] = 8.0,
    max_documents: Annotated[int, typer.Option(help="The most documents of a request.", min=1)] = 1000,
    max_requests: Annotated[int, typer.Option(help="The most requests at once; more are told to come back.", min=1)] = (
        256
    ),
    max_wait: Annotated[
        float, typer.Option(help="Seconds of work that may wait for the model; more is told to come back.", min=0.1)
    ] = 10.0,
    accept_documents_from: AcceptDocumentsFrom = None,
    page: Annotated[bool, typer.Option(help="Whether there is a page at `/`.")] = True,
    ray: Annotated[
        str | None,
        typer.Option(
            help="Serve from a Ray cluster: HOST:PORT of its head, `auto` for that of this machine, or `local`. The "
            "index is searched by shards on all its machines.",
            **ON_RAY,
        ),
    ] = None,
    shards: Annotated[
        int | None,
        typer.Option(help="Of the index. [default: one for each machine]", min=1, **ON_RAY),
    ] = None,
    replicas: Annotated[
        int | None, typer.Option(help="Processes that hold the same shard. [default: 1]", min=1, **ON_RAY)
    ] = None,
    threads: Annotated[
        int | None, typer.Option(help="Of each shard. [default: as many as there are]", min=1, **ON_RAY)
    ] = None,
    patience: Annotated[
        float | None, typer.Option(help="Seconds to wait for a lost shard. [default: 10]", min=0.1, **ON_RAY)
    ] = None,
    partial: Annotated[
        bool, typer.Option("--partial", help="Then answer without its documents, and say so.", **ON_RAY)
    ] = False,
    server_threads: Annotated[int | None, typer.Option(help="Of the model. [default: 1]", min=1, **ON_RAY)] = None,
) -> None:
    """Answer over HTTP: rerank and search, with a page to try it.

    Needs `pip install "polyencoders[serve]"`, with `--ray` `pip install "polyencoders[ray]"`.

    Examples:

        polyencoders serve models/mine

        polyencoders serve --index answers

        polyencoders serve --index /shared/answers --ray 10.0.0.1:6379 --shards 4 --replicas 2
    """
    from polyencoders.cli import serve as command

    command.run(
        model=model,
        index=index,
        compare=compare or [],
        host=host,
        port=port,
        key=key,
        hosts=allow_host or [],
        cache=cache,
        cache_mb=cache_mb,
        max_body_mb=max_body_mb,
        max_documents=max_documents,
        max_requests=max_requests,
        max_wait=max_wait,
        accept_documents_from=accept_documents_from,
        page=page,
        cluster=ray,
        spread={
            "shards": shards,
            "replicas": replicas,
            "threads": threads,
            "patience": patience,
            "partial": partial or None,
            "server_threads": server_threads,
        },
    )


@app.command()
def search(
    path: IndexPath,
    query: Annotated[
        list[str], typer.Option(help="The query; given several times, the turns of a conversation, oldest first.")
    ],
    k: Annotated[int, typer.Option("--top-k", "-k", help="How many hits.", min=1)] = 10,
    where: Annotated[str | None, typer.Option(help="An SQL condition on the metadata: `lang = 'en'`.")] = None,
    mode: Annotated[
        str, typer.Option(help="`exact`: proven to be the best; `fast`: looks where the best most probably are.")
    ] = "exact",
    share: Annotated[float | None, typer.Option(help="Of the documents, that `fast` looks at. [default: 0.07]")] = None,
    model: MadeBy = None,
    accept_documents_from: AcceptDocumentsFrom = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line instead of a table.")] = False,
    ray: Annotated[
        str | None,
        typer.Option(
            help="Search on a Ray cluster: HOST:PORT of its head, `auto` or `local`. Its shards are started for this "
            "search alone; `polyencoders serve --ray` keeps them.",
            show_default=False,
        ),
    ] = None,
    shards: Annotated[
        int | None,
        typer.Option(help="Of the index, on Ray. [default: one for each machine]", min=1, show_default=False),
    ] = None,
) -> None:
    """Find the best documents of an index for a query."""
    from polyencoders.cli import index as command

    command.search(path, query, k, where, mode, share, model, accept_documents_from, as_json, ray, shards)
