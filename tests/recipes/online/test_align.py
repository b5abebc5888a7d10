"""Online alignment on the tiny Wan: what is made, learnt, counted, kept and refused."""

from __future__ import annotations

import itertools
import json
import shutil
import threading
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from recipes.judges import Brightness
from recipes.online_worlds import PROMPTS, SAMPLING, Light, align, run, settings, world
from reelign.errors import ReelignError
from reelign.evaluation.watch_panel import read_watch
from reelign.generators import Generator, load_generator
from reelign.generators.encoders import VAE, encoders, is_away
from reelign.objectives import DPO, KTO, RWR, SFT
from reelign.objectives.anchors import Anchors
from reelign.recipes.online.align import align_online, dry_run_online
from reelign.recipes.online.feedback import PanelFeedback, RewardFeedback, Shown
from reelign.recipes.online.selection import Selection
from reelign.recipes.online.settings import BaseDistance, OnlineSettings, RolloutSettings
from reelign.recipes.online.step import OnlineStep
from reelign.recipes.online.stream import OnlineBatch
from reelign.recipes.watching.settings import WatchSettings
from reelign.rewards import Videos
from reelign.rewards.judging import RewardUse
from reelign.training import Policy, TrainerSettings
from reelign.training.looks import read_look
from reelign.training.reference_policy import EMA, Curriculum, Fixed, Gated
from reelign.video import write_video
from training.processes import PROCESSES, run_in_ranks


def logged(folder: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (folder / "runs" / "online" / "metrics.jsonl").read_text().splitlines()]


def weights(folder: Path) -> dict[str, Tensor]:
    newest = max((folder / "runs" / "online" / "checkpoints").glob("step-*"))
    return load_file(newest / "weights.safetensors")


def assert_same(one: Path, other: Path) -> None:
    first, second = weights(one), weights(other)
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)
    left_aside = ("seconds",)
    for row, again in zip(logged(one), logged(other), strict=True):
        assert {k: v for k, v in row.items() if not k.startswith(left_aside)} == {
            k: v for k, v in again.items() if not k.startswith(left_aside)
        }


@pytest.mark.parametrize(
    "changes",
    [
        {"objective": DPO(beta=10.0), "selection": Selection(weights={"last": 1.0})},
        {"objective": KTO(beta=10.0), "reference": EMA(decay=0.5)},
        {"objective": RWR(temperature=0.01)},
        {"objective": SFT()},
    ],
    ids=["dpo", "kto", "rwr", "sft"],
)
def test_every_objective_learns_from_the_policy_s_own_videos(
    tmp_path: Path, tiny_wan_folder: Path, changes: dict[str, Any]
) -> None:
    reward = Light()
    how = settings(distance=BaseDistance(every=1), **changes)
    done = align(tmp_path, str(tiny_wan_folder), how, reward)
    rows = logged(tmp_path)
    each = {"dpo": 2, "kto": 4, "rwr": 6, "sft": 2}[how.objective.name]
    assert done.samples == 2 * each
    assert [row["online/samples"] for row in rows] == [each, each]
    assert [row["online/candidates"] for row in rows] == [6, 12]
    assert rows[0]["base_distance"] == 0
    assert rows[1]["base_distance"] > 0
    assert rows[0]["reward_spread/last"] > 0
    assert {"seconds/rollout", "seconds/decode", "reward/first"} <= rows[0].keys()
    # Nothing but what every run leaves: no video is written, and no latents without a need.
    left = {path.name for path in (tmp_path / "runs" / "online").iterdir()}
    assert left == {"config.yaml", "metrics.jsonl", "checkpoints", "adapter"}
    assert not list(tmp_path.rglob("*.mp4"))


def test_prompts_are_encoded_once_and_each_candidate_is_sampled_and_decoded_once(
    tmp_path: Path, tiny_wan_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two steps of two prompts with three candidates each, three videos in a call."""
    generator = load_generator(str(tiny_wan_folder))
    calls: dict[str, list[int]] = {"encode_prompts": [], "encode": [], "decode": [], "sample": []}

    def count(name: str) -> None:
        own = getattr(type(generator), name)

        def counted(self: Generator, first: Any, *further: Any, **named: Any) -> Any:
            calls[name].append(len(first))
            return own(self, first, *further, **named)

        monkeypatch.setattr(type(generator), name, counted)

    for name in calls:
        count(name)
    reward = Light()
    align_online(
        world(tmp_path, str(tiny_wan_folder)),
        generator,
        settings(),
        sampling=SAMPLING,
        feedback=RewardFeedback(reward, RewardUse()),
    )
    assert calls == {"encode_prompts": [1] * 4, "encode": [], "sample": [3] * 4, "decode": [3] * 4}
    assert [shape[0] for shape in reward.shapes] == [3] * 4


class Mean:
    """A judge of latents: what lies above 0 is better."""

    name, version, dimensions = "mean", "1", ("mean",)
    ties: Mapping[str, float] = {}
    reads_pixels = False

    def scores(self, shown: Shown) -> dict[str, Tensor]:
        return {"mean": shown.rollout.latents.flatten(2).mean(dim=2)}


def test_a_judge_of_latents_needs_no_vae(
    tmp_path: Path, tiny_wan_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    generator = load_generator(str(tiny_wan_folder), encoders=False)

    def never(*_: Any, **__: Any) -> None:
        raise AssertionError("decoded")

    monkeypatch.setattr(type(generator), "decode", never)
    align_online(world(tmp_path, str(tiny_wan_folder)), generator, settings(), sampling=SAMPLING, feedback=Mean())
    assert is_away(encoders(generator)[VAE])
    assert logged(tmp_path)[-1]["reward_spread/mean"] > 0


def test_with_overlap_the_first_videos_are_judged_while_the_next_are_sampled(
    tmp_path: Path, tiny_wan_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The judge waits with its first videos until the second ones are being sampled; the scores are the same."""
    generators = [load_generator(str(tiny_wan_folder)) for _ in range(2)]
    own, sampling, calls = type(generators[0]).sample, threading.Event(), itertools.count()

    def told(self: Generator, *further: Any, **named: Any) -> Tensor:
        if next(calls) == 1:
            sampling.set()
        return own(self, *further, **named)

    class Waiting(Light):
        def score(self, videos: Videos, prompts: Sequence[str], *, fps: float | None = None) -> dict[str, Tensor]:
            assert sampling.wait(20)
            return super().score(videos, prompts, fps=fps)

    for name, generator, reward in zip(("turns", "beside"), generators, (Light(), Waiting()), strict=True):
        if name == "beside":
            monkeypatch.setattr(type(generator), "sample", told)
        align_online(
            world(tmp_path / name, str(tiny_wan_folder)),
            generator,
            settings(1, overlap=name == "beside"),
            sampling=SAMPLING,
            feedback=RewardFeedback(reward, RewardUse()),
        )
    assert_same(tmp_path / "turns", tmp_path / "beside")
    assert logged(tmp_path / "beside")[0]["seconds/score"] > 0


def test_ahead_the_next_candidates_are_judged_while_a_step_trains(
    tmp_path: Path, tiny_wan_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The judge waits with the second step's videos until the first step trains; what looks on finds it done."""
    training, calls, own = threading.Event(), itertools.count(), OnlineStep.accumulate_gradients

    def told(self: OnlineStep, policy: Policy, batch: OnlineBatch) -> dict[str, float]:
        training.set()
        return own(self, policy, batch)

    class Waiting(Light):
        def score(self, videos: Videos, prompts: Sequence[str], *, fps: float | None = None) -> dict[str, Tensor]:
            assert next(calls) < 2 or training.wait(20)
            return super().score(videos, prompts, fps=fps)

    monkeypatch.setattr(OnlineStep, "accumulate_gradients", told)
    reward = Waiting()
    align(tmp_path / "ahead", str(tiny_wan_folder), settings(3, ahead=True), reward)
    rows = logged(tmp_path / "ahead")
    assert [row["online/staleness"] for row in rows] == [0, 1, 1]
    assert [row["online/candidates"] for row in rows] == [6, 12, 18]
    assert len(reward.shapes) == 6  # nothing is sampled that no step will train on
    align(tmp_path / "turns", str(tiny_wan_folder), settings(1), Light())
    (alone,) = logged(tmp_path / "turns")
    assert all(rows[0][name] == alone[name] for name in ("loss", "reward/first", "grad_norm"))


def test_what_gives_nothing_is_dropped_counted_and_named(tmp_path: Path, tiny_wan_folder: Path) -> None:
    """Groups are judged one at a time: the first cannot be scored, the next three are alike, and the rest differ."""
    done = align(tmp_path, str(tiny_wan_folder), settings(3), Light(blind=1, equal=3))
    first, second, third = logged(tmp_path)
    assert "loss" not in first
    assert (first["online/dropped_unscored"], first["online/dropped_equal"], first["online/unscored"]) == (1, 1, 3)
    assert (second["online/empty_steps"], second["online/dropped_equal"]) == (2, 3)
    assert (third["online/empty_steps"], third["online/samples"]) == (2, 2)
    assert done.left_out == {
        "group with fewer than two candidates that could be scored": 1,
        "group whose candidates stand equal": 3,
        "candidate that could not be scored": 3,
        "step without a preference": 2,
    }
    with pytest.raises(ReelignError, match=r"2 rollouts in a row gave nothing.*3 of 12 samples could not be scored"):
        align(tmp_path, str(tiny_wan_folder), settings(3, run="useless", patience=2), Light(blind=1, equal=3))


@pytest.mark.slow
def test_rollouts_of_the_base_are_those_of_the_first_step_whatever_the_policy_became(
    tmp_path: Path, tiny_wan_folder: Path
) -> None:
    """One prompt whose noise is drawn anew, so that only the weights differ between the two kinds."""
    found = {}
    for kind in ("fresh", "base"):
        how = settings(2, rollouts=kind, trainer={"learning_rate": 0.1}, selection=Selection(weights={"first": 1}))
        align(tmp_path / kind, str(tiny_wan_folder), how, Light())
        found[kind] = [row["reward/first"] for row in logged(tmp_path / kind)]
    assert found["fresh"][0] == found["base"][0]
    assert found["fresh"][1] != found["base"][1]


def test_samples_are_trained_on_several_times_with_draws_of_their_own(tmp_path: Path, tiny_wan_folder: Path) -> None:
    reward = Light()
    align(tmp_path, str(tiny_wan_folder), settings(4, reuse=3), reward)
    rows = logged(tmp_path)
    assert [row["online/staleness"] for row in rows] == [0, 1, 2, 0]
    assert [row["online/candidates"] for row in rows] == [6, 6, 6, 12]
    assert len({row["chosen_error"] for row in rows}) == 4


@pytest.mark.parametrize("ahead", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_an_interrupted_run_goes_on_with_the_very_samples_it_held(
    tmp_path: Path, tiny_wan_folder: Path, ahead: bool
) -> None:
    """A real process that is killed behind its checkpoint, with samples that one more step trains on."""
    model = str(tiny_wan_folder)
    changes = {"steps": 5, "reuse": 3, "reference": Curriculum(every=3), "distance": BaseDistance(anchor=0.1)}
    changes["ahead"] = ahead
    for folder in (tmp_path / "whole", tmp_path / "killed"):
        process = PROCESSES.Process(target=run, args=(model, folder, changes))
        process.start()
        if folder.name == "killed":
            checkpoint = folder / "runs" / "online" / "checkpoints" / "step-000002"
            while process.is_alive() and not checkpoint.exists():
                process.join(0.002)
            process.kill()
        process.join()
    killed = tmp_path / "killed" / "runs" / "online"
    shutil.rmtree(killed / "adapter", ignore_errors=True)
    for later in [path for path in (killed / "checkpoints").glob("step-*") if path.name != "step-000002"]:
        shutil.rmtree(later)  # the machine was too fast
    assert (killed / "rollouts" / "current-000002.safetensors").exists()
    assert (killed / "rollouts" / "next-000002.safetensors").exists() is ahead
    process = PROCESSES.Process(target=run, args=(model, tmp_path / "killed", changes))
    process.start()
    process.join()
    assert process.exitcode == 0
    assert_same(tmp_path / "whole", tmp_path / "killed")
    newest = killed / "checkpoints" / "step-000005" / "reference.safetensors"
    moved = load_file(newest)
    assert any(not torch.equal(moved[name], tensor) for name, tensor in weights(tmp_path / "killed").items())


def test_two_ranks_are_one_process_with_twice_the_prompts(tmp_path: Path, tiny_wan_folder: Path) -> None:
    """Each rolls out its own prompt, and both train on both; so with real clips beside them."""
    model = str(tiny_wan_folder)
    for number in range(len(PROMPTS)):
        write_video(tmp_path / f"{number}.mp4", torch.full((9, 3, 16, 16), 0.2 + 0.2 * number), fps=8)
    clips = "".join(f"{prompt},{number}.mp4\n" for number, prompt in enumerate(PROMPTS))
    (tmp_path / "real.csv").write_text(f"prompt,video\n{clips}")
    shared = {
        "steps": 2,
        "judge": "reward:recipes.online_worlds:Light",
        "anchors": Anchors(real=0.5),
        "real": str(tmp_path / "real.csv"),
    }
    process = PROCESSES.Process(target=run, args=(model, tmp_path / "alone", {**shared, "prompts": 2}))
    process.start()
    process.join()
    assert process.exitcode == 0
    run_in_ranks(run, model, tmp_path / "both", {**shared, "prompts": 1}, folder=tmp_path / "both")
    for row, again in zip(logged(tmp_path / "alone"), logged(tmp_path / "both"), strict=True):
        assert row["real_error"] > 0
        for name in (
            *("online/samples", "online/candidates", "reward/first"),
            *("loss", "real_error", "base_distance", "grad_norm"),
        ):
            if name in row:
                assert again[name] == pytest.approx(row[name], rel=1e-3, abs=1e-5), name


@pytest.mark.slow
def test_sharded_ranks_are_one_process_and_go_on(tmp_path: Path, tiny_wan_folder: Path) -> None:
    """Rollouts, rewards, looks of the watch and a reference that moves, with every weight split over two ranks."""
    model, both = str(tiny_wan_folder), tmp_path / "both"
    watch = WatchSettings(
        every=2, prompts=("a red disc", "a disc"), seeds=1, held_out=("recipes.online_worlds:Glance",), proxies=()
    )
    shared = {"steps": 4, "reference": Curriculum(every=2), "watch": watch}
    process = PROCESSES.Process(target=run, args=(model, tmp_path / "alone", {**shared, "prompts": 2}))
    process.start()
    process.join()
    assert process.exitcode == 0
    split = {**shared, "prompts": 1, "trainer": {"sharded": True}}
    run_in_ranks(run, model, both, split, folder=both)
    first, rows = weights(both), logged(both)
    assert rows[-1]["reference/moves"] == 2
    for row, again in zip(logged(tmp_path / "alone"), rows, strict=True):
        assert row.keys() == again.keys()
        named = [name for name in row if not name.startswith(("seconds", "watch/seconds"))]
        assert {name: again[name] for name in named} == pytest.approx(
            {name: row[name] for name in named}, rel=5e-3, abs=1e-5
        )
    for name, tensor in weights(tmp_path / "alone").items():
        torch.testing.assert_close(first[name], tensor, rtol=1e-3, atol=5e-5)
    shutil.rmtree(both / "runs" / "online" / "checkpoints" / "step-000004")
    shutil.rmtree(both / "runs" / "online" / "adapter")
    run_in_ranks(run, model, both, split, folder=both)
    assert all(torch.equal(first[name], tensor) for name, tensor in weights(both).items())
    left_aside = ("seconds", "watch/seconds")
    for row, again in zip(rows, logged(both), strict=True):
        assert {k: v for k, v in row.items() if not k.startswith(left_aside)} == {
            k: v for k, v in again.items() if not k.startswith(left_aside)
        }


@pytest.mark.slow
def test_samples_that_the_ranks_cannot_share_wait_for_the_next_step(tmp_path: Path, tiny_wan_folder: Path) -> None:
    """Of every three prompts one is never scored, so that some steps have one pair for two ranks."""
    changes = {"steps": 5, "prompts": 1, "reward": RewardUse(options={"without": "blue"})}
    run_in_ranks(run, str(tiny_wan_folder), tmp_path / "both", changes, folder=tmp_path / "both")
    rows = logged(tmp_path / "both")
    used = sum(int(row.get("online/samples", 0)) for row in rows)
    made = 10 - int(rows[-1]["online/dropped_unscored"])
    assert {row.get("online/samples", 0) for row in rows} <= {0, 2, 4}
    assert made - used in (0, 1)
    assert max(row.get("online/staleness", 0) for row in rows) > 0


@pytest.mark.slow
def test_judges_that_compare_and_swapped_sides(tmp_path: Path, tiny_wan_folder: Path) -> None:
    """Swapped pairs at the reference have the same loss and the opposite gradient: the same norm."""
    rows = []
    for swap in (False, True):
        how = settings(1, swap=swap)
        workspace = world(tmp_path / str(swap), str(tiny_wan_folder))
        feedback = PanelFeedback([Brightness()])
        align_online(workspace, load_generator(str(tiny_wan_folder)), how, sampling=SAMPLING, feedback=feedback)
        rows.append(logged(workspace.root)[0])
    assert rows[0]["loss"] == rows[1]["loss"] == pytest.approx(0.693147, abs=1e-5)
    assert rows[0]["chosen_error"] != rows[1]["chosen_error"]
    assert rows[0]["grad_norm"] == pytest.approx(rows[1]["grad_norm"], rel=1e-4)


def test_a_gated_reference_follows_the_watch_s_held_out_judges(tmp_path: Path, tiny_wan_folder: Path) -> None:
    """At level 0.5 it moves exactly where the mean of what they say rose above that of the last move."""
    judges = ("recipes.online_worlds:Glance",)
    watch = WatchSettings(
        every=1, held_out=judges, proxies=(), prompts=("a disc moves", "a red disc"), seeds=1, shown=0
    )
    how = settings(3, reference=Gated(every=1, level=0.5), watch=watch, trainer={"learning_rate": 0.03})
    done = align(tmp_path, str(tiny_wan_folder), how, Light())
    rows = logged(tmp_path)
    (name,) = {key for key in rows[0] if key.startswith("watch/held_out/")}
    base, _ = read_look(tmp_path / "runs" / "online" / "watch" / "base.json")
    best = float(base.scores[name.removeprefix("watch/")].mean())
    moves = 0
    for row in rows:
        if row[name] > best:
            best, moves = row[name], moves + 1
        assert row["reference/moves"] == moves
    assert done.stopped is None


def test_judges_that_compare_are_watched_by_what_they_do_not_see(tmp_path: Path, tiny_wan_folder: Path) -> None:
    """They give no score to look at: held-out rewards alone carry the watch and the gate."""
    looks = {"every": 1, "proxies": (), "prompts": ("a disc moves", "a red disc"), "seeds": 1, "shown": 0}
    watch = WatchSettings(held_out=("recipes.online_worlds:Glance",), **looks)
    how = settings(1, reference=Gated(every=1, level=0.5), watch=watch)
    feedback = PanelFeedback([Brightness()])
    workspace, generator = world(tmp_path, str(tiny_wan_folder)), load_generator(str(tiny_wan_folder))
    align_online(workspace, generator, how, sampling=SAMPLING, feedback=feedback)
    (row,) = logged(tmp_path)
    assert {name for name in row if name.startswith("watch/held_out")} == {
        "watch/held_out/recipes.online_worlds:Glance/first"
    }
    assert not [name for name in row if name.startswith("watch/training")]
    assert "reference/moves" in row
    panel = read_watch(tmp_path / "runs" / "online")
    assert panel is not None
    assert [curve.title for curve in panel.rewards] == ["recipes.online_worlds:Glance"]
    for bad, told in (
        (WatchSettings(**looks), "nothing to measure: brightness gives no scores"),
        (WatchSettings(held_out=("recipes.online_worlds:Named",), **looks), "which is what training maximises"),
    ):
        how = settings(1, run="refused", watch=bad)
        with pytest.raises(ReelignError, match=told):
            align_online(workspace, generator, how, sampling=SAMPLING, feedback=feedback)
    assert not (tmp_path / "runs" / "refused").exists()


@pytest.mark.slow
def test_the_anchor_on_the_base_holds_the_policy_back(tmp_path: Path, tiny_wan_folder: Path) -> None:
    found = {}
    for anchor in (0.0, 1000.0):
        how = settings(4, distance=BaseDistance(anchor=anchor, every=1), trainer={"learning_rate": 3e-2})
        align(tmp_path / str(anchor), str(tiny_wan_folder), how, Light())
        found[anchor] = logged(tmp_path / str(anchor))[-1]["base_distance"]
    assert 0 < found[1000.0] < found[0.0]


def test_the_outlook_tells_what_a_run_would_cost(tmp_path: Path, tiny_wan_folder: Path) -> None:
    generator = load_generator(str(tiny_wan_folder), weights=False)
    found = dry_run_online(world(tmp_path, str(tiny_wan_folder)), generator, settings(7), sampling=SAMPLING)
    assert (found.prompts, found.prompts_to_encode, found.goes_on_from) == (3, 4, 0)
    told = "\n".join(found.told)
    assert "2 prompts x 3 candidates of 9 frames of 16 x 16, 2 steps, 12 forwards; at most 2 pairs" in told
    assert "42 videos are sampled and judged" in told
    assert not (tmp_path / "runs" / "online").exists()


def test_what_is_refused_before_anything_is_made(tmp_path: Path, tiny_wan_folder: Path) -> None:
    model = str(tiny_wan_folder)
    for how, told in (
        (settings(judge="reward:clipscor"), "Did you mean 'clipscore'"),
        (settings(reference=Gated()), "none are named"),
        (settings(watch=WatchSettings(every=1, held_out=("vjepa",))), "Did you mean 'vjepa2'"),
        (settings(rollout=RolloutSettings(height=15)), "cannot make"),
        (settings(selection=Selection(weights={"TA": 1})), "no dimension 'TA'"),
    ):
        with pytest.raises(ReelignError, match=told):
            align(tmp_path, model, how)
    assert not (tmp_path / "runs").exists() or not list((tmp_path / "runs").iterdir())
    empty = world(tmp_path / "empty", model)
    with pytest.raises(ReelignError, match="no prompts"):
        align_online(empty, load_generator(model), settings(), limit=0)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"prompts": 0}, "prompts must be"),
        ({"reuse": 0}, "reuse must be"),
        ({"selection": Selection(top=4)}, "takes 8 candidates"),
        ({"objective": KTO(baseline="mismatched")}, "set it to matched"),
        ({"real": "real.csv"}, "does nothing by itself"),
        ({"lora": None}, "set it to fixed"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(changes: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        OnlineSettings(**changes)
    assert OnlineSettings(lora=None, reference=Fixed(), trainer=TrainerSettings(steps=1)).lora is None
    for wrong in (
        lambda: RolloutSettings(candidates=1),
        lambda: BaseDistance(anchor=-1),
        lambda: BaseDistance(every=0),
    ):
        with pytest.raises(ValueError, match="must be"):
            wrong()


def test_the_rollout_section_stands_over_that_of_generate() -> None:
    over = RolloutSettings(candidates=4, num_inference_steps=8, width=32).over(SAMPLING)
    assert (over.candidates, over.num_inference_steps, over.width) == (4, 8, 32)
    assert replace(over, candidates=SAMPLING.candidates, num_inference_steps=2, width=16) == SAMPLING
    assert PROMPTS
