"""The published weights of Open-Sora 1.2 as one folder that `load_generator` takes.

    python -m reelign.generators.opensora.convert open-sora-1.2

reads hpcai-tech/OpenSora-STDiT-v3, hpcai-tech/OpenSora-VAE-v1.2 and DeepFloyd/t5-v1_1-xxl from the Hugging Face Hub,
or from folders, by `--stdit`, `--vae` and `--t5`, and writes some 16 GB. Weights keep their names and values; T5 is
written in bf16. The folder has its `model_index.json` only once it is whole.
"""

from __future__ import annotations

import argparse
import inspect
import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from reelign.errors import ReelignError

STDIT = "hpcai-tech/OpenSora-STDiT-v3"
VAE = "hpcai-tech/OpenSora-VAE-v1.2"
T5 = "DeepFloyd/t5-v1_1-xxl"
WEIGHTS = "model.safetensors"


def convert(
    stdit: str | Path, vae: str | Path, t5: str | Path, folder: str | Path, *, vae_sizes: dict[str, Any] | None = None
) -> Path:
    """Write the pipeline of three published parts, each a hub id or a folder.

    Args:
        stdit: with the `config.json` and `model.safetensors` of the denoiser.
        vae: of the VAE, whose config.json says nothing of its sizes.
        t5: a T5 encoder and its tokenizer, as transformers loads them.
        folder: to be made.
        vae_sizes: arguments of `OpenSoraVAE` for a VAE of other sizes than the released one's.
    Returns:
        The folder.
    Raises:
        ReelignError: the folder holds a model already; a part is missing, or is of another model or version.
    """
    from transformers import AutoTokenizer, T5EncoderModel

    from reelign.generators.opensora.pipeline import OpenSoraPipeline
    from reelign.generators.opensora.stdit import STDiT3
    from reelign.generators.opensora.vae import OpenSoraVAE

    folder = Path(folder)
    if (folder / "model_index.json").exists():
        raise ReelignError(f"{folder} holds a model already.", "Name a folder that is new.")
    config, weights = _part(stdit, "STDiT3")
    known = inspect.signature(STDiT3.__init__).parameters
    transformer = STDiT3(**{name: value for name, value in config.items() if name in known})
    _fill(transformer, weights, stdit)
    _, weights = _part(vae, "VideoAutoencoderPipeline")
    autoencoder = OpenSoraVAE(**(vae_sizes or {}))
    _fill(autoencoder, weights, vae)
    try:
        encoder = T5EncoderModel.from_pretrained(str(t5), dtype=torch.bfloat16)
        tokenizer = AutoTokenizer.from_pretrained(str(t5))
    except OSError as error:
        raise ReelignError(f"{t5} could not be loaded as a T5 encoder: {error}", f"Give {T5} or its folder.") from error
    pipeline = OpenSoraPipeline(tokenizer, encoder, transformer, autoencoder)
    pipeline.save_pretrained(folder)
    return folder


def _part(source: str | Path, kind: str) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The configuration and the weights of a published part."""
    try:
        folder = _files(source)
        config: dict[str, Any] = json.loads((folder / "config.json").read_text())
        weights = load_file(folder / WEIGHTS)
    except (OSError, ValueError, SafetensorError) as error:
        raise ReelignError(
            f"{source} could not be read as a part of Open-Sora 1.2: {error}",
            f"Give a hub id, or a folder with its config.json and {WEIGHTS}.",
        ) from error
    if config.get("model_type") != kind:
        raise ReelignError(
            f"{source} is a {config.get('model_type')}, and Open-Sora 1.2 has a {kind} there.",
            f"Its parts are {STDIT}, {VAE} and {T5}; other versions of Open-Sora are other models.",
        )
    return config, weights


def _files(source: str | Path) -> Path:
    if Path(source).is_dir():
        return Path(source)
    from huggingface_hub import snapshot_download

    return Path(snapshot_download(str(source), allow_patterns=["config.json", WEIGHTS]))


def _fill(model: Any, weights: dict[str, Tensor], source: str | Path) -> None:
    own = model.state_dict()
    unfit = sorted(name for name in own.keys() & weights.keys() if own[name].shape != weights[name].shape)
    for trouble, names in (
        ("lacks the weight", sorted(own.keys() - weights.keys())),
        ("holds, without a place for it, the weight", sorted(weights.keys() - own.keys())),
        ("has another shape of the weight", unfit),
    ):
        if names:
            more = f" and {len(names) - 1} more" if len(names) > 1 else ""
            raise ReelignError(
                f"{source} is no {type(model).__name__} of Open-Sora 1.2: it {trouble} {names[0]}{more}.",
                "Download it again, and check that it is of version 1.2.",
            )
    model.load_state_dict({name: each.float() for name, each in weights.items()})


def main() -> None:
    """`python -m reelign.generators.opensora.convert FOLDER`; what is wrong ends it with one sentence."""
    parser = argparse.ArgumentParser(description="Open-Sora 1.2 as a folder that reelign loads.")
    parser.add_argument("folder", help="to be made")
    for name, default in (("stdit", STDIT), ("vae", VAE), ("t5", T5)):
        parser.add_argument(f"--{name}", default=default, help=f"hub id or folder ({default})")
    given = parser.parse_args()
    try:
        print(f"wrote {convert(given.stdit, given.vae, given.t5, given.folder)}")
    except ReelignError as error:
        raise SystemExit(str(error)) from error


if __name__ == "__main__":
    main()
