"""Batches that always hold both kinds."""

from __future__ import annotations

from collections import Counter

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from reelign.generators.base import Conditioning
from reelign.recipes.data.stratified_stream import StratifiedStream
from reelign.training import VideoBatch


def stream(desirable: int, undesirable: int, batch_size: int) -> StratifiedStream:
    count = desirable + undesirable
    return StratifiedStream(
        torch.arange(float(count)).reshape(-1, 1, 1, 1, 1),
        Conditioning({"prompt_embeds": torch.arange(float(count))[:, None]}),
        torch.arange(count),
        batch_size=batch_size,
        seed=1,
        values=torch.arange(count) < desirable,
        first_kind=torch.arange(count) < desirable,
    )


def kinds(batch: VideoBatch) -> list[bool]:
    assert batch.values is not None
    return batch.values.tolist()


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 30), st.integers(1, 30), st.integers(2, 9))
def test_no_batch_is_of_one_kind_and_the_proportion_is_kept(desirable: int, undesirable: int, batch_size: int) -> None:
    made = stream(desirable, undesirable, batch_size)
    found = [sum(kinds(made.next_batch())) for _ in range(20)]
    assert all(0 < count < batch_size for count in found)
    wanted = min(max(batch_size * desirable / (desirable + undesirable), 1), batch_size - 1)
    assert abs(sum(found) - 20 * wanted) < 1
    assert max(found) - min(found) <= 1


def test_every_video_comes_once_before_any_comes_twice() -> None:
    made = stream(4, 8, 6)
    for _ in range(3):
        seen = Counter(int(value) for _ in range(2) for value in made.next_batch().latents.flatten().tolist())
        assert seen == Counter(range(12))


def test_kinds_are_spread_over_the_batch() -> None:
    row = kinds(stream(4, 4, 8).next_batch())
    assert sum(row[:4]) == sum(row[4:]) == 2


def test_the_cursor_is_one_number() -> None:
    made, again = stream(3, 5, 4), stream(3, 5, 4)
    for _ in range(3):
        made.next_batch()
    again.load_state_dict(made.state_dict())
    assert torch.equal(made.next_batch().latents, again.next_batch().latents)


def test_a_batch_of_one_is_refused() -> None:
    with pytest.raises(ValueError, match="cannot hold both kinds"):
        stream(1, 1, 1)
