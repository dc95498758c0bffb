"""`polyencoders tune`: how an index is searched, chosen and confirmed on held-out pairs."""

from typing import Annotated

from rich.markup import escape
from rich.table import Table
from typer import Option

from polyencoders.cli.architectures import resolve_backbone
from polyencoders.cli.calibrate import reliability_table
from polyencoders.cli.display import console, progress, suggest
from polyencoders.cli.options import ColumnsOf, IndexModel, IndexPath, Seed, read_data


def tune(
    path: IndexPath,
    data: Annotated[str, Option(help="Held-out pairs, which the model was not trained on; as for `evaluate`.")],
    columns: ColumnsOf = None,
    rerank: Annotated[str | None, Option(help="A cross-encoder to try: a directory, or a name on the hub.")] = None,
    model: IndexModel = None,
    seed: Seed = 0,
) -> None:
    """Choose how an index is searched: words, a reranker, probabilities.

    Half of the queries choose, the other half confirms. What they do not confirm is left out. `search` and `serve` then
    do it by themselves; their options say otherwise.

    Example:

        polyencoders tune answers --data held-out.jsonl --rerank cross-encoder/ms-marco-MiniLM-L-12-v2
    """
    from polyencoders.evaluation.tuning import MEASURES, tune
    from polyencoders.index import Index

    index = Index.open(path, resolve_backbone(model) if model is not None else None)
    pairs = read_data(data, columns).examples_of("validation")
    with progress() as bar:
        bars = {}

        def advance(what: str, done: int, total: int) -> None:
            if what not in bars:
                bars[what] = bar.add_task(what, total=total)
            bar.update(bars[what], completed=done)

        tuned = tune(index, pairs, rerank, seed, advance)
    tuning = tuned.tuning
    table = Table("", title=f"{tuning.held_out:,} held-out queries that chose nothing (95% intervals)")
    for name in (*MEASURES, "gain in nDCG@10", "ms a query", "kept"):
        table.add_column(name, justify="right")
    for step in tuned.steps:
        gain = "" if step.gain is None else f"{step.gain.mean:+.3f} ({step.gain.low:+.3f} to {step.gain.high:+.3f})"
        measured = [f"{one.mean:.3f} ({one.low:.3f} to {one.high:.3f})" for one in step.measures.values()]
        table.add_row(step.name, *measured, gain, f"{step.milliseconds:.1f}", "[green]✓[/]" if step.kept else "✗")
    console.print(table)
    if tuned.reliability:
        console.print(reliability_table(tuned.reliability))
    else:
        console.print(f"No probabilities: {tuned.no_probabilities}.", highlight=False, soft_wrap=True)
    index.set_tuning(tuning if tuning.says_something else None)
    if not tuning.says_something:
        console.print(f"Nothing was confirmed: {escape(path)} is searched by its vectors alone.", soft_wrap=True)
        return
    console.print(f"[green]✓[/] {escape(path)} is searched so from now on, unless options say otherwise.")
    example = " --min-probability 0.8" * (tuning.calibration is not None)
    suggest(
        {f"polyencoders search {path} --query '...'{example}": "`polyencoders index info` shows how it is searched"}
    )
