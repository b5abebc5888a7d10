"""How far judges agree: Krippendorff's alpha and Fleiss' kappa, from how often each value was given to each item."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from reelign.records.columns import Comparisons

Floats = NDArray[np.float64]
Scale = Literal["nominal", "ordinal", "interval"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Agreement:
    """Of the judges on one dimension; NaN where it cannot be said. 1 is full agreement, 0 that of chance."""

    dimension: str
    items: int
    """Judged by at least two."""
    voices: int
    """On these."""
    same: float
    """Share of all pairs of voices on an item that are equal."""
    alpha: float
    """Krippendorff's, nominal: any two different values differ equally."""
    alpha_ordinal: float
    """Krippendorff's, ordinal: the further apart in the order, the more they differ."""
    kappa: float
    """Fleiss', over the `kappa_items` that have the most frequent number of voices."""
    kappa_items: int


def agreement(counts: Mapping[str, ArrayLike]) -> list[Agreement]:
    """Agreement on each dimension, in the order of their names.

    Args:
        counts: dimension to (items, values), how many judges gave each value; the values in their order.
    """
    return [_agreement(dimension, np.asarray(counts[dimension], dtype=np.float64)) for dimension in sorted(counts)]


def comparison_counts(comparisons: Comparisons) -> dict[str, Floats]:
    """Counts of (the second video, neither, the first) of each pair, by dimension."""
    items = comparisons.items()
    signs = np.sign(items.value).astype(np.int64)
    counts = np.bincount(items.item * 3 + signs + 1, minlength=3 * items.count).reshape(-1, 3).astype(np.float64)
    return {name: counts[items.dimension == code] for code, name in enumerate(comparisons.dimensions)}


def krippendorff_alpha(counts: ArrayLike, scale: Scale = "nominal") -> float:
    """Krippendorff's alpha of any number of judges, who need not all have judged everything.

    Krippendorff, Computing Krippendorff's Alpha-Reliability (2011), with o the coincidences and n their margins:

        alpha = 1 - (n - 1) · sum_ck o_ck d_ck² / sum_ck n_c n_k d_ck²

    Args:
        counts: (items, values), how many judges gave each value; items with fewer than two voices do not count.
        scale: what d is: 1 for any two different values; ordinal, by how many voices lie between; interval, the
            difference of their places.
    Returns:
        1 for full agreement, 0 for that of chance, below for less; NaN where all voices are the same value or no item
        has two.
    """
    table = _paired(counts)
    per_item = table.sum(axis=1)
    coincidences = (table / (per_item - 1)[:, None]).T @ table - np.diag((table / (per_item - 1)[:, None]).sum(axis=0))
    margins = coincidences.sum(axis=1)
    distances = _distances(margins, scale)
    expected = float((np.outer(margins, margins) * distances).sum())
    if expected == 0:
        return float("nan")
    return 1 - float((margins.sum() - 1) * (coincidences * distances).sum()) / expected


def fleiss_kappa(counts: ArrayLike) -> float:
    """Fleiss' kappa of items that all have the same number of voices.

    Fleiss, Measuring nominal scale agreement among many raters (1971), eq. 7: (P - Pe) / (1 - Pe).

    Args:
        counts: (items, values), how many judges gave each value.
    Raises:
        ValueError: items differ in their number of voices, or have fewer than two.
    """
    table = np.asarray(counts, dtype=np.float64)
    voices = table.sum(axis=1)
    if not len(table) or voices.min() != voices.max() or voices[0] < 2:
        raise ValueError("every item needs the same number of voices, at least 2")
    agreed = _same_share(table)
    by_chance = float(((table.sum(axis=0) / table.sum()) ** 2).sum())
    return float("nan") if by_chance == 1 else (float(agreed.mean()) - by_chance) / (1 - by_chance)


def _agreement(dimension: str, counts: Floats) -> Agreement:
    table = _paired(counts)
    voices = table.sum(axis=1).astype(np.int64)
    usual = int(np.bincount(voices).argmax()) if len(voices) else 0
    fixed = table[voices == usual]
    pairs = voices * (voices - 1)
    return Agreement(
        dimension=dimension,
        items=len(table),
        voices=int(voices.sum()),
        same=float((_same_share(table) * pairs).sum() / pairs.sum()) if len(table) else float("nan"),
        alpha=krippendorff_alpha(table),
        alpha_ordinal=krippendorff_alpha(table, "ordinal"),
        kappa=fleiss_kappa(fixed) if len(fixed) else float("nan"),
        kappa_items=len(fixed),
    )


def _paired(counts: ArrayLike) -> Floats:
    table = np.asarray(counts, dtype=np.float64)
    paired: Floats = table[table.sum(axis=1) >= 2]
    return paired


def _same_share(table: Floats) -> Floats:
    """Of each item: the share of the pairs of its voices that are equal."""
    voices = table.sum(axis=1)
    share: Floats = (table * (table - 1)).sum(axis=1) / (voices * (voices - 1))
    return share


def _distances(margins: Floats, scale: Scale) -> Floats:
    """Squared distances of the values."""
    places = np.arange(len(margins), dtype=np.float64)
    if scale == "ordinal":
        # Where a value's voices lie in the row of all voices: at their middle.
        places = np.cumsum(margins) - margins / 2
    if scale == "nominal":
        return 1 - np.eye(len(margins))
    squared: Floats = (places[:, None] - places[None, :]) ** 2
    return squared
