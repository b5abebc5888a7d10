"""Published models by their configuration alone: shapes without weights, and without a network.

`published.json` has the sizes of each component as the public config.json files state them (and, for Wan and CogVideoX,
diffusers' scripts that convert the original checkpoints). What a tokenizer would say of a text is its padded length.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import torch

from reelign.generators import GENERATORS, load_generator, resolve_model
from reelign.generators.base import Generator
from reelign.generators.encoders import META
from reelign.generators.weights import as_loaded, loads_as_diffusers
from reelign.naming import named_object

PLACEHOLDER_TOKENS = 8
"""Of a text that is not padded."""


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

    def batch_decode(self, ids: Sequence[Any], **others: Any) -> list[str]:
        return [""] * len(ids)


@functools.cache
def published_configs() -> dict[str, dict[str, Any]]:
    """Component configs by hub id."""
    found: dict[str, dict[str, Any]] = json.loads(Path(__file__).with_suffix(".json").read_text())
    return found


def shapes_of(model: str, *, dtype: torch.dtype = torch.bfloat16, vae_dtype: torch.dtype = torch.float32) -> Generator:
    """A generator without weights: of a folder, of a published model known here, or of a hub id's config files.

    Args:
        model: as for `load_generator`.
        dtype, vae_dtype: what its weights would be loaded in.
    Raises:
        ReelignError: as `load_generator`.
    """
    if model not in published_configs() or Path(resolve_model(model)).exists():
        return load_generator(model, dtype=dtype, vae_dtype=vae_dtype, weights=False)
    parts = dict(published_configs()[model])
    name = parts.pop("_class_name")
    family: type[Generator] = named_object(GENERATORS[name], "generator").variant(published_configs()[model])
    components = {
        # What is no component is a setting of the pipeline itself, such as the boundary between two experts.
        each: _component(entry, vae_dtype if each == "vae" else dtype) if isinstance(entry, list) else entry
        for each, entry in parts.items()
    }
    pipeline = family.pipeline_type(name)(**components)
    pipeline.set_progress_bar_config(disable=True)
    return family(pipeline, model)


def _component(entry: Sequence[Any], dtype: torch.dtype) -> Any:
    library, kind, config = entry
    if library == "tokenizer":
        return LengthTokenizer(**config)
    cls = getattr(import_module(library), kind)
    if not issubclass(cls, torch.nn.Module):
        return cls.from_config(config)
    with META:
        model = cls.from_config(config) if loads_as_diffusers(library) else cls(cls.config_class(**config))
    return as_loaded(model, dtype)
