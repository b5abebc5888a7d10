"""Dual rounds: a critic or a reward trained again, between rounds, on judgements that can be depended on.

Yang et al. 2025 (arXiv:2502.02088v4, Dual-IPO): the judge of the next round learns from what the present one says
consistently and with certainty of the videos that the policy makes now.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from reelign.critics import Critic
from reelign.critics.judging import CriticJudge
from reelign.critics.voting import Voted, Voting
from reelign.errors import ReelignError
from reelign.recipes.asked_critics import Silences, ask_critics
from reelign.recipes.critic_data import workspace_critic_data
from reelign.recipes.critic_settings import CriticSettings
from reelign.recipes.critic_training import TrainedCritic, train_critic
from reelign.recipes.reward_data import workspace_reward_data
from reelign.recipes.reward_settings import RewardSettings
from reelign.recipes.reward_training import TrainedReward, train_reward
from reelign.records import Judgement, Workspace


@dataclass(frozen=True, kw_only=True, slots=True)
class RefreshSettings:
    """Which judgements a judge is trained on again."""

    split: str = "train"
    """Prompts whose videos are asked about."""
    adapter: str = ""
    """Of the policy whose videos are asked about; '' is the generator alone."""
    votes: int = 1
    """Askings of each question, of a critic that samples its answers."""
    min_certainty: float = 0.8
    """Judgements of which the critic is less sure are left out; `reelign critic evaluate` says what is right above it.
    Where a critic does not tell, all consistent ones stay."""
    people: bool = True
    """Whether what people said is learned too, and stands against the critic's word on the same videos: the judge
    then cannot drift with its own mistakes alone."""
    fewest: int = 20
    """Fewer dependable judgements than this are refused: a judge trained on them would learn them by heart."""

    def __post_init__(self) -> None:
        Voting(votes=self.votes, min_certainty=self.min_certainty)
        if self.fewest < 1:
            raise ValueError(f"fewest must be at least 1, got {self.fewest}")


@dataclass(frozen=True, kw_only=True, slots=True)
class Dependable:
    """What a judge may learn from."""

    judgements: tuple[Judgement, ...]
    """Of people, and those of the critic that agree in both orders and are certain."""
    of_critic: int
    """How many of them are the critic's."""
    left_out: Mapping[str, int]
    """Comparisons asked for that are not there, by reason: inconsistent, uncertain, unparseable, people's."""


PEOPLES = "people said themselves"


def dependable(
    workspace: Workspace, critic: Critic, dimensions: Iterable[str], settings: RefreshSettings
) -> Dependable:
    """Ask a critic about every pair of candidates in both orders, and keep what it says consistently and surely.

    Nothing is recorded. A critic that keeps its answers (`cache`) is not asked again what `judge` asked it.

    Args:
        workspace: with the videos of the policy.
        critic: as `critics.open_critic` gives it, without votes of its own.
        dimensions: on which it is asked.
        settings: what counts.
    Raises:
        ReelignError: a dimension on which it does not compare, or too few dependable judgements.
    """
    names = tuple(dimensions)
    voting = Voting(votes=settings.votes, swap=True, min_certainty=settings.min_certainty)
    judge = CriticJudge(Voted(critic, voting), dimensions=names)
    groups = [each for each in workspace.groups(settings.split or None, settings.adapter) if len(each.videos) > 1]
    silences = Silences()
    said = [row for rows, _ in ask_critics(workspace, groups, [judge], set(), 0, silences) for row in rows]
    left_out = dict(silences.reasons.get(critic.name, {}))
    people: list[Judgement] = []
    if settings.people:
        others = {entry.name for entry in workspace.judges() if entry.kind != "person"}
        people = [row for row in workspace.judgements() if row.judge not in others and row.dimension in names]
        judged = {_about(row) for row in people}
        kept = [row for row in said if _about(row) not in judged]
        if len(kept) < len(said):
            left_out[PEOPLES] = len(said) - len(kept)
        said = kept
    if len(said) + len(people) < settings.fewest:
        why = ", ".join(f"{count} {reason}" for reason, count in left_out.items()) or "nothing left out"
        raise ReelignError(
            f"{len(said) + len(people)} judgements can be depended on, fewer than fewest={settings.fewest} ({why}).",
            "Lower min_certainty, make more candidates, or calibrate the critic: reelign critic evaluate.",
        )
    return Dependable(judgements=(*people, *said), of_critic=len(said), left_out=left_out)


def refreshed_critic(
    workspace: Workspace, critic: Critic, settings: CriticSettings, refresh: RefreshSettings, folder: Path
) -> TrainedCritic:
    """Train a critic on what the present one says dependably; `settings.backbone` is the present one's folder, or any.

    Args:
        folder: of the run.
    Raises:
        ReelignError: as `dependable` and `train_critic`.
    """
    found = dependable(workspace, critic, settings.dimensions, refresh)
    data = workspace_critic_data(
        workspace, settings.dimensions, split=refresh.split or None, judgements=found.judgements
    )
    return train_critic(data, settings, folder)


def refreshed_reward(
    workspace: Workspace, critic: Critic, settings: RewardSettings, refresh: RefreshSettings, folder: Path
) -> TrainedReward:
    """Train a reward on what a critic says dependably; `settings.start_from` is the present reward's folder, or any.

    Args:
        folder: of the run.
    Raises:
        ReelignError: as `dependable` and `train_reward`.
    """
    found = dependable(workspace, critic, settings.dimensions, refresh)
    data = workspace_reward_data(
        workspace, settings.dimensions, split=refresh.split or None, judgements=found.judgements
    )
    return train_reward(data, settings, folder)


def _about(row: Judgement) -> tuple[frozenset[str], str]:
    return frozenset(each for each in (row.video_a, row.video_b) if each), row.dimension
