"""Calibrating a critic: its answers against what people said of the same videos, before it is used."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from reelign import __version__
from reelign.critics import Critic
from reelign.errors import ReelignError
from reelign.evaluation.critic_answers import Question, ask_all
from reelign.evaluation.critic_measures import measure_pairs, measure_videos
from reelign.evaluation.critic_plan import Plan, PlanSettings, plan_pairs, plan_videos
from reelign.evaluation.critic_results import CriticMeasured
from reelign.evaluation.critic_tables import critic_tables
from reelign.evaluation.feedback import plain
from reelign.evaluation.feedback_data import Feedback
from reelign.evaluation.feedback_tables import Table
from reelign.evaluation.ranking_intervals import interval
from reelign.files import write_text

ANSWERS_FILE = "answers.jsonl"
RESULT_FILE = "critic.json"
TABLES_FILE = "critic.md"


@dataclass(frozen=True, kw_only=True, slots=True)
class CriticEvaluateSettings:
    """What a critic is asked about, and how its answers are measured."""

    critic: dict[str, Any] = field(default_factory=dict)
    """Options of the critic itself, such as `critic.model=folder` or `critic.temperature=0.7`."""
    dimensions: dict[str, str] = field(default_factory=dict)
    """People's dimension -> the critic's; the others are matched by name."""
    split: str | None = None
    """Of a workspace's prompts; None for all."""
    judges: list[str] = field(default_factory=list)
    """Of a workspace; [] for all who are people."""
    skip_broken: bool = False
    """Leave out what cannot be read, and count it; otherwise it is refused by name."""
    ask: PlanSettings = field(default_factory=PlanSettings)
    resamples: int = 2000
    """Of the bootstrap over prompts."""
    level: float = 0.95
    """Of its intervals."""

    def __post_init__(self) -> None:
        if not (self.resamples >= 1 and 0 < self.level < 1):
            raise ValueError(f"resamples must be at least 1 and level in (0, 1), got {self.resamples}, {self.level}")


@dataclass(frozen=True, kw_only=True, slots=True)
class CriticReport:
    """What was measured of one critic on one source."""

    critic: str
    version: str
    source: Path
    format: str
    unmatched: Sequence[str]
    """People's dimensions that nothing of the critic answers for."""
    left_out: Mapping[str, int]
    """What people said and cannot be compared, by reason."""
    questions: int
    """Asked in all, those answered in an earlier call among them."""
    tally: str
    """What asking took in this call."""
    measured: CriticMeasured
    settings: CriticEvaluateSettings
    tables: Sequence[Table] = field(repr=False)

    def as_dict(self) -> dict[str, Any]:
        """Plain numbers, strings, lists and dictionaries; what is not a number is None."""
        own = {each.name: getattr(self, each.name) for each in dataclasses.fields(self) if each.name != "tables"}
        found: dict[str, Any] = plain({"reelign": __version__, **own})
        return found


def evaluate_critic(feedback: Feedback, critic: Critic, folder: Path, settings: CriticEvaluateSettings) -> CriticReport:
    """Ask a critic about the videos that people judged, and measure how far it agrees with them.

    Answers are kept in the folder by content, prompt and version: the call goes on where it was interrupted.

    Raises:
        ReelignError: dimensions that do not match, a video that cannot be read unless those are skipped, or a critic
            that gives no answer at all.
    """
    pairs = _matched(feedback, critic.compares, settings.dimensions)
    videos = _matched(feedback, critic.rates, settings.dimensions)
    compared = {name: plan_pairs(feedback, name, own, settings.ask) for name, own in pairs.items()}
    rated = {name: plan_videos(feedback, name, own, settings.ask) for name, own in videos.items()}
    compared = {name: plan for name, plan in compared.items() if plan.asked}
    rated = {name: plan for name, plan in rated.items() if plan.asked}
    if not compared and not rated:
        raise ReelignError(
            f"People judged {', '.join(feedback.dimensions)}; the critic {critic.name!r} compares "
            f"{', '.join(critic.compares) or 'nothing'} and rates {', '.join(critic.rates) or 'nothing'}.",
            "Say which answers for which, dimensions.PEOPLE=CRITIC, or choose another critic.",
        )
    questions = list(_questions([*compared.values(), *rated.values()]))
    answers = ask_all(critic, questions, folder / ANSWERS_FILE, skip_broken=settings.skip_broken)
    mean = partial(interval, resamples=settings.resamples, level=settings.level, seed=settings.ask.seed)
    measured = CriticMeasured(
        pairs={name: measure_pairs(plan, answers, mean) for name, plan in compared.items()},
        videos={name: measure_videos(plan, answers, mean) for name, plan in rated.items()},
    )
    report = CriticReport(
        critic=critic.name,
        version=critic.version,
        source=feedback.source,
        format=feedback.format,
        unmatched=[name for name in feedback.dimensions if name not in compared and name not in rated],
        left_out=feedback.left_out,
        questions=len(answers),
        tally=str(critic.tally),
        measured=measured,
        settings=settings,
        tables=critic_tables(measured, critic.name),
    )
    text = json.dumps(report.as_dict(), indent=2, ensure_ascii=False, allow_nan=False)
    write_text(folder / RESULT_FILE, text + "\n")
    head = f"# {report.critic} against {feedback.source.name}\n"
    write_text(folder / TABLES_FILE, "\n".join([head, *(table.markdown() for table in report.tables)]))
    return report


def _questions(plans: Sequence[Plan]) -> Iterator[Question]:
    for plan in plans:
        yield from plan


def _matched(feedback: Feedback, known: Sequence[str], given: Mapping[str, str]) -> dict[str, str]:
    """People's dimension -> the critic's, by what is given and by name; the others are in nobody's result.

    Raises:
        ReelignError: a given name that is not there.
    """
    by_name = {name.lower(): name for name in known}
    for theirs, own in given.items():
        if theirs not in feedback.dimensions or (known and own not in known):
            raise ReelignError(
                f"dimensions.{theirs}={own} names a dimension that is not there.",
                f"People judged {', '.join(feedback.dimensions)}; the critic judges {', '.join(known)}.",
            )
    found = {name: given.get(name) or by_name.get(name.lower()) for name in feedback.dimensions}
    return {name: own for name, own in found.items() if own is not None and own in known}
