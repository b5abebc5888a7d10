"""Under which licence each family's weights were released, in short; who uses a model reads its own."""

from __future__ import annotations

HUNYUAN = "Tencent Hunyuan Community (not in the EU, the UK and South Korea)"

LICENCES = {
    "AnimateDiffPipeline": "Apache-2.0 (motion module), the image model's own",
    "CogVideoXImageToVideoPipeline": "CogVideoX licence",
    "CogVideoXPipeline": "2B Apache-2.0, 5B CogVideoX licence",
    "HunyuanVideo15ImageToVideoPipeline": HUNYUAN,
    "HunyuanVideo15Pipeline": HUNYUAN,
    "HunyuanVideoImageToVideoPipeline": HUNYUAN,
    "HunyuanVideoPipeline": HUNYUAN,
    "LTXConditionPipeline": "LTX-Video Open Weights",
    "LTXImageToVideoPipeline": "LTX-Video Open Weights",
    "LTXPipeline": "LTX-Video Open Weights",
    "MochiPipeline": "Apache-2.0",
    "OpenSoraPipeline": "Apache-2.0",
    "StableVideoDiffusionPipeline": "Stability AI community licence",
    "TextToVideoSDPipeline": "CC-BY-NC-4.0",
    "VideoCrafter2Pipeline": "Apache-2.0 code; its README asks for personal, research and non-commercial use",
    "WanImageToVideoPipeline": "Apache-2.0",
    "WanPipeline": "Apache-2.0",
}
"""By the class name of the pipeline, in the words of docs/families.md."""
