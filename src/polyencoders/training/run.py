"""One training run, from a model and examples to the best model saved: what `polyencoders train` calls."""

import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from sentence_transformers import CrossEncoderTrainingArguments, SentenceTransformerTrainingArguments
from sentence_transformers.base.evaluation import BaseEvaluator
from torch import nn
from transformers import EarlyStoppingCallback, PrinterCallback, TrainerCallback, set_seed

from polyencoders.data import Example, as_examples, training_dataset
from polyencoders.errors import TrainingError
from polyencoders.evaluation import CandidateTask, CorpusTask
from polyencoders.models import DualEncoder, JointEncoder, PolyEncoder, in_full_precision
from polyencoders.training.evaluators import OF_LISTS, use_of_codes, validation_lists
from polyencoders.training.frozen import freeze, kept_outputs
from polyencoders.training.grouping import grouped_by_length
from polyencoders.training.l2_sp import L2SP
from polyencoders.training.losses import DistillationLoss, InBatchCrossEntropy, SampledCrossEntropy
from polyencoders.training.negatives import MinedNegatives, Miner
from polyencoders.training.options import Distillation, HardNegatives, TrainingOptions
from polyencoders.training.output import check_no_model
from polyencoders.training.processes import by_the_first, part_of_batch, processes
from polyencoders.training.resume import (
    CHECKPOINTS,
    began_from,
    checkpoint_to_resume,
    digest,
    has_ended,
    restore_weights,
    trained_weights,
)
from polyencoders.training.trainer import DualEncoderTrainer, JointEncoderTrainer, trainer_arguments

SCORES = "label"  # The column of a teacher's scores, by the name that sentence-transformers' collator and trainer know


@dataclass(frozen=True)
class TrainingResult:
    """The result of a training run."""

    pairs: int  # Pairs of a query and a right answer that were trained on
    learning_rate: float  # The highest of the run
    steps: int  # Updates made
    best_step: int | None  # The update whose weights were kept; None without validation
    metric: str | None  # Name of what validation measured; None without validation
    before: float | None  # The metric before training
    after: float | None  # The metric with the weights that were kept
    seconds: float  # For training, validation and the outputs of a frozen backbone, over all learning rates
    history: list[tuple[int, float]]  # `(step, value)` of each validation
    attention_entropy: tuple[float, float] | None = None
    """For a poly-encoder: the entropy of a document's attention over the codes, in nats, and its highest value."""
    averaged: float | None = None  # For a poly-encoder: the metric with the codes averaged into one vector
    rates: Mapping[float, float] = field(default_factory=dict)  # The final metric by rate, where several were tried


def train(
    model: DualEncoder | JointEncoder,
    examples: Iterable[Any],
    validation: Iterable[Any] | BaseEvaluator = (),
    output_dir: str | os.PathLike[str] | None = None,
    options: TrainingOptions | None = None,
    callbacks: Sequence[TrainerCallback] = (),
    on_texts: Callable[[str, int, int], None] = lambda what, done, total: None,
    teacher_scores: NDArray[np.float32] | None = None,
    loss: type[nn.Module] | None = None,
    corpus: Sequence[str] = (),
    overwrite: bool = False,
) -> TrainingResult:
    """Train a model on examples, in place, and save it.

    With validation, the model is measured before and during training, by MRR in lists of C, or in a corpus, and
    ends as the best checkpoint of the best learning rate. An interrupted run, called again with the same arguments,
    goes on from its last checkpoint and ends the same. With a frozen backbone the document map ends folded into the
    query side, so that document vectors are the backbone's own. Half-precision weights become float32. Several
    processes (`torchrun`, `accelerate launch`) take a part of every batch each, and learn what one would from the whole
    batch. docs/tutorials/train.md goes through it.

    Parameters
    ----------
    model
        Any model of this package. `transformers.set_seed(seed)` before it is built makes new weights reproducible.
    examples
        Examples to train on, or rows of any kind (`polyencoders.data.as_examples`); each right answer is one row.
    validation
        Examples to choose the checkpoint by, on their own `candidates` where all have them, else on sampled ones. Or an
        evaluator of sentence-transformers whose `primary_metric` is better when higher.
    output_dir
        Where the model is saved, whole or not at all, and where checkpoints are kept until then. None: nothing is
        saved.
    options
        Options of the run. Default: `TrainingOptions()`.
    callbacks
        `transformers` callbacks.
    on_texts
        Told of progress on a frozen backbone's outputs: what, texts done, texts in all.
    teacher_scores
        For `options.distillation`, made by `distill`: `(pairs, k + 1)`, of each pair's right answer and k negatives.
    loss
        A class of loss, constructed with the model. Default: by the architecture and the options.
    corpus
        All documents that queries rank in use. Where documents are frozen, validation ranks them all.
    overwrite
        Whether a model that is in `output_dir` already is replaced.

    Raises
    ------
    DataError
        A row that is no example.
    TrainingError
        A model that is there already, no examples, too few for a batch, several learning rates without validation, a
        loss that is not a number, or checkpoints of another run.
    """
    examples = as_examples(examples)
    if not examples:
        raise TrainingError("no examples to train on")
    if not isinstance(validation, BaseEvaluator):
        validation = as_examples(validation)
    if output_dir is not None:
        check_no_model(Path(output_dir), overwrite)
    options = options or TrainingOptions()
    rates = options.learning_rates(validated=bool(validation))
    in_full_precision(model)
    freeze(model, options.frozen)
    with tempfile.TemporaryDirectory() if output_dir is None else nullcontext(output_dir) as place:
        folder = Path(place).absolute()  # a checkpoint remembers where the best one is

        def run(folder: Path, options: TrainingOptions) -> TrainingResult:
            return Run(
                model, examples, validation, folder, options, callbacks, on_texts, teacher_scores, loss, corpus
            ).train()

        if len(rates) == 1:
            result = run(folder, replace(options, learning_rate=rates[0]))
        else:
            result = best_of_rates(model, rates, folder, options, run)
    finish(model, result, output_dir, options)
    return result


def finish(
    model: DualEncoder | JointEncoder,
    result: TrainingResult,
    output_dir: str | os.PathLike[str] | None,
    options: TrainingOptions,
) -> None:
    """Folds a map of documents into the query side, notes the run for the card, and saves the model."""
    has_ended(model)
    if isinstance(model, DualEncoder) and "backbone" in options.frozen and "documents" not in options.frozen:
        model.fold_document_map()
    model.training_record = _record(result, options)
    if output_dir is None:
        return
    together = processes()
    together.wait_for_everyone()
    if together.is_main_process:
        model.save_pretrained(str(output_dir))
        shutil.rmtree(Path(output_dir) / CHECKPOINTS, ignore_errors=True)


@dataclass
class Run:
    """A training run at one learning rate: the arguments of `train`, and what is made of them."""

    model: Any
    examples: Sequence[Example]
    validation: Sequence[Example] | BaseEvaluator
    folder: Path
    options: TrainingOptions
    callbacks: Sequence[TrainerCallback]
    on_texts: Callable[[str, int, int], None]
    teacher_scores: NDArray[np.float32] | None = None
    loss: type[nn.Module] | None = None
    corpus: Sequence[str] = ()
    keep: bool = True  # Whether checkpoints are kept, to resume and to end with the best; else it ends with the last
    table: Any = field(init=False)
    """The training dataset: query, positive, negative_1 to negative_k, and a teacher's scores."""
    evaluator: BaseEvaluator | None = field(init=False)

    def __post_init__(self) -> None:
        self.dual = isinstance(self.model, DualEncoder)
        self.table = training_dataset(self.examples)
        if (self.options.distillation is not None) != (self.teacher_scores is not None):
            raise TrainingError("distillation needs a teacher's scores, and they need it: use distill")
        if self.teacher_scores is not None:
            self._add_scores(self.teacher_scores)
        if self.dual and min(self.options.batch_size, len(self.table)) < 2:
            raise TrainingError(
                "in-batch negatives need at least 2 pairs of a query and a document in a batch, got "
                f"{len(self.table)} of them and batch_size={self.options.batch_size}"
            )
        documents = [text for one in self.examples for text in (*one.positives, *one.negatives)]
        self.evaluator = validation_lists(self.validation, self.options, self.dual, self.corpus, documents)
        task = getattr(self.evaluator, "task", None)
        self.lists = task if isinstance(task, CandidateTask) else None

    def train(self) -> TrainingResult:
        """Trains the model in place, or goes on where it was interrupted."""
        model, options, evaluator = self.model, self.options, self.evaluator
        metric = None if evaluator is None else str(evaluator.primary_metric)
        trainer = self._trainer()
        checkpoint = checkpoint_to_resume(self.folder / CHECKPOINTS, self._described()) if self.keep else None
        if isinstance(options.hard_negatives, HardNegatives):
            miner = Miner(model, self.examples, options.hard_negatives, seed=options.seed)
            assert isinstance(trainer, DualEncoderTrainer), "the miner refuses other models"
            trainer.mined = MinedNegatives(miner, self.folder / CHECKPOINTS)
            trainer.add_callback(trainer.mined)
        if options.pull:
            trainer.add_callback(L2SP(model, options.pull, self.folder / CHECKPOINTS / "start.safetensors"))

        started = time.perf_counter()
        with kept_outputs(model, options.bf16, self._texts, self.on_texts):
            before = None
            if evaluator is not None:
                before = by_the_first(lambda: float(cast(dict[str, float], evaluator(model))[str(metric)]))
            set_seed(options.seed)
            with grouped_by_length(model):
                trainer.train(resume_from_checkpoint=checkpoint)
            trainer.check_weights()
            entropy = averaged = None
            if (lists := self.lists) is not None and isinstance(model, PolyEncoder):
                entropy, averaged = by_the_first(lambda: use_of_codes(model, lists))
        seconds = time.perf_counter() - started
        model.eval()
        state = trainer.state
        return TrainingResult(
            pairs=len(self.table),
            learning_rate=float(cast(float, options.learning_rate)),
            steps=state.global_step,
            best_step=None if evaluator is None else state.best_global_step,
            metric=f"{metric}/{self.lists.candidates}" if self.lists is not None and metric == OF_LISTS[0] else metric,
            before=before,
            after=None if evaluator is None else state.best_metric,
            seconds=seconds,
            history=[
                (int(entry["step"]), float(entry[f"eval_{metric}"]))
                for entry in state.log_history
                if f"eval_{metric}" in entry
            ],
            attention_entropy=entropy,
            averaged=averaged,
        )

    def _add_scores(self, scores: NDArray[np.float32]) -> None:
        if not self.dual:
            kind = type(self.model).__name__
            raise TrainingError(f"a {kind} reads pairs: what is distilled is a bi- or poly-encoder")
        expected = (len(self.table), len(self.table.column_names) - 1)
        if scores.shape != expected:
            raise TrainingError(f"expected a teacher's scores {expected} of pairs and documents, got {scores.shape}")
        if not np.isfinite(scores).all():
            raise TrainingError("a teacher's score is not a number")
        self.table = self.table.add_column(SCORES, scores.tolist())

    def _texts(self) -> dict[Any, list[Any]]:
        """Returns all texts that training and validation read, by side."""
        columns = [name for name in self.table.column_names[1:] if name != SCORES]
        documents = [text for column in columns for text in self.table[column]]
        texts: dict[Any, list[Any]] = {"query": list(self.table["query"]), "document": documents}
        if self.lists is not None:
            texts["query"] += list(self.lists.queries)
            texts["document"] += [text for listed in self.lists.documents for text in listed]
        elif isinstance(task := getattr(self.evaluator, "task", None), CorpusTask):
            texts["query"] += list(task.queries)
            texts["document"] += task.corpus
        return texts

    def _described(self) -> dict[str, Any]:
        """Returns all that the run depends on: a checkpoint of another run is refused."""
        model, table, loss = self.model, self.table, self.loss
        shapes = {name: list(weights.shape) for name, weights in model.named_parameters()}
        validation = (
            asdict(self.lists) if self.lists is not None else self.evaluator and self.evaluator.get_config_dict()
        )
        return {
            "model": digest([type(model).__name__, model.configuration, shapes, began_from(model)]),
            "data": digest([table.column_names, *(table[name][:] for name in table.column_names)]),
            "validation": digest(validation),
            "options": asdict(self.options),
            **({"loss": f"{loss.__module__}.{loss.__qualname__}"} if loss else {}),
        }

    def _trainer(self) -> DualEncoderTrainer | JointEncoderTrainer:
        model, options, callbacks, evaluator = self.model, self.options, list(self.callbacks), self.evaluator
        learnt_codes = any(name.endswith(".codes") for name, _ in model.named_parameters())
        metric = None if evaluator is None else str(evaluator.primary_metric)
        arguments: dict[str, Any] = {
            **trainer_arguments(self.folder / CHECKPOINTS, options, model.device, metric),
            "per_device_train_batch_size": part_of_batch(options.batch_size, len(self.table), model.device),
            # Learnt codes start at next to nothing, so they have a rate of their own.
            "learning_rate_mapping": {r"\.(codes|biases)$": options.code_learning_rate} if learnt_codes else {},
            # A last batch of one would have no negatives.
            "dataloader_drop_last": True,
            # A resumed run has to know how long validation has not improved.
            "restore_callback_states_from_checkpoint": True,
        }
        if not self.keep:
            arguments |= {"save_strategy": "no", "load_best_model_at_end": False}
        if evaluator is not None and options.patience is not None and self.keep:
            callbacks.append(EarlyStoppingCallback(early_stopping_patience=options.patience))
        arguments_class = SentenceTransformerTrainingArguments if self.dual else CrossEncoderTrainingArguments
        training_arguments = arguments_class(**arguments)
        # After the arguments, which find out how many processes there are.
        loss = self.loss(model) if self.loss else self._default_loss(gather=training_arguments.world_size > 1)
        trainer_class: Any = DualEncoderTrainer if self.dual else JointEncoderTrainer
        trainer = trainer_class(
            model=model,
            args=training_arguments,
            train_dataset=self.table,
            loss=loss,
            evaluator=evaluator,
            callbacks=callbacks,
        )
        trainer.remove_callback(PrinterCallback)
        return cast(DualEncoderTrainer | JointEncoderTrainer, trainer)

    def _default_loss(self, gather: bool) -> nn.Module:
        options = self.options
        if not self.dual:
            return SampledCrossEntropy(self.model, self.examples, options.negatives)
        if isinstance(options.distillation, Distillation):
            return DistillationLoss(self.model, options.distillation, options.mini_batch_size, gather)
        return InBatchCrossEntropy(self.model, options.mini_batch_size, gather)


def best_of_rates(
    model: nn.Module,
    rates: Sequence[float],
    folder: Path,
    options: TrainingOptions,
    run: Callable[[Path, TrainingOptions], TrainingResult],
) -> TrainingResult:
    """Trains at each rate from the same start, and leaves the model with the best weights; of equals, the first.

    The best rate is a matter of the data: on a frozen backbone, class names need ten times the rate of chit-chat
    (docs/results.md). Each rate's checkpoints, at most two, stay in their own folder until all rates are done: a
    resumed run loads the best of the finished rates and goes on with the one it was at.
    """
    # The note that these rates are tried tells this run from a run at one rate.
    checkpoint_to_resume(folder / CHECKPOINTS, {"learning rates": list(rates)})
    start = trained_weights(model, folder / CHECKPOINTS / "start.safetensors")
    best, weights, tried, seconds = None, start, {}, 0.0
    for rate in rates:
        restore_weights(model, start)
        result = run(folder / CHECKPOINTS / f"rate-{rate:g}", replace(options, learning_rate=rate))
        assert result.after is not None, "there is validation: it chooses"
        tried[rate] = result.after
        seconds += result.seconds
        if best is None or result.after > tried[best.learning_rate]:
            best, weights = result, trained_weights(model)
    assert best is not None
    restore_weights(model, weights)
    return replace(best, rates=tried, seconds=seconds)


def _record(result: TrainingResult, options: TrainingOptions) -> dict[str, Any]:
    """Returns what the model's card says of its training."""
    said: dict[str, Any] = {
        "Pairs": f"{result.pairs:,}",
        "Steps": f"{result.steps:,} of {options.batch_size}",
        "Learning rate": f"{result.learning_rate:g}",
        "Frozen": ", ".join(options.frozen) or "nothing",
        "Seed": options.seed,
    }
    if result.rates:
        said["Learning rates tried"] = ", ".join(f"{rate:g} ({after:.3f})" for rate, after in result.rates.items())
    if isinstance(options.distillation, Distillation):
        said["Distilled from"] = options.distillation.teacher or "a teacher"
    if result.metric is not None and result.before is not None and result.after is not None:
        said[f"Validation {result.metric}"] = (
            f"{result.before:.3f} before, {result.after:.3f} after step {result.best_step}"
        )
    if result.attention_entropy is not None:
        mean, uniform = result.attention_entropy
        said["Entropy of the attention"] = f"{mean:.2f} nats, {uniform:.2f} if all codes were alike"
    if result.averaged is not None:
        said["With its codes averaged"] = f"{result.averaged:.3f}"
    return said
