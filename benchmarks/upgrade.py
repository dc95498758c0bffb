"""What an upgrade of the query side gains, by pairs and by time, beside LlamaIndex's adapters.

    python benchmarks/upgrade.py            # an hour or more on one core; goes on where it stopped
    python benchmarks/upgrade.py --quick    # under a minute, one small task; writes nothing
    python benchmarks/upgrade.py --tasks banking77 --pairs 1000

For each task the test documents are indexed with all-MiniLM-L6-v2 as it comes, and stay as they are. Then its queries
are upgraded on 100, 1,000 and 10,000 training pairs: a fifth of them chooses the checkpoint, and a fifth decides.
What is trained: codes and maps (as in `polyencoders upgrade`), the last two layers of the query side as well, or the
whole query side. LlamaIndex's adapters are trained on the same three fifths. The new model is measured on the test
queries; one that held-out pairs do not confirm is refused, and the figure of before is kept. One thread. Tasks as in
`quality.py`.

    python benchmarks/upgrade.py --methods "without labels" "codes and maps" --tasks scifact wikiqa --teacher CROSS

The training queries are then a log that nobody judged, and the teacher is a cross-encoder that was trained elsewhere.
The documents that they rank are in the index, beside those of the test queries.

Writes a line of JSON a run to benchmarks/results/upgrade.jsonl, and upgrade.{json,md,png}; the last
line printed is the summary as one JSON object.
"""

from __future__ import annotations

from report import Report, parser

# isort: split
import argparse
import json
import shutil
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm
from transformers import TrainerCallback, set_seed

from polyencoders.cli.architectures import DEFAULT_BACKBONE, build_model, resolve_backbone
from polyencoders.cli.display import quieten
from polyencoders.cli.runs import append_runs, read_runs
from polyencoders.data import Example
from polyencoders.evaluation import evaluate, paired_difference
from polyencoders.evaluation.tasks import CorpusTask
from polyencoders.index import Index
from polyencoders.models import load_model
from polyencoders.training import Teacher
from polyencoders.training.evaluators import RetrievalEvaluator
from polyencoders.training.unlabelled import upgrade_without_labels
from polyencoders.training.upgrade import missing_vectors, parts, upgrade, ways
from quality import as_lists
from quality_tasks import RANKINGS, add_data_options, load, some
from upgrade_report import BEFORE, draw, tables

TASKS = ("banking77", "clinc150", "babi-6", "wikiqa", "chit-chat", "dailydialog++ random", "ubuntu 10")
PAIRS = (100, 1_000, 10_000)
OURS = {"codes and maps": "backbone", "last two layers": "all-but-top-2", "query side": "embeddings"}
"""What is frozen besides the documents, by method."""
ADAPTERS = {"LlamaIndex linear": "linear", "LlamaIndex two layers": "two layers"}
UNLABELLED = "without labels"
METHODS = (BEFORE, *OURS, UNLABELLED, *ADAPTERS)
MEASURES = ["Success@1", "MRR"]


def main() -> None:
    command = parser(__doc__)
    command.add_argument("--tasks", nargs="+", choices=RANKINGS, default=list(TASKS))
    command.add_argument("--methods", nargs="+", choices=METHODS)
    command.add_argument("--teacher", help=f"the cross-encoder of {UNLABELLED!r}: a folder, or a name on the hub")
    command.add_argument("--teacher-length", type=int, default=256, help="tokens of a pair that it reads at most")
    command.add_argument("--pairs", type=int, nargs="+", default=list(PAIRS))
    command.add_argument("--seeds", type=int, nargs="+", default=[0])
    command.add_argument("--queries", type=int, default=500, help="the largest number of test queries, drawn by seed 0")
    add_data_options(command)
    arguments = command.parse_args()
    arguments.methods = arguments.methods or [name for name in METHODS if name != UNLABELLED or arguments.teacher]
    if UNLABELLED in arguments.methods and not arguments.teacher:
        command.error(f"{UNLABELLED!r} needs --teacher")
    quieten()
    torch.set_num_threads(1)
    if arguments.quick:
        arguments.tasks, arguments.pairs, arguments.queries = ["chit-chat"], [120], 20
        arguments.methods = [BEFORE, "codes and maps", UNLABELLED, "LlamaIndex linear"]
        arguments.teacher = arguments.teacher or resolve_backbone(DEFAULT_BACKBONE)
    packages = ["torch", "sentence-transformers", "transformers"]
    packages += ["llama-index-embeddings-adapter"] * any(name in ADAPTERS for name in arguments.methods)
    report = Report("upgrade", packages, arguments.quick)
    runs = report.path.with_suffix(".jsonl")
    rows = [] if arguments.quick else read_runs(runs)
    finished = {_key(row) for row in rows}
    for name in tqdm(arguments.tasks, desc="upgrade"):
        wanted = [run for run in _runs(name, arguments) if _key(run) not in finished]
        with tempfile.TemporaryDirectory() as folder:
            task = Task(name, arguments, Path(folder)) if wanted else None
            for run in wanted:
                assert task is not None
                row = {**run, **task.row(run, steps=4 if arguments.quick else None)}
                rows.append(row)
                if not arguments.quick:
                    append_runs(runs, [row])
                tqdm.write(f"{name} / {run['method']} / {run['pairs']}: {row['R@1']:.3f}, {row['seconds']:.0f} s")
    lines, found = tables(rows)
    report.keep(found)
    report.publish("Upgrade", lines, found["gains"], lambda path: draw(rows, path))


def _runs(task: str, arguments: argparse.Namespace) -> list[dict[str, Any]]:
    rows = []
    for method in arguments.methods:
        for pairs in arguments.pairs if method != BEFORE else [0]:
            for seed in arguments.seeds if method != BEFORE else [0]:
                rows.append(
                    {"task": task, "method": method, "pairs": pairs, "seed": seed, "queries": arguments.queries}
                )
    return rows


def _key(row: dict[str, Any]) -> str:
    return json.dumps([row[name] for name in ("task", "method", "pairs", "seed", "queries")])


class Task:
    """A set with an index of the documents that its test queries rank."""

    def __init__(self, name: str, arguments: argparse.Namespace, folder: Path) -> None:
        self.splits = load(name, arguments.data, arguments.unpacked)
        test = some(self.splits.test, arguments.queries)
        self.ranked = RANKINGS[name].ranked(test, self.splits.corpus)
        self.lists = as_lists(self.ranked, test, self.splits.corpus)
        self.folder = folder
        self.model = build_model("bi", DEFAULT_BACKBONE, {"query_length": 128, "document_length": 128})
        self.model.save_pretrained(str(folder / "model"))
        index = Index.create(folder / "index", folder / "model")
        corpus = self.ranked.corpus if isinstance(self.ranked, CorpusTask) else ()
        texts = dict.fromkeys([*corpus, *(text for listed in self.lists.documents for text in listed)])
        index.add([{"id": number, "text": text} for number, text in enumerate(texts)])
        self.made = 0
        self.teacher = None
        if arguments.teacher is not None:
            teacher = load_model(arguments.teacher)
            teacher.max_seq_length = arguments.teacher_length
            self.teacher = Teacher(teacher)

    def row(self, run: dict[str, Any], steps: int | None) -> dict[str, Any]:
        """Upgrade the first index, and measure the result."""
        if run["method"] == BEFORE:
            return {**self._measured(self.model), "confirmed": None, "seconds": 0.0, "history": []}
        set_seed(run["seed"])
        pairs = some(self.splits.train, run["pairs"])
        kind = ADAPTERS.get(run["method"])
        upgraded = self._adapted(kind, pairs, run["seed"], steps) if kind else self._upgraded(run, pairs, steps)
        return {"given": len(pairs), **upgraded}

    def _upgraded(self, run: dict[str, Any], pairs: Sequence[Example], steps: int | None) -> dict[str, Any]:
        options = ways(OURS.get(run["method"], "backbone"), run["seed"], steps)
        clock = ValidationTimes()
        self.made += 1
        output = self.folder / f"upgraded-{self.made}"
        index = Index.open(self.folder / "index", self.folder / "model", accept_documents_from=self.folder / "model")
        if run["method"] == UNLABELLED:
            index = self._with_what_the_log_ranks(pairs)
        started = time.perf_counter()
        if run["method"] == UNLABELLED:
            log = [example.query for example in pairs]
            done = upgrade_without_labels(index, self.teacher, log, len(log), output, options, [clock])
        else:
            done = upgrade(index, pairs, None, output, options, [clock])
        seconds = time.perf_counter() - started
        index.set_query_model(self.folder / "model")  # as before, for the next run
        return {
            **self._measured(done.model),
            "confirmed": done.confirmed,
            "held_out": [done.before["MRR@100"].mean, done.after["MRR@100"].mean],
            "seconds": seconds,
            "history": clock.values,
            "before": done.training.before,
        }

    def _with_what_the_log_ranks(self, pairs: Sequence[Example]) -> Index:
        """A copy of the index with the documents of these examples, right and wrong, as far as they are not there."""
        folder = self.folder / f"index-of-a-log-{self.made}"
        shutil.copytree(self.folder / "index", folder)
        index = Index.open(folder, self.folder / "model", accept_documents_from=self.folder / "model")
        texts = list(
            dict.fromkeys(text for one in pairs for text in (*one.positives, *one.negatives, *(one.candidates or ())))
        )
        there = index.stored(texts)
        index.add([{"id": f"log {number}", "text": text} for number, text in enumerate(texts) if text not in there])
        return index

    def _adapted(self, kind: str, pairs: Sequence[Example], seed: int, steps: int | None) -> dict[str, Any]:
        from upgrade_adapters import train_adapter  # needs LlamaIndex, which the other methods do without

        index = Index.open(self.folder / "index", self.folder / "model")
        started = time.perf_counter()
        examples, validation, held_out = parts(pairs, None, seed)
        vectors = missing_vectors(index, self.model, [*validation, *held_out])
        chooser, judge = (RetrievalEvaluator(index, some, vectors) for some in (validation, held_out))
        adapted = train_adapter(kind, self.model, examples, chooser, steps or 1000, seed)
        seconds = time.perf_counter() - started
        before, after = judge.values(self.model), judge.values(adapted)
        return {
            **self._measured(adapted),
            "confirmed": paired_difference(after["MRR@100"], before["MRR@100"]).low > 0,
            "held_out": [float(before["MRR@100"].mean()), float(after["MRR@100"].mean())],
            "seconds": seconds,
            "history": [],
        }

    def _measured(self, model: Any) -> dict[str, float]:
        report = evaluate(model, self.lists, MEASURES)
        return {name: one.mean for name, one in zip(("R@1", "MRR"), report.metrics.values(), strict=True)}


class ValidationTimes(TrainerCallback):
    """The seconds since training began and the measure, at each validation."""

    def __init__(self) -> None:
        self.started: float | None = None
        self.values: list[tuple[float, float]] = []

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.started = self.started or time.perf_counter()

    def on_evaluate(self, args: Any, state: Any, control: Any, metrics: Any = None, **kwargs: Any) -> None:
        assert self.started is not None
        self.values.append((time.perf_counter() - self.started, float(metrics[args.metric_for_best_model])))


if __name__ == "__main__":
    main()
