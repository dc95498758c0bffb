"""Losses, freezing, trainers and the training run. Knows models, evaluation and data.

`train` is one run from examples to a saved model, `train_listwise` one to a listwise head; `DualEncoderTrainer` and
`JointEncoderTrainer` are there for those who want the trainer itself.
"""

from polyencoders.training.freezing import freeze
from polyencoders.training.in_batch import InBatchCrossEntropy
from polyencoders.training.listwise import ListwiseOptions, ListwiseResult, train_listwise
from polyencoders.training.options import TrainingOptions
from polyencoders.training.sampled import SampledCrossEntropy
from polyencoders.training.train import TrainingResult, train
from polyencoders.training.trainer import DualEncoderTrainer, JointEncoderTrainer

__all__ = [
    "DualEncoderTrainer",
    "InBatchCrossEntropy",
    "JointEncoderTrainer",
    "ListwiseOptions",
    "ListwiseResult",
    "SampledCrossEntropy",
    "TrainingOptions",
    "TrainingResult",
    "freeze",
    "train",
    "train_listwise",
]
