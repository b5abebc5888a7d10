"""Agreement against the worked examples of the papers."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from records.test_votes import judgements
from reelign.records.agreement import Scale, agreement, comparison_counts, fleiss_kappa, krippendorff_alpha
from reelign.records.columns import Comparisons

# Krippendorff, Computing Krippendorff's Alpha-Reliability (2011), example C: four observers, twelve units, gaps.
OBSERVERS = ("1 2 3 3 2 1 4 1 2 . . .", "1 2 3 3 2 2 4 1 2 5 . 3", ". 3 3 3 2 3 4 2 2 5 1 .", "1 2 3 3 2 4 4 1 2 5 1 .")

# Fleiss' kappa, the example of fourteen raters, ten subjects and five categories.
FLEISS = """
0 0 0 0 14   0 2 6 4 2   0 0 3 5 6   0 3 9 2 0   2 2 8 1 1
7 7 0 0 0    3 2 6 3 0   2 5 3 2 2   6 5 2 1 0   0 2 2 3 7
"""


def krippendorffs_example() -> np.ndarray:
    counts = np.zeros((12, 5))
    for observer in OBSERVERS:
        for unit, value in enumerate(observer.split()):
            if value != ".":
                counts[unit, int(value) - 1] += 1
    return counts


@pytest.mark.parametrize(("scale", "alpha"), [("nominal", 0.743), ("ordinal", 0.815), ("interval", 0.849)])
def test_krippendorffs_own_example(scale: Scale, alpha: float) -> None:
    assert krippendorff_alpha(krippendorffs_example(), scale) == pytest.approx(alpha, abs=5e-4)


def test_fleiss_example() -> None:
    assert fleiss_kappa(np.array(FLEISS.split(), dtype=float).reshape(10, 5)) == pytest.approx(0.210, abs=5e-4)


def test_two_observers_two_values_by_hand() -> None:
    # Krippendorff's example A: ten units, 4 of them not agreed on; alpha = 1 - (20 - 1)·8 / (2·14·6) = 0.095
    counts = [[2, 0]] * 5 + [[1, 1]] * 4 + [[0, 2]]
    assert krippendorff_alpha(counts) == pytest.approx(0.095, abs=5e-4)


def test_limits() -> None:
    assert krippendorff_alpha([[3, 0], [0, 2]]) == 1
    assert fleiss_kappa([[2, 0], [0, 2]]) == 1
    assert math.isnan(krippendorff_alpha([[3, 0], [2, 0]])), "one value tells nothing"
    assert math.isnan(krippendorff_alpha([[1, 0], [0, 1]])), "nobody judged what another did"
    with pytest.raises(ValueError, match="same number"):
        fleiss_kappa([[2, 0], [1, 0]])


@given(arrays(np.int64, st.tuples(st.integers(2, 6), st.integers(2, 4)), elements=st.integers(0, 3)))
def test_the_order_of_items_and_nominal_values_does_not_matter(counts: np.ndarray) -> None:
    alpha = krippendorff_alpha(counts)
    assert krippendorff_alpha(counts[::-1, ::-1]) == pytest.approx(alpha, nan_ok=True)
    assert math.isnan(alpha) or alpha <= 1 + 1e-9


def test_agreement_of_judged_pairs_by_dimension() -> None:
    said = [
        *judgements("a", "a", "a"),
        *judgements("b", "b", "tie", b="v2"),
        *judgements("a", "b", a="v1", b="v2"),
        *judgements("a", a="v2", b="v3"),
        *judgements("tie", "tie", dimension="MQ"),
    ]
    motion, quality = agreement(comparison_counts(Comparisons.of(said)))
    assert (motion.dimension, motion.items, motion.same) == ("MQ", 1, 1.0)
    assert (quality.dimension, quality.items, quality.voices, quality.kappa_items) == ("VQ", 3, 8, 2)
    assert quality.same == pytest.approx((3 + 1 + 0) / (3 + 3 + 1))
    assert quality.alpha == krippendorff_alpha([[0, 0, 3], [2, 1, 0], [1, 0, 1]])
    assert quality.kappa == fleiss_kappa([[0, 0, 3], [2, 1, 0]])


def test_nobody_judged_anything() -> None:
    assert agreement(comparison_counts(Comparisons.of([]))) == []
    (alone,) = agreement(comparison_counts(Comparisons.of(judgements("a"))))
    assert (alone.items, alone.voices) == (0, 0)
    assert math.isnan(alone.alpha)
    assert math.isnan(alone.kappa)
