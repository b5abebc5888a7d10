"""What prompts are made of: categories with words of their own, attributes that go with all, and how to put them."""

from __future__ import annotations

import string
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from reelign.errors import ReelignError
from reelign.naming import is_object_name, named_object

WORDS = {
    "everyday": "reelign.recipes.prompts.everyday:EVERYDAY",
    "spriteworld": "reelign.spriteworld.prompts:WORDS",
}
"""Words that come with reelign. Any others are a YAML file's, or named as `package.module:object`."""
OF_MODELS = {"spriteworld": "spriteworld"}
"""Models that understand their own words alone; any other takes `everyday`."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Category:
    """One kind of prompt."""

    name: str
    template: str
    """With a {place} for each kind of word, such as 'a {subject} {action} {scene}'."""
    words: Mapping[str, tuple[str, ...]]
    """Kind of word -> the words; one of each is drawn."""


def load_words(source: str) -> list[Category]:
    """The categories of a name of `WORDS`, of a YAML file, or of `package.module:object`.

    All hold the same: {"template": ..., "attributes": {kind: [words]}, "categories": {name: {kind: [words]}}}. A
    category may have a `template` of its own; its words go before attributes of the same kind.

    Raises:
        ReelignError: an unknown name, or what does not have this form.
    """
    target = WORDS.get(source, source)
    held: Any
    if target.endswith((".yaml", ".yml")):
        try:
            held = yaml.safe_load(Path(target).read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
            raise ReelignError(f"The words in {target} cannot be read: {error}", "Give a YAML file.") from error
    elif is_object_name(target):
        held = named_object(target, "words")
    else:
        raise ReelignError(
            f"There are no words called {source!r}.", f"Known are {', '.join(WORDS)}; or give a YAML file."
        )
    return read_words(held, source)


def read_words(held: Any, source: str) -> list[Category]:
    """The categories of a mapping, see `load_words`; `source` names it in messages."""
    mend = "Write template, attributes: {KIND: [WORDS]} and categories: {NAME: {KIND: [WORDS]}}, see docs/prompts.md."
    if not isinstance(held, Mapping) or not isinstance(held.get("categories"), Mapping) or not held["categories"]:
        raise ReelignError(f"The words of {source} have no categories.", mend)
    unknown = set(held) - {"template", "attributes", "categories"}
    if unknown:
        raise ReelignError(f"The words of {source} have an unknown key {sorted(unknown)[0]!r}.", mend)
    shared = _kinds(held.get("attributes") or {}, f"{source}, attributes", mend)
    found = []
    for name, own in held["categories"].items():
        where = f"{source}, category {name}"
        if not isinstance(own, Mapping):
            raise ReelignError(f"The words of {where} are {own!r}.", mend)
        template = own.get("template", held.get("template", ""))
        words = shared | _kinds({kind: each for kind, each in own.items() if kind != "template"}, where, mend)
        found.append(Category(name=str(name), template=str(template), words=_wanted(str(template), words, where, mend)))
    return found


def _kinds(held: Any, where: str, mend: str) -> dict[str, tuple[str, ...]]:
    if not isinstance(held, Mapping):
        raise ReelignError(f"The words of {where} are {held!r}.", mend)
    for kind, words in held.items():
        if not isinstance(words, list | tuple) or not words or not all(isinstance(word, str) for word in words):
            raise ReelignError(f"The words of {where}, {kind} are {words!r}.", "Give a list of texts.")
    return {str(kind): tuple(words) for kind, words in held.items()}


def _wanted(template: str, words: Mapping[str, tuple[str, ...]], where: str, mend: str) -> dict[str, tuple[str, ...]]:
    """The words that a template has a place for."""
    try:
        places = [place for _, place, _, _ in string.Formatter().parse(template) if place is not None]
    except ValueError as error:
        raise ReelignError(f"The template of {where} is not valid: {error}.", mend) from error
    missing = [place for place in places if place not in words]
    if missing or not places:
        lacks = f"has no words for {{{missing[0]}}}" if missing else "has no template with places"
        raise ReelignError(f"The category {where} {lacks}.", mend)
    return {place: words[place] for place in dict.fromkeys(places)}
