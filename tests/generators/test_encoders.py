"""Text encoders and VAE away and back: no weights, the same numbers."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from torch import nn

from generators.pipelines import PROMPTS
from reelign.errors import ReelignError
from reelign.generators import Generator, VideoSize, load_generator
from reelign.generators.encoders import drop_encoders, encoders, holding, is_away, text_encoders


def held_bytes(models: dict[str, nn.Module]) -> int:
    """Bytes of weights that are really there."""
    tensors = [tensor for model in models.values() for tensor in (*model.parameters(), *model.buffers())]
    return sum(tensor.nbytes for tensor in tensors if tensor.device.type != "meta")


@pytest.fixture(params=["wan", "cogvideox-2b", "modelscope"])
def folder(request: pytest.FixtureRequest, tiny_wan_folder: Path, family_folders: dict[str, Path]) -> Path:
    return tiny_wan_folder if request.param == "wan" else family_folders[request.param]


def test_a_generator_without_encoders_holds_the_denoiser_alone(folder: Path) -> None:
    whole, lean = load_generator(str(folder)), load_generator(str(folder), encoders=False)
    assert held_bytes(lean.denoisers) == held_bytes(whole.denoisers) > 0
    assert held_bytes(encoders(lean)) == 0 < held_bytes(encoders(whole))
    assert set(encoders(lean)) == {"vae", "text_encoder"}
    size = VideoSize(9, 16, 16)
    assert (lean.legal(size), lean.latent_shape(size)) == (whole.legal(size), whole.latent_shape(size))


def test_a_generator_without_weights_knows_its_sizes(folder: Path) -> None:
    whole, outline = load_generator(str(folder)), load_generator(str(folder), weights=False)
    assert held_bytes({**outline.denoisers, **encoders(outline)}) == 0
    assert outline.identity == whole.identity
    size = VideoSize(9, 16, 16)
    assert (outline.legal(size), outline.latent_shape(size)) == (whole.legal(size), whole.latent_shape(size))
    for name, denoiser in whole.denoisers.items():
        named = outline.denoisers[name].state_dict()
        assert {key: value.shape for key, value in denoiser.state_dict().items()} == {
            key: value.shape for key, value in named.items()
        }


def test_what_is_held_encodes_as_it_always_did(folder: Path) -> None:
    whole, lean = load_generator(str(folder)), load_generator(str(folder), encoders=False)
    videos = torch.rand(1, 9, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    for _ in range(2):
        with holding(lean, *text_encoders(lean)), torch.no_grad():
            ours, theirs = lean.encode_prompts(PROMPTS), whole.encode_prompts(PROMPTS)
        assert all(torch.equal(ours[name], theirs[name]) for name in theirs.tensors)
        with holding(lean, "vae"), torch.no_grad():
            torch.manual_seed(0)
            ours_latents = lean.encode(videos)
            torch.manual_seed(0)
            assert torch.equal(ours_latents, whole.encode(videos))
        assert held_bytes(encoders(lean)) == 0


def test_dropped_encoders_come_back(tiny_wan: Generator) -> None:
    before = tiny_wan.encode_prompts(PROMPTS)["prompt_embeds"]
    with holding(tiny_wan, "text_encoder"):
        pass
    assert not is_away(tiny_wan.pipeline.text_encoder)  # it was not away before either
    drop_encoders(tiny_wan)
    assert held_bytes(encoders(tiny_wan)) == 0
    with holding(tiny_wan, "text_encoder"):
        assert torch.equal(tiny_wan.encode_prompts(PROMPTS)["prompt_embeds"], before)


def test_weights_that_are_gone_are_named(tiny_wan_folder: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(tiny_wan_folder, tmp_path / "model")
    lean = load_generator(str(folder), encoders=False)
    (folder / "text_encoder" / "model.safetensors").unlink()
    with (
        pytest.raises(ReelignError, match=r"lacks the weights of its text_encoder"),
        holding(lean, "text_encoder"),
    ):
        pass
