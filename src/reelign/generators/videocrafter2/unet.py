"""VideoCrafter2's own parts for diffusers: ModelScope's U-Net with an fps embedding, a table that shrinks the video.

Chen et al. 2024, arXiv:2401.09047; code and checkpoint by AILab-CVC (github.com/AILab-CVC/VideoCrafter, Apache-2.0).
Its U-Net is that of diffusers' `UNet3DConditionModel` but for one thing: what it is told of frames a second is embedded
like the timestep and added to it. Its forward process is

    x_t = s_t·√ᾱ_t·latents + √(1 - ᾱ_t)·noise,   s_t from 1 down to 0.7 over the first 400 timesteps, then 0.7

(`use_scale`, `scale_b` of its published config).
"""

from __future__ import annotations

import functools
from typing import Any

import torch
from diffusers import (
    DDIMScheduler,
    ModelMixin,
    SchedulerMixin,
    TextToVideoSDPipeline,
    UNet3DConditionModel,
)
from diffusers.loaders.peft import PeftAdapterMixin
from diffusers.models.embeddings import TimestepEmbedding, Timesteps
from diffusers.schedulers.scheduling_ddim import DDIMSchedulerOutput
from torch import Tensor

__all__ = [
    "FPS",
    "ModelMixin",
    "SchedulerMixin",
    "TimeAndFpsEmbedding",
    "VideoCrafter2Pipeline",
    "VideoCrafter2Scheduler",
    "VideoCrafter2UNet",
    "signal_scale",
]
"""With the bases by which diffusers finds out, in a class's own module, how it is loaded."""

FPS = 28
"""What its authors' own script asks for."""
LAST_SIGNAL, SHRINKING_STEPS = 0.7, 400


class TimeAndFpsEmbedding(TimestepEmbedding):  # type: ignore[misc]  # diffusers is untyped
    """The timestep's embedding and that of frames a second, summed; the latter are the base class's `condition`."""

    def __init__(self, width: int) -> None:
        super().__init__(width, 4 * width)
        self.fps_proj = Timesteps(width, flip_sin_to_cos=True, downscale_freq_shift=0)
        self.fps = TimestepEmbedding(width, 4 * width)

    def forward(self, sample: Tensor, condition: Tensor | None = None) -> Tensor:
        """(B, width) sines of the timestep, (B,) frames a second -> (B, 4 · width)."""
        assert condition is not None, "the U-Net says how many"
        embedded: Tensor = super().forward(sample) + self.fps(self.fps_proj(condition).to(sample.dtype))
        return embedded


class VideoCrafter2UNet(PeftAdapterMixin, UNet3DConditionModel):  # type: ignore[misc]  # diffusers is untyped
    """`UNet3DConditionModel` with an fps embedding."""

    fps: float = FPS
    """What the model is told where its caller gives no `timestep_cond`."""

    # The base class's signature, by which configs are read and written.
    @functools.wraps(UNet3DConditionModel.__init__)  # type: ignore[misc]
    def __init__(self, *settings: Any, **named: Any) -> None:
        super().__init__(*settings, **named)
        self.time_embedding = TimeAndFpsEmbedding(self.config["block_out_channels"][0])

    def forward(self, sample: Tensor, *inputs: Any, timestep_cond: Tensor | None = None, **settings: Any) -> Any:
        """As the base class's; `timestep_cond` is frames a second, (B,)."""
        if timestep_cond is None:
            timestep_cond = torch.full((len(sample),), float(self.fps), device=sample.device)
        return super().forward(sample, *inputs, timestep_cond=timestep_cond, **settings)


def signal_scale(steps: int) -> Tensor:
    """(steps,) s_t by timestep, fp64."""
    falling = torch.linspace(1, LAST_SIGNAL, SHRINKING_STEPS, dtype=torch.float64)
    return torch.cat([falling, torch.full((steps,), LAST_SIGNAL, dtype=torch.float64)])[:steps]


class VideoCrafter2Scheduler(DDIMScheduler):  # type: ignore[misc]  # diffusers is untyped
    """DDIM on the path of the shrinking video, for plain calls of the pipeline."""

    def step(
        self, model_output: Tensor, timestep: Any, sample: Tensor, *further: Any, return_dict: bool = True, **named: Any
    ) -> Any:
        """DDIM's step from x_t to x at the timestep before it on the schedule, of latents of any shape; the estimate of
        the clean video is unshrunk."""
        moved, seen = super().step(model_output, timestep, sample, *further, return_dict=False, **named)
        # `seen` is s_t times the clean latents; the step's end wants s of the level that it goes to.
        scale = signal_scale(self.config["num_train_timesteps"])
        before = int(timestep) - self.config["num_train_timesteps"] // self.num_inference_steps
        bar = self.alphas_cumprod[before] if before >= 0 else self.final_alpha_cumprod
        own, next_scale = float(scale[int(timestep)]), float(scale[max(0, before)])
        moved = moved + float(bar) ** 0.5 * (next_scale / own - 1) * seen
        return DDIMSchedulerOutput(moved, seen / own) if return_dict else (moved, seen / own)

    def add_noise(self, original_samples: Tensor, noise: Tensor, timesteps: Any) -> Tensor:
        """s_t·√ᾱ_t·latents + √(1 - ᾱ_t)·noise of latents (B, ...) at timesteps (B,)."""
        scale = signal_scale(self.config["num_train_timesteps"]).to(original_samples)[timesteps]
        shrunk = scale.reshape(-1, *[1] * (original_samples.ndim - 1)) * original_samples
        noisy: Tensor = super().add_noise(shrunk, noise, timesteps)
        return noisy


class VideoCrafter2Pipeline(TextToVideoSDPipeline):  # type: ignore[misc]  # diffusers is untyped
    """ModelScope's pipeline over these parts; it loads and saves adapters like any other."""

    def __call__(self, *inputs: Any, fps: float = FPS, **settings: Any) -> Any:
        """As the base class's; `fps` is what the model is told, not what the file is played at."""
        self.unet.fps = fps
        return super().__call__(*inputs, **settings)
