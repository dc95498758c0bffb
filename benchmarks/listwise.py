"""A listwise head on trained bi- and poly-encoders: what it adds on the built-in conversations, and what it takes.

    python benchmarks/listwise.py            # about half an hour on two cores; goes on where it stopped
    python benchmarks/listwise.py --quick    # under a minute; shows that it runs, and nothing else

Bases are trained on a frozen backbone; heads on other examples than their base's, and once on the base's own. Which
checkpoint is kept, and whether a head is refused, validation decides; a refused head's row is its base's. Writes
benchmarks/results/listwise.{json,jsonl,md}; the last line printed is the summary as one JSON object.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch
from transformers import set_seed

from machine import machine
from pages import put
from polyencoders.cli.architectures import DEFAULT_BACKBONE, build_model
from polyencoders.cli.display import quieten
from polyencoders.cli.latency import measure_latency
from polyencoders.cli.runs import append_runs, read_runs
from polyencoders.data import load_examples
from polyencoders.evaluation import evaluate, paired_difference, sampled_candidates, whole_corpus
from polyencoders.models.listwise import ListwiseReranker, head_settings
from polyencoders.models.listwise_head import ListwiseHead
from polyencoders.models.loading import load_model
from polyencoders.training import ListwiseOptions, TrainingOptions, freeze, train, train_listwise
from polyencoders.training.frozen import FrozenOutputs

RESULTS = Path(__file__).parent / "results"
BASES = ("bi", "bi-attention", "poly-4")
LENGTHS = {"query_length": 64, "document_length": 64}


@dataclass(frozen=True)
class Size:
    """How much of everything."""

    base_examples: int = 6_000
    head_examples: int = 12_000
    base_steps: int = 1_000
    validation: int = 1_000
    queries: int = 1_000
    corpus: int = 2_000
    head: ListwiseOptions = field(default_factory=ListwiseOptions)
    bases: tuple[str, ...] = BASES
    sizes: tuple[int, ...] = (100, 1_000)
    rounds: int = 9


QUICK = Size(
    base_examples=64,
    head_examples=64,
    base_steps=3,
    validation=40,
    queries=40,
    corpus=100,
    head=ListwiseOptions(steps=3, documents=8),
    bases=("poly-4",),
    sizes=(100,),
    rounds=1,
)


class Data:
    """Examples by what they are for: the same for every seed."""

    def __init__(self, size: Size) -> None:
        splits = load_examples("chitchat")
        rng = random.Random(0)
        drawn = rng.sample(splits.train, size.base_examples + size.head_examples)
        self.base, self.head = drawn[: size.base_examples], drawn[size.base_examples :]
        self.validation = rng.sample(splits.validation, 2 * size.validation)
        test = rng.sample(splits.test, size.queries)
        # Every other document of the corpus is an answer to other test queries.
        right = {text for example in test for text in example.positives}
        others = [text for example in rng.sample(splits.test, size.corpus) for text in example.positives]
        others = [text for text in dict.fromkeys(others) if text not in right]
        self.tasks = {
            "lists": sampled_candidates(test, candidates=20, seed=0),
            "corpus": whole_corpus(test, others[: size.corpus - len(right)]),
        }

    def texts(self) -> dict[str, list]:
        """Everything that is encoded, by its side."""
        examples = [*self.base, *self.head, *self.validation]
        queries = [example.query for example in examples] + [tuple(_turns(one)) for one in self.tasks["corpus"].queries]
        documents = [text for example in examples for text in example.positives] + list(self.tasks["corpus"].corpus)
        return {"query": queries, "document": documents + [t for one in self.tasks["lists"].documents for t in one]}


def _turns(query) -> list[str]:
    return [query] if isinstance(query, str) else query


def run_one(name: str, seed: int, data: Data, size: Size, work: Path) -> list[dict]:
    """A base and its heads: a row for each."""
    set_seed(seed)
    base = build_model(name, DEFAULT_BACKBONE, LENGTHS, frozen=True)
    folder = work / "models" / f"{name}-{seed}"
    options = TrainingOptions(
        steps=size.base_steps, freeze="backbone", learning_rate=1e-4, validation_queries=300, seed=seed
    )
    began = time.perf_counter()
    train(base, data.base, data.validation, folder, options)
    rows = [{"name": name, "head": None, "seed": seed, "seconds": time.perf_counter() - began}]
    freeze(base, "backbone")
    # All bases stand on the same outputs of one backbone: computed once, for all of them.
    outputs = FrozenOutputs(base)
    for task, texts in data.texts().items():
        outputs.prepare(texts, task)
    with outputs.applied():
        values = {None: _values(base, data)}
        head_options = ListwiseOptions(**{**vars(size.head), "seed": seed})
        for kind, examples in (("other examples", data.head), ("the base's examples", data.base)):
            model, result = train_listwise(base, examples, data.validation[: size.validation], options=head_options)
            values[kind] = _values(model, data)
            rows.append(
                {
                    "name": name,
                    "head": kind,
                    "seed": seed,
                    "seconds": result.seconds,
                    "accepted": result.accepted,
                    "validation": [result.before, result.after, result.gain.low, result.gain.high],
                    "best_step": result.best_step,
                    "history": result.history,
                }
            )
            if kind == "other examples":
                # For the timing: the head that was trained, or a new one of its shape, which takes as long.
                new = ListwiseHead(**head_settings(base), layers=size.head.layers, width=size.head.width)
                head = model.head if result.accepted else new
                ListwiseReranker(base, head, depth=size.head.depth).save_pretrained(f"{folder}-listed")
    for row in rows:
        mine = values[row["head"]]
        row["metrics"] = {measure: float(per_query.mean()) for measure, per_query in mine.items()}
        gains = {measure: paired_difference(mine[measure], values[None][measure]) for measure in mine}
        row["gains"] = {measure: [gain.mean, gain.low, gain.high] for measure, gain in gains.items()}
    return rows


def _values(model, data: Data) -> dict:
    found = dict(evaluate(model, data.tasks["lists"], ["R@1"], batch_size=256).values)
    return found | dict(evaluate(model, data.tasks["corpus"], ["R@1", "R@10", "MRR"], batch_size=256).values)


def latencies(size: Size, data: Data, work: Path) -> dict:
    """Milliseconds a query of the first seed's models, and of a cross-encoder whose weights do not matter here."""
    models = {"cross": build_model("cross", DEFAULT_BACKBONE, {})}
    for name in size.bases:
        models[name] = load_model(work / "models" / f"{name}-0")
        models[f"{name} + head"] = load_model(work / "models" / f"{name}-0-listed")
    texts = list(dict.fromkeys(data.tasks["corpus"].corpus))[: max(size.sizes)]
    queries = list(data.tasks["corpus"].queries[:10])
    measured = measure_latency(models, queries, texts, size.sizes, size.rounds)
    return {
        name: {number: [one.encoding, one.scoring] for number, one in by_size.items()}
        for name, by_size in measured.items()
    }


def table(rows: list[dict], times: dict) -> list[str]:
    """Means over the seeds, and how far apart those are."""
    measures = list(rows[0]["metrics"])
    sizes = list(next(iter(times.values()))) if times else []
    lines = [
        "| | " + " | ".join([*measures, "seeds", "accepted", *(f"ms for {number:,}" for number in sizes)]) + " |",
        "|---" * (len(measures) + 3 + len(sizes)) + "|",
    ]
    groups: dict[tuple, list[dict]] = {}
    for row in rows:
        groups.setdefault((row["name"], row["head"]), []).append(row)
    for (name, head), group in groups.items():
        cells = [_spread([row["metrics"][measure] for row in group]) for measure in measures]
        taken = "–" if head is None else f"{sum(row['accepted'] for row in group)} of {len(group)}"
        label = {None: name, "other examples": f"{name} + head"}.get(head, f"{name} + head, on {head}")
        cells += [str(len(group)), taken]
        for number in sizes:
            cells.append(_took(times[label][number]) if label in times else "–")
        lines.append(f"| {label} | " + " | ".join(cells) + " |")
    for name in times:
        if name == "cross":
            blank = " | ".join("–" for _ in range(len(measures) + 2))
            lines.append(f"| cross | {blank} | " + " | ".join(_took(times[name][number]) for number in sizes) + " |")
    return lines


def _spread(values: list[float]) -> str:
    return f"{statistics.mean(values):.3f}" + (f" ± {statistics.stdev(values):.3f}" if len(values) > 1 else "")


def _took(milliseconds: list[float]) -> str:
    encoding, scoring = milliseconds
    return f"{encoding:.1f} + {scoring:.1f}" if encoding else f"{scoring:,.0f}"


def run(seeds: list[int], size: Size, work: Path) -> dict:
    """Every base and seed that is not done yet, then the times."""
    os.environ["POLYENCODERS_CACHE"] = str(work / "cache")
    quieten()
    torch.set_num_threads(1)
    data = Data(size)
    done = work / "rows.jsonl"
    rows = read_runs(done)
    for seed in seeds:
        for name in size.bases:
            if any((row["name"], row["seed"]) == (name, seed) for row in rows):
                continue
            new = run_one(name, seed, data, size, work)
            rows += new
            append_runs(done, new)
            print("\n".join(table(new, {})), flush=True)
    times = latencies(size, data, work)
    about = machine("listwise.py", "torch", "sentence-transformers", "transformers")
    return {"rows": rows, "milliseconds": times, "machine": about, "size": repr(size)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="under a minute, into a temporary folder")
    parser.add_argument("--work", type=Path, default=Path("models/listwise"), help="where models are kept")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    arguments = parser.parse_args()
    if arguments.quick:
        with tempfile.TemporaryDirectory() as folder:
            summary = run([0], QUICK, Path(folder))
        print("\n".join(table(summary["rows"], summary["milliseconds"])))
    else:
        summary = run(arguments.seeds, Size(), arguments.work)
        lines = table(summary["rows"], summary["milliseconds"])
        about = ", ".join(f"{name} {value}" for name, value in summary["machine"].items())
        notes = [
            "",
            "± is the standard deviation over seeds. ms, on one thread: encoding a query + scoring.",
            "",
            f"Measured: {about}.",
        ]
        RESULTS.mkdir(exist_ok=True)
        (RESULTS / "listwise.md").write_text("\n".join(["# A listwise head", "", *lines, *notes, ""]), encoding="utf-8")
        (RESULTS / "listwise.json").write_text(json.dumps(summary, indent=1) + "\n", encoding="utf-8")
        put("listwise", lines, "docs/listwise.md")
    print(json.dumps({**summary, "rows": [{**row, "history": None} for row in summary["rows"]]}))


if __name__ == "__main__":
    main()
