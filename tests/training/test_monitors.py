"""Monitors on held-out pairs: what they report is what the primitive says, and they change nothing."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from reelign.diffusion.seeds import generator_from
from reelign.generators import Conditioning, Generator, load_generator
from reelign.training import HeldOutPairs, LoRA, MonitorSettings, Policy, velocity_errors

SETTINGS = MonitorSettings(held_out=0.5, every=2)


@pytest.fixture
def policy(tiny_wan: Generator) -> Policy:
    return Policy(tiny_wan, LoRA(rank=4))


@pytest.fixture
def each(conditioning: Conditioning) -> Conditioning:
    return conditioning.take(torch.tensor([0, 0, 1, 1]))


def move(policy: Policy, size: float = 0.05) -> None:
    with torch.no_grad():
        chance = generator_from("moved")
        for parameter in policy.parameters.values():
            parameter.add_(size * torch.randn(parameter.shape, generator=chance))


def test_an_untrained_policy_knows_nothing_and_has_gone_nowhere(
    policy: Policy, pairs: Tensor, each: Conditioning
) -> None:
    found = HeldOutPairs(pairs, each, SETTINGS).look(policy)
    assert {name: value for name, value in found.items() if "accuracy" in name} == {
        **{f"held_out/accuracy_q{quarter}": 0.5 for quarter in (1, 2, 3, 4)},
        "held_out/accuracy": 0.5,
    }
    for name in ("chosen_error_gap", "rejected_error_gap", "distance"):
        assert found[f"held_out/{name}"] == 0.0


def test_its_numbers_are_those_of_the_primitive(policy: Policy, pairs: Tensor, each: Conditioning) -> None:
    move(policy)
    monitor = HeldOutPairs(pairs, each, SETTINGS, micro_batch_size=3, seed=5)
    found = monitor.look(policy)
    gaps, accuracies = [], []
    for quarter in range(4):
        draw = monitor._draw(policy, quarter)
        assert (draw.sigma >= quarter / 4).all()
        assert (draw.sigma < (quarter + 1) / 4).all()
        twice = each.take(torch.arange(4).repeat_interleave(2))
        with torch.no_grad():
            errors = velocity_errors(policy, pairs.flatten(0, 1), twice, draw.repeat(2))
        gap = (errors["policy"] - errors["reference"]).unflatten(0, (-1, 2))
        gaps.append(gap)
        accuracies.append(float((gap[:, 0] < gap[:, 1]).float().mean()))
    assert [found[f"held_out/accuracy_q{quarter + 1}"] for quarter in range(4)] == accuracies
    chosen, rejected = torch.cat(gaps).mean(dim=0).tolist()
    assert found["held_out/chosen_error_gap"] == pytest.approx(chosen, abs=1e-6)
    assert found["held_out/rejected_error_gap"] == pytest.approx(rejected, abs=1e-6)
    assert found["held_out/distance"] > 0


def test_a_look_leaves_weights_gradients_and_chance_alone(policy: Policy, pairs: Tensor, each: Conditioning) -> None:
    move(policy)
    before = {name: value.clone() for name, value in policy.state_dict().items()}
    chance = torch.random.get_rng_state()
    monitor = HeldOutPairs(pairs, each, SETTINGS)
    first = monitor.look(policy)
    assert monitor.look(policy) == first
    assert all(torch.equal(before[name], value) for name, value in policy.state_dict().items())
    assert all(parameter.grad is None for parameter in policy.parameters.values())
    assert torch.equal(chance, torch.random.get_rng_state())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_where_an_average_is_kept_it_is_what_is_looked_at(
    tiny_wan_folder: Path, pairs: Tensor, each: Conditioning, dtype: torch.dtype
) -> None:
    policy = Policy(load_generator(str(tiny_wan_folder), dtype=dtype), LoRA(rank=4))
    monitor = HeldOutPairs(pairs, each, SETTINGS)
    move(policy)
    policy.refresh()
    of_average = monitor.look(policy)
    policy.average = {name: value.clone() for name, value in policy.state_dict().items()}
    move(policy, 0.2)
    policy.refresh()
    before = {name: value.clone() for name, value in policy.state_dict().items()}
    average = {name: value.clone() for name, value in policy.average.items()}
    assert monitor.look(policy) == of_average
    assert all(torch.equal(before[name], value) for name, value in policy.state_dict().items())
    assert all(torch.equal(average[name], value) for name, value in policy.average.items())
    policy.average = None
    assert monitor.look(policy) != of_average


def test_a_look_draws_its_noise_once_a_quarter(
    policy: Policy, pairs: Tensor, each: Conditioning, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[int] = []
    randn = torch.randn

    def counted(shape: torch.Size, **options: Any) -> Tensor:
        drawn.append(shape[0])
        return randn(shape, **options)

    monkeypatch.setattr(torch, "randn", counted)
    HeldOutPairs(pairs, each, SETTINGS, micro_batch_size=1).look(policy)
    assert drawn == [4, 4, 4, 4]


def test_it_looks_every_so_often_at_so_many(policy: Policy, pairs: Tensor, each: Conditioning) -> None:
    monitor = HeldOutPairs(pairs, each, MonitorSettings(held_out=0.5, every=2, max_pairs=3))
    assert len(monitor.latents) == len(monitor.conditioning) == 3
    assert [bool(monitor.after_step(step, policy, {})) for step in (1, 2, 3, 4)] == [False, True, False, True]


def test_the_run_stops_after_several_rises_in_a_row(pairs: Tensor, each: Conditioning) -> None:
    monitor = HeldOutPairs(pairs, each, MonitorSettings(held_out=0.5, max_chosen_rise=0.1, patience=3))
    for rise in (0.2, 0.2, 0.05, 0.2, 0.2):
        monitor._count(rise)
        assert monitor.verdict() is None
    resumed = HeldOutPairs(pairs, each, MonitorSettings(held_out=0.5, max_chosen_rise=0.1, patience=3))
    resumed.load_state_dict(monitor.state_dict())
    resumed._count(0.11)
    assert "more than 10% above the base's at 3 looks in a row" in str(resumed.verdict())
    watching = HeldOutPairs(pairs, each, MonitorSettings())
    watching._count(math.inf)
    assert watching.verdict() is None


def test_an_error_that_is_not_finite_is_no_rise_and_no_crash(pairs: Tensor, each: Conditioning) -> None:
    monitor = HeldOutPairs(pairs, each, MonitorSettings(held_out=0.5, max_chosen_rise=0.1, patience=1))
    monitor._count(math.nan)
    assert monitor.verdict() is None


@pytest.mark.parametrize(
    "wrong",
    [
        {"held_out": 1.0},
        {"held_out": -0.1},
        {"every": 0},
        {"max_pairs": 0},
        {"max_chosen_rise": math.nan},
        {"max_chosen_rise": 0.1},
    ],
)
def test_wrong_settings_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        MonitorSettings(**wrong)
