"""Whether alignment helped, and whether a reward agrees with people: comparison, accuracy, report, card."""

from reelign.evaluation.card import CardSample, is_repository, write_card
from reelign.evaluation.curves import Curve, draw_curves, read_metrics
from reelign.evaluation.evaluate import Evaluated, EvaluateSettings, check_scorer, evaluate, load_scorer
from reelign.evaluation.feedback import FeedbackReport, FeedbackSettings, evaluate_feedback
from reelign.evaluation.feedback_data import Feedback, file_feedback
from reelign.evaluation.feedback_workspace import workspace_feedback
from reelign.evaluation.paired import (
    Comparison,
    DimensionComparison,
    Failure,
    WinRate,
    compare,
    win_tie_loss,
)
from reelign.evaluation.report import Measure, Report, ReportSample, write_report
from reelign.records.bootstrap import Interval, paired_bootstrap

__all__ = [
    "CardSample",
    "Comparison",
    "Curve",
    "DimensionComparison",
    "EvaluateSettings",
    "Evaluated",
    "Failure",
    "Feedback",
    "FeedbackReport",
    "FeedbackSettings",
    "Interval",
    "Measure",
    "Report",
    "ReportSample",
    "WinRate",
    "check_scorer",
    "compare",
    "draw_curves",
    "evaluate",
    "evaluate_feedback",
    "file_feedback",
    "is_repository",
    "load_scorer",
    "paired_bootstrap",
    "read_metrics",
    "win_tie_loss",
    "workspace_feedback",
    "write_card",
    "write_report",
]
