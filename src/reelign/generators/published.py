"""Published models by their configuration alone: shapes without weights, and without a network.

`published.json` has the sizes of each component and, under `_from`, where they were read: in the public config.json
files or in diffusers' scripts that convert the original checkpoints. A component that is a hub id there is that
model's own. `_size` is the usual one of a checkpoint, frames, height and width, where it is not its family's; `_folder`
where the guides put a pipeline that is made of published parts. What a tokenizer would say of a text is its padded
length.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import torch

from reelign.generators import GENERATORS, load_generator
from reelign.generators.base import Generator, VideoSize
from reelign.generators.encoders import IMAGE_ENCODER, META, VAE
from reelign.generators.weights import as_loaded, loads_as_diffusers
from reelign.naming import named_object

PLACEHOLDER_TOKENS = 8
"""Of a text that is not padded."""
NO_TOKEN = -1
"""The id of a word that no text has."""


class Lengths(dict[str, torch.Tensor]):
    """`input_ids` and `attention_mask` as a tokenizer gives them, by key and by name."""

    def __getattr__(self, name: str) -> torch.Tensor:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(name) from None


class LengthTokenizer:
    """In the place of a tokenizer whose words are not at hand: ids of the length that it would pad to."""

    def __init__(self, model_max_length: int) -> None:
        self.model_max_length = model_max_length
        self.added_tokens_encoder: dict[str, int] = {}

    def tokenize(self, text: str) -> list[str]:
        return text.split()

    def __call__(
        self, texts: str | Sequence[str], *, padding: Any = False, max_length: int | None = None, **others: Any
    ) -> Lengths:
        rows = 1 if isinstance(texts, str) else len(texts)
        length = (max_length or self.model_max_length) if padding == "max_length" else PLACEHOLDER_TOKENS
        ones = torch.ones(rows, length, dtype=torch.long)
        return Lengths(input_ids=ones, attention_mask=ones.clone())

    def apply_chat_template(self, conversations: Sequence[Any], **settings: Any) -> Lengths:
        return self([""] * len(conversations), **settings)

    def convert_tokens_to_ids(self, token: str) -> int:
        return NO_TOKEN

    def batch_decode(self, ids: Sequence[Any], **others: Any) -> list[str]:
        return [""] * len(ids)


@functools.cache
def published_configs() -> dict[str, dict[str, Any]]:
    """Component configs by hub id."""
    found: dict[str, dict[str, Any]] = json.loads(Path(__file__).with_suffix(".json").read_text())
    return {model: {name: _shared(found, name, each) for name, each in own.items()} for model, own in found.items()}


def _shared(configs: dict[str, dict[str, Any]], name: str, entry: Any) -> Any:
    """What stands under a name, or the same of the model that is named in its place."""
    return configs[entry][name] if isinstance(entry, str) and entry in configs else entry


def published_name(model: str) -> str:
    """The hub id under which a model's sizes are known, of a folder that the guides name too; '' is none."""
    if Path(model).exists():
        return ""
    return next((name for name, each in published_configs().items() if model in (name, each.get("_folder"))), "")


def usual_size(generator: Generator) -> VideoSize:
    """Of a published model's clips: its checkpoint's own, or its family's."""
    own = published_configs().get(generator.model, {}).get("_size")
    return generator.defaults.size if own is None else VideoSize(*own)


def shapes_of(model: str, *, dtype: torch.dtype = torch.bfloat16, vae_dtype: torch.dtype = torch.float32) -> Generator:
    """A generator without weights: of a folder, of a published model known here, or of a hub id's config files.

    Args:
        model: as for `load_generator`.
        dtype, vae_dtype: what its weights would be loaded in.
    Raises:
        ReelignError: as `load_generator`.
    """
    known = published_name(model)
    if not known:
        return load_generator(model, dtype=dtype, vae_dtype=vae_dtype, weights=False)
    config = published_configs()[known]
    name = config["_class_name"]
    family: type[Generator] = named_object(GENERATORS[name], "generator").variant(config)
    precision = {VAE: vae_dtype, IMAGE_ENCODER: torch.float32}
    components = {
        # What is no component is a setting of the pipeline itself, such as the boundary between two experts.
        each: _component(entry, precision.get(each, dtype)) if isinstance(entry, list) else entry
        for each, entry in config.items()
        if not each.startswith("_")
    }
    pipeline = family.pipeline_type(name)(**components)
    pipeline.set_progress_bar_config(disable=True)
    return family(pipeline, known)


def _component(entry: Sequence[Any], dtype: torch.dtype) -> Any:
    library, kind, config = entry
    if library == "tokenizer":
        return LengthTokenizer(**config)
    cls = getattr(import_module(library), kind)
    if not issubclass(cls, torch.nn.Module):
        return cls(**config) if library == "transformers" else cls.from_config(config)
    with META:
        model = cls.from_config(config) if loads_as_diffusers(library) else cls(cls.config_class(**config))
    return as_loaded(model, dtype)
