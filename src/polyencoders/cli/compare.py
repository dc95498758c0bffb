"""`polyencoders compare`: architectures trained and evaluated the same way, in one table, one file and one picture.

Every run (an architecture, a seed) is written down when it ends, so that a comparison goes on where it stopped; times
are taken at the end, of all models in turn. Knows the other floors and how they fit together.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import random
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from rich.progress import Progress
from rich.table import Table
from transformers import set_seed

from polyencoders.cli.architectures import DEFAULT_BACKBONE, build_model, parse_architecture, reads_pairs
from polyencoders.cli.display import TrainingProgress, advancing, console, progress, quieten, resumable
from polyencoders.cli.latency import SIZES, Latency, measure_latency
from polyencoders.cli.runs import append_runs, read_runs
from polyencoders.data import Example, Splits, load_examples
from polyencoders.evaluation import Report, evaluate, given_candidates, sampled_candidates, whole_corpus
from polyencoders.evaluation.tasks import CorpusTask
from polyencoders.files import whole_file
from polyencoders.models.loading import load_model
from polyencoders.training import TrainingOptions, train

DEFAULT_ARCHITECTURES = ("bi", "bi-attention", "poly-4", "poly-16", "poly-first-16", "cross-warm")
AS_IT_COMES = "as it comes"


@dataclass(frozen=True)
class Plan:
    """What is compared, and how.

    Attributes
    ----------
    data, backbone
        Where the examples are from, and what every model is built on.
    architectures, seeds
        Every architecture is trained once with every seed.
    options
        Of every training, but the seed.
    train_examples
        The most examples to train on, drawn by seed 0; None: all.
    queries
        The most test queries.
    candidates
        Documents each of them ranks.
    corpus, corpus_queries
        The most documents, and queries, of the whole-corpus measure.
    cross_batch_size, cross_negatives
        Of cross-encoders and ARC-II, which read `batch x (1 + negatives)` pairs a step; the batch of the others
        would take them hours.
    query_length, document_length
        The most tokens of each, for every model alike (a pair: both together): a batch is as wide as its longest text.
    sizes
        Numbers of documents to time a query against.
    """

    data: str
    backbone: str = DEFAULT_BACKBONE
    architectures: Sequence[str] = DEFAULT_ARCHITECTURES
    seeds: Sequence[int] = (0,)
    options: TrainingOptions = field(default_factory=TrainingOptions)
    train_examples: int | None = None
    queries: int = 500
    candidates: int = 20
    corpus: int = 2000
    corpus_queries: int = 250
    cross_batch_size: int = 8
    cross_negatives: int = 15
    query_length: int = 64
    document_length: int = 64
    sizes: Sequence[int] = SIZES


def run(plan: Plan, output: Path, plot: bool = True) -> dict[str, Any]:
    """Carry out a plan, print its table, and write `compare.jsonl`, `compare.json` and `compare.png` to `output`."""
    quieten()
    for architecture in plan.architectures:
        parse_architecture(architecture)  # before hours of the others
    splits = load_examples(plan.data)
    test = random.Random(0).sample(splits.test, min(plan.queries, len(splits.test)))
    runs = output / "compare.jsonl"
    finished = _finished(runs)
    with resumable(), progress() as bar:
        planned = [(AS_IT_COMES, 0), *((name, seed) for seed in plan.seeds for name in plan.architectures)]
        todo = [one for one in planned if _key(plan, *one) not in finished]
        overall = advancing(bar, "compare", len(planned))
        overall(len(planned) - len(todo))
        for name, seed in todo:
            row = _run(plan, name, seed, splits, test, output, bar)
            append_runs(runs, [row])
            overall(1)
        rows = list(_finished(runs).values())
        latencies = _latencies(plan, rows, output, splits.test, test, bar)
    summary = _summary(rows, latencies)
    with whole_file(output / "compare.json") as scratch:
        scratch.write_text(json.dumps(summary, indent=1) + "\n", encoding="utf-8")
    if console.width >= 120:
        console.print(table(summary))
    else:
        console.print(table(summary, times=False), table(summary, metrics=False))
    if plot:
        from polyencoders.cli.chart import draw

        draw(summary, output / "compare.png")
    console.print(f"written to {output}: compare.json, compare.jsonl" + (", compare.png" if plot else ""))
    return summary


def _run(
    plan: Plan, name: str, seed: int, splits: Splits, test: list[Example], output: Path, bar: Progress
) -> dict[str, Any]:
    """Train and evaluate one architecture with one seed."""
    set_seed(seed)
    if name == AS_IT_COMES:
        model, minutes, options = _build(plan, "bi"), 0.0, None
    else:
        joint = reads_pairs(name)
        changes: dict[str, Any] = {"seed": seed}
        if joint:
            # Reading every pair costs: fewer, and fewer queries to validate on.
            changes |= {"batch_size": plan.cross_batch_size, "negatives": plan.cross_negatives}
            changes["validation_queries"] = min(50, plan.options.validation_queries)
        if name == "arc-ii":
            changes |= {"learning_rate": 1e-3}  # word embeddings and convolutions from scratch
        options = TrainingOptions(**{**asdict(plan.options), **changes})
        model = _build(plan, name)
        examples = splits.train
        if plan.train_examples is not None and plan.train_examples < len(examples):
            examples = random.Random(0).sample(examples, plan.train_examples)
        shown = TrainingProgress(bar, f"{name}, seed {seed}")
        folder = output / "models" / _folder(plan, name, seed)
        result = train(model, examples, splits.validation, folder, options, [shown], shown.on_texts)
        minutes = result.seconds / 60
        for task in (*shown.encoding.values(), shown.steps):
            if task is not None:
                bar.remove_task(task)
    evaluating = bar.add_task(f"evaluating {name}", total=None)
    # The lists that the set comes with, where it has any, whatever number of candidates was asked for.
    listed = all(example.candidates for example in test)
    lists = given_candidates(test) if listed else sampled_candidates(test, plan.candidates, 0, splits.corpus)
    reports = [evaluate(model, lists, ("R@1", "MRR"))]
    if hasattr(model, "encode_document"):
        reports.append(evaluate(model, _corpus(test[: plan.corpus_queries], splits, plan.corpus), ("R@10",)))
    bar.remove_task(evaluating)
    return {
        **_key_fields(plan, name, seed),
        "train_examples": 0 if options is None else min(plan.train_examples or len(splits.train), len(splits.train)),
        "options": None if options is None else asdict(options),
        "minutes": minutes,
        "metrics": _metrics(reports),
        "model": None if name == AS_IT_COMES else _folder(plan, name, seed),
    }


def _build(plan: Plan, name: str) -> Any:
    """A new model that reads as much of a text as all others do."""
    if parse_architecture(name)[0] == "CrossEncoder":
        model = build_model(name, plan.backbone, {})
        model.max_seq_length = plan.query_length + plan.document_length
        return model
    lengths = {"query_length": plan.query_length, "document_length": plan.document_length}
    return build_model(name, plan.backbone, lengths, "backbone" in plan.options.frozen)


def _corpus(test: list[Example], splits: Splits, size: int) -> CorpusTask:
    """The right answers, and others of the set's corpus, or of its test side, up to the size."""
    right = {text for example in test for text in example.positives}
    others = splits.corpus or (text for example in splits.test for text in example.positives)
    more = sorted(set(others) - right)
    random.Random(0).shuffle(more)
    return whole_corpus(test, more[: max(0, size - len(right))])


def _metrics(reports: list[Report]) -> dict[str, Any]:
    return {name: value for report in reports for name, value in report.to_dict()["metrics"].items()}


def _latencies(
    plan: Plan, rows: list[dict[str, Any]], output: Path, documents: list[Example], test: list[Example], bar: Progress
) -> dict[str, dict[int, Latency]]:
    """Times of the first seed's model of each architecture, all in turn."""
    models: dict[str, Any] = {}
    for label, group in _groups(rows).items():
        if group[0]["model"] is not None:
            models[label] = load_model(output / "models" / group[0]["model"])
    texts = list(dict.fromkeys(text for example in documents for text in example.positives))
    queries = [list(example.query) for example in test[:10]]
    rounds = 9
    done = advancing(bar, "timing", (rounds + 1) * len(models))
    return measure_latency(models, queries, texts, plan.sizes, rounds, done)


def _key_fields(plan: Plan, name: str, seed: int) -> dict[str, Any]:
    """What makes a run this run: a plan with another setting does not reuse it."""
    settings = asdict(plan)
    for other in ("data", "backbone", "architectures", "seeds", "sizes"):
        del settings[other]
    del settings["options"]["seed"]
    frozen, steps = list(plan.options.frozen), plan.options.steps
    if name == AS_IT_COMES:
        frozen, steps = [], 0
        for of_training in ("options", "train_examples", "cross_batch_size", "cross_negatives"):
            del settings[of_training]
    return {
        "data": plan.data,
        "backbone": plan.backbone,
        "architecture": name,
        "frozen": frozen,
        "steps": steps,
        "seed": seed,
        "settings": settings,
    }


def _key(plan: Plan, name: str, seed: int) -> str:
    return json.dumps(_key_fields(plan, name, seed), sort_keys=True)


def _folder(plan: Plan, name: str, seed: int) -> str:
    content = hashlib.blake2b(_key(plan, name, seed).encode(), digest_size=4).hexdigest()
    return "-".join([name, *plan.options.frozen, f"seed-{seed}", content])


def _finished(runs: Path) -> dict[str, dict[str, Any]]:
    """Runs written down, by what they were."""
    fields = ("data", "backbone", "architecture", "frozen", "steps", "seed", "settings")
    return {json.dumps({name: row[name] for name in fields}, sort_keys=True): row for row in read_runs(runs)}


def _groups(rows: list[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """Runs that differ in nothing but the seed, by what their row of the table is called."""
    alike: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        same = {name: row[name] for name in ("architecture", "frozen", "steps", "settings")}
        alike.setdefault(json.dumps(same, sort_keys=True), []).append(row)
    groups: dict[str, list[dict[str, Any]]] = {}
    for group in alike.values():
        first = group[0]
        what = ["frozen"] if first["frozen"] == ["backbone"] else [f"frozen: {name}" for name in first["frozen"]]
        name = f"{first['architecture']} ({', '.join(what)})" if what else first["architecture"]
        if name in groups:
            name = f"{name}, {first['steps']:,} steps"
        while name in groups:
            name += " again"  # other settings, which compare.json tells
        groups[name] = group
    return groups


def _summary(rows: list[dict[str, Any]], latencies: dict[str, dict[int, Latency]]) -> dict[str, Any]:
    """Rows by architecture: means over seeds, their spread, and times."""
    table_rows = []
    for label, group in _groups(rows).items():
        metrics = {}
        for name in group[0]["metrics"]:
            means = [row["metrics"][name]["mean"] for row in group]
            metrics[name] = {
                "mean": statistics.mean(means),
                "spread": statistics.stdev(means) if len(means) > 1 else None,
                "low": group[0]["metrics"][name]["low"],
                "high": group[0]["metrics"][name]["high"],
            }
        table_rows.append(
            {
                "name": label,
                "seeds": [row["seed"] for row in group],
                "steps": group[0]["steps"],
                "options": group[0]["options"],
                "train_examples": group[0]["train_examples"],
                "minutes": statistics.mean(row["minutes"] for row in group),
                "metrics": metrics,
                "ms": {str(size): asdict(latency) for size, latency in latencies.get(label, {}).items()},
            }
        )
    return {
        "data": rows[0]["data"],
        "backbone": rows[0]["backbone"],
        "machine": machine(),
        "rows": table_rows,
    }


def machine() -> dict[str, Any]:
    """What the figures were measured on."""
    import sentence_transformers
    import transformers

    from polyencoders import __version__

    capabilities: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    return {
        "processor": capabilities.get("cpu_name") or platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
        "python": platform.python_version(),
        "torch": torch.__version__,
        "sentence-transformers": sentence_transformers.__version__,
        "transformers": transformers.__version__,
        "polyencoders": __version__,
    }


def table(summary: dict[str, Any], metrics: bool = True, times: bool = True) -> Table:
    """The comparison for the terminal, or, where that is narrow, half of it."""
    rows = summary["rows"]
    measures = list(dict.fromkeys(name for row in rows for name in row["metrics"])) if metrics else []
    sizes = list(dict.fromkeys(size for row in rows for size in row["ms"])) if times else []
    widest = max((metric["high"] - metric["low"]) / 2 for row in rows for metric in row["metrics"].values())
    shown = Table(
        title=f"{summary['data']}, {summary['backbone']}",
        caption=f"± is over seeds; over queries, 95% intervals reach about ±{widest:.3f}. "
        "ms: encoding a query + scoring that many documents; ~ is counted up from fewer",
    )
    shown.add_column("", no_wrap=True)
    for name in measures:
        shown.add_column(name, justify="right", no_wrap=True)
    shown.add_column("seeds", justify="right")
    shown.add_column("steps", justify="right")
    shown.add_column("minutes", justify="right")
    for size in sizes:
        shown.add_column(f"ms for {int(size):,}", justify="right", no_wrap=True)
    for row in rows:
        shown.add_row(
            row["name"],
            *(metric_cell(row["metrics"].get(name)) for name in measures),
            str(len(row["seeds"])),
            f"{row['steps']:,}",
            f"{row['minutes']:.1f}",
            *(latency_cell(row["ms"].get(size)) for size in sizes),
        )
    return shown


def metric_cell(metric: dict[str, Any] | None) -> str:
    """A mean and, of several seeds, its spread (standard deviation)."""
    if metric is None:
        return "–"
    return f"{metric['mean']:.3f}" + ("" if metric["spread"] is None else f" ±{metric['spread']:.3f}")


def latency_cell(latency: dict[str, Any] | None) -> str:
    """Milliseconds of encoding and of scoring; `~` before what was counted up."""
    if latency is None:
        return "–"
    scoring = f"{latency['scoring']:,.1f}" if latency["scoring"] < 100 else f"{latency['scoring']:,.0f}"
    return f"{latency['encoding']:.1f} + {'~' if latency['extrapolated'] else ''}{scoring}"


def markdown(summary: dict[str, Any]) -> str:
    """The comparison as a Markdown table, with the machine it was measured on."""
    shown = table(summary)
    header = [str(column.header) for column in shown.columns]
    lines = ["| " + " | ".join(header) + " |", "|---" * len(header) + "|"]
    columns = [list(column.cells) for column in shown.columns]
    lines += ["| " + " | ".join(str(cell) for cell in cells) + " |" for cells in zip(*columns, strict=True)]
    where = ", ".join(f"{name} {value}" for name, value in summary["machine"].items())
    notes = [f"{shown.caption}. (frozen): codes and maps alone were trained.", f"Measured on: {where}."]
    return "\n".join([*lines, "", notes[0], "", notes[1], ""])
