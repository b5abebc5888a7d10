"""`plan`: what a config would hold in memory, as a Python call; no weights, no device and no workspace are needed."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from reelign.config import Layer, ModelSettings
from reelign.errors import ReelignError
from reelign.generators.published import published_configs, published_name, shapes_of
from reelign.opening import WORKSPACE_CONFIG, is_of_sections, known_model, resolve_section
from reelign.recipes.planning.memory_plan import MemoryPlan
from reelign.recipes.planning.plan import plan
from reelign.records import Workspace

SECTIONS = ("model", "generate", "align")
"""What a plan reads of a file of sections, and what a word `generate.height=480` may begin with."""


def plan_memory(
    layers: list[Layer], *, model: str = "", workspace: str | Path | None = None, given: Mapping[str, Any] | None = None
) -> MemoryPlan:
    """Predict what `align` would hold with these settings.

    Args:
        layers: files and words, later ones over earlier ones: a recipe's or workspace's sections, or the settings of
            `align` alone; among words `generate.` and `model.` reach the other sections.
        model: a hub id or folder; '' takes the workspace's, or what a recipe's header gives to `reelign init`.
        workspace: whose model and `reelign.yaml` come first.
        given: further settings of `align`.
    Raises:
        ReelignError: no model is named, or whatever the run would refuse.
    """
    own: list[Layer] = []
    if workspace is not None:
        from reelign.config import read_yaml

        opened = Workspace.open(Path(workspace))
        model = model or opened.model
        path = opened.root / WORKSPACE_CONFIG
        own = [(str(path), read_yaml(path))] if path.exists() else []
    model = model or next(filter(None, (_named_in(name) for name, _ in layers)), "")
    if not model:
        raise ReelignError(
            "The plan is of no model: neither the command nor a recipe's header names one.",
            f"Give --model, such as {next(iter(published_configs()))}, or --workspace.",
        )
    every = [*own, *layers, ("the call", given or {})]
    settings, sampling, loading = (
        resolve_section(section, [_part(layer, section) for layer in every])
        for section in ("align", "generate", "model")
    )
    name = published_name(model) or known_model(model)
    return plan(shapes_of(name, dtype=_dtype(loading), vae_dtype=getattr(torch, loading.vae_dtype)), settings, sampling)


def _dtype(loading: ModelSettings) -> torch.dtype:
    """As on a GPU, which a plan is for."""
    found: torch.dtype = getattr(torch, "bfloat16" if loading.dtype == "auto" else loading.dtype)
    return found


def _part(layer: Layer, section: str) -> Layer:
    """What a layer says of a section: a file's own, or words by their first part, `align`'s where they have none."""
    name, settings = layer
    if is_of_sections(layer) or (section != "align" and name.endswith((".yaml", ".yml"))):
        return f"{name}, under {section}", (settings.get(section) or {}) if is_of_sections(layer) else {}
    own = settings.get(section) or {}
    if section == "align":
        own = {**{key: value for key, value in settings.items() if key not in SECTIONS}, **own}
    return name, own


def _named_in(name: str) -> str:
    """The model of a recipe's header: `reelign init wan --model HUB_ID`."""
    path = Path(name)
    if path.suffix not in (".yaml", ".yml") or not path.is_file():
        return ""
    found = re.search(r"^#.*reelign init .*--model (\S+)", path.read_text(encoding="utf-8"), re.MULTILINE)
    return found[1] if found else ""
