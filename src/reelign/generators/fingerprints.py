"""What tells one model's files from another's: part of a generator's identity, in records and cache keys."""

from __future__ import annotations

import hashlib
import json
from dataclasses import fields
from pathlib import Path

from reelign.generators.defaults import SamplingDefaults, values_beside


def fingerprint(model: str) -> str:
    """12 hex digits that change when a model's files do.

    A folder's are of its components' files: name, size and first and last MiB of each. A changed weight changes them in
    practice, and a 28 GB checkpoint takes no minute to read. A hub id's is of the commit in the local cache. What a
    `reelign.json` says beside size, steps and scale, which are recorded with every video, counts too.
    """
    digest = hashlib.sha256()
    folder = Path(model)
    if not folder.is_dir():
        from huggingface_hub import try_to_load_from_cache

        # .../snapshots/<commit>/model_index.json
        cached = try_to_load_from_cache(model, "model_index.json")
        digest.update(f"{model}@{Path(cached).parent.name if isinstance(cached, str) else 'main'}".encode())
        return digest.hexdigest()[:12]
    for path in _model_files(folder):
        size = path.stat().st_size
        digest.update(f"{path.relative_to(folder)}:{size}".encode())
        with path.open("rb") as file:
            digest.update(file.read(1 << 20))
            if size > 1 << 20:
                file.seek(max(1 << 20, size - (1 << 20)))
                digest.update(file.read())
    recorded = {field.name for field in fields(SamplingDefaults)}
    if further := {name: value for name, value in values_beside(model).items() if name not in recorded}:
        digest.update(json.dumps(further, sort_keys=True).encode())
    return digest.hexdigest()[:12]


def _model_files(folder: Path) -> list[Path]:
    """What makes the videos; prompts, settings and notes that lie in the folder too are no part of the model."""
    index = folder / "model_index.json"
    parts = json.loads(index.read_text()) if index.is_file() else {path.name for path in folder.iterdir()}
    files = (path for part in parts for path in (folder / part, *(folder / part).rglob("*")) if path.is_file())
    return sorted([*files, *([index] if index.is_file() else [])])
