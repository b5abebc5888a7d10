"""Iterative preference optimisation: rounds of candidates, judgements and alignment, and the best of them kept.

IPO (Yang et al. 2025, arXiv:2502.02088; not Azar et al.'s identity preference loss of the same initials): each round's
policy makes the next round's data and is its reference. What training does not see decides when to stop and which round
is kept; a third judge on prompts of its own is reported and decides nothing. In dual rounds the judge that labels what
is trained on is itself trained again between them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from reelign.recipes.offline.align import ADAPTER_FOLDER
from reelign.recipes.rounds.checks import LOOKS
from reelign.recipes.rounds.looks import gain, held_out_sampling, look
from reelign.recipes.rounds.manifest import Record
from reelign.recipes.rounds.parts import Hands, RoundPlan, RoundPolicy, Waiting
from reelign.recipes.rounds.refresh import Refreshed, asking, refresh
from reelign.recipes.rounds.settings import IterateSettings
from reelign.recipes.rounds.stages import Rounds
from reelign.recipes.rounds.state import Decision, claim, conclude
from reelign.recipes.sampling import GenerateSettings
from reelign.records import Workspace


@dataclass(frozen=True, kw_only=True)
class Iterated:
    """What a call of `iterate` did."""

    folder: Path
    rounds: int
    """That are finished."""
    looks: list[dict[str, Record]]
    """Of the base and each round: by held-out judge, its `mean` by dimension and its `scores`."""
    decision: Decision
    adapter: Path | None
    """The best round's, where one is better than the base."""
    waiting: Waiting | None = None
    """What the next round waits for."""


def iterate(
    workspace: Workspace,
    settings: IterateSettings,
    plans: Sequence[RoundPlan],
    hands: Hands,
    *,
    sampling: GenerateSettings,
) -> Iterated:
    """Run the rounds that are not done yet; killed at any point, the same call goes on.

    Args:
        workspace: with prompts in the splits of training, selection and report.
        settings: of the whole, as `checks.check_parts` lets them pass.
        plans: the resolved settings of each round, `settings.rounds` of them.
        hands: models, judges and scorers.
        sampling: how the held-out judges' videos are made.
    Raises:
        ReelignError: a setting that was changed since the rounds began, or what a stage refuses.
    """
    rounds = Rounds(workspace, settings, hands)
    with hands.ranks.first():
        if hands.ranks.main:
            claim(rounds, plans)
    used = [which for which in LOOKS if getattr(settings, which).scorer]
    how = {which: held_out_sampling(sampling, getattr(settings, which), which, settings.seed) for which in used}
    policy, policies = RoundPolicy(), [RoundPolicy()]
    looks = [{which: look(rounds, policy, which, how[which]) for which in used}]
    waiting, decision = None, Decision(best=0, ended=None)
    judge: Refreshed | None = None
    for place, plan in enumerate(plans):
        decision = decide([each["selection"] for each in looks], settings)
        if decision.ended is not None:
            break
        if place:
            judge = refresh(rounds, plans[place - 1], judge)
        after = rounds.train(plan, policy, asking(plan, judge), judge.key if judge else "")
        if isinstance(after, Waiting):
            waiting = after
            break
        policy = after
        policies.append(policy)
        # The report chooses nothing, and the best round is none of its affair.
        beside = {"report": [0], "selection": sorted({0, decision.best})}
        looks.append(
            {which: look(rounds, policy, which, how[which], [policies[n] for n in beside[which]]) for which in used}
        )
    decision = decide([each["selection"] for each in looks], settings)
    with hands.ranks.first():
        if hands.ranks.main:
            conclude(rounds, policies, looks, decision, waiting)
    adapter = rounds.folder / ADAPTER_FOLDER if decision.best else None
    return Iterated(
        folder=rounds.folder,
        rounds=len(policies) - 1,
        looks=looks,
        decision=decision,
        adapter=adapter,
        waiting=waiting,
    )


def decide(selection: Sequence[Record], settings: IterateSettings) -> Decision:
    """The best of the rounds so far, and whether to end: from the selection judge's looks and nothing else.

    Args:
        selection: looks of the base and of each round, at the same prompts and seeds.
        settings: `min_gain` and `patience`.
    """
    best = misses = 0
    for number in range(1, len(selection)):
        if gain(selection, number, best) > settings.min_gain:
            best, misses = number, 0
        else:
            misses += 1
        if misses >= settings.patience:
            last = f"rounds {number - misses + 1} to {number} were" if misses > 1 else f"round {number} was"
            than = f"round {best}" if best else "the base"
            return Decision(best=best, ended=f"{last} not better than {than} by the selection judge")
    ended = f"all {settings.rounds} rounds are done" if len(selection) > settings.rounds else None
    return Decision(best=best, ended=ended)
