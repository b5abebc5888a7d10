"""Rollouts: whole groups in few calls, each video a function of its prompt, its seed and the weights."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
import torch
from torch import Tensor

from reelign.generators import Generator, VideoSize
from reelign.training import LoRA, Policy
from reelign.training.asked import Sides
from reelign.training.rollouts import Group, Sampler, next_groups

PROMPTS = ["a red square", "a disc"]


def sampler_of(generator: Generator, size: VideoSize, batch_size: int, scale: float = 3.0) -> Sampler:
    return Sampler(size, 2, scale, Sides(generator.encode_prompts(PROMPTS), generator.encode_prompts([""])), batch_size)


@pytest.mark.parametrize(
    ("batch_size", "calls", "parts"), [(6, [6], [2]), (5, [3, 3], [1, 1]), (2, [2, 1, 2, 1], [1, 1])]
)
def test_whole_groups_go_together_and_a_larger_one_in_parts(
    tiny_wan: Generator,
    tiny_size: VideoSize,
    monkeypatch: pytest.MonkeyPatch,
    batch_size: int,
    calls: list[int],
    parts: list[int],
) -> None:
    groups = [Group("a red square", 0, [1, 2, 3]), Group("a disc", 1, [4, 5, 6])]
    seen: list[int] = []
    own = type(tiny_wan).sample

    def counted(self: Generator, conditioning: Any, seeds: list[int], *further: Any, **named: Any) -> Tensor:
        seen.append(len(seeds))
        return own(self, conditioning, seeds, *further, **named)

    policy = Policy(tiny_wan, LoRA(rank=2))
    alone = {seed: _alone(policy, tiny_size, group.row, seed) for group in groups for seed in group.seeds}
    monkeypatch.setattr(type(tiny_wan), "sample", counted)
    made = list(sampler_of(tiny_wan, tiny_size, batch_size).roll_out(policy, groups))
    assert (seen, [len(each.groups) for each in made]) == (calls, parts)
    for rollout in made:
        for group, latents in zip(rollout.groups, rollout.latents, strict=True):
            for seed, one in zip(group.seeds, latents, strict=True):
                torch.testing.assert_close(one, alone[seed])
    assert made[0].names[0] == "'a red square' with seed 1"


def _alone(policy: Policy, size: VideoSize, row: int, seed: int) -> Tensor:
    sampler = sampler_of(policy.generator, size, 1)
    (rollout,) = sampler.roll_out(policy, [Group(PROMPTS[row], row, [seed])])
    return rollout.latents[0, 0]


def test_the_base_samples_as_it_did_before_any_training(tiny_wan: Generator, tiny_size: VideoSize) -> None:
    policy = Policy(tiny_wan, LoRA(rank=2))
    sampler, groups = sampler_of(tiny_wan, tiny_size, 4, scale=1.0), [Group("a disc", 1, [7, 8])]
    (before,) = sampler.roll_out(policy, groups)
    with torch.no_grad():
        for parameter in policy.parameters.values():
            parameter.add_(0.1)
    (own,) = sampler.roll_out(policy, groups)
    (base,) = sampler.roll_out(policy, groups, weights="base")
    assert torch.equal(base.latents, before.latents)
    assert not torch.equal(own.latents, before.latents)


def test_groups_are_the_same_however_they_are_cut() -> None:
    prompts = ["a", "b", "c"]
    whole = next_groups(prompts, 0, 6, candidates=2, seed=5)
    parts = [next_groups(prompts, first, 2, candidates=2, seed=5) for first in (0, 2, 4)]
    assert whole == [group for part in parts for group in part]
    assert Counter(group.prompt for group in whole) == {"a": 2, "b": 2, "c": 2}
    assert len({seed for group in whole for seed in group.seeds}) == 12
    assert all(prompts[group.row] == group.prompt for group in whole)
    assert next_groups(prompts, 0, 6, candidates=2, seed=6) != whole
