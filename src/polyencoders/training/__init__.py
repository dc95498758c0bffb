"""Losses, freezing, trainers and the training run."""

from polyencoders.training.distill import distill
from polyencoders.training.distillation_loss import DistillationLoss
from polyencoders.training.freezing import freeze
from polyencoders.training.in_batch import InBatchCrossEntropy
from polyencoders.training.mining import mine_hard_negatives
from polyencoders.training.options import Distillation, HardNegatives, TrainingOptions
from polyencoders.training.pretraining import PretrainingOptions, PretrainingResult, pretrain
from polyencoders.training.result import TrainingResult
from polyencoders.training.sampled import SampledCrossEntropy
from polyencoders.training.teacher import Teacher
from polyencoders.training.train import train
from polyencoders.training.trainer import DualEncoderTrainer, JointEncoderTrainer

__all__ = [
    "Distillation",
    "DistillationLoss",
    "DualEncoderTrainer",
    "HardNegatives",
    "InBatchCrossEntropy",
    "JointEncoderTrainer",
    "PretrainingOptions",
    "PretrainingResult",
    "SampledCrossEntropy",
    "Teacher",
    "TrainingOptions",
    "TrainingResult",
    "distill",
    "freeze",
    "mine_hard_negatives",
    "pretrain",
    "train",
]
