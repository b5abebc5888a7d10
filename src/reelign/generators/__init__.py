"""Generators: one file per family; loading picks the file from the pipeline's class name."""

from __future__ import annotations

import difflib
import importlib
import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError

from reelign.errors import ReelignError
from reelign.generators.base import Conditioning, Generator, Guidance, SamplingDefaults, VideoSize
from reelign.generators.complete import check_complete
from reelign.generators.defaults import fetch_beside
from reelign.generators.encoders import empty_encoders, empty_models, encoder_entries
from reelign.generators.outside import family_beside
from reelign.generators.unsupported import unsupported
from reelign.generators.videocrafter2.checkpoint import checkpoint_of, pipeline_folder
from reelign.generators.weights import load_models
from reelign.naming import named_object

__all__ = [
    "GENERATORS",
    "Conditioning",
    "Generator",
    "Guidance",
    "SamplingDefaults",
    "VideoSize",
    "family_of",
    "load_generator",
]

GENERATORS = {
    "AnimateDiffPipeline": "reelign.generators.animatediff:AnimateDiff",
    "CogVideoXImageToVideoPipeline": "reelign.generators.cogvideox_i2v:CogVideoXImageToVideo",
    "CogVideoXPipeline": "reelign.generators.cogvideox:CogVideoX",
    "HunyuanVideo15ImageToVideoPipeline": "reelign.generators.hunyuan15:HunyuanVideo15ImageToVideo",
    "HunyuanVideo15Pipeline": "reelign.generators.hunyuan15:HunyuanVideo15",
    "HunyuanVideoImageToVideoPipeline": "reelign.generators.hunyuan_i2v:HunyuanVideoImageToVideo",
    "HunyuanVideoPipeline": "reelign.generators.hunyuan:HunyuanVideo",
    "LTXConditionPipeline": "reelign.generators.ltx_condition:LTXCondition",
    "LTXImageToVideoPipeline": "reelign.generators.ltx:LTXImageToVideo",
    "LTXPipeline": "reelign.generators.ltx:LTX",
    "MochiPipeline": "reelign.generators.mochi:Mochi",
    "OpenSoraPipeline": "reelign.generators.opensora.family:OpenSora",
    "StableVideoDiffusionPipeline": "reelign.generators.svd:StableVideoDiffusion",
    "TextToVideoSDPipeline": "reelign.generators.modelscope:ModelScope",
    "VideoCrafter2Pipeline": "reelign.generators.videocrafter2.family:VideoCrafter2",
    "WanImageToVideoPipeline": "reelign.generators.wan_i2v:WanImageToVideo",
    "WanPipeline": "reelign.generators.wan:Wan",
}
"""Class name of the diffusers pipeline -> the family's class."""

MODELS = {"spriteworld": "reelign.spriteworld"}
"""Short names of pipelines that ship with a package: its folder `pipeline/`."""

CONVERT = "python -m reelign.generators.opensora.convert open-sora-1.2, and give that folder."
PARTS = {"hpcai-tech/OpenSora-STDiT-v3": CONVERT, "hpcai-tech/OpenSora-VAE-v1.2": CONVERT}
"""Hub ids of what was published in parts, and the command that makes a pipeline of them."""


def load_generator(
    model: str,
    *,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
    encoders: bool = True,
    weights: bool = True,
    vae_dtype: torch.dtype = torch.float32,
) -> Generator:
    """Load a generator from a diffusers folder, a hub id or a shipped pipeline's short name.

    Args:
        model: `spriteworld` (ships with the package), a folder with a `model_index.json`, a hub id, or VideoCrafter2's
            released `model.ckpt`.
        device: where the pipeline goes.
        dtype: precision of denoiser and text encoder; an image encoder stays fp32.
        encoders: False leaves the weights of text encoders and VAE on disk, for training on cached embeddings and
            latents; `encoders.holding` loads them where they are needed after all.
        weights: False leaves those of the denoisers on disk too: a generator to ask for sizes, not to run.
        vae_dtype: precision of the VAE; latents and pixels are fp32 all the same.
    Raises:
        ReelignError: no such folder or hub id, a pipeline class no family here covers, or weights that do not fit.
    """
    source = resolve_model(model)
    family = family_of(model)
    import diffusers

    # One dtype for every component: left alone, fp16 files load as a mix. A later .to(dtype) would undo the modules
    # that diffusers keeps in fp32 on purpose.
    precision = {"default": dtype, "vae": vae_dtype, "image_encoder": torch.float32}
    diffusers.utils.logging.disable_progress_bar()
    try:
        index = read_index(source)
        check_complete(source, index, unread=index if not weights else () if encoders else encoder_entries(index))
        away = {} if encoders else empty_encoders(source, index, precision)
        if not weights:
            away = empty_models(source, index, precision)
        models = load_models(source, {name: entry for name, entry in index.items() if name not in away}, precision)
        kind = family.pipeline_type(index["_class_name"])
        pipeline = kind.from_pretrained(source, dtype=precision, **models, **away)
    except (OSError, SafetensorError) as error:
        raise ReelignError(
            f"{model} could not be loaded: {error}", "Download it again, or save it anew with save_pretrained."
        ) from error
    pipeline.set_progress_bar_config(disable=True)
    for name, component in pipeline.components.items():
        if isinstance(component, torch.nn.Module) and name not in away:
            component.to(device)
    return family(pipeline, source)


def family_of(model: str) -> type[Generator]:
    """The class that covers a model, without loading any of its weights.

    Raises:
        ReelignError: no such folder or hub id, or a pipeline class no family here covers.
    """
    source = resolve_model(model)
    check_supported(model, source)
    index = read_index(source)
    family: type[Generator] = family_beside(source) or named_object(GENERATORS[index["_class_name"]], "generator")
    return family.variant(index)


def check_supported(model: str, source: str) -> None:
    """Refuse a folder or hub id of a pipeline class that no family covers, unless it names a family itself."""
    name = pipeline_class(source)  # first: of a hub id this brings what lies beside the weights too
    if family_beside(source) is None and name not in GENERATORS:
        raise unsupported(model, name, sorted(GENERATORS))


def resolve_model(model: str) -> str:
    """A shipped pipeline's short name becomes its folder, and a released checkpoint that of the pipeline made of it;
    anything else stays as it is.

    Raises:
        ReelignError: a checkpoint that no pipeline can be made of.
    """
    if model in MODELS and not Path(model).exists():
        package = importlib.import_module(MODELS[model])
        return str(Path(package.__path__[0]) / "pipeline")
    checkpoint = checkpoint_of(model)
    return model if checkpoint is None else str(pipeline_folder(checkpoint))


def pipeline_class(source: str) -> str:
    """The class name of a pipeline in a folder or on the hub."""
    return str(read_index(source)["_class_name"])


def read_index(source: str) -> dict[str, Any]:
    """A pipeline's `model_index.json`, from a folder or from the hub; its `_class_name` is there."""
    folder = Path(source)
    if source in PARTS:
        raise ReelignError(f"{source} is a part of a model and no pipeline.", f"Make one first: {PARTS[source]}")
    if folder.is_dir():
        index = folder / "model_index.json"
        if not index.is_file():
            raise ReelignError(
                f"The folder {source} holds no model_index.json, so it is not a diffusers pipeline.",
                "Give the folder that WanPipeline.save_pretrained (or another pipeline's) wrote, or a hub id.",
            )
        return _parse_index(index)
    if folder.is_absolute() or source.startswith((".", "~")) or source.count("/") != 1:
        near = difflib.get_close_matches(source, MODELS, n=1)
        raise ReelignError(
            f"There is no model folder {source}.",
            f"Did you mean {near[0]!r}?"
            if near
            else f"Give a diffusers folder, a hub id, or one of: {', '.join(MODELS)}.",
        )
    return _parse_index(_index_from_hub(source))


def _parse_index(path: Path) -> dict[str, Any]:
    try:
        index: dict[str, Any] = json.loads(path.read_text())
        str(index["_class_name"])
        return index
    except (ValueError, KeyError, TypeError) as error:
        raise ReelignError(
            f"{path} is damaged: it does not say the class of its pipeline.", "Download or save the pipeline again."
        ) from error


def _index_from_hub(model_id: str) -> Path:
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled

    try:
        index = Path(hf_hub_download(model_id, "model_index.json"))
        fetch_beside(model_id)
        return index
    except (HfHubHTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled, OSError) as error:
        raise ReelignError(
            f"{model_id} is no folder here and could not be read from the Hugging Face Hub ({type(error).__name__}).",
            "Check the spelling, the network and, for gated models, `hf auth login`.",
        ) from error
