"""`polyencoders compare`: architectures trained and evaluated the same way, in one table, one file and one picture.

Every run (an architecture, a seed) is written down when it ends, so a comparison goes on where it stopped. Times are
taken at the end, of all models in turn.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import random
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from rich.progress import Progress
from typer import Option

from polyencoders.cli import options
from polyencoders.cli.architectures import DEFAULT_BACKBONE, build_model, parse_architecture, reads_pairs
from polyencoders.cli.comparison_table import groups, summarised, table
from polyencoders.cli.display import advancing, console, progress, quieten, resumable
from polyencoders.cli.runs import append_runs, read_runs
from polyencoders.errors import DataError, MissingExtraError
from polyencoders.files import whole_file

if TYPE_CHECKING:
    from polyencoders.cli.latency import Latency
    from polyencoders.data import Example, Splits
    from polyencoders.evaluation import CandidateTask, CorpusTask
    from polyencoders.training import TrainingOptions

ROUNDS = 9  # Rounds of timing, after one that warms up
AS_IT_COMES = "as it comes"  # The row of the backbone without training
IDENTITY = ("data", "backbone", "architecture", "frozen", "steps", "seed", "settings")
"""What makes a run this run. A plan with another setting does not reuse it."""


@dataclass(frozen=True)
class Plan:
    """What is compared, and how. The defaults are those of the command line, whose help describes most fields."""

    data: str
    options: TrainingOptions  # Options of every training, except for the seed
    columns: str | None = None
    backbone: str = DEFAULT_BACKBONE
    architectures: Sequence[str] = ("bi", "bi-attention", "poly-4", "poly-16", "poly-first-16", "cross-warm")
    seeds: Sequence[int] = (0,)
    train_examples: int | None = None
    queries: int = 500
    candidates: int = 20
    corpus: int = 2000
    corpus_queries: int = 250  # The most documents, and queries, of the whole-corpus measure
    cross_batch_size: int = 8
    cross_negatives: int = 15
    """For models that read `batch x (1 + negatives)` pairs a step. The batch of the others would take them hours."""
    query_length: int = 64
    document_length: int = 64
    """For every model alike (of a pair: both together), as a batch is as wide as its longest text."""
    sizes: Sequence[int] = (100, 1_000, 10_000)  # Numbers of documents to time a query against


def compare(
    data: options.Data,
    columns: options.ColumnsOf = None,
    architectures: Annotated[str, Option(help="Short names, separated by commas.")] = ",".join(Plan.architectures),
    backbone: options.Backbone = Plan.backbone,
    steps: Annotated[int, Option(help="Updates of the weights in each training.")] = 300,
    batch_size: Annotated[int, Option(help="Queries in a step (8 for models that read every pair).")] = 32,
    seeds: Annotated[str, Option(help="Separated by commas; every architecture is trained with each.")] = "0",
    freeze: options.Freeze = None,
    train_examples: Annotated[int | None, Option(help="The most examples to train on.", min=1)] = None,
    queries: options.Queries = Plan.queries,
    candidates: options.Candidates = Plan.candidates,
    query_length: Annotated[int, Option(help="The newest tokens of a query.", min=1)] = Plan.query_length,
    document_length: Annotated[int, Option(help="The most tokens of a document.", min=1)] = Plan.document_length,
    output: Annotated[Path, Option(help="For the table, the picture and the models.")] = Path("models/compare"),
    plot: Annotated[bool, Option(help="Draw the picture (needs `polyencoders[plot]`).")] = True,
) -> None:
    """Train and evaluate architectures the same way; print one table, draw one picture.

    Runs that are finished are not run again: stop it, and the same command goes on. With another --freeze or --steps
    and the same --output, the new rows join the old ones. A table has the runs of one data set and one backbone.
    """
    from polyencoders.training import TrainingOptions

    try:
        numbers = [int(seed) for seed in seeds.split(",")]
    except ValueError:
        raise DataError(f"--seeds: expected whole numbers separated by commas, given {seeds!r}") from None
    plan = Plan(
        data=data,
        columns=columns,
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
    run(plan, output, plot)


def run(plan: Plan, output: Path, plot: bool = True) -> dict[str, Any]:
    """Carry out a plan, print its table, and write `compare.jsonl`, `compare.json` and `compare.png` to `output`."""
    from polyencoders.data import load_examples
    from polyencoders.data.columns import parse_columns
    from polyencoders.data.sources import NO_TRAINING

    quieten()
    if plot and importlib.util.find_spec("matplotlib") is None:
        raise MissingExtraError("matplotlib", "plot", "the picture (--no-plot leaves it out)")
    for architecture in plan.architectures:
        parse_architecture(architecture)  # a name that is not known is refused before hours of the others
    splits = load_examples(plan.data, columns=parse_columns(plan.columns))
    if not splits.train:
        raise DataError(f"{plan.data}: {NO_TRAINING}")
    test = random.Random(0).sample(splits.test, min(plan.queries, len(splits.test)))
    runs = output / "compare.jsonl"
    finished = {_key(row) for row in read_runs(runs)}
    with resumable(), progress() as bar:
        planned = [(AS_IT_COMES, 0), *((name, seed) for seed in plan.seeds for name in plan.architectures)]
        todo = [one for one in planned if _key(_identity(plan, *one)) not in finished]
        overall = advancing(bar, "compare", len(planned))
        overall(len(planned) - len(todo))
        for name, seed in todo:
            append_runs(runs, [_run(plan, name, seed, splits, test, output, bar)])
            overall(1)
        kept = {_key(row): row for row in read_runs(runs)}.values()
        rows = [row for row in kept if (row["data"], row["backbone"]) == (plan.data, plan.backbone)]
        latencies = _latencies(plan, rows, output, splits.test, test, bar)
    summary = summarised(rows, latencies)
    with whole_file(output / "compare.json") as scratch:
        scratch.write_text(json.dumps(summary, indent=1) + "\n", encoding="utf-8")
    if console.width >= 120:
        console.print(table(summary))
    else:
        console.print(table(summary, times=False), table(summary, metrics=False))
    if others := len(kept) - len(rows):
        console.print(f"{others} runs on other data or another backbone, in {runs}, are not in the table")
    if plot:
        from polyencoders.cli.chart import draw

        draw(summary, output / "compare.png")
    console.print(f"written to {output}: compare.json, compare.jsonl" + (", compare.png" if plot else ""))
    return summary


def _run(
    plan: Plan, name: str, seed: int, splits: Splits, test: list[Example], output: Path, bar: Progress
) -> dict[str, Any]:
    """Train and evaluate one architecture with one seed. Returns what is written down of it."""
    from transformers import set_seed

    from polyencoders import evaluation
    from polyencoders.cli.training_progress import TrainingProgress
    from polyencoders.encoders.protocols import is_encoder
    from polyencoders.training import train

    set_seed(seed)
    row = _identity(plan, name, seed)
    row |= {"train_examples": 0, "options": None, "minutes": 0.0, "metrics": {}, "model": None}
    architecture = "bi" if name == AS_IT_COMES else name
    # Every model reads as much of a text as all others do.
    lengths = {"query_length": plan.query_length, "document_length": plan.document_length}
    if architecture == "cross":
        model = build_model(architecture, plan.backbone, {})
        model.max_seq_length = sum(lengths.values())
    else:
        model = build_model(architecture, plan.backbone, lengths, "backbone" in plan.options.frozen)
    if name != AS_IT_COMES:
        changes: dict[str, Any] = {"seed": seed}
        if reads_pairs(name):
            changes |= {"batch_size": plan.cross_batch_size, "negatives": plan.cross_negatives}
            changes["validation_queries"] = min(50, plan.options.validation_queries)
        if name == "arc-ii":
            changes["learning_rate"] = 1e-3  # its convolutions start from nothing
        training = replace(plan.options, **changes)
        examples = splits.train
        if plan.train_examples is not None and plan.train_examples < len(examples):
            examples = random.Random(0).sample(examples, plan.train_examples)
        shown = TrainingProgress(bar, f"{name}, seed {seed}")
        content = hashlib.blake2b(_key(row).encode(), digest_size=4).hexdigest()
        folder = "-".join([name, *plan.options.frozen, f"seed-{seed}", content])
        place = output / "models" / folder
        result = train(model, examples, splits.validation, place, training, [shown], shown.on_texts, overwrite=True)
        shown.remove()
        row |= {"train_examples": len(examples), "options": asdict(training), "model": folder}
        row["minutes"] = result.seconds / 60
    evaluating = bar.add_task(f"evaluating {name}", total=None)
    # A set's own lists, where it has some, whatever number of candidates was asked for.
    if all(example.candidates for example in test):
        lists = evaluation.given_candidates(test)
    else:
        lists = _sampled(test, splits, plan.candidates)
    row["metrics"] |= evaluation.evaluate(model, lists, ("R@1", "MRR")).to_dict()["metrics"]
    if is_encoder(model):
        corpus = _corpus(test[: plan.corpus_queries], splits, plan.corpus)
        row["metrics"] |= evaluation.evaluate(model, corpus, ("R@10",)).to_dict()["metrics"]
    bar.remove_task(evaluating)
    return row


def _sampled(test: list[Example], splits: Splits, candidates: int) -> CandidateTask:
    """Lists of random documents: of the test side and the set's corpus, or where these are few of all sides."""
    from polyencoders.evaluation.tasks import most_candidates, sampled_candidates

    more: Sequence[str] = splits.corpus
    if most_candidates(test, more) < candidates:
        sides = (*splits.train, *splits.validation, *splits.test)
        more = sorted(set(more).union(*(example.positives for example in sides)))
        candidates = max(2, min(candidates, most_candidates(test, more)))
    return sampled_candidates(test, candidates, 0, more)


def _corpus(test: list[Example], splits: Splits, size: int) -> CorpusTask:
    """The right answers and, up to the size, others of the set's corpus or of its test side."""
    from polyencoders.evaluation import whole_corpus

    right = {text for example in test for text in example.positives}
    others = splits.corpus or (text for example in splits.test for text in example.positives)
    more = sorted(set(others) - right)
    random.Random(0).shuffle(more)
    return whole_corpus(test, more[: max(0, size - len(right))])


def _latencies(
    plan: Plan, rows: list[dict[str, Any]], output: Path, documents: list[Example], test: list[Example], bar: Progress
) -> dict[str, dict[int, Latency]]:
    """Time the first seed's model of each architecture, all in turn."""
    from polyencoders.cli.latency import measure_latency
    from polyencoders.encoders import load

    firsts = {label: group[0]["model"] for label, group in groups(rows).items()}
    models = {label: load(output / "models" / folder) for label, folder in firsts.items() if folder is not None}
    texts = list(dict.fromkeys(text for example in documents for text in example.positives))
    queries = [list(example.query) for example in test[:10]]
    done = advancing(bar, "timing", (ROUNDS + 1) * len(models))
    return measure_latency(models, queries, texts, plan.sizes, ROUNDS, done)


def _identity(plan: Plan, name: str, seed: int) -> dict[str, Any]:
    """The identity of a run."""
    settings = asdict(plan)
    for other in ("data", "backbone", "architectures", "seeds", "sizes"):
        del settings[other]
    del settings["options"]["seed"]
    frozen, steps = list(plan.options.frozen), plan.options.steps
    if name == AS_IT_COMES:
        frozen, steps = [], 0
        for of_training in ("options", "train_examples", "cross_batch_size", "cross_negatives"):
            del settings[of_training]
    return dict(zip(IDENTITY, (plan.data, plan.backbone, name, frozen, steps, seed, settings), strict=True))


def _key(run: dict[str, Any]) -> str:
    return json.dumps({name: run[name] for name in IDENTITY}, sort_keys=True)
