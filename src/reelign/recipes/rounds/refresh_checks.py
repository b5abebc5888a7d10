"""What is refused of rounds that train their judge again, before the first of them begins."""

from __future__ import annotations

from pathlib import Path

from reelign.critics.judging import PREFIX as CRITIC
from reelign.critics.judging import CriticUse, critic_use
from reelign.critics.opening import SAVED, check_critic, is_foreign
from reelign.critics.table import CRITICS
from reelign.errors import ReelignError
from reelign.recipes.judging import JudgeSettings
from reelign.recipes.reward.settings import RewardSettings
from reelign.recipes.rounds.parts import RoundPlan
from reelign.recipes.rounds.refresh_settings import JUDGE
from reelign.recipes.rounds.settings import IterateSettings
from reelign.rewards.judging import PREFIX as REWARD

VIDEOREWARD = f"{REWARD}videoreward"
"""The judge that opens what `train_reward` leaves."""


def check_refreshed(settings: IterateSettings, judge: JudgeSettings) -> None:
    """Refuse a judge that cannot be trained again, or whom nobody could teach.

    Raises:
        ReelignError: it is neither critic nor reward, or judges single videos and is no critic, or is to learn from a
            critic that there is not, that does not tell how sure it is, or whose votes would all be the same.
    """
    how = settings.refresh
    if not how.critic:
        return
    if settings.answers == "pointwise" and not judge.judge.startswith(CRITIC):
        raise ReelignError(
            f"With answers=pointwise refresh trains a critic on grades, and {judge.judge} is none.",
            "Set judge.judge=critic:NAME or answers=pairwise, or leave refresh out.",
        )
    if not judge.judge.startswith((CRITIC, REWARD)):
        raise ReelignError(
            f"refresh trains the judge of the rounds again, and {judge.judge} is neither a critic nor a reward.",
            "Set judge.judge=critic:NAME or reward:NAME, or leave refresh out.",
        )
    if how.critic == JUDGE and not judge.judge.startswith(CRITIC):
        raise ReelignError(
            f"refresh.critic=judge asks the judge of the rounds how sure it is, and {judge.judge} is no critic.",
            "Name a critic that the reward learns from: refresh.critic=NAME.",
        )
    spec = judge.judge.removeprefix(CRITIC) if how.critic == JUDGE else how.critic
    use = judge.critic if how.critic == JUDGE else critic_use(spec, how.options)
    check_critic(spec, **({} if is_foreign(spec) else use.options()))
    temperature = use.temperature
    if temperature is None and spec in CRITICS:
        temperature = CRITICS[spec].temperature
    if how.votes > 1 and temperature == 0:
        raise ReelignError(
            f"refresh.votes={how.votes} of the critic {spec!r} would all be the same at temperature 0.",
            "Set its temperature to 0.7, or refresh.votes=1.",
        )


def check_trained_judge(settings: IterateSettings, plan: RoundPlan) -> None:
    """Refuse what a round asks of its judge and the judge would not have once it is trained again.

    Raises:
        ReelignError: a dimension that it is not trained on, or a tie band in the units of another reward.
    """
    if plan.refresh is None:
        return
    rewards = isinstance(plan.refresh, RewardSettings)
    tie = plan.judge.reward.tie
    if rewards and plan.judge.judge != VIDEOREWARD and any(tie.values() if isinstance(tie, dict) else [tie]):
        raise ReelignError(
            f"judge.reward.tie={tie} is in the units of {plan.judge.judge}, and refresh puts a reward of VideoReward's "
            "architecture in its place.",
            "Leave the tie band out, or begin with a judge reward:videoreward.",
        )
    use = plan.judge.reward if rewards else plan.judge.critic
    pointwise = settings.answers == "pointwise"
    wanted = (settings.dimension,) if pointwise else use.dimensions
    lacking = [name for name in wanted if name not in plan.refresh.dimensions]
    if lacking:
        section = "reward" if rewards else "critic"
        other = "name another under dimension" if pointwise else f"leave it out of judge.{section}.dimensions"
        raise ReelignError(
            f"Round {plan.number} asks its judge about {lacking[0]}, and refresh trains it on "
            f"{', '.join(plan.refresh.dimensions)}.",
            f"Name it in iterate.{section}.dimensions too, or {other}.",
        )


def checkpoint_of(spec: str, use: CriticUse) -> str:
    """The weights that a critic is trained again from: its own, where it is a model here that is asked in plain words,
    and else ''."""
    if (Path(spec) / SAVED).is_file():
        return spec
    if spec not in CRITICS or use.server.url or (use.format or CRITICS[spec].format) != "plain":
        return ""
    return use.model or CRITICS[spec].weights
