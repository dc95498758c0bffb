"""`polyencoders upgrade`: better queries for an index, or the index left as it was, with the figures either way."""

import time
from pathlib import Path
from typing import Annotated

from rich.markup import escape
from rich.table import Table
from typer import Option

from polyencoders.cli.architectures import resolve_backbone
from polyencoders.cli.display import console, progress, suggest
from polyencoders.cli.export import write_export
from polyencoders.cli.options import Data, Export, IndexModel, Seed
from polyencoders.errors import TrainingError


def upgrade(
    index: Annotated[str, Option(help="The index: a folder, or `s3://bucket/name` in object storage.")],
    data: Data,
    held_out: Annotated[str | None, Option(help="Pairs to decide by. [default: a fifth of --data]")] = None,
    output: Annotated[Path | None, Option(help="Where the new model is saved. [default: beside the index]")] = None,
    model: IndexModel = None,
    freeze: Annotated[
        str,
        Option(
            help="What is not trained of the query side: `backbone` (only codes and maps learn, on one core), "
            "`all-but-top-K` (the last K layers learn as well) or `embeddings` (all but those, for many pairs)."
        ),
    ] = "backbone",
    steps: Annotated[int | None, Option(help="The most updates of each of two tries. [default: 200 and 400]")] = None,
    seed: Seed = 0,
    export: Export = None,
) -> None:
    """Make the queries of an index better with pairs of your own; its vectors stay as they are.

    A minute or two on one core. Held-out pairs are searched for in the index, before and after: what they do not
    confirm is refused, and the index stays as it was.

    Example:

        polyencoders upgrade --index answers --data pairs.jsonl
    """
    from polyencoders.cli.training_progress import TrainingProgress
    from polyencoders.data import read_source
    from polyencoders.index import Index
    from polyencoders.training import upgrade as training

    started = time.perf_counter()
    pairs = read_source(data, seed).examples_of("train")
    deciding = read_source(held_out, seed).examples_of("validation") if held_out is not None else None
    opened = Index.open(index, resolve_backbone(model) if model is not None else None)
    console.print(f"{index}: {len(opened):,} documents, whose vectors stay as they are; {len(pairs):,} pairs")
    with progress() as bar:
        shown = TrainingProgress(bar)
        ways = training.ways(freeze, seed, steps)
        done = training.upgrade(opened, pairs, deciding, output, ways, [shown], shown.on_texts)
    title = f"{done.queries:,} held-out queries, searched for in the index (95% intervals)"
    table = Table("", "before", "after", "difference", title=title, min_width=len(title))
    for name, gap in done.difference.items():
        before, after = done.before[name], done.after[name]
        difference = f"{gap.mean:+.3f} ({gap.low:+.3f} to {gap.high:+.3f})"
        table.add_row(name, f"{before.mean:.3f}", f"{after.mean:.3f}", difference)
    console.print(table)
    console.print(f"{time.perf_counter() - started:.0f} seconds, {done.training.seconds:.0f} of them training.")
    name, gap = next(iter(done.difference.items()))
    if not done.confirmed:
        raise TrainingError(
            f"not upgraded: on {done.queries:,} held-out queries {name} differs by {gap.mean:+.3f} "
            f"({gap.low:+.3f} to {gap.high:+.3f}), which is not surely above 0. {index} is as it was, and nothing was "
            "saved. More pairs, or more held-out ones (--held-out), may tell more"
        )
    if export is not None:
        from polyencoders.encoders import load

        write_export(load(str(done.output_dir)), export)
    console.print(f"[green]✓[/] {escape(index)} is searched with {escape(str(done.output_dir))} from now on.")
    suggest(
        {
            f"polyencoders search {index} --query '...'": "uses the new model by itself, as does `serve`",
            f"polyencoders index add {index} --data FILE": "makes the same document vectors as before",
        }
    )
