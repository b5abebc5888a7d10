"""From what a judge sends to judgements: as it was shown on the page, as it stands in the record."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from reelign.annotate.settings import AnnotateSettings
from reelign.errors import ReelignError
from reelign.records import Judgement, Showing, Task, content_key
from reelign.records.answers import CANNOT_SAY, GRADES

SIDES = {
    "left_clearly": (0, "clearly"),
    "left_slightly": (0, "slightly"),
    "right_slightly": (1, "slightly"),
    "right_clearly": (1, "clearly"),
}
SAME = "same"
PAIRWISE = ("left_clearly", "left_slightly", SAME, "right_slightly", "right_clearly")

Name = Annotated[str, Field(max_length=200)]


class Mark(BaseModel):
    """A defect, in the video at a place counted from the left."""

    model_config = ConfigDict(extra="forbid")

    tag: Name
    place: int = Field(ge=0, le=8)
    start_s: float = Field(ge=0, le=86_400)
    end_s: float = Field(ge=0, le=86_400)


class Answer(BaseModel):
    """All that a judge says of one showing."""

    model_config = ConfigDict(extra="forbid")

    showing: Name
    revision: int = Field(ge=0)
    answers: dict[Name, Name] = Field(max_length=50)
    """Dimension to one of `options`."""
    reason: str = Field(default="", max_length=4000)
    defects: list[Mark] = Field(default_factory=list, max_length=50)
    no_defects: bool = False
    """The judge looked for defects and found none."""
    duration_s: float | None = Field(default=None, ge=0, le=86_400)


def options(settings: AnnotateSettings) -> list[str]:
    """What may be answered to each question, by its keys on the page; 'cannot_say' is the last."""
    if settings.scale == "pairwise":
        return [*PAIRWISE, CANNOT_SAY]
    if settings.scale == "best_of":
        return [*(str(place) for place in range(settings.best_of)), CANNOT_SAY]
    return [*GRADES[settings.scale], CANNOT_SAY]


def version_of(settings: AnnotateSettings) -> str:
    """Of a person as a judge: changes with whatever the person was told."""
    asked = [[each.name, settings.question(each), each.help] for each in settings.dimensions]
    return content_key(settings.scale, settings.instructions, asked)[:12]


def key_of(showing: Showing, dimension: str) -> str:
    """The key of the judgement that answers a showing: sent twice, it is recorded once."""
    return content_key(showing.id, showing.revision, dimension)


def judgements(answer: Answer, showing: Showing, task: Task, settings: AnnotateSettings) -> list[Judgement]:
    """One judgement per dimension; the time is shared among them.

    Raises:
        ReelignError: a question is not answered, an answer is none of those offered, or what is required is missing.
    """
    _check(answer, showing, settings)
    share = None if answer.duration_s is None else answer.duration_s / len(settings.names)
    return [
        Judgement(
            key=key_of(showing, name),
            dimension=name,
            judge=showing.judge,
            judge_version=version_of(settings),
            reason=answer.reason.strip() or None,
            defects=_defects(answer, showing, name, settings) or None,
            duration_s=share,
            task=task.id,
            **_verdict(answer.answers[name], showing, task),  # type: ignore[arg-type]
        )
        for name in settings.names
    ]


def _verdict(option: str, showing: Showing, task: Task) -> dict[str, object]:
    if task.kind == "best_of":
        return {"kind": "best_of", "video_a": showing.videos[0], "candidates": showing.videos, "verdict": option}
    if task.kind != "pairwise":
        return {"kind": task.kind, "video_a": showing.videos[0], "verdict": option}
    first, second = task.videos
    shown = {"video_a": first, "video_b": second, "shown_left": "a" if showing.videos[0] == first else "b"}
    if option in SIDES:
        place, strength = SIDES[option]
        return {**shown, "verdict": "a" if showing.videos[place] == first else "b", "strength": strength}
    return {**shown, "verdict": "tie" if option == SAME else CANNOT_SAY}


def _defects(answer: Answer, showing: Showing, dimension: str, settings: AnnotateSettings) -> list[dict[str, object]]:
    """Those that belong to a dimension, so that each is recorded once."""
    home = {each.tag: each.dimension or settings.names[0] for each in settings.defects}
    return [
        {"tag": mark.tag, "video": showing.videos[mark.place], "start_s": mark.start_s, "end_s": mark.end_s}
        for mark in answer.defects
        if home[mark.tag] == dimension
    ]


def _check(answer: Answer, showing: Showing, settings: AnnotateSettings) -> None:
    if set(answer.answers) != set(settings.names):
        raise ReelignError("not every question is answered, or one that nobody asked is", "Answer each question once.")
    for name, option in answer.answers.items():
        if option not in options(settings):
            raise ReelignError(f"the answer {option!r} to {name} is none of those offered", "Choose one of them.")
    if settings.reason == "required" and not answer.reason.strip():
        raise ReelignError("this project asks for a reason", "Write a few words on why you chose so.")
    if settings.defect_tags == "required" and not answer.defects and not answer.no_defects:
        raise ReelignError("this project asks for defects", "Mark at least one, or tick that there are none.")
    tags = {each.tag for each in settings.defects}
    for mark in answer.defects:
        if mark.tag not in tags or mark.place >= len(showing.videos) or mark.start_s > mark.end_s:
            raise ReelignError(f"the defect {mark.tag!r} is not one that can be marked there", "Mark it again.")
