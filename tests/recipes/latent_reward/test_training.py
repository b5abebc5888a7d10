"""Training a latent reward: shared draws, what it learns, resuming, and guided candidates."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from reelign.errors import ReelignError
from reelign.generators import Generator, load_generator
from reelign.objectives import BradleyTerry, BradleyTerryTies, ScoreRegression
from reelign.recipes.generation import generate
from reelign.recipes.latent_reward.batch import LatentBatch
from reelign.recipes.latent_reward.data import LatentPairs, training_levels
from reelign.recipes.latent_reward.policy import LatentRewardPolicy, forward
from reelign.recipes.latent_reward.settings import LatentRewardSettings
from reelign.recipes.latent_reward.training import NUMBERS, train_latent_reward
from reelign.recipes.latent_reward.watch import accuracy_by_level, at_levels
from reelign.recipes.reward.data import RewardClip, RewardData, workspace_reward_data
from reelign.recipes.reward.settings import WatchSettings
from reelign.recipes.reward.step import RewardStep
from reelign.recipes.sampling import GenerateSettings
from reelign.records import Workspace
from reelign.training import LoRA, TrainerSettings
from reelign.training.latent_guide import GuideSettings
from reelign.training.latent_reward import new_latent_reward
from reelign.training.latent_reward_files import load_latent_reward
from reelign.training.optimisers import make_optimiser

LATENTS = (16, 3, 2, 2)


def settings_of(**changes: Any) -> LatentRewardSettings:
    base = LatentRewardSettings(
        dimensions=("VQ",),
        blocks=1,
        heads=2,
        batch_size=4,
        micro_batch_size=4,
        epochs=0,
        trainer=TrainerSettings(steps=4, learning_rate=1e-3, checkpoint_every=2),
        watch=WatchSettings(held_out=0.5, calibration=0.0, every=2),
    )
    return replace(base, **changes)


@pytest.fixture(scope="module")
def generator(tiny_wan_folder: Path) -> Generator:
    return load_generator(str(tiny_wan_folder))


@pytest.fixture(scope="module")
def bright(generator: Generator) -> LatentPairs:
    """Pairs of two prompts whose better side has the larger mean in its first channels, by much."""
    chance = torch.Generator().manual_seed(0)
    latents = torch.randn((16, *LATENTS), generator=chance)
    latents[:, :4] += torch.linspace(-3, 3, 8).repeat(2).reshape(-1, 1, 1, 1, 1)
    prompts = ["a red disc", "a blue square"]
    clips = [RewardClip(path=Path(f"{place}.mp4"), prompt=prompts[place // 8], name=str(place)) for place in range(16)]
    pairs = torch.tensor(
        [[8 * half + a, 8 * half + b] for half in range(2) for a in range(8) for b in range(8) if a != b]
    )
    labels = (pairs[:, :1] > pairs[:, 1:]).float() * 2 - 1
    data = RewardData(
        dimensions=("VQ",), clips=tuple(clips), pairs=pairs, labels=labels, scores=torch.full((16, 1), torch.nan)
    )
    rows = torch.arange(2).repeat_interleave(8)
    return LatentPairs(data=data, latents=latents, conditioning=generator.encode_prompts(prompts), rows=rows)


def policy_of(generator: Generator, pairs: LatentPairs, settings: LatentRewardSettings) -> LatentRewardPolicy:
    model = new_latent_reward(generator, settings.shape(1), pairs.conditioning, LATENTS, seed=0)
    return LatentRewardPolicy(model, settings.objective, activation_checkpointing=False)


def next_batch(generator: Generator, pairs: LatentPairs, settings: LatentRewardSettings) -> LatentBatch:
    return pairs.stream(training_levels(settings, generator), batch_size=6, seed=3).next_batch()


def test_both_sides_of_a_pair_share_noise_and_sigma_and_pairs_do_not(generator: Generator, bright: LatentPairs) -> None:
    batch = next_batch(generator, bright, settings_of())
    names = [name.split(" and ") for name in batch.names]
    latents = torch.stack([bright.latents[int(side)] for pair in names for side in pair])
    level = batch.sigma.reshape(-1, 1, 1, 1, 1)
    noise = (batch.noisy - (1 - level) * latents) / level
    torch.testing.assert_close(noise[0::2], noise[1::2], rtol=1e-3, atol=1e-3)
    assert torch.equal(batch.sigma[0::2], batch.sigma[1::2])
    assert len(batch.sigma.unique()) == 6
    assert 0.9 < float(noise.std()) < 1.1
    for pair, label in zip(names, batch.labels[:, 0].tolist(), strict=True):
        assert label == (1 if int(pair[0]) > int(pair[1]) else -1)


def test_clean_latents_have_no_noise(generator: Generator, bright: LatentPairs) -> None:
    batch = next_batch(generator, bright, settings_of(levels="clean"))
    assert torch.equal(batch.sigma, torch.zeros(12))
    assert torch.equal(batch.noisy[0], bright.latents[int(batch.names[0].split(" and ")[0])])


@pytest.mark.parametrize(
    "objective", [BradleyTerryTies(learn_theta=True), BradleyTerry(), ScoreRegression()], ids=lambda each: each.name
)
def test_micro_batches_add_up_to_the_batch(objective: Any, generator: Generator, bright: LatentPairs) -> None:
    settings = settings_of(objective=objective, train="lora", lora=LoRA(rank=2))
    data = bright.data.with_win_scores()
    policy = policy_of(generator, bright, settings)
    torch.nn.init.normal_(policy.model.head.read, generator=torch.Generator().manual_seed(0))
    batch = next_batch(generator, bright.only(data), settings)

    def gradients(size: int) -> tuple[list[Tensor], float]:
        for parameter in policy.parameters.values():
            parameter.grad = None
        metrics = RewardStep(objective, micro_batch_size=size, forward=forward).accumulate_gradients(policy, batch)  # type: ignore[arg-type]
        return [each.grad.clone() for each in policy.parameters.values() if each.grad is not None], metrics["loss"]

    (together, loss), (apart, same) = gradients(6), gradients(1)
    assert same == pytest.approx(loss, rel=1e-5)
    assert len(together) == len(apart) > 5
    for one, other in zip(together, apart, strict=True):
        torch.testing.assert_close(other, one, rtol=1e-3, atol=1e-5)


def test_it_learns_to_order_latents_at_every_level_of_noise(generator: Generator, bright: LatentPairs) -> None:
    settings = settings_of(objective=BradleyTerry(), train="head")
    policy = policy_of(generator, bright, settings)
    held_out = bright.only(bright.data.take(torch.arange(0, len(bright), 3)))
    before = accuracy_by_level(at_levels(policy.model, held_out, batch_size=64, seed=0), ("VQ",))
    assert before == {"VQ": [0.5] * 4}
    stream = bright.stream(training_levels(settings, generator), batch_size=16, seed=0)
    step = RewardStep(settings.objective, micro_batch_size=16, forward=forward)
    optimiser = make_optimiser(policy.parameters.values(), TrainerSettings(learning_rate=2e-2))
    for _ in range(25):
        optimiser.zero_grad()
        step.accumulate_gradients(policy, stream.next_batch())  # type: ignore[arg-type]
        optimiser.step()
    found = accuracy_by_level(at_levels(policy.model, held_out, batch_size=64, seed=0), ("VQ",))["VQ"]
    # Both sides have the same noise, so that even much of it leaves their order.
    assert min(found) > 0.85


def test_videos_beside_themselves_under_another_prompt_teach_what_depends_on_it(
    generator: Generator, bright: LatentPairs
) -> None:
    data = replace(bright.data, dimensions=("VQ", "TA"), labels=bright.data.labels.repeat(1, 2))
    data = replace(data, scores=torch.arange(32.0).reshape(16, 2))
    settings = settings_of(dimensions=("VQ", "TA"), other_prompts=0.5)
    pairs = bright.only(data)
    batch = next_batch(generator, pairs.with_others(settings.others), settings)
    plain = next_batch(generator, pairs, settings)
    torch.testing.assert_close(batch.noisy[:12], plain.noisy)
    assert batch.labels[6:].isnan().tolist() == [[True, False]] * 3
    assert batch.scores[12:].isnan().tolist() == [[True, False]] * 6
    assert (batch.labels[6:, 1] == 1).all()
    # Nothing but the text differs between the two sides, and own is what the video was made for.
    assert torch.equal(batch.noisy[12::2], batch.noisy[13::2])
    assert torch.equal(batch.sigma[12::2], batch.sigma[13::2])
    own, other = batch.conditioning["prompt_embeds"][12::2], batch.conditioning["prompt_embeds"][13::2]
    for place, name in enumerate(batch.names[6:]):
        better = max(int(side) for side in plain.names[place].split(" and "))
        assert name == f"{better} under another prompt"
        # Its own score of TA, the lowest of the scale under another prompt, and nothing of VQ.
        assert batch.scores[12 + 2 * place :][:2, 1].tolist() == [2.0 * better + 1, 1.0]
        torch.testing.assert_close(own[place], bright.conditioning["prompt_embeds"][better // 8])
        torch.testing.assert_close(other[place], bright.conditioning["prompt_embeds"][1 - better // 8])


def test_other_prompts_that_could_teach_nothing_are_refused(bright: LatentPairs) -> None:
    with pytest.raises(ValueError, match=r"other_prompts=0.5 teaches none of the dimensions"):
        settings_of(other_prompts=0.5)
    with pytest.raises(ValueError, match=r"share in \[0, 1\], got 2"):
        settings_of(dimensions=("TA",), other_prompts=2)
    one = replace(bright, conditioning=bright.conditioning.take(torch.tensor([0])), rows=torch.zeros_like(bright.rows))
    with pytest.raises(ReelignError, match="All pairs are of one prompt"):
        one.with_others(settings_of(dimensions=("TA",), other_prompts=0.5).others)


@pytest.fixture(scope="module")
def trained(judged_folder: Path, generator: Generator, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on a workspace's judgements, of which everything below looks at something."""
    root = shutil.copytree(judged_folder, tmp_path_factory.mktemp("latent") / "workspace")
    run(Workspace.open(root), generator, root / "runs" / "latent-reward")
    return root


def run(workspace: Workspace, generator: Generator, folder: Path, **changes: Any) -> Any:
    data = workspace_reward_data(workspace, ("VQ",), "train")
    cache = workspace.root / "cache"
    return train_latent_reward(data, generator, settings_of(**changes), folder, cache=cache, workspace=workspace)


def test_a_run_leaves_a_reward_that_loads_and_says_how_good_it_is_by_level(trained: Path, generator: Generator) -> None:
    folder = trained / "runs" / "latent-reward"
    numbers = json.loads((folder / "latent_reward" / NUMBERS).read_text())
    assert (numbers["pairs"], numbers["held_out_pairs"]) == (3, 3)
    assert len(numbers["held_out_accuracy_by_quarter_of_noise"]["VQ"]) == 4
    looks = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [look["step"] for look in looks if "held_out/accuracy_q4" in look] == [2, 4]
    reward = load_latent_reward(folder / "latent_reward", generator)
    assert reward.settings.std[0] > 0
    assert reward.settings.largest is not None
    assert not (trained / "cache" / "latents").exists()  # the sampler's own are read


def test_a_killed_run_goes_on_as_if_it_had_never_stopped(trained: Path, generator: Generator, tmp_path: Path) -> None:
    kept = trained / "runs" / "latent-reward"
    copy = shutil.copytree(kept, tmp_path / "run")
    shutil.rmtree(copy / "checkpoints" / "step-000004")
    shutil.rmtree(copy / "latent_reward")
    again = run(Workspace.open(trained), generator, copy)
    assert again.started_from == 2
    for name in ("latent_reward.safetensors", "latent_reward.json", NUMBERS):
        assert (copy / "latent_reward" / name).read_bytes() == (kept / "latent_reward" / name).read_bytes()


def test_a_run_of_other_settings_and_labels_that_teach_nothing_are_refused(trained: Path, generator: Generator) -> None:
    workspace = Workspace.open(trained)
    with pytest.raises(ReelignError, match="other settings or other data"):
        run(workspace, generator, trained / "runs" / "latent-reward", queries=3)
    data = workspace_reward_data(workspace, ("MQ",), "train")
    with pytest.raises(ReelignError, match="All labels of the dimension MQ are ties"):
        train_latent_reward(
            data,
            generator,
            settings_of(dimensions=("MQ",), objective=BradleyTerry()),
            trained / "runs" / "x",
            cache=trained / "cache",
            workspace=workspace,
        )
    with pytest.raises(ReelignError, match="has 2 blocks"):
        run(workspace, generator, trained / "runs" / "x", blocks=3)
    assert not (trained / "runs" / "x").exists()


def test_guided_candidates_are_others_and_a_guide_that_weighs_nothing_changes_none(
    trained: Path, generator: Generator, small: GenerateSettings
) -> None:
    workspace = Workspace.open(trained)
    there = generate(workspace, generator, small)
    assert there.made == 0
    path = str(trained / "runs" / "latent-reward" / "latent_reward")
    idle = replace(small, guide=GuideSettings(latent_reward=path, weights={"VQ": 0.0}))
    assert generate(workspace, generator, idle).made == 0
    guided = replace(small, guide=GuideSettings(latent_reward=path, weights={"VQ": 0.5}))
    made = generate(workspace, generator, guided, adapter="guided")
    assert made.made == len(there.videos)
    assert generate(workspace, generator, guided, adapter="guided").made == 0
    assert made.videos[0].settings["guide"]["weights"] == {"VQ": 0.5}
    assert {video.seed for video in made.videos} == {video.seed for video in there.videos}
    unknown = replace(small, guide=GuideSettings(latent_reward=path, weights={"TA": 0.5}))
    with pytest.raises(ReelignError, match="no dimension TA; it has VQ"):
        generate(workspace, generator, unknown, adapter="guided")


@pytest.mark.parametrize(
    "wrong",
    [
        {"dimensions": ()},
        {"blocks": -1},
        {"queries": 0},
        {"head_rate": 0.0},
        {"shift": 0.0},
        {"epochs": -1.0},
        {"watch": WatchSettings()},
        {"trainer": TrainerSettings(sharded=True)},
        {"trainer": TrainerSettings(activation_checkpointing="selective")},
    ],
    ids=str,
)
def test_settings_without_meaning_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        settings_of(**wrong)


def test_weights_need_a_reward_and_must_be_finite() -> None:
    with pytest.raises(ValueError, match="latent_reward must name"):
        GuideSettings(weights={"VQ": 1.0})
    with pytest.raises(ValueError, match="weights must be finite"):
        GuideSettings(latent_reward="x", weights={"VQ": float("inf")})
