"""sentence-transformers' trainers, made safe for our models.

What its users know (arguments, callbacks, loggers, `accelerate launch`) works. Added: columns know their side, a
resumed run sees the batches an uninterrupted one would and stops where it would, a loss that is not a number stops the
run, the best checkpoint is loaded or the run fails, nothing of a model is pickled, and a trained model is as any other.
"""

from __future__ import annotations

import json
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
from sentence_transformers.util import batch_to_device
from torch import Tensor, nn
from transformers import TrainerCallback, TrainerState
from transformers.trainer_utils import TrainOutput

from polyencoders.encoders.queries import Query
from polyencoders.errors import PolyencodersError, TrainingError
from polyencoders.models.dual import DualEncoder, Task
from polyencoders.training.collator import DualEncoderCollator, text_id
from polyencoders.training.in_batch import InBatchCrossEntropy
from polyencoders.training.mining import Miner
from polyencoders.training.refreshing import MinedNegatives


class EpochSeededSampler(DefaultBatchSampler):
    """Batches shuffled by the seed and the number of the epoch, and by nothing that came before.

    The default sampler goes on from the state its generator is in, which a resumed run does not have; and where
    accelerate puts another in its place, that one is not told of the epoch in which a run on several processes resumes.
    """

    def __iter__(self) -> Iterator[list[int]]:
        generator = torch.Generator().manual_seed((self.seed or 0) + self.epoch)
        order = torch.randperm(len(self.sampler), generator=generator).tolist()  # type: ignore[arg-type]
        for start in range(0, len(self) * self.batch_size, self.batch_size):
            yield order[start : start + self.batch_size]


class _TellEpoch(TrainerCallback):
    """Tells the samplers which epoch it is: accelerate's wrappers hide them from the trainer in a resumed epoch."""

    def __init__(self, samplers: list[EpochSeededSampler]) -> None:
        self.samplers = samplers

    def on_epoch_begin(self, args: Any, state: TrainerState, control: Any, **kwargs: Any) -> None:
        for sampler in self.samplers:
            # The whole epochs behind: 0.0 before the first step, 1.4 where the second was interrupted.
            sampler.set_epoch(int(state.epoch or 0))


class _SafeTrainer(BaseTrainer):
    """What both trainers add; see the head of this file."""

    def __init__(self, model: Any = None, args: Any = None, **kwargs: Any) -> None:
        self._samplers: list[EpochSeededSampler] = []
        if args is not None and args.ddp_static_graph is None and args.ddp_find_unused_parameters is None:
            # A query goes through other weights than a document, in two forward passes of one step. Left to itself,
            # DistributedDataParallel takes what the second pass does not use for unused, and fails. With gradients
            # cached a step has many backward passes, each through one side, and it must look what each has used.
            cached = uses_gradient_cache(kwargs.get("loss"))
            args.ddp_static_graph, args.ddp_find_unused_parameters = not cached, cached
        super().__init__(model, args, **kwargs)
        self.add_callback(_TellEpoch(self._samplers))

    def train(self, resume_from_checkpoint: str | bool | None = None, *args: Any, **kwargs: Any) -> TrainOutput:
        if isinstance(resume_from_checkpoint, str) and (state := finished_state(Path(resume_from_checkpoint))):
            # The base class would go on for a step beyond the end.
            self.state = state
            best = Path(resume_from_checkpoint).parent / f"checkpoint-{state.best_global_step}"
            whole = best if self.args.load_best_model_at_end and best.is_dir() else resume_from_checkpoint
            self._load_from_checkpoint(str(whole))
            return TrainOutput(state.global_step, 0.0, {})
        try:
            return super().train(resume_from_checkpoint, *args, **kwargs)
        finally:
            take_off_what_accelerate_left(self.model)

    def get_batch_sampler(self, dataset: Dataset, **arguments: Any) -> Any:  # type: ignore[override]
        if self.args.batch_sampler != BatchSamplers.BATCH_SAMPLER:
            return super().get_batch_sampler(dataset, **arguments)
        self._samplers.append(EpochSeededSampler(dataset, **arguments))
        return self._samplers[-1]

    def add_model_card_callback(self, default_args_dict: dict[str, Any]) -> None:
        """No callback: it gathers statistics of the data for the base class's card, and our models write their own."""

    def compute_loss(self, model: Any, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        loss = super().compute_loss(model, inputs, *args, **kwargs)
        if isinstance(loss, Tensor) and model.training and not torch.isfinite(loss):
            raise self._diverged(f"the loss became {loss.item()}")
        return loss

    def evaluate(self, *args: Any, **kwargs: Any) -> dict[str, float]:
        try:
            return super().evaluate(*args, **kwargs)
        except TrainingError:
            raise
        except PolyencodersError as error:
            # The evaluator could rank before training: by now it is given scores that are not numbers.
            raise self._diverged(f"validation failed ({error})") from error

    def check_weights(self) -> None:
        """Raise a `TrainingError` if the last step left weights that are no numbers, which no later loss would tell."""
        if not all(torch.isfinite(weights).all() for weights in self.model.parameters()):
            raise self._diverged("the model's weights became infinite, or not a number,")

    def _diverged(self, what: str) -> TrainingError:
        return TrainingError(
            f"{what} after {self.state.global_step} steps; a lower learning rate (it is {self.args.learning_rate:g}) "
            "is the first thing to try. Nothing was saved of this step"
        )

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        super().save_model(output_dir, _internal_call)
        # Other processes add their generators' states to the checkpoint, which must be in its place by then.
        self.accelerator.wait_for_everyone()

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        # Every process comes here. The base class also pickles the arguments, which nothing here reads.
        if self.args.should_save:
            self.model.save_pretrained(str(output_dir or self.args.output_dir))

    def _load_best_model(self) -> None:
        # The base class logs a failure and goes on with the last model as if it were the best.
        self._load_from_checkpoint(str(self.state.best_model_checkpoint))


def take_off_what_accelerate_left(model: nn.Module) -> None:
    """A model that has been trained encodes as it will when it is loaded again, and is trained again as it was.

    Without this, accelerate's autocast stays around `forward`, and for its mark a second training gets none.
    """
    for name in ("forward", "_original_forward", "_is_accelerate_prepared"):
        model.__dict__.pop(name, None)


def last_checkpoint(folder: Path) -> Path | None:
    """The newest whole checkpoint in a folder: the trainer writes its state last, so one without it was cut short."""
    whole = [path.parent for path in folder.glob("checkpoint-*/trainer_state.json") if _state(path) is not None]
    return max(whole, key=lambda path: int(path.name.removeprefix("checkpoint-")), default=None)


def finished_state(checkpoint: Path) -> TrainerState | None:
    """The state of a run that had ended when this checkpoint of it was made, or None: it has steps to go."""
    state = _state(checkpoint / "trainer_state.json")
    if state is None:
        return None
    stopped = state["stateful_callbacks"]["TrainerControl"]["args"]["should_training_stop"]
    return TrainerState(**state) if stopped or state["global_step"] >= state["max_steps"] else None


def _state(path: Path) -> dict[str, Any] | None:
    try:
        state: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return state


class DualEncoderTrainer(_SafeTrainer, SentenceTransformerTrainer):
    """The trainer of `BiEncoder` and `PolyEncoder`; a `SentenceTransformerTrainer`.

    The first column of the table is the query, all others are documents. The default loss is `InBatchCrossEntropy`.
    """

    def get_data_collator(self, model: Any, args: Any, processing_class: Any = None) -> DualEncoderCollator:
        return DualEncoderCollator(preprocess_fn=partial(_preprocess, model), prompts=args.prompts)

    mined: MinedNegatives | None = None

    def use_mined(self, miner: Miner, folder: Path) -> None:
        """Put negatives that are mined every so many steps beside each batch's own documents; keep them in a folder."""
        self.mined = MinedNegatives(miner, folder)
        self.add_callback(self.mined)

    def get_default_loss(self, model: Any) -> nn.Module:
        return InBatchCrossEntropy(model)

    def collect_features(self, inputs: dict[str, Any]) -> tuple[list[dict[str, Any]], Tensor | None]:
        columns = [key.removesuffix("task") for key in inputs if key.endswith("_task")]
        features = [
            {key.removeprefix(column): value for key, value in inputs.items() if key.startswith(column)}
            for column in columns
        ]
        if self.mined is not None:
            for texts in self.mined.columns(features[0]["text_id"], features[1]["text_id"]):
                column = batch_to_device(_preprocess(self.mined.miner.model, texts, None, "document"), self.args.device)
                ids = torch.tensor([text_id(text) for text in texts], device=self.args.device)
                features.append({**column, "text_id": ids})
        return features, inputs.get("label")


def _preprocess(model: DualEncoder, texts: Sequence[Query], prompt: str | None, task: Task) -> dict[str, Any]:
    """With the prompt that `encode_query` and `encode_document` would put before a text, unless another is given."""
    return model.preprocess(texts, prompt=model.prompts.get(task) if prompt is None else prompt, task=task)


class JointEncoderTrainer(_SafeTrainer, CrossEncoderTrainer):
    """The trainer of models that read pairs; a `CrossEncoderTrainer`. Pass it a `SampledCrossEntropy`."""
