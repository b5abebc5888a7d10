"""Encoders of texts and images and the VAE: loaded while something is encoded, and no memory of training's.

A module that is away keeps its class and config but no weights (they are on the meta device), so that sizes and shapes
can still be asked for; what needs the weights is done under `holding`.
"""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import nn

from reelign.errors import ReelignError
from reelign.generators.base import Generator
from reelign.generators.complete import check_complete
from reelign.generators.weights import as_loaded, load_models, loads_as_diffusers

VAE = "vae"
IMAGE_ENCODER = "image_encoder"
META = torch.device("meta")


def encoders(generator: Generator) -> dict[str, nn.Module]:
    """The pipeline's models that training needs no weights of, by component name."""
    components: dict[str, Any] = generator.pipeline.components
    models = {name: each for name, each in components.items() if isinstance(each, nn.Module)}
    return {name: model for name, model in models.items() if name not in generator.denoisers}


def text_encoders(generator: Generator) -> dict[str, nn.Module]:
    """Those of them that read prompts."""
    return {name: model for name, model in encoders(generator).items() if name not in (VAE, IMAGE_ENCODER)}


def image_encoders(generator: Generator) -> dict[str, nn.Module]:
    """Those of them that read the images of prompts."""
    return {name: model for name, model in encoders(generator).items() if name in (VAE, IMAGE_ENCODER)}


def is_away(model: nn.Module) -> bool:
    """Whether a model keeps no weights, so that it can be asked for sizes and not run."""
    return any(parameter.device == META for parameter in model.parameters())


def drop_encoders(generator: Generator) -> None:
    """Free the memory of text encoders and VAE; `holding` brings them back."""
    for model in encoders(generator).values():
        model.to(META)


@contextlib.contextmanager
def holding(generator: Generator, *names: str) -> Iterator[None]:
    """Load these components for the block where they are away, and drop them again after it.

    Raises:
        ReelignError: they cannot be loaded.
    """
    away = [name for name in names if is_away(encoders(generator)[name])]
    for name in away:
        generator.pipeline.register_modules(**{name: _loaded(generator, name)})
    try:
        yield
    finally:
        for name in away:
            encoders(generator)[name].to(META)


def empty_encoders(source: str, index: dict[str, Any], precision: dict[str, torch.dtype]) -> dict[str, nn.Module]:
    """The encoders of a pipeline without weights, to hand to its `from_pretrained`: nothing of them is read."""
    return _empty(source, encoder_entries(index), precision)


def empty_models(source: str, index: dict[str, Any], precision: dict[str, torch.dtype]) -> dict[str, nn.Module]:
    """All models of a pipeline without weights, the denoisers too."""
    entries = {name: tuple(entry) for name, entry in index.items() if isinstance(entry, list) and entry[0]}
    models = {name: entry for name, entry in entries.items() if _is_model(*entry)}
    return _empty(source, models, precision)


def _empty(source: str, entries: dict[str, tuple[str, str]], precision: dict[str, torch.dtype]) -> dict[str, nn.Module]:
    found = {}
    for name, (library, kind) in entries.items():
        cls = _class(library, kind)
        with META:
            if loads_as_diffusers(library):
                model = cls.from_config(cls.load_config(source, subfolder=name))
            else:
                model = cls(cls.config_class.from_pretrained(source, subfolder=name))
        dtype = precision.get(name, precision["default"])
        found[name] = as_loaded(model, dtype)
    return found


def _loaded(generator: Generator, name: str) -> nn.Module:
    model: Any = encoders(generator)[name]
    module = type(model).__module__
    library = module if module.startswith("reelign.") else module.partition(".")[0]
    source = _source(generator)
    check_complete(source, {name: [library, type(model).__name__]})
    try:
        loaded = load_models(source, {name: [library, type(model).__name__]}, {"default": model.dtype})[name]
    except (OSError, SafetensorError) as error:
        raise ReelignError(
            f"The {name} of {source} could not be loaded: {error}", "Download it again, or save it anew."
        ) from error
    model = loaded.requires_grad_(False).eval().to(generator.device)
    assert isinstance(model, nn.Module)
    return model


def _source(generator: Generator) -> str:
    path = Path(generator.model)
    return str(path) if path.is_dir() else generator.model


def encoder_entries(index: dict[str, Any]) -> dict[str, tuple[str, str]]:
    """Those of a `model_index.json` that training needs no weights of: library and class by component name."""
    entries = {name: tuple(entry) for name, entry in index.items() if isinstance(entry, list) and entry[0]}
    return {
        name: entry
        for name, entry in entries.items()
        if name in (VAE, IMAGE_ENCODER) or name.startswith("text_encoder")
    }


def _is_model(library: str, kind: str) -> bool:
    cls = _class(library, kind) if library == "transformers" or loads_as_diffusers(library) else None
    return isinstance(cls, type) and issubclass(cls, nn.Module)


def _class(library: str, kind: str) -> Any:
    return getattr(importlib.import_module(library), kind)
