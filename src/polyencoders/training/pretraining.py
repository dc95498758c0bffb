"""Pre-training as in the paper, by masked words and next utterances told from others: conversations to a backbone."""

import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from math import inf
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_model, save_model
from torch.utils.data import Dataset, SequentialSampler
from transformers import PrinterCallback, Trainer, TrainerCallback, TrainingArguments, set_seed

from polyencoders.errors import TrainingError
from polyencoders.training.next_utterance import MaskingCollator, NextUtterancePairs
from polyencoders.training.options import check_rate, check_whole_numbers
from polyencoders.training.output import save_backbone
from polyencoders.training.pretraining_model import load_for_pretraining
from polyencoders.training.resume import CHECKPOINTS, checkpoint_to_resume, digest
from polyencoders.training.trainer import ResumableTrainer, trainer_arguments


@dataclass(frozen=True, kw_only=True)
class PretrainingOptions:
    """The options of a pre-training run; those not explained are as in `TrainingOptions`."""

    steps: int = 10_000
    batch_size: int = 32  # Pairs in a step, half of them true
    learning_rate: float = 5e-5  # The highest rate, reached after a tenth of the steps; it then falls to 0
    max_length: int = 128  # The most tokens of a pair
    evaluate_every: int | None = None
    validation_pairs: int = 500  # The most pairs to validate on
    bf16: bool | None = None
    seed: int = 0  # Of new weights, the order of the data, random utterances, masks and dropout

    def __post_init__(self) -> None:
        # Twelve tokens: the special ones and a few words of each side.
        least = {"steps": 1, "batch_size": 2, "max_length": 12, "evaluate_every": 1, "validation_pairs": 2, "seed": 0}
        check_whole_numbers(self, least, ["evaluate_every"])
        check_rate(self, "learning_rate")


@dataclass(frozen=True)
class Validation:
    """Measurements on held-out conversations, half of whose pairs are true."""

    loss: float  # The sum of both losses
    masked_loss: float  # Cross-entropy of a masked token, in nats
    next_accuracy: float  # The fraction of pairs that were told rightly to be true or not; 0.5 by chance


@dataclass(frozen=True)
class PretrainingResult:
    """The result of a pre-training run; `best_step` is the update whose weights were kept, `after` is measured on."""

    steps: int
    best_step: int
    before: Validation
    after: Validation


def pretrain(
    conversations: Sequence[Sequence[str]],
    validation: Sequence[Sequence[str]],
    output_dir: str | os.PathLike[str],
    backbone: str,
    from_scratch: bool = False,
    options: PretrainingOptions | None = None,
    callbacks: Sequence[TrainerCallback] = (),
) -> PretrainingResult:
    """Pre-train a backbone on unlabelled conversations, and save it (Humeau et al. 2020, section 4.1).

    The weights of the lowest validation loss are kept. An interrupted run, called again with the same arguments, goes
    on from its last checkpoint and ends the same.

    Parameters
    ----------
    conversations
        Lists of turns, oldest first.
    validation
        Other conversations, to choose the checkpoint by.
    output_dir
        Where the backbone, a plain Hugging Face encoder with its tokeniser, is saved, whole or not at all, and where
        checkpoints are kept until then.
    backbone
        What to start from: the directory or the hub name of any Hugging Face encoder.
    from_scratch
        Whether to use only its architecture and tokeniser, with new weights.
    options
        Options of the run. Default: `PretrainingOptions()`.
    callbacks
        `transformers` callbacks.

    Raises
    ------
    ModelError
        The backbone cannot be pre-trained this way.
    TrainingError
        Nothing to learn from, a length that the backbone cannot read, a loss that is not a number, or checkpoints of
        another run.
    """
    options = options or PretrainingOptions()
    folder = Path(output_dir).absolute()  # a checkpoint remembers where the best one is
    set_seed(options.seed)
    model, tokenizer = load_for_pretraining(backbone, from_scratch)
    most = min(getattr(model.encoder.config, "max_position_embeddings", inf), tokenizer.model_max_length)
    if options.max_length > most:
        raise TrainingError(f"max_length is {options.max_length}, but {backbone} reads {most} tokens only")
    size = options.steps * options.batch_size
    pairs = NextUtterancePairs(conversations, tokenizer, options.max_length, size, options.seed)
    held_out = NextUtterancePairs(validation, tokenizer, options.max_length, 0, options.seed)
    held_out.size = min(options.validation_pairs, len(held_out.places))
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    trainer = _PretrainingTrainer(
        model=model,
        args=TrainingArguments(
            **trainer_arguments(folder / CHECKPOINTS, options, device, "loss", greater_is_better=False),
            per_device_train_batch_size=options.batch_size,
            per_device_eval_batch_size=options.batch_size,
            weight_decay=0.01,
            # The trainer does not see the model's arguments, which are behind **tokens.
            remove_unused_columns=False,
            label_names=["follows"],
        ),
        data_collator=MaskingCollator(tokenizer, options.seed),
        train_dataset=pairs,
        eval_dataset=held_out,
        compute_metrics=_metrics,
        callbacks=list(callbacks),
    )
    trainer.remove_callback(PrinterCallback)
    described = {
        "backbone": [backbone, from_scratch],
        "data": digest([conversations, validation]),
        "options": asdict(options),
    }
    checkpoint = checkpoint_to_resume(folder / CHECKPOINTS, described)
    before = _measured(trainer)
    set_seed(options.seed)
    trainer.train(resume_from_checkpoint=checkpoint)
    # Measured again, because the best checkpoint's weights are saved.
    result = PretrainingResult(
        trainer.state.global_step, trainer.state.best_global_step or 0, before, _measured(trainer)
    )
    model.encoder.config.architectures = [type(model.encoder).__name__]

    def save(scratch: str) -> None:
        model.encoder.save_pretrained(scratch)
        tokenizer.save_pretrained(scratch)

    record = {"objective": "masked", "from_scratch": from_scratch, "options": asdict(options), **asdict(result)}
    save_backbone(folder, save, record)
    return result


class _PretrainingTrainer(ResumableTrainer):
    """Reads pairs in their order and pickles nothing."""

    def _get_train_sampler(self, train_dataset: Dataset[Any] | None = None) -> SequentialSampler:
        return SequentialSampler(self.train_dataset)  # type: ignore[arg-type]

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        # safetensors' own function saves tied weights, which the base class refuses in a model that is not its own.
        if self.args.should_save:
            Path(str(output_dir)).mkdir(parents=True, exist_ok=True)
            save_model(self.accelerator.unwrap_model(self.model), str(Path(str(output_dir), "model.safetensors")))

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        load_model(self.accelerator.unwrap_model(self.model), str(Path(resume_from_checkpoint, "model.safetensors")))


def _metrics(prediction: Any) -> dict[str, float]:
    next_logits, masked_loss, masked = prediction.predictions
    return {
        "masked_loss": float(masked_loss.sum() / max(1.0, masked.sum())),
        "next_accuracy": float(np.mean((next_logits > 0) == (prediction.label_ids > 0.5))),
    }


def _measured(trainer: Trainer) -> Validation:
    # `evaluate` would tell the callbacks of a validation that is no part of training.
    metrics = trainer.predict(trainer.eval_dataset, metric_key_prefix="eval").metrics or {}  # type: ignore[arg-type]
    return Validation(*(metrics[f"eval_{name}"] for name in ("loss", "masked_loss", "next_accuracy")))
