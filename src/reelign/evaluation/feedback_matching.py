"""Which of a reward's dimensions answers for which of people's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from difflib import get_close_matches

from reelign.errors import ReelignError
from reelign.evaluation.feedback_data import OVERALL


def match_dimensions(
    judged: Sequence[str], scored: Sequence[str], given: Mapping[str, str | Sequence[str]]
) -> dict[str, tuple[str, ...]]:
    """For each judged dimension the reward's dimensions whose mean answers for it.

    In this order: what is given; the one of the same name, in capitals or not; for `overall` all of them, as
    VideoReward has it; the only one that the reward has. What nothing answers for is not in the result: a guess by
    meaning would be measured as if it were the reward's own claim.

    Args:
        judged: people's dimensions.
        scored: the reward's.
        given: people's dimension -> one or several of the reward's.
    Raises:
        ReelignError: a given name that is not there, or nothing matches at all.
    """
    wanted = {name: (own,) if isinstance(own, str) else tuple(own) for name, own in given.items()}
    for kind, names, there in (
        ("people judged", wanted, judged),
        ("the reward scores", [own for each in wanted.values() for own in each], scored),
    ):
        for name in names:
            if name not in there:
                near = get_close_matches(name, there, n=1, cutoff=0)
                hint = f"Did you mean {near[0]!r}? " if near else ""
                raise ReelignError(
                    f"dimensions names {name!r}, which is none that {kind}.", f"{hint}{_both(judged, scored)}"
                )
    found = {name: wanted.get(name) or _by_name(name, scored) for name in judged}
    matched = {name: own for name, own in found.items() if own}
    if not matched:
        raise ReelignError(
            f"The reward scores {', '.join(scored)} and people judged {', '.join(judged)}.",
            f"Say which answers for which: dimensions.{judged[0]}={scored[0]}",
        )
    return matched


def _by_name(name: str, scored: Sequence[str]) -> tuple[str, ...]:
    same = tuple(own for own in scored if own.lower() == name.lower())
    if same:
        return same[:1]
    return tuple(scored) if name.lower() == OVERALL or len(scored) == 1 else ()


def _both(judged: Sequence[str], scored: Sequence[str]) -> str:
    return f"People judged {', '.join(judged)}; the reward scores {', '.join(scored)}."
