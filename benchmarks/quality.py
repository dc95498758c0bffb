"""How well each architecture ranks on real tasks: a run for each task, method and seed, and tables of all of them.

    python benchmarks/quality.py                         # codes and maps on a frozen backbone; hours on two cores
    python benchmarks/quality.py --set chosen-well       # the same with another choice of checkpoints
    python benchmarks/quality.py --set tuned --device cuda   # everything tuned, cross-encoders, MaxSim: for a GPU
    python benchmarks/quality.py --set tuned-small --tasks banking77 wikiqa   # a smaller version, for two cores
    python benchmarks/quality.py --set frozen-one-rate --group codes   # an ablation: codes, batches, layers, ...
    python benchmarks/quality.py --set frozen-one-rate --weights "pre-trained on" --tasks chit-chat   # or random, ...
    python benchmarks/quality.py --quick                 # under a minute, one small task; shows that it runs
    python benchmarks/quality.py --tasks banking77 wikiqa --methods bi poly-4 --seeds 0 1

Each finished run is a line of JSON in benchmarks/results/quality.jsonl and is not repeated: the same command goes on
where it stopped, and another command adds to the tables. Models are chosen on validation examples, never on test
examples. Also writes benchmarks/results/quality.{json,md,png}; the last line printed is the summary as one JSON object.
The sets are read from the archives in `--data` (or POLYENCODERS_BENCHMARK_DATA): see `quality_tasks.py`.
`quality_methods.py` lists what is compared, `quality_costs.py` measures times and bytes.

For a machine with a GPU and no network, save the backbone in fp16 (45 MB; it is trained in float32), and copy it with
the archives.

    python -c "from sentence_transformers import SentenceTransformer as S; S('BACKBONE').half().save('backbone')"
    python benchmarks/quality.py --set tuned --device cuda --backbone-files backbone --data archives
"""

from __future__ import annotations

from report import Report, parser

# isort: split
import argparse
import hashlib
import json
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Transformer
from tqdm import tqdm
from transformers import AutoModel, set_seed

from polyencoders.cli.architectures import DEFAULT_BACKBONE, build_model, resolve_backbone
from polyencoders.cli.display import quieten
from polyencoders.cli.runs import append_runs, read_runs
from polyencoders.data import Example
from polyencoders.data.conversations import load_conversations
from polyencoders.evaluation import evaluate, shared_candidates
from polyencoders.evaluation.attention import attention
from polyencoders.evaluation.tasks import CandidateTask, CorpusTask
from polyencoders.models import DualEncoder, load_model
from polyencoders.training import (
    HardNegatives,
    Teacher,
    TrainingOptions,
    TrainingResult,
    distill,
    mine_hard_negatives,
    pretrain_contrastive,
    train,
)
from polyencoders.training.frozen import FrozenOutputs
from polyencoders.training.pretraining import PretrainingOptions, pretrain
from quality_attention import LOSSES, Annealing, put_after_codes
from quality_maxsim import MaxSim
from quality_methods import GROUPS, METHODS, REAL, SETS, UNTRAINED, Method
from quality_report import draw, tables
from quality_tasks import RANKINGS, add_data_options, load, some

CONTRASTIVE = {"contrastive": False, "contrastive, hard negatives": True}
WEIGHTS = ("its own", "random", *CONTRASTIVE, "pre-trained on", "pre-trained from scratch")


def main() -> None:
    command = parser(__doc__)
    command.add_argument("--set", choices=SETS, default="frozen", help="what is trained")
    command.add_argument("--group", choices=GROUPS, default="main", help="the methods of a table")
    command.add_argument("--tasks", nargs="+", choices=RANKINGS, default=list(RANKINGS))
    command.add_argument("--methods", nargs="+", help="instead of the methods of a group")
    command.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    command.add_argument("--train-examples", type=int, default=4000, help="the largest number, drawn by seed 0")
    command.add_argument("--queries", type=int, default=500, help="the largest number, drawn by seed 0")
    command.add_argument("--length", type=int, default=128, help="tokens of a query and of a document at most")
    command.add_argument("--backbone", default=DEFAULT_BACKBONE)
    command.add_argument(
        "--backbone-files", type=Path, help="the folder of the backbone, for a machine without network"
    )
    command.add_argument("--weights", choices=WEIGHTS, default="its own", help="the weights of the backbone")
    command.add_argument(
        "--pretraining-steps", type=int, default=400, help="steps of 32 pairs of 64 tokens; contrastive: each"
    )
    command.add_argument("--teacher", help=f"the folder of {REAL}, for the methods that it teaches")
    command.add_argument("--device", help="cpu, cuda, ... [default: the best available]")
    add_data_options(command)
    arguments = command.parse_args()
    for name in arguments.methods or ():
        if name not in (*UNTRAINED, *METHODS) or name in SETS[arguments.set].without:
            command.error(f"no method {name!r} in this set: there are {', '.join(map(repr, possible(arguments.set)))}")
    quieten()
    plan = Plan(arguments)
    if arguments.quick:
        plan.tasks, plan.seeds = ["chit-chat"], [0]
        plan.methods = ["bm25", "as it comes", "bi", "bi-attention", "poly-4"]
        plan.settings |= {"train_examples": 64, "queries": 30, "length": 32}
        plan.options = TrainingOptions(steps=4, batch_size=8, freeze="backbone", validation_queries=8)
    report = Report("quality", ("torch", "sentence-transformers", "transformers", "bm25s", "numpy"), arguments.quick)
    runs = report.path.with_suffix(".jsonl")
    rows = [] if arguments.quick else read_runs(runs)
    finished = {key(row) for row in rows}
    todo = [run for run in plan.runs() if key(plan.fields(*run)) not in finished]
    for run in tqdm(todo, desc="quality"):
        row = plan.row(*run)
        rows.append(row)
        if not arguments.quick:
            append_runs(runs, [row])
        tqdm.write(f"{' / '.join(map(str, run))}: {next(iter(row['metrics'].values())):.3f}, {row['seconds']:.0f} s")
    lines, found = tables(rows)
    report.keep({"sections": found})
    summary = {
        title: {group: {name: row["all"] for name, row in made.items()} for group, made in groups.items()}
        for title, groups in found.items()
    }
    report.publish("Quality", lines, summary, lambda path: draw(found, path))


def possible(chosen: str) -> list[str]:
    """The methods of a set."""
    return [name for name in (*UNTRAINED, *METHODS) if name not in SETS[chosen].without]


class Plan:
    """The runs, and how each is done."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self.set, self.tasks, self.seeds = arguments.set, arguments.tasks, arguments.seeds
        self.methods = arguments.methods or [name for name in GROUPS[arguments.group] if name in possible(self.set)]
        self.options = SETS[self.set].options
        self.settings = {name: getattr(arguments, name) for name in ("train_examples", "queries", "length", "backbone")}
        self.device, self.data, self.unpacked = arguments.device, arguments.data, arguments.unpacked
        self.teacher = arguments.teacher
        self._loaded: tuple[str, Any] = ("", None)
        self._backbone = str(arguments.backbone_files or self.settings["backbone"])
        if arguments.weights != "its own":
            steps = 0 if arguments.weights == "random" else arguments.pretraining_steps
            self._backbone = other_weights(self._backbone, arguments.weights, steps, self.unpacked)
            self.settings["backbone"] += f", weights {arguments.weights}" + (f" for {steps:,} steps" if steps else "")

    @cached_property
    def real_teacher(self) -> Teacher:
        """The cross-encoder that was trained elsewhere; it reads 256 tokens of a pair, as `upgrade.py`'s does."""
        if self.teacher is None:
            raise SystemExit(f"these methods need --teacher, the folder of {REAL}")
        model = load_model(self.teacher)
        model.max_seq_length = 256
        return Teacher(model)

    def runs(self) -> Iterator[tuple[str, str, int]]:
        """Task, method and seed. Methods that are not trained have one seed."""
        for task in self.tasks:
            for seed in self.seeds:
                for method in self.methods:
                    if method not in UNTRAINED or seed == self.seeds[0]:
                        yield task, method, 0 if method in UNTRAINED else seed

    def fields(self, task: str, method: str, seed: int) -> dict[str, Any]:
        """The fields that identify a run."""
        return {
            "task": task,
            "method": method,
            "seed": seed,
            "set": "untrained" if method in UNTRAINED else self.set,
            "steps": 0 if method in UNTRAINED else self.options.steps,
            **self.settings,
        }

    def row(self, task: str, method: str, seed: int) -> dict[str, Any]:
        """Do a run: train, choose on validation examples, measure on test examples. Gives its row."""
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
            chosen = METHODS.get(method, Method("bi"))
            model = self._model(chosen, trained=method not in UNTRAINED)
            if method not in UNTRAINED:
                model, trained = self._train(model, method, task, seed)
            with outputs_of(model, SETS[self.set].frozen):
                if not isinstance(model, DualEncoder) or chosen.layer == "keys":
                    ranked = as_lists(ranked, test, splits.corpus)
                report = evaluate(model, ranked, measures)
                listed = ranked if isinstance(ranked, CandidateTask) else shared_candidates(test[:20], splits.corpus)
                entropies = attention(model, listed) if chosen.layer != "keys" else None
                if entropies is not None:
                    trained |= dict(zip(("attention_entropy", "uniform_entropy"), entropies, strict=True))
                    with model.averaging():
                        averaged = evaluate(model, ranked, measures[:1])
                    trained["averaged"] = next(iter(averaged.metrics.values())).mean
        return {
            **self.fields(task, method, seed),
            "metrics": {name: values.mean for name, values in zip(measures, report.metrics.values(), strict=True)},
            "candidates": report.candidates,
            "test_queries": len(test),
            **trained,
            "seconds": time.perf_counter() - started,
        }

    def _model(self, method: Method, trained: bool) -> Any:
        length, backbone = self.settings["length"], self._backbone
        if method.architecture == "maxsim":
            return MaxSim(backbone, length, self.device, SETS[self.set].frozen)
        if method.architecture == "cross":
            model = build_model("cross", backbone, {"device": self.device})
            model.max_seq_length = min(2 * length, 512)
            return model
        cut = {"query_length": length, "document_length": length, "device": self.device}
        model = build_model(
            method.architecture, backbone, {**method.settings, **cut}, SETS[self.set].frozen and trained
        )
        if method.layer:
            put_after_codes(model, method.layer)
        return model

    def _train(self, model: Any, name: str, task: str, seed: int) -> tuple[Any, dict[str, Any]]:
        splits, method = self._loaded[1], METHODS[name]
        options = self._options(method, seed)
        examples = self._examples(method)
        corpus = splits.corpus if SETS[self.set].in_corpus else ()
        if isinstance(model, MaxSim):
            return model, _training_fields(model.train(examples, splits.validation, options), examples)
        if method.taught:
            options = TrainingOptions(**{**vars(options), "distillation": method.distillation})
            teacher = self.real_teacher if method.taught == REAL else self._teacher(task, method.taught)[0]
            result = distill(model, teacher, examples, splits.validation, options=options, corpus=corpus)
        elif method.architecture.startswith("cross") and seed == 0:
            folder, fields = self._teacher(task, name)
            return load_model(folder, device=self.device), fields
        else:
            callbacks = [Annealing(model)] if method.annealed else []
            loss = LOSSES[method.loss] if method.loss else None
            result = train(model, examples, splits.validation, None, options, callbacks, loss=loss, corpus=corpus)
        return model, _training_fields(result, examples)

    def _examples(self, method: Method) -> list[Example]:
        """Training examples, with three mined negatives each if the method needs negatives and the set has none."""
        examples = some(self._loaded[1].train, self.settings["train_examples"])
        if not method.mined or any(example.negatives for example in examples):
            return examples
        start = self._model(Method("bi"), trained=False)
        return mine_hard_negatives(start, examples, HardNegatives(number=3, ranks=(0, 50)))

    def _options(self, method: Method, seed: int) -> TrainingOptions:
        """The options of the set, with its changes for cross-encoders and then with those of the method."""
        small = SETS[self.set].cross if method.architecture.startswith("cross") else {}
        return TrainingOptions(**{**vars(self.options), **small, **method.options, "seed": seed})

    def _teacher(self, task: str, name: str) -> tuple[str, dict[str, Any]]:
        """The folder of the cross-encoder trained on the task with seed 0, and the fields of its training.

        It is trained once, for its own row and for all methods that learn from it.
        """
        method = METHODS[name]
        options = self._options(method, 0)
        fields = self.fields(task, method.architecture, 0).items()  # the same in all sets with the same options
        run = [{name: value for name, value in fields if name not in ("set", "steps")}, repr(options)]
        run += [method.settings] if method.settings else []
        folder = self.unpacked / "teachers" / hashlib.sha256(json.dumps(run).encode()).hexdigest()[:16]
        kept = folder / "told.json"
        if not kept.exists():
            set_seed(0)
            examples = self._examples(method)
            model = self._model(method, trained=True)
            result = train(model, examples, self._loaded[1].validation, folder, options)
            kept.write_text(json.dumps(_training_fields(result, examples)), encoding="utf-8")
        return str(folder), json.loads(kept.read_text(encoding="utf-8"))


def _training_fields(result: TrainingResult, examples: Sequence[Example]) -> dict[str, Any]:
    """The fields of a row that describe its training."""
    return {
        "trained_on": len(examples),
        "validation": [result.before, result.after],
        "best_step": result.best_step,
        "learning_rate": result.learning_rate,
        "training_seconds": result.seconds,
    }


def other_weights(backbone: str, weights: str, steps: int, folder: Path) -> str:
    """The folder of a model that differs from the backbone by its weights alone.

    They are random, or pre-trained on the built-in conversations, from the backbone's weights or from random ones.
    """
    path = folder / f"{backbone.rpartition('/')[2]} {weights} {steps}"
    if (path / "modules.json").exists():
        return str(path)
    if weights in CONTRASTIVE:
        conversations, held_out = load_conversations("chitchat")
        settings = TrainingOptions(steps=steps, evaluate_every=100, validation_queries=300)
        given = {"max_length": 64, "hard_negatives": CONTRASTIVE[weights]}
        pretrain_contrastive(conversations, held_out, path, resolve_backbone(backbone), settings, **given)
        return str(path)
    model = SentenceTransformer(resolve_backbone(backbone), device="cpu")
    encoder = model[0].auto_model
    set_seed(0)
    if weights != "pre-trained on":
        encoder.load_state_dict(type(encoder)(encoder.config).state_dict())
    if steps:
        conversations, held_out = load_conversations("chitchat")
        options = PretrainingOptions(steps=steps, max_length=64, validation_pairs=200)
        plain, scratch = f"{path} alone", weights == "pre-trained from scratch"
        pretrain(conversations, held_out, plain, resolve_backbone(backbone), scratch, options)
        encoder.load_state_dict(AutoModel.from_pretrained(plain).state_dict())
    model.save(str(path))
    return str(path)


class Bm25:
    """BM25 (the package bm25s, its defaults) over the list of each query."""

    def score_lists(
        self, queries: Sequence[Any], documents: Sequence[Sequence[str]], **ignored: Any
    ) -> list[np.ndarray[Any, Any]]:
        """The scores of each query's documents."""
        import bm25s

        scores, retriever, listed = [], None, None
        for query, texts in zip(queries, documents, strict=True):
            if texts is not listed:  # a list that all queries share is indexed once
                retriever, listed = bm25s.BM25(), texts
                retriever.index(bm25s.tokenize(list(texts), show_progress=False), show_progress=False)
            text = query if isinstance(query, str) else " ".join(query)
            words = bm25s.tokenize([text], return_ids=False, show_progress=False)[0]
            known = [word for word in words if word in retriever.vocab_dict]
            scores.append(retriever.get_scores(known) if known else np.zeros(len(texts)))
        return scores


def as_lists(ranked: Any, test: Any, corpus: Sequence[str]) -> CandidateTask:
    """The task as lists, for models that read pairs; a list that all queries share is held once."""
    return shared_candidates(test, corpus) if isinstance(ranked, CorpusTask) else ranked


@contextmanager
def outputs_of(model: Any, frozen: bool) -> Iterator[None]:
    """Reuse the kept outputs of a frozen backbone: all methods on it read the same texts."""
    outputs = None
    if frozen and isinstance(model, DualEncoder):
        for module in model.modules():
            if isinstance(module, Transformer):
                module.requires_grad_(False)
        outputs = FrozenOutputs(model)
    with outputs.applied() if outputs is not None and outputs.useful else nullcontext():
        yield


def key(row: dict[str, Any]) -> str:
    """What identifies the run of a row."""
    names = ("task", "method", "seed", "set", "steps", "train_examples", "queries", "length", "backbone")
    return json.dumps([row[name] for name in names])


if __name__ == "__main__":
    main()
