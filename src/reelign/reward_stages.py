"""The stages of making and measuring rewards, as Python calls: `train_reward("workspace", epochs=3)`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from reelign.config import Layer, resolve
from reelign.costs import measured
from reelign.errors import ReelignError
from reelign.opening import check_run_name, settings_of
from reelign.recipes.reward.data import csv_reward_data, workspace_reward_data
from reelign.recipes.reward.settings import RewardSettings
from reelign.recipes.reward.training import TrainedReward
from reelign.recipes.reward.training import train_reward as train
from reelign.records import Workspace
from reelign.training.launch import start_ranks


def train_reward(
    workspace: str | Path | None = None,
    *,
    data: str | Path | None = None,
    out: str | Path | None = None,
    layers: list[Layer] | None = None,
    **settings: Any,
) -> TrainedReward:
    """Train a reward on a workspace's judgements, or on a CSV in VideoReward's layout.

    Args:
        workspace: its folder; takes the run, `runs/<run>`. None takes `data` and `out`.
        data: the CSV, in place of the workspace's judgements; its videos are relative to its folder.
        out: the run's folder where there is no workspace.
        settings: over the workspace's section `reward`.
    Raises:
        ReelignError: neither or both places are named, nothing to train on, or several processes were launched.
    """
    if start_ranks().count > 1:
        raise ReelignError(
            "A reward is trained by one process, and several were launched.",
            "Start it without torchrun or accelerate launch.",
        )
    if workspace is None:
        if data is None or out is None:
            raise ReelignError(
                "There is neither a workspace nor a file of pairs with a folder for what is trained.",
                "Give -w WORKSPACE, or --data pairs.csv --out FOLDER.",
            )
        wanted: RewardSettings = resolve(RewardSettings, [*(layers or []), ("the call", settings)])
        return train(csv_reward_data(Path(data), wanted.dimensions), wanted, Path(out))
    if out is not None:
        raise ReelignError("A workspace keeps its runs itself, and --out was given.", "Leave out --out; name run=NAME.")
    opened = Workspace.open(workspace)
    wanted = settings_of(opened, "reward", layers, settings)
    check_run_name(wanted.run)
    with measured(opened.root, "reward train", wanted.run):
        dimensions = wanted.dimensions
        if data is None:
            pairs = workspace_reward_data(opened, dimensions, wanted.split or None)
        else:
            pairs = csv_reward_data(Path(data), dimensions)
        return train(pairs, wanted, opened.root / "runs" / wanted.run)
