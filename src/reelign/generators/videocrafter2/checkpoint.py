"""VideoCrafter2's `model.ckpt` made into a folder that loads like any pipeline: once, beside the checkpoint."""

from __future__ import annotations

import os
import pickle
import shutil
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from reelign.errors import ReelignError
from reelign.generators.videocrafter2 import weights as names

SUFFIX = "-diffusers"
TOKENIZER = "openai/clip-vit-large-patch14"
"""CLIP's vocabulary, which OpenCLIP shares."""
HUB_ID, FILE = "VideoCrafter/VideoCrafter2", "model.ckpt"
PUBLISHED = f"Download {FILE} of {HUB_ID} from the Hugging Face Hub."
PARTS = {"unet": "model.diffusion_model.", "vae": "first_stage_model.", "text_encoder": "cond_stage_model.model."}


def checkpoint_of(model: str) -> Path | None:
    """The released checkpoint that a model's name stands for: a `.ckpt` file, a folder with one, or the hub id.

    Raises:
        ReelignError: the hub cannot be reached.
    """
    path = Path(model)
    if path.is_file() and path.suffix == ".ckpt":
        return path
    if (path / FILE).is_file() and not (path / "model_index.json").is_file():
        return path / FILE
    if model != HUB_ID or path.exists():
        return None
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError

    try:
        return Path(hf_hub_download(HUB_ID, FILE))
    except (HfHubHTTPError, OSError) as error:
        raise ReelignError(
            f"{FILE} of {HUB_ID} could not be downloaded ({type(error).__name__}).",
            "Check the network, or give the path of the file where you have it.",
        ) from error


def pipeline_folder(checkpoint: Path) -> Path:
    """The folder of the pipeline that a checkpoint is made into, made where it is not there.

    `models/model.ckpt` becomes `models/model-diffusers`, of the same size again. CLIP's tokenizer comes from a folder
    `tokenizer` beside the checkpoint, or from the hub.

    Raises:
        ReelignError: the checkpoint is damaged, is of another model, or is newer than what was made of it.
    """
    folder = checkpoint.with_name(checkpoint.stem + SUFFIX)
    index = folder / "model_index.json"
    if index.is_file():
        if index.stat().st_mtime < checkpoint.stat().st_mtime:
            raise ReelignError(
                f"{checkpoint} is newer than {folder}, which was made of it.",
                f"Delete {folder}, and it is made anew, or give it in the checkpoint's place.",
            )
        return folder
    pipeline = build_pipeline(checkpoint)
    beside = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
    try:
        pipeline.save_pretrained(beside)
        try:
            beside.rename(folder)
        except OSError:
            if not index.is_file():  # else another process was first
                raise
    except OSError as error:
        raise ReelignError(
            f"The pipeline of {checkpoint} could not be written to {folder}: {error}",
            "Put the checkpoint where there is room for it twice and where you may write.",
        ) from error
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    return folder


def build_pipeline(checkpoint: Path) -> Any:
    """The pipeline of a released checkpoint, every weight of which has its place."""
    from diffusers import AutoencoderKL
    from transformers import CLIPTextConfig, CLIPTextModel

    from reelign.generators.videocrafter2.unet import VideoCrafter2Pipeline, VideoCrafter2Scheduler, VideoCrafter2UNet

    weights = read_checkpoint(checkpoint)
    parts = {name: names.part(weights, prefix) for name, prefix in PARTS.items()}
    try:
        unet, text, vae = (
            names.unet_config(parts["unet"]),
            names.text_config(parts["text_encoder"]),
            names.vae_config(parts["vae"]),
        )
    except KeyError as error:
        raise ReelignError(
            f"{checkpoint} is no checkpoint of VideoCrafter2: it has no {error.args[0]}.",
            PUBLISHED,
        ) from error
    with torch.device("meta"):
        models = {
            "unet": VideoCrafter2UNet(**unet),
            "text_encoder": CLIPTextModel(CLIPTextConfig(**text)),
            "vae": AutoencoderKL(**vae),
        }
    fill(models["unet"], names.unet_weights(parts["unet"], unet), checkpoint, "U-Net")
    fill(models["text_encoder"], names.text_weights(parts["text_encoder"]), checkpoint, "text encoder")
    fill(models["vae"], names.vae_weights(parts["vae"], vae), checkpoint, "VAE")
    scheduler = VideoCrafter2Scheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
        timestep_spacing="leading",
    )
    return VideoCrafter2Pipeline(tokenizer=_tokenizer(checkpoint), scheduler=scheduler, **models)


def read_checkpoint(checkpoint: Path) -> dict[str, Tensor]:
    """The tensors in a checkpoint; its tables of noise levels, which are the scheduler's, are left out.

    Raises:
        ReelignError: it is damaged, or holds something else.
    """
    try:
        found = torch.load(checkpoint, map_location="cpu", weights_only=True, mmap=True)
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
        raise ReelignError(
            f"{checkpoint} could not be read as a checkpoint: {str(error).splitlines()[0]}", "Download it again."
        ) from error
    weights = found.get("state_dict", found) if isinstance(found, dict) else {}
    from reelign.generators.videocrafter2.unet import signal_scale

    shrinking = weights.get("scale_arr")
    if shrinking is not None and not torch.allclose(shrinking.double()[:1000], signal_scale(1000), atol=1e-6):
        raise ReelignError(
            f"{checkpoint} is of a model that shrinks its videos otherwise than VideoCrafter2.", PUBLISHED
        )
    weights = {name: each for name, each in weights.items() if isinstance(each, Tensor) and "." in name}
    strange = [name for name in weights if not name.startswith(tuple(PARTS.values()))]
    if strange or not weights:
        holds = f"holds {strange[0]}, which is no part of it" if strange else "holds no weights"
        raise ReelignError(
            f"{checkpoint} is no checkpoint of VideoCrafter2: it {holds}.",
            PUBLISHED,
        )
    return weights


def fill(model: nn.Module, weights: dict[str, Tensor], checkpoint: Path, title: str) -> None:
    """Give a model without weights its own, strictly.

    Raises:
        ReelignError: a weight is missing, has no place, or has another shape.
    """
    own = {name: each.shape for name, each in model.state_dict().items()}
    other = [name for name in sorted(own.keys() & weights.keys()) if weights[name].shape != own[name]]
    for odd, trouble in (
        (sorted(own.keys() - weights.keys()), "lacks"),
        (sorted(weights.keys() - own.keys()), "holds, without a place for it,"),
        (other, "has another shape of"),
    ):
        if odd:
            more = f" and {len(odd) - 1} more" if len(odd) > 1 else ""
            raise ReelignError(
                f"The {title} in {checkpoint} {trouble} the weight {odd[0]}{more}.",
                "Download model.ckpt of VideoCrafter/VideoCrafter2 anew; other models of its kind are not supported.",
            )
    model.load_state_dict(weights, assign=True)
    model.eval()


def _tokenizer(checkpoint: Path) -> Any:
    from transformers import CLIPTokenizer

    beside = checkpoint.with_name("tokenizer")
    try:
        # OpenCLIP pads with the vocabulary's first word, where CLIP's own files pad with the end of the text.
        return CLIPTokenizer.from_pretrained(str(beside) if beside.is_dir() else TOKENIZER, pad_token="!")
    except OSError as error:
        raise ReelignError(
            f"CLIP's tokenizer ({TOKENIZER}) could not be loaded: {str(error).splitlines()[0]}",
            f"Check the network, or put its files into {beside}.",
        ) from error
