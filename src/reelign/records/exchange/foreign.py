"""What the formats of other annotation tools share: judgements grouped by what they are about, and back."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from reelign.errors import ReelignError
from reelign.records.answers import ANSWERS, CANNOT_SAY, Kind
from reelign.records.exchange.bundle import Bundle, SharedVideo, as_row, from_row
from reelign.records.schema import Judgement, content_key

OWN = "reelign"
"""The key under which stands what the other tool has no place for."""

_SAME = ("same", "equal", "both", "none", "neither")


@dataclass(frozen=True, slots=True)
class Question:
    """Some videos, and what was said of them."""

    videos: list[SharedVideo]
    judgements: list[Judgement] = field(default_factory=list)


def questions(bundle: Bundle) -> list[Question]:
    """Judgements by the videos that they are about, and last a question without any per video nobody judged."""
    known = {video.id: video for video in bundle.videos}
    found: dict[tuple[str, ...], Question] = {}
    for judgement in bundle.judgements:
        ids = judgement.candidates or [each for each in (judgement.video_a, judgement.video_b) if each]
        question = found.setdefault(tuple(ids), Question([known[each] for each in ids]))
        question.judgements.append(judgement)
    judged = {video for ids in found for video in ids}
    return [*found.values(), *(Question([video]) for video in bundle.videos if video.id not in judged)]


def own_fields(judgement: Judgement) -> dict[str, Any]:
    """A judgement's values but for its task, which does not come along."""
    return {name: value for name, value in as_row(judgement).items() if value is not None and name != "task"}


def restore(values: Mapping[str, Any]) -> Judgement:
    """What `own_fields` took apart."""
    judgement: Judgement = from_row(Judgement, values)
    return judgement


def shared(video: SharedVideo) -> dict[str, Any]:
    """A video's values."""
    return as_row(video)


def load(path: str | Path) -> list[dict[str, Any]]:
    """A JSON list of objects.

    Raises:
        ReelignError: anything else.
    """
    try:
        found = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ReelignError(f"{path} cannot be read: {error}", "Give a JSON export.") from error
    if not isinstance(found, list):
        raise ReelignError(f"{path} is no list but {type(found).__name__}", "Give a JSON export of many records.")
    return found


def videos_of(data: Mapping[str, Any], where: str) -> list[SharedVideo]:
    """The videos that a task of another tool shows: our own description of them, or their paths."""
    if data.get(OWN):
        return [from_row(SharedVideo, each, where=where) for each in data[OWN]]
    names = [name for name in ("video_a", "video_b", "video") if name in data]
    if names not in (["video_a", "video_b"], ["video"]) or "prompt" not in data:
        raise ReelignError(
            f"{where} has the fields {', '.join(data)}", "It needs prompt, and video_a and video_b, or video."
        )
    fps, num_frames = (finite(data.get(name) or 0, where, name) for name in ("fps", "num_frames"))
    return [
        SharedVideo(
            id=content_key(data[name]),
            prompt=data["prompt"],
            path=data[name],
            generator=data.get(name.replace("video", "model"), ""),
            fps=fps,
            num_frames=int(num_frames),
        )
        for name in names
    ]


def finite(value: Any, where: str, name: str) -> float:
    """A finite number, or a text that is one.

    Raises:
        ReelignError: anything else.
    """
    try:
        found = float(value)
    except (TypeError, ValueError):
        found = math.nan
    if not math.isfinite(found):
        raise ReelignError(f"{where}: {name} is {value!r} and no number", "Correct it or leave it out.")
    return found


def said(
    verdict: str,
    videos: Sequence[str],
    *,
    where: str,
    dimension: str,
    judge: str,
    duration_s: float | None = None,
    created: str | None = None,
) -> Judgement:
    """A judgement that another tool recorded; its key follows from what it says, so that it is recorded once.

    Raises:
        ReelignError: an answer that is not known, or a time that is none.
    """
    kind: Kind = "pairwise" if len(videos) == 2 else "rating" if verdict.isdigit() else "three_level"
    verdict = "tie" if kind == "pairwise" and verdict in _SAME else verdict
    if verdict not in (*ANSWERS[kind], CANNOT_SAY):
        raise ReelignError(
            f"{where}: the answer {verdict!r} on {dimension!r} is not known",
            f"Known are {', '.join((*ANSWERS[kind], CANNOT_SAY))}.",
        )
    judgement = Judgement(
        key=content_key(kind, list(videos), dimension, judge, verdict, created),
        kind=kind,
        video_a=videos[0],
        video_b=videos[1] if len(videos) == 2 else None,
        dimension=dimension,
        verdict=verdict,
        judge=judge,
        judge_version="",
        duration_s=duration_s,
    )
    if created:
        judgement.created = _time(created, where)
    return judgement


def _time(text: Any, where: str) -> datetime:
    try:
        found = datetime.fromisoformat(text)
    except (TypeError, ValueError) as error:
        raise ReelignError(f"{where}: {text!r} is no time", "Write it as 2026-01-31T12:00:00+00:00.") from error
    return found if found.tzinfo else found.replace(tzinfo=UTC)  # tools write UTC where they write no zone
