"""What a score favours beside quality: a side of the pair, or length.

People have a taste for a side too, and longer videos may really be better. So a bias is what the score chooses more
often than people choose it, on the same pairs.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from reelign.evaluation.ranking_intervals import Mean
from reelign.records.bootstrap import Interval
from reelign.records.ranking_accuracy import without_ties_by_pair


@dataclass(frozen=True, kw_only=True, slots=True)
class Bias:
    """How often the favoured video is chosen, on the pairs that people decided and the score can tell of."""

    pairs: int
    people: Interval
    """Share of pairs in which people choose the favoured video; 0.5 is no taste."""
    reward: Interval
    """Share in which the score does; equal scores count as half."""
    excess: Interval
    """`reward` less `people`: 0 is no bias."""


def bias_towards(favoured: Tensor, difference: Tensor, verdict: Tensor, prompts: Tensor, *, mean: Mean) -> Bias | None:
    """How far a score favours one kind of video beyond what people do.

    Args:
        favoured: (pairs,) 1 where the first video is of that kind and the second is not, -1 the other way round, 0
            where both or neither are.
        difference, verdict: (pairs,) as in `ranking_accuracy`.
        prompts: (pairs,) the prompt of each.
        mean: of (pairs,) numbers and their prompts, with its interval.
    Returns:
        None where no pair tells.
    """
    tells = (favoured != 0) & (verdict != 0) & ~difference.isnan()
    if not tells.any():
        return None
    kind = favoured[tells].double()
    people = 0.5 * (1 + verdict[tells].double() * kind)
    # Which of the two the score chooses is the accuracy against judges who always choose the favoured one.
    reward = without_ties_by_pair(difference[tells], kind)
    found = [mean(values, prompts[tells]) for values in (people, reward, reward - people)]
    return Bias(pairs=int(tells.sum()), people=found[0], reward=found[1], excess=found[2])


def longer(difference_s: Tensor) -> Tensor:
    """(pairs,) 1 where the first video is the longer one, -1 the second, 0 where they are equally long or unknown.

    Less than a thousandth of a second is rounding of the frame rate.
    """
    return torch.nan_to_num(difference_s.sign() * (difference_s.abs() > 1e-3), nan=0.0)
