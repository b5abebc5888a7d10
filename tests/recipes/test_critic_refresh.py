"""Judgements that can be depended on: consistent, certain, and never against what people said."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from recipes.critic_worlds import bright_workspace, judged, tiny_settings
from reelign.critics import Comparison, Critic, Rating, Tally
from reelign.errors import ReelignError
from reelign.recipes.critic_data import workspace_critic_data
from reelign.recipes.critic_refresh import PEOPLES, RefreshSettings, dependable, refreshed_critic
from reelign.recipes.reward_data import workspace_reward_data
from reelign.records import Workspace
from reelign.video import Clip
from rewards import tiny_qwen


class Eye(Critic):
    """Sees which of two clips is brighter, the surer the further they are apart; of the darkest says what is first."""

    name, version = "eye", "1"
    compares = rates = ("VQ",)

    def __init__(self) -> None:
        self.tally = Tally()

    def compare(self, a: Clip, b: Clip, prompt: str, dimension: str, *, vote: int = 0) -> Comparison:
        one, other = (float(each.frames[:, :, -4:].mean()) for each in (a, b))
        if min(one, other) < 0.2:
            return Comparison(verdict="a", certainty=1.0)
        return Comparison(verdict="a" if one > other else "b", certainty=min(1.0, abs(one - other) * 2), reason="Seen.")

    def rate(self, video: Clip, prompt: str, dimension: str, *, vote: int = 0) -> Rating:
        return Rating(grade="good")


@pytest.fixture(scope="module")
def unjudged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return bright_workspace(tmp_path_factory.mktemp("bright") / "w").root


@pytest.fixture
def workspace(unjudged: Path, tmp_path: Path) -> Workspace:
    return Workspace.open(shutil.copytree(unjudged, tmp_path / "w"))


def test_only_what_is_consistent_and_certain_teaches(workspace: Workspace) -> None:
    # Of each prompt's six pairs three have its darkest clip, which is judged by place; of the other three one is far
    # apart (0.5, certain), two are neighbours (0.25, half as certain).
    found = dependable(workspace, Eye(), ["VQ"], RefreshSettings(min_certainty=0.8, fewest=1))
    assert {tuple(sorted((row.video_a, row.video_b or ""))) for row in found.judgements} == {
        (f"{number}-1", f"{number}-3") for number in range(6)
    }
    assert found.of_critic == 6
    assert found.left_out == {"inconsistent": 18, "uncertain": 12}
    better = {row.video_a if row.verdict == "a" else row.video_b for row in found.judgements}
    assert better == {f"{number}-3" for number in range(6)}
    assert workspace.judgements() == []
    loose = dependable(workspace, Eye(), ["VQ"], RefreshSettings(min_certainty=0.4, fewest=1))
    assert loose.of_critic == 18


def test_people_stand_against_the_critic_and_can_be_left_out(workspace: Workspace) -> None:
    workspace.add_judgements([judged("0-1", "0-3", "a"), judged("0-2", "0-1", "a", judge="bot")])
    workspace.set_judge("bot", kind="critic")
    found = dependable(workspace, Eye(), ["VQ"], RefreshSettings(fewest=1))
    assert (len(found.judgements), found.of_critic) == (6, 5)
    assert found.left_out[PEOPLES] == 1
    told = {row.judge for row in found.judgements if {row.video_a, row.video_b} == {"0-1", "0-3"}}
    assert told == {"Ada"}
    alone = dependable(workspace, Eye(), ["VQ"], RefreshSettings(fewest=1, people=False))
    assert {row.judge for row in alone.judgements} == {"eye"}
    # Both kinds of judges learn from exactly these.
    data = workspace_critic_data(workspace, ["VQ"], judgements=found.judgements)
    assert len(data) == 6
    assert sum("Seen." in each.reasons for each in data.examples) == 10
    assert len(workspace_reward_data(workspace, ["VQ"], judgements=found.judgements)) == 6


def test_too_few_are_refused_with_what_became_of_the_others(workspace: Workspace) -> None:
    with pytest.raises(ReelignError, match=r"6 judgements .* fewer than fewest=20 \(18 inconsistent, 12 uncertain\)"):
        dependable(workspace, Eye(), ["VQ"], RefreshSettings())


def test_a_critic_is_trained_again_on_them(workspace: Workspace, tmp_path: Path) -> None:
    backbone = tiny_qwen.save(tiny_qwen.qwen2_vl(), tmp_path / "qwen")
    settings = tiny_settings(backbone, run="eye-2", batch_size=1)
    refresh = RefreshSettings(min_certainty=0.4, fewest=10)
    done = refreshed_critic(workspace, Eye(), settings, refresh, tmp_path / "run")
    # One of six prompts is held out.
    assert done.numbers.votes == done.numbers.reasons == 15
    assert (done.critic / "critic.json").is_file()
