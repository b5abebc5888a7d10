"""Lessons from votes: majorities, both orders, reasons that fit an order, what is left out."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from recipes.critic_worlds import bright_workspace, judged
from reelign.errors import ReelignError
from reelign.recipes.critic.data import CriticData, workspace_critic_data
from reelign.recipes.critic.lessons import SIDES
from reelign.recipes.critic.reasons import defects_told, reason_in_order
from reelign.records import Workspace


@pytest.fixture(scope="module")
def unjudged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return bright_workspace(tmp_path_factory.mktemp("bright") / "w").root


@pytest.fixture
def workspace(unjudged: Path, tmp_path: Path) -> Workspace:
    return Workspace.open(shutil.copytree(unjudged, tmp_path / "w"))


def told(data: CriticData) -> dict[str, tuple[str, tuple[str, ...]]]:
    return {each.name: (each.answer, each.reasons) for each in data.examples}


@pytest.mark.parametrize(
    ("reason", "kept", "turned"),
    [
        ("The left video is sharper.", "Video A is sharper.", "Video B is sharper."),
        (
            "video A flickers, clip B does not",
            "Video A flickers, Video B does not",
            "Video B flickers, Video A does not",
        ),
        ("The second one has no tail", "Video B has no tail", "Video A has no tail"),
        ("Video 2 is blurred", "Video B is blurred", "Video A is blurred"),
        ("The dog moves left in the first video", "The dog moves left in Video A", None),
        ("Left is better", "Left is better", None),
        ("B is better", "B is better", None),
        ("in this video a dog has two tails", "in this video a dog has two tails", "in this video a dog has two tails"),
    ],
)
def test_a_reason_is_turned_only_where_that_is_sure(reason: str, kept: str, turned: str | None) -> None:
    assert reason_in_order(reason, SIDES, turned=False) == kept
    assert reason_in_order(reason, SIDES, turned=True) == turned


def test_defects_become_words_of_the_video_that_has_them() -> None:
    tagged = [
        {"tag": "flicker", "video": "x", "start_s": 0.5, "end_s": 1.25},
        {"tag": "blur", "video": "x", "start_s": 0.0, "end_s": 2.0},
    ]
    assert defects_told(tagged, {"y": "Video A", "x": "Video B"}) == (
        "Video B: flicker from 0.5 s to 1.2 s; blur from 0.0 s to 2.0 s."
    )
    assert defects_told(tagged[:1], {"x": ""}) == "Flicker from 0.5 s to 1.2 s."
    assert defects_told(None, {"x": ""}) == ""


def test_a_pair_is_a_lesson_in_both_orders_with_the_reasons_of_those_who_agree(workspace: Workspace) -> None:
    workspace.add_judgements(
        [
            judged("0-0", "0-1", "b", reason="The left video is darker."),
            # The other way round, and shown with its second video on the left.
            judged("0-1", "0-0", "a", judge="Ben", shown_left="b", reason="Left is darker"),
            judged("0-0", "0-1", "a", judge="Cem", reason="Video A is calmer."),
        ]
    )
    data = workspace_critic_data(workspace, ["VQ"])
    assert len(data) == 1
    assert told(data) == {
        "0-0 and 0-1": ("b", ("Video A is darker.", "Left is darker")),
        "0-1 and 0-0": ("a", ("Video B is darker.",)),
    }
    assert [path.stem for path in data.examples[1].videos] == ["0-1", "0-0"]
    assert data.lessons[0].consistency == pytest.approx(2 / 3)


def test_ties_grades_and_what_is_left_out(workspace: Workspace) -> None:
    workspace.add_judgements(
        [
            judged("0-0", "0-1", "tie"),
            judged("0-2", "0-3", "a"),
            judged("0-2", "0-3", "b", judge="Ben"),  # no majority: neither is right
            judged("0-0", "1-0", "a"),  # of two prompts
            judged("1-1", None, "good", reason="Bright."),
            judged("1-2", None, "bad"),
            judged("1-2", None, "normal", judge="Ben"),
            judged("1-3", None, "5", kind="rating"),  # no three levels
        ]
    )
    data = workspace_critic_data(workspace, ["VQ"])
    assert told(data) == {
        "0-0 and 0-1": ("tie", ()),
        "0-1 and 0-0": ("tie", ()),
        "1-1": ("good", ("Bright.",)),
    }
    assert data.left_out == {"judges without a majority": 2, "videos of different prompts": 1}
    required = workspace_critic_data(workspace, ["VQ"], reasons_required=True)
    assert set(told(required)) == {"1-1"}
    assert required.left_out["no reason given"] == 1


def test_a_split_keeps_prompts_apart_and_judges_can_be_chosen(workspace: Workspace) -> None:
    workspace.add_judgements(judged(f"{number}-0", f"{number}-1", "a") for number in range(6))
    workspace.add_judgements(judged(f"{number}-0", f"{number}-1", "b", judge="Ben") for number in range(6))
    data = workspace_critic_data(workspace, ["VQ"], judges=["Ben"])
    held_out, rest = data.split((0.3,), seed=0)
    assert (len(held_out), len(rest)) == (2, 4)
    assert not {each.prompt for each in held_out.lessons} & {each.prompt for each in rest.lessons}
    assert {lesson.examples[0].answer for lesson in data.lessons} == {"b"}
    assert data.key != workspace_critic_data(workspace, ["VQ"], judges=["Ada"]).key


def test_what_teaches_nothing_is_refused_by_name(workspace: Workspace) -> None:
    workspace.add_judgements([judged("0-0", "0-1", "a"), judged("0-0", "0-1", "b", judge="Ben")])
    with pytest.raises(ReelignError, match="dimension 'MQ'; there are VQ"):
        workspace_critic_data(workspace, ["MQ"])
    with pytest.raises(ReelignError, match="judge 'Zoe'; there are Ada, Ben"):
        workspace_critic_data(workspace, ["VQ"], judges=["Zoe"])
    with pytest.raises(ReelignError, match="teaches a critic anything: 1 x judges without a majority"):
        workspace_critic_data(workspace, ["VQ"])
    workspace.add_judgements([judged("0-2", "0-3", "a")])
    (workspace.root / "videos" / "0-3.mp4").unlink()
    with pytest.raises(ReelignError, match=r"1 judged videos are not there; the first is .*0-3.mp4"):
        workspace_critic_data(workspace, ["VQ"])
