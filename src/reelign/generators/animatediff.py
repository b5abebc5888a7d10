"""AnimateDiff (`AnimateDiffPipeline`): Stable Diffusion 1.5 or a fine-tune of it, with a motion module between its
layers.

Guo et al. 2023, arXiv:2307.04725. Facts that matter here: the U-Net takes the text once for every frame; the motion
module knows 32 places in time (24 in its first version) and no more; its table of noise levels is linear in β where
Stable Diffusion's own is not, so a pipeline put together with the image model's scheduler makes other videos. The
pipeline holds the motion module's weights twice, in its U-Net and beside it: the U-Net's are those that train.
"""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

from torch import Tensor

from reelign.generators.base import SamplingDefaults, VideoSize
from reelign.generators.frame_unet import FrameUNet


class AnimateDiff(FrameUNet):
    """AnimateDiff text-to-video through its diffusers pipeline."""

    pipeline_classes: ClassVar[tuple[str, ...]] = ("AnimateDiffPipeline",)
    checkpointed: ClassVar[tuple[str, ...]] = ("ResnetBlock2D", "Transformer2DModel", "AnimateDiffTransformer3D")
    family_defaults: ClassVar[SamplingDefaults] = SamplingDefaults(
        num_frames=16, height=512, width=512, fps=8.0, guidance_scale=7.5, num_inference_steps=25
    )

    def legal(self, size: VideoSize) -> VideoSize:
        places = self.pipeline.unet.config.motion_max_seq_length
        return replace(super().legal(size), num_frames=min(max(1, size.num_frames), places))

    def predict(self, fed: Tensor, timestep: Tensor, embeds: Tensor) -> Tensor:
        return super().predict(fed, timestep, embeds.repeat_interleave(fed.shape[2], dim=0))
