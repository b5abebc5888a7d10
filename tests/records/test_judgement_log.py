"""Judgements are added and never changed: corrections, withdrawals, judges who do not count, what is refused."""

from __future__ import annotations

from typing import Any

import pytest

from records.test_workspace import judgement, video
from reelign.errors import ReelignError
from reelign.records import Judgement, Workspace, majority
from reelign.records.answers import CANNOT_SAY
from reelign.records.judgement_log import withdrawal
from reelign.records.schema import Score, Task

DEFECT = {"tag": "flicker", "video": "v1", "start_s": 0.5, "end_s": 1.25}


@pytest.fixture
def filled(workspace: Workspace) -> Workspace:
    (prompt,) = workspace.add_prompts(["a red square"], "train")
    workspace.add_videos(video(f"v{index}", prompt.id, index=index) for index in range(4))
    return workspace


def every_kind() -> list[Judgement]:
    own: dict[str, Any] = {"dimension": "overall", "judge": "ann", "judge_version": "1"}
    return [
        Judgement(video_a="v0", video_b="v1", verdict="a", strength="slightly", shown_left="b", **own),
        Judgement(video_a="v0", video_b="v2", verdict=CANNOT_SAY, reason="one does not play", **own),
        Judgement(kind="best_of", video_a="v3", candidates=["v3", "v1", "v0"], verdict="2", duration_s=4.5, **own),
        Judgement(kind="three_level", video_a="v1", verdict="normal", defects=[DEFECT], **own),
        Judgement(kind="rating", video_a="v2", verdict="5", **own),
    ]


def test_every_kind_comes_back_as_it_was_given(filled: Workspace) -> None:
    given = every_kind()
    filled.add_judgements(given)
    fields = [name for name in Judgement.__dataclass_fields__ if name != "id"]
    for before, after in zip(given, filled.judgements(), strict=True):
        assert [getattr(before, name) for name in fields] == [getattr(after, name) for name in fields]


def test_handed_in_twice_is_recorded_once(filled: Workspace) -> None:
    one = judgement("v0", "v1")
    filled.add_judgements([one, judgement("v2", "v3")])
    filled.add_judgements([one])
    assert len(filled.judgements(history=True)) == 2


def test_a_correction_is_a_new_row_and_the_old_one_stays(filled: Workspace) -> None:
    old = judgement("v0", "v1", "a")
    new = judgement("v0", "v1", "b")
    new.supersedes = old.key
    newest = judgement("v0", "v1", "tie")
    newest.supersedes = new.key
    filled.add_judgements([old, new])
    filled.add_judgements([newest])
    assert [each.verdict for each in filled.judgements()] == ["tie"]
    assert [each.verdict for each in filled.judgements(history=True)] == ["a", "b", "tie"]


def test_undo_is_a_row_and_can_be_undone(filled: Workspace) -> None:
    filled.add_judgements([judgement("v0", "v1", "a"), judgement("v0", "v2", "b")])
    first, second = filled.judgements()
    filled.withdraw(first)
    assert [each.key for each in filled.judgements()] == [second.key]
    assert [each.verdict for each in filled.judgements(history=True)] == ["a", "b", "withdrawn"]
    again = judgement("v0", "v1", "tie")
    again.supersedes = filled.judgements(history=True)[-1].key
    filled.add_judgements([again])
    assert {each.verdict for each in filled.judgements()} == {"b", "tie"}


def test_what_cannot_be_superseded(filled: Workspace) -> None:
    filled.add_judgements([judgement("v0", "v1", "a")])
    (old,) = filled.judgements()
    correction = judgement("v0", "v1", "b")
    correction.supersedes = old.key
    filled.add_judgements([correction])
    filled.add_judgements([correction])  # handed in twice is fine

    for changes, message in (
        ({}, "superseded already"),
        ({"supersedes": "nobody's"}, "no judgement nobody's"),
        ({"supersedes": correction.key, "judge": "bob"}, "not of the same judge"),
        ({"supersedes": correction.key, "video_b": "v2"}, "not of the same judge"),
        ({"supersedes": correction.key, "dimension": "MQ"}, "not of the same judge"),
    ):
        wrong = judgement("v0", "v1", "tie")
        wrong.supersedes = old.key
        for name, value in changes.items():
            setattr(wrong, name, value)
        with pytest.raises(ReelignError, match=message):
            filled.add_judgements([judgement("v2", "v3"), wrong])
    assert len(filled.judgements(history=True)) == 2, "a refused batch leaves nothing"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"kind": "guess"}, "kind 'guess' do not exist"),
        ({"verdict": "good"}, "verdict 'good' of judge 'ann'"),
        ({"verdict": "withdrawn"}, "must say which"),
        ({"strength": "very"}, "strength 'very'"),
        ({"verdict": "tie", "strength": "clearly"}, "strength 'clearly' does not go"),
        ({"shown_left": "left"}, "shown_left"),
        ({"video_b": None}, "pairwise judges two videos"),
        ({"kind": "rating", "verdict": "3"}, "rating judges one video"),
        ({"kind": "rating", "video_b": None, "verdict": "6"}, "verdict '6'"),
        ({"kind": "three_level", "video_b": None, "verdict": "great"}, "verdict 'great'"),
        ({"kind": "best_of", "video_b": None, "candidates": ["v0"]}, "at least two different candidates"),
        ({"kind": "best_of", "video_b": None, "candidates": ["v1", "v0"], "verdict": "0"}, "video_a the first"),
        ({"kind": "best_of", "video_b": None, "candidates": ["v0", "v1"], "verdict": "2"}, "verdict '2'"),
        ({"candidates": ["v0", "v1"]}, "pairwise has no candidates"),
        ({"defects": [{**DEFECT, "video": "v3"}]}, "not a tag in a stretch"),
        ({"defects": [{**DEFECT, "end_s": 0.25}]}, "not a tag in a stretch"),
        ({"defects": [{"tag": "flicker"}]}, "not a tag in a stretch"),
        ({"duration_s": -1.0}, "cannot take"),
    ],
)
def test_what_no_judge_can_have_said(filled: Workspace, changes: dict[str, Any], message: str) -> None:
    wrong = judgement("v0", "v1")
    for name, value in changes.items():
        setattr(wrong, name, value)
    with pytest.raises(ReelignError, match=message):
        filled.add_judgements([wrong])
    assert filled.judgements() == []


def test_an_excluded_judge_stays_in_the_record_and_out_of_the_vote(filled: Workspace) -> None:
    filled.add_judgements(
        judgement("v0", "v1", verdict, judge=name) for name, verdict in zip("abc", "aab", strict=True)
    )
    assert [each.verdict for each in majority(filled.judgements())] == ["a"]
    filled.set_judge("a", excluded=True)
    assert [each.judge for each in filled.judgements()] == ["b", "c"]
    assert [each.verdict for each in majority(filled.judgements())] == ["tie"]
    assert len(filled.judgements(history=True)) == 3
    filled.set_judge("a", excluded=False)
    assert [each.verdict for each in majority(filled.judgements())] == ["a"]


def test_judges_are_people_unless_said_otherwise(filled: Workspace) -> None:
    filled.set_judge("VideoReward", kind="reward")
    filled.add_judgements([judgement("v0", "v1"), judgement("v0", "v1", judge="VideoReward")])
    assert [(each.name, each.kind, each.excluded) for each in filled.judges()] == [
        ("VideoReward", "reward", False),
        ("ann", "person", False),
    ]


def test_withdrawing_what_is_not_recorded(filled: Workspace) -> None:
    with pytest.raises(ReelignError, match="no judgement"):
        filled.add_judgements([withdrawal(judgement("v0", "v1"))])


def test_tasks_and_scores(filled: Workspace) -> None:
    task = Task(id="t", videos=["v0", "v1"], dimensions=["VQ"], gold={"VQ": "a"})
    filled.add_tasks([task, Task(id="u", kind="rating", videos=["v2"], dimensions=["VQ"], wanted=5)])
    filled.add_tasks([Task(id="t", videos=["v1", "v0"], dimensions=["MQ"])])
    first, second = filled.tasks()
    assert (first.videos, first.gold, first.wanted) == (["v0", "v1"], {"VQ": "a"}, 3)
    assert (second.kind, second.gold, second.wanted) == ("rating", None, 5)
    answer = judgement("v0", "v1")
    answer.task = "t"
    filled.add_judgements([answer])
    assert filled.judgements()[0].task == "t"

    def score(video: str, value: float, dimension: str = "VQ") -> Score:
        return Score(video=video, reward="VideoReward", reward_version="1", dimension=dimension, value=value)

    filled.add_scores([score("v0", 1.5), score("v1", -2.0), score("v0", 0.25, "MQ")])
    filled.add_scores([score("v0", 9.0)])
    assert [(each.video, each.value) for each in filled.scores(dimension="VQ")] == [("v0", 1.5), ("v1", -2.0)]
    with pytest.raises(ReelignError, match="VQ score of video v2 by VideoReward is nan"):
        filled.add_scores([score("v2", float("nan"))])
    with pytest.raises(ReelignError, match="known videos"):
        filled.add_scores([score("nobody", 1.0)])
