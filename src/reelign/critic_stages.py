"""The stages of training and measuring critics, as Python calls: `train_critic("workspace", epochs=3)`."""

from __future__ import annotations

import re
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from reelign.config import Layer, resolve
from reelign.costs import measured
from reelign.critics.opening import check_critic, open_critic
from reelign.errors import ReelignError
from reelign.evaluation.critic_evaluation import CriticEvaluateSettings, CriticReport, evaluate_critic
from reelign.evaluation.feedback_data import file_feedback
from reelign.evaluation.feedback_workspace import workspace_feedback
from reelign.opening import check_run_name, settings_of
from reelign.recipes.critic.data import workspace_critic_data
from reelign.recipes.critic.settings import CriticSettings
from reelign.recipes.critic.training import TrainedCritic
from reelign.recipes.critic.training import train_critic as train
from reelign.records import Workspace
from reelign.training.launch import start_ranks


def train_critic(workspace: str | Path, *, layers: list[Layer] | None = None, **settings: Any) -> TrainedCritic:
    """Train a critic on a workspace's judgements and their reasons.

    Args:
        workspace: its folder; takes the run, `runs/<run>`.
        settings: over the workspace's section `critic`.
    Raises:
        ReelignError: nothing to train on, or several processes were launched.
    """
    if start_ranks().count > 1:
        raise ReelignError(
            "A critic is trained by one process, and several were launched.",
            "Start it without torchrun or accelerate launch.",
        )
    opened = Workspace.open(workspace)
    wanted: CriticSettings = settings_of(opened, "critic", layers, settings)
    check_run_name(wanted.run)
    with measured(opened.root, "critic train", wanted.run):
        data = workspace_critic_data(
            opened,
            wanted.dimensions,
            split=wanted.split or None,
            judges=wanted.judges,
            reasons_required=wanted.reasons == "required",
        )
        return train(data, wanted, opened.root / "runs" / wanted.run)


def measure_critic(
    critic: str,
    /,
    *,
    data: str | Path | None = None,
    workspace: str | Path | None = None,
    format: str | None = None,
    out: str | Path | None = None,
    layers: list[Layer] | None = None,
    **settings: Any,
) -> tuple[CriticReport, Path]:
    """Ask a critic about videos that people judged, and measure how far it agrees with them.

    Args:
        critic: as `critics.open_critic` takes it.
        data: a file of judged pairs, or
        workspace: for its own judgements.
        format: the layout of the file where it is not to be recognised.
        out: folder of answers and results; by default feedback/CRITIC, in the workspace.
        settings: of `CriticEvaluateSettings`, its `critic` among them.
    Returns:
        What was measured, and the folder.
    Raises:
        ReelignError: neither or both sources, nothing that anybody said, or as `evaluate_critic`.
    """
    if (data is None) == (workspace is None):
        raise ReelignError(
            "What people said must come from a file or from a workspace.", "Give either --data FILE or -w WORKSPACE."
        )
    wanted = resolve(CriticEvaluateSettings, [*(layers or []), ("the call", settings)])
    check_critic(critic, **wanted.critic)
    opened = None if workspace is None else Workspace.open(workspace)
    with nullcontext() if opened is None else measured(opened.root, "critic evaluate"):
        if opened is not None:
            said = workspace_feedback(opened, split=wanted.split, judges=wanted.judges, skip_broken=wanted.skip_broken)
        else:
            assert data is not None
            said = file_feedback(data, format, skip_broken=wanted.skip_broken)
        asked = open_critic(critic, **wanted.critic)
        base = opened.root if opened else Path(".")
        folder = Path(out) if out else base / "feedback" / re.sub(r"[^\w.+-]+", "-", f"critic-{asked.name}")
        return evaluate_critic(said, asked, folder, wanted), folder
