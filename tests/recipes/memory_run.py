"""A training that measures, in the middle of a step, what weights its process holds."""

from __future__ import annotations

import gc
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import nn

from recipes.long_run import random_preferences, settings
from reelign.generators import load_generator
from reelign.recipes.offline.align import align
from reelign.records import Workspace

LARGE = 4096
"""Bytes of a tensor that may be a weight; smaller ones are many and belong to nobody."""


def measure(model: str, folder: Path, run: str) -> None:
    """Train, and in the middle of a step hold what is there against the denoiser and its adapter."""
    workspace = Workspace.create(folder, model=model)
    data = random_preferences(folder)
    generator = load_generator(model, encoders=False)
    transformer = generator.denoisers["transformer"]
    seen: list[tuple[int, int]] = []

    def look(*_: Any) -> None:
        if len(seen) < 3:
            own = {each.untyped_storage().data_ptr() for each in transformer.parameters()}
            seen.append((weights(own, inside=True), weights(own, inside=False)))

    transformer.register_forward_pre_hook(look)
    align(workspace, generator, replace(settings(3, 2), run=run), data=data)
    parameters = sum(each.nbytes for each in transformer.parameters() if each.nbytes >= LARGE)
    assert [inside for inside, _ in seen] == [parameters] * 3
    assert max(outside for _, outside in seen) == 0, seen


def weights(own: set[int], *, inside: bool) -> int:
    """Bytes of the leaf tensors that are parameters, among the model's own storages or besides."""
    found: dict[int, int] = {}
    for each in gc.get_objects():
        if type(each) is nn.Parameter and each.device.type != "meta":
            place = each.untyped_storage().data_ptr()
            if each.nbytes >= LARGE and (place in own) == inside:
                found[place] = each.nbytes
    return sum(found.values())
