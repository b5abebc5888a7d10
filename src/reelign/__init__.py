"""reelign: from opinions of generated videos to a better video generator.

The stages of the loop are functions by the names of the commands: `reelign.init`, `generate`, `judge`, `pairs`,
`align`, `evaluate`, `report`, `sample`; `train_reward` is `reelign reward train`. They are imported when first asked
for.
"""

from __future__ import annotations

import importlib
from typing import Any

__version__ = "0.1.0"

_STAGES = {
    **dict.fromkeys(
        ("init", "generate", "judge", "pairs", "align", "evaluate", "sample", "export_pairs"), "reelign.stages"
    ),
    "train_reward": "reelign.reward_stages",
    "iterate": "reelign.iterating",
    "prompts": "reelign.prompting",
    "report": "reelign.reporting",
    **dict.fromkeys(("export_adapter", "push"), "reelign.publishing"),
}

__all__ = ["__version__", "align", "evaluate", "export_adapter", "export_pairs", "generate", "init", "judge"]
__all__ += ["iterate", "pairs", "prompts", "push", "report", "sample", "train_reward"]


def __getattr__(name: str) -> Any:
    if name not in _STAGES:
        raise AttributeError(f"module 'reelign' has no attribute {name!r}")
    return getattr(importlib.import_module(_STAGES[name]), name)
