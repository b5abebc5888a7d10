"""The parts of Open-Sora 1.2 in one folder, as a diffusers pipeline keeps them; diffusers itself has none for it."""

from __future__ import annotations

from typing import Any

from diffusers import DiffusionPipeline
from diffusers.loaders import CogVideoXLoraLoaderMixin
from diffusers.video_processor import VideoProcessor


class OpenSoraPipeline(DiffusionPipeline, CogVideoXLoraLoaderMixin):  # type: ignore[misc]
    """`from_pretrained`, `save_pretrained` and the LoRA methods of any diffusers pipeline with one transformer.

    Args:
        tokenizer: T5's.
        text_encoder: a `T5EncoderModel`.
        transformer: an `STDiT3`.
        vae: an `OpenSoraVAE`.
    """

    model_cpu_offload_seq = "text_encoder->transformer->vae"

    def __init__(self, tokenizer: Any, text_encoder: Any, transformer: Any, vae: Any) -> None:
        super().__init__()
        self.register_modules(tokenizer=tokenizer, text_encoder=text_encoder, transformer=transformer, vae=vae)
        self.video_processor = VideoProcessor(vae_scale_factor=vae.spatial_stride)
