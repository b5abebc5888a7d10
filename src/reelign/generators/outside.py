"""Families that a model's own files name: kept outside the package, or another of its own for the same weights."""

from __future__ import annotations

from reelign.errors import ReelignError
from reelign.generators.base import Generator
from reelign.generators.defaults import FAMILY_KEY, file_beside, values_beside
from reelign.naming import is_object_name, named_object


def family_beside(source: str) -> type[Generator] | None:
    """The class that the `reelign.json` beside a model's weights names as its `generator`, `package.module:Class`.

    None where there is no such file, or none is named in it.

    Raises:
        ReelignError: the file is damaged, or what it names cannot be imported or is no family.
    """
    path, name = file_beside(source), values_beside(source).get(FAMILY_KEY)
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
