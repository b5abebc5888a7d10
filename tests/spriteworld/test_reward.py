"""The judges as a reward: the same numbers, and a gradient that climbs them."""

from __future__ import annotations

import pytest
import torch

from reelign.rewards.opening import open_reward
from reelign.spriteworld.judges import DIMENSIONS, scores
from reelign.spriteworld.reward import SpriteReward
from reelign.spriteworld.world import sample_mix


def test_it_scores_as_the_judges_do_and_its_gradient_climbs() -> None:
    videos, prompts, *_ = sample_mix(24, torch.Generator().manual_seed(0))
    reward = open_reward("reelign.spriteworld.reward:SpriteReward")
    leaf = videos.clone().requires_grad_()
    found = reward.score(leaf, prompts)
    told = scores(videos, prompts)
    for name in DIMENSIONS:
        torch.testing.assert_close(found[name], told[name])
    torch.testing.assert_close(found["overall"], torch.stack([told[name] for name in DIMENSIONS]).mean(dim=0))
    (gradient,) = torch.autograd.grad(found["overall"].sum(), leaf)
    assert bool(torch.isfinite(gradient).all())
    better = (videos + 0.02 * gradient / gradient.flatten(1).norm(dim=1).clamp(min=1e-9).view(-1, 1, 1, 1, 1)).clamp(
        0, 1
    )
    flawed = found["overall"].detach() < 0.9
    assert bool(flawed.any())
    gain = reward.score(better, prompts)["overall"][flawed] - found["overall"].detach()[flawed]
    assert float(gain.mean()) > 0


def test_the_gradient_is_finite_where_there_is_nothing_or_nothing_moves() -> None:
    videos, prompts, *_ = sample_mix(2, torch.Generator().manual_seed(0))
    still = videos[:1, :1].expand(-1, videos.shape[1], -1, -1, -1)
    leaf = torch.cat([still, torch.full_like(still, 0.5), torch.zeros_like(still)]).requires_grad_()
    found = SpriteReward().score(leaf, [prompts[0]] * 3)["overall"]
    (gradient,) = torch.autograd.grad(found.sum(), leaf)
    assert bool(torch.isfinite(gradient).all())


def test_a_reward_of_some_dimensions_is_blind_to_the_others() -> None:
    videos, prompts, *_ = sample_mix(4, torch.Generator().manual_seed(0))
    blind = SpriteReward(dimensions=("VQ", "TA"))
    assert blind.dimensions == ("overall", "VQ", "TA")
    assert blind.version != SpriteReward().version
    found = blind.score(videos, prompts)
    torch.testing.assert_close(found["overall"], (found["VQ"] + found["TA"]) / 2)
    with pytest.raises(ValueError, match="dimensions must be some of VQ, MQ, TA"):
        SpriteReward(dimensions=("beauty",))
