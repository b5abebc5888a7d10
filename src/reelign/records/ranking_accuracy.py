"""Pairwise accuracy of a score against people, where people may say "tie" and a score never quite does.

Every function takes `difference` (pairs,), the score of the first video less that of the second, NaN where either has
none, and `verdict` (pairs,), what people say: 1 the first is better, -1 the second, 0 a tie. Those that end in
`_by_pair` give a number per pair, so that means, intervals over prompts and breakdowns are all of the same numbers.
"""

from __future__ import annotations

import torch
from torch import Tensor

from reelign.errors import ReelignError

NAN = float("nan")


def without_ties_by_pair(difference: Tensor, verdict: Tensor) -> Tensor:
    """Whether a score orders a pair as people do, on the pairs that people decided.

    Two equal scores count as half right, the expectation of a coin: a scorer that always says the same gets 0.5.

    Returns:
        (pairs,) float64 of 1, 0.5 or 0; NaN where people see a tie or a score is missing.
    """
    difference, verdict = _checked(difference, verdict)
    right = 0.5 * (1 + difference.sign() * verdict)
    return right.masked_fill((verdict == 0) | difference.isnan(), NAN)  # torch's sign of NaN is 0


def with_ties_by_pair(difference: Tensor, verdict: Tensor, threshold: float) -> Tensor:
    """Whether a score says of a pair what people say: first, second, or tie where |difference| <= `threshold`.

    Deutsch et al. 2023 (arXiv:2305.14324), the three-way accuracy of section 5.

    Returns:
        (pairs,) float64 of 1 or 0; NaN where a score is missing.
    """
    difference, verdict = _checked(difference, verdict)
    said = difference.sign() * (difference.abs() > threshold)
    return (said == verdict).double().masked_fill(difference.isnan(), NAN)


def best_threshold(difference: Tensor, verdict: Tensor) -> float:
    """The tie threshold of the highest accuracy with ties; where several are as good, the fewest predicted ties.

    Accuracy changes only where a threshold passes some |difference|, so those are all there is to try, beside 0, where
    only equal scores are a tie. Pairs of equal |difference| become ties together: no threshold can part them. The
    threshold lies halfway to the next |difference|, where it is the least chance of these pairs.

    Raises:
        ReelignError: no pair has scores.
    """
    difference, verdict = _scored(difference, verdict)
    sizes, group = difference.abs().unique(return_inverse=True)
    # What passing a group wins: its human ties become right, and those of its pairs that were right become wrong.
    # A difference of 0 is a tie at every threshold.
    change = (verdict == 0).double() - (difference.sign() == verdict).double()
    change = torch.zeros_like(sizes).index_add_(0, group, change.masked_fill(difference == 0, 0.0))
    gained = torch.cat([sizes.new_zeros(1), change.cumsum(0)])
    passed = int(gained.argmax())
    if passed == 0:
        return 0.0
    last, following = sizes[passed - 1], sizes[min(passed, len(sizes) - 1)]
    halfway = (last + following) / 2
    return float(halfway if halfway < following else last)


def published_without_ties_by_pair(difference: Tensor, verdict: Tensor) -> Tensor:
    """`without_ties_by_pair` by the rule of VideoAlign's `calc_accuracy.py`: two equal scores are wrong."""
    right = without_ties_by_pair(difference, verdict)
    return right.masked_fill(right == 0.5, 0.0)


def published_with_ties_by_pair(difference: Tensor, verdict: Tensor) -> tuple[Tensor, float]:
    """Accuracy with ties at its best by the rule of VideoAlign's `calc_accuracy.py` (commit 219ab9d).

    It makes pairs into ties one at a time in the order of |difference|, equal ones in the order of the file, and looks
    after each. So it counts states that no threshold reaches, which flatters scores with few values, and it never tries
    to predict no tie at all.

    Returns:
        (pairs,) as `with_ties_by_pair`, and |difference| of the last pair that was made a tie.
    Raises:
        ReelignError: no pair has scores.
    """
    scored = ~torch.as_tensor(difference).isnan()
    differences, verdicts = _scored(difference, verdict)
    order = differences.abs().argsort(stable=True)
    ordered = (differences.sign() * verdicts > 0)[order]
    tied = (verdicts == 0)[order]
    ties = int((tied.double() - ordered.double()).cumsum(0).argmax()) + 1
    right = torch.cat([tied[:ties], ordered[ties:]]).double()
    by_pair = torch.full_like(scored, NAN, dtype=torch.float64)
    by_pair[scored] = torch.empty_like(right).index_copy_(0, order, right)
    return by_pair, float(differences.abs()[order[ties - 1]])


def _scored(difference: Tensor, verdict: Tensor) -> tuple[Tensor, Tensor]:
    difference, verdict = _checked(difference, verdict)
    scored = ~difference.isnan()
    if not scored.any():
        raise ReelignError("No pair has two scores, so no tie threshold can be found.", "Score the videos first.")
    return difference[scored], verdict[scored]


def _checked(difference: Tensor, verdict: Tensor) -> tuple[Tensor, Tensor]:
    difference, verdict = difference.detach().cpu().double(), verdict.detach().cpu().double()
    if difference.ndim != 1 or difference.shape != verdict.shape:
        raise ReelignError(
            f"Differences and verdicts must have one shape (pairs,), got {tuple(difference.shape)} and "
            f"{tuple(verdict.shape)}.",
            "Give one verdict for each pair.",
        )
    if not torch.isin(verdict, torch.tensor([-1.0, 0.0, 1.0], dtype=torch.float64)).all():
        raise ReelignError(
            "A verdict is neither 1 (the first is better), 0 (a tie) nor -1 (the second is better).",
            "Leave pairs out that nobody judged.",
        )
    return difference, verdict
