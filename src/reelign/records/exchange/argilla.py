"""Argilla's JSON: one record per set of videos, a question per dimension, a response per judge.

The format of `dataset.records.to_json()` of Argilla 2. What it has no place for stands in the record's metadata under
`reelign`, one entry per response in their order, and comes back from there.
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
    load,
    own_fields,
    questions,
    restore,
    said,
    shared,
    videos_of,
)
from reelign.records.schema import Judgement


def write_argilla(path: str | Path, bundle: Bundle) -> None:
    """Write videos and judgements; tasks and scores have no place here."""
    records = [_record(number, question) for number, question in enumerate(questions(bundle), start=1)]
    write_text(Path(path), json.dumps(records, ensure_ascii=False, indent=1))


def read_argilla(path: str | Path) -> Bundle:
    """Read records, ours or Argilla's own.

    In its own, the fields have prompt, video_a and video_b (or video), and each question is named as its dimension.

    Raises:
        ReelignError: no such records, or an answer that is not known.
    """
    videos: dict[str, SharedVideo] = {}
    judgements: list[Judgement] = []
    for number, record in enumerate(load(path), start=1):
        where = f"{path}, record {number}"
        try:
            own = (record.get("metadata") or {}).get(OWN) or {}
            shown = videos_of({**record["fields"], OWN: own.get("videos")}, where)
            videos |= {video.id: video for video in shown}
            if own:
                judgements += [restore(each) for each in own["judgements"]]
                continue
            for dimension, responses in (record.get("responses") or {}).items():
                judgements += [
                    said(
                        str(response["value"]).lower(),
                        [video.id for video in shown],
                        where=where,
                        dimension=dimension,
                        judge=str(response["user_id"]),
                    )
                    for response in responses
                    if response.get("status", "submitted") == "submitted"
                ]
        except (KeyError, TypeError, AttributeError) as error:
            raise ReelignError(
                f"{where} is not as Argilla writes it: {error!r}", "Export it with dataset.records.to_json()."
            ) from error
    return Bundle(videos=list(videos.values()), judgements=judgements)


def _record(number: int, question: Question) -> dict[str, Any]:
    names = ("video_a", "video_b") if len(question.videos) == 2 else ("video",)
    responses: dict[str, list[dict[str, Any]]] = {}
    for judgement in question.judgements:
        response = {"value": judgement.verdict, "user_id": judgement.judge, "status": "submitted"}
        responses.setdefault(judgement.dimension, []).append(response)
    return {
        "id": str(number),
        "status": "completed" if question.judgements else "pending",
        "fields": {
            "prompt": " | ".join(sorted({video.prompt for video in question.videos})),
            **dict(zip(names, (video.path for video in question.videos), strict=False)),
        },
        "metadata": {
            OWN: {
                "videos": [shared(video) for video in question.videos],
                "judgements": [own_fields(each) for each in question.judgements],
            }
        },
        "suggestions": {},
        "responses": responses,
        "vectors": {},
    }
