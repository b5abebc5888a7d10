"""Judge pointwise: ask a critic how good each candidate is by itself, and write down good, normal or bad."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial

from tqdm import tqdm

from reelign.critics.base import Critic, check_dimension
from reelign.critics.judging import together
from reelign.recipes.asked_critics import batches
from reelign.records import Group, Judgement, Video, Workspace
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
    """Ask a critic about every candidate that it has not graded yet; interrupted, it goes on.

    Args:
        workspace: takes the judgements.
        critic: with its votes.
        groups: the candidates of each prompt.
        dimensions: of those that it rates.
    Raises:
        ReelignError: a dimension that it does not rate, or a server that gives no answer.
    """
    check_rated(critic, dimensions)
    workspace.set_judge(critic.name, kind="critic")
    known = {
        (row.video_a, row.dimension)
        for row in workspace.judgements(judge=critic.name)
        if row.kind == KIND and row.judge_version == critic.version
    }
    made = there = 0
    left_out: Counter[str] = Counter()
    for rows, already in grades(workspace, critic, groups, dimensions, known, left_out):
        workspace.add_judgements(rows)
        made += len(rows)
        there += already
    return Graded(made, there, dict(left_out))


def grades(
    workspace: Workspace,
    critic: Critic,
    groups: Sequence[Group],
    dimensions: Sequence[str],
    known: Collection[tuple[str, str]],
    left_out: Counter[str],
) -> Iterator[tuple[list[Judgement], int]]:
    """What a critic says of candidates, as it comes; nothing is recorded.

    So many groups are asked about together that a critic behind a server is kept busy.

    Args:
        known: videos and dimensions that have a grade.
        left_out: counts videos without one, by reason.
    Returns:
        New judgements, and how many there were.
    Raises:
        ReelignError: as `grade`.
    """
    check_rated(critic, dimensions)
    asks = partial(_unknown, dimensions=dimensions, known=known)
    with tqdm(total=len(groups), desc="grade", unit="group") as bar:
        for part in batches(groups, [critic.concurrency], lambda group: [len(asks(group))]):
            asked = [(video, group.prompt.text, dimension) for group in part for video, dimension in asks(group)]
            rows, silent = _said(workspace, critic, asked)
            left_out.update(silent)
            yield rows, sum(len(group.videos) for group in part) * len(dimensions) - len(asked)
            bar.update(len(part))


def check_rated(critic: Critic, dimensions: Sequence[str]) -> None:
    """Refuse a dimension that the critic does not rate."""
    for dimension in dimensions:
        check_dimension(critic, "rates", dimension)


def _unknown(group: Group, dimensions: Sequence[str], known: Collection[tuple[str, str]]) -> list[tuple[Video, str]]:
    """The candidates of a group and the dimensions on which they have no grade."""
    return [(video, name) for video in group.videos for name in dimensions if (video.id, name) not in known]


def _said(
    workspace: Workspace, critic: Critic, asked: Sequence[tuple[Video, str, str]]
) -> tuple[list[Judgement], Counter[str]]:
    """The grades of videos, each with its prompt and on a dimension, and why there are none of the others."""
    videos = {video.id: video for video, *_ in asked}
    clips = {name: read_video(workspace.video_path(video)) for name, video in videos.items()}
    calls = [partial(critic.rate, clips[video.id], prompt, dimension) for video, prompt, dimension in asked]
    rows: list[Judgement] = []
    left_out: Counter[str] = Counter()
    for (video, _, dimension), said in zip(asked, together(critic.concurrency, calls), strict=True):
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
    return rows, left_out
