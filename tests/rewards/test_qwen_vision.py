"""What a Qwen-VL backbone sees of a video, against transformers' processor, Pillow and numbers worked out by hand."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import smart_resize as reference_size

from reelign.errors import ReelignError
from reelign.rewards.qwen_vision import (
    ClipSettings,
    Patches,
    PatchLayout,
    frame_indices,
    look,
    most_pixels,
    normalise,
    patchify,
    smart_resize,
)
from rewards.tiny_qwen import SMALL, clip

VIDEOREWARD = ClipSettings()


def seen(frames: torch.Tensor, fps: float = 8.0, settings: ClipSettings = SMALL) -> Patches:
    return look(frames, fps, settings=settings, layout=PatchLayout())


@pytest.mark.parametrize(
    ("num_frames", "fps", "indices"),
    [
        # 81 / 16 · 2 = 10.125 frames, 10; every 80/9 = 8.89 frames.
        (81, 16, [0, 9, 18, 27, 36, 44, 53, 62, 71, 80]),
        # 2.5 pairs of frames round to 2, 3.5 to 4.
        (20, 8, [0, 6, 13, 19]),
        (28, 8, [0, 4, 8, 12, 15, 19, 23, 27]),
        # Half a second has 1 frame at 2 a second; no fewer than 4 are taken.
        (9, 16, [0, 3, 5, 8]),
        # Fewer than 4 frames: an even number of them.
        (3, 8, [0, 2]),
        (2, 8, [0, 1]),
    ],
)
def test_frames_are_videorewards(num_frames: int, fps: float, indices: list[int]) -> None:
    assert frame_indices(num_frames, fps, VIDEOREWARD) == indices


def test_a_number_of_frames_may_be_set() -> None:
    assert frame_indices(9, 8, ClipSettings(num_frames=4)) == [0, 3, 5, 8]
    # Pairs round half to even, as in the reference: 5 frames are 2.5 pairs, 2.
    assert len(frame_indices(9, 8, ClipSettings(num_frames=5))) == 4
    with pytest.raises(ReelignError, match="has 9 frames where 12 are looked at"):
        frame_indices(9, 8, ClipSettings(num_frames=12))


def test_sizes_are_the_known_ones() -> None:
    sizes = {(480, 720): (364, 532), (720, 1280): (336, 588), (576, 1024): (336, 588), (320, 512): (308, 504)}
    sizes[256, 256] = (336, 336)
    for size, expected in sizes.items():
        assert smart_resize(*size, factor=28, min_pixels=128 * 784, max_pixels=256 * 784) == expected


def test_sizes_are_those_of_transformers_processor() -> None:
    for height, width in product((28, 41, 42, 64, 100, 481), (30, 77, 98, 512)):
        bounds = {"factor": 28, "min_pixels": 9 * 784, "max_pixels": 64 * 784}
        assert smart_resize(height, width, **bounds) == reference_size(height, width, **bounds)


def test_many_frames_share_the_total_of_pixels() -> None:
    settings = ClipSettings(max_pixels=768 * 784, total_pixels=24576 * 784)
    assert most_pixels(4, settings) == 602112
    assert most_pixels(100, settings) == 24576 * 784 / 50
    # No less than 1.05 times the fewest.
    assert most_pixels(1000, settings) == 105369
    assert most_pixels(1000, VIDEOREWARD) == 200704


@pytest.mark.parametrize(("height", "width"), [(56, 84), (112, 28)])
def test_patches_are_those_of_transformers_processor(height: int, width: int) -> None:
    # Two equal frames are what its image processor makes of a still image.
    still = clip(2, height, width)[:1].mul(255).round() / 255
    made = seen(still.repeat(2, 1, 1, 1), settings=ClipSettings(min_pixels=784, max_pixels=100 * 784))
    image = (still[0] * 255).round().to(torch.uint8).permute(1, 2, 0).numpy()
    reference = Qwen2VLImageProcessorPil()(images=[Image.fromarray(image)], return_tensors="pt", do_resize=False)
    assert torch.equal(torch.tensor([made.grid]), reference["image_grid_thw"])
    torch.testing.assert_close(normalise(made.pixels, PatchLayout()), reference["pixel_values"], rtol=0, atol=1e-6)


def test_patches_follow_time_then_blocks_of_one_token() -> None:
    frames = torch.rand(3, 3, 56, 84)
    patches, grid = patchify(frames, PatchLayout())
    assert grid == (2, 4, 6)
    padded = torch.cat([frames, frames[-1:]]).numpy()
    rows = [
        padded[2 * time : 2 * time + 2, :, 14 * row : 14 * row + 14, 14 * column : 14 * column + 14]
        .transpose(1, 0, 2, 3)
        .ravel()
        for time in range(2)
        for tall, wide in product(range(2), range(3))
        for row, column in product((2 * tall, 2 * tall + 1), (2 * wide, 2 * wide + 1))
    ]
    assert np.array_equal(patches.numpy(), np.stack(rows))


def test_resized_frames_are_pillows_bicubic_rounded_to_bytes() -> None:
    # Pillow resizes images of floats in floats with the same antialiased cubic (a = -½).
    frames = (clip(2, 100, 180) * 255).round()
    made = seen(frames / 255, settings=ClipSettings(min_pixels=784, max_pixels=12 * 784))
    height, width = made.grid[1] * 14, made.grid[2] * 14
    assert (height, width) == (56, 112)
    by_pillow = [
        np.asarray(Image.fromarray(plane.numpy(), mode="F").resize((width, height), Image.Resampling.BICUBIC))
        for plane in frames.flatten(0, 1)
    ]
    expected = torch.from_numpy(np.stack(by_pillow)).view(2, 3, height, width).clamp(0, 255).round()
    assert torch.equal(made.pixels, patchify(expected, PatchLayout())[0].to(torch.uint8))


def test_a_gradient_changes_no_value_and_is_that_of_the_unrounded() -> None:
    frames = clip(6, 70, 90).mul(0.9).add(0.05)
    wanted = frames.clone().requires_grad_()
    made = seen(wanted)
    assert made.pixels.dtype == torch.float32
    assert torch.equal(made.pixels.detach().to(torch.uint8), seen(frames).pixels)
    weights = torch.randn(made.pixels.shape, generator=torch.Generator().manual_seed(0))
    (made.pixels * weights).sum().backward()

    plain = frames.clone().requires_grad_()
    chosen = plain[frame_indices(6, 8.0, SMALL)] * 255
    size = (made.grid[1] * 14, made.grid[2] * 14)
    resized = F.interpolate(chosen, size=size, mode="bicubic", antialias=True).clamp(0, 255)
    (patchify(resized, PatchLayout())[0] * weights).sum().backward()
    assert wanted.grad is not None
    torch.testing.assert_close(wanted.grad, plain.grad)
    assert wanted.grad.abs().sum() > 0
    # Frames that are not looked at have none.
    assert wanted.grad.abs().sum((1, 2, 3)).gt(0).tolist() == [
        index in frame_indices(6, 8.0, SMALL) for index in range(6)
    ]


def test_times_are_the_middle_of_the_frames_that_a_patch_spans() -> None:
    made = seen(clip(20), fps=8.0)
    # Frames 0 and 6, 13 and 19 of 8 a second.
    assert made.times == (3 / 8, 16 / 8)
    assert made.seconds_per_patch == pytest.approx(2.5 / 2)


def test_what_cannot_be_seen_is_refused() -> None:
    for frames, message in (
        (torch.rand(1, 3, 28, 28), "1 frames where 2 are"),
        (torch.rand(2, 3, 6, 1300), "over 200 times"),
    ):
        with pytest.raises(ReelignError, match=message):
            seen(frames)
    for wrong in ({"fps": 0}, {"min_frames": 1}, {"max_frames": 2}, {"num_frames": 1}, {"min_pixels": 10**9}):
        with pytest.raises(ReelignError):
            ClipSettings(**wrong)
