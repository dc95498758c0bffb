"""`polyencoders demo`: from nothing to ranked answers on real conversations, in minutes, and where the minutes go.

Trains a bi-encoder and a poly-encoder the same way on a frozen backbone, and measures both before and after. The
poly-encoder then answers five held-out conversations from an index of more than ten thousand real replies.
"""

from __future__ import annotations

import random
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from rich.markup import escape
from rich.table import Table
from typer import Option

from polyencoders.cli.architectures import DEFAULT_BACKBONE, build_model
from polyencoders.cli.display import advancing, console, progress, shortened, suggest
from polyencoders.cli.export import write_export

if TYPE_CHECKING:
    from polyencoders.data import Example
    from polyencoders.evaluation import CandidateTask, Report
    from polyencoders.index import Index
    from polyencoders.models import DualEncoder

CONVERSATIONS = 5
TURNS = 3  # The most turns of a conversation


def demo(output: Annotated[Path, Option(help="Where the trained model is saved.")] = Path("models/demo")) -> None:
    """Train on real conversations and answer five of them, in minutes, from nothing.

    Needs `pip install "polyencoders[demo]"`.
    """
    run(output)


def run(output: Path, train_examples: int = 6_000, steps: int = 1_000, test_queries: int = 1_000) -> None:
    """Run the demo; save the poly-encoder to `output`, and beside it an exported one and an index of the replies."""
    from transformers import set_seed

    from polyencoders.cli.training_progress import TrainingProgress
    from polyencoders.data import chitchat, write_jsonl
    from polyencoders.evaluation import sampled_candidates
    from polyencoders.index import Index
    from polyencoders.training import TrainingOptions, train

    clock = _Clock()
    with clock.on("reading conversations"):
        splits = chitchat()
    # Drawn, because neighbouring examples share a conversation.
    examples = random.Random(0).sample(splits.train, train_examples)
    test = random.Random(0).sample(splits.test, test_queries)
    lists = sampled_candidates(test, candidates=20, seed=0)
    console.print(
        f"{len(examples):,} of {len(splits.train):,} training examples; {len(test):,} test queries from other "
        "conversations, each to find its reply among 20.\n"
    )

    reports = {}
    # At one learning rate, the best one for conversations: trying three would take three times as long.
    options = TrainingOptions(steps=steps, freeze="backbone", learning_rate=1e-4, validation_queries=300)
    for name, label in (("bi", "bi-encoder"), ("poly-4", "poly-encoder")):
        set_seed(options.seed)
        model = build_model(name, DEFAULT_BACKBONE, {}, frozen=True)
        if name == "bi":
            with clock.on("measuring the backbone as it comes"):
                reports["as it comes"] = _measured(model, lists)  # its maps change nothing yet
        with clock.on(f"training a {label} on the frozen backbone"), progress() as bar:
            shown = TrainingProgress(bar)
            folder = output if name == "poly-4" else None
            train(model, examples, splits.validation, folder, options, [shown], shown.on_texts, overwrite=True)
        with clock.on("measuring it"):
            reports[f"{label}, trained"] = _measured(model, lists)
    first = reports["as it comes"]
    table = Table("", *first.metrics, title=f"test queries: {first.queries:,} (mean, 95% interval)")
    for label, report in reports.items():
        metrics = report.metrics.values()
        table.add_row(label, *(f"{metric.mean:.3f}  [{metric.low:.3f}, {metric.high:.3f}]" for metric in metrics))
    console.print(table)
    console.print(_difference(reports["bi-encoder, trained"], reports["poly-encoder, trained"]))

    replies = list(dict.fromkeys(text for example in splits.test for text in example.positives))
    where = output.with_name(f"{output.name}-index")
    with clock.on(f"encoding {len(replies):,} replies into an index, and searching it"):
        if (where / "documents.lance").is_dir():
            shutil.rmtree(where)  # the index of an earlier demo, which another model made
        index = Index.create(where, output)
        with progress() as bar:
            index.add(replies, advance=advancing(bar, "adding", len(replies)))
        _answer(index, test[:CONVERSATIONS])
    exported = output.with_name(f"{output.name}-onnx")
    with clock.on("exporting the model, to search without PyTorch"):
        write_export(model, exported)
    pairs, texts = output.with_name(f"{output.name}-pairs.jsonl"), output.with_name(f"{output.name}-replies.txt")
    write_jsonl(examples[:1_000], pairs)
    texts.write_text("".join(" ".join(reply.split()) + "\n" for reply in replies[:1_000]), encoding="utf-8")
    console.print(clock.table())
    _next(output, where, exported, pairs, texts)


def _measured(model: DualEncoder, lists: CandidateTask) -> Report:
    """Measure a model from its backbone's outputs, which are computed once for all models."""
    from polyencoders.cli.training_progress import TrainingProgress
    from polyencoders.evaluation import evaluate
    from polyencoders.training.frozen import freeze, kept_outputs

    freeze(model, "backbone")
    documents = [text for listed in lists.documents for text in listed]
    with progress() as bar:
        shown = TrainingProgress(bar)
        with kept_outputs(model, None, lambda: {"query": lists.queries, "document": documents}, shown.on_texts):
            return evaluate(model, lists)


class _Clock:
    """Measures where the time goes."""

    def __init__(self) -> None:
        self.spent: dict[str, float] = {}

    @contextmanager
    def on(self, what: str) -> Iterator[None]:
        """Count the seconds of a block towards `what`, and say what is happening."""
        console.print(f"[dim]… {what}")
        started = time.perf_counter()
        yield
        self.spent[what] = self.spent.get(what, 0.0) + time.perf_counter() - started

    def table(self) -> Table:
        """The seconds of each part."""
        table = Table("where the time went", "seconds")
        for what, seconds in (*self.spent.items(), ("in all, without installation", sum(self.spent.values()))):
            table.add_row(what, f"{seconds:.0f}")
        return table


def _difference(bi: Report, poly: Report) -> str:
    from polyencoders.evaluation import paired_difference

    name = next(iter(poly.metrics))
    gap = paired_difference(poly.values[name], bi.values[name])
    sure = "more than chance" if gap.low > 0 or gap.high < 0 else "no more than chance could give"
    return (
        f"Poly-encoder minus bi-encoder on the same queries: {gap.mean:+.3f} {name} "
        f"[{gap.low:+.3f}, {gap.high:+.3f}], {sure}.\n"
    )


def _answer(index: Index, conversations: list[Example]) -> None:
    """Print the three best of all replies for each conversation."""
    answers = index.search([list(example.query) for example in conversations], k=3 + TURNS)
    for example, answer in zip(conversations, answers, strict=True):
        # The index also holds turns of these very conversations, which are no answers to themselves.
        said = set(example.query) - set(example.positives)
        console.print()
        for turn in example.query:
            console.print(f"  [bold]{escape(shortened(turn, 150))}")
        for hit in [hit for hit in answer if hit.text not in said][:3]:
            right = " [green](what was said)" if hit.text in example.positives else ""
            console.print(f"    {hit.score:.3f}  {escape(shortened(hit.text or '', 150))}{right}")
    console.print()


def _next(output: Path, where: Path, exported: Path, pairs: Path, texts: Path) -> None:
    mine = output.with_name("mine")
    commands = {
        f"polyencoders search {where} --query 'Any plans for the weekend?'": "search those replies",
        f"polyencoders search {where} --model {exported} --query 'Do you have a dog?'": "the same, without PyTorch",
        f"polyencoders serve --index {where}": "a page that shows why; in a clone: make serve",
        f"polyencoders index create {mine}-index --model {output} --data {texts}": "an index of texts, a line each",
        f"polyencoders train --data {pairs} --freeze backbone --output {mine}": "train on pairs, a line of JSON each",
        "polyencoders train --data chitchat --output models/chitchat": "train all of it: half an hour",
        "polyencoders compare --data chitchat": "every architecture, the same way: hours",
    }
    console.print(f"\nThe model is in [bold]{output}[/], the replies in the index [bold]{where}[/]. Next:")
    suggest(commands)
    console.print(f"Put files of your own in the place of {pairs} and {texts}.", highlight=False, soft_wrap=True)
