"""Families that a model folder names itself: kept outside the package, or another of its own for the same weights."""

from __future__ import annotations

import json
from pathlib import Path

from reelign.errors import ReelignError
from reelign.generators.base import DEFAULTS_FILE, FAMILY_KEY, Generator
from reelign.naming import is_object_name, named_object


def family_beside(source: str) -> type[Generator] | None:
    """The class that a folder's `reelign.json` names as its `generator`, `package.module:Class`; None names none.

    Raises:
        ReelignError: the file is damaged, or what it names cannot be imported or is no family.
    """
    path = Path(source) / DEFAULTS_FILE
    if not path.is_file():
        return None
    try:
        name = dict(json.loads(path.read_text())).get(FAMILY_KEY)
    except (ValueError, TypeError) as error:
        raise ReelignError(f"{path} is damaged: {error}.", "Write a JSON object, or take the file away.") from error
    if name is None:
        return None
    if not isinstance(name, str) or not is_object_name(name):
        raise ReelignError(
            f"{path} names {name!r} as the model's generator.",
            "Name a class as package.module:Class (docs/family-of-your-own.md has an example), or leave the key out.",
        )
    found = named_object(name, "generator")
    if not (isinstance(found, type) and issubclass(found, Generator)):
        raise ReelignError(
            f"{name}, which {path} names, is no family.", "Derive the class from reelign.generators.Generator."
        )
    lacking = ", ".join(sorted(found.__abstractmethods__))
    if lacking:
        raise ReelignError(
            f"{name}, which {path} names, lacks {lacking}.",
            "Define them: the docstrings of reelign.generators.base.Generator say what each gives.",
        )
    return found
