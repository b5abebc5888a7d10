"""The first blocks of every family's denoiser, shared with it or copied."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from generators.tiny import save_cogvideox, save_modelscope
from generators.tiny_animatediff import save_animatediff
from generators.tiny_hunyuan import save_hunyuan
from generators.tiny_hunyuan15 import save_hunyuan15
from generators.tiny_ltx import save_ltx
from generators.tiny_mochi import save_mochi
from reelign.errors import ReelignError
from reelign.generators import Generator, VideoSize, load_generator
from reelign.generators.trunk import block_count, checkpoint_blocks, features, make_trunk, weights_mark
from reelign.training import LoRA, Policy

FAMILIES = ("wan", "cogvideox-2b", "cogvideox-5b", "modelscope", "animatediff", "hunyuan", "hunyuan15", "ltx", "mochi")
LISTS = {"wan": "blocks", "modelscope": "down_blocks", "animatediff": "down_blocks"}
"""Where the others' blocks are not `transformer_blocks`."""


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory, tiny_wan_folder: Path) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("families")
    save_cogvideox(root / "cogvideox-2b", rotary=False)
    save_cogvideox(root / "cogvideox-5b", rotary=True)
    save_modelscope(root / "modelscope")
    save_animatediff(root / "animatediff")
    save_hunyuan(root / "hunyuan")
    save_hunyuan15(root / "hunyuan15")
    save_ltx(root / "ltx")
    save_mochi(root / "mochi")
    return {"wan": tiny_wan_folder, **{name: root / name for name in FAMILIES[1:]}}


@pytest.fixture(params=FAMILIES)
def family(request: pytest.FixtureRequest, folders: dict[str, Path]) -> tuple[str, Generator]:
    return request.param, load_generator(str(folders[request.param]))


def inputs(generator: Generator) -> tuple[Tensor, Tensor, Any]:
    chance = torch.Generator().manual_seed(0)
    shape = generator.latent_shape(generator.legal(VideoSize(9, 16, 16)))
    noisy = torch.randn((2, *shape), generator=chance)
    return noisy, generator.path.training_sigmas(torch.tensor([0.3, 0.7])), generator.encode_prompts(["a", "red disc"])


def last_block_output(family: str, generator: Generator, blocks: int) -> Tensor:
    """What the whole denoiser's own block says, by a hook on it; tokens as the family lays them out."""
    (denoiser,) = generator.denoisers.values()
    block = getattr(denoiser, LISTS.get(family, "transformer_blocks"))[blocks - 1]
    seen: list[Any] = []
    handle = block.register_forward_hook(lambda module, given, output: seen.append(output))
    noisy, sigma, conditioning = inputs(generator)
    with torch.no_grad():
        generator.velocity(noisy, sigma, conditioning)
    handle.remove()
    found: Tensor = seen[0][0] if isinstance(seen[0], tuple) else seen[0]
    if LISTS.get(family) == "down_blocks":  # (B · F, C, h, w)
        frames = found.reshape(2, -1, *found.shape[1:])
        return torch.stack([each.movedim(1, -1).reshape(-1, found.shape[1]) for each in frames])
    return found


@pytest.mark.parametrize("weights", ["shared", "copied"])
def test_features_are_what_the_denoisers_own_block_says(family: tuple[str, Generator], weights: Any) -> None:
    name, generator = family
    (before,) = generator.denoisers.values()
    expected = last_block_output(name, generator, 1)
    trunk = make_trunk(generator, 1, weights=weights)
    found = features(generator, trunk, *inputs(generator))
    torch.testing.assert_close(found, expected.float(), rtol=1e-5, atol=1e-5)
    (after,) = generator.denoisers.values()
    assert after is before


def test_a_copy_is_of_the_first_blocks_alone_and_sharing_copies_nothing(family: tuple[str, Generator]) -> None:
    _, generator = family
    (denoiser,) = generator.denoisers.values()
    pointers = {each.data_ptr() for each in denoiser.parameters()}
    shared, copied = (make_trunk(generator, 1, weights=each) for each in ("shared", "copied"))
    assert {each.data_ptr() for each in shared.parameters()} <= pointers
    assert not {each.data_ptr() for each in copied.parameters()} & pointers
    assert sum(each.numel() for each in copied.parameters()) < sum(each.numel() for each in denoiser.parameters())
    assert weights_mark(shared) == weights_mark(copied)
    with torch.no_grad():
        next(copied.parameters()).flatten()[0].add_(1)
    assert weights_mark(shared) != weights_mark(copied)


def test_gradients_reach_the_latents_and_checkpointing_changes_none(family: tuple[str, Generator]) -> None:
    _, generator = family
    noisy, sigma, conditioning = inputs(generator)
    gradients = []
    for again in (False, True):
        trunk = make_trunk(generator, 1, weights="shared")
        if again:
            checkpoint_blocks(trunk)
        leaf = noisy.clone().requires_grad_(True)
        features(generator, trunk, leaf, sigma, conditioning).square().mean().backward()
        assert leaf.grad is not None
        gradients.append(leaf.grad)
    assert float(gradients[0].abs().max()) > 0
    torch.testing.assert_close(gradients[1], gradients[0], rtol=1e-4, atol=1e-8)
    (denoiser,) = generator.denoisers.values()
    assert not [name for name, each in denoiser.named_parameters() if each.grad is not None]


def test_an_adapter_on_the_generator_does_not_move_the_trunk(tiny_wan: Generator) -> None:
    before = features(tiny_wan, make_trunk(tiny_wan, 2, weights="shared"), *inputs(tiny_wan))
    policy = Policy(tiny_wan, LoRA(rank=2))
    with torch.no_grad():
        for parameter in policy.parameters.values():
            parameter.fill_(0.3)
    trunk = make_trunk(tiny_wan, 2, weights="shared")
    torch.testing.assert_close(features(tiny_wan, trunk, *inputs(tiny_wan)), before)
    assert not [name for name, _ in trunk.named_parameters() if "lora_" in name]


def test_more_blocks_than_there_are_or_an_unknown_denoiser_are_refused(tiny_wan: Generator) -> None:
    assert block_count(tiny_wan) == 2
    for blocks in (0, 3):
        with pytest.raises(ReelignError, match="has 2 blocks"):
            make_trunk(tiny_wan, blocks, weights="shared")
    tiny_wan.pipeline.__dict__["transformer"] = nn.Linear(1, 1)
    with pytest.raises(ReelignError, match="A Linear has no known first blocks"):
        block_count(tiny_wan)
