"""LTX-Video from 0.9.5 on (`LTXConditionPipeline`): LTX-Video told each token's place by itself.

Facts that matter here: the same transformer, of 0.9.7 and 0.9.8 wider and deeper (13B, whose sampling is the default);
a latent frame's place in time is that of its first frame, which is 1, 9, 17, ... less the 8 that a causal VAE has not
yet seen, where `LTXPipeline` counts 0, 8, 16, ...; the schedule is straight over its first half and quadratic after,
with no shift; text is padded to 256 tokens, which T5 reads without a mask. The pipeline takes images and clips at any
place and strength; here a first frame, as it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from reelign.errors import ReelignError
from reelign.generators.ltx import LTX, FirstFrame, LTXDefaults


class LTXCondition(LTX):
    """LTX-Video from 0.9.5 on, text-to-video, through its diffusers pipeline."""

    pipeline_classes: ClassVar[tuple[str, ...]] = ("LTXConditionPipeline",)
    family_defaults: ClassVar[LTXDefaults] = LTXDefaults(
        num_frames=161,
        height=512,
        width=704,
        fps=25.0,
        guidance_scale=5.0,
        num_inference_steps=30,
        guidance_rescale=0.7,
    )

    def __init__(self, pipeline: Any, model: str) -> None:
        if pipeline.scheduler.config.use_dynamic_shifting:
            raise ReelignError(
                f"The scheduler of {model} shifts its levels by the number of tokens, as LTX-Video's up to 0.9.1.",
                "Load such a checkpoint by its own pipeline class, LTXPipeline.",
            )
        super().__init__(pipeline, model)

    @property
    def max_sequence_length(self) -> int:
        return 256

    def sigmas(self, steps: int, shape: Sequence[int] = ()) -> Tensor:
        from diffusers.pipelines.ltx.pipeline_ltx_condition import linear_quadratic_schedule

        scheduler = self.pipeline.scheduler
        scheduler.set_timesteps(sigmas=linear_quadratic_schedule(steps).numpy())
        sigmas: Tensor = scheduler.sigmas
        return sigmas.float().cpu()

    def positions(self, shape: Sequence[int], device: torch.device) -> dict[str, Any]:
        pipeline, rows = self.pipeline, shape[0]
        frames, height, width = (torch.arange(count, dtype=torch.float32, device=device) for count in shape[2:])
        stride, scale = pipeline.vae_temporal_compression_ratio, pipeline.vae_spatial_compression_ratio
        seconds = (frames * stride + 1 - stride).clamp(min=0) / self.settings.fps
        places = torch.meshgrid(seconds, height * scale, width * scale, indexing="ij")
        return {"video_coords": torch.stack(places).flatten(1).expand(rows, -1, -1)}


class LTXConditionImageToVideo(FirstFrame, LTXCondition):
    """The same whose clips go on from a first frame; a folder's `reelign.json` names it as the `generator`."""

    @property
    def call_arguments(self) -> dict[str, Any]:
        return {**super().call_arguments, "image_cond_noise_scale": 0.0}
