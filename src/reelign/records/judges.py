"""What a judge is, and how one is found by name."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, Literal, Protocol

from reelign.errors import ReelignError
from reelign.naming import is_object_name, named_object

if TYPE_CHECKING:
    import torch

    from reelign.records.answers import Verdict

JUDGES = {"spriteworld-people": "reelign.spriteworld.people:people"}
"""Judges that come with reelign. Any other is named as `package.module:object`."""
PREFIXES = {
    "reward": "reelign.rewards.judging:reward_judge",
    "critic": "reelign.critics.judging:critic_judge",
}
"""Rooms whose members judge: `reward:NAME` is what this function makes of NAME and the room's settings."""


class Judge(Protocol):
    """A person, a critic or a reward model that compares two videos of one prompt; its `kind`, if any, says which."""

    @property
    def name(self) -> str:
        """Who judges; unique among the judges of a workspace."""
        ...

    @property
    def version(self) -> str:
        """Changes whenever the same videos might be judged differently."""
        ...

    @property
    def dimensions(self) -> tuple[str, ...]:
        """What is judged, such as ("VQ", "MQ", "TA")."""
        ...

    def compare(
        self, videos_a: torch.Tensor, videos_b: torch.Tensor, prompts: Sequence[str], *, generator: torch.Generator
    ) -> list[dict[str, Verdict]]:
        """Judge B pairs.

        Args:
            videos_a, videos_b: (B, F, 3, H, W), float in [0, 1].
            prompts: B texts.
            generator: the only source of chance, so that a judge can be asked again.
        Returns:
            B dicts from each dimension to 'a', 'b' or 'tie'.
        """
        ...


def kind_of(judge: Judge) -> Literal["person", "critic", "reward"]:
    """What a judge is: its own `kind`, where it says one, else a critic."""
    kind: Any = getattr(judge, "kind", "critic")
    if kind not in ("person", "critic", "reward"):
        raise ReelignError(f"judge {judge.name!r} is of kind {kind!r}", "A kind is person, critic or reward.")
    found: Literal["person", "critic", "reward"] = kind
    return found


def is_comparing(spec: str) -> bool:
    """Whether a name is of a judge that compares two videos, and not of one that scores each by itself.

    Raises:
        ReelignError: a missing module or object.
    """
    prefix = spec.partition(":")[0]
    if spec in JUDGES or prefix in PREFIXES:
        return prefix != "reward"  # its verdicts follow from scores
    if not is_object_name(spec):
        return False
    found = named_object(spec, "judge")
    judges = list(found) if isinstance(found, list | tuple) else [found]
    return bool(judges) and all(hasattr(each, "compare") for each in judges)


def load_judges(spec: str, settings: Mapping[str, Any] | None = None) -> list[Judge]:
    """Find judges by name, as `reward:NAME` or `critic:NAME`, or as `package.module:object`.

    The object is a judge, a list or tuple of judges, or a class or function that gives either without arguments.

    Args:
        settings: of each of `PREFIXES`, such as {"reward": RewardUse(...)}.
    Raises:
        ReelignError: an unknown name, a missing module or object, or something that is no judge.
    """
    prefix, _, name = spec.partition(":")
    if prefix in PREFIXES:
        return [named_object(PREFIXES[prefix], "judge")(name, (settings or {}).get(prefix))]
    target = JUDGES.get(spec, spec)
    if not is_object_name(target):
        near = get_close_matches(spec, JUDGES, n=1)
        hint = f"Did you mean {near[0]!r}? " if near else ""
        raise ReelignError(
            f"no judge is called {spec!r}",
            f"{hint}Known are: {', '.join(JUDGES)}, reward:NAME (`reelign rewards` lists them) and critic:NAME "
            "(`reelign critics`); any other is named as package.module:object.",
        )
    judges = _judges_of(named_object(target, "judge"), target)
    if not judges:
        raise ReelignError(f"{target} gives an empty list of judges", "Give at least one.")
    return judges


def _judges_of(found: Any, target: str) -> list[Judge]:
    if isinstance(found, type) or (callable(found) and _lacks(found)):
        try:
            inspect.signature(found).bind()
        except TypeError as error:
            raise ReelignError(
                f"{target} cannot be called without arguments: {error}",
                "Name a judge, a list of judges, or a class or function that gives them without arguments.",
            ) from None
        found = found()
    judges = list(found) if isinstance(found, list | tuple) else [found]
    for judge in judges:
        lacks = _lacks(judge)
        if lacks:
            raise ReelignError(
                f"{target} is no judge: {type(judge).__name__} lacks {lacks}",
                "A judge has name, version, dimensions and compare(videos_a, videos_b, prompts, *, generator).",
            )
    return judges


def _lacks(judge: Any) -> str:
    """The first thing that a judge has and this has not, '' for a judge."""
    for name in ("name", "version"):
        if not isinstance(getattr(judge, name, None), str):
            return f"{name}: str"
    dimensions = getattr(judge, "dimensions", None)
    if not isinstance(dimensions, tuple) or not dimensions or not all(isinstance(each, str) for each in dimensions):
        return "dimensions: tuple of str"
    return "" if callable(getattr(judge, "compare", None)) else "compare()"
