"""Dual rounds: a critic or a reward trained again, between rounds, on judgements that can be depended on.

Yang et al. 2025 (arXiv:2502.02088v4, Dual-IPO): the judge of the next round learns from what the present one says
consistently and with certainty of the videos that the policy makes now, of pairs or of each by itself.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from reelign.critics import Critic
from reelign.critics.judging import CriticJudge
from reelign.critics.voting import Voted, Voting
from reelign.errors import ReelignError
from reelign.recipes.asked_critics import Silences, ask_critics
from reelign.recipes.critic.data import workspace_critic_data
from reelign.recipes.critic.settings import CriticSettings
from reelign.recipes.critic.training import TrainedCritic, train_critic
from reelign.recipes.grading import grades
from reelign.recipes.reward.data import workspace_reward_data
from reelign.recipes.reward.settings import RewardSettings
from reelign.recipes.reward.training import TrainedReward, train_reward
from reelign.recipes.rounds.data import judged_videos
from reelign.recipes.rounds.refresh_settings import RefreshSettings
from reelign.records import Group, Judgement, Workspace


@dataclass(frozen=True, kw_only=True, slots=True)
class Dependable:
    """What a judge may learn from."""

    judgements: tuple[Judgement, ...]
    """Of people, and those of the critic that its votes, and both orders of a pair, agree on and that are certain."""
    of_critic: int
    """How many of them are the critic's."""
    left_out: Mapping[str, int]
    """What was asked for and is not there, by reason: inconsistent, uncertain, unparseable, people's."""


PEOPLES = "people said themselves"


def dependable(
    workspace: Workspace,
    critic: Critic,
    dimensions: Iterable[str],
    settings: RefreshSettings,
    groups: Sequence[Group],
    answers: str = "pairwise",
) -> Dependable:
    """Ask a critic about every pair of candidates in both orders, and keep what it says consistently and surely.

    Pointwise it is asked how good each candidate is: one video has no order, and what is consistent is what so large a
    share of its votes says as `min_certainty` asks for.

    Nothing is recorded. A critic that keeps its answers (`cache`) is not asked again what `judge` asked it.

    Args:
        workspace: with the videos' files, and people's judgements.
        critic: as `critics.open_critic` gives it, without votes of its own.
        dimensions: on which it is asked.
        settings: what counts.
        groups: the candidates of the policy; of their prompts' videos people's word counts too.
        answers: 'pairwise' or 'pointwise'.
    Raises:
        ReelignError: a dimension on which it does not compare or, pointwise, rate.
    """
    names = tuple(dimensions)
    voting = Voting(votes=settings.votes, swap=True, min_certainty=settings.min_certainty)
    ask = _graded if answers == "pointwise" else _compared
    said, left_out = ask(workspace, Voted(critic, voting), names, groups)
    people = _peoples(workspace, groups, names) if settings.people else []
    judged = {_about(row) for row in people}
    kept = [row for row in said if _about(row) not in judged]
    if len(kept) < len(said):
        left_out[PEOPLES] = len(said) - len(kept)
    return Dependable(judgements=(*people, *kept), of_critic=len(kept), left_out=left_out)


def _compared(
    workspace: Workspace, critic: Voted, names: tuple[str, ...], groups: Sequence[Group]
) -> tuple[list[Judgement], dict[str, int]]:
    judge = CriticJudge(critic, dimensions=names)
    several = [each for each in groups if len(each.videos) > 1]
    silences = Silences()
    said = [row for rows, _ in ask_critics(workspace, several, [judge], set(), 0, silences) for row in rows]
    return said, dict(silences.reasons.get(critic.name, {}))


def _graded(
    workspace: Workspace, critic: Voted, names: tuple[str, ...], groups: Sequence[Group]
) -> tuple[list[Judgement], dict[str, int]]:
    left_out: Counter[str] = Counter()
    said = [row for rows, _ in grades(workspace, critic, groups, names, set(), left_out) for row in rows]
    return said, dict(left_out)


def too_few(found: Dependable, dimensions: Iterable[str], fewest: int) -> str:
    """Why these are too few to learn from, in words; '' where they are enough."""
    why = ", ".join(f"{count} {reason}" for reason, count in found.left_out.items()) or "nothing left out"
    if len(found.judgements) < fewest:
        return f"{len(found.judgements)} judgements can be depended on, fewer than fewest={fewest} ({why})"
    there = {row.dimension for row in found.judgements}
    lacking = [name for name in dimensions if name not in there]
    return f"no judgement of {lacking[0]} can be depended on ({why})" if lacking else ""


def refreshed_critic(
    workspace: Workspace,
    critic: Critic,
    settings: CriticSettings,
    refresh: RefreshSettings,
    groups: Sequence[Group],
    folder: Path,
) -> TrainedCritic:
    """Train a critic on what the present one says dependably; `settings.backbone` is the present one's folder, or any.

    Args:
        folder: of the run.
    Raises:
        ReelignError: as `dependable` and `train_critic`, or too few judgements.
    """
    found = _enough(workspace, critic, settings.dimensions, refresh, groups)
    return critic_on(workspace, found.judgements, settings, folder)


def refreshed_reward(
    workspace: Workspace,
    critic: Critic,
    settings: RewardSettings,
    refresh: RefreshSettings,
    groups: Sequence[Group],
    folder: Path,
) -> TrainedReward:
    """Train a reward on what a critic says dependably; `settings.start_from` is the present reward's folder, or any.

    Args:
        folder: of the run.
    Raises:
        ReelignError: as `dependable` and `train_reward`, or too few judgements.
    """
    found = _enough(workspace, critic, settings.dimensions, refresh, groups)
    return reward_on(workspace, found.judgements, settings, folder)


def critic_on(
    workspace: Workspace, judgements: Sequence[Judgement], settings: CriticSettings, folder: Path
) -> TrainedCritic:
    """Train a critic on these judgements alone."""
    data = workspace_critic_data(
        workspace, settings.dimensions, reasons_required=settings.reasons == "required", judgements=judgements
    )
    return train_critic(data, settings, folder)


def reward_on(
    workspace: Workspace, judgements: Sequence[Judgement], settings: RewardSettings, folder: Path
) -> TrainedReward:
    """Train a reward on these judgements alone."""
    return train_reward(workspace_reward_data(workspace, settings.dimensions, judgements=judgements), settings, folder)


def _enough(
    workspace: Workspace,
    critic: Critic,
    dimensions: Sequence[str],
    refresh: RefreshSettings,
    groups: Sequence[Group],
) -> Dependable:
    found = dependable(workspace, critic, dimensions, refresh, groups)
    lacking = too_few(found, dimensions, refresh.fewest)
    if lacking:
        raise ReelignError(
            f"{lacking[0].upper()}{lacking[1:]}.",
            "Lower min_certainty, make more candidates, or calibrate the critic: reelign critic evaluate.",
        )
    return found


def _peoples(workspace: Workspace, groups: Sequence[Group], dimensions: Sequence[str]) -> list[Judgement]:
    """What people said of videos of these groups' prompts."""
    prompts = {group.prompt.id for group in groups}
    videos = {video.id for video in workspace.videos() if video.prompt_id in prompts}
    others = {entry.name for entry in workspace.judges() if entry.kind != "person"}
    return [
        row
        for row in workspace.judgements()
        if row.judge not in others
        and row.dimension in dimensions
        and all(each in videos for each in judged_videos(row))
    ]


def _about(row: Judgement) -> tuple[frozenset[str], str]:
    return frozenset(judged_videos(row)), row.dimension
