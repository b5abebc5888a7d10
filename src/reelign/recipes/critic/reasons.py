"""What judges wrote, made to fit a question: a reason that names a side is right in one order of two videos alone."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

_FIRST = ("A", "1", "first", "left")
NAMED = re.compile(
    r"(?:\b(?i:the)\s+)?\b(?:(?P<before>(?i:first|second|left|right))(?i:-hand)?\s+(?i:video|clip|one)"
    r"|(?i:video|clip)\s+(?P<after>[AB12]))\b"
)
"""A side that cannot be anything else: `video A`, `the left clip`, `the second one`."""
PERHAPS = re.compile(r"\b(?:[AB]|(?i:first|second|left|right|former|latter))\b")
"""A word that may name a side: in `moves left` it does not, in `left is sharper` it does."""


def reason_in_order(reason: str, names: tuple[str, str], *, turned: bool) -> str | None:
    """A reason with its sides called as the question calls them.

    Args:
        reason: as written by someone who saw two videos, A, first or left the one and B, second or right the other.
        names: what the question calls the first and the second video.
        turned: whether the question shows them the other way round.
    Returns:
        None where `turned` cannot be done for sure: a word is left that may name a side.
    """
    if turned and PERHAPS.search(NAMED.sub("", reason)):
        return None

    def name(match: re.Match[str]) -> str:
        side = match["after"] or match["before"].lower()
        return names[(side not in _FIRST) != turned]

    return NAMED.sub(name, reason).strip()


def defects_told(defects: Sequence[Mapping[str, object]] | None, names: Mapping[str, str]) -> str:
    """Tagged defects as a sentence: `Video A: flicker from 0.5 s to 1.2 s; blur from 0.0 s to 2.0 s.`

    Args:
        defects: as a judgement holds them.
        names: video id to what the question calls it; '' for a question of one video. Defects of others are not told.
    """
    by_video: dict[str, list[str]] = {}
    for each in defects or ():
        if (video := str(each["video"])) in names:
            span = f"from {float(str(each['start_s'])):.1f} s to {float(str(each['end_s'])):.1f} s"
            by_video.setdefault(video, []).append(f"{each['tag']} {span}")
    told = [(name, "; ".join(by_video[video])) for video, name in names.items() if video in by_video]
    return " ".join(f"{name}: {what}." if name else f"{what[:1].upper()}{what[1:]}." for name, what in told)
