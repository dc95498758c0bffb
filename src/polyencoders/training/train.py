"""One training run, from a model and examples to the best model saved: what the command line's `train` calls.

Knows models, examples, the trainers and the evaluator, and how they fit together; each does its part in its own file.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from sentence_transformers import CrossEncoderTrainingArguments, SentenceTransformerTrainingArguments
from sentence_transformers.base.evaluation import BaseEvaluator
from torch import nn
from transformers import EarlyStoppingCallback, PrinterCallback, TrainerCallback, set_seed

from polyencoders.data import Example, training_dataset
from polyencoders.data.examples import right_answers
from polyencoders.errors import TrainingError
from polyencoders.evaluation import CandidateTask, given_candidates, sampled_candidates
from polyencoders.evaluation.attention import attention
from polyencoders.evaluation.evaluate import MEASURES, task_values
from polyencoders.models.dual import DualEncoder
from polyencoders.models.joint import JointEncoder
from polyencoders.models.poly_encoder import PolyEncoder
from polyencoders.models.precision import bf16_is_native, in_full_precision
from polyencoders.training.distillation_loss import DistillationLoss
from polyencoders.training.evaluators import RankingEvaluator
from polyencoders.training.freezing import freeze
from polyencoders.training.frozen import FrozenOutputs
from polyencoders.training.grouping import grouped_by_length
from polyencoders.training.in_batch import InBatchCrossEntropy
from polyencoders.training.mining import Miner
from polyencoders.training.options import Distillation, HardNegatives, TrainingOptions
from polyencoders.training.processes import by_the_first, processes, share_of
from polyencoders.training.pulling import Pull
from polyencoders.training.rates import best_of_rates
from polyencoders.training.result import TrainingResult, record
from polyencoders.training.resuming import CHECKPOINTS, checkpoint_to_resume, digest
from polyencoders.training.sampled import SampledCrossEntropy
from polyencoders.training.trainer import DualEncoderTrainer, JointEncoderTrainer

CANDIDATES, FEW_DOCUMENTS = 20, 200
"""Documents that a validation query ranks; where there are no more than the second, such as names of classes, all."""


def train(
    model: DualEncoder | JointEncoder,
    examples: Sequence[Example],
    validation: Sequence[Example] | BaseEvaluator = (),
    output_dir: str | os.PathLike[str] | None = None,
    options: TrainingOptions | None = None,
    callbacks: Sequence[TrainerCallback] = (),
    on_texts: Callable[[str, int, int], None] = lambda what, done, total: None,
    teacher_scores: NDArray[np.float32] | None = None,
    loss: type[nn.Module] | None = None,
) -> TrainingResult:
    """Train a model on examples, in place, and save it.

    With validation examples, the model is measured by R@1/C as it comes and while it is trained, and ends as the best
    checkpoint. Where several learning rates are to be tried, it is trained at each, from the same start, and validation
    chooses among them as well. An interrupted run goes on from its last checkpoint when it is called again with the
    same arguments, and ends the same. A model whose backbone is frozen ends with its document map folded into the query
    side, so that its document vectors are the backbone's own. Weights in half precision become float32, in which alone
    they can be trained. In several processes, as `torchrun` and `accelerate launch` start them, each takes its share of
    every batch, and they learn what one process with the whole batch would.

    Parameters
    ----------
    model
        Any of ours; build it after `transformers.set_seed(seed)` where new weights are to be the same again.
    examples
        To train on; each positive of each is a row.
    validation
        To choose the checkpoint by: their own `candidates` where all have them, else sampled ones. Or an evaluator of
        sentence-transformers, of whose `primary_metric` more is better; its `get_config_dict` says what it measures.
    output_dir
        Where the model is saved, whole or not at all, and checkpoints are kept until then. None: a temporary folder,
        and nothing is saved.
    options
        The choices; the defaults of `TrainingOptions` otherwise.
    callbacks
        `transformers` callbacks.
    on_texts
        Told of the progress of encoding for a frozen backbone: what, texts done, texts in all.
    teacher_scores
        Where `options.distillation` is given: a teacher's scores `(pairs, k + 1)` of the right answer of each pair and
        its k negatives. `distill` makes them.
    loss
        The class of what is minimised, made of the model, such as a subclass of `InBatchCrossEntropy`; None: what its
        architecture and the options say.

    Returns
    -------
    TrainingResult

    Raises
    ------
    TrainingError
        Nothing to train, too few examples for a batch, several learning rates and no validation, a loss that is not a
        number, checkpoints of another run.

    Examples
    --------
    See the README, "Train on your own pairs".
    """
    if not examples:
        raise TrainingError("no examples to train on")
    options = options or TrainingOptions()
    rates = options.learning_rates(validated=bool(validation))
    in_full_precision(model)
    freeze(model, options.frozen)

    def run(folder: Path, options: TrainingOptions) -> TrainingResult:
        return _train(model, examples, validation, folder, options, callbacks, on_texts, teacher_scores, loss)

    with tempfile.TemporaryDirectory() if output_dir is None else nullcontext(output_dir) as place:
        folder = Path(place).absolute()  # because a checkpoint remembers where the best one is
        if len(rates) == 1:
            result = run(folder, replace(options, learning_rate=rates[0]))
        else:
            result = best_of_rates(model, rates, folder, options, run)
    if isinstance(model, DualEncoder) and "backbone" in options.frozen and "documents" not in options.frozen:
        model.fold_document_map()
    model.training_record = record(result, options)
    if output_dir is None:
        return result
    together = processes()
    together.wait_for_everyone()
    if together.is_main_process:
        model.save_pretrained(str(folder))
        shutil.rmtree(folder / CHECKPOINTS, ignore_errors=True)
    return result


_OF_CODES = r"\.(codes|biases)$"
"""Weights of learnt codes, which start at next to nothing and have a learning rate of their own."""

SCORES = "label"
"""The column of a teacher's scores, by the name that sentence-transformers' collator and trainer know."""


def _train(
    model: Any,
    examples: Sequence[Example],
    validation: Sequence[Example] | BaseEvaluator,
    folder: Path,
    options: TrainingOptions,
    callbacks: Sequence[TrainerCallback],
    on_texts: Callable[[str, int, int], None],
    teacher_scores: NDArray[np.float32] | None,
    loss: type[nn.Module] | None,
) -> TrainingResult:
    dual = isinstance(model, DualEncoder)
    table = training_dataset(examples)
    if (options.distillation is not None) != (teacher_scores is not None):
        raise TrainingError("distillation needs a teacher's scores, and they need it: use distill")
    if teacher_scores is not None:
        table = _with_scores(model, table, teacher_scores)
    if dual and min(options.batch_size, len(table)) < 2:
        raise TrainingError(
            "in-batch negatives need at least 2 pairs of a query and a document in a batch, got "
            f"{len(table)} of them and batch_size={options.batch_size}"
        )
    evaluator = validation_lists(validation, options, dual)
    trainer = _trainer(model, examples, table, evaluator, folder, options, callbacks, loss)
    checkpoint = _checkpoint_to_resume(folder, model, table, evaluator, options, loss)
    if isinstance(options.hard_negatives, HardNegatives):
        miner = Miner(model, examples, options.hard_negatives, seed=options.seed)  # refuses models that cannot search
        assert isinstance(trainer, DualEncoderTrainer)
        trainer.use_mined(miner, folder / CHECKPOINTS)
    if options.pull:
        trainer.add_callback(Pull(model, options.pull, folder / CHECKPOINTS / "start.safetensors"))

    started = time.perf_counter()
    outputs = FrozenOutputs(model, bf16=options.bf16) if dual and options.frozen else None
    with outputs.applied() if outputs is not None and outputs.useful else nullcontext():
        if outputs is not None and outputs.useful:
            _prepare(outputs, table, _task(evaluator), on_texts)
        before = None if evaluator is None else by_the_first(lambda: _measure(model, evaluator))
        set_seed(options.seed)
        with grouped_by_length(model):
            trainer.train(resume_from_checkpoint=checkpoint)
        trainer.check_weights()
        undecided = averaged = None
        if evaluator is not None and (task := _task(evaluator)) is not None and isinstance(model, PolyEncoder):
            undecided, averaged = by_the_first(partial(_told_apart, model, task))
    seconds = time.perf_counter() - started
    model.eval()

    state = trainer.state
    history = [
        (int(entry["step"]), float(entry[f"eval_{evaluator.primary_metric}"]))
        for entry in state.log_history
        if evaluator is not None and f"eval_{evaluator.primary_metric}" in entry
    ]
    return TrainingResult(
        pairs=len(table),
        learning_rate=float(cast(float, options.learning_rate)),
        steps=state.global_step,
        best_step=state.best_global_step if evaluator is not None else None,
        metric=None if evaluator is None else str(evaluator.primary_metric),
        before=before,
        after=None if evaluator is None else state.best_metric,
        seconds=seconds,
        history=history,
        attention_entropy=undecided,
        averaged=averaged,
    )


def validation_lists(
    validation: Sequence[Example] | BaseEvaluator, options: TrainingOptions, encoded_once: bool = True
) -> BaseEvaluator | None:
    """What the checkpoint is chosen by: the examples' own candidates, sampled ones, or the evaluator that is given.

    `encoded_once` is whether documents are encoded each for itself, so that long lists of the same ones cost nothing.

    Raises
    ------
    TrainingError
        The examples have a single document between them.
    """
    if isinstance(validation, BaseEvaluator):
        return validation
    if not validation:
        return None
    # Neighbours in a file are often of one conversation or topic, so the first n would be few of them.
    number = min(options.validation_queries, len(validation))
    chosen = random.Random(options.seed).sample(list(validation), number)
    if all(example.candidates for example in chosen):
        return RankingEvaluator(given_candidates(chosen), write_csv=False)
    answers = right_answers(chosen)
    documents = set().union(*answers.values())
    most = max(map(len, answers.values()))
    others = (example for example in validation if example.query not in answers)
    every = documents.union(*(example.positives for example in others))
    listed = options.candidates or (FEW_DOCUMENTS if encoded_once and len(every) <= FEW_DOCUMENTS else CANDIDATES)
    if len(documents) - most + 1 < listed:
        documents = every
    # An answer must have others to stand against: a small file gets shorter lists.
    candidates = min(listed, len(documents) - most + 1)
    if candidates < 2:
        raise TrainingError(
            f"the {len(validation)} validation examples have {len(documents)} distinct documents between them: "
            "nothing to rank against"
        )
    task = sampled_candidates(chosen, candidates, options.seed, sorted(documents))
    return RankingEvaluator(task, write_csv=False)


def _with_scores(model: Any, table: Any, scores: NDArray[np.float32]) -> Any:
    if not isinstance(model, DualEncoder):
        raise TrainingError(f"a {type(model).__name__} reads pairs: what is distilled is a bi- or poly-encoder")
    expected = (len(table), len(table.column_names) - 1)
    if scores.shape != expected:
        raise TrainingError(f"expected a teacher's scores {expected} of pairs and documents, got {scores.shape}")
    if not np.isfinite(scores).all():
        raise TrainingError("a teacher's score is not a number")
    return table.add_column(SCORES, scores.tolist())


def _task(evaluator: BaseEvaluator | None) -> CandidateTask | None:
    task = getattr(evaluator, "task", None)
    return task if isinstance(task, CandidateTask) else None


def _measure(model: Any, evaluator: BaseEvaluator) -> float:
    return float(cast(dict[str, float], evaluator(model))[str(evaluator.primary_metric)])


def _told_apart(model: PolyEncoder, task: CandidateTask) -> tuple[tuple[float, float] | None, float]:
    """The entropy of the attention over the codes, and what validation measures where they are averaged."""
    with model.averaging():  # not by the evaluator, which would put it on the model's card as the model's own
        (averaged,) = task_values(model, task, MEASURES[:1], 64, False).values()
    return attention(model, task), float(averaged.mean())


def _prepare(
    outputs: FrozenOutputs, table: Any, task: CandidateTask | None, on_texts: Callable[[str, int, int], None]
) -> None:
    columns = [name for name in table.column_names[1:] if name != SCORES]
    documents = [text for column in columns for text in table[column]]
    texts: dict[Any, list[Any]] = {"query": list(table["query"]), "document": documents}
    if task is not None:
        texts["query"] += list(task.queries)
        texts["document"] += [text for listed in task.documents for text in listed]
    outputs.prepare_all(texts, on_texts)


def _trainer(
    model: Any,
    examples: Sequence[Example],
    table: Any,
    evaluator: BaseEvaluator | None,
    folder: Path,
    options: TrainingOptions,
    callbacks: Sequence[TrainerCallback],
    loss: type[nn.Module] | None,
) -> DualEncoderTrainer | JointEncoderTrainer:
    dual = isinstance(model, DualEncoder)
    batch_size = share_of(options.batch_size, len(table), model.device)
    every = options.evaluate_every or max(1, options.steps // 10)
    arguments: dict[str, Any] = {
        "output_dir": str(folder / CHECKPOINTS),
        "max_steps": options.steps,
        "per_device_train_batch_size": batch_size,
        "learning_rate": options.learning_rate,
        "learning_rate_mapping": {_OF_CODES: options.code_learning_rate} if _has_learnt_codes(model) else {},
        "warmup_steps": options.steps // 10,
        "bf16": bf16_is_native(model.device) if options.bf16 is None else options.bf16,
        "use_cpu": model.device.type == "cpu",
        # A last batch of one would have no negatives.
        "dataloader_drop_last": True,
        "dataloader_pin_memory": model.device.type == "cuda",
        "save_strategy": "steps",
        "save_steps": every,
        "save_total_limit": 2,
        # How long validation has not improved is part of where a run stands.
        "restore_callback_states_from_checkpoint": True,
        "logging_steps": min(every, 50),
        "disable_tqdm": True,
        "report_to": "none",
        "seed": options.seed,
    }
    if evaluator is not None:
        arguments |= {
            "eval_strategy": "steps",
            "eval_steps": every,
            "load_best_model_at_end": True,
            "metric_for_best_model": f"eval_{evaluator.primary_metric}",
            "greater_is_better": True,
        }
        if options.patience is not None:
            callbacks = [*callbacks, EarlyStoppingCallback(early_stopping_patience=options.patience)]
    trainer_class, arguments_class = (
        (DualEncoderTrainer, SentenceTransformerTrainingArguments)
        if dual
        else (JointEncoderTrainer, CrossEncoderTrainingArguments)
    )
    # Before the loss, because the number of processes is known from here on.
    training_arguments = arguments_class(**arguments)
    trainer = trainer_class(
        model=model,
        args=training_arguments,
        train_dataset=table,
        loss=loss(model) if loss else _loss(model, examples, options, gather=training_arguments.world_size > 1),
        evaluator=evaluator,
        callbacks=list(callbacks),
    )
    trainer.remove_callback(PrinterCallback)
    return trainer


def _loss(model: Any, examples: Sequence[Example], options: TrainingOptions, gather: bool) -> nn.Module:
    if not isinstance(model, DualEncoder):
        return SampledCrossEntropy(model, examples, options.negatives)
    if isinstance(options.distillation, Distillation):
        return DistillationLoss(model, options.distillation, options.mini_batch_size, gather)
    return InBatchCrossEntropy(model, options.mini_batch_size, gather)


def _has_learnt_codes(model: Any) -> bool:
    return any(name.endswith(".codes") for name, _ in model.named_parameters())


def _checkpoint_to_resume(
    folder: Path,
    model: Any,
    table: Any,
    evaluator: BaseEvaluator | None,
    options: TrainingOptions,
    loss: type[nn.Module] | None,
) -> str | None:
    """The last whole checkpoint of this very run, if it was interrupted.

    Raises
    ------
    TrainingError
        When the checkpoints are another run's.
    """
    shapes = {name: list(weights.shape) for name, weights in model.named_parameters()}
    task = _task(evaluator)
    validation = asdict(task) if task is not None else evaluator and evaluator.get_config_dict()
    run = {
        "model": digest([type(model).__name__, model._get_model_config(), shapes]),
        "data": digest([table.column_names, *(table[name][:] for name in table.column_names)]),
        "validation": digest(validation),
        "options": json.loads(json.dumps(asdict(options))),
        **({"loss": f"{loss.__module__}.{loss.__qualname__}"} if loss else {}),
    }
    return checkpoint_to_resume(folder / CHECKPOINTS, run)
