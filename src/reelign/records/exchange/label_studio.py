"""Label Studio's JSON: one task per set of videos, one annotation per judgement.

The export format of Label Studio 1.x, with a `Pairwise` or `Choices` control per dimension. What it has no place for
(the shown order, strength, defects, keys) stands under `meta.reelign` of each result, and comes back from there.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from reelign.errors import ReelignError
from reelign.files import write_text
from reelign.records.exchange.bundle import Bundle, SharedVideo
from reelign.records.exchange.foreign import (
    OWN,
    Question,
    finite,
    load,
    own_fields,
    questions,
    restore,
    said,
    shared,
    videos_of,
)
from reelign.records.schema import Judgement

_SIDES = {"left": "a", "right": "b"}
_ANSWERED = {"pairwise": "selected", "choices": "choices", "rating": "rating"}
"""The controls that judge, and where in its value each says what was chosen."""


def write_label_studio(path: str | Path, bundle: Bundle) -> None:
    """Write videos and judgements; tasks and scores have no place here."""
    tasks = [
        {"id": number, "data": _data(question), "annotations": [_annotation(each) for each in question.judgements]}
        for number, question in enumerate(questions(bundle), start=1)
    ]
    write_text(Path(path), json.dumps(tasks, ensure_ascii=False, indent=1))


def read_label_studio(path: str | Path) -> Bundle:
    """Read an export, ours or Label Studio's own.

    In one of its own, `data` has prompt, video_a and video_b (or video), and each control is named as its dimension;
    `Pairwise` says left or right, `Choices` and `Rating` say what `answers.ANSWERS` knows. Other controls, such as a
    comment's, and those left empty are no judgements.

    Raises:
        ReelignError: no such export, or an answer that is not known.
    """
    videos: dict[str, SharedVideo] = {}
    judgements = []
    for number, task in enumerate(load(path), start=1):
        where = f"{path}, task {number}"
        try:
            shown = videos_of(task["data"], where)
            videos |= {video.id: video for video in shown}
            for annotation in task.get("annotations", []):
                judgements += [
                    _judgement(result, annotation, [video.id for video in shown], where)
                    for result in annotation.get("result", [])
                    if _is_answered(result)
                ]
        except (KeyError, TypeError, AttributeError) as error:
            raise ReelignError(f"{where} is not as Label Studio exports it: {error!r}", "Export it as JSON.") from error
    return Bundle(videos=list(videos.values()), judgements=judgements)


def _data(question: Question) -> dict[str, Any]:
    names = ("video_a", "video_b") if len(question.videos) == 2 else ("video",)
    paths: dict[str, Any] = dict(zip(names, (video.path for video in question.videos), strict=False))
    prompts = {video.prompt for video in question.videos}
    return {"prompt": " | ".join(sorted(prompts)), **paths, OWN: [shared(video) for video in question.videos]}


def _annotation(judgement: Judgement) -> dict[str, Any]:
    result = {
        "from_name": judgement.dimension,
        "to_name": "videos",
        "type": "choices",
        "value": {"choices": [judgement.verdict]},
        "meta": {OWN: own_fields(judgement)},
    }
    return {
        "completed_by": judgement.judge,
        "result": [result],
        "lead_time": judgement.duration_s,
        "created_at": judgement.created.isoformat(),
    }


def _is_answered(result: dict[str, Any]) -> bool:
    """Whether a result says something that can be a judgement."""
    field = _ANSWERED.get(result["type"])
    return field is not None and bool(result["value"].get(field))


def _judgement(result: dict[str, Any], annotation: dict[str, Any], videos: list[str], where: str) -> Judgement:
    own = (result.get("meta") or {}).get(OWN)
    if own:
        return restore(own)
    chosen = result["value"][_ANSWERED[result["type"]]]
    verdict = str(chosen[0] if isinstance(chosen, list) else chosen).lower()
    lead_time = annotation.get("lead_time")
    who = annotation.get("completed_by", "unknown")
    return said(
        _SIDES.get(verdict, verdict),
        videos,
        where=where,
        dimension=str(result["from_name"]),
        judge=str(who.get("email") or who.get("id") if isinstance(who, dict) else who),
        duration_s=None if lead_time is None else finite(lead_time, where, "lead_time"),
        created=annotation.get("created_at"),
    )
