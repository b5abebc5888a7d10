"""Training: the policy, velocity errors, the one loop, its checkpoints and streams."""

from reelign.training.errors import Draw, make_draw, velocity_errors
from reelign.training.monitors import HeldOutPairs, MonitorSettings
from reelign.training.policy import LoRA, Policy, load_adapter
from reelign.training.streams import PairBatch, ShuffledStream, Stream, VideoBatch
from reelign.training.trainer import Monitor, Stateful, Step, Trainer, TrainerSettings

__all__ = [
    "Draw",
    "HeldOutPairs",
    "LoRA",
    "Monitor",
    "MonitorSettings",
    "PairBatch",
    "Policy",
    "ShuffledStream",
    "Stateful",
    "Step",
    "Stream",
    "Trainer",
    "TrainerSettings",
    "VideoBatch",
    "load_adapter",
    "make_draw",
    "velocity_errors",
]
