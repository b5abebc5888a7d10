"""Measuring a source of feedback: a reward's scores against what people said of the same videos."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from reelign import __version__
from reelign.errors import ReelignError
from reelign.evaluation.feedback_data import Feedback
from reelign.evaluation.feedback_matching import match_dimensions
from reelign.evaluation.feedback_measures import measure
from reelign.evaluation.feedback_pairs import compared
from reelign.evaluation.feedback_plot import draw_differences
from reelign.evaluation.feedback_results import Measured, MeasureSettings
from reelign.evaluation.feedback_scores import ScoreFile, Scores, score_candidates
from reelign.evaluation.feedback_tables import Table, tables
from reelign.files import write_text
from reelign.rewards.base import Reward
from reelign.rewards.judging import RewardOpening

SCORES_FILE = "scores.jsonl"
RESULT_FILE = "feedback.json"
TABLES_FILE = "feedback.md"
PLOT_FILE = "feedback.png"


@dataclass(frozen=True, kw_only=True, slots=True)
class FeedbackSettings:
    """What is compared with what, and how."""

    reward: RewardOpening = field(default_factory=RewardOpening)
    """How the reward is opened, such as `reward.options.model=folder`."""
    dimensions: dict[str, str | list[str]] = field(default_factory=dict)
    """People's dimension -> the reward's, or several whose mean counts; the others are matched by name."""
    split: str | None = None
    """Of a workspace's prompts; None for all."""
    judges: list[str] = field(default_factory=list)
    """Of a workspace; [] for all who are people."""
    skip_broken: bool = False
    """Leave out what cannot be read, and count it; otherwise it is refused by name."""
    readers: int = 2
    """Threads that decode videos ahead."""
    measure: MeasureSettings = field(default_factory=MeasureSettings)

    def __post_init__(self) -> None:
        if self.readers < 1:
            raise ValueError(f"readers must be at least 1, got {self.readers}")


@dataclass(frozen=True, kw_only=True, slots=True)
class FeedbackReport:
    """What was measured of one reward on one source."""

    reward: str
    version: str
    source: Path
    format: str
    videos: int
    """Distinct videos with their prompts."""
    unmatched: Sequence[str]
    """People's dimensions that nothing of the reward answers for."""
    left_out: Mapping[str, int]
    """What people said and cannot be compared, by reason."""
    failed: Sequence[Mapping[str, str]]
    """Videos without all scores: video, prompt, reason."""
    measured: Measured
    settings: FeedbackSettings
    tables: Sequence[Table] = field(repr=False)

    def as_dict(self) -> dict[str, Any]:
        """Plain numbers, strings, lists and dictionaries; what is not a number is None."""
        own = {each.name: getattr(self, each.name) for each in dataclasses.fields(self) if each.name != "tables"}
        found: dict[str, Any] = plain({"reelign": __version__, **own})
        return found


def evaluate_feedback(feedback: Feedback, reward: Reward, folder: Path, settings: FeedbackSettings) -> FeedbackReport:
    """Score the judged videos and measure how far the reward agrees with people.

    Scores are kept in the folder by content, prompt and version: the call goes on where it was interrupted, and costs
    nothing for what was scored before. The result is written beside as JSON, as tables, and as a picture of the pairs.

    Raises:
        ReelignError: dimensions that do not match, a video that cannot be read or scored unless those are skipped, or
            nothing that could be scored.
    """
    matched = match_dimensions(feedback.dimensions, reward.dimensions, settings.dimensions)
    scores = score_candidates(
        feedback.candidates,
        reward,
        ScoreFile(folder / SCORES_FILE),
        batch_size=settings.reward.batch_size,
        readers=settings.readers,
        skip_broken=settings.skip_broken,
    )
    if not scores.scored:
        reason = next(iter(scores.failed.values()))
        raise ReelignError(
            f"None of the {len(scores.failed)} videos has a score: {reason}.", "Try the reward on one of them alone."
        )
    measured = measure(feedback, scores, matched, settings.measure)
    report = FeedbackReport(
        reward=reward.name,
        version=reward.version,
        source=feedback.source,
        format=feedback.format,
        videos=len(feedback.candidates),
        unmatched=[name for name in feedback.dimensions if name not in matched],
        left_out=feedback.left_out,
        failed=[
            {"video": str(each.video), "prompt": each.prompt, "reason": why} for each, why in scores.failed.items()
        ],
        measured=measured,
        settings=settings,
        tables=tables(measured, reward=reward.name, format=feedback.format, as_published=settings.measure.as_published),
    )
    _write(folder, report, feedback, scores)
    return report


def _write(folder: Path, report: FeedbackReport, feedback: Feedback, scores: Scores) -> None:
    write_text(folder / RESULT_FILE, json.dumps(report.as_dict(), indent=2, ensure_ascii=False, allow_nan=False) + "\n")
    head = f"# {report.reward} against {report.source.name}\n"
    write_text(folder / TABLES_FILE, "\n".join([head, *(table.markdown() for table in report.tables)]))
    found = report.measured.accuracy
    columns = {
        name: compared(feedback.pairs, name, each.answered_by, scores, report.settings.measure)
        for name, each in found.items()
    }
    draw_differences(folder / PLOT_FILE, found, columns, report.reward)


def plain(value: Any) -> Any:
    """A value as JSON holds it, dataclasses as dictionaries; a number that is not finite is None."""
    if dataclasses.is_dataclass(value):
        return {each.name: plain(getattr(value, each.name)) for each in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): plain(each) for key, each in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [plain(each) for each in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return str(value) if isinstance(value, Path) else value
