"""What became of each stage of a round: from which inputs, under which settings, to which outputs, and when.

A stage that is on record with its outputs as they were is not done again; inputs or outputs that differ from the record
are refused, so that everything in a manifest can be traced back to prompts, model and seeds.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reelign.errors import ReelignError
from reelign.files import write_text
from reelign.training.ranks import ALONE, Ranks

Record = dict[str, Any]
"""JSON: numbers, texts, lists and dicts."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Stage:
    """One stage of a round as it is asked for."""

    name: str
    inputs: Record
    """What it works on, by name: keys of contents, ids of models and weights."""
    settings: Record
    work: Callable[[], Record]
    """Does the stage and returns its outputs, by name to keys of contents; called again it goes on."""
    intact: Callable[[Record], bool]
    """Whether outputs on record are still there as they were."""


def run_stage(path: Path, stage: Stage, ranks: Ranks = ALONE, *, alone: bool = True) -> Record:
    """The outputs of a stage, which is done unless the manifest at `path` has it on record and they are all there.

    Args:
        path: the round's manifest.
        stage: what to do.
        ranks: the processes of the run.
        alone: the main rank works while the others wait; else all work together.
    Raises:
        ReelignError: the record is of other inputs or settings, or work that was lost came out differently.
    """
    if alone:
        with ranks.first():
            if ranks.main and not _is_done(path, stage):
                _do(path, stage)
    elif ranks.any(ranks.main and not _is_done(path, stage))[0]:
        began = _Began()
        outputs = stage.work()
        with ranks.first():
            if ranks.main:
                _note(path, stage, outputs, began)
    found: Record = read_manifest(path)["stages"][stage.name]["outputs"]
    return found


def read_manifest(path: Path) -> Record:
    """What is on record at a path; nothing where there is no file."""
    if not path.exists():
        return {}
    try:
        found: Record = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ReelignError(f"{path} is no manifest: {error}.", "Put the file back, or remove its run.") from error
    return found


def write_manifest(path: Path, content: Mapping[str, Any]) -> None:
    """Write a manifest, whole or not at all."""
    write_text(path, json.dumps(plain(content), indent=1, allow_nan=False) + "\n")


def file_key(path: Path) -> str:
    """SHA-256 of a file in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def plain(content: Any) -> Any:
    """What JSON gives back of a content: tuples become lists, and keys texts."""
    return json.loads(json.dumps(content, default=str))


class _Began:
    """When a call began; what a kill cut off before it is not counted."""

    def __init__(self) -> None:
        self.at, self.clock = _now(), time.monotonic()

    def times(self) -> Record:
        return {"began": self.at, "finished": _now(), "seconds": round(time.monotonic() - self.clock, 2)}


def _do(path: Path, stage: Stage) -> None:
    began = _Began()
    _note(path, stage, stage.work(), began)


def _is_done(path: Path, stage: Stage) -> bool:
    """Whether the stage is on record with outputs that are still there."""
    known = read_manifest(path).get("stages", {}).get(stage.name)
    if known is None:
        return False
    for part, wanted in (("inputs", plain(stage.inputs)), ("settings", plain(stage.settings))):
        changed = _differs(known[part], wanted)
        if changed is not None:
            raise ReelignError(
                f"{path.parent.name}: the stage {stage.name} of {path.stem} was done with other {part}: {changed}.",
                "Put them back, or give these rounds a name of their own (run=NAME).",
            )
    return stage.intact(known["outputs"])


def _note(path: Path, stage: Stage, outputs: Record, began: _Began) -> None:
    """Put a stage on record; one whose lost outputs were made anew must have come out as before."""
    manifest, outputs = read_manifest(path), plain(outputs)
    stages = manifest.get("stages", {})
    if stage.name in stages:
        changed = _differs(stages[stage.name]["outputs"], outputs)
        if changed is not None:
            raise ReelignError(
                f"{path.parent.name}: the outputs of {stage.name} of {path.stem} were lost, and came out differently "
                f"when they were made again: {changed}.",
                "Begin again under a name of its own (run=NAME), on one kind of machine.",
            )
    record = {"inputs": stage.inputs, "settings": stage.settings, "outputs": outputs, **began.times()}
    write_manifest(path, {**manifest, "stages": {**stages, stage.name: record}})


def _differs(before: Record, after: Record) -> str | None:
    """The first value that is not the same, in words."""
    for key in {**before, **after}:
        if before.get(key) != after.get(key):
            return f"{key} was {short(before.get(key))} and is {short(after.get(key))}"
    return None


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def short(value: Any) -> str:
    """A value in a sentence, cut where it is long."""
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
