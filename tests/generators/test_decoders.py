"""Pieces of latents decode to the frames of diffusers' own decode, for every VAE class."""

from __future__ import annotations

import pytest
import torch

from generators.tiny_vaes import PIECES, VAES, new_vae, plainly, random_latents, tiny_vae
from reelign.errors import ReelignError
from reelign.generators import Generator, VideoSize
from reelign.generators.decoding.decoders import decoder_of

SIZES = {
    "wan": [1, 1, 1, 1, 1],
    "wan-residual": [1, 1, 1, 1, 1],
    "cogvideox": [3, 2],
    "mochi": [1, 1, 1, 1, 1],
    "frames": [1, 1, 1, 1, 1],
    "temporal": [2, 2, 1],
    "hunyuan": [5, 0],
    "hunyuan15": [1, 1, 1, 1, 1],
    "ltx": [5],
    "opensora": [2, 2, 1],
}
"""Latent frames of each piece of a clip of five."""
FRAMES = {
    **{"wan": 17, "wan-residual": 17, "cogvideox": 17, "mochi": 25},
    **{"frames": 5, "temporal": 5, "hunyuan": 17, "hunyuan15": 17},
    "opensora": 11,
}


@pytest.mark.parametrize("name", VAES)
def test_the_pieces_joined_are_diffusers_own_decode(name: str) -> None:
    # Plainly first: Mochi's convolutions are told to keep caches when its decoder is taken apart.
    vae, latents = new_vae(name), random_latents(5)
    with torch.no_grad():
        expected = plainly(vae, latents)
        decoder = decoder_of(vae, **PIECES.get(name, {}))
        pieces = decoder.pieces(5)
        found = decoder.chain(latents, pieces)
    assert [len(piece.latents) for piece in pieces] == SIZES[name]
    assert found.shape[2] == pieces[-1].frames.stop == FRAMES.get(name, 33)
    # Wan's own decode clamps, its pieces do not.
    assert "wan" not in name or expected.abs().max() < 1
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)
    torch.testing.assert_close(plainly(vae, latents), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", VAES)
@pytest.mark.parametrize("num_latents", [1, 2])
def test_a_single_frame_and_an_even_clip_too(name: str, num_latents: int) -> None:
    latents = random_latents(num_latents)
    decoder = decoder_of(tiny_vae(name), **PIECES.get(name, {}))
    pieces = decoder.pieces(num_latents)
    with torch.no_grad():
        found, expected = decoder.chain(latents, pieces), plainly(tiny_vae(name), latents)
    assert found.shape[2] == pieces[-1].frames.stop
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize(("num_latents", "sizes"), [(4, [4]), (6, [5, 1]), (7, [5, 2]), (8, [5, 3, 0]), (9, [5, 3, 1])])
def test_hunyuan_videos_tiles_fade_as_diffusers_fades_them(num_latents: int, sizes: list[int]) -> None:
    decoder, latents = decoder_of(tiny_vae("hunyuan")), random_latents(num_latents)
    assert decoder.sizes(num_latents) == sizes
    pieces = decoder.pieces(num_latents)
    with torch.no_grad():
        found, expected = decoder.chain(latents, pieces), plainly(tiny_vae("hunyuan"), latents)
    assert found.shape[2] == pieces[-1].frames.stop == 4 * num_latents - 3
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)


def test_frames_alone_equal_those_of_the_whole_clip_and_need_few_pieces(tiny_wan: Generator) -> None:
    latents = torch.randn(2, *tiny_wan.latent_shape(VideoSize(13, 16, 16))).double()
    tiny_wan.pipeline.vae.double()
    with torch.no_grad():
        whole, some = tiny_wan.decode(latents), tiny_wan.decode(latents, frames=[6, 1])
    torch.testing.assert_close(some, whole[:, [6, 1]], rtol=0, atol=1e-9)
    assert [piece.latents.start for piece in tiny_wan.decoder.pieces_for(4, [6, 1])] == [0, 1, 2]


def test_frames_of_independent_pieces_need_no_others() -> None:
    decoder, latents = decoder_of(tiny_vae("frames")), random_latents(5)
    assert [piece.latents.start for piece in decoder.pieces_for(5, [4, 1])] == [1, 4]
    with torch.no_grad():
        found = decoder.frames(latents, [4, 1])
        torch.testing.assert_close(found, plainly(tiny_vae("frames"), latents)[:, :, [4, 1]], rtol=0, atol=1e-12)


@pytest.mark.parametrize(("frames", "said"), [([17], "Frame 17 is outside"), ([-1], "Frame -1"), ([], "No frames")])
def test_frames_that_the_clip_lacks_are_refused(frames: list[int], said: str) -> None:
    with pytest.raises(ReelignError, match=f"{said}.*0 to 16"):
        decoder_of(tiny_vae("wan")).pieces_for(5, frames)


def test_a_vae_that_no_decoder_knows_is_refused() -> None:
    with pytest.raises(ReelignError, match=r"Identity is a VAE[^$]*AutoencoderKLWan"):
        decoder_of(torch.nn.Identity())


def test_a_decode_in_tiles_is_refused() -> None:
    vae = new_vae("wan")
    vae.enable_tiling()
    with pytest.raises(ReelignError, match="tiles"):
        decoder_of(vae).pieces(2)


def test_a_piece_without_frames_is_refused() -> None:
    with pytest.raises(ReelignError, match="at least 1, got 0"):
        decoder_of(tiny_vae("frames"), frames_per_piece=0)


@pytest.mark.parametrize("name", VAES)
def test_blocks_that_ran_again_are_as_before(name: str) -> None:
    decoder = decoder_of(tiny_vae(name))
    before = [dict(vars(module)) for module in decoder.vae.modules()]
    with decoder.running_again():
        changed = [module for module in decoder.vae.decoder.modules() if "forward" in vars(module)]
        kinds = {type(module).__name__ for module in changed}
    assert kinds
    assert kinds <= set(decoder.block_classes)
    assert [dict(vars(module)) for module in decoder.vae.modules()] == before
