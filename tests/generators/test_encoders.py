"""Text encoders and VAE away and back: no weights, the same numbers."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
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


def test_an_encoders_weights_that_are_missing_or_have_no_place_are_refused(
    tiny_wan_folder: Path, tmp_path: Path
) -> None:
    """transformers would go on with random ones, and say so in a log."""
    folder = shutil.copytree(tiny_wan_folder, tmp_path / "model")
    path = folder / "text_encoder" / "model.safetensors"
    weights = load_file(path)
    lost = "encoder.block.0.layer.0.SelfAttention.q.weight"
    lean = load_generator(str(folder), encoders=False)
    save_file({name: each for name, each in weights.items() if name != lost}, path, metadata={"format": "pt"})
    with pytest.raises(ReelignError, match=rf"The text_encoder of .* lacks the weight {lost}\."):
        load_generator(str(folder))
    with pytest.raises(ReelignError, match=rf"lacks the weight {lost}\."), holding(lean, "text_encoder"):
        pass
    save_file({**weights, "encoder.strange": torch.zeros(2)}, path, metadata={"format": "pt"})
    with pytest.raises(ReelignError, match=r"without a place for it, the weight encoder\.strange"):
        load_generator(str(folder))
    save_file({**weights, lost: torch.zeros(3, 3)}, path, metadata={"format": "pt"})
    with pytest.raises(ReelignError, match=rf"has in another shape the weight {lost}\."):
        load_generator(str(folder))


def test_umt5_reads_its_one_table_of_words_as_wan_has_it(tiny_wan_folder: Path, tmp_path: Path) -> None:
    """Wan-AI/Wan2.1-T2V-1.3B-Diffusers holds `shared.weight` alone, and its config has tie_word_embeddings false:
    transformers issue 43992, in which the encoder's own table stayed random."""
    folder = shutil.copytree(tiny_wan_folder, tmp_path / "model")
    path, config = folder / "text_encoder" / "model.safetensors", folder / "text_encoder" / "config.json"
    weights = load_file(path)
    table = weights.pop("shared.weight", weights.pop("encoder.embed_tokens.weight", None))
    assert table is not None
    weights.pop("encoder.embed_tokens.weight", None)
    save_file({**weights, "shared.weight": table}, path, metadata={"format": "pt"})
    config.write_text(json.dumps({**json.loads(config.read_text()), "tie_word_embeddings": False}))
    encoder = load_generator(str(folder)).pipeline.text_encoder
    assert torch.equal(encoder.encoder.embed_tokens.weight, table)
