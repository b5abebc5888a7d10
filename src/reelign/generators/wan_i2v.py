"""Wan 2.1 image-to-video (`WanImageToVideoPipeline`): Wan whose clips go on from a first frame.

Facts that matter here: the image reaches the transformer twice, as CLIP's features before the text's and as latents
beside the noisy ones. Those are the VAE's of a whole clip, the image followed by mid-grey frames, behind four channels
of a mask that is 1 at the first latent frame. All latent frames are made, the first too: none is given clean. Attention
takes the last 512 places for the text and what stands before them for the image, so the text must be padded to 512. The
pipeline's own call gives every video of a batch the same image; here each has its own.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from diffusers import WanPipeline
from torch import Tensor

from reelign.errors import ReelignError
from reelign.generators.base import Conditioning, VideoSize
from reelign.generators.pictures import as_pictures, as_processed
from reelign.generators.wan import MAX_SEQUENCE_LENGTH, Wan


class WanImageToVideo(Wan):
    """Wan 2.1 I2V through its diffusers pipeline."""

    pipeline_classes: ClassVar[tuple[str, ...]] = ("WanImageToVideoPipeline",)

    @classmethod
    def pipeline_type(cls, name: str) -> Any:
        """diffusers' class, but for its reading every adapter without the image's layers as one of text-to-video: it
        adds zeros for them, of which peft then warns."""
        as_it_is = classmethod(lambda _, transformer, state_dict: state_dict)
        return type(name, (super().pipeline_type(name),), {"_maybe_expand_t2v_lora_for_i2v": as_it_is})

    def __init__(self, pipeline: Any, model: str) -> None:
        if pipeline.transformer.config.pos_embed_seq_len is not None:
            raise ReelignError(
                f"{model} goes from a first frame to a last one, and prompts here have one image.",
                "Use an image-to-video checkpoint such as Wan-AI/Wan2.1-I2V-14B-480P-Diffusers.",
            )
        super().__init__(pipeline, model)

    @property
    def max_sequence_length(self) -> int:
        return MAX_SEQUENCE_LENGTH

    @torch.no_grad()
    def encode_prompts(self, prompts: list[str]) -> Conditioning:
        # As WanPipeline does: the same text encoding under this pipeline's name fails where ftfy is not installed.
        embeds = WanPipeline._get_t5_prompt_embeds(
            self.pipeline, prompts, max_sequence_length=self.max_sequence_length, device=self.device
        )
        return Conditioning({"prompt_embeds": embeds})

    @torch.no_grad()
    def encode_condition(self, images: Tensor, size: VideoSize) -> Conditioning:
        pipeline, pictures = self.pipeline, as_pictures(images)
        pixels = pipeline.video_processor.preprocess(pictures, height=size.height, width=size.width).float()
        found = {"image_latents": self._image_latents((pixels + 1) / 2, size)}
        if pipeline.image_encoder is not None:  # Wan 2.2 has none
            found["image_embeds"] = pipeline.encode_image(pictures, device=self.device)
        return Conditioning(found)

    def continue_from(self, frames: Tensor, size: VideoSize) -> Conditioning:
        pipeline, encoder = self.pipeline, self.pipeline.image_encoder
        # A whole clip goes through the VAE for one image: with gradients its encoder's activations would fill a device.
        with self.decoder.running_again("encoder"):
            found = {"image_latents": self._image_latents(frames, size)}
        if encoder is not None:
            seen = as_processed(frames, pipeline.image_processor).to(encoder.device, encoder.dtype)
            found["image_embeds"] = encoder(seen, output_hidden_states=True).hidden_states[-2].to(self.device)
        return Conditioning(found)

    def _image_latents(self, first: Tensor, size: VideoSize) -> Tensor:
        """Of a clip whose first frame (B, 3, H, W) in [0, 1] is given and whose others are mid-grey."""
        grey = torch.full_like(first[:, None], 0.5).expand(-1, size.num_frames - 1, -1, -1, -1)
        return self.encode(torch.cat([first[:, None], grey], dim=1))

    def latent_shape(self, size: VideoSize) -> tuple[int, int, int, int]:
        # The transformer takes more channels than it makes.
        return (self.pipeline.vae.config.z_dim, *super().latent_shape(size)[1:])

    def inputs(self, noisy_latents: Tensor, conditioning: Conditioning) -> dict[str, Tensor]:
        image = conditioning["image_latents"].to(noisy_latents)
        channels = self.pipeline.vae.config.scale_factor_temporal
        mask = image.new_zeros(len(image), channels, *image.shape[2:])
        mask[:, :, 0] = 1
        inputs = super().inputs(torch.cat([noisy_latents, mask, image], dim=1), conditioning)
        if "image_embeds" in conditioning.tensors:
            inputs["encoder_hidden_states_image"] = conditioning["image_embeds"]
        return inputs
