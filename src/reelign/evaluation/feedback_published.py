"""Figures that papers report, to stand beside one's own and be marked as theirs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

COLUMNS = ("overall", "VQ", "MQ", "TA")
"""Of VideoGen-RewardBench; GenAI-Bench has `overall` alone."""

Figures = tuple[tuple[float, float], ...]
"""Accuracy in percent, with ties and without, by column."""


@dataclass(frozen=True, slots=True)
class Published:
    """What one paper says of several sources on one benchmark."""

    benchmark: str
    source: str
    pairs: int
    """In the whole benchmark: figures of a part of it are not the same thing."""
    rows: Mapping[str, Figures]


_LIU = "Liu et al. 2025, arXiv:2501.13918, Tables 2 and 3"

ACCURACY = {
    "videoalign": Published(
        "VideoGen-RewardBench",
        _LIU,
        26457,
        {
            "random": ((41.86, 50.30), (47.42, 49.86), (59.07, 49.64), (37.25, 50.40)),
            "VideoScore": ((41.80, 50.22), (47.41, 47.72), (59.05, 51.09), (37.24, 50.34)),
            "LiFT": ((39.08, 57.26), (47.53, 55.97), (59.04, 54.91), (33.79, 55.43)),
            "VisionReward": ((56.77, 67.59), (47.43, 59.03), (59.03, 60.98), (46.56, 61.15)),
            "VideoReward": ((61.26, 73.59), (59.68, 75.66), (66.03, 74.70), (53.80, 72.20)),
            "VideoReward by regression": ((58.39, 70.16), (54.23, 73.61), (61.16, 65.56), (52.60, 70.95)),
            "VideoReward, BT": ((61.22, 72.58), (52.33, 77.10), (59.43, 73.50), (53.06, 71.62)),
            "VideoReward, BTT, last token": ((61.50, 73.39), (60.52, 76.31), (64.64, 72.40), (53.55, 72.12)),
        },
    ),
    "genai-bench": Published(
        "GenAI-Bench",
        _LIU,
        1891,
        {
            "random": ((33.67, 49.84),),
            "VideoScore": ((49.03, 71.69),),
            "LiFT": ((37.06, 58.39),),
            "VisionReward": ((51.56, 72.41),),
            "VideoReward": ((49.41, 72.89),),
            "VideoReward by regression": ((48.28, 71.13),),
            "VideoReward, BT": ((47.74, 71.21),),
            "VideoReward, BTT, last token": ((48.27, 70.89),),
        },
    ),
}
"""By the layout of the data."""

RANKING_SOURCE = "Zhang et al. 2024, arXiv:2412.15159, Table 2, on 8 candidates of the authors' own"
RANKING_CANDIDATES = 8
RANKING: Mapping[str, tuple[float, float, float, float]] = {
    "LAION aesthetic": (42.7, 12.5, 26.2, 77.4),
    "ImageReward": (44.2, 14.3, 27.4, 78.7),
    "MPS": (45.5, 15.1, 27.4, 79.5),
    "HPSv2": (46.3, 24.6, 31.1, 80.1),
    "VideoScore": (67.2, 41.4, 62.7, 92.7),
}
"""MRR, Recall@1, @2 and @4 in percent. In four of the five rows the MRR exceeds what the recalls allow (a video outside
the first k has at most rank k + 1): take the order from them, not the values."""
