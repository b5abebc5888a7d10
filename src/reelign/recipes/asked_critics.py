"""Judgements of critics: every pair asked about with its reasons, and what has no verdict counted and named."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path
from typing import Any

from tqdm import tqdm

from reelign.critics.judging import CriticJudge
from reelign.recipes.score_judging import Pairs, answered, drawn_sides
from reelign.records import Group, Judgement, Video, Workspace
from reelign.rewards.failures import NAMED
from reelign.video import Clip, read_video

CACHE = Path("cache") / "critics"
"""Where a workspace keeps the answers of critics."""
READ_BYTES = 1 << 30
"""What the frames of groups that are asked about together may take, unless one group takes more."""


@dataclass
class Silences:
    """Comparisons that critics gave no verdict on."""

    asked: Counter[str] = field(default_factory=Counter)
    """By critic: comparisons asked for."""
    reasons: dict[str, Counter[str]] = field(default_factory=dict)
    """By critic: why there was no verdict."""
    named: dict[str, list[str]] = field(default_factory=dict)
    """By critic: the first few of them."""

    def add(self, critic: str, left: Video, right: Video, dimension: str, reason: str) -> None:
        short, _, detail = reason.partition(": ")
        self.reasons.setdefault(critic, Counter())[short] += 1
        named = self.named.setdefault(critic, [])
        if len(named) < NAMED:
            named.append(f"{left.path} against {right.path} ({dimension}: {short}{f', {detail}' if detail else ''})")

    def sentences(self) -> tuple[str, ...]:
        """Of each critic that was silent: how often and why, and the first few pairs."""
        told = []
        for critic, reasons in self.reasons.items():
            count, named = reasons.total(), self.named[critic]
            why = ", ".join(f"{number} {reason}" for reason, number in reasons.most_common())
            more = f" and {count - len(named)} more" if count > len(named) else ""
            told.append(
                f"{critic}: {count} of {self.asked[critic]} comparisons have no verdict and are left out ({why}): "
                f"{'; '.join(named)}{more}"
            )
        return tuple(told)


def ask_critics(
    workspace: Workspace,
    groups: Sequence[Group],
    judges: Sequence[CriticJudge],
    asked: set[Any],
    seed: int,
    silences: Silences,
) -> Iterator[tuple[list[Judgement], int]]:
    """Ask critics about every pair of candidates that they have not judged on each of their dimensions.

    Videos of several sizes may be compared. A video is read once for all critics and pairs of its group. So many groups
    are asked about together that a critic behind a server is kept busy, and their judgements come together.

    Args:
        asked: (judge, version, both videos, dimension) of what is judged.
        seed: of the sides.
        silences: filled with what has no verdict.
    Returns:
        Of each batch of groups the new judgements and how many there were, as they come.
    """
    if not judges:
        return
    with tqdm(total=len(groups), desc="ask critics", unit="group") as bar:
        enough = [one.critic.concurrency for one in judges]
        for part in batches(groups, enough, lambda group: [_pairs(group) * len(one.dimensions) for one in judges]):
            clips: dict[str, Clip] = {}
            rows: list[Judgement] = []
            known = 0
            for one in judges:
                new, there = _said(workspace, part, one, asked, seed, silences, clips)
                rows += new
                known += there
            yield rows, known
            bar.update(len(part))


def batches(
    groups: Sequence[Group], concurrency: Sequence[int], calls: Callable[[Group], Sequence[int]]
) -> Iterator[list[Group]]:
    """Groups in their order, as many together as give every critic enough to do, or take as much memory as they may.

    Args:
        concurrency: of each critic, the questions that it takes at a time.
        calls: of a group, how many questions each critic has.
    """
    part: list[Group] = []
    size, waiting = 0, [0] * len(concurrency)
    enough = [1 if each == 1 else 2 * each for each in concurrency]
    for group in groups:
        part.append(group)
        size += sum(4 * 3 * video.num_frames * video.height * video.width for video in group.videos)
        waiting = [count + more for count, more in zip(waiting, calls(group), strict=True)]
        if size >= READ_BYTES or all(count >= wanted for count, wanted in zip(waiting, enough, strict=True)):
            yield part
            part, size, waiting = [], 0, [0] * len(concurrency)
    if part:
        yield part


def _pairs(group: Group) -> int:
    return math.comb(len(group.videos), 2)


def _said(
    workspace: Workspace,
    groups: Sequence[Group],
    one: CriticJudge,
    asked: set[Any],
    seed: int,
    silences: Silences,
    clips: dict[str, Clip],
) -> tuple[list[Judgement], int]:
    """One critic on what it has not judged in some groups."""
    questions = [
        (left, right, group.prompt.text, dimension)
        for group in groups
        for left, right in _shown(one, group, asked, seed)
        for dimension in one.dimensions
        if (one.name, one.version, frozenset((left.id, right.id)), dimension) not in asked
    ]
    all_there_are = sum(map(_pairs, groups)) * len(one.dimensions)
    for video in {video.id: video for left, right, *_ in questions for video in (left, right)}.values():
        if video.id not in clips:
            clips[video.id] = read_video(workspace.video_path(video))
    said = one.asked([(clips[left.id], clips[right.id], prompt, name) for left, right, prompt, name in questions])
    silences.asked[one.name] += len(questions)
    rows = []
    for (left, right, _, dimension), comparison in zip(questions, said, strict=True):
        if comparison.verdict is None:
            silences.add(one.name, left, right, dimension, comparison.left_out)
            continue
        rows.append(
            Judgement(
                video_a=left.id,
                video_b=right.id,
                dimension=dimension,
                verdict=comparison.verdict,
                judge=one.name,
                judge_version=one.version,
                shown_left="a",
                reason=comparison.reason or None,
            )
        )
    return rows, all_there_are - len(questions)


def _shown(one: CriticJudge, group: Group, asked: set[Any], seed: int) -> Pairs:
    """The pairs of a group that a critic has not judged on all of its dimensions, with their sides."""
    return drawn_sides(one, [pair for pair in combinations(group.videos, 2) if not answered(one, pair, asked)], seed)[0]
