"""Reward gradients of long videos on real tiny image-to-video models: the exact gradient, runs, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor

from generators.tiny_ltx import save_ltx
from generators.tiny_svd import save_svd
from generators.tiny_wan22 import save_wan22_ti2v
from generators.tiny_wan_i2v import save_wan_i2v
from recipes.pixel_rewards import Light
from recipes.reward_gradient.test_align import assert_same
from reelign.diffusion.seeds import seed_from
from reelign.diffusion.steps import DDIM, Euler
from reelign.diffusion.truncation import LastSteps, OneStep, run, through
from reelign.errors import ReelignError
from reelign.generators import Conditioning, Generator, Guidance, VideoSize, load_generator
from reelign.objectives.reward_gradient import RewardGradient
from reelign.recipes.generation import generate
from reelign.recipes.planning.gradient import forwards_per_video
from reelign.recipes.reward_gradient.align import align_by_reward_gradient, plan_reward_gradient
from reelign.recipes.reward_gradient.frames import FrameChoice
from reelign.recipes.reward_gradient.scoring import PixelLoss, weights_of
from reelign.recipes.reward_gradient.segments import check_long
from reelign.recipes.reward_gradient.settings import RewardChoice, RewardGradientSettings
from reelign.recipes.reward_gradient.step import RewardGradientStep, route_for
from reelign.recipes.reward_gradient.stream import RolloutBatch
from reelign.recipes.samples import SampleSettings
from reelign.recipes.sampling import GenerateSettings, Sampling
from reelign.records import Workspace, image_prompt
from reelign.rewards import Reward
from reelign.rewards.joints import Joints
from reelign.training import LoRA, Policy, TrainerSettings
from reelign.training.asked import against
from reelign.training.graded_rollout import GradedRollout
from reelign.training.long_rollouts import sample_videos
from reelign.training.memory import LiveMemory
from reelign.training.staged_decode import DecodeSettings
from reelign.video import read_video
from reelign.video.long_clips import LongClip
from rewards.tiny_vjepa2 import save_vjepa2

SIZES = {"svd": VideoSize(3, 16, 16), "ti2v": VideoSize(5, 32, 32)}
SEGMENTS, SEEDS, PROMPTS = 3, [11, 12], ["a red square", "a blue disc"]
SETTINGS = RewardGradientSettings(
    reward=RewardChoice(name="recipes.pixel_rewards:Light"),
    decode=DecodeSettings(clamp="straight_through", mode="chunk"),
    gradient=LastSteps(steps=2),
    through="all",
    sampler=DDIM(eta=1.0),
    lora=LoRA(rank=2),
    batch_size=2,
    micro_batch_size=2,
    trackers=(),
    trainer=TrainerSettings(steps=2, learning_rate=0.02, checkpoint_every=1),
)

QUICK = replace(SETTINGS, gradient=LastSteps(steps=1), batch_size=1, micro_batch_size=1)


class Square(Light):
    """Mean of squared brightness: every frame's derivative is its own."""

    name = "square"

    def measure(self, videos: Tensor) -> Tensor:
        return videos.square().flatten(1).mean(dim=1)


@dataclass
class World:
    """A model with an adapter that does something, and what its videos begin with."""

    policy: Policy
    sampling: Sampling
    own: Conditioning
    negative: Conditioning

    @property
    def model(self) -> Generator:
        return self.policy.generator

    @property
    def clip(self) -> LongClip:
        return LongClip(self.sampling.segments, self.sampling.size.num_frames)


@pytest.fixture(scope="module")
def wan(tmp_path_factory: pytest.TempPathFactory) -> World:
    folder = tmp_path_factory.mktemp("models") / "wan-i2v"
    save_wan_i2v(folder)
    return world_of(folder)


@pytest.fixture(scope="module")
def quick(wan: World) -> World:
    """Its first video alone, in two steps."""
    own = wan.own.take(torch.tensor([0]))
    return World(wan.policy, replace(wan.sampling, steps=2), own, wan.negative)


def world_of(folder: Path, *, videos: int = 2, segments: int = SEGMENTS) -> World:
    model = load_generator(str(folder))
    size = SIZES.get(folder.name, VideoSize(5, 16, 16))
    images = torch.rand(videos, 3, size.height, size.width, generator=torch.Generator().manual_seed(0))
    own = model.encode_prompts(PROMPTS[:videos]).joined(model.encode_condition(images, size))
    policy = Policy(model, LoRA(rank=2))
    chance = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for parameter in policy.parameters.values():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=chance))
    return World(policy, Sampling(size, 8.0, 3, 3.0, "", segments=segments), own, model.encode_prompts([""]))


def gradients(world: World, settings: RewardGradientSettings, reward: Reward) -> tuple[dict[str, Tensor], Any]:
    for parameter in world.policy.parameters.values():
        parameter.grad = None
    loss = PixelLoss(reward, settings.objective, weights_of(settings.objective, reward), settings.frames, 8.0)
    step = RewardGradientStep(loss, settings, world.sampling, world.negative)
    metrics = step.accumulate_gradients(
        world.policy, RolloutBatch(PROMPTS[: len(world.own)], world.own, SEEDS[: len(world.own)], 5)
    )
    return {name: each.grad.clone() for name, each in world.policy.parameters.items() if each.grad is not None}, metrics


def in_one_graph(world: World, settings: RewardGradientSettings, frames: list[int]) -> tuple[dict[str, Tensor], float]:
    """The same by autograd alone: all segments, decodes, encoders and the reward in one graph."""
    model, sampling = world.model, world.sampling
    own, negative = world.own, against(world.own, world.negative)
    route = route_for(model, settings, sampling, torch.Generator())
    parts = []
    for segment in range(sampling.segments):
        first = SEEDS[: len(own)]
        seeds = first if segment == 0 else [seed_from(seed, "segment", segment) for seed in first]
        rollout = GradedRollout(model, own, Guidance(3.0, negative), settings.sampler, route, seeds)
        noisy = run(rollout.step, rollout.start(model.latent_shape(sampling.size)), rollout.first)
        latents = rollout.finish(through(rollout.step, noisy, rollout.first, route.graded))
        raw = model.unnormalised(latents)
        pixels = model.decoder.chain(raw, model.decoder.pieces(raw.shape[2]))
        video = (pixels.transpose(1, 2) + 1) / 2
        video = video + (video.clamp(0, 1) - video).detach()
        parts.append(video if segment == 0 else video[:, 1:])
        last = video[:, -1] if settings.through == "all" else video[:, -1].detach()
        image = model.continue_from(last, sampling.size)
        own, negative = own.joined(image), negative.joined(image)
        if settings.through == "last" and segment < sampling.segments - 1:
            parts[-1] = parts[-1].detach()
    loss = -torch.cat(parts, dim=1)[:, frames].square().flatten(1).mean(dim=1).mean()
    names = list(world.policy.parameters)
    found = torch.autograd.grad(loss, [world.policy.parameters[name] for name in names])
    return dict(zip(names, found, strict=True)), float(loss.detach())


def check_exact(world: World, settings: RewardGradientSettings) -> None:
    reward = Square()
    found, metrics = gradients(world, settings, reward)
    wanted, loss = in_one_graph(world, settings, list(range(world.clip.length)))
    assert_same(found, wanted)
    assert metrics["loss"] == pytest.approx(loss, rel=1e-5)
    assert reward.shapes == [(len(world.own), world.clip.length, 3, 16, 16)]
    # Two sides of guidance; three steps of each segment, and those with gradient again.
    again = 2 * (world.clip.segments if settings.through == "all" else 1)
    assert metrics["forwards"] == 2 * len(world.own) * (3 * world.clip.segments + again)
    planned = forwards_per_video(world.model, settings, world.sampling)
    assert sum(planned) * len(world.own) == metrics["forwards"]


@pytest.mark.parametrize("through_which", ["all", pytest.param("last", marks=pytest.mark.slow)])
def test_segment_by_segment_is_the_gradient_of_one_graph(wan: World, through_which: Any) -> None:
    check_exact(wan, replace(SETTINGS, through=through_which))


@pytest.mark.slow
@pytest.mark.parametrize("through_which", ["all", "last"])
def test_so_it_is_of_stable_video_diffusion(through_which: Any, tmp_path: Path) -> None:
    save_svd(tmp_path / "svd")
    check_exact(world_of(tmp_path / "svd"), replace(SETTINGS, through=through_which))


def test_so_it_is_where_the_first_latents_are_given(tmp_path: Path) -> None:
    """Two segments of one video of Wan 2.2 TI2V, whose first latent frame is that of the frame it goes on from."""
    save_wan22_ti2v(tmp_path / "ti2v")
    world = world_of(tmp_path / "ti2v", videos=1, segments=2)
    settings = replace(SETTINGS, gradient=LastSteps(steps=1), sampler=Euler())
    found, _ = gradients(world, settings, Square())
    assert_same(found, in_one_graph(world, settings, list(range(world.clip.length)))[0])


@pytest.mark.slow
def test_of_a_window_of_frames_too(tmp_path: Path) -> None:
    """Two segments of one video, with one step that carries gradient."""
    save_svd(tmp_path / "svd")
    world = world_of(tmp_path / "svd", videos=1, segments=2)
    settings = replace(SETTINGS, gradient=LastSteps(steps=1), frames=FrameChoice(count=2, how="window", start=3))
    found, _ = gradients(world, settings, Square())
    assert_same(found, in_one_graph(world, settings, [3, 4])[0])


def test_what_no_reward_reads_is_not_made(quick: World) -> None:
    """Two frames of the first segment: nothing goes on from it, and all is as with one segment."""
    settings = replace(QUICK, frames=FrameChoice(count=2, how="window", start=1))
    found, metrics = gradients(quick, settings, Square())
    assert metrics["forwards"] == 2 * len(quick.own) * (2 + 1)
    short = World(quick.policy, replace(quick.sampling, segments=1), quick.own, quick.negative)
    alone, _ = gradients(short, replace(settings, through="last"), Square())
    assert_same(found, alone, 1e-6)


def test_through_the_last_segment_frames_are_its_own(quick: World) -> None:
    """A window of its frames; and of a reward over the joints the last one, whose first frame is held constant."""
    reward = Light()
    settings = replace(QUICK, through="last", frames=FrameChoice(count=2, how="window", start=0))
    found, _ = gradients(quick, settings, reward)
    assert reward.shapes == [(len(quick.own), 2, 3, 16, 16)]
    joints = Joints(reward=Light(), segments=SEGMENTS, segment_frames=quick.sampling.size.num_frames, which="last")
    over, _ = gradients(quick, replace(settings, frames=FrameChoice()), joints)
    first, _ = gradients(quick, replace(settings, frames=FrameChoice(count=1, how="window", start=0)), Light())
    assert_same(over, {name: each / 2 for name, each in first.items()})
    assert any(not torch.equal(found[name], each) for name, each in first.items())


@pytest.mark.slow
def test_the_references_pull_is_the_mean_over_segments(quick: World) -> None:
    held = replace(QUICK, objective=RewardGradient(reference=0.1))
    together, metrics = gradients(quick, held, Square())
    free, _ = gradients(quick, QUICK, Square())
    assert metrics["base_distance"] > 0
    assert any(not torch.equal(free[name], each) for name, each in together.items())


@pytest.mark.slow
def test_memory_grows_by_pixels_and_latents_alone(wan: World) -> None:
    """From two segments to four: of one graph by the activations of two more, here by what is kept of them."""

    def peak(segments: int, call: Callable[[World], Any]) -> int:
        longer = World(wan.policy, replace(wan.sampling, segments=segments), wan.own, wan.negative)
        call(longer)
        with LiveMemory(list(wan.policy.parameters.values())) as memory:
            call(longer)
        return memory.peak

    def staged(world: World) -> None:
        gradients(world, SETTINGS, Square())

    def whole(world: World) -> None:
        in_one_graph(world, SETTINGS, list(range(world.clip.length)))

    size = wan.sampling.size
    pixels = 4 * len(wan.own) * size.num_frames * 3 * size.height * size.width
    latents = 4 * len(wan.own) * torch.Size(wan.model.latent_shape(size)).numel()
    image = sum(wan.own[name].nbytes for name in ("image_latents", "image_embeds"))
    grown = (peak(4, staged) - peak(2, staged)) / 2
    # Pixels as read, as a leaf and with their gradient, twice in places; of the steps two inputs and the end.
    assert grown <= 6 * pixels + 4 * latents + 2 * image
    assert (peak(4, whole) - peak(2, whole)) / 2 > 5 * grown


def test_long_videos_are_sampled_segment_by_segment(wan: World) -> None:
    model, size = wan.model, wan.sampling.size
    own, guidance = wan.own, Guidance(3.0, against(wan.own, wan.negative))
    made = sample_videos(model, own, SEEDS, size, steps=2, guidance=guidance, segments=2)
    first = model.sample(own, SEEDS, size, steps=2, guidance=guidance)
    assert torch.equal(made.latents, first)
    videos = model.decode(first)
    assert torch.equal(made.videos[:, : size.num_frames], videos)
    image = model.continue_from(videos[:, -1], size)
    again = Guidance(3.0, against(own.joined(image), wan.negative))
    seeds = [seed_from(seed, "segment", 1) for seed in SEEDS]
    second = model.decode(model.sample(own.joined(image), seeds, size, steps=2, guidance=again))
    torch.testing.assert_close(made.videos[:, size.num_frames :], second[:, 1:])


def test_a_run_from_a_workspace_to_its_samples(wan: World, tmp_path: Path) -> None:
    """V-JEPA 2 over the joints; candidates and samples are whole videos."""
    Image.new("RGB", (16, 16), (200, 40, 10)).save(tmp_path / "red.png")
    workspace = Workspace.create(tmp_path / "long", model=wan.model.model)
    workspace.add_prompts([image_prompt(PROMPTS[0], tmp_path / "red.png")], "train")
    how = GenerateSettings(
        candidates=1, num_inference_steps=1, guidance_scale=1.0, num_frames=5, height=16, width=16, fps=8, segments=2
    )
    vjepa2 = {"model": str(save_vjepa2(tmp_path / "vjepa2")), "frames": 4, "device": "cpu"}
    joints = {"reward": "vjepa2", "options": vjepa2, "segments": 2, "segment_frames": 5}
    settings = replace(
        SETTINGS,
        reward=RewardChoice(name="joints", options=joints),
        gradient=LastSteps(steps=1),
        samples=SampleSettings(every=1, count=1),
        trainer=replace(SETTINGS.trainer, steps=1),
        batch_size=1,
    )
    outline = load_generator(wan.model.model, weights=False)
    told = plan_reward_gradient(workspace, outline, settings, sampling=how).told
    assert any("2 segments and 9 frames" in line and "through all of them" in line for line in told)
    done = align_by_reward_gradient(workspace, load_generator(wan.model.model, encoders=False), settings, sampling=how)
    assert len(read_video(done.folder / "samples" / "step-000001" / "1.mp4").frames) == 9
    weights = load_file(done.adapter / "pytorch_lora_weights.safetensors")
    assert any(bool(tensor.any()) for name, tensor in weights.items() if "lora_B" in name)
    model = load_generator(wan.model.model)
    made = generate(workspace, model, how)
    (video,) = made.videos
    assert (video.num_frames, video.latents) == (9, None)
    assert len(read_video(workspace.video_path(video)).frames) == 9
    assert generate(workspace, model, how).made == 0


REFUSED: list[tuple[dict[str, Any], dict[str, Any], str]] = [
    ({}, {"segments": 1}, "through=all takes the gradient through all segments, and there is one"),
    ({"gradient": OneStep()}, {}, "gradient.name=one_step is of clips of one segment"),
    ({"graph": "held"}, {}, "graph=held is of clips of one segment"),
    ({"decode": DecodeSettings(mode="first")}, {}, "decode.mode=first is of clips of one segment"),
    ({"edit_from": 0.5, "real": "real.csv"}, {}, "edit_from begins with real clips"),
    ({"reward": RewardChoice(name="latent:here")}, {}, "latent:here reads the latents of one segment"),
    ({"frames": FrameChoice(count=5), "through": "last"}, {}, "more than the 4 frames"),
]


@pytest.mark.parametrize(("settings", "sampling", "told"), REFUSED)
def test_what_long_videos_do_not_have_is_refused(
    wan: World, settings: dict[str, Any], sampling: dict[str, Any], told: str
) -> None:
    with pytest.raises(ReelignError, match=told):
        check_long(wan.model, replace(SETTINGS, **settings), replace(wan.sampling, **sampling))


def test_models_that_cannot_go_on_are_refused(tiny_wan: Generator, tmp_path: Path) -> None:
    how = GenerateSettings(num_frames=9, height=16, width=16, segments=3)
    with pytest.raises(ReelignError, match="makes videos of text alone, and each of 3 segments goes on") as caught:
        Sampling.resolve(how, tiny_wan)
    assert "segments=1" in caught.value.mend
    save_ltx(tmp_path / "ltx", task="image")
    both = load_generator(str(tmp_path / "ltx"), weights=False)
    sampling = Sampling.resolve(replace(how, height=32, width=32), both)
    with pytest.raises(ReelignError, match="hands on no gradient, and through=all goes through it"):
        check_long(both, SETTINGS, sampling)
    check_long(both, replace(SETTINGS, through="last"), sampling)
    with pytest.raises(ReelignError, match="A clip of 3 segments of 1 frames cannot be"):
        Sampling.resolve(replace(how, num_frames=1, height=32, width=32), both)
