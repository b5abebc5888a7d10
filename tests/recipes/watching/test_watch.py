"""The watch on a tiny Wan whose weights are moved by hand."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image

from recipes.watched import DRIFT, Light, Random, Relative
from reelign.diffusion.seeds import generator_from, seed_from
from reelign.errors import ReelignError
from reelign.generators import Generator
from reelign.generators.base import Guidance
from reelign.recipes.sampling import GenerateSettings, Sampling
from reelign.recipes.watching.watch import Watch, WatchSettings, make_watch
from reelign.records import Workspace
from reelign.rewards import Reward
from reelign.training import LoRA, Policy, load_adapter
from reelign.training.looks import read_look
from reelign.video import read_video

HELD_OUT = ["a red disc", "a blue square"]
SETTINGS = WatchSettings(
    every=5, held_out=("recipes.watched:Dark",), proxies=("sharpness",), patience=1, batch_size=4, shown=2
)
OPEN = replace(SETTINGS, band=(0.0, math.inf))
"""Without alarms from measures, which random weights move as they like."""
MAY_RISE = replace(OPEN, held_out=("recipes.watched:Bright",))


@pytest.fixture
def held(empty: Workspace) -> Workspace:
    empty.add_prompts(HELD_OUT, "held_out")
    return empty


@pytest.fixture
def policy(tiny_wan: Generator) -> Policy:
    return Policy(tiny_wan, LoRA(rank=4))


def watch_of(
    workspace: Workspace, policy: Policy, how: GenerateSettings, settings: WatchSettings, training: Reward | None = None
) -> Watch:
    sampling = Sampling.resolve(how, policy.generator)
    return make_watch(
        workspace,
        policy.generator,
        settings,
        training=training or Light(),
        sampling=sampling,
        folder=workspace.root / "runs" / "watched",
        title="watched",
    )


def move(policy: Policy, size: float = 0.3) -> None:
    """To weights that are a function of `size`."""
    with torch.no_grad():
        chance = generator_from("moved")
        for name, parameter in policy.parameters.items():
            if "lora_B" in name:
                parameter.copy_(size * torch.randn(parameter.shape, generator=chance))


@pytest.fixture(autouse=True)
def no_drift() -> Iterator[None]:
    DRIFT[0] = 0.0
    yield
    DRIFT[0] = 0.0


def drift(policy: Policy, size: float) -> None:
    """Other weights, with which `Light` sees more and `Dark` less; at 0 the base."""
    DRIFT[0] = size
    move(policy, 0.1 * size)


def test_a_look_scores_what_the_model_samples_at_fixed_seeds(
    held: Workspace, policy: Policy, small: GenerateSettings
) -> None:
    move(policy)
    settings = replace(SETTINGS, proxies=WatchSettings().proxies, batch_size=3)
    found = watch_of(held, policy, small, settings).look(policy)
    prompts = [prompt for prompt in HELD_OUT for _ in range(2)]
    assert list(found.prompts) == prompts
    generator = policy.generator
    negative = generator.encode_prompts([""])
    for place in (1, 2):
        prompt = prompts[place]
        latents = generator.sample(
            generator.encode_prompts([prompt]),
            [seed_from(0, prompt, place % 2)],
            Sampling.resolve(small, generator).size,
            steps=2,
            guidance=Guidance(3.0, negative),
        )
        light = float(generator.decode(latents).mean()) / 100
        assert found.scores["training/light"][place] == pytest.approx(light, abs=1e-5)
        assert found.scores["held_out/recipes.watched:Dark/light"][place] == pytest.approx(-light, abs=1e-5)
    assert found.scores.keys() == {
        "training/light",
        "held_out/recipes.watched:Dark/light",
        *(f"proxy/{name}" for name in ("dynamic_degree", "sharpness", "colourfulness", "contrast", "exposure")),
        *(f"proxy/{name}" for name in ("distance", "diversity_in_prompt", "diversity_across_prompts")),
    }
    assert (found.scores["proxy/distance"] > 0).all()


def test_the_first_look_is_the_base_and_costs_it_once(held: Workspace, policy: Policy, small: GenerateSettings) -> None:
    training = Light()
    watch = watch_of(held, policy, small, SETTINGS, training)
    watch.begin(policy)
    assert training.asked == 4
    base, first = (read_look(watch.folder / name)[0] for name in ("base.json", "step-000000.json"))
    assert all(torch.equal(base.scores[name], first.scores[name]) for name in base.scores)
    assert (base.scores["proxy/distance"] == 0).all()
    assert (watch.best_step, watch.verdict()) == (0, None)
    assert watch.after_step(4, policy, {}) == {}
    watch.begin(policy)
    assert training.asked == 4


def test_a_run_that_was_killed_before_its_first_checkpoint_remembers_its_first_look(
    held: Workspace, policy: Policy, small: GenerateSettings
) -> None:
    watch_of(held, policy, small, SETTINGS).begin(policy)
    training = Light()
    again = watch_of(held, policy, small, SETTINGS, training)
    again.begin(policy)
    assert training.asked == 0
    assert (again.looks, again.best_step) == ([0], 0)
    drift(policy, 1.0)
    again.after_step(5, policy, {})
    assert again.looks == [0, 5]


def test_what_parts_ways_stops_the_run_and_the_best_look_comes_back(
    held: Workspace, policy: Policy, small: GenerateSettings, tiny_wan_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    watch = watch_of(held, policy, small, replace(OPEN, action="roll_back"))
    watch.begin(policy)
    before = {name: value.clone() for name, value in policy.state_dict().items()}
    drift(policy, 1.0)
    metrics = watch.after_step(5, policy, {})
    assert metrics["watch/alarms"] == 2  # apart from each other, and Dark below the base
    assert metrics["watch/training/light"] == pytest.approx(-metrics["watch/held_out/recipes.watched:Dark/light"])
    assert "watched: at step 5, the training reward is up by" in capsys.readouterr().out
    assert "its best look, step 0" in str(watch.verdict())
    assert watch.restore(policy)
    assert all(torch.equal(before[name], value) for name, value in policy.state_dict().items())
    kept = json.loads((watch.folder / "step-000005.json").read_text())
    assert [each["kind"] for each in kept["alarms"]] == ["parted", "below_base"]


def test_what_rises_together_goes_on_and_moves_the_best_look(
    held: Workspace, policy: Policy, small: GenerateSettings, tiny_wan_folder: Path
) -> None:
    watch = watch_of(held, policy, small, replace(MAY_RISE, action="roll_back"))
    watch.begin(policy)
    drift(policy, 1.0)
    metrics = watch.after_step(5, policy, {})
    assert (metrics["watch/alarms"], metrics["watch/best_step"], watch.verdict()) == (0, 5, None)
    assert not watch.restore(policy)
    # The best look's adapter is one that pipelines load: the videos of a fresh model with it score as the look did.
    assert watch.best is not None
    from reelign.generators import load_generator

    fresh = load_generator(str(tiny_wan_folder))
    load_adapter(fresh, watch.best)
    rows = torch.tensor([0])
    own, negative = watch.looker.sides.take(rows)
    latents = fresh.sample(
        own,
        [watch.looker.seeds[0]],
        watch.looker.sampling.size,
        steps=2,
        guidance=Guidance(3.0, negative),
    )
    assert float(fresh.decode(latents).mean()) / 100 + 1.0 == pytest.approx(
        float(watch.look(policy).training[0]), abs=1e-5
    )


def test_patience_and_a_warning_alone(held: Workspace, policy: Policy, small: GenerateSettings) -> None:
    watch = watch_of(held, policy, small, replace(OPEN, action="stop", patience=2))
    watch.begin(policy)
    drift(policy, 1.0)
    watch.after_step(5, policy, {})
    assert (watch.alarmed, watch.verdict()) == (1, None)
    drift(policy, 0.0)
    watch.after_step(10, policy, {})
    assert watch.alarmed == 0
    for step in (15, 20):
        drift(policy, step)
        watch.after_step(step, policy, {})
    assert "2 looks in a row" in str(watch.verdict())
    assert not watch.restore(policy)  # stopped, not rolled back
    warned = watch_of(held, policy, small, OPEN)
    warned.load_state_dict({**watch.state_dict(), "reason": None})
    warned.after_step(25, policy, {})
    assert (warned.alarmed, warned.verdict()) == (3, None)


def test_a_killed_run_finds_its_looks(held: Workspace, policy: Policy, small: GenerateSettings) -> None:
    watch = watch_of(held, policy, small, replace(OPEN, action="stop"))
    watch.begin(policy)
    saved = json.loads(json.dumps(watch.state_dict()))
    drift(policy, 1.0)
    metrics = watch.after_step(5, policy, {})

    training = Light()
    again = watch_of(held, policy, small, replace(OPEN, action="stop"), training)
    drift(policy, 0.0)
    again.begin(policy)
    again.load_state_dict(saved)
    drift(policy, 1.0)
    found = again.after_step(5, policy, {})
    assert training.asked == 0
    del found["watch/seconds"], metrics["watch/seconds"]
    assert found == metrics
    assert again.verdict() == watch.verdict()
    # Other weights at that step are looked at anew.
    again.load_state_dict(saved)
    move(policy, 0.2)
    again.after_step(5, policy, {})
    assert training.asked == 4
    # And a run whose looks are of other prompts does not go on.
    other = watch_of(held, policy, small, replace(OPEN, seed=1))
    with pytest.raises(ReelignError, match="other prompts, sizes or rewards"):
        other.load_state_dict(saved)


def test_a_look_leaves_weights_gradients_and_chance_alone(
    held: Workspace, policy: Policy, small: GenerateSettings
) -> None:
    move(policy)
    policy.average = {name: value * 0.5 for name, value in policy.state_dict().items()}
    before = {name: value.clone() for name, value in policy.state_dict().items()}
    chance = torch.random.get_rng_state()
    watch = watch_of(held, policy, small, SETTINGS, Random())
    averaged = watch.look(policy)
    assert all(torch.equal(before[name], value) for name, value in policy.state_dict().items())
    assert all(parameter.grad is None for parameter in policy.parameters.values())
    assert torch.equal(chance, torch.random.get_rng_state())
    policy.load_state_dict(policy.average)
    policy.average = None
    own = watch_of(held, policy, small, SETTINGS).look(policy)
    assert torch.equal(own.scores["proxy/sharpness"], averaged.scores["proxy/sharpness"])


def test_grids_show_base_and_policy(held: Workspace, policy: Policy, small: GenerateSettings) -> None:
    watch = watch_of(held, policy, small, SETTINGS)
    watch.begin(policy)
    move(policy)
    watch.after_step(5, policy, {})
    assert sorted(path.name for path in watch.samples.iterdir()) == [
        "base",
        "step-000005",
        "step-000005.mp4",
        "step-000005.png",
    ]
    assert Image.open(watch.samples / "step-000005.png").height > 4 * 16
    found = read_video(watch.samples / "step-000005.mp4").frames
    assert found.shape == (9, 3, 2 * (16 + 8), 2 * (16 + 8))
    base = read_video(watch.samples / "base" / "0.mp4").frames
    assert torch.allclose(found[:, :, 4:20, 4:20], base, atol=0.08)


def test_a_policy_that_makes_no_videos_is_stopped(held: Workspace, policy: Policy, small: GenerateSettings) -> None:
    watch = watch_of(held, policy, small, replace(OPEN, action="stop"))
    watch.begin(policy)
    move(policy, math.nan)
    metrics = watch.after_step(5, policy, {})
    assert metrics["watch/failed"] == 4
    assert "0 of 4 videos have a score" in str(watch.verdict())
    assert (watch.samples / "step-000005.mp4").exists()


@pytest.mark.parametrize(
    ("settings", "training", "message"),
    [
        (replace(SETTINGS, held_out=("recipes.watched:Light",)), Light, "is what training maximises"),
        (SETTINGS, Relative, "depend on the other videos"),
        (replace(SETTINGS, held_out=("pickscor",)), Light, "pickscore"),
    ],
)
def test_rewards_that_cannot_watch_are_refused(
    held: Workspace,
    policy: Policy,
    small: GenerateSettings,
    settings: WatchSettings,
    training: type[Reward],
    message: str,
) -> None:
    with pytest.raises(ReelignError, match=message):
        watch_of(held, policy, small, settings, training())


def test_a_band_of_what_is_not_measured_is_refused(held: Workspace, policy: Policy, small: GenerateSettings) -> None:
    misspelt = replace(SETTINGS, bands={"sharpnes": None})
    with pytest.raises(ReelignError, match=r"watch.bands names 'sharpnes'") as caught:
        watch_of(held, policy, small, misspelt)
    assert "Did you mean 'sharpness'?" in caught.value.mend
    assert "diversity_in_prompt, distance" in caught.value.mend
    colour = {"exposure": (0.1, 9.0), "diversity_across_prompts": None, "distance": (0.0, 1.0)}
    watch_of(held, policy, small, replace(SETTINGS, proxies=("colour",), bands=colour))
    with pytest.raises(ReelignError, match="'sharpness'"):
        watch_of(held, policy, small, replace(SETTINGS, proxies=("colour",), bands={"sharpness": None}))


def test_a_watch_needs_prompts_that_are_not_trained_on(
    empty: Workspace, policy: Policy, small: GenerateSettings
) -> None:
    with pytest.raises(ReelignError, match="the workspace holds 0"):
        watch_of(empty, policy, small, SETTINGS)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("every", -1),
        ("count", 1),
        ("patience", 0),
        ("level", 1.0),
        ("band", (2.0, 0.5)),
        ("bands", {"sharpness": (-1.0, 1.0)}),
        ("prompts", ("one",)),
        ("options", {"pickscore": {}}),
    ],
)
def test_settings_that_make_no_sense_are_refused(field: str, value: object) -> None:
    with pytest.raises(ValueError, match=field):
        replace(SETTINGS, **{field: value})


def test_a_roll_back_needs_something_to_go_by() -> None:
    with pytest.raises(ValueError, match="held_out"):
        replace(SETTINGS, held_out=(), action="roll_back")
