"""One pre-training run, from conversations to a backbone saved: what the command line's `pretrain` calls.

Knows conversations, the pairs made of them, the model with its two heads, and transformers' trainer; each does its part
in its own file. What the backbone is used for afterwards it does not know.
"""

from __future__ import annotations

import json
import os
import re
import shutil
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
from polyencoders.files import whole_directory
from polyencoders.models.precision import bf16_is_native
from polyencoders.training.next_utterance import MaskingCollator, NextUtterancePairs
from polyencoders.training.pretraining_model import load_for_pretraining
from polyencoders.training.resuming import CHECKPOINTS, checkpoint_to_resume, digest
from polyencoders.training.trainer import finished_state

_PARTS_OF_A_BACKBONE = re.compile(
    r"model[\w.-]*\.safetensors(\.index\.json)?|vocab\.(txt|json)|merges\.txt|spiece\.model"
    r"|(config|tokenizer|tokenizer_config|special_tokens_map|added_tokens|pretraining)\.json"
)


@dataclass(frozen=True, kw_only=True)
class PretrainingOptions:
    """The choices of a pre-training run.

    Parameters
    ----------
    steps
        Updates of the weights.
    batch_size
        Pairs in a step, half of them true.
    learning_rate
        The highest, reached after a tenth of the steps and then falling to 0.
    max_length
        Most tokens of a pair.
    evaluate_every
        Steps between validations, each with a checkpoint; default a tenth of the steps.
    validation_pairs
        The most pairs to validate on.
    bf16
        Whether to compute in bf16; default: where the machine multiplies it in hardware.
    seed
        Of new weights, the order of the data, random utterances, masks and dropout.
    """

    steps: int = 10_000
    batch_size: int = 32
    learning_rate: float = 5e-5
    max_length: int = 128
    evaluate_every: int | None = None
    validation_pairs: int = 500
    bf16: bool | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        # Twelve tokens: the special ones and a few words of either side.
        least = {"steps": 1, "batch_size": 2, "max_length": 12, "evaluate_every": 1, "validation_pairs": 2, "seed": 0}
        for name, minimum in least.items():
            value = getattr(self, name)
            if name == "evaluate_every" and value is None:
                continue
            if not isinstance(value, int) or isinstance(value, bool) or value < minimum:
                raise TrainingError(f"{name} must be a whole number of at least {minimum}, got {value!r}")
        rate = self.learning_rate
        if not isinstance(rate, int | float) or isinstance(rate, bool) or not 0 < rate < inf:
            raise TrainingError(f"learning_rate must be a number above 0, got {rate!r}")


@dataclass(frozen=True)
class Validation:
    """What was measured on held-out conversations, of which every second pair is true.

    Attributes
    ----------
    loss
        The sum of both losses.
    masked_loss
        Cross-entropy of a masked token, in nats.
    next_accuracy
        The share of pairs told rightly to be true or not; by chance 0.5.
    """

    loss: float
    masked_loss: float
    next_accuracy: float


@dataclass(frozen=True)
class PretrainingResult:
    """What a run came to: the update whose weights were kept, and validation before it and of those weights."""

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

    The weights of the lowest validation loss are kept. An interrupted run goes on from its last checkpoint when it is
    called again with the same arguments, and ends the same.

    Parameters
    ----------
    conversations
        Each a list of turns, the oldest first.
    validation
        Others, to choose the checkpoint by.
    output_dir
        Where the backbone, a plain Hugging Face encoder with its tokeniser, is saved, whole or not at all, and
        checkpoints are kept until then.
    backbone
        What to start from: any Hugging Face encoder, a directory or a name on the hub.
    from_scratch
        Whether to take its architecture and tokeniser only, with new weights.
    options
        The choices; the defaults of `PretrainingOptions` otherwise.
    callbacks
        `transformers` callbacks.

    Raises
    ------
    ModelError
        The backbone cannot be pre-trained this way.
    TrainingError
        Nothing to learn from, a length that the backbone cannot read, a loss that is not a number, checkpoints of
        another run.
    """
    options = options or PretrainingOptions()
    # Absolute, because a checkpoint remembers where the best one is.
    folder = Path(output_dir).absolute()
    set_seed(options.seed)
    model, tokenizer = load_for_pretraining(backbone, from_scratch)
    most = min(getattr(model.encoder.config, "max_position_embeddings", inf), tokenizer.model_max_length)
    if options.max_length > most:
        raise TrainingError(f"max_length is {options.max_length}, but {backbone} reads {most} tokens only")
    pairs = NextUtterancePairs(
        conversations, tokenizer, options.max_length, options.steps * options.batch_size, options.seed
    )
    held_out = NextUtterancePairs(validation, tokenizer, options.max_length, 0, options.seed)
    held_out.size = min(options.validation_pairs, len(held_out.places))
    trainer = _trainer(model, MaskingCollator(tokenizer, options.seed), pairs, held_out, folder, options, callbacks)
    checkpoint = checkpoint_to_resume(
        folder / CHECKPOINTS,
        {
            "backbone": [backbone, from_scratch],
            "data": digest([conversations, validation]),
            "options": json.loads(json.dumps(asdict(options))),
        },
    )
    before = _measured(trainer)
    set_seed(options.seed)
    trainer.train(resume_from_checkpoint=checkpoint)
    # Again, rather than from the log: it is the best checkpoint's weights that are saved.
    result = PretrainingResult(
        trainer.state.global_step, trainer.state.best_global_step or 0, before, _measured(trainer)
    )
    model.encoder.config.architectures = [type(model.encoder).__name__]
    with whole_directory(folder, replaced=_PARTS_OF_A_BACKBONE.fullmatch) as scratch:
        model.encoder.save_pretrained(str(scratch))
        tokenizer.save_pretrained(str(scratch))
        record = {"from_scratch": from_scratch, "options": asdict(options), **asdict(result)}
        (scratch / "pretraining.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    shutil.rmtree(folder / CHECKPOINTS, ignore_errors=True)
    return result


class _PretrainingTrainer(Trainer):
    """transformers' trainer: reads pairs in their order, pickles nothing of a model, stops at a loss that is none."""

    def train(self, resume_from_checkpoint: str | bool | None = None, *args: Any, **kwargs: Any) -> Any:
        if isinstance(resume_from_checkpoint, str) and (state := finished_state(Path(resume_from_checkpoint))):
            # Only saving was left to do; the base class would go on for a step beyond the end.
            self.state = state
            self._load_best_model()
            return None
        return super().train(resume_from_checkpoint, *args, **kwargs)

    def _get_train_sampler(self, train_dataset: Dataset[Any] | None = None) -> SequentialSampler:
        return SequentialSampler(self.train_dataset)  # type: ignore[arg-type]

    def compute_loss(self, model: Any, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        loss = super().compute_loss(model, inputs, *args, **kwargs)
        if isinstance(loss, torch.Tensor) and model.training and not torch.isfinite(loss):
            raise TrainingError(
                f"the loss became {loss.item()} after {self.state.global_step} steps; a lower learning rate (it is "
                f"{self.args.learning_rate:g}) is the first thing to try. Nothing was saved of this step"
            )
        return loss

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        # As safetensors knows tied weights; the base class refuses them in a model that is not transformers' own.
        if self.args.should_save:
            Path(str(output_dir)).mkdir(parents=True, exist_ok=True)
            save_model(self.accelerator.unwrap_model(self.model), str(Path(str(output_dir), "model.safetensors")))

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        load_model(self.accelerator.unwrap_model(self.model), str(Path(resume_from_checkpoint, "model.safetensors")))

    def _load_best_model(self) -> None:
        self._load_from_checkpoint(str(self.state.best_model_checkpoint))


def _trainer(
    model: Any,
    collator: MaskingCollator,
    pairs: NextUtterancePairs,
    held_out: NextUtterancePairs,
    folder: Path,
    options: PretrainingOptions,
    callbacks: Sequence[TrainerCallback],
) -> _PretrainingTrainer:
    every = options.evaluate_every or max(1, options.steps // 10)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    arguments = TrainingArguments(
        output_dir=str(folder / CHECKPOINTS),
        max_steps=options.steps,
        per_device_train_batch_size=options.batch_size,
        per_device_eval_batch_size=options.batch_size,
        learning_rate=options.learning_rate,
        weight_decay=0.01,
        warmup_steps=options.steps // 10,
        bf16=bf16_is_native(device) if options.bf16 is None else options.bf16,
        use_cpu=device.type == "cpu",
        dataloader_pin_memory=device.type == "cuda",
        # The model's arguments are behind **tokens, where the trainer does not see them.
        remove_unused_columns=False,
        label_names=["follows"],
        eval_strategy="steps",
        eval_steps=every,
        save_strategy="steps",
        save_steps=every,
        save_total_limit=2,
        load_best_model_at_end=True,
        metric_for_best_model="eval_loss",
        greater_is_better=False,
        logging_steps=min(every, 50),
        disable_tqdm=True,
        report_to="none",
        seed=options.seed,
    )
    trainer = _PretrainingTrainer(
        model=model,
        args=arguments,
        data_collator=collator,
        train_dataset=pairs,
        eval_dataset=held_out,
        compute_metrics=_metrics,
        callbacks=list(callbacks),
    )
    trainer.remove_callback(PrinterCallback)
    return trainer


def _metrics(prediction: Any) -> dict[str, float]:
    next_logits, masked_loss, masked = prediction.predictions
    return {
        "masked_loss": float(masked_loss.sum() / max(1.0, masked.sum())),
        "next_accuracy": float(np.mean((next_logits > 0) == (prediction.label_ids > 0.5))),
    }


def _measured(trainer: Trainer) -> Validation:
    # Not `evaluate`, which would tell the callbacks of a validation that is no part of training.
    metrics = trainer.predict(trainer.eval_dataset, metric_key_prefix="eval").metrics or {}  # type: ignore[arg-type]
    return Validation(*(metrics[f"eval_{name}"] for name in ("loss", "masked_loss", "next_accuracy")))
