"""A small problem for training: latents of four pairs with two prompts."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from reelign.generators import Conditioning, Generator


@pytest.fixture(scope="session")
def pairs() -> Tensor:
    """(4, 2, C, F, H, W) of 9 frames at 16 x 16; chosen and rejected differ by their mean."""
    latents = torch.randn(4, 2, 16, 3, 2, 2, generator=torch.Generator().manual_seed(1))
    latents[:, 0] += 1
    latents[:, 1] -= 1
    return latents


@pytest.fixture
def conditioning(tiny_wan: Generator) -> Conditioning:
    return tiny_wan.encode_prompts(["a red square", "a disc"])
