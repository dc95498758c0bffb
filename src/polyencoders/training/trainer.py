"""sentence-transformers' trainers, made safe for the models of this package.

Arguments, callbacks, loggers and `accelerate launch` work as their users know them. Added: columns know their side; a
resumed run sees the batches of one that was never interrupted and stops where that would; a loss that is not a number
stops the run; the best checkpoint is loaded, or the run fails; nothing of a model is pickled; accelerate leaves nothing
on a trained model.
"""

import shutil
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from sentence_transformers import CrossEncoderTrainer, SentenceTransformerTrainer
from sentence_transformers.base.losses.gradcache import uses_gradient_cache
from sentence_transformers.base.sampler import BatchSamplers, DefaultBatchSampler
from sentence_transformers.base.trainer import BaseTrainer
from sentence_transformers.util import all_gather, batch_to_device
from torch import Tensor, nn
from transformers import Trainer, TrainerCallback, TrainerState
from transformers.trainer_utils import TrainOutput

from polyencoders.encoders.queries import Query
from polyencoders.errors import PolyencodersError, TrainingError
from polyencoders.models import DualEncoder, PolyEncoder, Side, bf16_is_native
from polyencoders.training.collator import DualEncoderCollator, text_id
from polyencoders.training.losses import InBatchCrossEntropy
from polyencoders.training.negatives import MinedNegatives
from polyencoders.training.resume import finished_state


def trainer_arguments(
    folder: Path, options: Any, device: torch.device, metric: str | None, greater_is_better: bool = True
) -> dict[str, Any]:
    """Returns the trainer's arguments that all runs share; `metric`, where there is one, chooses the checkpoint."""
    every = options.evaluate_every or max(1, options.steps // 10)
    arguments = {
        "output_dir": str(folder),
        "max_steps": options.steps,
        "learning_rate": options.learning_rate,
        "warmup_steps": options.steps // 10,
        "bf16": bf16_is_native(device) if options.bf16 is None else options.bf16,
        "use_cpu": device.type == "cpu",
        "dataloader_pin_memory": device.type == "cuda",
        "save_strategy": "steps",
        "save_steps": every,
        "save_total_limit": 2,
        "logging_steps": min(every, 50),
        "disable_tqdm": True,
        "report_to": "none",
        "seed": options.seed,
    }
    if metric is not None:
        arguments |= {
            "eval_strategy": "steps",
            "eval_steps": every,
            "load_best_model_at_end": True,
            "metric_for_best_model": f"eval_{metric}",
            "greater_is_better": greater_is_better,
        }
    return arguments


class ResumableTrainer(Trainer):
    """transformers' trainer for any run: stops where it should, with the best checkpoint, and at bad losses."""

    def train(self, resume_from_checkpoint: str | bool | None = None, *args: Any, **kwargs: Any) -> TrainOutput:
        if isinstance(resume_from_checkpoint, str) and (state := finished_state(Path(resume_from_checkpoint))):
            # Only saving was left to do. The base class would train one step beyond the end.
            self.state = state
            best = Path(resume_from_checkpoint).parent / f"checkpoint-{state.best_global_step}"
            whole = best if self.args.load_best_model_at_end and best.is_dir() else resume_from_checkpoint
            self._load_from_checkpoint(str(whole))
            return TrainOutput(state.global_step, 0.0, {})
        return super().train(resume_from_checkpoint, *args, **kwargs)

    def compute_loss(self, model: Any, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        loss = super().compute_loss(model, inputs, *args, **kwargs)
        if isinstance(loss, Tensor) and model.training and not torch.isfinite(loss):
            raise self.diverged(f"the loss became {loss.item()}")
        return loss

    def diverged(self, what: str) -> TrainingError:
        """Returns the error of a run whose weights, losses or scores are no longer numbers."""
        return TrainingError(
            f"{what} after {self.state.global_step} steps; a lower learning rate (it is {self.args.learning_rate:g}) "
            "is the first thing to try. Nothing was saved of this step"
        )

    def _save_checkpoint(self, *args: Any, **kwargs: Any) -> None:
        try:
            super()._save_checkpoint(*args, **kwargs)
        except (OSError, RuntimeError) as error:
            # PyTorch's writer says only that a position is not the one expected.
            if isinstance(error, PolyencodersError) or not (
                isinstance(error, OSError) or "inline_container" in str(error)
            ):
                raise
            folder = Path(str(self.args.output_dir)) / f"checkpoint-{self.state.global_step}"
            shutil.rmtree(folder, ignore_errors=True)
            reason = getattr(error, "strerror", None) or "no space left on the disk, or a limit on the size of files"
            raise TrainingError(
                f"{folder} could not be written: {reason}. Nothing half-written is left; the same command goes on from "
                "the last whole checkpoint"
            ) from error

    def _load_best_model(self) -> None:
        # The base class logs a failure and goes on with the last model as if it were the best.
        self._load_from_checkpoint(str(self.state.best_model_checkpoint))


class EpochSeededSampler(DefaultBatchSampler):
    """Shuffles batches by the seed and the number of the epoch alone, so that a resumed run has the same batches.

    The default sampler depends on the state of its generator, which a resumed run does not have. The sampler that
    accelerate puts in its place is not told of the epoch in which several processes resume.
    """

    def __iter__(self) -> Iterator[list[int]]:
        generator = torch.Generator().manual_seed((self.seed or 0) + self.epoch)
        order = torch.randperm(len(self.sampler), generator=generator).tolist()  # type: ignore[arg-type]
        for start in range(0, len(self) * self.batch_size, self.batch_size):
            yield order[start : start + self.batch_size]


class _TellEpoch(TrainerCallback):
    """Tells the samplers the epoch, because accelerate's wrappers hide them from the trainer in a resumed epoch."""

    def __init__(self, samplers: list[EpochSeededSampler]) -> None:
        self.samplers = samplers

    def on_epoch_begin(self, args: Any, state: TrainerState, control: Any, **kwargs: Any) -> None:
        for sampler in self.samplers:
            # `state.epoch` is 0.0 before the first step, and 1.4 where the second epoch was interrupted.
            sampler.set_epoch(int(state.epoch or 0))


class _SafeTrainer(ResumableTrainer, BaseTrainer):
    """Adds to both trainers what the head of this file lists."""

    def __init__(self, model: Any = None, args: Any = None, **kwargs: Any) -> None:
        self._samplers: list[EpochSeededSampler] = []
        if args is not None and args.ddp_static_graph is None and args.ddp_find_unused_parameters is None:
            # Queries and documents use different weights, in two forward passes of one step. By default
            # DistributedDataParallel takes weights that the second pass does not use for unused, and fails. With cached
            # gradients a step has many backward passes, each through one side, so it has to look what each one used.
            cached = uses_gradient_cache(kwargs.get("loss"))
            args.ddp_static_graph, args.ddp_find_unused_parameters = not cached, cached
        super().__init__(model, args, **kwargs)
        self.add_callback(_TellEpoch(self._samplers))

    def train(self, *args: Any, **kwargs: Any) -> TrainOutput:
        try:
            return super().train(*args, **kwargs)
        finally:
            take_off_what_accelerate_left(self.model)

    def get_batch_sampler(self, dataset: Dataset, **arguments: Any) -> Any:  # type: ignore[override]
        if self.args.batch_sampler != BatchSamplers.BATCH_SAMPLER:
            return super().get_batch_sampler(dataset, **arguments)
        self._samplers.append(EpochSeededSampler(dataset, **arguments))
        return self._samplers[-1]

    def add_model_card_callback(self, default_args_dict: dict[str, Any]) -> None:
        """Adds no callback: the base class's gathers statistics for its own card, and these models write another."""

    def evaluate(self, *args: Any, **kwargs: Any) -> dict[str, float]:
        try:
            return super().evaluate(*args, **kwargs)
        except TrainingError:
            raise
        except PolyencodersError as error:
            # The evaluator worked before training, so the scores are no longer numbers.
            raise self.diverged(f"validation failed ({error})") from error

    def check_weights(self) -> None:
        """Raises a `TrainingError` where the last step, which no loss follows, left weights that are not numbers."""
        if not all(torch.isfinite(weights).all() for weights in self.model.parameters()):
            raise self.diverged("the model's weights became infinite, or not a number,")

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        super().save_model(output_dir, _internal_call)
        # Other processes then add their generators' states to the checkpoint.
        self.accelerator.wait_for_everyone()

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        # Every process calls this. The base class would also pickle the arguments.
        if self.args.should_save:
            self.model.save_pretrained(str(output_dir or self.args.output_dir))


def take_off_what_accelerate_left(model: nn.Module) -> None:
    """Takes accelerate's autocast off `forward`, with the mark that would keep it away from a second training."""
    for name in ("forward", "_original_forward", "_is_accelerate_prepared"):
        model.__dict__.pop(name, None)


class DualEncoderTrainer(_SafeTrainer, SentenceTransformerTrainer):
    """The trainer of `BiEncoder` and `PolyEncoder`; a `SentenceTransformerTrainer`.

    The first column of the table is the query, all others are documents. The default loss is `InBatchCrossEntropy`.
    """

    def get_data_collator(self, model: Any, args: Any, processing_class: Any = None) -> DualEncoderCollator:
        return DualEncoderCollator(preprocess_fn=partial(_preprocess, model), prompts=args.prompts)

    mined: MinedNegatives | None = None  # Added to each batch

    def __init__(self, model: Any = None, args: Any = None, **kwargs: Any) -> None:
        super().__init__(model, args, **kwargs)
        if isinstance(self.data_collator, DualEncoderCollator) and getattr(self.loss, "packs_negatives", False):
            self.data_collator.packs_negatives = True

    def get_default_loss(self, model: Any) -> nn.Module:
        return InBatchCrossEntropy(model)

    def prepare_loss(self, loss: Any, model: Any) -> nn.Module:
        theirs = type(loss).__module__.startswith("sentence_transformers.")
        own = (model.similarity, model.similarity_pairwise)
        if isinstance(model, PolyEncoder) and theirs and getattr(loss, "similarity_fct", None) not in own:
            raise TrainingError(
                f"{type(loss).__name__} compares one vector with one vector, and a query of a PolyEncoder is several: "
                "leave the loss out, or give it similarity_fct=model.similarity (model.similarity_pairwise where it "
                "compares pairs, as CoSENTLoss does) and scale=model.score_scale"
            )
        return super().prepare_loss(loss, model)

    def collect_features(self, inputs: dict[str, Any]) -> tuple[list[dict[str, Any]], Tensor | None]:
        columns = [key.removesuffix("task") for key in inputs if key.endswith("_task")]
        features = [
            {key.removeprefix(column): value for key, value in inputs.items() if key.startswith(column)}
            for column in columns
        ]
        if self.args.world_size > 1 and getattr(self.data_collator, "packs_negatives", False):
            features += self._columns_that_others_have(features)
        if self.mined is not None:
            for texts in self.mined.columns(features[0]["text_id"], features[1]["text_id"]):
                features.append(self._column(self.mined.miner.model, texts))
        return features, inputs.get("label")

    def _column(self, model: DualEncoder, texts: Sequence[str]) -> dict[str, Any]:
        column = batch_to_device(_preprocess(model, texts, None, "document"), self.args.device)
        return {**column, "text_id": torch.tensor([text_id(text) for text in texts], device=self.args.device)}

    def _columns_that_others_have(self, features: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Returns columns of empty texts, as many as the processes' parts of a batch have more than this one's.

        Each process packs its own negatives, and all of them encode, and gather, as many columns.
        """
        most = int(all_gather(torch.tensor([len(features)], device=self.args.device)).max())
        empty = [""] * len(features[0]["text_id"])
        return [self._column(self.accelerator.unwrap_model(self.model), empty) for _ in range(most - len(features))]


def _preprocess(model: DualEncoder, texts: Sequence[Query], prompt: str | None, task: Side) -> dict[str, Any]:
    """Tokenises texts with the prompt given, or else the one of `encode_query` and `encode_document`."""
    return model.preprocess(texts, prompt=model.prompts.get(task) if prompt is None else prompt, task=task)


class JointEncoderTrainer(_SafeTrainer, CrossEncoderTrainer):
    """The trainer of models that read pairs; a `CrossEncoderTrainer`. Pass it a `SampledCrossEntropy`."""
