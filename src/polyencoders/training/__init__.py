"""Losses, freezing, trainers and the training run."""

from polyencoders.training.contrastive import pretrain_contrastive
from polyencoders.training.distill import Comparison, compare_with_teacher, distill
from polyencoders.training.folds import train_in_folds
from polyencoders.training.frozen import freeze
from polyencoders.training.losses import DistillationLoss, InBatchCrossEntropy, SampledCrossEntropy
from polyencoders.training.negatives import mine_hard_negatives
from polyencoders.training.options import Distillation, HardNegatives, TrainingOptions
from polyencoders.training.pretraining import PretrainingOptions, PretrainingResult, pretrain
from polyencoders.training.run import TrainingResult, train
from polyencoders.training.teacher import Teacher
from polyencoders.training.trainer import DualEncoderTrainer, JointEncoderTrainer

__all__ = [
    "Comparison",
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
    "compare_with_teacher",
    "distill",
    "freeze",
    "mine_hard_negatives",
    "pretrain",
    "pretrain_contrastive",
    "train",
    "train_in_folds",
]
