"""Training: the policy, velocity errors, the one loop, its checkpoints and streams."""

from reelign.training.adapters import load_adapter
from reelign.training.errors import Draw, base_distance, make_draw, velocity_errors
from reelign.training.interfaces import Monitor, Stateful, Step
from reelign.training.lora import LoRA
from reelign.training.monitors import HeldOutPairs, MonitorSettings
from reelign.training.policy import Policy
from reelign.training.ranks import ALONE, Ranks
from reelign.training.settings import TrainerSettings
from reelign.training.streams import PairBatch, SharedLatents, ShuffledStream, Stream, VideoBatch
from reelign.training.trainer import Trainer

__all__ = [
    "ALONE",
    "Draw",
    "HeldOutPairs",
    "LoRA",
    "Monitor",
    "MonitorSettings",
    "PairBatch",
    "Policy",
    "Ranks",
    "SharedLatents",
    "ShuffledStream",
    "Stateful",
    "Step",
    "Stream",
    "Trainer",
    "TrainerSettings",
    "VideoBatch",
    "base_distance",
    "load_adapter",
    "make_draw",
    "velocity_errors",
]
