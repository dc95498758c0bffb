"""`polyencoders demo`: from nothing to ranked answers on real conversations, in minutes, and where the minutes go.

A bi-encoder and a poly-encoder are trained the same way on a frozen backbone, measured before and after, and the
poly-encoder answers five held-out conversations from more than ten thousand real replies, which stay behind in an
index. Knows the other commands' parts, and tells a story with them.
"""

from __future__ import annotations

import random
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.markup import escape
from rich.table import Table
from transformers import set_seed

from polyencoders.cli.architectures import DEFAULT_BACKBONE, build_model
from polyencoders.cli.display import TrainingProgress, advancing, console, progress, quieten
from polyencoders.data import Example, chitchat
from polyencoders.evaluation import Report, evaluate, paired_difference, sampled_candidates
from polyencoders.index import Index
from polyencoders.training import TrainingOptions, train

TRAIN_EXAMPLES = 6_000
TEST_QUERIES = 1_000
STEPS = 1_000
CONVERSATIONS = 5
CONTEXT = 3
"""Turns of a conversation, at most."""


class Clock:
    """Where the time goes."""

    def __init__(self) -> None:
        self.spent: dict[str, float] = {}

    @contextmanager
    def on(self, what: str) -> Iterator[None]:
        """Count the seconds of a block towards `what`, and say what is happening."""
        console.print(f"[dim]… {what}")
        started = time.perf_counter()
        yield
        self.spent[what] = self.spent.get(what, 0.0) + time.perf_counter() - started


def run(
    output: Path, train_examples: int = TRAIN_EXAMPLES, steps: int = STEPS, test_queries: int = TEST_QUERIES
) -> None:
    """Tell the story; save the poly-encoder to `output`."""
    quieten()
    clock = Clock()
    with clock.on("reading conversations"):
        splits = chitchat()
    # Neighbouring examples share a conversation: draw, rather than take the first.
    examples = random.Random(0).sample(splits.train, train_examples)
    test = random.Random(0).sample(splits.test, test_queries)
    lists = sampled_candidates(test, candidates=20, seed=0)
    console.print(
        f"{len(examples):,} of {len(splits.train):,} training examples; {len(test):,} test queries from other "
        "conversations, each to find its reply among 20.\n"
    )

    reports: dict[str, Report] = {}
    with clock.on("measuring the backbone as it comes"):
        reports["as it comes"] = evaluate(build_model("bi", DEFAULT_BACKBONE, {}), lists)
    # At one learning rate, the one that conversations like best: a story should not be told three times.
    options = TrainingOptions(steps=steps, freeze="backbone", learning_rate=1e-4, validation_queries=300)
    models: dict[str, Any] = {}
    for name, label in (("bi", "bi-encoder"), ("poly-4", "poly-encoder")):
        with clock.on(f"training a {label} on the frozen backbone"), progress() as bar:
            set_seed(options.seed)
            models[name] = build_model(name, DEFAULT_BACKBONE, {}, frozen=True)
            shown = TrainingProgress(bar)
            folder = output if name == "poly-4" else None
            train(models[name], examples, splits.validation, folder, options, [shown], shown.on_texts)
        with clock.on("measuring it"):
            reports[f"{label}, trained"] = evaluate(models[name], lists)
    console.print(_results(reports))
    console.print(_difference(*list(reports.values())[1:]))

    replies = list(dict.fromkeys(text for example in splits.test for text in example.positives))
    where = output.with_name(f"{output.name}-index")
    with clock.on(f"encoding {len(replies):,} replies into an index, and searching it"):
        index = _indexed(where, output, replies)
        _answer(index, test[:CONVERSATIONS])
    _where_the_time_went(clock)
    _next(output, where)


def _results(reports: dict[str, Report]) -> Table:
    names = list(next(iter(reports.values())).metrics)
    table = Table("", *names, title=f"test queries: {next(iter(reports.values())).queries:,} (mean, 95% interval)")
    for label, report in reports.items():
        table.add_row(
            label,
            *(
                f"{metric.mean:.3f}  [{metric.low:.3f}, {metric.high:.3f}]"
                for metric in (report.metrics[name] for name in names)
            ),
        )
    return table


def _difference(bi: Report, poly: Report) -> str:
    name = next(iter(poly.metrics))
    gap = paired_difference(poly.values[name], bi.values[name])
    sure = "more than chance" if gap.low > 0 or gap.high < 0 else "no more than chance could give"
    return (
        f"Poly-encoder minus bi-encoder on the same queries: {gap.mean:+.3f} {name} "
        f"[{gap.low:+.3f}, {gap.high:+.3f}], {sure}.\n"
    )


def _indexed(where: Path, model: Path, replies: list[str]) -> Index:
    """The replies in an index; that of an earlier demo, whose model was another, makes room."""
    if (where / "documents.lance").is_dir():
        shutil.rmtree(where)
    index = Index.create(where, model)
    with progress() as bar:
        index.add(replies, advance=advancing(bar, "adding", len(replies)))
    return index


def _answer(index: Index, conversations: list[Example]) -> None:
    """The three best of all replies for each conversation; one search of everything, not twenty candidates."""
    answers = index.search([list(example.query) for example in conversations], k=3 + CONTEXT)
    for example, answer in zip(conversations, answers, strict=True):
        # The replies of the test set hold the turns of these conversations too: nobody wants to be echoed.
        said = set(example.query) - set(example.positives)
        console.print()
        for turn in example.query:
            console.print(f"  [bold]{escape(_short(turn))}")
        for hit in [hit for hit in answer if hit.text not in said][:3]:
            right = " [green](what was said)" if hit.text in example.positives else ""
            console.print(f"    {hit.score:.3f}  {escape(_short(hit.text or ''))}{right}")
    console.print()


def _short(text: str, most: int = 150) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"


def _where_the_time_went(clock: Clock) -> None:
    table = Table("where the time went", "seconds", title=None)
    for what, seconds in clock.spent.items():
        table.add_row(what, f"{seconds:.0f}")
    table.add_row("in all, without installation", f"{sum(clock.spent.values()):.0f}")
    console.print(table)


def _next(output: Path, where: Path) -> None:
    commands = {
        f"polyencoders search {where} --query 'Any plans for the weekend?'": "search those replies",
        f"polyencoders index create mine --model {output} --data FILE": "an index of documents of your own",
        "polyencoders train --data mine.jsonl --freeze backbone --output models/mine": "train on pairs of your own",
        "polyencoders train --data chitchat --output models/chitchat": "train all of it, the backbone included",
        "polyencoders compare --data chitchat": "every architecture, the same way",
    }
    console.print(f"\nThe model is in [bold]{output}[/], the replies in the index [bold]{where}[/]. Next:")
    for command, what in commands.items():
        console.print(f"  [bold]{command}[/]\n      {what}", highlight=False, soft_wrap=True)
    line = '{"query": ["a turn", "the next"], "positive": "the right answer"}'
    console.print(f"A line of mine.jsonl: {escape(line)}", highlight=False, soft_wrap=True)
