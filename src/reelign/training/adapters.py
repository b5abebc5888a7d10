"""Trained weights on disk: a LoRA as pipelines load it, or the whole of a fully trained denoiser."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from reelign.errors import ReelignError
from reelign.files import whole as whole_file
from reelign.generators.base import Generator

ADAPTER = "policy"
REFERENCE = "reference"
"""The adapter of a reference that moves; it is never saved as the run's result."""
ADAPTER_FILE = "pytorch_lora_weights.safetensors"
WEIGHTS_FILE = "diffusion_pytorch_model.safetensors"


def save_lora(generator: Generator, weights: Mapping[str, Tensor], folder: Path) -> Path:
    """Write an adapter as `pipeline.load_lora_weights` takes it, alpha in its metadata; returns the file.

    Args:
        generator: that carries it.
        weights: of the adapter, by component and name.
        folder: made where missing.
    """
    from peft.utils import get_peft_model_state_dict

    layers: dict[str, Any] = {}
    denoisers: dict[str, Any] = dict(generator.denoisers)
    for component, denoiser in denoisers.items():
        own = of_component(weights, component)
        state = get_peft_model_state_dict(denoiser, state_dict=own, adapter_name=ADAPTER)
        layers[f"{component}_lora_layers"] = {name: value.contiguous() for name, value in state.items()}
        layers[f"{component}_lora_adapter_metadata"] = denoiser.peft_config[ADAPTER].to_dict()
    file = Path(folder) / ADAPTER_FILE
    with whole_file(file) as beside:
        type(generator.pipeline).save_lora_weights(beside.parent, weight_name=beside.name, **layers)
    return file


def save_denoisers(generator: Generator, weights: Mapping[str, Tensor], folder: Path) -> Path:
    """Write fully trained denoisers as diffusers' `from_pretrained` takes them; returns the first one's file."""
    denoisers: dict[str, Any] = dict(generator.denoisers)
    for component, denoiser in denoisers.items():
        denoiser.save_config(folder / component)
        own = of_component(weights, component)
        with whole_file(folder / component / WEIGHTS_FILE) as beside:
            saved = {**saved_buffers(denoiser), **own}
            save_file({name: value.cpu().contiguous() for name, value in saved.items()}, beside)
    return saved_weights(folder)


def saved_buffers(denoiser: nn.Module) -> dict[str, Tensor]:
    """What is saved with a denoiser's weights and never trains, such as Open-Sora's features of no text."""
    saved = denoiser.state_dict().keys()
    return {name: each for name, each in denoiser.named_buffers() if name in saved}


def of_component(weights: Mapping[str, Tensor], component: str) -> dict[str, Tensor]:
    """The weights of one denoiser, by its own names."""
    return {
        name.removeprefix(f"{component}."): each for name, each in weights.items() if name.startswith(f"{component}.")
    }


def saved_weights(folder: Path) -> Path:
    """The file that an alignment left in its folder: the adapter's, or the trained denoiser's."""
    return next(iter(sorted(folder.glob(f"*/{WEIGHTS_FILE}"))), folder / ADAPTER_FILE)


def load_adapter(generator: Generator, path: Path | str, name: str = "aligned") -> None:
    """Load what an alignment saved into the generator for sampling, strictly.

    diffusers only warns where keys do not fit; an adapter that changes nothing, or of which a part would be left out in
    silence, is refused here.
    """
    if saved_weights(Path(path)).name == WEIGHTS_FILE:
        _load_denoisers(generator, Path(path))
        return
    try:
        strangers = _unknown_layers(generator, path)
        if not strangers:
            generator.pipeline.load_lora_weights(str(path), adapter_name=name)
    except (OSError, ValueError, KeyError, RuntimeError) as error:  # RuntimeError: weights of another width
        raise ReelignError(
            f"{path} could not be loaded as an adapter of {generator.model}: {error}",
            "Give a folder or safetensors file written by `reelign align` or `save_lora_weights`.",
        ) from error
    prefixes = " or ".join(f"'{component}.'" for component in generator.denoisers)
    mend = f"Check that the adapter was trained on this model and that its keys start with {prefixes}."
    if strangers:
        raise ReelignError(
            f"{path} does not fit {generator.model}, which has no {strangers[0]} ({len(strangers)} such layers).",
            mend,
        )
    loaded = generator.pipeline.get_list_adapters()
    if not any(name in adapters for adapters in loaded.values()):
        raise ReelignError(
            f"No weight in {path} fits {generator.model}.",
            mend,
        )
    for denoiser in generator.denoisers.values():
        denoiser.requires_grad_(False).eval()


def _load_denoisers(generator: Generator, folder: Path) -> None:
    denoisers: dict[str, nn.Module] = generator.denoisers
    for component, denoiser in denoisers.items():
        path = folder / component / WEIGHTS_FILE
        try:
            denoiser.load_state_dict(load_file(path))
        except (OSError, RuntimeError) as error:  # RuntimeError: of another shape
            raise ReelignError(
                f"{path} could not be loaded into {generator.model}: {error}", "Align this model again."
            ) from error


def _unknown_layers(generator: Generator, path: Path | str) -> list[str]:
    """Layers that a saved adapter changes and the generator does not have."""
    layers = {
        f"{component}.{name}"
        for component, denoiser in generator.denoisers.items()
        for name, _ in denoiser.named_modules()
    }
    found: dict[str, Tensor] | tuple[dict[str, Tensor], Any] = generator.pipeline.lora_state_dict(str(path))
    # The Stable Diffusion loaders, which U-Net pipelines share, return the alphas of other tools' files beside it.
    state = found[0] if isinstance(found, tuple) else found
    return sorted({key.partition(".lora_")[0] for key in state if ".lora_" in key} - layers)
