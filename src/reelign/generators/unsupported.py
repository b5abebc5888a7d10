"""Video pipelines of diffusers that no family here covers, and what is missing for each."""

from __future__ import annotations

from reelign.errors import ReelignError

SAME_WEIGHTS = {
    "AnimateDiffPAGPipeline": "AnimateDiffPipeline",
    "AnimateDiffVideoToVideoPipeline": "AnimateDiffPipeline",
    "CogVideoXVideoToVideoPipeline": "CogVideoXPipeline",
    "LTXI2VLongMultiPromptPipeline": "LTXImageToVideoPipeline",
    "VideoToVideoSDPipeline": "TextToVideoSDPipeline",
    "WanVideoToVideoPipeline": "WanPipeline",
}
"""Pipelines that are another way to run the very components of a supported one."""

SOUND = (
    "it makes sound with the video, and each of the two is denoised from the other's latents in every block; missing "
    "are latents, noise and errors of the sound beside the video's, and the guidance over both"
)
CONTROL = "missing are conditions that are videos, such as its control, masks or reference"
EDIT = "it edits what it is given; missing are prompts with a video or an image to edit, and pairs of edits"
IN_CHUNKS = "it makes a clip part by part, each from those before; missing are rollouts and draws of parts with a past"
PER_FRAME = "every frame has a noise level of its own, and a clip here has one"
REFINER = "it makes larger or finer what another model made, and is no generator by itself"
OWN_DENOISER = "missing is a file for its denoiser"

MISSING = {
    "Allegro": f"{OWN_DENOISER}, and a decode of its VAE outside overlapping tiles, which have no exact gradient",
    "AnimateDiffControlNet": CONTROL,
    "AnimateDiffSDXL": "missing are SDXL's second text encoder and what it is told of sizes",
    "AnimateDiffSparseControlNet": CONTROL,
    "AnimateDiffVideoToVideoControlNet": CONTROL,
    "AnyFlow": "its velocity depends on the step's end too (a flow map), and one here on its beginning alone",
    "ChronoEdit": EDIT,
    "CogVideoXFunControl": CONTROL,
    "ConsisID": "missing are conditions of a face: its embeddings, and the frame with its key points",
    "Cosmos": f"{OWN_DENOISER}, guidance that starts from the prompt's side, and loading without its mandatory safety "
    "checker",
    "Cosmos3": f"{OWN_DENOISER}, which makes text, image, sound and video in one sequence",
    "EasyAnimate": f"{OWN_DENOISER}, and a decode of its Magvit VAE in pieces",
    "EasyAnimateControl": CONTROL,
    "EasyAnimateInpaint": CONTROL,
    "Helios": IN_CHUNKS,
    "HunyuanSkyreelsImageToVideo": "missing is a file for its image, which stands beside the latents of a HunyuanVideo "
    "that reads text alone",
    "HunyuanVideoFramepack": IN_CHUNKS,
    "I2VGenXL": "missing is a file for its U-Net, which reads the image in three ways",
    "Kandinsky5": f"{OWN_DENOISER}, which has channels last and its places and scales handed in",
    "Kandinsky6": SOUND,
    "Kandinsky6SR": REFINER,
    "LTX2": SOUND,
    "LTX2LatentUpsample": REFINER,
    "LTX2VideoDiffusionDecode": REFINER,
    "LTXLatentUpsample": REFINER,
    "Latte": f"{OWN_DENOISER}, of 16 frames always, which predicts a variance beside epsilon",
    "LucyEdit": EDIT,
    "MotifVideo": f"{OWN_DENOISER} and its text encoder (T5Gemma 2)",
    "PIA": "missing is a file for its image and mask beside AnimateDiff's latents",
    "SanaImageToVideo": f"{OWN_DENOISER}, and Gemma's instructions before a prompt",
    "SanaVideo": f"{OWN_DENOISER}, and Gemma's instructions before a prompt",
    "SanaWM": "missing are conditions that are a camera's path",
    "SkyReelsV2": f"{OWN_DENOISER}, which is Wan's with changes of its own",
    "SkyReelsV2DiffusionForcing": PER_FRAME,
    "TextToVideoZero": "it is an image model whose frames look at the first; it has no weights of motion to align",
    "WanAnimate": CONTROL,
    "WanVACE": CONTROL,
}
"""What a class name begins with -> what is missing; the longest that fits holds."""


def unsupported(model: str, name: str, supported: list[str]) -> ReelignError:
    """What to say of a model whose pipeline class no family covers."""
    if name in SAME_WEIGHTS:
        same = SAME_WEIGHTS[name]
        return ReelignError(
            f"{model} is a {name}, which reelign does not support: it starts from a clip, or runs by another loop.",
            f"Its components are those of a {same}: load that from the same weights and save it, or write {same} as "
            "_class_name into model_index.json.",
        )
    begins = max((each for each in MISSING if name.startswith(each)), key=len, default=None)
    why = "" if begins is None else f": {MISSING[begins]}"
    return ReelignError(
        f"{model} is a {name}, which reelign does not support{why}.",
        f"Supported pipeline classes: {', '.join(supported)}; a family of your own is named in a "
        "reelign.json beside the weights (docs/family-of-your-own.md).",
    )
