"""Judgements that can be depended on: consistent, certain, and never against what people said."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from recipes.critic_worlds import Eye, bright_workspace, judged, tiny_settings
from reelign.critics import Rating
from reelign.errors import ReelignError
from reelign.recipes.critic.data import workspace_critic_data
from reelign.recipes.reward.data import workspace_reward_data
from reelign.recipes.rounds.critic_refresh import PEOPLES, dependable, refreshed_critic, too_few
from reelign.recipes.rounds.refresh_settings import RefreshSettings
from reelign.records import Workspace
from reelign.video import Clip
from rewards import tiny_qwen


@pytest.fixture(scope="module")
def unjudged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return bright_workspace(tmp_path_factory.mktemp("bright") / "w").root


@pytest.fixture
def workspace(unjudged: Path, tmp_path: Path) -> Workspace:
    return Workspace.open(shutil.copytree(unjudged, tmp_path / "w"))


def test_only_what_is_consistent_and_certain_teaches(workspace: Workspace) -> None:
    # Of each prompt's six pairs three have its darkest clip, which is judged by place; of the other three one is far
    # apart (0.5, certain), two are neighbours (0.25, half as certain).
    found = dependable(workspace, Eye(), ["VQ"], RefreshSettings(min_certainty=0.8), workspace.groups())
    assert {tuple(sorted((row.video_a, row.video_b or ""))) for row in found.judgements} == {
        (f"{number}-1", f"{number}-3") for number in range(6)
    }
    assert found.of_critic == 6
    assert found.left_out == {"inconsistent": 18, "uncertain": 12}
    better = {row.video_a if row.verdict == "a" else row.video_b for row in found.judgements}
    assert better == {f"{number}-3" for number in range(6)}
    assert workspace.judgements() == []
    loose = dependable(workspace, Eye(), ["VQ"], RefreshSettings(min_certainty=0.4), workspace.groups())
    assert loose.of_critic == 18


def test_people_stand_against_the_critic_and_can_be_left_out(workspace: Workspace) -> None:
    workspace.add_judgements([judged("0-1", "0-3", "a"), judged("0-2", "0-1", "a", judge="bot")])
    workspace.set_judge("bot", kind="critic")
    found = dependable(workspace, Eye(), ["VQ"], RefreshSettings(), workspace.groups())
    assert (len(found.judgements), found.of_critic) == (6, 5)
    assert found.left_out[PEOPLES] == 1
    told = {row.judge for row in found.judgements if {row.video_a, row.video_b} == {"0-1", "0-3"}}
    assert told == {"Ada"}
    alone = dependable(workspace, Eye(), ["VQ"], RefreshSettings(people=False), workspace.groups())
    assert {row.judge for row in alone.judgements} == {"eye"}
    # Both kinds of judges learn from exactly these.
    data = workspace_critic_data(workspace, ["VQ"], judgements=found.judgements)
    assert len(data) == 6
    assert sum("Seen." in each.reasons for each in data.examples) == 10
    assert len(workspace_reward_data(workspace, ["VQ"], judgements=found.judgements)) == 6


def test_what_people_say_of_other_prompts_stays_outside(workspace: Workspace) -> None:
    """As of those that a held-out judge looks at."""
    workspace.add_judgements([judged("0-1", "0-3", "a"), judged("1-1", "1-3", "a")])
    groups = [group for group in workspace.groups() if group.videos[0].id.startswith("0-")]
    found = dependable(workspace, Eye(), ["VQ"], RefreshSettings(), groups)
    assert [(row.judge, row.video_a) for row in found.judgements] == [("Ada", "0-1")]


class Moody(Eye):
    """Of the two brightest clips always says good, of the others now this and now that."""

    def rate(self, video: Clip, prompt: str, dimension: str, *, vote: int = 0) -> Rating:
        bright = float(video.frames[:, :, -4:].mean()) > 0.5
        return Rating(grade="good" if bright or vote == 0 else "bad" if vote == 1 else "normal", reason="Seen.")


def test_grades_teach_where_the_votes_agree(workspace: Workspace) -> None:
    workspace.add_judgements([judged("0-3", None, "bad")])
    how = RefreshSettings(votes=3, min_certainty=0.8)
    found = dependable(workspace, Moody(), ["VQ"], how, workspace.groups(), "pointwise")
    sure = {f"{number}-{place}" for number in range(6) for place in (2, 3)}
    assert {row.video_a for row in found.judgements if row.judge == "eye"} == sure - {"0-3"}
    assert {row.kind for row in found.judgements} == {"three_level"}
    assert found.left_out == {"undecided": 12, PEOPLES: 1}
    assert (found.of_critic, len(found.judgements)) == (11, 12)
    assert {row.judge for row in workspace.judgements()} == {"Ada"}
    data = workspace_critic_data(workspace, ["VQ"], judgements=found.judgements)
    answers = {each.videos[0].stem: each.answer for each in data.examples}
    assert answers == {name: "bad" if name == "0-3" else "good" for name in sure}


def test_too_few_are_refused_with_what_became_of_the_others(workspace: Workspace, tmp_path: Path) -> None:
    with pytest.raises(ReelignError, match=r"6 judgements .* fewer than fewest=20 \(18 inconsistent, 12 uncertain\)"):
        refreshed_critic(
            workspace, Eye(), tiny_settings(tmp_path), RefreshSettings(), workspace.groups(), tmp_path / "run"
        )
    assert not (tmp_path / "run").exists()
    found = dependable(workspace, Eye(), ["VQ"], RefreshSettings(), workspace.groups())
    assert too_few(found, ["VQ"], 6) == ""
    assert "no judgement of MQ" in too_few(found, ["VQ", "MQ"], 6)


def test_a_critic_is_trained_again_on_them(workspace: Workspace, tmp_path: Path) -> None:
    backbone = tiny_qwen.save(tiny_qwen.qwen2_vl(), tmp_path / "qwen")
    settings = tiny_settings(backbone, run="eye-2", batch_size=1)
    refresh = RefreshSettings(min_certainty=0.4, fewest=10)
    done = refreshed_critic(workspace, Eye(), settings, refresh, workspace.groups(), tmp_path / "run")
    # One of six prompts is held out.
    assert done.numbers.votes == done.numbers.reasons == 15
    assert (done.critic / "critic.json").is_file()
