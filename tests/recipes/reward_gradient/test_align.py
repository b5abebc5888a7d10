"""Reward gradients on a real tiny Wan: the exact gradient in every mode, runs that resume, and what is refused."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file
from torch import Tensor

from generators.tiny_wan22 import save_wan22
from recipes.pixel_rewards import Light
from reelign.diffusion.seeds import generator_from
from reelign.diffusion.steps import DDIM, EDMEuler
from reelign.diffusion.truncation import LastSteps, OneStep, RandomSteps, Renoised, run, through
from reelign.errors import ReelignError
from reelign.generators import Conditioning, Generator, Guidance, VideoSize
from reelign.objectives.reward_gradient import RewardGradient
from reelign.recipes.reward_gradient.align import align_by_reward_gradient, check_reward_gradient, plan_reward_gradient
from reelign.recipes.reward_gradient.frames import FrameChoice
from reelign.recipes.reward_gradient.scoring import PixelLoss, open_choice, weights_of
from reelign.recipes.reward_gradient.settings import RewardChoice, RewardGradientSettings
from reelign.recipes.reward_gradient.step import RewardGradientStep, route_for, schedule
from reelign.recipes.reward_gradient.stream import RolloutBatch
from reelign.recipes.sampling import GenerateSettings, Sampling
from reelign.recipes.watching.settings import WatchSettings
from reelign.records import Workspace
from reelign.rewards import Reward
from reelign.training import LoRA, Policy, TrainerSettings, base_distance
from reelign.training.graded_rollout import GradedRollout
from reelign.training.staged_decode import DecodeSettings
from reelign.video import write_video
from rewards.tiny_clip import save_clip

STEPS = 3
PROMPTS = ["a red square", "a blue disc"]
SAMPLING = Sampling(VideoSize(9, 16, 16), 8.0, STEPS, 3.0, "")
SETTINGS = RewardGradientSettings(
    reward=RewardChoice(name="recipes.pixel_rewards:Light"),
    decode=DecodeSettings(clamp="none", mode="chunk"),
    lora=LoRA(rank=2),
    batch_size=2,
    micro_batch_size=2,
    trackers=(),
    trainer=TrainerSettings(steps=2, learning_rate=0.02, checkpoint_every=1),
)


@pytest.fixture
def policy(tiny_wan: Generator) -> Policy:
    """With an adapter that does something: at its initial zeros half of its weights have no gradient."""
    made = Policy(tiny_wan, LoRA(rank=2))
    chance = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for parameter in made.parameters.values():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=chance))
    return made


@pytest.fixture(scope="module")
def words(tiny_wan_folder: Path) -> tuple[Conditioning, Conditioning]:
    from reelign.generators import load_generator

    generator = load_generator(str(tiny_wan_folder))
    return generator.encode_prompts(PROMPTS), generator.encode_prompts([""])


def batch_of(words: tuple[Conditioning, Conditioning], real: Tensor | None = None) -> RolloutBatch:
    return RolloutBatch(PROMPTS, words[0], [11, 12], 5, real)


def step_of(settings: RewardGradientSettings, negative: Conditioning, reward: Reward | None = None) -> Any:
    reward = reward or Light()
    loss = PixelLoss(reward, settings.objective, weights_of(settings.objective, reward), settings.frames, 8.0)
    return RewardGradientStep(loss, settings, SAMPLING, negative)


def gradients(
    policy: Policy,
    settings: RewardGradientSettings,
    words: tuple[Conditioning, Conditioning],
    *,
    reward: Reward | None = None,
    real: Tensor | None = None,
) -> tuple[dict[str, Tensor], dict[str, float]]:
    for parameter in policy.parameters.values():
        parameter.grad = None
    metrics = step_of(settings, words[1], reward).accumulate_gradients(policy, batch_of(words, real))
    return {name: each.grad.clone() for name, each in policy.parameters.items() if each.grad is not None}, metrics


def rollout_of(policy: Policy, settings: RewardGradientSettings, words: tuple[Conditioning, Conditioning]) -> Any:
    route = route_for(policy.generator, settings, SAMPLING, generator_from(5, "route"))
    negative = words[1].take(torch.tensor([0, 0]))
    return GradedRollout(policy.generator, words[0], Guidance(3.0, negative), settings.sampler, route, [11, 12])


def in_one_graph(
    policy: Policy, settings: RewardGradientSettings, words: tuple[Conditioning, Conditioning], frames: list[int]
) -> tuple[dict[str, Tensor], float]:
    """The same by autograd alone: sampler, diffusers' own decode and reward in one graph."""
    rollout = rollout_of(policy, settings, words)
    start = rollout.start(policy.generator.latent_shape(SAMPLING.size))
    noisy = run(rollout.step, start, rollout.first)
    latents = rollout.finish(through(rollout.step, noisy, rollout.first, rollout.route.graded))
    raw = policy.generator.unnormalised(latents)
    pixels = policy.generator.decoder.chain(raw, policy.generator.decoder.pieces(raw.shape[2]))
    video = ((pixels.transpose(1, 2) + 1) / 2)[:, frames]
    loss = -video.flatten(1).mean(dim=1).mean()
    names = list(policy.parameters)
    found = torch.autograd.grad(loss, [policy.parameters[name] for name in names])
    return dict(zip(names, found, strict=True)), float(loss)


def assert_same(found: dict[str, Tensor], wanted: dict[str, Tensor], tolerance: float = 2e-5) -> None:
    assert found.keys() == wanted.keys()
    size = max(float(each.abs().max()) for each in wanted.values())
    assert size > 0
    for name, each in wanted.items():
        torch.testing.assert_close(found[name], each, rtol=1e-4, atol=tolerance * size)


@pytest.mark.parametrize(
    ("graph", "mode", "sampler"),
    [("step", "reverse", DDIM(eta=1.0)), ("held", "whole", EDMEuler(churn=0.2))],
)
def test_link_by_link_is_the_gradient_of_one_graph(
    policy: Policy, words: tuple[Conditioning, Conditioning], graph: Any, mode: Any, sampler: Any
) -> None:
    settings = replace(
        SETTINGS,
        graph=graph,
        gradient=LastSteps(steps=2),
        decode=DecodeSettings(clamp="none", mode=mode),
        frames=FrameChoice(count=3, how="window", start=3),
        sampler=sampler,
    )
    wanted, loss = in_one_graph(policy, settings, words, [3, 4, 5])
    reward = Light()
    found, metrics = gradients(policy, settings, words, reward=reward)
    assert_same(found, wanted)
    assert metrics["loss"] == pytest.approx(loss, rel=1e-5)
    assert metrics["reward"] == metrics["reward/light"] == pytest.approx(-loss, rel=1e-5)
    assert reward.shapes == [(2, 3, 3, 16, 16)]
    # One step before, two without a graph where they run again, two with one; guidance asks twice, of two videos.
    assert metrics["forwards"] == 4 * (1 + 2 + (2 if graph == "step" else 0))
    assert (metrics["reward/queries"], metrics["gradient/steps"]) == (2, 2)


def test_micro_batches_add_up_to_the_batch(policy: Policy, words: tuple[Conditioning, Conditioning]) -> None:
    settings = replace(SETTINGS, objective=RewardGradient(cap=1.5, scale=0.5, reference=0.1))
    whole, together = gradients(policy, settings, words)
    parts, apart = gradients(policy, replace(settings, micro_batch_size=1), words)
    assert_same(parts, whole)
    assert apart["loss"] == pytest.approx(together["loss"], rel=1e-5)
    free, _ = gradients(policy, replace(settings, objective=RewardGradient(cap=1.5, scale=0.5)), words)
    assert any(not torch.equal(free[name], each) for name, each in whole.items())
    assert together["base_distance"] > 0


@pytest.mark.parametrize(
    "gradient", [RandomSteps(), Renoised(times=2), OneStep(window=(0.3, 1.0))], ids=lambda each: each.name
)
def test_every_way_to_truncate_climbs(policy: Policy, words: tuple[Conditioning, Conditioning], gradient: Any) -> None:
    settings = replace(SETTINGS, gradient=gradient, frames=FrameChoice(count=2, how="segments"))
    found, metrics = gradients(policy, settings, words)
    reward = Light()
    with torch.no_grad():
        for name, each in found.items():
            policy.parameters[name].sub_(
                0.05 * each / max(float(torch.cat([g.flatten() for g in found.values()]).norm()), 1e-12)
            )
    policy.refresh()
    _, after = gradients(policy, settings, words, reward=reward)
    assert after["loss"] < metrics["loss"]
    assert metrics["reward/queries"] == (4 if gradient.name == "renoised" else 2)
    assert reward.shapes[0][1] == 2


def test_the_reference_pulls_with_the_distance_to_it(policy: Policy, words: tuple[Conditioning, Conditioning]) -> None:
    """With λ the gradient is that of the reward plus λ times the distance's, at the videos that were made."""
    free, _ = gradients(policy, SETTINGS, words)
    held, metrics = gradients(policy, replace(SETTINGS, objective=RewardGradient(reference=0.3)), words)
    rollout = rollout_of(policy, SETTINGS, words)
    with torch.no_grad():
        start = rollout.start(policy.generator.latent_shape(SAMPLING.size))
        latents = run(rollout.step, start, STEPS)
    from reelign.recipes.steps.draws import draw_for

    draw = draw_for(latents.shape, SETTINGS.anchor_steps(), policy.generator, 5)
    distance = base_distance(policy, latents, words[0], draw).mean()
    names = list(policy.parameters)
    pull = torch.autograd.grad(distance, [policy.parameters[name] for name in names])
    assert_same(held, {name: free[name] + 0.3 * each for name, each in zip(names, pull, strict=True)})
    assert metrics["base_distance"] == pytest.approx(float(distance), rel=1e-4)


def test_rollouts_from_real_videos_begin_at_their_level(
    policy: Policy, words: tuple[Conditioning, Conditioning]
) -> None:
    real = torch.randn(2, 16, 3, 2, 2, generator=torch.Generator().manual_seed(3))
    sigmas = policy.generator.sigmas(STEPS)
    settings = replace(SETTINGS, edit_from=float(sigmas[1]), real="real.csv")
    rollout = rollout_of(policy, settings, words)
    assert rollout.route.steps == STEPS - 1
    start = rollout.start(tuple(real.shape[1:]), real)
    plain = rollout_of(policy, SETTINGS, words).start(tuple(real.shape[1:]))
    torch.testing.assert_close(start, (1 - sigmas[1]) * real + sigmas[1] * plain)
    found, metrics = gradients(policy, settings, words, real=real)
    assert found
    assert metrics["forwards"] == 4 * 3  # one before, the last one twice


def test_frames_that_count_for_less(policy: Policy, words: tuple[Conditioning, Conditioning]) -> None:
    reward = Light()
    settings = replace(SETTINGS, frames=FrameChoice(count=3, attenuation=50.0))
    _, metrics = gradients(policy, settings, words, reward=reward)
    middle = replace(SETTINGS, frames=FrameChoice(count=1))
    assert reward.shapes == [(6, 1, 3, 16, 16)]
    assert metrics["reward"] == pytest.approx(gradients(policy, middle, words)[1]["reward"], rel=1e-5)


def test_a_reward_models_blocks_may_run_again(
    policy: Policy, words: tuple[Conditioning, Conditioning], tmp_path: Path
) -> None:
    """PickScore's own class over a tiny CLIP, down to the adapter's weights."""
    folder = str(save_clip(tmp_path))
    options = {"model": folder, "tokenizer": folder}
    settings = replace(SETTINGS, decode=DecodeSettings(mode="chunk"), frames=FrameChoice(count=2))
    plain, _ = gradients(policy, settings, words, reward=open_choice(RewardChoice(name="pickscore", options=options)))
    again = open_choice(RewardChoice(name="pickscore", options=options, checkpointing=True))
    found, _ = gradients(policy, settings, words, reward=again)
    assert any(getattr(each, "gradient_checkpointing", False) for each in again.tower.model.modules())  # type: ignore[attr-defined]
    assert_same(found, plain)
    with pytest.raises(ReelignError, match="'light' holds no model"):
        open_choice(RewardChoice(name="recipes.pixel_rewards:Light", checkpointing=True))


def test_a_video_without_a_score_is_named_and_moves_nothing(
    policy: Policy, words: tuple[Conditioning, Conditioning], caplog: pytest.LogCaptureFixture
) -> None:
    from recipes.pixel_rewards import Unsure

    found, metrics = gradients(policy, SETTINGS, words, reward=Unsure())
    alone = RolloutBatch(PROMPTS[:1], words[0].take(torch.tensor([0])), [11], 5)
    for parameter in policy.parameters.values():
        parameter.grad = None
    step_of(SETTINGS, words[1]).accumulate_gradients(policy, alone)
    half = {name: each.grad / 2 for name, each in policy.parameters.items() if each.grad is not None}
    assert_same(found, half)
    assert metrics["reward/failed"] == 1
    assert "'a blue disc' with seed 12" in caplog.text


def test_a_first_micro_batch_without_a_score_and_a_later_batch_end_no_run(
    policy: Policy, words: tuple[Conditioning, Conditioning]
) -> None:
    from recipes.pixel_rewards import Unsure

    singly = replace(SETTINGS, micro_batch_size=1)
    turned = RolloutBatch(PROMPTS[::-1], words[0].take(torch.tensor([1, 0])), [12, 11], 5)
    step = step_of(singly, words[1], Unsure())
    assert math.isfinite(step.accumulate_gradients(policy, turned)["loss"])
    lost = RolloutBatch(PROMPTS[1:], words[0].take(torch.tensor([1])), [13], 5)
    again = step_of(singly, words[1], Unsure())
    with pytest.raises(ReelignError, match="could not score a single video of the first batch"):
        again.accumulate_gradients(policy, lost)
    again.load_state_dict(step.state_dict())
    for each in (step, again):
        metrics = each.accumulate_gradients(policy, lost)
        assert math.isnan(metrics["loss"])
        assert metrics["reward/failed"] == 2


def test_videos_at_their_cap_are_no_proof_that_a_reward_detaches(
    policy: Policy, words: tuple[Conditioning, Conditioning]
) -> None:
    def composed(name: str, cap: float) -> Reward:
        parts = [{"reward": f"recipes.pixel_rewards:{name}", "weights": {"light": 1}, "cap": cap}]
        return open_choice(RewardChoice(name="composed", options={"parts": parts}))

    own = replace(SETTINGS, objective=RewardGradient(weights={"overall": 1}))
    found, metrics = gradients(policy, own, words, reward=composed("Light", 0.001))
    assert metrics["reward"] == pytest.approx(0.001)
    assert not any(each.any() for each in found.values())
    capped = replace(SETTINGS, objective=RewardGradient(cap=0.001))
    step = step_of(capped, words[1])
    step.accumulate_gradients(policy, batch_of(words))
    assert not step.state_dict()["reached"]
    with pytest.raises(ReelignError, match="No gradient of the reward 'composed'"):
        gradients(policy, own, words, reward=composed("Rounded", 1000.0))


def test_a_reward_that_breaks_its_promise_is_named(policy: Policy, words: tuple[Conditioning, Conditioning]) -> None:
    from recipes.pixel_rewards import Short

    with pytest.raises(ReelignError, match=r"'short' returned \{'light': \(1,\)\} for 2 videos"):
        gradients(policy, SETTINGS, words, reward=Short())


@pytest.mark.parametrize(
    ("choice", "told"),
    [
        (RewardChoice(name="http://127.0.0.1:9"), "'http://127.0.0.1:9' is not differentiable"),
        (RewardChoice(name="aesthetik"), "No reward is called 'aesthetik'"),
        (
            RewardChoice(name="composed", options={"parts": [{"reward": "videoscore2", "weights": {"quality": 1}}]}),
            "'videoscore2' is not differentiable",
        ),
        (
            RewardChoice(
                name="composed",
                options={"parts": [{"reward": "colour", "weights": {"colour": 1}, "codec_roundtrip": True}]},
            ),
            "codec_roundtrip lets no gradient through",
        ),
        (
            RewardChoice(
                name="composed",
                options={"parts": [{"reward": "sharpness", "weights": {"sharpness": 1}, "normalise": "group"}]},
            ),
            "over a group their gradient is 0",
        ),
    ],
)
def test_rewards_that_cannot_be_climbed_are_refused_unopened(choice: RewardChoice, told: str) -> None:
    with pytest.raises(ReelignError, match=told):
        open_choice(choice)


def test_a_decoder_in_float16_is_refused(empty: Workspace, tiny_wan: Generator, small: GenerateSettings) -> None:
    tiny_wan.pipeline.vae.to(torch.float16)
    with pytest.raises(ReelignError, match=r"VAE of .* is in float16"):
        align_by_reward_gradient(empty, tiny_wan, SETTINGS, sampling=small)


@pytest.mark.parametrize(
    ("experts", "gradient", "told"),
    [
        (("transformer",), LastSteps(), r"step 4 of 4, .*experts=\[transformer\] does not train"),
        (("transformer_2",), LastSteps(steps=4), r"step 1 of 4"),
        (("transformer_2",), RandomSteps(), "step 1 of 4"),
        (("transformer",), OneStep(), "step 4 of 4"),
        (("transformer_2",), LastSteps(steps=2), ""),
        (("transformer",), LastSteps(steps=4), ""),
        (("transformer",), OneStep(window=(0, 0.5)), ""),
    ],
)
def test_a_gradient_that_begins_at_an_untrained_expert_is_refused(
    tmp_path: Path, experts: tuple[str, ...], gradient: Any, told: str
) -> None:
    from reelign.generators import load_generator

    save_wan22(tmp_path / "wan22")
    generator = load_generator(str(tmp_path / "wan22"))
    settings = replace(SETTINGS, experts=experts, gradient=gradient)
    sampling = replace(SAMPLING, steps=4)
    assert generator.expert_rows(schedule(generator, settings, sampling)[:-1])["transformer"].tolist()[0]
    if told:
        with pytest.raises(ReelignError, match=told):
            check_reward_gradient(generator, settings, sampling)
        return
    check_reward_gradient(generator, settings, sampling)
    found = Policy(generator, LoRA(rank=2), experts=experts)
    words = generator.encode_prompts(PROMPTS), generator.encode_prompts([""])
    loss = PixelLoss(Light(), settings.objective, {"light": 1.0}, settings.frames, 8.0)
    metrics = RewardGradientStep(loss, settings, sampling, words[1]).accumulate_gradients(found, batch_of(words))
    assert math.isfinite(metrics["loss"])
    assert any(each.grad is not None and each.grad.any() for each in found.parameters.values())


def test_edited_clips_bring_the_prompts_that_are_trained_on(
    empty: Workspace, tiny_wan: Generator, tiny_wan_folder: Path, small: GenerateSettings, tmp_path: Path
) -> None:
    from reelign.generators import load_generator

    write_video(tmp_path / "one.mp4", torch.full((9, 3, 16, 16), 0.5), 8)
    (tmp_path / "real.csv").write_text("prompt,video\na red disc,one.mp4\n")
    empty.add_prompts(["a red disc"], "held_out")
    edited = replace(SETTINGS, edit_from=0.6, real=str(tmp_path / "real.csv"))
    with pytest.warns(UserWarning, match="'a red disc'"):
        outlook = plan_reward_gradient(empty, tiny_wan, edited, sampling=small)
    assert outlook.videos_to_encode == 1
    assert any("1 real clips" in line and "noised" in line for line in outlook.told)
    with pytest.warns(UserWarning, match="'a red disc'"):
        done = align_by_reward_gradient(empty, load_generator(str(tiny_wan_folder)), edited, sampling=small)
    config = yaml.safe_load((done.folder / "config.yaml").read_text())
    assert config["vae"] == "float32"
    assert config["reward_version"] == "1"


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("Detached", "No gradient of the reward 'detached' reached"),
        ("Rounded", "No gradient of the reward 'rounded'"),
        ("Blind", "'blind' could not score a single video"),
        ("Counted", "'counted' is not differentiable"),
        ("Steep", "'steep' scored videos, and its gradient is finite on none"),
    ],
)
def test_a_reward_that_gives_no_gradient_is_named_before_the_first_update(
    empty: Workspace, tiny_wan: Generator, small: GenerateSettings, name: str, told: str
) -> None:
    settings = replace(SETTINGS, reward=RewardChoice(name=f"recipes.pixel_rewards:{name}"))
    with pytest.raises(ReelignError, match=told) as caught:
        align_by_reward_gradient(empty, tiny_wan, settings, sampling=small)
    assert name in ("Blind", "Steep") or "aesthetic" in str(caught.value)
    assert not (empty.root / "runs" / "align" / "checkpoints").exists()


def test_what_the_schedule_or_the_clip_does_not_have_is_refused_first(
    empty: Workspace, tiny_wan: Generator, small: GenerateSettings
) -> None:
    for settings, told in (
        (replace(SETTINGS, gradient=LastSteps(steps=3)), r"gradient\.steps=3 .* schedule's 2"),
        (replace(SETTINGS, frames=FrameChoice(count=4, how="window", start=6)), "outside the clip"),
        (replace(SETTINGS, reward=RewardChoice(name="videoscore2")), "'videoscore2' is not differentiable"),
        (replace(SETTINGS, objective=RewardGradient(weights={"VQ": 1})), "'light' does not score"),
    ):
        with pytest.raises(ReelignError, match=told):
            align_by_reward_gradient(empty, tiny_wan, settings, sampling=small)
        if "does not score" not in told:
            with pytest.raises(ReelignError, match=told):
                plan_reward_gradient(empty, tiny_wan, settings, sampling=small)
    assert not any((empty.root / "runs").iterdir())


@pytest.mark.parametrize(
    ("given", "word"),
    [
        ({"batch_size": 0}, "batch_size"),
        ({"edit_from": 1.5, "real": "real.csv"}, "edit_from"),
        ({"edit_from": 0.5}, "real must name"),
        ({"real": "real.csv"}, "real=real.csv does nothing"),
        ({"data_anchor": -1}, "data_anchor"),
        ({"decode": DecodeSettings(frames=(1,))}, "decode.frames"),
        ({"graph": "held", "gradient": Renoised()}, "graph must be step"),
        ({"shift": 0}, "shift"),
        (
            {
                "decode": DecodeSettings(mode="window", window=(1, 2)),
                "frames": FrameChoice(count=1, how="random"),
            },
            "decode.mode must not be window",
        ),
    ],
)
def test_impossible_settings_are_refused(given: dict[str, Any], word: str) -> None:
    with pytest.raises(ValueError, match=f"^{word}"):
        RewardGradientSettings(**given)


def test_a_run_climbs_and_goes_on_where_it_stopped(
    empty: Workspace, tiny_wan_folder: Path, small: GenerateSettings, tmp_path: Path
) -> None:
    """Anchored on real videos, with a moving average and a watch; stopped after a step it ends as if it never was."""
    from reelign.generators import load_generator

    rows = ["prompt,video"]
    for name, light in (("one", 0.3), ("two", 0.6)):
        write_video(tmp_path / f"{name}.mp4", torch.full((9, 3, 16, 16), light), 8)
        rows.append(f"a red square,{name}.mp4")
    (tmp_path / "real.csv").write_text("\n".join(rows))
    empty.add_prompts(["a red disc", "a blue square"], "held_out")
    watch = WatchSettings(every=2, seeds=1, count=2, proxies=("colour",), shown=0)
    whole = replace(
        SETTINGS,
        run="whole",
        data_anchor=0.1,
        real=str(tmp_path / "real.csv"),
        trainer=replace(SETTINGS.trainer, ema_decay=0.5),
        watch=watch,
    )
    done = align_by_reward_gradient(empty, load_generator(str(tiny_wan_folder)), whole, sampling=small)
    lines = (done.folder / "metrics.jsonl").read_text().splitlines()
    assert len(lines) == 2
    assert "real_error" in lines[0]
    assert "watch/training/light" in lines[1]
    cut = replace(whole, run="cut")
    with pytest.raises(KeyboardInterrupt):
        align_by_reward_gradient(empty, Interrupted.load(tiny_wan_folder), cut, sampling=small)
    again = align_by_reward_gradient(empty, load_generator(str(tiny_wan_folder)), cut, sampling=small)
    assert again.started_from >= 1
    ours, theirs = (load_file(each.adapter / "pytorch_lora_weights.safetensors") for each in (again, done))
    assert all(torch.equal(ours[name], each) for name, each in theirs.items())


class Interrupted:
    """A generator whose rollouts are interrupted in the second step, as by Ctrl-C."""

    @staticmethod
    def load(folder: Path) -> Generator:
        import os
        import signal

        from reelign.generators import load_generator

        generator = load_generator(str(folder))
        plain, calls = generator.guided_velocity, [0]

        def velocity(*given: Any) -> Tensor:
            calls[0] += 1
            if calls[0] == 4:  # sampling in two steps asks three times
                os.kill(os.getpid(), signal.SIGINT)
            return plain(*given)

        generator.guided_velocity = velocity  # type: ignore[method-assign]
        return generator
