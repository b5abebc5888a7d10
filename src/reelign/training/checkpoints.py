"""Checkpoints that are whole or not there: written beside, flushed, renamed."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from reelign.errors import ReelignError, disk_is_full


@dataclass(frozen=True)
class Checkpoint:
    """Everything a run needs to go on as if it had never stopped."""

    step: int
    """Optimiser steps done."""
    weights: dict[str, Tensor]
    optimisers: list[dict[str, Any]]
    stream: dict[str, Any]
    ema: dict[str, Tensor] | None = None
    reference: dict[str, Tensor] | None = None
    """Of a reference that moves."""
    extra: dict[str, Any] = field(default_factory=dict)
    """What else has a state, as JSON: the step, monitors, the count of skipped steps."""


def save_checkpoint(folder: Path, checkpoint: Checkpoint, *, keep: int) -> Path:
    """Write `folder/step-NNNNNN` atomically and drop all but the newest `keep`.

    Raises:
        ReelignError: the disk is full; earlier checkpoints are untouched and the partial one is removed.
    """
    final = folder / f"step-{checkpoint.step:06d}"
    partial = folder / f".{final.name}.partial"
    try:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        save_file(
            {name: tensor.cpu().contiguous() for name, tensor in checkpoint.weights.items()},
            partial / "weights.safetensors",
        )
        for kind, held in (("ema", checkpoint.ema), ("reference", checkpoint.reference)):
            if held is not None:
                save_file(
                    {name: tensor.cpu().contiguous() for name, tensor in held.items()}, partial / f"{kind}.safetensors"
                )
        # Through Python's own file: torch's writer says of a full disk only that its position is unexpected.
        with (partial / "optimiser.pt").open("wb") as file:
            torch.save(checkpoint.optimisers, file)
        state = {"step": checkpoint.step, "stream": checkpoint.stream, "extra": checkpoint.extra}
        (partial / "state.json").write_text(json.dumps(state))
        _flush(partial)
        shutil.rmtree(final, ignore_errors=True)
        os.replace(partial, final)
        _flush_folder(folder)
    except Exception as error:
        shutil.rmtree(partial, ignore_errors=True)
        if disk_is_full(error):
            raise ReelignError(
                f"The disk is full: checkpoint {final.name} could not be written to {folder}.",
                "Free some space and run the same command again; it goes on from the last whole checkpoint.",
            ) from error
        raise
    for old in checkpoint_folders(folder)[:-keep]:
        shutil.rmtree(old)
    return final


def checkpoint_folders(folder: Path) -> list[Path]:
    """Whole checkpoints, oldest first; a partial one never carries this name."""
    return sorted(folder.glob("step-*")) if folder.is_dir() else []


def load_checkpoint(folder: Path) -> Checkpoint | None:
    """The newest checkpoint in `folder`, or None."""
    found = checkpoint_folders(folder)
    if not found:
        return None
    newest = found[-1]
    try:
        state = json.loads((newest / "state.json").read_text())
        ema, reference = (
            load_file(path) if (path := newest / f"{file}.safetensors").exists() else None
            for file in ("ema", "reference")
        )
        return Checkpoint(
            step=state["step"],
            weights=load_file(newest / "weights.safetensors"),
            optimisers=torch.load(newest / "optimiser.pt", weights_only=True),
            stream=state["stream"],
            ema=ema,
            reference=reference,
            extra=state.get("extra", {}),
        )
    except Exception as error:
        raise ReelignError(
            f"The checkpoint {newest} cannot be read: {error}",
            "Remove that folder; the run then goes on from the checkpoint before it.",
        ) from error


def _flush(folder: Path) -> None:
    for path in folder.iterdir():
        with path.open("rb") as file:
            os.fsync(file.fileno())
    _flush_folder(folder)


def _flush_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
