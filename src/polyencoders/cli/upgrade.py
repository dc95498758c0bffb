"""`polyencoders upgrade`: an index's queries made better, or the index left as it was, with the figures either way.

Knows readers, the upgrade and the terminal.
"""

from __future__ import annotations

import time
from pathlib import Path

from rich.markup import escape
from rich.table import Table

from polyencoders.cli.architectures import resolve_backbone
from polyencoders.cli.display import TrainingProgress, console, progress, quieten
from polyencoders.data import read_source
from polyencoders.errors import TrainingError
from polyencoders.index import Index
from polyencoders.training.upgrade import Upgrade, upgrade, ways


def run(
    path: str,
    data: str,
    held_out: str | None,
    output: Path | None,
    model: str | None,
    freeze: str,
    steps: int | None,
    seed: int,
) -> None:
    """Upgrade an index and say what came of it; refused is an error."""
    quieten()
    started = time.perf_counter()
    pairs = read_source(data, seed).examples_of("train")
    deciding = read_source(held_out, seed).examples_of("validation") if held_out is not None else None
    index = Index.open(path, resolve_backbone(model) if model is not None else None)
    console.print(f"{path}: {len(index):,} documents, whose vectors stay as they are; {len(pairs):,} pairs")
    with progress() as bar:
        shown = TrainingProgress(bar)
        done = upgrade(index, pairs, deciding, output, ways(freeze, seed, steps), [shown], shown.on_texts)
    console.print(_table(done))
    console.print(f"{time.perf_counter() - started:.0f} seconds, {done.training.seconds:.0f} of them training.")
    name, gap = next(iter(done.difference.items()))
    if not done.confirmed:
        raise TrainingError(
            f"not upgraded: on {done.queries:,} held-out queries {name} differs by {gap.mean:+.3f} "
            f"({gap.low:+.3f} to {gap.high:+.3f}), which is not surely above 0. {path} is as it was, and nothing was "
            "saved. More pairs, or more held-out ones (--held-out), may tell more"
        )
    console.print(f"[green]✓[/] {escape(str(path))} is searched with {escape(str(done.output_dir))} from now on.")
    for command, what in {
        f"polyencoders search {path} --query '...'": "uses the new model by itself, as does `serve`",
        f"polyencoders index add {path} --data FILE": "makes the same document vectors as before",
    }.items():
        console.print(f"  [bold]{escape(command)}[/]\n      {escape(what)}", highlight=False, soft_wrap=True)


def _table(done: Upgrade) -> Table:
    title = f"{done.queries:,} held-out queries, searched for in the index (95% intervals)"
    table = Table("", "before", "after", "difference", title=title, min_width=len(title))
    for name in done.before:
        gap = done.difference[name]
        table.add_row(
            name,
            f"{done.before[name].mean:.3f}",
            f"{done.after[name].mean:.3f}",
            f"{gap.mean:+.3f} ({gap.low:+.3f} to {gap.high:+.3f})",
        )
    return table
