"""ModelScope and ZeroScope text-to-video (`TextToVideoSDPipeline`): an epsilon U-Net over a VAE of single frames.

Wang et al. 2023, arXiv:2308.06571. Facts that matter here: the U-Net has dropout, which is off in eval(); in diffusers
it has neither LoRA methods nor gradient checkpointing, so it is given both here, on the instance, and is saved as the
class it was.
"""

from __future__ import annotations

from typing import Any, ClassVar

from reelign.generators.base import SamplingDefaults
from reelign.generators.frame_unet import FrameUNet


class ModelScope(FrameUNet):
    """ModelScope text-to-video and its fine-tunes through their diffusers pipeline."""

    pipeline_classes: ClassVar[tuple[str, ...]] = ("TextToVideoSDPipeline",)
    checkpointed: ClassVar[tuple[str, ...]] = (
        "ResnetBlock2D",
        "TemporalConvLayer",
        "Transformer2DModel",
        "TransformerTemporalModel",
    )
    adapter_line: ClassVar[str] = (
        "from diffusers.loaders.peft import PeftAdapterMixin; "
        "diffusers.UNet3DConditionModel.__bases__ += (PeftAdapterMixin,)"
    )
    family_defaults: ClassVar[SamplingDefaults] = SamplingDefaults(
        num_frames=16, height=256, width=256, fps=8.0, guidance_scale=9.0, num_inference_steps=50
    )

    def __init__(self, pipeline: Any, model: str) -> None:
        super().__init__(pipeline, model)
        add_lora_methods(pipeline.unet)


def add_lora_methods(unet: Any) -> None:
    """Bind diffusers' adapter methods, which `UNet3DConditionModel` lacks, to one instance.

    With them the pipeline's own `load_lora_weights` and `save_lora_weights` work on it. A subclass would do the same,
    but would then be written into the folder by `save_pretrained` as a class that diffusers does not know.
    """
    from diffusers.loaders.peft import PeftAdapterMixin

    if isinstance(unet, PeftAdapterMixin):
        return
    for name, attribute in vars(PeftAdapterMixin).items():
        if not name.startswith("__"):
            setattr(unet, name, attribute.__get__(unet) if hasattr(attribute, "__get__") else attribute)
