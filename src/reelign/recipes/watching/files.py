"""What a watch leaves in a run's folder: its looks, and adapter and weights of the best of them."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from reelign.errors import ReelignError
from reelign.files import whole as whole_file
from reelign.records import content_key
from reelign.training.looks import Look, read_look, write_look
from reelign.training.policy import Policy
from reelign.training.ranks import bits
from reelign.training.sharding import whole

FOLDER = "watch"
"""Of the run: a file a look, and the weights of the best ones."""
WEIGHTS = "weights.safetensors"
KEPT = 4
"""Best looks whose weights are kept, the newest; a run that goes on from an older checkpoint finds the last ones."""


class WatchFiles:
    """`base.json`, `step-N.json` and `best-N/`.

    Args:
        run: the run's folder.
        setup: changes with anything that two looks must share to be compared.
    """

    def __init__(self, run: Path, setup: str) -> None:
        self.folder = run / FOLDER
        self.setup = setup

    @property
    def base(self) -> Path:
        return self.folder / "base.json"

    def look(self, step: int) -> Path:
        return self.folder / f"step-{step:06d}.json"

    def best(self, step: int) -> Path:
        """The folder of a best look, as `load_adapter` takes it."""
        return self.folder / f"best-{step:06d}"

    def write(self, path: Path, look: Look, **further: Any) -> None:
        write_look(path, look, setup=self.setup, **further)

    def same(self, step: int, weights: str) -> Look | None:
        """The kept look of a step, where it was of the same weights, prompts and rewards."""
        if not self.look(step).exists():
            return None
        look, kept = read_look(self.look(step))
        return look if (kept.get("weights"), kept.get("setup")) == (weights, self.setup) else None

    def kept(self, path: Path) -> Look:
        """A look that this run must have made.

        Raises:
            ReelignError: it is gone, or was made with other prompts or rewards.
        """
        look, kept = read_look(path)
        if kept.get("setup") != self.setup:
            raise ReelignError(
                f"The look {path} was made of other prompts, sizes or rewards than the watch now has.",
                "Go on with the settings under watch that the run began with, or name it anew: run=NAME.",
            )
        return look

    def keep_weights(self, policy: Policy, step: int) -> None:
        """Of a best look, by all ranks together; those of the oldest make room."""
        folder = self.best(step)
        with policy.using("average"):
            weights = whole(policy.state_dict())
            policy.save(folder)
        if not policy.ranks.main:
            return
        with whole_file(folder / WEIGHTS) as beside:
            save_file({name: each.cpu().contiguous() for name, each in weights.items()}, beside)
        others = sorted(path for path in self.folder.glob("best-*") if path != folder)
        for old in others[: max(0, len(others) + 1 - KEPT)]:
            shutil.rmtree(old)

    def restore(self, policy: Policy, step: int) -> None:
        """Put the weights of a best look into the policy.

        Raises:
            ReelignError: they are gone.
        """
        path = self.best(step) / WEIGHTS
        if not path.exists():
            raise ReelignError(
                f"The weights of the best look are gone: {path}.", "Begin the run anew under another name, run=NAME."
            )
        policy.load_state_dict(load_file(path))


def fingerprint(policy: Policy) -> str:
    """Changes with the weights that are looked at; the same on all ranks."""
    with policy.using("average"):
        weights: dict[str, Tensor] = whole(policy.state_dict())
    sums = torch.stack([bits(each) for each in weights.values()])
    return content_key(list(weights), sums.tolist())
