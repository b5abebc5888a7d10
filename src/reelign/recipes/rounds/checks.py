"""What is refused before rounds begin: prompts or judges that two of their parts would share."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence

from reelign.critics.judging import PREFIX as CRITIC
from reelign.critics.judging import critic_use, who
from reelign.errors import ReelignError
from reelign.objectives import DPO, KTO
from reelign.recipes.data.shared_prompts import shared_prompts
from reelign.recipes.rounds.parts import PEOPLE, RoundPlan
from reelign.recipes.rounds.refresh_checks import check_trained_judge
from reelign.recipes.rounds.settings import HeldOut, IterateSettings
from reelign.recipes.settings import AlignSettings

LOOKS = ("selection", "report")
"""The held-out judges, by their fields of `IterateSettings`."""


def check_parts(settings: IterateSettings, plans: Sequence[RoundPlan], prompts: Mapping[str, Sequence[str]]) -> None:
    """Refuse rounds whose parts see each other's judges or prompts, and warn of rounds without an anchor.

    Args:
        settings, plans: of the whole, and of each round.
        prompts: by split, those of training, selection and report.
    Raises:
        ReelignError: no selection judge, a split without prompts or a prompt in two splits, one judge in two parts, an
            objective that does not go with the answers, or rounds that train adapters of several shapes.
    """
    if not settings.selection.scorer:
        raise ReelignError(
            "Nobody chooses the best round: selection.scorer is not named.",
            "Name a judge that training does not see, such as selection.scorer=reward:videoreward.",
        )
    for plan in plans:
        _check_judges(settings, plan)
        _check_objective(settings, plan)
        check_trained_judge(settings, plan)
    if plans and plans[0].judge.judge == PEOPLE and not settings.people:
        raise ReelignError("judge.judge is people, and people=0 asks nobody.", "Say how many: people=3.")
    if any(plan.align.lora != plans[0].align.lora for plan in plans):
        raise ReelignError(
            "The rounds train adapters of several shapes, and each begins with the one before it.",
            "Name lora under align and not under each.",
        )
    _check_prompts(settings, prompts)
    bare = [str(plan.number) for plan in plans if plan.number > 1 and _without_anchor(plan.align)]
    if bare:
        warnings.warn(
            f"Round {', '.join(bare)} has no anchor: later rounds of DPO without one tend to lose what the first won. "
            "Set align.anchors.chosen=0.2, or an anchor on real videos.",
            stacklevel=3,
        )


def _check_judges(settings: IterateSettings, plan: RoundPlan) -> None:
    """Refuse a held-out judge that labels what is trained on, or teaches who does."""
    for which in LOOKS:
        held: HeldOut = getattr(settings, which)
        teaches = held.asked is not None and held.asked in (_labels(plan), _teaches(settings))
        same = held.asked is None and held.scorer == plan.judge.judge
        if teaches or (same and held.reward.options == plan.judge.reward.options):
            raise ReelignError(
                f"{_told(held)} labels what round {plan.number} trains on"
                f"{', or teaches who does' if teaches else ''}, and is {which}.scorer too.",
                "Choose another judge for one of the two: its own score rises whatever becomes of the videos.",
            )


def _told(held: HeldOut) -> str:
    """A held-out judge by its name, a critic of an address with that."""
    if held.asked is None:
        return held.scorer
    name, *_, address = held.asked
    return f"{name} at {address}" if address else name


def _labels(plan: RoundPlan) -> tuple[str, ...] | None:
    """The critic that judges the round."""
    named = plan.judge.judge
    return who(named.removeprefix(CRITIC), plan.judge.critic) if named.startswith(CRITIC) else None


def _teaches(settings: IterateSettings) -> tuple[str, ...]:
    """The critic that is named to teach the judge."""
    named = settings.refresh.critic
    return who(named, critic_use(named, settings.refresh.options))


def _check_objective(settings: IterateSettings, plan: RoundPlan) -> None:
    if settings.answers == "pointwise" and not isinstance(plan.align.objective, KTO):
        raise ReelignError(
            f"answers=pointwise labels single videos, and round {plan.number} trains {plan.align.objective.name}.",
            "Set align.objective.name=kto, or answers=pairwise.",
        )
    named = plan.judge.judge
    if settings.answers == "pointwise" and named != PEOPLE and not named.startswith(CRITIC):
        raise ReelignError(
            f"answers=pointwise asks for good, normal or bad, and {named} does not say that.",
            "Ask a critic, judge.judge=critic:NAME, or people.",
        )
    if plan.align.pairs == "ground_truth":
        raise ReelignError("pairs=ground_truth needs no rounds: nobody judges.", "Set align.pairs=best_worst.")


def _check_prompts(settings: IterateSettings, prompts: Mapping[str, Sequence[str]]) -> None:
    parts = {settings.split: "trained on", settings.selection.split: "selected on"}
    if settings.report.scorer:
        parts[settings.report.split] = "reported on"
    texts = {split: list(prompts[split]) for split in parts}
    for split, own in texts.items():
        if not own:
            name = next((which for which in LOOKS if getattr(settings, which).split == split), "")
            raise ReelignError(
                f"The workspace has no prompts in the split {split!r}, which is {parts[split]}.",
                f"Name a file with a prompt a line: {name}.prompts=FILE"
                if name
                else "Add some: reelign init --prompts",
            )
    for split, own in texts.items():
        if split != settings.split and len(own) < 2:
            raise ReelignError(
                f"The split {split!r} has one prompt, which does not tell how prompts differ.", "Add some to it."
            )
    seen: list[str] = []
    for split, own in texts.items():
        shared = shared_prompts(seen, own)
        if shared:
            raise ReelignError(
                f"{shared[0]!r} is {parts[split]} and in another split of these rounds too ({len(shared)} such).",
                "Give each of training, selection and report prompts of its own.",
            )
        seen += own


def _without_anchor(settings: AlignSettings) -> bool:
    return isinstance(settings.objective, DPO) and not settings.anchors.chosen and not settings.anchors.real
