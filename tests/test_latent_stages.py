"""The stages of latent rewards through the command line: train, sample, evaluate, explore, and what they refuse."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor

from reelign import latent_stages, searching, stages
from reelign.cli.latent_reward_train import ordered
from reelign.cli.options import guide_layers, weight_lists
from reelign.cli.sample import told
from reelign.errors import ReelignError
from reelign.evaluation.report import headline
from reelign.generators import VideoSize, load_generator
from reelign.recipes.best_of import BestOfSettings
from reelign.records import Workspace
from reelign.rewards import Reward, RewardCard, Videos
from reelign.training.latent_guide import GuideSettings
from reelign.training.latent_reward import LatentRewardShape, new_latent_reward
from reelign.training.latent_reward_files import save_latent_reward
from reelign.video import read_video

HOW = {"num_inference_steps": 4, "guidance_scale": 3.0, "num_frames": 9, "height": 16, "width": 16, "fps": 8}
PROMPT = "a red square"


def brightness(videos: Tensor, prompts: list[str]) -> dict[str, Tensor]:
    """A scorer that can be worked by hand."""
    return {"VQ": videos.flatten(1).mean(dim=1)}


class Brightness(Reward):
    """The same as a reward."""

    card: ClassVar[RewardCard] = RewardCard(what="light", dimensions=("light",), differentiable=False, frames_needed=1)
    name = "brightness"
    version = "1"
    dimensions = card.dimensions

    def score(self, videos: Videos, prompts: Sequence[str], *, fps: float | None = None) -> dict[str, Tensor]:
        return {"light": torch.stack([video.float().mean() for video in videos])}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory, tiny_wan_folder: Path) -> Path:
    """A workspace of the tiny Wan with a latent reward as a run's; its weights are drawn, not trained."""
    workspace = Workspace.create(tmp_path_factory.mktemp("latent") / "workspace", model=str(tiny_wan_folder))
    workspace.add_prompts([PROMPT, "a blue disc moves"], "held_out")
    generator = load_generator(str(tiny_wan_folder))
    shape = LatentRewardShape(
        dimensions=("VQ", "MQ"), blocks=1, train="head", lora=None, levels="noisy", queries=1, heads=2
    )
    latents = generator.latent_shape(VideoSize(9, 16, 16))
    reward = new_latent_reward(generator, shape, generator.encode_prompts(["a"]), latents, seed=0)
    torch.nn.init.normal_(reward.head.read, std=3, generator=torch.Generator().manual_seed(0))
    save_latent_reward(reward, workspace.root / "runs" / "liked" / "latent_reward")
    lines = "\n".join(f"  {name}: {value}" for name, value in HOW.items())
    (workspace.root / "reelign.yaml").write_text(f"generate:\n{lines}\n")
    return workspace.root


def test_a_guided_sample_is_another_video_and_the_run_s_name_finds_the_reward(root: Path, tmp_path: Path) -> None:
    asked = guide_layers(None, "VQ=300,MQ=-300", "liked")
    guided = stages.sample(root, PROMPT, out=tmp_path / "guided.mp4", layers=asked)
    idle = stages.sample(root, PROMPT, out=tmp_path / "idle.mp4", layers=guide_layers(None, "VQ=0", "liked"))
    plain = stages.sample(root, PROMPT, out=tmp_path / "plain.mp4")
    assert idle.read_bytes() == plain.read_bytes()
    assert guided.read_bytes() != plain.read_bytes()


def test_guided_evaluation_compares_the_same_noise_without_and_with_guidance(root: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(root, tmp_path / "workspace")
    workspace = Workspace.open(copy)
    guide: dict[str, Any] = {"latent_reward": "liked", "weights": {"VQ": 300.0}}
    settings: dict[str, Any] = {"run": "", "seeds": 2, "resamples": 10, "scorer": "test_latent_stages:brightness"}
    done = stages.evaluate(copy, guide=guide, **settings)
    path = latent_stages.guided_result(workspace, "", GuideSettings(latent_reward="liked", weights={"VQ": 300.0}))
    kept = json.loads(path.read_text())
    seeds = {video.id: video.seed for video in workspace.videos("held_out")}
    assert [seeds[each] for each in kept["unguided"]] == [seeds[each] for each in kept["guided"]]
    assert not set(kept["unguided"]) & set(kept["guided"])
    assert done.comparison.pairs == 4
    assert headline(done.comparison, done.what).startswith("Guidance ")
    # Guided videos are no candidates beside the base's own.
    label = latent_stages.guide_label(latent_stages.located(workspace, GuideSettings(**guide)))
    assert {video.adapter for video in workspace.videos("held_out")} == {"", label}


def test_the_explorer_shows_weights_beside_each_other(root: Path, tmp_path: Path) -> None:
    out = tmp_path / "explorer.html"
    layers = guide_layers(None, None, "liked")
    latent_stages.explore(root, PROMPT, weight_lists(["VQ=0,300", "MQ=0,300"]), out=out, layers=layers)
    page = out.read_text()
    assert page.count('src="data:video/mp4;base64,') == 4
    videos = page.split("data:video/mp4;base64,")[1:]
    assert len({each.partition('"')[0] for each in videos}) == 4
    with pytest.raises(ReelignError, match=r"shows two weights of a latent reward, and got 1 of .*liked"):
        latent_stages.explore(root, PROMPT, {"VQ": [0, 1]}, out=out, layers=layers)
    with pytest.raises(ReelignError, match="no dimension TA; it has VQ, MQ"):
        latent_stages.explore(root, PROMPT, {"VQ": [0, 1], "TA": [0, 1]}, out=out, layers=layers)


@pytest.mark.parametrize("wrong", ["VQ", "VQ=", "=1", "VQ=x", "VQ=1,,"])
def test_weights_that_are_none_are_refused(wrong: str) -> None:
    with pytest.raises(ReelignError, match="is no list of weights"):
        guide_layers(None, wrong, "x")


def test_a_reward_that_is_not_there_and_one_that_is_not_named_are_refused(root: Path, tmp_path: Path) -> None:
    out = tmp_path / "x.mp4"
    with pytest.raises(ReelignError, match="There is no latent reward in nowhere"):
        stages.sample(root, PROMPT, out=out, layers=guide_layers(None, "VQ=1", "nowhere"))
    with pytest.raises(ReelignError, match="latent_reward must name a latent reward"):
        stages.sample(root, PROMPT, out=out, layers=guide_layers(None, "VQ=1", None))
    assert not out.exists()


def one(root: Path, seed: int, folder: Path) -> Tensor:
    return read_video(stages.sample(root, PROMPT, seed=seed, out=folder / f"{seed}.mp4")).frames


def test_the_best_of_some_seeds_by_a_look_half_way_is_that_seeds_own_video(root: Path, tmp_path: Path) -> None:
    how = BestOfSettings(candidates=3, keep=1)
    path, found = searching.sample_best(root, PROMPT, by="liked", how=how, seed=5, out=tmp_path / "best.mp4")
    assert found.seed == max(found.at_look, key=found.at_look.__getitem__)
    assert list(found.at_look) == [5, 6, 7]
    assert list(found.scores) == [found.seed]
    # Of two steps three, and of the other two one, twice each for guidance.
    assert (found.denoiser_calls, found.plain_calls) == (2 * (3 * 2 + 1 * 2), 2 * 3 * 4)
    torch.testing.assert_close(read_video(path).frames, one(root, found.seed, tmp_path), rtol=0, atol=2 / 255)
    lines = told(found)
    assert lines[0] == f"Best is seed {found.seed}, in 16 denoiser calls; 24 would see all through."
    assert [line.startswith("seed") for line in lines[1:]] == [True] * 3
    assert sum("given up" in line for line in lines) == 2


def test_the_best_by_a_reward_of_pixels_is_the_one_that_it_likes_best(root: Path, tmp_path: Path) -> None:
    layers = [("test", {"batch_size": 2})]
    how = BestOfSettings(candidates=3)
    _, found = searching.sample_best(
        root, PROMPT, by="test_latent_stages:Brightness", how=how, out=tmp_path / "best.mp4", layers=layers
    )
    means = {seed: float(one(root, seed, tmp_path).mean()) for seed in range(3)}
    assert found.seed == max(means, key=means.__getitem__)
    assert found.scores == pytest.approx(means, abs=2 / 255)
    assert found.denoiser_calls == found.plain_calls == 24


@pytest.mark.parametrize(
    ("by", "how", "guide", "wrong"),
    [
        ("", {}, None, "Nothing is named that chooses"),
        ("liked", {"weights": {"TA": 1.0}}, None, "no dimension TA; it has VQ, MQ"),
        ("test_latent_stages:Brightness", {"keep": 1}, None, "sees finished videos, and keep=1"),
        ("no-such-reward", {}, None, "no-such-reward"),
        ("liked", {}, "VQ=1", "these settings guide them"),
    ],
)
def test_searches_that_cannot_be_are_refused(
    root: Path, tmp_path: Path, by: str, how: dict[str, Any], guide: str | None, wrong: str
) -> None:
    out = tmp_path / "x.mp4"
    with pytest.raises(ReelignError, match=wrong):
        searching.sample_best(
            root, PROMPT, by=by, how=BestOfSettings(**how), out=out, layers=guide_layers(None, guide, guide and "liked")
        )
    assert not out.exists()


def test_held_out_pairs_that_nobody_decided_have_no_share() -> None:
    nobody = float("nan")
    assert ordered([0.5, 1.0]) == "of held-out pairs ordered right, from clean to noisy: 50.0%, 100.0%"
    assert ordered([0.5, nobody]).endswith(": 50.0%, none decided")
    assert "no held-out pair on which people decided" in ordered([nobody] * 4)
