"""Rounds: what is kept, what decides, what goes on, and what is refused."""

from __future__ import annotations

import json
import math
import shutil
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from recipes.round_run import make, run
from reelign.errors import ReelignError
from reelign.iterating import iterate, plan_iteration
from reelign.recipes.rounds.iterate import Iterated, decide
from reelign.recipes.rounds.looks import paired_gain
from reelign.recipes.rounds.settings import HeldOut, IterateSettings
from reelign.records import Judgement, Workspace
from reelign.training.adapter_files import weights_key

Look = dict[str, dict[str, list[float | None]]]


def look(*scores: float | None, other: float = 0.0) -> Look:
    return {"scores": {"VQ": list(scores), "MQ": [other] * len(scores)}}


def test_a_gain_is_the_paired_mean_over_what_both_rounds_have() -> None:
    # VQ gains 0.3 and 0.1, MQ loses 0.1 on each; the third video failed in one of the rounds.
    before, after = look(0.2, 0.4, 0.9, other=0.5), look(0.5, 0.5, None, other=0.4)
    assert math.isclose(paired_gain(after, before), (0.3 - 0.1 + 0.1 - 0.1) / 4)
    with pytest.raises(ReelignError, match="no prompt and seed of both"):
        paired_gain(look(None), look(1.0))


@pytest.mark.parametrize(
    ("means", "patience", "best", "ended"),
    [
        ([0.5], 1, 0, None),
        ([0.5, 0.6], 1, 1, None),
        ([0.5, 0.6, 0.55], 1, 1, "round 2 was not better than round 1"),
        ([0.5, 0.6, 0.55], 2, 1, None),
        ([0.5, 0.6, 0.55, 0.7], 2, 3, "all 3 rounds"),
        ([0.5, 0.4, 0.45], 2, 0, "rounds 1 to 2 were not better than the base"),
        ([0.5, 0.5], 1, 0, "round 1 was not better than the base"),
    ],
)
def test_the_best_round_is_kept_and_not_the_last(
    means: list[float], patience: int, best: int, ended: str | None
) -> None:
    settings = IterateSettings(patience=patience, selection=HeldOut(scorer="x", split="selection"))
    found = decide([look(mean) for mean in means], settings)
    assert found.best == best
    assert found.ended == ended if ended is None else ended in str(found.ended)


def test_a_small_gain_may_be_asked_to_be_larger() -> None:
    settings = IterateSettings(min_gain=0.2)
    assert decide([look(0.5), look(0.8)], settings).best == 0  # half of 0.3: the other dimension is as it was
    assert decide([look(0.5), look(1.0)], settings).best == 1


@pytest.fixture(scope="module")
def finished(tiny_wan_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Iterated]:
    workspace = make(tmp_path_factory.mktemp("rounds") / "ws", str(tiny_wan_folder))
    return workspace.root, run(workspace.root)


@pytest.fixture
def copy(finished: tuple[Path, Iterated], tmp_path: Path) -> Path:
    """Finished rounds, to be changed."""
    return Path(shutil.copytree(finished[0], tmp_path / "ws"))


def manifest(folder: Path, number: int, run: str = "iterate") -> dict[str, dict[str, Any]]:
    """The stages of a round."""
    found: dict[str, dict[str, Any]] = json.loads((folder / f"runs/{run}/round-{number}.json").read_text())["stages"]
    return found


def test_each_round_comes_from_the_one_before_and_the_best_is_a_run_of_its_own(
    finished: tuple[Path, Iterated],
) -> None:
    folder, done = finished
    one, two = manifest(folder, 1), manifest(folder, 2)
    trained = weights_key(folder / "runs" / "iterate-1" / "adapter")
    assert one["generate"]["inputs"]["policy"] == "base"
    assert one["align"]["outputs"]["weights"] == trained
    assert two["generate"]["inputs"]["policy"] == two["align"]["inputs"]["policy"] == trained
    assert two["generate"]["outputs"]["adapter"] == f"iterate-1@{trained}"
    assert two["align"]["inputs"]["judgements"] == two["judgements"]["outputs"]["sha256"]
    assert weights_key(folder / "runs" / "iterate-2" / "adapter") != trained
    assert set(two["generate"]["outputs"]["videos"]).isdisjoint(one["generate"]["outputs"]["videos"])
    whole = json.loads((folder / "runs/iterate/manifest.json").read_text())
    assert done.decision.best == whole["best"]["round"]
    assert list(whole["rounds"]) == ["0", "1", "2"]
    if done.decision.best:
        assert done.adapter is not None
        assert weights_key(done.adapter) == whole["best"]["policy"]
    assert done.decision == decide([each["selection"] for each in done.looks], IterateSettings(patience=2, rounds=2))


def test_the_second_round_trains_on_the_adapter_of_the_first(finished: tuple[Path, Iterated]) -> None:
    folder, _ = finished
    first, second = (load_file(folder / f"runs/iterate-{n}/adapter/pytorch_lora_weights.safetensors") for n in (1, 2))
    reference = load_file(max((folder / "runs/iterate-2/checkpoints").glob("step-*")) / "reference.safetensors")
    assert first.keys() == second.keys()
    assert all(each.shape == second[name].shape for name, each in first.items())
    held = {name.replace(".policy.", "."): each for name, each in reference.items()}
    assert held.keys() == first.keys()
    assert all(held[name].equal(each) for name, each in first.items())


def test_a_second_call_does_nothing_and_a_lost_look_is_made_again_alike(copy: Path) -> None:
    before = {path: path.read_bytes() for path in (copy / "runs/iterate").rglob("*.json")}
    lost = copy / "runs/iterate/round-1/selection.json"
    lost.unlink()
    again = run(copy)
    after = {path: path.read_bytes() for path in (copy / "runs/iterate").rglob("*.json")}
    changed = {path.relative_to(copy / "runs/iterate").as_posix() for path in before if before[path] != after[path]}
    assert after[lost] == before[lost]
    assert changed <= {"round-1.json", "manifest.json"}  # when it was made again, and the hash of that
    assert again.rounds == 2


def test_what_was_lost_and_comes_out_differently_is_refused(copy: Path) -> None:
    lost = copy / "runs/iterate/round-1/selection.json"
    lost.unlink()
    path = copy / "runs/iterate/round-1.json"
    path.write_text(path.read_text().replace(manifest(copy, 1)["selection"]["outputs"]["sha256"], "0" * 64))
    with pytest.raises(ReelignError, match="selection of round-1 were lost, and came out differently"):
        run(copy)


@pytest.mark.parametrize(
    ("changed", "what"),
    [
        ({"align": {"objective": {"beta": 20}}}, "plans.1.align.objective.beta"),
        ({"min_gain": 0.5}, "settings.min_gain"),
        ({"rounds": 1}, "plans.2"),
        ({"each": {2: {"trainer": {"steps": 5}}}}, "plans.2.align.trainer.steps"),
    ],
)
def test_a_changed_setting_is_refused(finished: tuple[Path, Iterated], changed: dict[str, object], what: str) -> None:
    with pytest.raises(ReelignError, match=what):
        iterate(finished[0], **changed)


@pytest.mark.parametrize(
    ("changed", "what"),
    [
        ({"selection": {"scorer": ""}}, "Nobody chooses the best round"),
        ({"selection": {"scorer": "recipes.judges:Brightness"}}, "labels what round 1 trains on"),
        (
            {
                "selection": {"scorer": "reward:critic", "reward": {"options": {"critic": "qwen3-vl-4b"}}},
                "judge": {"judge": "critic:qwen3-vl-4b"},
            },
            "qwen3-vl-4b labels what round 1 trains on, or teaches who does, and is selection.scorer too",
        ),
        ({"report": {"scorer": "recipes.round_run:darkness"}}, "another judge than report.scorer"),
        ({"report": {"split": "train"}}, "must differ"),
        ({"report": {"split": "nothing"}}, "no prompts in the split 'nothing'"),
        ({"answers": "pointwise"}, "labels single videos, and round 1 trains dpo"),
        ({"each": {2: {"lora": {"rank": 4}}}}, "several shapes"),
        ({"align": {"seed": 1}}, "align.seed is decided by the rounds"),
        ({"judge": {"judge": "people"}}, "people=0 asks nobody"),
    ],
)
def test_parts_that_would_see_each_other_are_refused(
    finished: tuple[Path, Iterated], changed: dict[str, object], what: str
) -> None:
    with pytest.raises(ReelignError, match=what):
        plan_iteration(finished[0], run="other", **changed)
    assert not (finished[0] / "runs" / "other").exists()


def test_a_prompt_in_two_splits_is_refused(copy: Path) -> None:
    (copy / "more.txt").write_text("A  red Square.\n")
    with pytest.raises(ReelignError, match="is selected on and in another split"):
        plan_iteration(copy, run="other", selection={"prompts": str(copy / "more.txt")})


def test_anchors_are_ipos_unless_they_are_named(finished: tuple[Path, Iterated], copy: Path) -> None:
    anchors = [plan.align.anchors.chosen for plan in plan_iteration(finished[0]).plans]
    assert anchors == [0.2, 0.2]
    with pytest.warns(UserWarning, match="Round 2 has no anchor"):
        bare = plan_iteration(copy, run="bare", align={"anchors": {"chosen": 0}})
    assert bare.plans[1].align.anchors.chosen == 0
    kto = plan_iteration(copy, run="kto", align={"objective": {"name": "kto"}})
    assert kto.plans[0].align.anchors.chosen == 0
    with_real = plan_iteration(copy, run="real", align={"real": "clips.csv"})
    assert (with_real.plans[0].align.anchors.chosen, with_real.plans[0].align.anchors.real) == (0.2, 0.1)


def test_an_outlook_counts_videos_and_questions(finished: tuple[Path, Iterated]) -> None:
    found = plan_iteration(finished[0])
    assert (found.candidates, found.questions, found.done) == (6, 6, 2)
    assert found.looked == {"selection": 2, "report": 2}
    assert [plan.align.run for plan in found.plans] == ["iterate-1", "iterate-2"]
    assert len({plan.generate.seed for plan in found.plans}) == 2


def test_a_round_waits_for_people_and_trains_on_what_they_said(copy: Path) -> None:
    asked = {"run": "asked", "rounds": 1, "people": 1, "judge": {"judge": "people"}}
    first = iterate(copy, **asked)
    assert first.waiting is not None
    assert (first.waiting.open, first.waiting.questions, first.rounds) == (6, 6, 0)
    workspace = Workspace.open(copy)
    groups = workspace.groups("train", first.waiting.adapter)
    pairs = [(a.id, b.id) for group in groups for a, b in combinations(group.videos, 2)]
    said = [
        Judgement(video_a=a, video_b=b, dimension="VQ", verdict="a", judge="Ada", judge_version="person")
        for a, b in pairs[1:]
    ]
    workspace.set_judge("Ada", kind="person")
    workspace.add_judgements(said)
    second = iterate(copy, **asked)
    assert second.waiting is not None
    assert second.waiting.open == 1
    last = Judgement(
        video_a=pairs[0][0], video_b=pairs[0][1], dimension="VQ", verdict="a", judge="Ada", judge_version=""
    )
    workspace.add_judgements([last])
    assert iterate(copy, **asked).rounds == 1
    kept = manifest(copy, 1, "asked")["judgements"]["outputs"]
    assert (kept["judgements"], kept["judges"]) == (6, ["Ada"])
    # What is said afterwards changes nothing of a round that has begun to train.
    workspace.withdraw(next(each for each in workspace.judgements(judge="Ada") if each.key == last.key))
    assert iterate(copy, **asked).rounds == 1


def test_grades_make_desirable_videos_of_good_and_normal_ones(copy: Path) -> None:
    done = iterate(
        copy,
        run="graded",
        rounds=1,
        answers="pointwise",
        judge={"judge": "critic:recipes.round_run:Grades"},
        align={"objective": {"name": "kto", "beta": 10.0}},
    )
    assert done.rounds == 1
    rows = Workspace.open(copy).judgements(judge="grades")
    assert {each.kind for each in rows} == {"three_level"}
    assert [each.verdict for each in rows] == ["good", "bad", "normal", "good", "bad"]
    trained = manifest(copy, 1, "graded")["align"]["outputs"]
    assert (trained["samples"], trained["left_out"]) == (5, {"candidate without a judgement": 1})
