"""The decoder's gradient in pieces is the plain decode's, for every VAE class; what is not exact says so."""

from __future__ import annotations

import functools

import pytest
import torch
from torch import Tensor

from generators.tiny_vaes import PIECES, VAES, new_vae, plainly, random_latents, tiny_vae
from reelign.errors import ReelignError
from reelign.generators import Generator, VideoSize
from reelign.generators.decoding.decoders import decoder_of
from reelign.generators.decoding.video import VideoDecoder
from reelign.training.staged_decode import DecodeSettings, chosen_pieces, decoded_gradient
from reelign.training.staged_pieces import _pulled, decode_in_pieces, decode_whole

NUM_LATENTS = 5
BORDER = 1e-12


def tiny_decoder(name: str) -> VideoDecoder:
    return decoder_of(tiny_vae(name), **PIECES.get(name, {}))


@functools.cache
def plain_gradient(name: str) -> tuple[Tensor, Tensor, Tensor]:
    """Pixels, a random gradient on them, and what plain autograd through diffusers' decode makes of it."""
    latents = random_latents(NUM_LATENTS).requires_grad_()
    pixels = plainly(tiny_vae(name), latents)
    gradient = torch.randn(pixels.shape, dtype=pixels.dtype, generator=torch.Generator().manual_seed(1))
    pixels.backward(gradient)
    assert latents.grad is not None
    return pixels.detach(), gradient, latents.grad


def assert_same(found: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(found, expected, rtol=0, atol=BORDER * float(expected.abs().max()))


@pytest.mark.parametrize("name", VAES)
def test_pieces_give_the_plain_gradient_to_the_last_digits(name: str) -> None:
    decoder, latents = tiny_decoder(name), random_latents(NUM_LATENTS)
    pixels, gradient, expected = plain_gradient(name)
    pieces = decoder.pieces(NUM_LATENTS)
    found, pull = decode_in_pieces(decoder, latents, pieces, graded=pieces, offload=False)
    torch.testing.assert_close(found, pixels, rtol=0, atol=BORDER)
    assert_same(pull(gradient), expected)


@pytest.mark.parametrize("name", VAES)
def test_blocks_that_run_again_inside_give_it_too(name: str) -> None:
    decoder, latents = tiny_decoder(name), random_latents(NUM_LATENTS)
    _, gradient, expected = plain_gradient(name)
    pieces = decoder.pieces(NUM_LATENTS)
    with decoder.running_again():
        _, pull = decode_in_pieces(decoder, latents, pieces, graded=pieces, offload=True)
        assert_same(pull(gradient), expected)


@pytest.mark.parametrize("name", ["wan", "cogvideox"])
def test_what_waits_for_the_piece_before_is_no_larger_than_its_cache(name: str) -> None:
    decoder, latents = tiny_decoder(name), random_latents(NUM_LATENTS)
    first, second, *_ = decoder.pieces(NUM_LATENTS)
    cut = [latents[:, :, piece.latents.start : piece.latents.stop] for piece in (first, second)]
    with torch.no_grad():
        _, cache = decoder(cut[0], None)
        pixels, _ = decoder(cut[1], cache)
    _, waiting = _pulled(decoder, cut[1], cache, torch.ones_like(pixels), [])
    found = [gradient for gradient in waiting if gradient is not None]
    assert found
    assert all(gradient.untyped_storage().nbytes() == gradient.nbytes for gradient in found)


@pytest.mark.parametrize("name", ["wan", "cogvideox"])
def test_half_precision_is_within_its_rounding_of_the_plain_way(name: str) -> None:
    """Both err from the float64 gradient; in pieces no more than plainly."""
    vae, latents = new_vae(name, torch.bfloat16), random_latents(NUM_LATENTS).bfloat16()
    _, gradient, exact = plain_gradient(name)
    decoder = decoder_of(vae)
    pieces = decoder.pieces(NUM_LATENTS)
    apart = decode_in_pieces(decoder, latents, pieces, graded=pieces, offload=False)[1](gradient).double()
    plain = decode_whole(decoder, latents, pieces)[1](gradient.bfloat16()).double()
    scale = float(exact.norm())
    assert float((apart - exact).norm()) < 1.2 * float((plain - exact).norm()) + 1e-3 * scale
    assert float((apart - plain).norm()) < 0.02 * scale


def test_a_window_to_the_clips_end_is_exact_for_its_latents_and_a_cut_one_is_not() -> None:
    decoder, latents = tiny_decoder("wan"), random_latents(NUM_LATENTS)
    pixels, gradient, expected = plain_gradient("wan")
    pieces = decoder.pieces(NUM_LATENTS)

    def through(*graded: int) -> Tensor:
        found, pull = decode_in_pieces(
            decoder, latents, pieces, graded=[pieces[index] for index in graded], offload=False
        )
        assert_close_values(found, pixels)
        return pull(gradient)

    last = through(3, 4)
    assert_same(last[:, :, 3:], expected[:, :, 3:])
    assert not last[:, :, :3].any()
    # Only what latent 1 does to its own frames: the loss with the other frames' gradient left out.
    cut, alone = through(1), torch.zeros_like(gradient)
    alone[:, :, 1:5] = gradient[:, :, 1:5]
    _, pull = decode_in_pieces(decoder, latents, pieces, graded=pieces, offload=False)
    assert_same(cut[:, :, 1], pull(alone)[:, :, 1])
    # What a detached cache would lose is far from nothing.
    assert (cut[:, :, 1] - expected[:, :, 1]).norm() > 0.1 * expected[:, :, 1].norm()


def assert_close_values(found: Tensor, pixels: Tensor) -> None:
    torch.testing.assert_close(found, pixels, rtol=0, atol=BORDER)


@pytest.fixture
def precise_wan(tiny_wan: Generator) -> Generator:
    """In float64, where sums in another order differ in the last digits alone, on any number of threads."""
    tiny_wan.pipeline.vae.double()
    return tiny_wan


@pytest.fixture
def latents(tiny_wan: Generator) -> Tensor:
    shape = (2, *tiny_wan.latent_shape(VideoSize(13, 16, 16)))
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(2))


def contrast(video: Tensor) -> Tensor:
    """A loss with another gradient at every pixel."""
    places = torch.arange(video[0].numel()).reshape(video.shape[1:])
    return (video * places.sin()).square().mean()


def autograd(generator: Generator, latents: Tensor, frames: list[int] | None = None) -> tuple[Tensor, Tensor]:
    leaf = latents.clone().requires_grad_()
    loss = contrast(generator.decode(leaf)[:, frames] if frames else generator.decode(leaf))
    loss.backward()
    assert leaf.grad is not None
    return loss.detach(), leaf.grad


def test_every_exact_mode_is_plain_autograd_through_the_generator(precise_wan: Generator, latents: Tensor) -> None:
    loss, expected = autograd(precise_wan, latents)
    for mode in ("whole", "chunk", "reverse"):
        found = decoded_gradient(precise_wan, latents, contrast, DecodeSettings(mode=mode, clamp="hard"))
        assert_same(found.loss, loss)
        assert_same(found.latents, expected)
        assert found.metrics["decode/graded_pieces"] == found.metrics["decode/pieces"] == 4


def test_frames_alone_give_the_gradient_of_their_loss(precise_wan: Generator, latents: Tensor) -> None:
    loss, expected = autograd(precise_wan, latents, [6, 2])
    found = decoded_gradient(precise_wan, latents, contrast, DecodeSettings(frames=(6, 2), clamp="hard"))
    assert_same(found.loss, loss)
    assert_same(found.latents, expected)
    assert found.metrics["decode/pieces"] == 3
    assert not found.latents[:, :, 3].any()


def test_first_decodes_the_first_latents_alone(precise_wan: Generator, latents: Tensor) -> None:
    loss, expected = autograd(precise_wan, latents, [0, 1, 2, 3, 4])
    found = decoded_gradient(precise_wan, latents, contrast, DecodeSettings(mode="first", first=2, clamp="hard"))
    assert_same(found.loss, loss)
    assert_same(found.latents, expected)
    assert found.metrics["decode/pieces"] == 2


def test_the_choice_of_clamp_lets_the_gradient_through_outside(tiny_wan: Generator, latents: Tensor) -> None:
    def darker(video: Tensor) -> Tensor:
        assert clamp == "none" or 0 <= float(video.detach().min()) <= float(video.detach().max()) <= 1
        return video.mean()

    with torch.no_grad():
        tiny_wan.pipeline.vae.decoder.conv_out.bias.fill_(-3.0)  # every pixel is black, and then some
    norms = {}
    for clamp in ("hard", "straight_through", "soft", "none"):
        found = decoded_gradient(tiny_wan, latents, darker, DecodeSettings(clamp=clamp, mode="chunk"))
        norms[clamp] = float(found.latents.norm())
        assert found.metrics["decode/outside"] > 0.99
    assert norms["hard"] < 0.01 * norms["none"]
    assert norms["straight_through"] == pytest.approx(norms["none"])


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (DecodeSettings(mode="window", window=(2, 5)), "window 2..5 is outside the clip, which has 4 latent frames"),
        (DecodeSettings(mode="window", window=(2, 2)), "window 2..2 is outside"),
        (DecodeSettings(mode="window", window=(3, 4), frames=(0,)), "holds none of the latents"),
        (DecodeSettings(mode="first", first=5), "first 5 latent frames are asked for, and the clip has 4"),
        (DecodeSettings(mode="first", first=2, frames=(5,)), "hold 0 to 4 alone"),
        (DecodeSettings(frames=(13,)), "Frame 13 is outside the clip, whose frames are 0 to 12"),
    ],
)
def test_what_is_outside_the_clip_is_refused(tiny_wan: Generator, settings: DecodeSettings, said: str) -> None:
    with pytest.raises(ReelignError, match=said):
        chosen_pieces(tiny_wan.decoder, 4, settings)


def test_a_window_takes_the_pieces_that_reach_into_it() -> None:
    pieces, graded = chosen_pieces(tiny_decoder("cogvideox"), 5, DecodeSettings(mode="window", window=(2, 3)))
    assert [list(piece.latents) for piece in pieces] == [[0, 1, 2], [3, 4]]
    assert graded == pieces[:1]


def test_settings_that_contradict_each_other_are_refused() -> None:
    with pytest.raises(ValueError, match=r"window must be .* got None with mode=window"):
        DecodeSettings(mode="window")
    with pytest.raises(ValueError, match=r"window must be .* got \(0, 1\) with mode=reverse"):
        DecodeSettings(window=(0, 1))
    with pytest.raises(ValueError, match="first must be at least 1"):
        DecodeSettings(mode="first", first=0)


def test_a_loss_without_a_gradient_is_refused(tiny_wan: Generator, latents: Tensor) -> None:
    aside = torch.zeros((), requires_grad=True)
    for loss in (lambda video: video.detach().mean(), lambda video: aside * video.detach().mean()):
        with pytest.raises(ReelignError, match="no gradient with respect to the pixels"):
            decoded_gradient(tiny_wan, latents, loss, DecodeSettings())
    with pytest.raises(ReelignError, match=r"one number, got \(2,\)"):
        decoded_gradient(tiny_wan, latents, lambda video: video.mean(dim=(1, 2, 3, 4)), DecodeSettings())
