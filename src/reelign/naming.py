"""Objects named as `package.module:object`: how a setting names what is in none of reelign's tables."""

from __future__ import annotations

import importlib
from difflib import get_close_matches
from typing import Any

from reelign.errors import ReelignError


def is_object_name(name: str) -> bool:
    """Whether it has the form `package.module:object`; what it names may still be missing."""
    module, colon, attribute = name.partition(":")
    return bool(module and colon and attribute)


def named_object(name: str, what: str) -> Any:
    """Import what `package.module:object` or `package.module:object.attribute` names.

    Args:
        name: of that form (`is_object_name`).
        what: such as "judge", for messages.
    Raises:
        ReelignError: the module cannot be imported, or has no such object; the mend has the nearest name.
    """
    module, _, attribute = name.partition(":")
    try:
        found: Any = importlib.import_module(module)
    except ImportError as error:
        raise ReelignError(
            f"the {what}'s module {module!r} cannot be imported: {error}",
            "Check the spelling; a module in the current folder needs PYTHONPATH=. before the command.",
        ) from error
    for part in attribute.split("."):
        if not hasattr(found, part):
            near = get_close_matches(part, dir(found), n=1)
            raise ReelignError(
                f"module {module!r} has no {attribute!r}",
                f"Did you mean {near[0]!r}?" if near else "Check the spelling after the colon.",
            )
        found = getattr(found, part)
    return found
