"""How long a training step takes, beside sentence-transformers' own of the same backbone and batch.

    python benchmarks/training.py            # about ten minutes on two cores
    python benchmarks/training.py --quick    # under a minute, one model; writes nothing

Steps of the trainers themselves, tokenising, optimiser and all: 32 queries with a document each for models that
encode texts apart, 8 queries with 8 documents each for those that read pairs; all-MiniLM-L6-v2, 128 tokens a text, bf16
where the processor has it. A poly-encoder's peer is the bi-encoder. Runs take turns, a number is the median of their
steps. The built-in conversations, and of the sets of `quality_tasks.py` those whose archives are in `--data`. Writes
benchmarks/results/training.{json,md}; the last line printed is the summary as one JSON object.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import sentence_transformers as st
from datasets import Dataset
from sentence_transformers.cross_encoder.losses import MultipleNegativesRankingLoss as PairsLoss
from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss
from transformers import PrinterCallback, TrainerCallback

from machine import machine
from pages import put
from polyencoders.cli.architectures import DEFAULT_BACKBONE, build_model, reads_pairs, resolve_backbone
from polyencoders.cli.display import quieten
from polyencoders.data import Example
from polyencoders.models.precision import bf16_is_native
from polyencoders.training import TrainingOptions, train
from quality_tasks import RANKINGS, load, some

RESULTS = Path(__file__).parent / "results"
TASKS = ("chit-chat", "banking77", "mutual")
ARCHITECTURES = ("bi", "poly-4", "cross")
LENGTH, NEGATIVES = 128, 7


class Clock(TrainerCallback):
    """When each step of a trainer ended."""

    def __init__(self) -> None:
        self.ends: list[float] = []

    def on_step_end(self, *_: Any, **__: Any) -> None:
        """Remember it."""
        self.ends.append(time.perf_counter())

    @property
    def seconds(self) -> list[float]:
        """Of each step but the first."""
        return [end - start for start, end in pairwise(self.ends)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one model, few steps; writes no results")
    default = os.environ.get("POLYENCODERS_BENCHMARK_DATA") or Path(__file__).parents[2] / "shared" / "data"
    parser.add_argument("--data", type=Path, default=Path(default), help="the folder of the archives")
    parser.add_argument("--unpacked", type=Path, default=Path(__file__).parent / "cache" / "quality")
    arguments = parser.parse_args()
    quieten()
    tasks = ["chit-chat"] if arguments.quick else [task for task in TASKS if _is_there(task, arguments.data)]
    architectures, rounds, steps = (("bi",), 1, 2) if arguments.quick else (ARCHITECTURES, 3, 3)
    rows = []
    for task in tasks:
        drawn = some(load(task, arguments.data, arguments.unpacked).train, 2000)
        examples = [Example(one.query, one.positives[0]) for one in drawn]  # without negatives of their own
        for architecture in architectures:
            taken: dict[Callable[..., list[float]], list[float]] = {peer: [], ours: []}
            for seed in range(rounds):
                for run, seconds in taken.items():
                    seconds += run(architecture, examples, steps + 1, seed)
            theirs, mine = (statistics.median(seconds) for seconds in taken.values())
            share = padding(architecture, examples)
            rows.append({"task": task, "architecture": architecture, "padding": share, "peer": theirs, "ours": mine})
            print(_line(rows[-1]), flush=True)
    about = machine("training.py", "torch", "sentence-transformers", "transformers")
    summary = {"machine": about, "rows": rows}
    if not arguments.quick:
        lines = [
            "| a step, seconds | | padding in a batch | sentence-transformers | polyencoders | |",
            "|---|---|---|---|---|---|",
            *map(_line, rows),
        ]
        measured = "Measured: " + ", ".join(f"{name} {value}" for name, value in about.items()) + "."
        notes = [__doc__.partition("\n\n")[0], "", *lines, "", measured, ""]
        (RESULTS / "training.md").write_text("\n".join(["# Training", "", *notes]), encoding="utf-8")
        (RESULTS / "training.json").write_text(json.dumps(summary, indent=1) + "\n", encoding="utf-8")
        put("training", lines, "docs/training.md")
    print(json.dumps(summary))


def ours(architecture: str, examples: Sequence[Example], steps: int, seed: int) -> list[float]:
    """Seconds of each step of `train`."""
    clock, model = Clock(), built(architecture)
    options = TrainingOptions(
        steps=steps,
        batch_size=8 if reads_pairs(architecture) else 32,
        negatives=NEGATIVES,
        evaluate_every=steps,
        seed=seed,
    )
    train(model, examples, options=options, callbacks=[clock])
    return clock.seconds


def built(architecture: str) -> Any:
    """A new model."""
    apart = {"query_length": LENGTH, "document_length": LENGTH}
    limits = {"max_length": 2 * LENGTH} if architecture == "cross" else apart
    return build_model(architecture, DEFAULT_BACKBONE, limits)


def padding(architecture: str, examples: Sequence[Example]) -> float:
    """The share of padding in batches as wide as their longest text: of queries and of documents, or of 64 pairs."""
    model, none, tokens = built(architecture), 0, 0
    size = 64 if reads_pairs(architecture) else 32
    for start in range(0, min(len(examples), 640), size):
        batch = examples[start : start + size]
        queries, documents = [one.query for one in batch], [one.positives[0] for one in batch]
        if reads_pairs(architecture):
            prepared = [model.preprocess(list(zip(queries, documents, strict=True)))]
        else:
            prepared = [model.preprocess(queries, task="query"), model.preprocess(documents, task="document")]
        for features in prepared:
            none += int((features["input_ids"] == model.tokenizer.pad_token_id).sum())
            tokens += features["input_ids"].numel()
    return none / tokens


def peer(architecture: str, examples: Sequence[Example], steps: int, seed: int) -> list[float]:
    """Seconds of each step of sentence-transformers' trainer, on a model of its own."""
    clock, pairs = Clock(), reads_pairs(architecture)
    path = resolve_backbone(DEFAULT_BACKBONE)
    if pairs:
        model: Any = st.CrossEncoder(path, num_labels=1, max_length=2 * LENGTH)
        loss: Any = PairsLoss(model, num_negatives=NEGATIVES)
        trainer_class, arguments_class = st.CrossEncoderTrainer, st.CrossEncoderTrainingArguments
    else:
        model = st.SentenceTransformer(path)
        model.max_seq_length = LENGTH
        loss = MultipleNegativesRankingLoss(model)
        trainer_class, arguments_class = st.SentenceTransformerTrainer, st.SentenceTransformerTrainingArguments
    table = Dataset.from_dict(
        {
            "query": [one.query if isinstance(one.query, str) else " ".join(one.query) for one in examples],
            "positive": [one.positives[0] for one in examples],
        }
    )
    with tempfile.TemporaryDirectory() as folder:
        settings = arguments_class(
            output_dir=folder,
            max_steps=steps,
            per_device_train_batch_size=8 if pairs else 32,
            bf16=bf16_is_native(model.device),
            use_cpu=model.device.type == "cpu",
            save_strategy="no",
            disable_tqdm=True,
            report_to="none",
            seed=seed,
        )
        trainer = trainer_class(model=model, args=settings, train_dataset=table, loss=loss, callbacks=[clock])
        trainer.remove_callback(PrinterCallback)
        trainer.train()
    return clock.seconds


def _is_there(task: str, archives: Path) -> bool:
    archive = RANKINGS[task].archive
    return archive is None or (archives / f"{archive}.tar.gz").exists()


def _line(row: dict[str, Any]) -> str:
    times = f"{row['peer']:.2f} | **{row['ours']:.2f}** | {row['peer'] / row['ours']:.2f} times as fast"
    return f"| {row['task']} | {row['architecture']} | {row['padding']:.0%} | {times} |"


if __name__ == "__main__":
    main()
