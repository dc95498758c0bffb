"""How well each architecture ranks on real tasks: one run for every task, method and seed, and a table of all of them.

    python benchmarks/quality.py                         # codes and maps on a frozen backbone; hours on two cores
    python benchmarks/quality.py --set tuned --device cuda   # everything tuned, cross-encoders too: for a GPU
    python benchmarks/quality.py --quick                 # under a minute, one small task; shows that it runs
    python benchmarks/quality.py --tasks banking77 wikiqa --methods bi poly-4 --seeds 0 1

Every run is written down when it ends, a line of JSON in benchmarks/results/quality.jsonl, and is not repeated: the
same command goes on where it stopped, another adds to the table. Models are chosen on validation examples, never on
test. It writes benchmarks/results/quality.{json,md,png} besides; the last line printed is the summary as one JSON
object. The sets are read from the archives in `--data` (or POLYENCODERS_BENCHMARK_DATA); `quality_tasks.py` says which.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import argparse
import json
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
from sentence_transformers.base.modules import Transformer
from tqdm import tqdm
from transformers import set_seed

from polyencoders.cli.architectures import DEFAULT_BACKBONE, build_model
from polyencoders.cli.display import quieten
from polyencoders.cli.runs import append_runs, read_runs
from polyencoders.evaluation import evaluate, shared_candidates
from polyencoders.evaluation.attention import attention
from polyencoders.evaluation.protocols import CandidateTask, CorpusTask
from polyencoders.models.dual import DualEncoder
from polyencoders.training import TrainingOptions, train
from polyencoders.training.frozen import FrozenOutputs
from quality_report import means, write
from quality_tasks import RANKINGS, load, some

RESULTS = Path(__file__).parent / "results"

METHODS: dict[str, tuple[str, dict[str, Any]]] = {
    "bi": ("bi", {}),
    "bi-attention": ("bi-attention-4", {"maps": "each"}),
    "poly-4": ("poly-4", {"maps": "each"}),
    "poly-8": ("poly-8", {"maps": "each"}),
    "poly-16": ("poly-16", {"maps": "shared"}),
    "poly-64": ("poly-64", {"maps": "shared"}),
    "poly-360": ("poly-360", {"maps": "shared"}),
    "poly-first-16": ("poly-first-16", {}),
    "cross": ("cross", {}),
}
"""By name: an architecture, and its settings. `bi-attention` is `poly-4` with its codes averaged, the control."""

UNTRAINED = ("bm25", "as it comes")
FROZEN = (*UNTRAINED, *(name for name in METHODS if name != "cross"))
SETS = {"frozen": FROZEN, "tuned": (*UNTRAINED, *METHODS)}

OPTIONS = {
    "frozen": TrainingOptions(
        steps=1500, freeze="backbone", evaluate_every=75, patience=4, validation_queries=300, batch_size=32
    ),
    "tuned": TrainingOptions(steps=2000, batch_size=64, evaluate_every=200, patience=4, validation_queries=500),
}
CROSS = {"batch_size": 16, "negatives": 15, "validation_queries": 100}
"""Of a cross-encoder, which reads `16 x (1 + 15)` pairs a step."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="few of each, writes no results")
    parser.add_argument("--set", choices=SETS, default="frozen", help="codes and maps alone, or everything tuned")
    parser.add_argument("--tasks", nargs="+", choices=RANKINGS, default=list(RANKINGS))
    parser.add_argument("--methods", nargs="+", help="some of the set's")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--train-examples", type=int, default=4000, help="the most, drawn by seed 0")
    parser.add_argument("--queries", type=int, default=500, help="the most test queries, drawn by seed 0")
    parser.add_argument("--length", type=int, default=128, help="the most tokens of a query, and of a document")
    parser.add_argument("--backbone", default=DEFAULT_BACKBONE)
    parser.add_argument("--device", help="cpu, cuda, ...; by default the best there is")
    default = os.environ.get("POLYENCODERS_BENCHMARK_DATA") or Path(__file__).parents[2] / "shared" / "data"
    parser.add_argument("--data", type=Path, default=Path(default), help="the folder of the archives")
    parser.add_argument("--unpacked", type=Path, default=Path(__file__).parent / "cache" / "quality")
    arguments = parser.parse_args()
    unknown = set(arguments.methods or ()) - set(SETS[arguments.set])
    if unknown:
        parser.error(f"no method {sorted(unknown)[0]!r} in this set: there are {', '.join(SETS[arguments.set])}")
    quieten()
    plan = Plan(arguments)
    if arguments.quick:
        plan.tasks, plan.seeds = ["chit-chat"], [0]
        plan.methods = ["bm25", "as it comes", "bi", "bi-attention", "poly-4"]
        plan.settings |= {"train_examples": 64, "queries": 30, "length": 32}
        plan.options = TrainingOptions(steps=4, batch_size=8, freeze="backbone", validation_queries=8)
        print(json.dumps(means([plan.row(*run) for run in plan.runs()])))
        return
    runs = RESULTS / "quality.jsonl"
    finished = {key(row) for row in read_runs(runs)}
    todo = [run for run in plan.runs() if key(plan.fields(*run)) not in finished]
    for run in tqdm(todo, desc="quality"):
        row = plan.row(*run)
        append_runs(runs, [row])
        tqdm.write(f"{' / '.join(map(str, run))}: {next(iter(row['metrics'].values())):.3f}, {row['seconds']:.0f} s")
    print(json.dumps(write(read_runs(runs), RESULTS)))


class Plan:
    """Which runs there are, and how one is done."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self.set, self.tasks, self.seeds = arguments.set, arguments.tasks, arguments.seeds
        self.methods = arguments.methods or list(SETS[arguments.set])
        self.options = OPTIONS[arguments.set]
        self.settings = {name: getattr(arguments, name) for name in ("train_examples", "queries", "length", "backbone")}
        self.device, self.data, self.unpacked = arguments.device, arguments.data, arguments.unpacked
        self._loaded: tuple[str, Any] = ("", None)

    def runs(self) -> Iterator[tuple[str, str, int]]:
        """Task, method, seed; of what is not trained, one seed."""
        for task in self.tasks:
            for seed in self.seeds:
                for method in self.methods:
                    if method not in UNTRAINED or seed == self.seeds[0]:
                        yield task, method, 0 if method in UNTRAINED else seed

    def fields(self, task: str, method: str, seed: int) -> dict[str, Any]:
        """What makes a run this run."""
        return {
            "task": task,
            "method": method,
            "seed": seed,
            "set": "untrained" if method in UNTRAINED else self.set,
            "steps": 0 if method in UNTRAINED else self.options.steps,
            **self.settings,
        }

    def row(self, task: str, method: str, seed: int) -> dict[str, Any]:
        """Do a run: train, choose on validation examples, measure on test examples."""
        if self._loaded[0] != task:
            self._loaded = task, load(task, self.data, self.unpacked)
        splits, ranking = self._loaded[1], RANKINGS[task]
        test = some(splits.test, self.settings["queries"])
        ranked = ranking.ranked(test, splits.corpus)
        measures = ["Success@1", "MRR", *([ranking.extra] if ranking.extra else [])]
        started = time.perf_counter()
        trained: dict[str, Any] = {}
        if method == "bm25":
            report = evaluate(Bm25(), as_lists(ranked, test, splits.corpus), measures)
        else:
            set_seed(seed)
            architecture, settings = METHODS.get(method, ("bi", {}))
            model = self._model(architecture, settings, method)
            if method not in UNTRAINED:
                trained = self._train(model, splits, seed, architecture)
            with outputs_of(model, self.set):
                if not isinstance(model, DualEncoder):
                    ranked = as_lists(ranked, test, splits.corpus)
                report = evaluate(model, ranked, measures)
                listed = ranked if isinstance(ranked, CandidateTask) else shared_candidates(test[:20], splits.corpus)
                told = attention(model, listed)
            if told is not None:
                trained |= {"attention_entropy": told[0], "uniform_entropy": told[1]}
        return {
            **self.fields(task, method, seed),
            "metrics": {name: values.mean for name, values in zip(measures, report.metrics.values(), strict=True)},
            "candidates": report.candidates,
            "test_queries": len(test),
            **trained,
            "seconds": time.perf_counter() - started,
        }

    def _model(self, architecture: str, settings: dict[str, Any], method: str) -> Any:
        length = self.settings["length"]
        if architecture == "cross":
            model = build_model(architecture, self.settings["backbone"], {"device": self.device})
            model.max_seq_length = min(2 * length, 512)
            return model
        cut = {"query_length": length, "document_length": length, "device": self.device}
        frozen = self.set == "frozen" and method not in UNTRAINED
        return build_model(architecture, self.settings["backbone"], {**settings, **cut}, frozen)

    def _train(self, model: Any, splits: Any, seed: int, architecture: str) -> dict[str, Any]:
        changes: dict[str, Any] = {"seed": seed, **(CROSS if architecture == "cross" else {})}
        options = TrainingOptions(**{**vars(self.options), **changes})
        examples = some(splits.train, self.settings["train_examples"])
        result = train(model, examples, splits.validation, options=options)
        return {
            "trained_on": len(examples),
            "validation": [result.before, result.after],
            "best_step": result.best_step,
            "training_seconds": result.seconds,
        }


class Bm25:
    """BM25 (the package bm25s, its defaults) over each query's list, as a model ranks it."""

    def score_lists(
        self, queries: Sequence[Any], documents: Sequence[Sequence[str]], **ignored: Any
    ) -> list[np.ndarray[Any, Any]]:
        """Scores of each query's documents."""
        import bm25s

        scores, retriever, listed = [], None, None
        for query, texts in zip(queries, documents, strict=True):
            if texts is not listed:  # one list for all is indexed once
                retriever, listed = bm25s.BM25(), texts
                retriever.index(bm25s.tokenize(list(texts), show_progress=False), show_progress=False)
            text = query if isinstance(query, str) else " ".join(query)
            words = bm25s.tokenize([text], return_ids=False, show_progress=False)[0]
            known = [word for word in words if word in retriever.vocab_dict]
            scores.append(retriever.get_scores(known) if known else np.zeros(len(texts)))
        return scores


def as_lists(ranked: Any, test: Any, corpus: Sequence[str]) -> CandidateTask:
    """A task for models that read pairs; one list for all is held once."""
    return shared_candidates(test, corpus) if isinstance(ranked, CorpusTask) else ranked


@contextmanager
def outputs_of(model: Any, chosen: str) -> Iterator[None]:
    """Measure on the frozen backbone's kept outputs: every method on it reads the same texts."""
    outputs = None
    if chosen == "frozen" and isinstance(model, DualEncoder):
        for module in model.modules():
            if isinstance(module, Transformer):
                module.requires_grad_(False)
        outputs = FrozenOutputs(model)
    with outputs.applied() if outputs is not None and outputs.useful else nullcontext():
        yield


def key(row: dict[str, Any]) -> str:
    """What two rows of the same run share."""
    names = ("task", "method", "seed", "set", "steps", "train_examples", "queries", "length", "backbone")
    return json.dumps([row[name] for name in names])


if __name__ == "__main__":
    main()
