"""The most informative pair: values by hand, limits, symmetry."""

from __future__ import annotations

import numpy as np
import pytest

from reelign.annotate.information import information


def test_without_outcomes_every_pair_tells_the_same() -> None:
    found = information(3, [])
    # p = ½ and the variance of a difference of two standard normals is 2: ½·log(1 + ¼·2).
    assert found[~np.eye(3, dtype=bool)] == pytest.approx(0.5 * np.log(1.5))
    assert np.diag(found) == pytest.approx(0)


def test_one_tie_by_hand() -> None:
    found = information(2, [(0, 1, 0.5)])
    # Precision along the difference (unit prior, ½ in this coordinate) grows by ¼: variance 1 / (½ + ¼).
    assert found[0, 1] == pytest.approx(0.5 * np.log1p(0.25 / 0.75))


def test_what_was_asked_often_or_is_clear_tells_less() -> None:
    often = information(3, [(0, 1, 0.5)] * 10)
    assert often[0, 1] < often[0, 2] == pytest.approx(often[1, 2])
    clear = information(3, [(0, 1, 1.0), (0, 1, 1.0), (1, 2, 0.5)])
    assert clear[0, 1] < clear[1, 2]
    assert np.allclose(clear, clear.T)
