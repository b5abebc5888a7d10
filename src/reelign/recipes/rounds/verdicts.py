"""What a held-out judge that compares says of a policy: its videos beside an earlier policy's, at the same seeds."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from reelign.errors import ReelignError
from reelign.recipes.rounds.manifest import Record
from reelign.records import Group, Judgement, Prompt, Video

Cell = tuple[int, int]
"""A prompt's id and a place among its seeds."""
Column = list[float | None]
"""Of every cell: 1 where the later video is better, -1 where the earlier one is, 0 of a tie, the mean over several
judges; None where there is no verdict."""


def pairs_of(prompts: Sequence[Prompt], before: Mapping[Cell, Video], after: Mapping[Cell, Video]) -> list[Group]:
    """The videos of both policies of each prompt and seed that both have, earlier first."""
    return [
        Group(prompt=prompt, videos=(before[cell], after[cell]))
        for prompt in prompts
        for cell in sorted(before.keys() & after.keys())
        if cell[0] == prompt.id
    ]


def won(
    rows: Sequence[Judgement], cells: Sequence[Cell], before: Mapping[Cell, Video], after: Mapping[Cell, Video]
) -> dict[str, Column]:
    """How the later videos fared by dimension, over all cells.

    Args:
        rows: judgements on pairs of `pairs_of`.
        cells: of all prompts and seeds, in order.
        before, after: the videos of both policies.
    Raises:
        ReelignError: there are verdicts on fewer than two prompts, which do not tell how prompts differ.
    """
    pairs = [frozenset((before[c].id, after[c].id)) if c in before and c in after else None for c in cells]
    judged = {frozenset((row.video_a, str(row.video_b))) for row in rows}
    prompts = {cell[0] for cell, pair in zip(cells, pairs, strict=True) if pair in judged}
    if len(prompts) < 2:
        raise ReelignError(
            f"The held-out judge gave verdicts on videos of {len(prompts)} prompts, and two are asked for at least.",
            "Take more seeds or prompts, or another judge; reelign critic evaluate says how a critic answers.",
        )
    said: dict[tuple[str, frozenset[str]], list[float]] = {}
    later = {video.id for video in after.values()}
    for row in rows:
        better = {"a": row.video_a, "b": row.video_b}.get(row.verdict)
        worth = 0.0 if better is None else 1.0 if better in later else -1.0
        said.setdefault((row.dimension, frozenset((row.video_a, str(row.video_b)))), []).append(worth)
    return {
        name: [_mean(said.get((name, pair), [])) if pair else None for pair in pairs]
        for name in dict.fromkeys(row.dimension for row in rows)
    }


def against(look: Record, number: int) -> dict[str, Column]:
    """What a look's judge said of it beside the videos of round `number`, of which 0 is the base."""
    found: dict[str, Column] = look["against"][str(number)]
    return found


def overall(columns: Mapping[str, Column]) -> Column:
    """Of every cell the mean over the dimensions that have a verdict on it, in [-1, 1]."""
    return [_mean([value for value in row if value is not None]) for row in zip(*columns.values(), strict=True)]


def net_wins(columns: Mapping[str, Column]) -> float:
    """Wins less losses as a share, in [-1, 1]: the mean of `overall` over the cells that have it."""
    known = [value for value in overall(columns) if value is not None]
    return math.fsum(known) / len(known)


def beside_base(base: Record, after: Record) -> tuple[dict[str, Column], dict[str, Column]]:
    """The base's and a look's scores by dimension; of a judge that compares `overall` against 0, as `net_wins` does."""
    if "against" not in after:
        return base["scores"], after["scores"]
    column = overall(after["scores"])
    return {"net wins": [None if each is None else 0.0 for each in column]}, {"net wins": column}


def _mean(values: Sequence[float]) -> float | None:
    return math.fsum(values) / len(values) if values else None
