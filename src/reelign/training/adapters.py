"""Trained weights on disk: a LoRA as pipelines load it, or the whole of a fully trained denoiser."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator, Mapping
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


def expert_files(generator: Generator, folder: Path) -> dict[str, Path]:
    """The file of each denoiser's adapter.

    The keys in all of them begin with the first one's name: of a file with two prefixes diffusers' Wan loader would
    read the first expert's part alone (0.42.1), and `load_into_transformer_2=True` says whose the other file is. They
    lie side by side, for it would look for a name in the folder before it does in a subfolder.
    """
    first, *others = generator.denoisers
    return {first: folder / ADAPTER_FILE, **{name: folder / ADAPTER_FILE.replace(".", f"_{name}.") for name in others}}


def save_lora(generator: Generator, weights: Mapping[str, Tensor], folder: Path) -> Path:
    """Write an adapter as `pipeline.load_lora_weights` takes it, alpha in its metadata; returns the file, the first one
    of several experts'.

    Args:
        generator: that carries it.
        weights: of the adapter, by component and name.
        folder: made where missing.
    """
    from peft.utils import get_peft_model_state_dict

    denoisers: dict[str, Any] = dict(generator.denoisers)
    first = next(iter(denoisers))
    for component, file in expert_files(generator, Path(folder)).items():
        own = of_component(weights, component)
        if not own:
            continue
        state = get_peft_model_state_dict(denoisers[component], state_dict=own, adapter_name=ADAPTER)
        layers = {
            f"{first}_lora_layers": {name: value.contiguous() for name, value in state.items()},
            f"{first}_lora_adapter_metadata": denoisers[component].peft_config[ADAPTER].to_dict(),
        }
        with whole_file(file) as beside:
            type(generator.pipeline).save_lora_weights(beside.parent, weight_name=beside.name, **layers)
    return saved_weights(Path(folder))


def save_denoisers(generator: Generator, weights: Mapping[str, Tensor], folder: Path) -> Path:
    """Write fully trained denoisers as diffusers' `from_pretrained` takes them; returns the first one's file."""
    denoisers: dict[str, Any] = dict(generator.denoisers)
    for component, denoiser in denoisers.items():
        own = of_component(weights, component)
        if not own:
            continue
        denoiser.save_config(folder / component)
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
    """The first file that an alignment left in its folder: an adapter's, or a trained denoiser's."""
    denoisers = sorted(folder.glob(f"*/{WEIGHTS_FILE}"))
    return next(iter([*denoisers, *lora_files(folder)]), folder / ADAPTER_FILE)


def lora_files(folder: Path) -> list[Path]:
    """The files of a saved adapter, one for each of the denoisers that it changes; as `expert_files` says."""
    first = folder / ADAPTER_FILE
    return [*([first] if first.exists() else []), *sorted(folder.glob(ADAPTER_FILE.replace(".", "_*.")))]


def expert_of(file: Path) -> str:
    """The denoiser that a file of a saved adapter belongs to; empty for the first, whichever its name is."""
    return file.stem.removeprefix(Path(ADAPTER_FILE).stem).removeprefix("_")


def load_adapter(generator: Generator, path: Path | str, name: str = "aligned") -> None:
    """Load what an alignment saved into the generator for sampling, strictly.

    diffusers only warns where keys do not fit; an adapter that changes nothing, or of which a part would be left out in
    silence, is refused here.
    """
    if saved_weights(Path(path)).name == WEIGHTS_FILE:
        _load_denoisers(generator, Path(path))
        return
    places, strangers = _adapter_places(generator, Path(path)), []
    first = next(iter(generator.denoisers))
    try:
        for component, place in places.items():
            strangers += _unknown_layers(generator, component, place)
        if not strangers:
            for component, place in places.items():
                into = {} if component == first else {f"load_into_{component}": True}
                with _without_warnings():
                    generator.pipeline.load_lora_weights(str(place), adapter_name=name, **into)
    except (OSError, ValueError, KeyError, RuntimeError) as error:  # RuntimeError: weights of another width
        raise ReelignError(
            f"{path} could not be loaded as an adapter of {generator.model}: {error}",
            "Give a folder or safetensors file written by `reelign align` or `save_lora_weights`.",
        ) from error
    mend = f"Check that the adapter was trained on this model and that its keys start with '{first}.'."
    if strangers:
        raise ReelignError(
            f"{path} does not fit {generator.model}, which has no {strangers[0]} ({len(strangers)} such layers).",
            mend,
        )
    loaded = generator.pipeline.get_list_adapters()
    if not all(name in loaded.get(component, ()) for component in places):
        raise ReelignError(
            f"No weight in {path} fits {generator.model}.",
            mend,
        )
    for denoiser in generator.denoisers.values():
        denoiser.requires_grad_(False).eval()


@contextlib.contextmanager
def _without_warnings() -> Iterator[None]:
    """diffusers warns that an adapter has nothing for the text encoder, which none here has; what does not fit is
    refused before."""
    logger = logging.getLogger("diffusers.loaders.lora_base")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)


def _adapter_places(generator: Generator, path: Path) -> dict[str, Path]:
    """What the adapter of each denoiser is loaded from: a file, or a folder with what `save_lora` leaves there.

    Raises:
        ReelignError: one of them belongs to a denoiser that the generator does not have.
    """
    first, *others = generator.denoisers
    found = {name: file for file in lora_files(path) if (name := expert_of(file))}
    strange = sorted(found.keys() - set(others))
    if strange:
        raise ReelignError(
            f"{path} holds an adapter of {strange[0]}, and {generator.model} has no such denoiser.",
            f"Load it into the model that it was trained on, or {path / ADAPTER_FILE} alone.",
        )
    own = {} if found and not (path / ADAPTER_FILE).exists() else {first: path}
    return {**own, **found}


def _load_denoisers(generator: Generator, folder: Path) -> None:
    denoisers: dict[str, nn.Module] = generator.denoisers
    for component, denoiser in denoisers.items():
        path = folder / component / WEIGHTS_FILE
        if len(denoisers) > 1 and not path.exists():
            continue  # an expert that was not trained
        try:
            denoiser.load_state_dict(load_file(path))
        except (OSError, RuntimeError) as error:  # RuntimeError: of another shape
            raise ReelignError(
                f"{path} could not be loaded into {generator.model}: {error}", "Align this model again."
            ) from error


def _unknown_layers(generator: Generator, component: str, path: Path) -> list[str]:
    """Layers that a saved adapter changes and the denoiser of this name does not have."""
    first = next(iter(generator.denoisers))
    layers = {f"{first}.{name}" for name, _ in generator.denoisers[component].named_modules()}
    found: dict[str, Tensor] | tuple[dict[str, Tensor], Any] = generator.pipeline.lora_state_dict(str(path))
    # The Stable Diffusion loaders, which U-Net pipelines share, return the alphas of other tools' files beside it.
    state = found[0] if isinstance(found, tuple) else found
    return sorted({key.partition(".lora_")[0] for key in state if ".lora_" in key} - layers)
