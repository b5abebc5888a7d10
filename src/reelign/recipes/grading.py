"""Judge pointwise: ask a critic how good each candidate is by itself, and write down good, normal or bad."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial

from tqdm import tqdm

from reelign.critics.base import Critic, check_dimension
from reelign.critics.judging import together
from reelign.records import Group, Judgement, Workspace
from reelign.video import read_video

KIND = "three_level"


@dataclass(frozen=True)
class Graded:
    """What a call of `grade` did, in judgements."""

    made: int
    already_there: int
    left_out: dict[str, int] = field(default_factory=dict)
    """Videos on which the critic gave no grade, by reason; they are asked about again by the next call."""


def grade(workspace: Workspace, critic: Critic, groups: Sequence[Group], dimensions: Sequence[str]) -> Graded:
    """Ask a critic about every candidate that it has not graded yet, a group at a time; interrupted, it goes on.

    Args:
        workspace: takes the judgements.
        critic: with its votes.
        groups: the candidates of each prompt.
        dimensions: of those that it rates.
    Raises:
        ReelignError: a dimension that it does not rate, or a server that gives no answer.
    """
    for dimension in dimensions:
        check_dimension(critic, "rates", dimension)
    workspace.set_judge(critic.name, kind="critic")
    known = {
        (row.video_a, row.dimension)
        for row in workspace.judgements(judge=critic.name)
        if row.kind == KIND and row.judge_version == critic.version
    }
    made = there = 0
    left_out: Counter[str] = Counter()
    for group in tqdm(groups, desc="grade", unit="group"):
        asked = [
            (video, dimension)
            for video in group.videos
            for dimension in dimensions
            if (video.id, dimension) not in known
        ]
        there += len(group.videos) * len(dimensions) - len(asked)
        clips = {video.id: read_video(workspace.video_path(video)) for video, _ in asked}
        calls = [partial(critic.rate, clips[video.id], group.prompt.text, dimension) for video, dimension in asked]
        rows = []
        for (video, dimension), said in zip(asked, together(critic.concurrency, calls), strict=True):
            if said.grade is None:
                left_out[said.left_out] += 1
                continue
            rows.append(
                Judgement(
                    kind=KIND,
                    video_a=video.id,
                    dimension=dimension,
                    verdict=said.grade,
                    judge=critic.name,
                    judge_version=critic.version,
                    reason=said.reason or None,
                )
            )
        workspace.add_judgements(rows)
        made += len(rows)
    return Graded(made, there, dict(left_out))
