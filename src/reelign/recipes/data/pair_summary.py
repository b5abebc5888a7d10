"""What preferences hold, before anything is trained on them: counts, ties, broken rows, balance, margins."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from reelign.recipes.data.files import checked
from reelign.recipes.settings import AlignSettings
from reelign.records import (
    Broken,
    Compared,
    FileLabel,
    FilePair,
    Workspace,
    decided,
    majority,
    preferences,
    read_rows,
    write_labels,
    write_pairs,
)
from reelign.records.pair_policies import SMALL_MARGIN

FROM_WORKSPACE = "workspace"


@dataclass(frozen=True, kw_only=True, slots=True)
class Balance:
    """How one dimension was judged over all rows."""

    first: int
    """Rows in which the first video is better; far from half of the decided ones is a sign of bias for a side."""
    second: int
    tie: int
    unjudged: int


@dataclass(frozen=True, kw_only=True, slots=True)
class PairSummary:
    """What was read, and what it gives to train on."""

    source: Path
    format: str
    """Name of the reader; `workspace` of a workspace's judgements."""
    rows: int
    """Compared pairs and labels, the broken ones among them."""
    pairs: list[FilePair]
    labels: list[FileLabel] = field(default_factory=list)
    left_out: dict[str, int] = field(default_factory=dict)
    """Sound rows that give no pair, by reason."""
    broken: list[Broken] = field(default_factory=list)
    dimensions: dict[str, Balance] = field(default_factory=dict)

    @property
    def prompts(self) -> int:
        return len({pair.prompt for pair in self.pairs} | {label.prompt for label in self.labels})

    @property
    def desirable(self) -> int:
        return sum(label.desirable for label in self.labels)

    def agreement(self, dimension: str) -> float:
        """Share of the pairs decided on a dimension in which it speaks for the choice; nan without any."""
        signs = [pair.margins[dimension] > 0 for pair in self.pairs if pair.margins.get(dimension)]
        return sum(signs) / len(signs) if signs else float("nan")

    def write(self, path: str | Path) -> int:
        """Write the pairs, or labels where there are no pairs, as CSV, Parquet or JSONL; returns how many."""
        if self.pairs or not self.labels:
            write_pairs(path, self.pairs)
            return len(self.pairs)
        write_labels(path, self.labels)
        return len(self.labels)


def summarise_file(path: Path, settings: AlignSettings, format: str | None = None) -> PairSummary:
    """What a file or folder holds; broken rows are told and not refused, so that all can be mended at once."""
    found = checked(read_rows(path, format))
    made, ties = decided(found.compared, pairs=settings.pairs, weights=settings.weights)
    pairs, left_out = _above(made, ties, settings.min_margin)
    return PairSummary(
        source=found.path,
        format=found.format,
        rows=len(found.compared) + len(found.labels) + len(found.broken),
        pairs=pairs,
        labels=found.labels,
        left_out=left_out,
        broken=found.broken,
        dimensions=_balances(found.compared),
    )


def summarise_workspace(workspace: Workspace, settings: AlignSettings) -> PairSummary:
    """What the judgements of a workspace hold, by majority vote and the settings' policy."""
    groups = workspace.groups("train", "")
    votes = majority(workspace.judgements())
    policy = "all" if settings.pairs == "ground_truth" else settings.pairs
    found = preferences(groups, votes, weights=settings.weights, pairs=policy)
    files = {video.id: workspace.video_path(video) for group in groups for video in group.videos}
    asked = {group.prompt.id: workspace.asked(group.prompt) for group in groups}
    margins: dict[tuple[str, str], dict[str, float]] = {}
    for vote in votes:
        if vote.video_a in files and vote.video_b in files:
            judged = margins.setdefault((vote.video_a, vote.video_b), {})
            judged[vote.dimension] = {"a": 1.0, "b": -1.0}.get(vote.verdict, 0.0)
    rows = [
        Compared(where=f"{a} against {b}", prompt="", first=files[a], second=files[b], margins=judged)
        for (a, b), judged in margins.items()
    ]
    made = [
        FilePair(
            prompt=asked[pair.prompt_id],
            chosen=files[pair.chosen],
            rejected=files[pair.rejected],
            margin=pair.margin,
            margins=pair.margins,
        )
        for pair in found.pairs
    ]
    pairs, left_out = _above(made, found.left_out, settings.min_margin)
    return PairSummary(
        source=workspace.root,
        format=FROM_WORKSPACE,
        rows=len(rows),
        pairs=pairs,
        left_out=left_out,
        dimensions=_balances(rows),
    )


def histogram(values: Sequence[float], *, bins: int = 10) -> list[tuple[float, float, int]]:
    """(from, to, count) of `bins` equal steps from 0 to the largest value, the upper end of each belonging to it."""
    if not values:
        return []
    width = max(values) / bins
    counts = [0] * bins
    for value in values:
        # Rounded first: 3 * 0.1 is a little more than 0.3 and would fall into the next step.
        counts[min(bins - 1, max(0, -int(-round(value / width, 9) // 1) - 1))] += 1
    return [(number * width, (number + 1) * width, count) for number, count in enumerate(counts)]


def _above(pairs: list[FilePair], left_out: dict[str, int], min_margin: float) -> tuple[list[FilePair], dict[str, int]]:
    clear = [pair for pair in pairs if pair.margin >= min_margin]
    dropped = {SMALL_MARGIN: len(pairs) - len(clear)} if len(clear) < len(pairs) else {}
    return clear, {**left_out, **dropped}


def _balances(rows: Sequence[Compared]) -> dict[str, Balance]:
    found = {}
    for name in dict.fromkeys(name for row in rows for name in row.margins):
        margins = [row.margins[name] for row in rows if name in row.margins]
        found[name] = Balance(
            first=sum(margin > 0 for margin in margins),
            second=sum(margin < 0 for margin in margins),
            tie=sum(margin == 0 for margin in margins),
            unjudged=len(rows) - len(margins),
        )
    return found
