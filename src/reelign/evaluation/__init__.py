"""Whether alignment helped: paired comparison, training curves, the HTML report and the adapter's card."""

from reelign.evaluation.bootstrap import Interval, paired_bootstrap
from reelign.evaluation.card import CardSample, is_repository, write_card
from reelign.evaluation.curves import Curve, draw_curves, read_metrics
from reelign.evaluation.evaluate import Evaluated, EvaluateSettings, check_scorer, evaluate, load_scorer
from reelign.evaluation.paired import (
    Comparison,
    DimensionComparison,
    Failure,
    WinRate,
    compare,
    win_tie_loss,
)
from reelign.evaluation.report import Measure, Report, ReportSample, write_report

__all__ = [
    "CardSample",
    "Comparison",
    "Curve",
    "DimensionComparison",
    "EvaluateSettings",
    "Evaluated",
    "Failure",
    "Interval",
    "Measure",
    "Report",
    "ReportSample",
    "WinRate",
    "check_scorer",
    "compare",
    "draw_curves",
    "evaluate",
    "is_repository",
    "load_scorer",
    "paired_bootstrap",
    "read_metrics",
    "win_tie_loss",
    "write_card",
    "write_report",
]
