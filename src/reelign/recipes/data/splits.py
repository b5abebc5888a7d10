"""Rows split by their prompts, so that what is looked at is of prompts that training never saw."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from reelign.diffusion.seeds import generator_from
from reelign.errors import ReelignError


def split_by_prompt(prompts: Sequence[str], shares: Sequence[float], seed: int) -> list[list[int]]:
    """Parts of the rows, no prompt in two: one for each share, and the rest.

    Args:
        prompts: of each row.
        shares: of the prompts, each in [0, 1); a share above 0 gets one prompt at least.
        seed: decides which prompts go where.
    Returns:
        The places of each part's rows, ascending.
    Raises:
        ReelignError: too few prompts to give every share one and leave some.
    """
    names = list(dict.fromkeys(prompts))
    order = torch.randperm(len(names), generator=generator_from(seed, "split of prompts")).tolist()
    counts = [max(1, round(share * len(names))) if share else 0 for share in shares]
    if sum(counts) >= len(names):
        raise ReelignError(
            f"There are {len(names)} judged prompts, too few to keep {sum(counts)} out of training.",
            "Judge videos of more prompts, or keep none out (held_out=0 under watch, and calibration=0 of a reward).",
        )
    part_of, place = {}, 0
    for part, count in enumerate([*counts, len(names) - sum(counts)]):
        part_of.update({names[which]: part for which in order[place : place + count]})
        place += count
    rows: list[list[int]] = [[] for _ in range(len(counts) + 1)]
    for row, prompt in enumerate(prompts):
        rows[part_of[prompt]].append(row)
    return rows
