"""`reelign plan` and `reelign models`: a table of stages, the setting that helps, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cli.process import reelign

SMALL = ["generate.num_frames=5", "generate.height=32", "generate.width=32", "batch_size=2"]


def test_a_plan_names_its_peak_and_what_lowers_it(tiny_wan_folder: Path, tmp_path: Path) -> None:
    found = reelign("plan", "--model", str(tiny_wan_folder), *SMALL, "micro_batch_size=2", folder=tmp_path)
    assert found.code == 0, found.err
    assert "offline, 5 frames of 32 x 32" in found.out
    for told in ("encode prompts", "encode videos", "learn", "update weights", "peak:", "to lower it:", "a step:"):
        assert told in found.out


def test_words_reach_the_sections_they_name(tiny_wan_folder: Path, tmp_path: Path) -> None:
    words = [*SMALL, "stream=reward_gradient", "reward.name=sharpness", "model.vae_dtype=bfloat16", "--json"]
    found = reelign("plan", "--model", str(tiny_wan_folder), *words, folder=tmp_path)
    assert found.code == 0, found.err
    told = json.loads(found.out)
    assert (told["num_frames"], told["height"]) == (5, 32)
    assert told["forwards"]["with a graph"] == 2 * 2
    assert {"decoder", "denoiser", "reward"} <= set(told["stages"][1]["beside"])


def test_what_cannot_be_planned_is_refused_with_a_mend(tiny_wan_folder: Path, tmp_path: Path) -> None:
    nameless = reelign("plan", folder=tmp_path)
    assert nameless.code == 2
    assert "--model" in nameless.err
    model = ["plan", "--model", str(tiny_wan_folder)]
    assert "Did you mean 'height'" in reelign(*model, "generate.heigth=32", folder=tmp_path).err
    assert "The nearest size" in reelign(*model, "generate.height=33", folder=tmp_path).err
    climbing = reelign(*model, "stream=reward_gradient", "reward.name=videoscore2", folder=tmp_path)
    assert "not differentiable" in climbing.err
    assert "no layer whose name ends in" in reelign(*model, "lora.targets=[nowhere]", folder=tmp_path).err


def test_what_is_still_to_come_is_planned_without_it(tiny_wan_folder: Path, tmp_path: Path) -> None:
    climb = ["plan", "--model", str(tiny_wan_folder), *SMALL, "stream=reward_gradient", "reward.name=sharpness"]
    anchored = reelign(*climb, "real=real.csv", "data_anchor=1.0", folder=tmp_path)
    assert anchored.code == 0, anchored.err
    edited = reelign(*climb, "real=real.csv", "edit_from=0.5", folder=tmp_path)
    assert edited.code == 0, edited.err
    latent = reelign(*climb, "reward.name=latent:none", folder=tmp_path)
    assert "A plan does not count latent:none" in latent.err


@pytest.mark.parametrize(
    ("named", "told"), [("[sharpness]", ", and what scores them: sharpness\n"), ("[]", " clips\n")]
)
def test_what_a_watch_adds_is_said(named: str, told: str, tiny_wan_folder: Path, tmp_path: Path) -> None:
    climb = ["plan", "--model", str(tiny_wan_folder), *SMALL, "stream=reward_gradient", "reward.name=sharpness"]
    found = reelign(*climb, "watch.every=2", f"watch.proxies={named}", folder=tmp_path)
    assert found.code == 0, found.err
    assert "not counted: the watch's looks" in found.out
    assert told in found.out


def test_models_lists_the_families(tmp_path: Path) -> None:
    found = reelign("models", folder=tmp_path)
    assert found.code == 0, found.err
    assert "WanPipeline" in found.out
    assert "Wan-AI/Wan2.1-T2V-14B-Diffusers" in found.out
    told = json.loads(reelign("models", "--json", folder=tmp_path).out)
    assert "to_q" in told["WanPipeline"]["lora_targets"]


def test_models_says_what_each_takes(tmp_path: Path) -> None:
    found = reelign("models", "--memory", folder=tmp_path)
    assert found.code == 0, found.err
    for told in ("Wan-AI/Wan2.1-T2V-1.3B-Diffusers", "81, 480, 832", "reward gradient", "planned on 20"):
        assert told in found.out
