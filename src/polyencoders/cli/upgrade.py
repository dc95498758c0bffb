"""`polyencoders upgrade`: better queries for an index, or the index left as it was, with the figures either way."""

import time
from pathlib import Path
from typing import Annotated

from rich.markup import escape
from rich.table import Table
from typer import BadParameter, Option

from polyencoders.cli.architectures import resolve_backbone
from polyencoders.cli.display import console, progress, suggest
from polyencoders.cli.export import write_export
from polyencoders.cli.options import ColumnsOf, Export, IndexModel, Seed, read_data
from polyencoders.errors import TrainingError


def upgrade(
    index: Annotated[str, Option(help="The index: a folder, or `s3://bucket/name` in object storage.")],
    data: Annotated[
        str | None, Option(help="Pairs to learn from: JSON Lines, or a published set (docs/data.md).")
    ] = None,
    columns: ColumnsOf = None,
    held_out: Annotated[str | None, Option(help="Pairs to decide by. [default: a fifth of --data]")] = None,
    teacher: Annotated[
        str | None,
        Option(help="Without pairs: a cross-encoder, a directory or a name on the hub, that says what fits a query."),
    ] = None,
    queries: Annotated[
        Path | None,
        Option(
            help="What the teacher reads for: a log, one query a line. [default: titles, first sentences and "
            "questions from the documents]"
        ),
    ] = None,
    most_queries: Annotated[int, Option(help="The most of them, drawn at random: the teacher is slow.", min=1)] = 1000,
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
    """Make the queries of an index better with pairs of your own, or with a teacher; its vectors stay as they are.

    With pairs, a minute or two on one core. Held-out queries are searched for in the index, before and after: what they
    do not confirm is refused, and the index stays as it was. Without pairs, the teacher reads what the queries of a log
    find, which takes most of the time; what it finds best is right, to learn from and to decide by.

    Examples:

        polyencoders upgrade --index answers --data pairs.jsonl

        polyencoders upgrade --index answers --queries log.txt --teacher cross-encoder/ms-marco-MiniLM-L6-v2
    """
    from polyencoders.cli.training_progress import TrainingProgress
    from polyencoders.data import read_queries
    from polyencoders.index import Index
    from polyencoders.training import upgrade as training
    from polyencoders.training.unlabelled import upgrade_without_labels

    if (data is None) == (teacher is None):
        raise BadParameter("give --data FILE, or --teacher MODEL where there are no pairs")
    if (queries is not None and teacher is None) or (held_out is not None and data is None):
        raise BadParameter("--queries goes with --teacher, --held-out with --data")
    started = time.perf_counter()
    pairs = read_data(data, columns).examples_of("train") if data is not None else []
    deciding = read_data(held_out, columns).examples_of("validation") if held_out is not None else None
    asked = read_queries(queries) if queries is not None else None
    opened = Index.open(index, resolve_backbone(model) if model is not None else None)
    learnt = f"{len(pairs):,} pairs" if data is not None else f"queries of {queries or 'their own'}, read by {teacher}"
    console.print(f"{index}: {len(opened):,} documents, whose vectors stay as they are; {learnt}")
    with progress() as bar:
        shown = TrainingProgress(bar)
        ways = training.ways(freeze, seed, steps)
        if teacher is None:
            done = training.upgrade(opened, pairs, deciding, output, ways, [shown], shown.on_texts)
        else:
            read = (resolve_backbone(teacher), asked, most_queries)
            done = upgrade_without_labels(opened, *read, output, ways, [shown], shown.on_texts, shown.on_pairs)
    title = f"{done.queries:,} held-out queries, searched for in the index (95% intervals)"
    if done.judged_by is not None:
        console.print(f"What is right is the judgement of {escape(done.judged_by)}, not of people.", soft_wrap=True)
    table = Table("", "before", "after", "difference", title=title, min_width=len(title))
    for name, gap in done.difference.items():
        before, after = done.before[name], done.after[name]
        difference = f"{gap.mean:+.3f} ({gap.low:+.3f} to {gap.high:+.3f})"
        table.add_row(name, f"{before.mean:.3f}", f"{after.mean:.3f}", difference)
    console.print(table)
    console.print(f"{time.perf_counter() - started:.0f} seconds, {done.training.seconds:.0f} of them training.")
    name, gap = next(iter(done.difference.items()))
    if not done.confirmed:
        more = "More pairs, or more held-out ones (--held-out)," if teacher is None else "More queries"
        raise TrainingError(
            f"not upgraded: on {done.queries:,} held-out queries {name} differs by {gap.mean:+.3f} "
            f"({gap.low:+.3f} to {gap.high:+.3f}), which is not surely above 0. {index} is as it was, and nothing was "
            f"saved. {more} may tell more"
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
