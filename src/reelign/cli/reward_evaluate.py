"""`reelign reward evaluate`."""

from __future__ import annotations

import re
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from reelign.cli.options import FormatOption, Settings, layers
from reelign.errors import ReelignError

if TYPE_CHECKING:
    from reelign.evaluation import FeedbackReport

NAMED = 10
"""Videos without scores told one by one; the others are counted."""


def evaluate(
    reward: Annotated[str, typer.Argument(help="A reward's name, package.module:object, or http(s) URL.")],
    settings: Settings = None,
    data: Annotated[
        Path | None, typer.Option(help="A file of judged pairs, such as videogen-rewardbench.csv or GenAI-Bench.")
    ] = None,
    workspace: Annotated[
        Path | None, typer.Option("--workspace", "-w", help="A workspace, for its own judgements.")
    ] = None,
    format: FormatOption = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder for scores and results; by default feedback/REWARD, in the workspace.")
    ] = None,
) -> None:
    """Measure how well a reward agrees with people: accuracy with and without ties, MRR, correlation, bias.

    Example: `reelign reward evaluate videoreward --data videogen-rewardbench.csv measure.calibration=0.1`
    """
    if (data is None) == (workspace is None):
        raise ReelignError(
            "What people said must come from a file or from a workspace.", "Give either --data FILE or -w WORKSPACE."
        )
    from reelign.config import resolve
    from reelign.costs import measured
    from reelign.evaluation import FeedbackSettings, evaluate_feedback, file_feedback, workspace_feedback
    from reelign.records import Workspace
    from reelign.rewards.judging import opened as opened_as
    from reelign.rewards.opening import check_reward

    wanted = resolve(FeedbackSettings, layers(settings))
    check_reward(reward, **wanted.reward.options)
    opened = None if workspace is None else Workspace.open(workspace)
    with nullcontext() if opened is None else measured(opened.root, "reward evaluate"):
        if opened is not None:
            said = workspace_feedback(opened, split=wanted.split, judges=wanted.judges, skip_broken=wanted.skip_broken)
        else:
            assert data is not None
            said = file_feedback(data, format, skip_broken=wanted.skip_broken)
        scorer = opened_as(reward, wanted.reward)
        folder = out or (opened.root if opened else Path(".")) / "feedback" / re.sub(r"[^\w.+-]+", "-", scorer.name)
        report = evaluate_feedback(said, scorer, folder, wanted)
    _print(report, folder)


def _print(report: FeedbackReport, folder: Path) -> None:
    print(f"{report.reward} (version {report.version}) against {report.source}")
    print(f"read as {report.format}, {report.videos} videos")
    for reason, count in report.left_out.items():
        print(f"left out: {count} x {reason}")
    if report.unmatched:
        print(f"nothing of the reward answers for {', '.join(report.unmatched)}")
    if report.failed:
        print(f"{len(report.failed)} videos without all scores, left out where they lack one:")
    for each in report.failed[:NAMED]:
        print(f"  {each['video']}: {each['reason']}")
    if len(report.failed) > NAMED:
        print(f"  and {len(report.failed) - NAMED} more, named in feedback.json")
    for table in report.tables:
        print(f"\n{table.text()}")
    print(f"\nwritten to {folder}: feedback.json, feedback.md" + (", feedback.png" if report.measured.accuracy else ""))
