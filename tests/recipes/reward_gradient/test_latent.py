"""A latent reward climbed by its gradient: one graph in float64, a run without a VAE, and what is refused."""

from __future__ import annotations

import copy
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from reelign.diffusion.samplers import initial_noise
from reelign.diffusion.truncation import LastSteps, NoisyStep
from reelign.errors import ReelignError
from reelign.generators import Generator, VideoSize, load_generator
from reelign.generators.encoders import VAE, drop_encoders, encoders, is_away
from reelign.objectives.reward_gradient import RewardGradient
from reelign.recipes.online.align import align_online, dry_run_online
from reelign.recipes.online.settings import OnlineSettings
from reelign.recipes.planning.rewards import planned_reward
from reelign.recipes.reward_gradient.align import align_by_reward_gradient, plan_reward_gradient
from reelign.recipes.reward_gradient.frames import FrameChoice
from reelign.recipes.reward_gradient.latent import open_latent
from reelign.recipes.reward_gradient.settings import RewardChoice, RewardGradientSettings
from reelign.recipes.reward_gradient.step import RewardGradientStep
from reelign.recipes.reward_gradient.stream import RolloutBatch
from reelign.recipes.sampling import GenerateSettings, Sampling
from reelign.recipes.watching.settings import WatchSettings
from reelign.records import Workspace
from reelign.training import LoRA, Policy, TrainerSettings
from reelign.training.latent_guide import GuideSettings
from reelign.training.latent_reward import LatentRewardShape, new_latent_reward
from reelign.training.latent_reward_files import read_shape, save_latent_reward

STEPS = 3
PROMPTS = ["a red square", "a blue disc"]
SAMPLING = Sampling(VideoSize(9, 16, 16), 8.0, STEPS, 3.0, "")
LATENTS = (16, 3, 2, 2)
SHAPE = LatentRewardShape(
    dimensions=("VQ", "MQ"),
    blocks=1,
    train="head",
    lora=None,
    levels="noisy",
    queries=2,
    heads=2,
    mean=(0.3, -0.2),
    std=(0.5, 2.0),
)


def saved(folder: Path, generator: Generator, **changes: Any) -> Path:
    """A reward with a head that says something."""
    reward = new_latent_reward(generator, replace(SHAPE, **changes), generator.encode_prompts(["a"]), LATENTS, seed=0)
    chance = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in reward.head.parameters():
            parameter.add_(0.2 * torch.randn(parameter.shape, generator=chance))
    return save_latent_reward(reward, folder)


@pytest.fixture(scope="module")
def folder(tiny_wan_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return saved(tmp_path_factory.mktemp("latent") / "reward", load_generator(str(tiny_wan_folder)))


def settings_of(folder: Path, **changes: Any) -> RewardGradientSettings:
    base = RewardGradientSettings(
        reward=RewardChoice(name=f"latent:{folder}"),
        objective=RewardGradient(weights={"VQ": 1.0, "MQ": -0.5}),
        gradient=NoisyStep(),
        lora=LoRA(rank=2),
        batch_size=2,
        micro_batch_size=1,
        trackers=(),
        trainer=TrainerSettings(steps=2, learning_rate=0.02, checkpoint_every=1),
    )
    return replace(base, **changes)


def of_one_graph(
    policy_transformer: Any, base: Any, head: Any, words: tuple[Tensor, Tensor], sigmas: Tensor, graded: int
) -> Tensor:
    """Minus the mean weighted reward of a rollout in float64, its last `graded` steps and the reward in one graph.

    The reward's features are the base's own output of its first block, caught by a hook.
    """
    noisy = initial_noise((2, *LATENTS), [11, 12], "cpu").double()
    own, negative = words
    for place, (now, then) in enumerate(zip(sigmas[:-1].double(), sigmas[1:].double(), strict=True)):
        if place == len(sigmas) - 1 - graded:
            noisy = noisy.detach()
        time = (now * 1000).expand(2)
        with_text, without = (
            policy_transformer(noisy, timestep=time, encoder_hidden_states=text, return_dict=False)[0]
            for text in (own, negative)
        )
        noisy = noisy + (then - now) * (without + 3.0 * (with_text - without))
    caught: list[Tensor] = []
    hook = base.blocks[0].register_forward_hook(lambda module, given, made: caught.append(made))
    base(noisy, timestep=(1000 * sigmas[-1].double()).expand(2), encoder_hidden_states=own, return_dict=False)
    hook.remove()
    values = (head(caught[0]) - torch.tensor(SHAPE.mean).double()) / torch.tensor(SHAPE.std).double()
    return -(values[:, 0] - 0.5 * values[:, 1]).mean()


@pytest.mark.parametrize(
    ("gradient", "graph", "end"),
    [(LastSteps(steps=STEPS), "held", None), (NoisyStep(window=(0.3, 0.7)), "step", 3)],
    ids=["whole chain", "one noisy step"],
)
def test_the_gradient_is_that_of_one_graph_in_float64_and_nothing_is_decoded(
    tiny_wan: Generator, folder: Path, gradient: Any, graph: Any, end: int | None
) -> None:
    words = tiny_wan.encode_prompts(PROMPTS), tiny_wan.encode_prompts([""])
    drop_encoders(tiny_wan)  # a decode would fail for want of weights
    base = copy.deepcopy(tiny_wan.denoisers["transformer"]).double()
    settings = settings_of(folder, gradient=gradient, graph=graph)
    loss = open_latent(folder, tiny_wan, settings)
    policy = Policy(tiny_wan, settings.lora)
    chance = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for parameter in policy.parameters.values():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=chance))
    step = RewardGradientStep(loss, settings, SAMPLING, words[1])
    metrics = step.accumulate_gradients(policy, RolloutBatch(PROMPTS, words[0], [11, 12], 5))

    denoiser = tiny_wan.denoisers["transformer"]
    double = copy.deepcopy(denoiser).double()
    trained = {id(each) for each in policy.parameters.values()}
    pairs = [
        (ours, theirs)
        for ours, theirs in zip(denoiser.parameters(), double.parameters(), strict=True)
        if id(ours) in trained
    ]
    assert len(pairs) == len(trained)
    sigmas = tiny_wan.sigmas(STEPS)[:end]
    texts = words[0]["prompt_embeds"].double(), words[1]["prompt_embeds"].double().expand(2, -1, -1)
    head = copy.deepcopy(loss.model.head).double()
    whole = of_one_graph(double, base, head, texts, sigmas, STEPS if end is None else 1)
    wanted = torch.autograd.grad(whole, [theirs for _, theirs in pairs])
    size = max(float(each.abs().max()) for each in wanted)
    for (ours, _), each in zip(pairs, wanted, strict=True):
        assert ours.grad is not None
        torch.testing.assert_close(ours.grad.double(), each, rtol=1e-3, atol=1e-4 * size)
    assert metrics["loss"] == pytest.approx(float(whole.detach()), rel=1e-4)
    assert metrics["reward"] == pytest.approx(-float(whole.detach()), rel=1e-4)
    assert all(each.grad is None for each in loss.model.parameters())
    # Two sides of two videos; the noisy step comes after one other and runs twice.
    assert metrics["forwards"] == 4 * (STEPS if end is None else 3)
    assert metrics["reward/queries"] == 2
    assert metrics["reward/failed"] == 0


def test_a_run_needs_no_decoder_but_for_its_watch_and_goes_on(
    empty: Workspace, tiny_wan_folder: Path, small: GenerateSettings, tmp_path: Path
) -> None:
    generator = load_generator(str(tiny_wan_folder))
    folder = saved(tmp_path / "reward", generator)
    drop_encoders(generator)
    seen: list[bool] = []
    own = generator.guided_velocity

    def velocity(*given: Any) -> Tensor:
        seen.append(is_away(encoders(generator)[VAE]))
        return own(*given)

    generator.guided_velocity = velocity  # type: ignore[method-assign]
    plain = settings_of(folder, run="plain")
    done = align_by_reward_gradient(empty, generator, plain, sampling=small)
    assert seen
    assert all(seen)
    lines = [json.loads(line) for line in (done.folder / "metrics.jsonl").read_text().splitlines()]
    assert [line["reward/queries"] for line in lines] == [2, 4]
    assert all(line["reward/VQ"] == line["reward/VQ"] for line in lines)
    assert done.adapter.is_dir()

    empty.add_prompts(["a red disc", "a blue square"], "held_out")
    watch = WatchSettings(every=2, seeds=1, count=2, proxies=("colour",), shown=0)
    watched = settings_of(folder, run="watched", watch=watch)
    again = align_by_reward_gradient(empty, load_generator(str(tiny_wan_folder)), watched, sampling=small)
    last = json.loads((again.folder / "metrics.jsonl").read_text().splitlines()[-1])
    assert any("colour" in name for name in last), sorted(last)
    assert not any(name.startswith("watch/training") for name in last)

    saved(tmp_path / "reward", load_generator(str(tiny_wan_folder)), queries=3)  # other weights in the same folder
    with pytest.raises(ReelignError, match="other settings or other data"):
        align_by_reward_gradient(empty, load_generator(str(tiny_wan_folder)), plain, sampling=small)


def test_what_a_latent_reward_cannot_do_is_refused_before_anything_is_made(
    empty: Workspace, tiny_wan: Generator, small: GenerateSettings, folder: Path, tmp_path: Path
) -> None:
    clean = saved(tmp_path / "clean", tiny_wan, levels="clean")
    other = saved(tmp_path / "other", tiny_wan)
    told_of = json.loads((other / "latent_reward.json").read_text())
    (other / "latent_reward.json").write_text(json.dumps({**told_of, "generator": "wan@0123"}))
    for settings, told in (
        (settings_of(tmp_path / "none"), "no latent reward in"),
        (settings_of(other), "was trained with wan@0123"),
        (settings_of(folder, lora=None), "this run trains the model's own weights"),
        (settings_of(folder, trainer=TrainerSettings(steps=2, sharded=True)), "this run shards them"),
        (settings_of(folder, frames=FrameChoice(count=2)), "reads latents, and `frames` or `decode`"),
        (settings_of(folder, reward=RewardChoice(name=f"latent:{folder}", options={"a": 1})), "takes no options"),
        (settings_of(folder, objective=RewardGradient(weights={"TA": 1})), "'TA', which .* does not score"),
        (settings_of(folder, objective=RewardGradient()), "says nothing of them"),
        (settings_of(clean), "trained on clean latents"),
    ):
        for call in (align_by_reward_gradient, plan_reward_gradient):
            with pytest.raises(ReelignError, match=told):
                call(empty, tiny_wan, settings, sampling=small)
    assert not any((empty.root / "runs").iterdir())
    outlook = plan_reward_gradient(empty, tiny_wan, settings_of(folder), sampling=small)
    assert any("nothing is decoded" in line for line in outlook.told)
    with pytest.raises(ReelignError, match="A plan does not count latent:"):
        planned_reward(f"latent:{folder}", {})
    own = saved(tmp_path / "full", tiny_wan, train="full")
    assert read_shape(own).train == "full"
    plan_reward_gradient(empty, tiny_wan, settings_of(own, lora=None), sampling=small)


def test_a_reward_that_says_the_same_of_everything_ends_before_the_first_update(
    empty: Workspace, tiny_wan: Generator, small: GenerateSettings, tmp_path: Path
) -> None:
    untrained = new_latent_reward(tiny_wan, SHAPE, tiny_wan.encode_prompts(["a"]), LATENTS, seed=0)
    mute = save_latent_reward(untrained, tmp_path / "mute")
    with pytest.raises(ReelignError, match="reached the latents: it says the same"):
        align_by_reward_gradient(empty, tiny_wan, settings_of(mute), sampling=small)


def test_a_noisy_end_is_for_latent_rewards_alone_and_has_no_videos_for_a_reference() -> None:
    with pytest.raises(ValueError, match=r"^gradient\.name=noisy needs a reward on latents"):
        RewardGradientSettings(gradient=NoisyStep())
    with pytest.raises(ValueError, match=r"^objective\.reference needs finished videos"):
        settings_of(Path("reward"), objective=RewardGradient(reference=0.1))


def test_a_guide_for_the_videos_of_generate_is_refused_where_training_makes_its_own(
    empty: Workspace, tiny_wan: Generator, small: GenerateSettings, folder: Path
) -> None:
    guided = replace(small, guide=GuideSettings(latent_reward=str(folder), weights={"VQ": 1.0}))
    for call in (align_by_reward_gradient, plan_reward_gradient):
        with pytest.raises(ReelignError, match="A guide bends the videos of `generate`"):
            call(empty, tiny_wan, settings_of(folder), sampling=guided)
    for online in (align_online, dry_run_online):
        with pytest.raises(ReelignError, match="A guide bends the videos of `generate`"):
            online(empty, tiny_wan, OnlineSettings(judge=f"latent:{folder}"), sampling=guided)
