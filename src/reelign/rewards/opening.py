"""A reward opened by name, and its card without opening it."""

from __future__ import annotations

import inspect
from difflib import get_close_matches
from typing import Any

from reelign.errors import ReelignError
from reelign.naming import is_object_name, named_object
from reelign.rewards.base import Reward, RewardCard
from reelign.rewards.table import REWARDS


def open_reward(spec: str, **settings: Any) -> Reward:
    """Open a reward once, ready to score.

    Args:
        spec: a name of `REWARDS`, `package.module:object` (a Reward, or a class or function that gives one), or the
            http(s) URL of a reward that is served elsewhere.
        settings: what the class takes, such as `model` for another checkpoint.
    Raises:
        ReelignError: an unknown name or setting, a missing module, weights that cannot be loaded, no server there.
    """
    found, settings = _located(spec, settings)
    if isinstance(found, Reward):
        return found
    opened = found(**settings)
    if not isinstance(opened, Reward):
        raise ReelignError(
            f"{spec} gave {type(opened).__name__} and no reward.", "Derive its class from reelign.rewards.Reward."
        )
    return opened


def check_reward(spec: str, **settings: Any) -> None:
    """Refuse a name or settings that `open_reward` would refuse, before hours of work; no weights are loaded.

    Raises:
        ReelignError: an unknown name or setting, or a missing module.
    """
    _located(spec, settings)


def options_of(spec: str) -> tuple[str, ...]:
    """The names of what a reward can be opened with; nothing is opened.

    Raises:
        ReelignError: an unknown name.
    """
    found = _find(spec)
    return () if isinstance(found, Reward) else tuple(inspect.signature(found).parameters)


def _located(spec: str, settings: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """What `spec` names, and the settings to call it with."""
    found: Any
    if spec.startswith(("http://", "https://")):
        found, settings = named_object("reelign.rewards.client:RewardClient", "reward"), {"url": spec, **settings}
    else:
        found = _find(spec)
    if isinstance(found, Reward):
        if settings:
            raise ReelignError(f"{spec} is opened already and takes no {', '.join(settings)}.", "Name its class.")
    elif not callable(found):
        raise ReelignError(f"{spec} is no reward: it is {type(found).__name__}.", "Name a class that gives a Reward.")
    else:
        _check_settings(spec, found, settings)
    return found, settings


def card_of(name: str) -> RewardCard:
    """What a reward of the table says of itself; nothing is opened.

    Raises:
        ReelignError: an unknown name, or one outside the table without a card.
    """
    card: Any = getattr(_find(name), "card", None)
    if not isinstance(card, RewardCard):
        raise ReelignError(f"{name} has no card.", "Give its class a RewardCard as `card`.")
    return card


def _find(spec: str) -> Any:
    target = REWARDS.get(spec, spec)
    if not is_object_name(target):
        near = get_close_matches(spec, REWARDS, n=1)
        hint = f"Did you mean {near[0]!r}? " if near else ""
        raise ReelignError(
            f"No reward is called {spec!r}.",
            f"{hint}Known are {', '.join(REWARDS)}; any other is named as package.module:object or by its URL.",
        )
    return named_object(target, "reward")


def _check_settings(spec: str, found: Any, settings: dict[str, Any]) -> None:
    """Refuse settings that the reward does not take, by name, before its weights are loaded."""
    signature = inspect.signature(found)
    try:
        signature.bind(**settings)
    except TypeError as error:
        taken = [name for name, each in signature.parameters.items() if each.kind is not each.VAR_KEYWORD]
        wrong = [name for name in settings if name not in taken]
        near = get_close_matches(wrong[0], taken, n=1) if wrong else []
        hint = f"Did you mean {near[0]!r}? " if near else ""
        what = f"takes no setting {wrong[0]!r}" if wrong else f"cannot be opened so: {error}"
        raise ReelignError(
            f"The reward {spec!r} {what}.", f"{hint}It takes: {', '.join(taken) or 'no settings'}."
        ) from None
