"""Segments out of judgements: the stretches of a pair in which judges marked defects have verdicts of their own.

As DenseDPO (Wu et al. 2025, arXiv:2506.03517) trains on verdicts by stretches of time; here they follow from what the
judges of a whole pair marked on the way.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from itertools import groupby, permutations

from reelign.errors import ReelignError
from reelign.records import Judgement, Video
from reelign.records.answers import CANNOT_SAY
from reelign.records.pair_policies import Pair
from reelign.records.segments import Segment, Segments

LABELS = {(False, False): 1, (False, True): 1, (True, False): -1, (True, True): 0}
"""By whether the chosen and the rejected video have a defect. Where neither has, the pair's own verdict holds."""


def defect_segments(pairs: Sequence[Pair], judgements: Iterable[Judgement], videos: Iterable[Video]) -> list[Segments]:
    """The segments of each pair, in frames; none where nobody who judged both videos marked a defect.

    Where one of the two has a defect the other is better, where both have it is a tie, and elsewhere the pair's verdict
    holds; stretches that differ in this are segments of their own, so that a marked one weighs as much as all the rest.
    A pair in which all is a tie is judged as a whole.

    Args:
        pairs: of which the dimensions in `margins` count, and their defects.
        judgements: that hold. Only those count in which both videos of a pair were shown: who saw one alone says
            nothing of the other. All judges' marks are taken together.
        videos: all of the pairs.
    Raises:
        ReelignError: no pair has a marked defect.
    """
    by_id = {video.id: video for video in videos}
    marks: dict[tuple[str, str], list[tuple[str, str, float, float]]] = {}
    for each in judgements:
        if each.defects and each.verdict != CANNOT_SAY:
            shown = [name for name in each.candidates or (each.video_a, each.video_b) if name is not None]
            own = [(each.dimension, mark["video"], mark["start_s"], mark["end_s"]) for mark in each.defects]
            for both in permutations(shown, 2):
                marks.setdefault(both, []).extend(own)
    found = []
    for pair in pairs:
        told = [mark[1:] for mark in marks.get((pair.chosen, pair.rejected), ()) if mark[0] in pair.margins]
        chosen = _marked_frames(by_id[pair.chosen], told)
        rejected = _marked_frames(by_id[pair.rejected], told)
        found.append(_segments(by_id[pair.chosen], chosen, rejected))
    if not any(found):
        raise ReelignError(
            "No judgement of the pairs marks a defect in a stretch of a video, and defects=segments trains on them.",
            "Judge with annotate.defects set, or leave align's setting defects at 'ignored'.",
        )
    return found


def _marked_frames(video: Video, marks: Iterable[tuple[str, float, float]]) -> set[int]:
    """The frames on which a defect was marked; a mark's ends are frames that the judge saw it on."""
    frames: set[int] = set()
    for name, start_s, end_s in marks:
        if name == video.id:
            # A thousandth of a frame, since a frame's time does not come back exactly from a browser.
            first, last = (math.floor(second * video.fps + 1e-3) for second in (start_s, end_s))
            frames |= set(range(first, min(last + 1, video.num_frames)))
    return frames


def _segments(video: Video, chosen: set[int], rejected: set[int]) -> Segments:
    runs = [
        (defects, list(frames))
        for defects, frames in groupby(range(video.num_frames), lambda frame: (frame in chosen, frame in rejected))
    ]
    found = tuple(
        Segment(
            # Between two frames, where no rounding moves one to the other side.
            start_s=max(0.0, (frames[0] - 0.5) / video.fps),
            end_s=math.inf if frames[-1] == video.num_frames - 1 else (frames[-1] + 0.5) / video.fps,
            label=LABELS[defects],
        )
        for defects, frames in runs
    )
    marked = any(any(defects) for defects, _ in runs)
    return found if marked and any(each.label for each in found) else ()
