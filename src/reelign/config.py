"""From YAML and `key=value` to validated settings: unknown keys refused, every error with its file, key and mend."""

from __future__ import annotations

import dataclasses
import difflib
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

import yaml
from pydantic import ConfigDict, TypeAdapter, ValidationError

from reelign.errors import ReelignError

T = TypeVar("T")
Layer = tuple[str, Mapping[str, Any]]
"""Where some settings come from, and the settings."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelSettings:
    """How the model is loaded."""

    device: str = "auto"
    """`auto` takes a GPU where there is one."""
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """`auto` is bfloat16 on a GPU and float32 on the CPU."""
    vae_dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    """Of the VAE: bfloat16 halves what decoding holds, and rounds what is decoded. Latents and pixels are float32."""


def resolve(kind: type[T], layers: Sequence[Layer]) -> T:
    """Validated settings from layers, later ones over earlier ones over the defaults of `kind`.

    Raises:
        ReelignError: an unknown key or a wrong type, with where it stands and the nearest valid key.
    """
    adapter = _adapter(kind)
    merged: dict[str, Any] = adapter.dump_python(kind())
    for _, layer in layers:
        merged = _merge(merged, layer)
    try:
        return adapter.validate_python(merged)
    except ValidationError as error:
        raise _explain(error, kind, layers) from None


def resolve_one_of(kinds: Mapping[str, type[Any]], tag: str, layers: Sequence[Layer]) -> Any:
    """Validated settings of the kind that the last word on the field `tag` names; the first kind where none does.

    What an earlier layer says for another kind carries over where both kinds have the field and mean the same by it;
    what only the other kind knows is left behind with it. What neither knows is refused as ever.

    Args:
        kinds: the tag's values and their dataclasses, each with a field `tag` of that value.
        tag: the field that tells them apart.
        layers: as for `resolve`.
    Raises:
        ReelignError: as `resolve`, or a kind that there is not.
    """
    said, own = next(iter(kinds)), []
    for name, layer in layers:
        said = layer.get(tag, said)
        if said not in kinds:
            near = difflib.get_close_matches(str(said), kinds, n=1)
            hint = f"Did you mean {near[0]!r}? " if near else ""
            raise ReelignError(f"{name}: {tag} = {said!r} is not valid.", f"{hint}There are: {', '.join(kinds)}.")
        own.append(said)
    kind, wanted = kinds[said], typing.get_type_hints(kinds[said])
    carried: list[Layer] = []
    for (name, layer), theirs in zip(layers, own, strict=True):
        if theirs != said:
            others = typing.get_type_hints(kinds[theirs])
            keys = [key for key in layer if key not in others or (key in wanted and others[key] == wanted[key])]
            layer = {key: layer[key] for key in keys}
        carried.append((name, layer))
    return resolve(kind, carried)


def schema(*kinds: type[Any]) -> dict[str, Any]:
    """JSON Schema of a settings dataclass, or of any one of several, for editors."""
    if len(kinds) == 1:
        return _adapter(kinds[0]).json_schema()
    for kind in kinds:
        _forbid_extra(kind)
    union: Any = typing.Union[kinds]  # noqa: UP007 (which kinds is not known before the call)
    return TypeAdapter(union).json_schema()


def read_yaml(path: Path) -> dict[str, Any]:
    """A YAML mapping from a file."""
    try:
        loaded = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ReelignError(f"There is no config file {path}.", "Check the path.") from error
    except (OSError, UnicodeDecodeError) as error:
        raise ReelignError(f"{path} cannot be read as a config file: {error}.", "Give a YAML text file.") from error
    except yaml.YAMLError as error:
        raise ReelignError(f"{path} is not valid YAML: {_yaml_problem(error)}.", "Correct it.") from error
    if loaded is None:
        return {}
    if not isinstance(loaded, dict):
        raise ReelignError(
            f"{path} must hold keys and values, not {type(loaded).__name__}.", "Write `key: value` lines."
        )
    return loaded


def parse_overrides(words: Sequence[str]) -> Layer:
    """`objective.beta=500` words from the command line, values read as YAML."""
    nested: dict[str, Any] = {}
    for word in words:
        key, equals, value = word.partition("=")
        if not equals or not key:
            raise ReelignError(f"{word!r} is not an override.", "Write key=value, for example trainer.steps=200.")
        node = nested
        *parents, last = key.split(".")
        for parent in parents:
            node = node.setdefault(parent, {})
            if not isinstance(node, dict):
                raise ReelignError(f"{word!r} contradicts the value given for {parent!r} before.", "Leave one out.")
        node[last] = _override_value(word, value)
    return "the command line", nested


def _override_value(word: str, value: str) -> Any:
    """The value as YAML; nothing after the `=` is an empty text, as in a shell."""
    try:
        return yaml.safe_load(value) if value else ""
    except yaml.YAMLError as error:
        raise ReelignError(
            f"the command line: the value of {word!r} is not valid YAML: {_yaml_problem(error)}.",
            "Quote text that holds YAML's own signs: key='\"[text\"'.",
        ) from error


def _yaml_problem(error: yaml.YAMLError) -> str:
    mark = getattr(error, "problem_mark", None)
    problem = getattr(error, "problem", None) or str(error).splitlines()[0]
    return f"{problem} in line {mark.line + 1}" if mark else problem


def _adapter(kind: type[T]) -> TypeAdapter[T]:
    _forbid_extra(kind)
    return TypeAdapter(kind)


def _forbid_extra(kind: Any) -> None:
    """Set pydantic's config on the plain dataclasses, so that floors below need not know of pydantic."""
    for part in dataclass_parts(kind):
        part.__pydantic_config__ = ConfigDict(extra="forbid")


def dataclass_parts(kind: Any) -> list[Any]:
    """The dataclass and all dataclasses in its fields' types."""
    found = [kind]
    for hint in typing.get_type_hints(kind).values():
        for inner in (hint, *typing.get_args(hint)):
            if dataclasses.is_dataclass(inner) and inner not in found:
                found += dataclass_parts(inner)
    return found


def _merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in over.items():
        old = merged.get(key)
        if not isinstance(old, Mapping) or not isinstance(value, Mapping):
            merged[key] = value
        elif value.get("name", old.get("name")) != old.get("name"):
            # Another `name` is another kind of thing: the defaults of the old kind are no keys of the new one.
            merged[key] = dict(value)
        else:
            merged[key] = _merge(old, value)
    return merged


MENDS = {
    "tuple_type": "Give a list: [one, two].",
    "string_type": "Give a text; what YAML reads as a number or as true or false is one in quotes: '\"on\"'.",
}
"""Of what pydantic says in Python's words, or without knowing of YAML."""


def _explain(error: ValidationError, kind: Any, layers: Sequence[Layer]) -> ReelignError:
    # Of a key with a typo, the field that is missing for it is no news.
    unknown = ("unexpected_keyword_argument", "extra_forbidden")
    first = min(error.errors(), key=lambda each: each["type"] not in unknown)
    key, owners = _locate(kind, [str(part) for part in first["loc"]])
    if first["type"] in unknown:
        valid = sorted({field.name for owner in owners for field in dataclasses.fields(owner)})
        near = difflib.get_close_matches(key.rpartition(".")[2], valid, n=1, cutoff=0.5)
        mend = f"Did you mean {near[0]!r}? " if near else ""
        where = _origin(layers, key)
        return ReelignError(f"{where}: there is no key {key!r}.", f"{mend}Valid keys here: {', '.join(valid)}.")
    expected = first["msg"].removeprefix("Value error, ")
    if first["type"] == "value_error":
        # A dataclass refused its own values: by custom the message begins with the field's name and holds its value.
        field = ".".join(part for part in (key, expected.split()[0]) if part)
        return ReelignError(f"{_origin(layers, field)}: {field} is not valid: {expected}.", "Give another value.")
    mend = MENDS.get(first["type"], f"{expected[:1].upper()}{expected[1:]}.")
    return ReelignError(f"{_origin(layers, key)}: {key} = {first['input']!r} is not valid.", mend)


def _locate(kind: Any, path: Sequence[str]) -> tuple[str, list[Any]]:
    """The key as a user writes it, and the dataclasses of which its last part is, or should be, a field.

    pydantic puts the tag of a union's member into an error's path; users never wrote it.
    """
    owners = inside = [kind]
    key: list[str] = []
    for part in path:
        chosen = [member for member in inside if part in _tags(member)] if len(inside) > 1 else []
        if chosen:
            inside = chosen
            continue
        key.append(part)
        if part.isdigit():
            continue  # a place in a list: its field was found with the list's own name
        owners = inside
        hints = [typing.get_type_hints(owner).get(part) for owner in owners]
        members = [inner for hint in hints for inner in (hint, *typing.get_args(hint))]
        inside = [member for member in members if dataclasses.is_dataclass(member)]
    return ".".join(key), owners


def _tags(member: Any) -> set[str]:
    return {member.__name__, *(str(field.default) for field in dataclasses.fields(member) if field.name == "name")}


def _origin(layers: Sequence[Layer], key: str) -> str:
    """The layer that has the last word on a key."""
    return next((name for name, layer in reversed(layers) if _holds(layer, key)), "the settings")


def _holds(layer: Any, key: str) -> bool:
    for part in key.split("."):
        if isinstance(layer, list | tuple) and part.isdigit() and int(part) < len(layer):
            layer = layer[int(part)]
        elif isinstance(layer, Mapping) and part in layer:
            layer = layer[part]
        else:
            return False
    return True
