"""Shuffled epochs that go on where they stopped."""

from __future__ import annotations

import pytest
import torch

from reelign.errors import ReelignError
from reelign.generators import Conditioning
from reelign.training import ShuffledStream, VideoBatch

COUNT = 10


def stream(*, batch_size: int = 5, seed: int = 0, count: int = COUNT) -> ShuffledStream[VideoBatch]:
    """Each sample's latents are its number, its conditioning its prompt's."""
    latents = torch.arange(count).float().reshape(-1, 1, 1, 1, 1)
    conditioning = Conditioning({"prompt_embeds": torch.tensor([[0.0], [1.0]])})
    prompts = torch.arange(count) % 2
    return ShuffledStream(VideoBatch, latents, conditioning, prompts, batch_size=batch_size, seed=seed)


def numbers(batch: VideoBatch) -> list[int]:
    return [int(number) for number in batch.latents.flatten()]


def test_every_epoch_is_a_permutation_of_its_own() -> None:
    each = stream()
    epochs = [numbers(each.next_batch()) + numbers(each.next_batch()) for _ in range(3)]
    assert all(sorted(epoch) == list(range(COUNT)) for epoch in epochs)
    assert epochs[0] != epochs[1] != epochs[2]


def test_an_epoch_is_put_in_order_once(monkeypatch: pytest.MonkeyPatch) -> None:
    orders: list[int] = []
    permute = torch.randperm

    def counted(count: int, **options: torch.Generator) -> torch.Tensor:
        orders.append(count)
        return permute(count, **options)

    monkeypatch.setattr(torch, "randperm", counted)
    each = stream(batch_size=4)
    for _ in range(5):
        each.next_batch()
    assert orders == [COUNT, COUNT]


def test_batches_that_do_not_divide_the_epoch_miss_nothing() -> None:
    each = stream(batch_size=4)
    seen = [number for _ in range(5) for number in numbers(each.next_batch())]
    assert sorted(seen[:COUNT]) == sorted(seen[COUNT:]) == list(range(COUNT))


def test_a_batch_may_be_larger_than_what_there_is() -> None:
    assert sorted(numbers(stream(batch_size=20).next_batch())) == sorted([*range(COUNT), *range(COUNT)])


def test_conditioning_belongs_to_its_video() -> None:
    batch = stream().next_batch()
    assert batch.conditioning["prompt_embeds"].flatten().tolist() == [number % 2 for number in numbers(batch)]


def test_a_stream_set_to_a_cursor_goes_on_with_the_same_batches() -> None:
    whole = stream(batch_size=3)
    batches = [whole.next_batch() for _ in range(8)]
    again = stream(batch_size=3)
    for _ in range(4):
        again.next_batch()
    resumed = stream(batch_size=3)
    resumed.load_state_dict(again.state_dict())
    for batch in batches[4:]:
        found = resumed.next_batch()
        assert numbers(found) == numbers(batch)
        assert found.seed == batch.seed


def test_draws_differ_between_steps_and_seeds() -> None:
    each, other = stream(), stream(seed=1)
    seeds = [each.next_batch().seed, each.next_batch().seed, other.next_batch().seed]
    assert len(set(seeds)) == 3


def test_nothing_to_train_on_is_refused() -> None:
    with pytest.raises(ReelignError, match="nothing to train on"):
        stream(count=0)


def test_names_and_values_go_with_their_samples() -> None:
    each = stream()
    each.names = [f"clip {number}" for number in range(COUNT)]
    each.values = 10 * torch.arange(COUNT)
    batch = each.next_batch()
    assert batch.names == tuple(f"clip {number}" for number in numbers(batch))
    assert batch.values is not None
    assert batch.values.tolist() == [10 * number for number in numbers(batch)]
    plain = stream().next_batch()
    assert (plain.names, plain.values) == ((), None)
    assert numbers(plain) == numbers(batch)
