"""HunyuanVideo 1.5 from text (`HunyuanVideo15Pipeline`) and from a first frame: a rectified flow, Qwen2.5-VL text.

Wu et al. 2025, arXiv:2511.18870. Facts that matter here: beside the noisy latents the transformer takes as many
channels of a clip that begins with the given frame, and one that says where it is given; all are zeros where there is
none. It reads Qwen's text behind a template of 108 tokens, ByT5's of what a prompt puts in quotes, and SigLIP's
features of the frame, each masked past its length. Guidance is two passes, and its scale belongs to the pipeline's
`guider`, not to a call of it. diffusers casts timesteps to the model's precision, in bf16 to steps of 4 near 1000, and
so does this file.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from reelign.errors import ReelignError
from reelign.generators.base import Conditioning, Generator, SamplingDefaults, VideoSize
from reelign.generators.given_frames import FIRST
from reelign.generators.hunyuan import flow_sigmas
from reelign.generators.pictures import as_pictures
from reelign.generators.pixels import encoded
from reelign.generators.sizes import causal_shape, nearest_size

FEATURES = "image_embeds"
"""What SigLIP sees in the first frame, (B, tokens, width)."""


class HunyuanVideo15(Generator):
    """HunyuanVideo 1.5 T2V, of 480p and 720p, with guidance or distilled, through its diffusers pipeline."""

    pipeline_classes: ClassVar[tuple[str, ...]] = ("HunyuanVideo15Pipeline",)
    adapter_line: ClassVar[str] = (
        "from diffusers.loaders import HunyuanVideoLoraLoaderMixin; "
        "type(pipe).__bases__ += (HunyuanVideoLoraLoaderMixin,)"
    )
    not_called_with: ClassVar[tuple[str, ...]] = ("guidance_scale",)
    """What other pipelines take in a call and this one does not."""
    # Not the text's own queries and outputs: those of the last block lead nowhere.
    lora_targets: ClassVar[tuple[str, ...]] = ("to_q", "to_k", "to_v", "to_out.0", "add_k_proj", "add_v_proj")
    family_defaults: ClassVar[SamplingDefaults] = SamplingDefaults(
        num_frames=121, height=480, width=848, fps=24.0, guidance_scale=6.0, num_inference_steps=50
    )

    def __init__(self, pipeline: Any, model: str) -> None:
        if pipeline.transformer.config.use_meanflow:
            raise ReelignError(
                f"{model} is distilled to a few steps by MeanFlow: its velocity depends on the step's end too.",
                "Use a HunyuanVideo 1.5 checkpoint that is not step-distilled.",
            )
        if not is_plain(pipeline.guider):
            raise ReelignError(
                f"{model} is guided by {pipeline.guider}, which is more than classifier-free guidance at one scale.",
                "Save the pipeline with guider=ClassifierFreeGuidance(guidance_scale=...).",
            )
        super().__init__(pipeline, model)
        self.guider_scale = float(pipeline.guider.guidance_scale)
        # Text past its length is masked, so that the padded length is no part of the conditioning.
        own = pipeline.tokenizer.model_max_length - pipeline.prompt_template_encode_start_idx
        pipeline.tokenizer_max_length = min(pipeline.tokenizer_max_length, own)
        pipeline.tokenizer_2_max_length = min(pipeline.tokenizer_2_max_length, pipeline.tokenizer_2.model_max_length)

    @classmethod
    def pipeline_type(cls, name: str) -> Any:
        """diffusers' class with the methods for adapters that it gave HunyuanVideo 1.0's, and not this one's."""
        from diffusers.loaders import HunyuanVideoLoraLoaderMixin

        return type(name, (super().pipeline_type(name), HunyuanVideoLoraLoaderMixin), {})

    @property
    def published_defaults(self) -> SamplingDefaults:
        """The scale of the checkpoint's guider, 1 of a distilled one, and 16:9 at the size that it was trained for."""
        pipeline, family = self.pipeline, self.family_defaults
        height, width = pipeline.video_processor.calculate_default_height_width(
            *(9, 16), pipeline.transformer.config.target_size
        )
        return replace(family, height=height, width=width, guidance_scale=self.guider_scale)

    def pipeline_call(self, arguments: dict[str, Any]) -> dict[str, Any]:
        """With the scale in a guider, which the script makes before it calls."""
        own = {name: value for name, value in arguments.items() if name not in self.not_called_with}
        call = super().pipeline_call(own)
        guider = f"pipe.guider = diffusers.ClassifierFreeGuidance(guidance_scale={arguments['guidance_scale']!r})"
        return {**call, "adapter_line": f"{self.adapter_line}; {guider}"}

    @property
    def denoisers(self) -> dict[str, nn.Module]:
        return {"transformer": self.pipeline.transformer}

    @property
    def patch(self) -> tuple[int, int, int]:
        config = self.pipeline.transformer.config
        return config.patch_size_t, config.patch_size, config.patch_size

    @torch.no_grad()
    def encode_prompts(self, prompts: list[str]) -> Conditioning:
        names = ("prompt_embeds", "prompt_embeds_mask", "prompt_embeds_2", "prompt_embeds_mask_2")
        encoded = self.pipeline.encode_prompt(prompts, device=self.device, batch_size=len(prompts))
        return Conditioning(dict(zip(names, encoded, strict=True)))

    def latent_shape(self, size: VideoSize) -> tuple[int, int, int, int]:
        pipeline = self.pipeline
        return causal_shape(
            size,
            channels=pipeline.vae.config.latent_channels,
            stride=pipeline.vae_scale_factor_temporal,
            side=pipeline.vae_scale_factor_spatial,
        )

    def legal(self, size: VideoSize) -> VideoSize:
        pipeline = self.pipeline
        step = pipeline.vae_scale_factor_spatial * self.patch[1]
        return nearest_size(size, step=step, stride=pipeline.vae_scale_factor_temporal)

    def sigmas(self, steps: int, shape: Sequence[int] = ()) -> Tensor:
        return flow_sigmas(self.pipeline.scheduler, steps)

    def velocity(self, noisy_latents: Tensor, sigma: Tensor, conditioning: Conditioning) -> Tensor:
        transformer = self.pipeline.transformer
        dtype = transformer.dtype
        clip, given, features = (each.to(noisy_latents) for each in self.beside(noisy_latents, conditioning))
        predicted: Tensor = transformer(
            hidden_states=torch.cat([noisy_latents, clip, given], dim=1).to(dtype),
            timestep=(sigma * self.pipeline.scheduler.config.num_train_timesteps).to(dtype),
            encoder_hidden_states=conditioning["prompt_embeds"].to(dtype),
            encoder_attention_mask=conditioning["prompt_embeds_mask"].to(dtype),
            encoder_hidden_states_2=conditioning["prompt_embeds_2"].to(dtype),
            encoder_attention_mask_2=conditioning["prompt_embeds_mask_2"].to(dtype),
            image_embeds=features.to(dtype),
            return_dict=False,
        )[0]
        return predicted.float()

    def beside(self, noisy_latents: Tensor, conditioning: Conditioning) -> tuple[Tensor, Tensor, Tensor]:
        """The clip of given latents, (B, C, F, H, W), where they are given, (B, 1, F, H, W), and the frame's features.

        Features of zeros are masked by the transformer, so that one of them stands for the pipeline's 729.
        """
        width = self.pipeline.transformer.config.image_embed_dim
        zeros = torch.zeros_like(noisy_latents)
        return zeros, zeros[:, :1], zeros.new_zeros(len(zeros), 1, width)

    def encode(self, videos: Tensor) -> Tensor:
        vae = self.pipeline.vae
        # One by one: the mask of diffusers' VAE (0.42.1) fits a single clip.
        latents = torch.cat([encoded(vae, each) for each in videos.split(1)])
        return latents * float(vae.config.scaling_factor)

    def unnormalised(self, latents: Tensor) -> Tensor:
        vae = self.pipeline.vae
        return latents.to(vae.device, vae.dtype) / float(vae.config.scaling_factor)


class HunyuanVideo15ImageToVideo(HunyuanVideo15):
    """HunyuanVideo 1.5 whose clips go on from a first frame; all latent frames are made, the first too."""

    pipeline_classes: ClassVar[tuple[str, ...]] = ("HunyuanVideo15ImageToVideoPipeline",)
    # The pipeline makes clips of the size in its config's area that is nearest to the image's shape.
    not_called_with: ClassVar[tuple[str, ...]] = ("guidance_scale", "height", "width")

    @torch.no_grad()
    def encode_condition(self, images: Tensor, size: VideoSize) -> Conditioning:
        pipeline, place = self.pipeline, {"height": size.height, "width": size.width}
        processor = pipeline.video_processor
        pictures = [processor.resize(each, resize_mode="crop", **place) for each in as_pictures(images)]
        encoder, extractor = pipeline.image_encoder, pipeline.feature_extractor
        features = [pipeline._get_image_embeds(encoder, extractor, each, self.device) for each in pictures]
        first = [
            pipeline._get_image_latents(pipeline.vae, processor, each, **place, device=self.device) for each in pictures
        ]
        return Conditioning({FIRST: torch.cat(first).float(), FEATURES: torch.cat(features)})

    def beside(self, noisy_latents: Tensor, conditioning: Conditioning) -> tuple[Tensor, Tensor, Tensor]:
        clip = torch.zeros_like(noisy_latents)
        clip[:, :, :1] = conditioning[FIRST]
        given = torch.zeros_like(clip[:, :1])
        given[:, :, 0] = 1
        return clip, given, conditioning[FEATURES]


def is_plain(guider: Any) -> bool:
    """Whether a guider is classifier-free guidance at one scale over all steps, as `Guidance` is."""
    config = guider.config
    usual = {"guidance_rescale": 0.0, "use_original_formulation": False, "start": 0.0, "stop": 1.0}
    return type(guider).__name__ == "ClassifierFreeGuidance" and all(
        config.get(name, each) == each for name, each in usual.items()
    )
