"""How long a training step takes, beside sentence-transformers' own of the same backbone and batch.

    python benchmarks/training.py            # about ten minutes on two cores
    python benchmarks/training.py --quick    # under a minute, one model; writes nothing

Whole steps of the trainers, with tokenising and optimiser: 32 queries with a document each for models that encode texts
apart, 8 queries with 8 documents each for models that read pairs; all-MiniLM-L6-v2, 128 tokens a text, bf16 where the
processor has it. A poly-encoder is compared with the bi-encoder. Runs take turns; figures are medians of their steps.
On the built-in conversations, and on sets of `quality_tasks.py` whose archives are in `--data`. Writes
benchmarks/results/training.{json,md}; the last line printed is the summary as one JSON object.
"""

from __future__ import annotations

from report import Report, parser, put, table

# isort: split
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import sentence_transformers as st
from datasets import Dataset
from sentence_transformers.cross_encoder.losses import MultipleNegativesRankingLoss as PairsLoss
from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss
from transformers import PrinterCallback, TrainerCallback

from polyencoders.cli.architectures import DEFAULT_BACKBONE, build_model, reads_pairs, resolve_backbone
from polyencoders.cli.display import quieten
from polyencoders.data import Example
from polyencoders.models import bf16_is_native
from polyencoders.training import TrainingOptions, train
from quality_tasks import RANKINGS, add_data_options, load, some

TASKS = ("chit-chat", "banking77", "mutual")
ARCHITECTURES = ("bi", "poly-4", "cross")
LENGTH, NEGATIVES = 128, 7


class StepTimes(TrainerCallback):
    """The times at which the steps of a trainer end."""

    def __init__(self) -> None:
        self.ends: list[float] = []

    def on_step_end(self, *_: Any, **__: Any) -> None:
        self.ends.append(time.perf_counter())

    @property
    def seconds(self) -> list[float]:
        """The seconds of each step but the first."""
        return [end - start for start, end in pairwise(self.ends)]


def main() -> None:
    command = parser(__doc__)
    add_data_options(command)
    arguments = command.parse_args()
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
            empty = padding(architecture, examples)
            rows.append({"task": task, "architecture": architecture, "padding": empty, "peer": theirs, "ours": mine})
    report = Report("training", ("torch", "sentence-transformers", "transformers"), arguments.quick)
    report.keep({"rows": rows})
    header = ("a step, seconds", "", "padding in a batch", "sentence-transformers", "polyencoders", "")
    lines = table(header, map(_cells, rows))
    about = __doc__.partition("\n\n")[0]
    blocks = partial(put, "training", lines, "docs/training.md")
    report.publish("Training", [about, "", *lines], {"rows": rows}, blocks=blocks)


def ours(architecture: str, examples: Sequence[Example], steps: int, seed: int) -> list[float]:
    """The seconds of each step of `train`."""
    clock, model = StepTimes(), built(architecture)
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
    """The fraction of padding in batches as wide as their longest text: of queries and of documents, or of 64 pairs."""
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
    """The seconds of each step of sentence-transformers' trainer, on a model of its own."""
    clock, pairs = StepTimes(), reads_pairs(architecture)
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


def _cells(row: dict[str, Any]) -> tuple[str, ...]:
    times = f"{row['peer']:.2f}", f"**{row['ours']:.2f}**", f"{row['peer'] / row['ours']:.2f} times as fast"
    return row["task"], row["architecture"], f"{row['padding']:.0%}", *times


if __name__ == "__main__":
    main()
