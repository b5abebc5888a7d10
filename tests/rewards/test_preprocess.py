"""Preprocessing against transformers' PIL image processors, bit for bit before the normalisation."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
from transformers.models.videomae.image_processing_pil_videomae import VideoMAEImageProcessorPil

from reelign.errors import ReelignError
from reelign.rewards.preprocess import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    Preprocessing,
    centre_crop,
    levels,
    longest_side,
    pad_to_square,
    pillow_weights,
    resize,
    spaced,
)


def noise(height: int, width: int, num_frames: int = 2) -> torch.Tensor:
    generator = torch.Generator().manual_seed(height * width)
    return torch.randint(0, 256, (num_frames, 3, height, width), generator=generator).float() / 255


@pytest.mark.parametrize(("height", "width"), [(97, 150), (224, 311), (30, 20), (300, 224)])
def test_clips_frames_are_those_of_transformers_processor(height: int, width: int) -> None:
    frames = noise(height, width)
    images = [Image.fromarray((frame.permute(1, 2, 0) * 255).round().byte().numpy()) for frame in frames]
    wanted = CLIPImageProcessorPil()(images, return_tensors="pt")["pixel_values"]
    assert (Preprocessing()(frames) - wanted).abs().max() < 1e-5  # a level is 0.014


def test_videomaes_frames_are_those_of_transformers_processor() -> None:
    frames = noise(60, 91)
    images = [[Image.fromarray((frame.permute(1, 2, 0) * 255).round().byte().numpy()) for frame in frames]]
    sizes = {"size": {"shortest_edge": 48}, "crop_size": {"height": 48, "width": 48}}
    sizes |= {"image_mean": IMAGENET_MEAN, "image_std": IMAGENET_STD}
    wanted = VideoMAEImageProcessorPil(**sizes)(images, return_tensors="pt")["pixel_values"][0]
    preprocess = Preprocessing(size=48, filter="bilinear", mean=IMAGENET_MEAN, std=IMAGENET_STD)
    assert (preprocess(frames) - wanted).abs().max() < 1e-5


@pytest.mark.parametrize("filter", ["bicubic", "bilinear"])
def test_resizing_is_pillows_bit_for_bit(filter: str) -> None:
    rng = np.random.default_rng(0)
    how = Image.Resampling.BICUBIC if filter == "bicubic" else Image.Resampling.BILINEAR
    for tall, wide, height, width in [(33, 70, 14, 91), (80, 64, 41, 23), (9, 9, 64, 32), (50, 48, 50, 17)]:
        pixels = rng.integers(0, 256, (tall, wide, 3), dtype=np.uint8)
        pixels[: tall // 2] = rng.choice(np.array([0, 255], dtype=np.uint8), (tall // 2, wide, 3))  # overshoots
        wanted = np.asarray(Image.fromarray(pixels).resize((width, height), how))
        values = torch.from_numpy(pixels).permute(2, 0, 1)[None].float()
        resized = resize(values, height, width, filter=filter, resizer="pillow")  # type: ignore[arg-type]
        assert torch.equal(resized[0].permute(1, 2, 0).byte(), torch.from_numpy(wanted.copy()))


def test_weights_of_halving_are_those_worked_out_by_hand() -> None:
    # A new pixel lies between two old ones; the triangle of half-width 2 weighs those at ½ and 1½ by 3/4 and 1/4.
    assert torch.allclose(pillow_weights(8, 4, "bilinear")[1], torch.tensor([0, 1, 3, 3, 1, 0, 0, 0]).double() / 8)


def test_other_resizers_follow_torchs_antialiasing_and_round_or_not() -> None:
    values = levels(noise(40, 60))
    free = F.interpolate(values, size=(20, 30), mode="bilinear", antialias=True, align_corners=False)
    assert torch.equal(resize(values, 20, 30, filter="bilinear", resizer="float"), free)
    assert torch.equal(resize(values, 20, 30, filter="bilinear", resizer="torchvision"), free.clamp(0, 255).round())
    # At a third of the size without antialiasing each new pixel is one old pixel, the middle one.
    thinned = resize(values[..., :39, :], 13, 20, filter="bilinear", resizer="float_aliased")
    assert torch.allclose(thinned, values[..., 1:39:3, 1::3], atol=1e-3)


def test_padding_is_black_and_even_on_both_sides() -> None:
    assert longest_side(90, 160, 224) == (126, 224)
    padded = pad_to_square(torch.ones(1, 3, 5, 8), 8)
    assert padded[0, 0].sum(dim=1).tolist() == [0, 8, 8, 8, 8, 8, 0, 0]
    frames = torch.ones(1, 3, 8, 32)
    preprocess = Preprocessing(size=32, fit="pad", resizer="float")
    black = -torch.tensor(preprocess.mean) / torch.tensor(preprocess.std)
    seen = preprocess(frames)[0]
    assert torch.allclose(seen[:, 0, 0], black)
    assert torch.allclose(seen[:, 12, 0], (1 - torch.tensor(preprocess.mean)) / torch.tensor(preprocess.std))
    assert torch.allclose(seen[:, 20, 0], black)


def test_crops_start_where_each_library_starts_them() -> None:
    values = torch.arange(7.0).expand(1, 3, 7, 7)
    assert centre_crop(values, 4)[0, 0, 0, 0] == 1  # 3 // 2
    assert centre_crop(values, 4, rounding="round")[0, 0, 0, 0] == 2  # 1.5 to the even number


@pytest.mark.parametrize("resizer", ["pillow", "torchvision", "float"])
@pytest.mark.parametrize("fit", ["crop", "pad", "stretch"])
def test_scores_are_the_same_with_gradients_and_gradients_reach_every_frame(resizer: str, fit: str) -> None:
    frames = noise(20, 30)
    preprocess = Preprocessing(size=16, fit=fit, resizer=resizer)  # type: ignore[arg-type]
    leaf = frames.clone().requires_grad_()
    seen = preprocess(leaf)
    assert torch.allclose(seen, preprocess(frames), atol=1e-4)
    (gradient,) = torch.autograd.grad(seen.square().sum(), leaf)
    assert (gradient.abs().amax(dim=(1, 2, 3)) > 0).all()


def test_the_gradient_is_that_of_the_unrounded_resize() -> None:
    leaf = noise(16, 16, 1).requires_grad_()
    (gradient,) = torch.autograd.grad(Preprocessing(size=8, fit="stretch", filter="bilinear")(leaf)[0, 0, 4, 4], leaf)
    smooth = noise(16, 16, 1).requires_grad_()
    once = F.interpolate(smooth, size=(8, 8), mode="bilinear", antialias=True, align_corners=False)
    (wanted,) = torch.autograd.grad(once[0, 0, 4, 4] / 0.26862954, smooth)
    assert torch.allclose(gradient, wanted, atol=1e-5)


def test_frames_are_spread_evenly_or_refused() -> None:
    assert spaced(5, None) == [0, 1, 2, 3, 4]
    assert spaced(9, 3) == [0, 4, 8]
    assert spaced(10, 4) == [0, 3, 6, 9]
    assert spaced(9, 1) == [4]
    with pytest.raises(ReelignError, match="8 frames are looked at where a video has 5"):
        spaced(5, 8)
