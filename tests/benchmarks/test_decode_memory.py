"""What the pieces promise: memory of one piece for any number of frames, and half of the plain way's."""

from __future__ import annotations

from collections.abc import Iterator
from types import ModuleType

import pytest
import torch

from benchmark_scripts import benchmark


@pytest.fixture(scope="module")
def script() -> Iterator[ModuleType]:
    with benchmark("decode_memory") as (found,):
        yield found


def test_reverse_holds_one_piece_whatever_the_number_of_frames(script: ModuleType) -> None:
    decoder = script.tiny("wan")

    def beyond(way: str, num_latents: int) -> float:
        found = script.step(decoder, torch.randn(1, 16, num_latents, 2, 2), script.WAYS[way])
        assert (found.host > 0) == way.startswith("reverse")
        weights = sum(parameter.nbytes for parameter in decoder.vae.parameters())
        return float(found.peak - found.pixels - weights)

    # From 17 frames on, where every kind of piece has come; fewer hold less.
    assert beyond("reverse", 3) < beyond("reverse", 5) == beyond("reverse", 9)
    assert beyond("plain", 6) > 1.7 * beyond("plain", 3)
    assert beyond("chunk", 6) < 0.5 * beyond("plain", 6)
