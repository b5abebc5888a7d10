"""VideoCrafter2 text-to-video (`VideoCrafter2Pipeline`, made of its released `model.ckpt`): ModelScope's U-Net told of
frames a second.

Chen et al. 2024, arXiv:2401.09047. Facts that matter here: the forward process shrinks the video to 0.7 of itself on
the way to noise, beside the table's own √ᾱ (`signal_scale`); "fps" tells the model how fast things move, and its
authors ask for 28 and play the 16 frames at 10; text is OpenCLIP's ViT-H/14 up to its last layer but one, which is
Stable Diffusion 2's encoder; dropout is off in eval().
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor

from reelign.diffusion.paths import DDPM
from reelign.errors import ReelignError
from reelign.generators.base import SamplingDefaults, VideoSize
from reelign.generators.modelscope import ModelScope
from reelign.generators.sizes import nearest_size


class VideoCrafter2(ModelScope):
    """VideoCrafter2 through the pipeline that its checkpoint is made into."""

    pipeline_classes: ClassVar[tuple[str, ...]] = ("VideoCrafter2Pipeline",)
    adapter_line: ClassVar[str] = ""
    family_defaults: ClassVar[SamplingDefaults] = SamplingDefaults(
        num_frames=16, height=320, width=512, fps=10.0, guidance_scale=12.0, num_inference_steps=50
    )
    family_told: ClassVar[dict[str, float]] = {"fps": 28}

    @classmethod
    def pipeline_type(cls, name: str) -> Any:
        from reelign.generators.videocrafter2.unet import VideoCrafter2Pipeline

        return VideoCrafter2Pipeline

    def __init__(self, pipeline: Any, model: str) -> None:
        from reelign.generators.videocrafter2.unet import signal_scale

        super().__init__(pipeline, model)
        bar = pipeline.scheduler.alphas_cumprod
        if pipeline.scheduler.config.prediction_type != "epsilon":
            raise ReelignError(
                f"{model} predicts {pipeline.scheduler.config.prediction_type!r}, and VideoCrafter2 predicts epsilon.",
                "Make the pipeline anew from the published model.ckpt.",
            )
        self.path = DDPM(bar, "epsilon", signal=signal_scale(len(bar)))

    @property
    def call_arguments(self) -> dict[str, Any]:
        return {"fps": self.told["fps"]}

    def legal(self, size: VideoSize) -> VideoSize:
        # The original upsamples by exactly two between its levels: other sizes do not fit its skip connections.
        return nearest_size(size, step=max(8, self.halved))

    def predict(self, fed: Tensor, timestep: Tensor, embeds: Tensor) -> Tensor:
        fps = torch.full((len(fed),), float(self.told["fps"]), device=fed.device)
        predicted: Tensor = self.pipeline.unet(
            fed, timestep, encoder_hidden_states=embeds, timestep_cond=fps, return_dict=False
        )[0]
        return predicted
