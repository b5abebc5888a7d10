"""A policy that goes on from a saved adapter begins there, is held there, and still knows its base."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from reelign.errors import ReelignError
from reelign.generators import Generator, VideoSize, load_generator
from reelign.training import LoRA, Policy, load_adapter
from reelign.training.adapter_files import start_from, weights_key


def velocity(generator: Generator, size: VideoSize) -> Tensor:
    noisy = torch.randn(1, *generator.latent_shape(size), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        return generator.velocity(noisy, torch.tensor([0.5]), generator.encode_prompts(["a red square"]))


@pytest.mark.parametrize("dora", [False, True])
def test_it_begins_at_the_saved_weights_and_its_reference_stays_there(
    tiny_wan_folder: Path, tiny_size: VideoSize, tmp_path: Path, dora: bool
) -> None:
    lora = LoRA(rank=2, alpha=4, dora=dora)
    first = Policy(load_generator(str(tiny_wan_folder)), lora, seed=0)
    chance = torch.Generator().manual_seed(0)
    trained = {
        name: each + 0.1 * torch.randn(each.shape, generator=chance) for name, each in first.state_dict().items()
    }
    first.load_state_dict(trained)
    first.save(tmp_path)
    base = load_generator(str(tiny_wan_folder))
    before = velocity(base, tiny_size)
    second = Policy(base, lora, seed=1, moving=True)
    start_from(second, tmp_path)
    assert all(each.equal(trained[name]) for name, each in second.state_dict().items())
    own = velocity(second.generator, tiny_size)
    assert own.equal(velocity(first.generator, tiny_size))
    assert not own.equal(before)
    second.load_state_dict({name: torch.zeros_like(each) for name, each in second.state_dict().items()})
    with second.using("reference"):
        assert velocity(second.generator, tiny_size).equal(own)
    with second.using("base"):
        assert velocity(second.generator, tiny_size).equal(before)


@pytest.mark.parametrize(("rank", "alpha"), [(4, 4), (2, 2)])
def test_an_adapter_of_another_shape_or_scale_is_refused(
    tiny_wan_folder: Path, tmp_path: Path, rank: int, alpha: int
) -> None:
    Policy(load_generator(str(tiny_wan_folder)), LoRA(rank=2, alpha=4)).save(tmp_path)
    other = Policy(load_generator(str(tiny_wan_folder)), LoRA(rank=rank, alpha=alpha), moving=True)
    with pytest.raises(ReelignError, match="adapter of another shape"):
        start_from(other, tmp_path)


def test_what_went_on_is_saved_as_one_adapter_that_pipelines_load(
    tiny_wan_folder: Path, tiny_size: VideoSize, tmp_path: Path
) -> None:
    lora = LoRA(rank=2, alpha=2)
    first = Policy(load_generator(str(tiny_wan_folder)), lora)
    first.load_state_dict({name: each + 0.1 for name, each in first.state_dict().items()})
    first.save(tmp_path / "one")
    second = Policy(load_generator(str(tiny_wan_folder)), lora, moving=True)
    start_from(second, tmp_path / "one")
    second.save(tmp_path / "two")
    assert weights_key(tmp_path / "two") == weights_key(tmp_path / "one")
    plain = load_generator(str(tiny_wan_folder))
    load_adapter(plain, tmp_path / "two")
    torch.testing.assert_close(velocity(plain, tiny_size), velocity(second.generator, tiny_size))
