"""What may be answered to each kind of question, and the check of a judgement before it is recorded."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal, TypedDict

from reelign.errors import ReelignError

if TYPE_CHECKING:
    from reelign.records.schema import Judgement

Verdict = Literal["a", "b", "tie"]
"""The outcome of one comparison on one dimension: the better video, or neither."""

VERDICTS: tuple[Verdict, ...] = ("a", "b", "tie")

Kind = Literal["pairwise", "best_of", "three_level", "rating"]
"""pairwise: two videos. best_of: the best of N. three_level: one video, good, normal or bad. rating: one, 1 to 5."""

CANNOT_SAY = "cannot_say"
"""An answer, and no voice in the vote: the judge looked and could not tell."""
WITHDRAWN = "withdrawn"
"""Not an answer: the judge takes an earlier one back."""

GRADES: dict[Kind, tuple[str, ...]] = {"three_level": ("bad", "normal", "good"), "rating": ("1", "2", "3", "4", "5")}
"""Of one video, from worst to best."""

ANSWERS: dict[Kind, tuple[str, ...]] = {"pairwise": VERDICTS, **GRADES}
"""Beside 'cannot_say'. Best-of-N is answered by the place of the best among the candidates as shown, from '0'."""

STRENGTHS = ("slightly", "clearly")


class Defect(TypedDict):
    """Something wrong in a stretch of a video."""

    tag: str
    video: str
    start_s: float
    end_s: float


def check_judgement(judgement: Judgement) -> None:
    """Refuse what no judge can have said.

    Raises:
        ReelignError: an unknown kind, a verdict that the kind does not allow, the wrong number of videos, or defects
            outside of them.
    """
    if judgement.kind not in (*ANSWERS, "best_of"):
        raise ReelignError(
            f"judgements of kind {judgement.kind!r} do not exist", f"A kind is one of {', '.join(ANSWERS)}, best_of."
        )
    _check_videos(judgement)
    _check_verdict(judgement)
    if judgement.duration_s is not None and not 0 <= judgement.duration_s < math.inf:
        raise ReelignError(f"a judgement cannot take {judgement.duration_s} s", "Leave the time out where unknown.")
    if judgement.defects:
        for defect in judgement.defects:
            _check_defect(defect, judgement.candidates or [judgement.video_a, judgement.video_b])


def _check_verdict(judgement: Judgement) -> None:
    allowed = ANSWERS.get(judgement.kind) or tuple(str(place) for place in range(len(judgement.candidates or ())))  # type: ignore[call-overload]
    if judgement.verdict == WITHDRAWN:
        if judgement.supersedes is None:
            raise ReelignError("a withdrawn judgement must say which", "Name its key in supersedes.")
    elif judgement.verdict not in allowed and judgement.verdict != CANNOT_SAY:
        raise ReelignError(
            f"verdict {judgement.verdict!r} of judge {judgement.judge!r} on {judgement.dimension!r} does not exist",
            f"A verdict is one of {', '.join((*allowed, CANNOT_SAY))}.",
        )
    if judgement.strength is None:
        return
    if judgement.strength not in STRENGTHS or judgement.kind != "pairwise" or judgement.verdict not in ("a", "b"):
        raise ReelignError(
            f"strength {judgement.strength!r} does not go with {judgement.kind} verdict {judgement.verdict!r}",
            "Strength is slightly or clearly, of a pair with a better video.",
        )


def _check_videos(judgement: Judgement) -> None:
    if judgement.shown_left not in ("a", "b"):
        raise ReelignError(
            f"shown_left must be 'a' or 'b', got {judgement.shown_left!r}", "Name the video on the left."
        )
    if judgement.kind == "best_of":
        names = judgement.candidates or []
        if len(names) < 2 or len(set(names)) < len(names) or names[0] != judgement.video_a or judgement.video_b:
            raise ReelignError(
                f"best_of needs at least two different candidates and video_a the first of them, got {names}",
                "Give candidates in the order shown, video_a=candidates[0], and no video_b.",
            )
        return
    if judgement.candidates is not None:
        raise ReelignError(f"{judgement.kind} has no candidates", "Give them as video_a and video_b.")
    if judgement.video_a == judgement.video_b:
        raise ReelignError(f"video {judgement.video_a} is compared with itself", "Judge two different videos.")
    if (judgement.video_b is not None) != (judgement.kind == "pairwise"):
        wanted = "two videos, video_a and video_b" if judgement.kind == "pairwise" else "one video, video_a"
        raise ReelignError(f"{judgement.kind} judges {wanted}", f"Give {wanted}.")


def _check_defect(defect: Mapping[str, Any], videos: list[str | None] | list[str]) -> None:
    whole = set(defect) == set(Defect.__annotations__) and defect["tag"] and defect["video"] in videos
    if not whole or not 0 <= defect["start_s"] <= defect["end_s"] < math.inf:
        raise ReelignError(
            f"defect {dict(defect)} is not a tag in a stretch of a judged video",
            "A defect has tag, video (an id of the judgement's), and 0 <= start_s <= end_s in seconds.",
        )
