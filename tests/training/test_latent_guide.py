"""A latent reward that guides: our sampler, a plain pipeline, a search over seeds, and online alignment's judge."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from generators.tiny import save_modelscope
from reelign.diffusion.guidance import RewardGuidance
from reelign.diffusion.samplers import initial_noise
from reelign.errors import ReelignError
from reelign.generators import Generator, Guidance, VideoSize, load_generator
from reelign.recipes.latent_reward.feedback import LatentFeedback
from reelign.recipes.online.counts import Clock
from reelign.recipes.online.feedback import Shown, open_feedback
from reelign.training.asked import Sides
from reelign.training.latent_callback import PipelineGuide, pipeline_guide
from reelign.training.latent_guide import LatentGuide
from reelign.training.latent_reward import LatentReward, LatentRewardShape, new_latent_reward
from reelign.training.latent_reward_files import save_latent_reward
from reelign.training.latent_search import SearchSettings, best_of
from reelign.training.rollouts import Group, Rollout, Sampler

PROMPTS = ["a red square", "a blue disc moves"]
SEEDS = [5, 6]
STEPS = 4
SHAPE = LatentRewardShape(
    dimensions=("VQ", "MQ"), blocks=1, train="full", lora=None, levels="noisy", queries=2, heads=2, largest=1e6
)


@pytest.fixture(scope="module")
def wan(tiny_wan_folder: Path) -> Generator:
    return load_generator(str(tiny_wan_folder))


@pytest.fixture(scope="module")
def reward(wan: Generator, tiny_size: VideoSize) -> LatentReward:
    return awake(wan, tiny_size)


def awake(generator: Generator, size: VideoSize) -> LatentReward:
    shape = generator.latent_shape(size)
    found = new_latent_reward(generator, SHAPE, generator.encode_prompts(["a"]), shape, seed=0)
    with torch.no_grad():
        found.head.read.copy_(3 * torch.randn(found.head.read.shape, generator=torch.Generator().manual_seed(0)))
    return found


def sampled(generator: Generator, size: VideoSize, steer: LatentGuide | None, seeds: list[int] = SEEDS) -> Tensor:
    prompts = PROMPTS if len(seeds) == 2 else PROMPTS[:1] * len(seeds)
    guidance = Guidance(3.0, generator.encode_prompts([""] * len(prompts)))
    conditioning = generator.encode_prompts(prompts)
    return generator.sample(conditioning, seeds, size, steps=STEPS, guidance=guidance, steer=steer)


def test_a_guided_video_has_a_higher_reward_and_a_negative_weight_a_lower_one(
    wan: Generator, tiny_size: VideoSize, reward: LatentReward
) -> None:
    conditioning = wan.encode_prompts(PROMPTS)

    def vq(weight: float) -> Tensor:
        latents = sampled(wan, tiny_size, LatentGuide(reward, {"VQ": weight}, RewardGuidance(max_factor=2)))
        found: Tensor = reward(latents, torch.zeros(2), conditioning)["VQ"]
        return found

    low, middle, high = vq(-2.0), vq(0.0), vq(2.0)
    assert (low < middle).all()
    assert (middle < high).all()


def test_a_batch_of_weights_is_each_weight_by_itself_and_0_is_no_guidance(
    wan: Generator, tiny_size: VideoSize, reward: LatentReward
) -> None:
    together = sampled(wan, tiny_size, LatentGuide(reward, {"VQ": torch.tensor([0.0, -1.5]), "MQ": 0.0}))
    torch.testing.assert_close(together[0], sampled(wan, tiny_size, None)[0], rtol=1e-5, atol=1e-5)
    alone = sampled(wan, tiny_size, LatentGuide(reward, {"VQ": -1.5}))
    torch.testing.assert_close(together[1], alone[1], rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_every_family_is_guided_by_its_own_first_blocks(tmp_path: Path) -> None:
    """An epsilon U-Net, whose schedule starts just below pure noise."""
    save_modelscope(tmp_path / "modelscope")
    generator = load_generator(str(tmp_path / "modelscope"))
    size = generator.legal(VideoSize(4, 8, 8))
    reward = awake(generator, size)
    plain, guided = (
        sampled(generator, size, LatentGuide(reward, {"VQ": weight}, RewardGuidance(max_share=0.3)))
        for weight in (0.0, 50.0)
    )
    last = generator.sigmas(STEPS)[-1].expand(2)
    values = [reward(each, last, generator.encode_prompts(PROMPTS))["VQ"] for each in (plain, guided)]
    assert (values[1] > values[0]).all()


@pytest.mark.parametrize("settings", [RewardGuidance(), RewardGuidance(every=2, max_share=0.2)], ids=["all", "capped"])
def test_a_plain_pipeline_with_the_callback_makes_the_same_latents(
    wan: Generator, tiny_size: VideoSize, reward: LatentReward, tmp_path: Path, settings: RewardGuidance
) -> None:
    """Wan's; tests/generators/test_callback.py has the other families."""
    save_latent_reward(reward, tmp_path / "reward")
    weights: dict[str, Any] = {"VQ": torch.tensor([1.0, -1.0]), "MQ": 0.5}
    ours = sampled(wan, tiny_size, LatentGuide(reward, weights, settings))
    guide = pipeline_guide(
        wan.pipeline, tmp_path / "reward", weights, prompts=PROMPTS, size=tiny_size, settings=settings
    )
    for _ in range(2):  # a callback may be used again
        torch.testing.assert_close(called(wan, tiny_size, guide), ours, rtol=1e-4, atol=1e-4)
    assert float((ours - sampled(wan, tiny_size, None)).abs().max()) > 1e-2


def called(wan: Generator, size: VideoSize, guide: PipelineGuide, **further: Any) -> Tensor:
    """The plain pipeline's latents under a guide."""
    call: dict[str, Any] = {
        "prompt": PROMPTS,
        "negative_prompt": ["", ""],
        "num_frames": size.num_frames,
        "height": size.height,
        "width": size.width,
        "num_inference_steps": STEPS,
        "guidance_scale": 3.0,
        "output_type": "latent",
        "latents": initial_noise((2, *wan.latent_shape(size)), SEEDS, "cpu"),
        "callback_on_step_end": guide,
        "callback_on_step_end_tensor_inputs": guide.inputs,
        **wan.call_arguments,
        **further,
    }
    frames: Tensor = wan.pipeline(**call).frames
    return frames


def test_calls_that_a_callback_was_not_made_for_are_refused(
    wan: Generator, tiny_size: VideoSize, reward: LatentReward, tmp_path: Path
) -> None:
    save_latent_reward(reward, tmp_path / "reward")

    class OtherPipeline:
        def __call__(self) -> None: ...

    with pytest.raises(ReelignError, match="A OtherPipeline has no callback_on_step_end"):
        pipeline_guide(OtherPipeline(), tmp_path, {"VQ": 1.0}, prompts=PROMPTS, size=tiny_size)
    one = pipeline_guide(wan.pipeline, tmp_path / "reward", {"VQ": 1.0}, prompts=PROMPTS[:1], size=tiny_size)
    with pytest.raises(ReelignError, match=r"makes latents \(2, .* and the guide was made for \(1, "):
        called(wan, tiny_size, one)
    two = pipeline_guide(wan.pipeline, tmp_path / "reward", {"VQ": 1.0}, prompts=PROMPTS, size=tiny_size)
    own = wan.pipeline.scheduler
    wan.pipeline.__dict__["scheduler"] = type(own).from_config(own.config, shift=9.0)
    try:
        with pytest.raises(ReelignError, match="steps through noise levels that are not its own"):
            called(wan, tiny_size, two)
    finally:
        wan.pipeline.__dict__["scheduler"] = own


def test_weights_too_large_for_the_data_are_warned_of_with_the_step(
    wan: Generator, tiny_size: VideoSize, reward: LatentReward
) -> None:
    plain = sampled(wan, tiny_size, None)
    limit = 3 * float(plain.flatten(1).square().mean(dim=1).sqrt().max())
    shape, reward.settings = reward.settings, replace(reward.settings, largest=limit)
    guide = LatentGuide(reward, {"VQ": 300.0})
    sampled(wan, tiny_size, guide)
    reward.settings = shape
    assert set(guide.log.left) == {0, 1}
    assert "out of the data's range, first in step" in guide.log.sentences()[0]


def search(wan: Generator, size: VideoSize, reward: LatentReward, settings: SearchSettings) -> Any:
    seeds = list(range(10, 10 + settings.candidates))
    texts = wan.encode_prompts(PROMPTS[:1]), wan.encode_prompts([""])
    return best_of(wan, reward, {"VQ": 1.0}, *texts, seeds, size, steps=STEPS, guidance_scale=3.0, settings=settings)


def test_a_search_that_rejects_nobody_is_plain_best_of_n(
    wan: Generator, tiny_size: VideoSize, reward: LatentReward
) -> None:
    found = search(wan, tiny_size, reward, SearchSettings(candidates=4, keep=4))
    all_of_them = sampled(wan, tiny_size, None, seeds=[10, 11, 12, 13])
    values = reward(all_of_them, torch.zeros(4), wan.encode_prompts(PROMPTS[:1] * 4))["VQ"]
    assert found.seed == 10 + int(values.argmax())
    torch.testing.assert_close(found.latents[0], all_of_them[int(values.argmax())], rtol=1e-4, atol=1e-4)
    assert found.denoiser_calls == 2 * 4 * STEPS
    torch.testing.assert_close(torch.tensor(list(found.at_end.values())).sort().values, values.sort().values)


def test_the_worst_half_way_are_not_seen_through(wan: Generator, tiny_size: VideoSize, reward: LatentReward) -> None:
    found = search(wan, tiny_size, reward, SearchSettings(candidates=4, keep=1, look=0.5))
    assert found.denoiser_calls == 2 * (4 * 2 + 1 * 2)
    assert found.seed == max(found.at_look, key=found.at_look.__getitem__)
    assert list(found.at_end) == [found.seed]
    for wrong in ({"keep": 9}, {"keep": 0}, {"look": 1.0}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            SearchSettings(**wrong)


def test_online_alignment_is_judged_on_latents_and_nothing_is_decoded(
    wan: Generator, tiny_size: VideoSize, reward: LatentReward, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_latent_reward(reward, tmp_path / "reward")
    feedback = open_feedback(f"latent:{tmp_path / 'reward'}", {})
    assert isinstance(feedback, LatentFeedback)
    assert feedback.dimensions == ("VQ", "MQ")
    sides = Sides(wan.encode_prompts(PROMPTS), wan.encode_prompts([""]))
    latents = torch.randn((2, 3, *wan.latent_shape(tiny_size)), generator=torch.Generator().manual_seed(0))
    expected = reward(latents[1], torch.zeros(3), wan.encode_prompts(PROMPTS[1:] * 3))["MQ"]
    latents[0, 2] = math.nan
    groups = [Group(prompt, row, [1, 2, 3]) for row, prompt in enumerate(PROMPTS)]
    sampler = Sampler(tiny_size, STEPS, 3.0, sides, 4)

    def decoded(*arguments: Any, **further: Any) -> Tensor:
        raise AssertionError("nothing is to be decoded")

    monkeypatch.setattr(type(wan), "decode", decoded)
    shown = Shown(Rollout(groups, latents), wan, sampler, 8.0, 0, Clock(torch.device("cpu")))
    assert not feedback.reads_pixels
    found = feedback.scores(shown)["MQ"]
    torch.testing.assert_close(found[1], expected, rtol=1e-4, atol=1e-5)
    assert found.isnan().tolist() == [[False, False, True], [False] * 3]
    with pytest.raises(ReelignError, match="There is no latent reward"):
        open_feedback(f"latent:{tmp_path}", {})
