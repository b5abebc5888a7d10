"""What `decode.mode=window` leaves out, on the small world's trained VAE: `python benchmarks/decode_window.py`.

The gradient of latents inside a window is compared with the exact one of the same latents: its cosine and its length.
The clips are the world's own, flawed as its people see them.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from reelign.generators import load_generator
from reelign.spriteworld.world import sample_mix
from reelign.training.staged_decode import DecodeSettings, decoded_gradient

NUM_CLIPS = 16
WINDOWS = ((0, 1), (1, 2), (2, 3), (3, 4), (4, 5), (1, 3), (2, 5))


def main() -> None:
    generator = load_generator("spriteworld")
    videos = sample_mix(NUM_CLIPS, torch.Generator().manual_seed(0))[0]
    latents = generator.encode(videos)
    losses = {"likeness": likeness(videos.roll(1, 0)), "motion": motion, "steadiness": steadiness}
    for name, loss in losses.items():
        exact = decoded_gradient(generator, latents, loss, DecodeSettings(mode="chunk")).latents
        for window in WINDOWS:
            settings = DecodeSettings(mode="window", window=window)
            found = decoded_gradient(generator, latents, loss, settings).latents
            here, there = (each[:, :, slice(*window)].flatten(1) for each in (found, exact))
            cosine = torch.cosine_similarity(here, there)
            length = here.norm(dim=1) / there.norm(dim=1)
            share = exact[:, :, slice(*window)].square().sum() / exact.square().sum()
            print(
                f"{name}, latents {window[0]} to {window[1] - 1}: cosine {cosine.mean():.3f} "
                f"(least {cosine.min():.3f}), length {length.mean():.3f}, share of the exact square {share:.3f}",
                flush=True,
            )


def likeness(others: Tensor) -> Callable[[Tensor], Tensor]:
    """A loss on single frames: the distance to another clip."""
    return lambda video: (video - others).square().mean(dim=(1, 2, 3, 4)).sum()


def motion(video: Tensor) -> Tensor:
    """A loss on neighbours: less change from frame to frame is worse."""
    return -video.diff(dim=1).square().mean(dim=(1, 2, 3, 4)).sum()


def steadiness(video: Tensor) -> Tensor:
    """A loss on three frames: changes that are not even are worse."""
    return video.diff(n=2, dim=1).square().mean(dim=(1, 2, 3, 4)).sum()


if __name__ == "__main__":
    main()
