"""Pairwise accuracy against its own definition, counted pair by pair in plain Python."""

from __future__ import annotations

import itertools

import pytest
import torch

from reelign.diffusion.seeds import generator_from
from reelign.errors import ReelignError
from reelign.records.ranking_accuracy import (
    best_threshold,
    published_with_ties_by_pair,
    published_without_ties_by_pair,
    with_ties_by_pair,
    without_ties_by_pair,
)

NAN = float("nan")


def tensors(difference: list[float], verdict: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.tensor(difference, dtype=torch.float64), torch.tensor(verdict)


def says(difference: float, threshold: float) -> int:
    return 0 if abs(difference) <= threshold else 1 if difference > 0 else -1


def counted(difference: list[float], verdict: list[int], threshold: float) -> float:
    right = [says(each, threshold) == said for each, said in zip(difference, verdict, strict=True)]
    return sum(right) / len(right)


def random_pairs(seed: int, *, grid: float | None) -> tuple[list[float], list[int]]:
    generator = generator_from("pairs", seed)
    count = int(torch.randint(1, 30, (), generator=generator))
    difference = torch.randn(count, generator=generator, dtype=torch.float64)
    if grid is not None:
        difference = (difference / grid).round() * grid
    verdict = torch.randint(-1, 2, (count,), generator=generator)
    return difference.tolist(), verdict.tolist()


def test_by_hand() -> None:
    difference, verdict = tensors([2.0, -1.0, 0.5, 0.0, 0.0, 0.1], [1, 1, -1, 1, 0, 0])
    assert without_ties_by_pair(difference, verdict)[:4].tolist() == [1.0, 0.0, 0.0, 0.5]
    assert without_ties_by_pair(difference, verdict)[4:].isnan().all()
    assert with_ties_by_pair(difference, verdict, 0.0).tolist() == [1, 0, 0, 0, 1, 0]
    assert with_ties_by_pair(difference, verdict, 0.5).tolist() == [1, 0, 0, 0, 1, 1]
    assert best_threshold(difference, verdict) == pytest.approx(0.3)  # halfway from 0.1 to 0.5


@pytest.mark.parametrize("grid", [None, 0.5, 2.0], ids=["continuous", "half points", "few values"])
def test_the_threshold_is_the_best_of_all_there_are(grid: float | None) -> None:
    for seed in range(150):
        difference, verdict = random_pairs(seed, grid=grid)
        sizes = sorted({0.0, *(abs(each) for each in difference)})
        between = [(low + high) / 2 for low, high in itertools.pairwise(sizes)]
        best = max(counted(difference, verdict, threshold) for threshold in (*sizes, *between, sizes[-1] + 1))
        threshold = best_threshold(*tensors(difference, verdict))
        assert with_ties_by_pair(*tensors(difference, verdict), threshold).mean().item() == pytest.approx(best)
        assert counted(difference, verdict, threshold) == pytest.approx(best)
        passed = max(each for each in sizes if each <= threshold)
        fewer_ties = [each for each in (*sizes, *between) if each < passed]
        assert all(counted(difference, verdict, each) < best for each in fewer_ties)


def test_a_threshold_between_neighbouring_numbers_does_not_pass_both() -> None:
    near = 1.0 + 2**-52
    difference, verdict = tensors([1.0, near, near], [0, 1, 1])
    assert best_threshold(difference, verdict) == 1.0


def test_no_predicted_tie_may_be_best() -> None:
    difference, verdict = tensors([1.0, 2.0, -3.0, 4.0], [1, 1, -1, 0])
    assert best_threshold(difference, verdict) == 0
    assert with_ties_by_pair(difference, verdict, 0.0).mean() == 0.75
    # The released script makes at least one pair a tie, and gets one pair less right.
    right, threshold = published_with_ties_by_pair(difference, verdict)
    assert (right.mean().item(), threshold) == (0.5, 1.0)


def test_a_scorer_that_always_says_the_same_is_a_coin() -> None:
    difference, verdict = tensors([0.0] * 10, [1, -1, 1, 1, 0, 0, 0, 1, -1, 1])
    assert without_ties_by_pair(difference, verdict).nanmean() == 0.5
    assert with_ties_by_pair(difference, verdict, best_threshold(difference, verdict)).mean() == 0.3
    assert published_without_ties_by_pair(difference, verdict).nanmean() == 0


def one_at_a_time(difference: list[float], verdict: list[int]) -> float:
    """The released rule: in the order of |difference| one more pair is a tie, and the best count of those is taken."""
    order = sorted(range(len(verdict)), key=lambda row: abs(difference[row]))
    best = 0
    for ties in range(1, len(order) + 1):
        right = sum(verdict[row] == 0 for row in order[:ties])
        best = max(best, right + sum(difference[row] * verdict[row] > 0 for row in order[ties:]))
    return best / len(order)


@pytest.mark.parametrize("grid", [None, 0.5, 2.0])
def test_the_published_rule(grid: float | None) -> None:
    for seed in range(100):
        difference, verdict = random_pairs(seed, grid=grid)
        right, _ = published_with_ties_by_pair(*tensors(difference, verdict))
        assert right.mean().item() == pytest.approx(one_at_a_time(difference, verdict))
        if grid is None:
            sound = counted(difference, verdict, best_threshold(*tensors(difference, verdict)))
            none = counted(difference, verdict, 0.0)
            assert right.mean().item() == pytest.approx(sound) or none == pytest.approx(sound)


def test_the_published_rule_flatters_scores_with_few_values_in_a_sorted_file() -> None:
    # All differ by one step; the file has its ties first, so the script stops after them, where no threshold can.
    difference, verdict = tensors([1.0] * 10, [0] * 4 + [1] * 6)
    assert published_with_ties_by_pair(difference, verdict)[0].mean() == 1.0
    assert with_ties_by_pair(difference, verdict, best_threshold(difference, verdict)).mean() == 0.6


def test_failed_pairs_count_on_neither_side() -> None:
    difference, verdict = tensors([1.0, NAN, -1.0, 0.1], [1, 1, -1, 0])
    assert best_threshold(difference, verdict) == pytest.approx(0.55)
    for right in (with_ties_by_pair(difference, verdict, 0.1), published_with_ties_by_pair(difference, verdict)[0]):
        assert right.isnan().tolist() == [False, True, False, False]
        assert right.nanmean() == 1
    assert without_ties_by_pair(difference, verdict).nanmean() == 1


@pytest.mark.parametrize(
    ("difference", "verdict", "message"),
    [
        ([NAN, NAN], [1, 0], "No pair has two scores"),
        ([1.0], [1, 0], "one shape"),
        ([1.0, 1.0], [2, 0], "neither 1"),
        ([], [], "No pair"),
    ],
)
def test_refusals(difference: list[float], verdict: list[int], message: str) -> None:
    with pytest.raises(ReelignError, match=message):
        best_threshold(*tensors(difference, verdict))
