"""From what is sent to what is recorded, on every scale."""

from __future__ import annotations

from pathlib import Path

import pytest

from annotate.projects import desk_of, fill, says
from reelign.annotate import DefectTag, Dimension
from reelign.annotate.answers import Mark
from reelign.errors import ReelignError
from reelign.records import Workspace

TWO = (Dimension(name="VQ"), Dimension(name="MQ"))


@pytest.mark.parametrize(("scale", "option"), [("three_level", "good"), ("rating", "4"), ("best_of", "2")])
def test_other_scales_are_recorded_as_their_kind(filled: Workspace, scale: str, option: str) -> None:
    desk = desk_of(filled, "ann", scale=scale, best_of=3)
    question = desk.work("ann").questions[0]
    desk.answer("ann", says(desk, question, option))
    (made,) = filled.judgements()
    assert (made.kind, made.verdict) == (scale, option)
    assert made.candidates == ([video.id for video in question.videos] if scale == "best_of" else None)


def test_time_is_shared_reasons_repeated_and_defects_stand_with_their_dimension(filled: Workspace) -> None:
    desk = desk_of(filled, "ann", dimensions=TWO, defects=(DefectTag(tag="flicker", dimension="MQ"),))
    question = desk.work("ann").questions[0]
    mark = Mark(tag="flicker", place=1, start_s=0.5, end_s=1.0)
    desk.answer("ann", says(desk, question, "same", duration_s=6.0, reason=" both blur ", defects=[mark]))
    vq, mq = filled.judgements()
    assert (vq.dimension, vq.duration_s, vq.reason, vq.defects) == ("VQ", 3.0, "both blur", None)
    assert mq.defects == [{"tag": "flicker", "video": question.videos[1].id, "start_s": 0.5, "end_s": 1.0}]
    assert vq.task == mq.task != None  # noqa: E711


def test_the_version_of_a_person_changes_with_what_was_asked(tmp_path: Path) -> None:
    versions = set()
    for number, text in enumerate(("Look at colour.", "Look at shapes.", "Look at shapes.")):
        workspace = fill(Workspace.create(tmp_path / str(number), model="m"), prompts=1, candidates=2)
        desk = desk_of(workspace, "ann", instructions=text)
        desk.answer("ann", says(desk, desk.work("ann").questions[0]))
        versions.add(workspace.judgements()[0].judge_version)
    assert len(versions) == 2


@pytest.mark.parametrize(
    ("settings", "more", "words"),
    [
        ({"reason": "required"}, {"reason": "  "}, "asks for a reason"),
        ({"defects": (DefectTag(tag="flicker"),), "defect_tags": "required"}, {}, "asks for defects"),
        ({}, {"defects": [Mark(tag="blur", place=0, start_s=0, end_s=1)]}, "'blur' is not one"),
        ({"dimensions": TWO}, {"answers": {"VQ": "same"}}, "not every question is answered"),
    ],
)
def test_what_is_missing_is_asked_for(filled: Workspace, settings, more, words) -> None:
    desk = desk_of(filled, "ann", **settings)
    answer = says(desk, desk.work("ann").questions[0], "same").model_copy(update=more)
    with pytest.raises(ReelignError, match=words):
        desk.answer("ann", answer)
    assert filled.judgements() == []
