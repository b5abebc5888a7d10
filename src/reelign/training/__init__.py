"""Training: the policy, velocity errors, the one loop, its checkpoints and streams."""

from reelign.training.errors import Draw, make_draw, velocity_errors
from reelign.training.policy import LoRA, Policy, load_adapter
from reelign.training.streams import PairBatch, ShuffledStream, Stream, VideoBatch
from reelign.training.trainer import Step, Trainer, TrainerSettings

__all__ = [
    "Draw",
    "LoRA",
    "PairBatch",
    "Policy",
    "ShuffledStream",
    "Step",
    "Stream",
    "Trainer",
    "TrainerSettings",
    "VideoBatch",
    "load_adapter",
    "make_draw",
    "velocity_errors",
]
