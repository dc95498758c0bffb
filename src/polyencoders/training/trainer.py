"""sentence-transformers' trainers, made safe for our models.

What its users know (arguments, callbacks, loggers, `accelerate launch`) works. Added: columns know their side, epochs
are shuffled so that a resumed run sees the batches an uninterrupted one would, a loss that is not a number stops the
run, the best checkpoint is loaded or the run fails, and nothing of a model is pickled.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from datasets import Dataset
from sentence_transformers import CrossEncoderTrainer, SentenceTransformerTrainer
from sentence_transformers.base.sampler import DefaultBatchSampler
from sentence_transformers.base.trainer import BaseTrainer
from torch import Tensor, nn
from torch.utils.data import RandomSampler

from polyencoders.errors import TrainingError
from polyencoders.training.collator import DualEncoderCollator
from polyencoders.training.in_batch import InBatchCrossEntropy


class EpochSeededSampler(DefaultBatchSampler):
    """Batches shuffled by the seed and the number of the epoch, and by nothing that came before.

    The default sampler goes on from the state its generator is in, which a resumed run does not have.
    """

    def __init__(self, dataset: Dataset, *, generator: torch.Generator, **arguments: Any) -> None:
        super().__init__(RandomSampler(dataset, generator=generator), generator=generator, **arguments)

    def __iter__(self) -> Iterator[list[int]]:
        self.generator.manual_seed((self.seed or 0) + self.epoch)
        yield from super().__iter__()


class _SafeTrainer(BaseTrainer):
    """What both trainers add; see the head of this file."""

    def get_batch_sampler(self, dataset: Dataset, **arguments: Any) -> Any:  # type: ignore[override]
        return EpochSeededSampler(dataset, **arguments)

    def add_model_card_callback(self, default_args_dict: dict[str, Any]) -> None:
        """No callback: it gathers statistics of the data for the base class's card, and our models write their own."""

    def compute_loss(self, model: nn.Module, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        loss = super().compute_loss(model, inputs, *args, **kwargs)
        if isinstance(loss, Tensor) and model.training and not torch.isfinite(loss):
            raise TrainingError(
                f"the loss became {loss.item()} after {self.state.global_step} steps; a lower learning rate "
                f"(it is {self.args.learning_rate:g}) is the first thing to try. Nothing was saved of this step"
            )
        return loss

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        # The base class also pickles the arguments, which nothing here reads.
        self.model.save_pretrained(output_dir or self.args.output_dir)

    def _load_best_model(self) -> None:
        # The base class logs a failure and goes on with the last model as if it were the best.
        self._load_from_checkpoint(self.state.best_model_checkpoint)


class DualEncoderTrainer(_SafeTrainer, SentenceTransformerTrainer):
    """The trainer of `BiEncoder` and `PolyEncoder`; a `SentenceTransformerTrainer`.

    The first column of the table is the query, all others are documents. The default loss is `InBatchCrossEntropy`.
    """

    def get_data_collator(self, model: Any, args: Any, processing_class: Any = None) -> DualEncoderCollator:
        return DualEncoderCollator(preprocess_fn=model.preprocess, prompts=args.prompts)

    def get_default_loss(self, model: Any) -> nn.Module:
        return InBatchCrossEntropy(model)

    def collect_features(self, inputs: dict[str, Any]) -> tuple[list[dict[str, Any]], Tensor | None]:
        columns = [key.removesuffix("task") for key in inputs if key.endswith("_task")]
        features = [
            {key.removeprefix(column): value for key, value in inputs.items() if key.startswith(column)}
            for column in columns
        ]
        return features, inputs.get("label")


class JointEncoderTrainer(_SafeTrainer, CrossEncoderTrainer):
    """The trainer of `CrossEncoder` and `ArcII`; a `CrossEncoderTrainer`. Pass it a `SampledCrossEntropy`."""
