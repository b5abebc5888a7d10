"""The streams that `reelign align` trains on: where its samples come from, by `align.stream`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from reelign.recipes.dry_run import dry_run, dry_run_on_prompts
from reelign.recipes.offline.align import Aligned, align
from reelign.recipes.online.align import align_online, dry_run_online
from reelign.recipes.online.settings import OnlineSettings
from reelign.recipes.reward_gradient.align import align_by_reward_gradient, plan_reward_gradient
from reelign.recipes.reward_gradient.settings import RewardGradientSettings
from reelign.recipes.settings import AlignSettings, RunSettings


@dataclass(frozen=True)
class AlignStream:
    """One way to feed an alignment.

    Args:
        settings: its dataclass, derived from `RunSettings`, with a field `stream` of its name.
        align: `align(workspace, generator, settings, *, sampling, ranks)`, and `data` where it trains on stored
            preferences, or `limit` (at most so many prompts, None for all) where it does not.
        dry_run: what that would do, `dry_run(workspace, generator, settings, *, sampling, anew)`, with the same.
        stored: whether it trains on preferences that there are, rather than on videos that it makes.
    """

    settings: type[RunSettings]
    align: Callable[..., Aligned]
    dry_run: Callable[..., Any] = dry_run_on_prompts
    stored: bool = False


STREAMS: dict[str, AlignStream] = {
    "offline": AlignStream(AlignSettings, align, dry_run, stored=True),
    "online": AlignStream(OnlineSettings, align_online, dry_run_online),
    "reward_gradient": AlignStream(RewardGradientSettings, align_by_reward_gradient, plan_reward_gradient),
}
"""By the value of `align.stream`; the first one is the default."""


def stream_settings() -> dict[str, type[Any]]:
    """The settings of `align` by stream."""
    return {name: each.settings for name, each in STREAMS.items()}
