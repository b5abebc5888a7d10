"""Judgements that follow from scores: rewards score each candidate once, whatever the pairs."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import combinations
from typing import Any

import torch

from reelign.diffusion.seeds import generator_from
from reelign.recipes.scoring import Scores, score_videos
from reelign.records import Group, Judge, Judgement, Video, Workspace
from reelign.rewards.judging import RewardJudge

Pairs = list[tuple[Video, Video]]


def score_pairs(
    workspace: Workspace, groups: Sequence[Group], judges: Sequence[RewardJudge], asked: set[Any], seed: int
) -> tuple[Iterator[tuple[list[Judgement], int]], tuple[str, ...]]:
    """Score the candidates of every group in which a pair is not judged yet, and compare them.

    Args:
        asked: (judge, version, both videos, dimension) of what is judged.
        seed: of the sides.
    Returns:
        Of each group and judge the new judgements and how many there were; and of each judge that could not score some
        videos, a sentence. A pair without both scores on a dimension is left out of it.
    """
    rewards = [one.reward for one in judges]
    waiting = [
        group
        for group in groups
        if any(not answered(one, pair, asked) for one in judges for pair in combinations(group.videos, 2))
    ]
    videos = [(video, group.prompt.text) for group in waiting for video in group.videos]
    batch_size = min((one.batch_size for one in judges), default=1)
    scores, failures = score_videos(workspace, rewards, videos, batch_size=batch_size)
    sentences = tuple(f"{name}: {failed}" for name, failed in failures.items() if failed)
    compared = (_compared(one, group, scores[one.name], asked, seed) for group in groups for one in judges)
    return compared, sentences


def _compared(
    one: RewardJudge, group: Group, scores: Scores, asked: set[Any], seed: int
) -> tuple[list[Judgement], int]:
    pairs = [pair for pair in combinations(group.videos, 2) if not answered(one, pair, asked)]
    known = (math.comb(len(group.videos), 2) - len(pairs)) * len(one.dimensions)
    rows = []
    for left, right in drawn_sides(one, pairs, seed)[0]:
        for dimension in one.dimensions:
            if (one.name, one.version, frozenset((left.id, right.id)), dimension) in asked:
                known += 1
                continue
            value_a, value_b = (scores.get(video.id, {}).get(dimension) for video in (left, right))
            if value_a is not None and value_b is not None:
                verdict = one.verdict(dimension, value_a, value_b)
                rows.append(
                    Judgement(
                        video_a=left.id,
                        video_b=right.id,
                        dimension=dimension,
                        verdict=verdict,
                        judge=one.name,
                        judge_version=one.version,
                        shown_left="a",
                    )
                )
    return rows, known


def answered(one: Judge, pair: tuple[Video, Video], asked: set[Any]) -> bool:
    """Whether a judge has judged a pair on all of its dimensions."""
    key = frozenset(video.id for video in pair)
    return all((one.name, one.version, key, dimension) in asked for dimension in one.dimensions)


def drawn_sides(one: Judge, pairs: Pairs, seed: int) -> tuple[Pairs, torch.Generator]:
    """The pairs as shown, first video left; the chance depends on who judges what, so that it can be asked again."""
    chance = generator_from(seed, one.name, *(video.id for pair in pairs for video in pair))
    swapped = torch.rand(len(pairs), generator=chance) < 0.5
    return [(b, a) if swap else (a, b) for (a, b), swap in zip(pairs, swapped.tolist(), strict=True)], chance
