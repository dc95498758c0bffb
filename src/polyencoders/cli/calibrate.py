"""`polyencoders calibrate`: probabilities in place of scores, kept with a model."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from rich.markup import escape
from rich.table import Table
from typer import Argument, Option

from polyencoders.cli.display import console
from polyencoders.cli.evaluate import task_of
from polyencoders.cli.options import ColumnsOf, Seed, read_data
from polyencoders.errors import ModelError

if TYPE_CHECKING:
    from polyencoders.evaluation.calibrating import Bin


def calibrate(
    model: Annotated[Path, Argument(help="A model directory, or an exported one.")],
    data: Annotated[str, Option(help="Held-out examples, which the model was not trained on; as for `evaluate`.")],
    columns: ColumnsOf = None,
    protocol: Annotated[str, Option(help="As for `evaluate`.")] = "auto",
    queries: Annotated[int, Option(help="The most queries.", min=1)] = 1000,
    seed: Seed = 0,
) -> None:
    """Fit probabilities to a model's scores, and keep them with it: the server's `relevance_score` is one then.

    They are of the best twenty candidates of a query that has an answer. Half of the queries fit them, the other half
    confirms them; they are kept only if it does. `polyencoders tune` does the same for the searches of an index.

    Example:

        polyencoders calibrate models/mine --data held-out.jsonl
    """
    import random

    from polyencoders.encoders import load
    from polyencoders.evaluation.calibrating import calibrate as fit

    if not model.is_dir():
        raise ModelError(f"{model}: no such model directory; probabilities are kept in it")
    source = read_data(data, columns)
    examples = source.examples_of("validation")
    if queries < len(examples):
        examples = random.Random(seed).sample(examples, queries)
    loaded = load(model)
    calibration, bins = fit(loaded, task_of(examples, source.corpus, protocol, 20, seed), seed)
    calibration.write(model)
    console.print(reliability_table(bins))
    console.print(
        f"[green]✓[/] {escape(str(model))}: probabilities of the best {calibration.candidates} candidates of a query, "
        f"from {calibration.queries:,} queries.",
        soft_wrap=True,
    )


def reliability_table(bins: "list[Bin]") -> Table:
    """What is said and what is right, on queries that did not fit it."""
    table = Table("said to be likely", title="on held-out queries", min_width=40)
    for name in ("documents", "said, on average", "right"):
        table.add_column(name, justify="right")
    for one in bins:
        shown = (f"{one.said:.0%}", f"{one.right:.0%}") if one.documents else ("–", "–")
        table.add_row(f"{one.least:.0%} to {one.most:.0%}", f"{one.documents:,}", *shown)
    return table
