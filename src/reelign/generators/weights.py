"""Loading weights strictly: every weight a model has is in its file, and every weight in the file is used."""

from __future__ import annotations

import importlib
from typing import Any

import torch
from torch import nn

from reelign.errors import ReelignError


def load_models(source: str, index: dict[str, Any], precision: dict[str, torch.dtype]) -> dict[str, Any]:
    """The models of a pipeline by component name, to hand to its `from_pretrained`.

    diffusers and transformers themselves only log what does not fit: they leave missing weights empty or random and
    drop those that a class has no place for, under which a model runs and makes something else.

    Args:
        source: the pipeline's folder or hub id.
        index: its `model_index.json`.
        precision: dtype by component name; "default" for the others.
    Raises:
        ReelignError: a weight is missing, has another shape or no place.
    """
    models: dict[str, Any] = {}
    for name, entry in index.items():
        kind = _model_class(entry)
        if kind is not None:
            dtype = precision.get(name, precision["default"])
            models[name], report = _load(kind, source, name, dtype)
            _check(report, f"{name} of {source}", f"{entry[1]} as this version of {entry[0]} knows it")
    return models


def _model_class(entry: Any) -> Any:
    """The class of a component that has weights; None of the others."""
    import diffusers
    import transformers

    if not isinstance(entry, list) or not (loads_as_diffusers(entry[0]) or entry[0] == "transformers"):
        return None
    kind = getattr(importlib.import_module(entry[0]), entry[1], None)
    models = (diffusers.ModelMixin, transformers.PreTrainedModel)
    return kind if isinstance(kind, type) and issubclass(kind, models) else None


def _load(kind: Any, source: str, name: str, dtype: torch.dtype) -> tuple[nn.Module, dict[str, Any]]:
    from transformers.utils import logging

    logging.disable_progress_bar()
    # What does not fit is raised by the caller; the table that transformers prints of it says it may be ignored.
    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()
    own: dict[str, Any] = {"dtype": dtype, "ignore_mismatched_sizes": True}  # these are in the report too
    if loads_as_diffusers(kind.__module__):
        own = {"torch_dtype": dtype}
    try:
        model, report = kind.from_pretrained(source, subfolder=name, output_loading_info=True, **own)
    finally:
        logging.set_verbosity(verbosity)
    return model, report


def _check(report: dict[str, Any], what: str, known: str) -> None:
    """Refuse a loading report that names anything."""
    troubles = {
        "missing_keys": "lacks",
        "unexpected_keys": "holds, without a place for it,",
        "mismatched_keys": "has in another shape",
    }
    for problem, trouble in troubles.items():
        names = sorted(str(each if isinstance(each, str) else each[0]) for each in report.get(problem) or ())
        if names:
            more = f" and {len(names) - 1} more" if len(names) > 1 else ""
            raise ReelignError(
                f"The {what} {trouble} the weight {names[0]}{more}.",
                f"Download it again, or check that it is a {known}.",
            )


def loads_as_diffusers(library: str | None) -> bool:
    """Whether classes of a library in a `model_index.json` load as diffusers' own do: those of families here do too."""
    return library is not None and (library.partition(".")[0] in ("diffusers", "reelign"))


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
