"""Loading weights strictly: every weight a model has is in its file, and every weight in the file is used."""

from __future__ import annotations

import importlib
from typing import Any

import torch
from torch import nn

from reelign.errors import ReelignError


def load_models(source: str, index: dict[str, Any], precision: dict[str, torch.dtype]) -> dict[str, Any]:
    """The diffusers models of a pipeline by component name, to hand to its `from_pretrained`.

    diffusers itself only logs what does not fit: it leaves missing weights empty and drops those that its class has
    no place for, under which a model runs and makes something else.

    Args:
        source: the pipeline's folder or hub id.
        index: its `model_index.json`.
        precision: dtype by component name; "default" for the others.
    Raises:
        ReelignError: a weight is missing or has no place.
    """
    import diffusers

    models: dict[str, Any] = {}
    for name, entry in index.items():
        if not isinstance(entry, list) or not loads_as_diffusers(entry[0]):
            continue
        kind = getattr(importlib.import_module(entry[0]), entry[1], None)
        if kind is None or not issubclass(kind, diffusers.ModelMixin):
            continue
        models[name], report = kind.from_pretrained(
            source,
            subfolder=name,
            torch_dtype=precision.get(name, precision["default"]),
            output_loading_info=True,
        )
        for problem, trouble in (("missing_keys", "lacks"), ("unexpected_keys", "holds, without a place for it,")):
            names = sorted(report[problem])
            if names:
                more = f" and {len(names) - 1} more" if len(names) > 1 else ""
                raise ReelignError(
                    f"The {name} of {source} {trouble} the weight {names[0]}{more}.",
                    f"Download it again, or check that it is a {entry[1]} as this version of diffusers knows it.",
                )
    return models


def loads_as_diffusers(library: str | None) -> bool:
    """Whether classes of a library in a `model_index.json` load as diffusers' own do: those of families here do too."""
    return library is not None and (library == "diffusers" or library.startswith("reelign."))


def as_loaded(model: nn.Module, dtype: torch.dtype) -> nn.Module:
    """A new model in the precision that loading would give it: modules that its class keeps in fp32 stay so."""
    # Of transformers' two lists the first is meant for float16 alone; diffusers has one, for both.
    lists = ["_keep_in_fp32_modules_strict"]
    if dtype == torch.float16 or type(model).__module__.startswith("diffusers"):
        lists.append("_keep_in_fp32_modules")
    kept = {part for name in lists for part in getattr(model, name, None) or ()}
    for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
        if tensor.is_floating_point() and not kept & set(name.split(".")):
            tensor.data = tensor.data.to(dtype)
    return model
