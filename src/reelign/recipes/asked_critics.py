"""Judgements of critics: every pair asked about with its reasons, and what has no verdict counted and named."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path
from typing import Any

from tqdm import tqdm

from reelign.critics.judging import CriticJudge
from reelign.recipes.score_judging import answered, drawn_sides
from reelign.records import Group, Judgement, Video, Workspace
from reelign.rewards.failures import NAMED
from reelign.video import Clip, read_video

CACHE = Path("cache") / "critics"
"""Where a workspace keeps the answers of critics."""


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

    Videos of several sizes may be compared. A video is read once for all critics and pairs of its group.

    Args:
        asked: (judge, version, both videos, dimension) of what is judged.
        seed: of the sides.
        silences: filled with what has no verdict.
    Returns:
        Of each group the new judgements and how many there were, as they come.
    """
    if not judges:
        return
    for group in tqdm(groups, desc="ask critics", unit="group"):
        clips: dict[str, Clip] = {}
        rows: list[Judgement] = []
        known = 0
        for one in judges:
            new, there = _said(workspace, group, one, asked, seed, silences, clips)
            rows += new
            known += there
        yield rows, known


def _said(
    workspace: Workspace,
    group: Group,
    one: CriticJudge,
    asked: set[Any],
    seed: int,
    silences: Silences,
    clips: dict[str, Clip],
) -> tuple[list[Judgement], int]:
    pairs = [pair for pair in combinations(group.videos, 2) if not answered(one, pair, asked)]
    questions = [
        (left, right, dimension)
        for left, right in drawn_sides(one, pairs, seed)[0]
        for dimension in one.dimensions
        if (one.name, one.version, frozenset((left.id, right.id)), dimension) not in asked
    ]
    known = math.comb(len(group.videos), 2) * len(one.dimensions) - len(questions)
    for video in {video.id: video for left, right, _ in questions for video in (left, right)}.values():
        if video.id not in clips:
            clips[video.id] = read_video(workspace.video_path(video))
    said = one.asked([(clips[left.id], clips[right.id], name) for left, right, name in questions], group.prompt.text)
    silences.asked[one.name] += len(questions)
    rows = []
    for (left, right, dimension), comparison in zip(questions, said, strict=True):
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
    return rows, known
