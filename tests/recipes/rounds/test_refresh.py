"""Dual rounds: the judge of the second round is the first one's, trained again on what can be depended on."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from recipes.dual_worlds import CRITIC, REWARD, SAYS, dual_settings
from recipes.round_run import PROMPTS, SETTINGS
from reelign.critics.judging import CriticUse
from reelign.errors import ReelignError
from reelign.iterating import iterate, plan_iteration
from reelign.recipes.critic.settings import CriticSettings
from reelign.recipes.judging import JudgeSettings
from reelign.recipes.offline.align import AlignSettings
from reelign.recipes.rounds.parts import RoundPlan
from reelign.recipes.rounds.refresh import Refreshed, asking
from reelign.recipes.rounds.refresh_checks import checkpoint_of
from reelign.recipes.sampling import GenerateSettings
from reelign.records import Workspace
from rewards import tiny_qwen


@pytest.fixture(scope="module")
def fresh(tiny_wan_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    workspace = Workspace.create(tmp_path_factory.mktemp("dual") / "ws", model=str(tiny_wan_folder))
    for split, texts in PROMPTS.items():
        workspace.add_prompts(texts, split)
    return workspace.root


def stages(folder: Path, number: int) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / f"runs/iterate/round-{number}.json").read_text())["stages"]
    return found


def test_the_second_round_asks_a_reward_that_learned_from_the_first(fresh: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(fresh, tmp_path / "ws"))
    backbone = tiny_qwen.save(tiny_qwen.qwen2_vl(), tmp_path / "qwen")
    how = dual_settings("reward:recipes.online_worlds:Glance", reward={**REWARD, "backbone": str(backbone)})
    assert iterate(folder, **how).rounds == 2
    one, two = stages(folder, 1), stages(folder, 2)
    kept = one["dependable"]["outputs"]
    # Two prompts of three candidates: six pairs, all of them certain and consistent, and all said by the critic.
    assert (kept["judgements"], kept["of_critic"], kept["left_out"], kept["too_few"]) == (6, 6, {}, "")
    assert one["refresh"]["inputs"]["dependable"] == kept["sha256"]
    weights = one["refresh"]["outputs"]["weights"]
    assert two["judge"]["inputs"]["judge"] == weights
    assert "judge" not in one["judge"]["inputs"]
    assert list(one["judge"]["outputs"]["judges"]) == ["glance"]
    assert list(two["judge"]["outputs"]["judges"]) == ["videoreward"]
    assert "refresh" not in two  # nobody asks it after the last round
    assert (folder / "runs/iterate-1-judge/reward/model.safetensors").is_file()
    page = (folder / "runs/iterate/rounds.html").read_text()
    assert f"trained again after round 1, on 6 judgements, 6 of them the critic&#39;s, to weights {weights}" in page


@pytest.mark.slow
def test_a_critic_teaches_itself_and_is_asked_as_it_was_trained(fresh: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(fresh, tmp_path / "ws"))
    backbone = tiny_qwen.scripted(tiny_qwen.qwen2_5_vl(), SAYS, tmp_path / "says-a")
    how = dual_settings(
        "critic:recipes.dual_worlds:Sees",
        critic={**CRITIC, "backbone": str(backbone)},
        refresh={"critic": "judge", "fewest": 2},
    )
    how["judge"]["critic"] = {"swap": False}  # the scripted one says A in both orders
    assert iterate(folder, **how).rounds == 2
    judges = [stages(folder, number)["judge"]["outputs"]["judges"] for number in (1, 2)]
    assert [list(each) for each in judges] == [["sees"], ["iterate-1-judge"]]
    assert len(Workspace.open(folder).judgements(judge="iterate-1-judge")) == 6
    trained = stages(folder, 1)["refresh"]["outputs"]
    # What was lost is made again alike, and the next round's record still fits it.
    before = (folder / "runs/iterate/round-1/dependable.json").read_bytes()
    (folder / "runs/iterate/round-1/dependable.json").unlink()
    shutil.rmtree(folder / "runs/iterate-1-judge")
    assert iterate(folder, **how).rounds == 2
    assert (folder / "runs/iterate/round-1/dependable.json").read_bytes() == before
    assert stages(folder, 1)["refresh"]["outputs"]["weights"] == trained["weights"]


@pytest.mark.slow
def test_a_critic_that_grades_learns_from_its_grades(fresh: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(fresh, tmp_path / "ws"))
    says = {"\n": {"Verdict:": 1.0}, "Verdict:": {" A": 0.9}, " A": {"<|im_end|>": 1.0}}
    backbone = tiny_qwen.scripted(tiny_qwen.qwen2_5_vl(), says, tmp_path / "says-a")
    how = dual_settings(
        "critic:recipes.round_run:Grades",
        answers="pointwise",
        align={**SETTINGS["align"], "objective": {"name": "kto", "beta": 10.0}},
        critic={**CRITIC, "dimensions": ["overall"], "backbone": str(backbone)},
        refresh={"critic": "judge", "fewest": 2},
    )
    # The critic that was trained for one step says A of a single video, which is no grade: all of them are left out.
    with pytest.raises(ReelignError):
        iterate(folder, **how)
    kept = stages(folder, 1)["dependable"]["outputs"]
    assert (kept["judgements"], kept["of_critic"], kept["left_out"]) == (5, 5, {"unparseable": 1})
    assert list(stages(folder, 2)["judge"]["outputs"]["judges"]) == ["iterate-1-judge"]


@pytest.mark.slow
def test_too_few_leave_the_judge_as_it_is(fresh: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = Path(shutil.copytree(fresh, tmp_path / "ws"))
    how = dual_settings("reward:recipes.online_worlds:Glance", reward=REWARD)
    how["refresh"]["fewest"] = 7
    assert iterate(folder, **how).rounds == 2
    assert "the judge stays as it is: 6 judgements can be depended on, fewer than fewest=7" in capsys.readouterr().out
    assert [list(stages(folder, number)["judge"]["outputs"]["judges"]) for number in (1, 2)] == [["glance"]] * 2
    assert "refresh" not in stages(folder, 1)
    assert "the judge stayed as it was: 6 judgements" in (folder / "runs/iterate/rounds.html").read_text()


def test_a_trained_critic_brings_its_own_questions_and_keeps_the_votes() -> None:
    use = CriticUse(model="Qwen/Qwen2.5-VL-7B-Instruct", format="unifiedreward", frames=8, votes=3, temperature=0.7)
    plan = RoundPlan(
        number=2,
        generate=GenerateSettings(),
        judge=JudgeSettings(judge="critic:qwen2.5-vl-7b", critic=use),
        align=AlignSettings(),
        refresh=CriticSettings(dimensions=("VQ",)),
    )
    assert asking(plan, None) == plan.judge
    found = asking(plan, Refreshed(folder=Path("runs/iterate-1-judge/critic"), key="x"))
    assert found.judge == "critic:runs/iterate-1-judge/critic"
    assert found.critic == replace(use, model="", format="", frames=None, dimensions=("VQ",))
    assert checkpoint_of("qwen2.5-vl-3b", CriticUse()) == "Qwen/Qwen2.5-VL-3B-Instruct"
    assert checkpoint_of("qwen2.5-vl-3b", CriticUse(model="mine")) == "mine"
    assert checkpoint_of("unifiedreward", CriticUse()) == checkpoint_of("package:Mine", CriticUse()) == ""


@pytest.mark.parametrize(
    ("judge", "changes", "told"),
    [
        ("recipes.judges:Brightness", {}, "neither a critic nor a reward"),
        ("reward:sharpness", {"refresh": {"critic": "judge"}}, "sharpness is no critic"),
        ("reward:sharpness", {"refresh": {"critic": "qwen9"}}, "no critic called 'qwen9'"),
        ("critic:qwen3-vl-4b", {"refresh": {"critic": "judge", "votes": 3}}, "all be the same at temperature 0"),
        ("reward:sharpness", {"refresh": {"critic": "local", "options": {"seeds": 1}}}, "is not valid"),
        ("reward:sharpness", {"answers": "pointwise"}, "trains a critic on grades, and reward:sharpness is none"),
        (
            "critic:recipes.round_run:Grades",
            {
                "answers": "pointwise",
                "align": {"objective": {"name": "kto"}},
                "critic": {"dimensions": ["VQ"], "backbone": "here"},
            },
            "asks its judge about overall, and refresh trains it on VQ",
        ),
        ("reward:sharpness", {"reward": {"run": "mine"}}, "reward.run is decided by the rounds"),
        (
            "reward:sharpness",
            {"judge": {"judge": "reward:sharpness", "reward": {"dimensions": ["sharpness"]}}, "reward": REWARD},
            "asks its judge about sharpness, and refresh trains it on VQ",
        ),
        (
            "reward:sharpness",
            {"judge": {"judge": "reward:sharpness", "reward": {"tie": 0.1}}},
            "tie=0.1 is in the units of reward:sharpness",
        ),
    ],
)
def test_a_judge_that_cannot_be_taught_is_refused(fresh: Path, judge: str, changes: dict[str, Any], told: str) -> None:
    with pytest.raises(ReelignError, match=told):
        plan_iteration(fresh, **{**dual_settings(judge), **changes})
