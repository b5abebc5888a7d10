"""Optimisers by name; that of 8 bits is another package's."""

from __future__ import annotations

import sys

import pytest
import torch
from torch import nn

from reelign.errors import ReelignError
from reelign.training.optimisers import make_optimiser
from reelign.training.settings import TrainerSettings

EIGHT_BITS = TrainerSettings(optimiser="adamw_8bit", learning_rate=1e-2)


def test_adamw_has_the_settings() -> None:
    settings = TrainerSettings(learning_rate=0.3, betas=(0.8, 0.9), weight_decay=0.1)
    (group,) = make_optimiser([nn.Parameter(torch.ones(2))], settings).param_groups
    assert (group["lr"], group["betas"], group["weight_decay"]) == (0.3, (0.8, 0.9), 0.1)


def test_without_its_package_8_bits_are_refused_with_the_line_that_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "bitsandbytes.optim", None)
    with pytest.raises(ReelignError, match=r"needs the package bitsandbytes.*\n.*pip install 'reelign\[8bit\]'"):
        make_optimiser([nn.Parameter(torch.ones(2))], EIGHT_BITS)


def test_8_bits_keep_a_quarter_of_the_state_and_go_the_same_way() -> None:
    start = torch.randn(64, 128, generator=torch.Generator().manual_seed(0))
    ways, held = [], []
    for settings in (TrainerSettings(learning_rate=1e-2), EIGHT_BITS):
        weight = nn.Parameter(start.clone())
        optimiser = make_optimiser([weight], settings)
        for _ in range(10):
            weight.grad = weight.detach().clone()
            optimiser.step()
        ways.append(weight.detach() - start)
        moments = [each for each in optimiser.state[weight].values() if isinstance(each, torch.Tensor)]
        held.append(sum(each.nbytes for each in moments if each.numel() >= weight.numel()))
    assert float(torch.cosine_similarity(*(way.flatten() for way in ways), dim=0)) > 0.99
    assert held[1] == held[0] / 4
