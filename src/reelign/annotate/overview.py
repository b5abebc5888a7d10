"""What the admin page shows: coverage and who may judge as they stand, and the figures of the whole record."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from reelign.annotate.figures import Figures, mark_of
from reelign.annotate.settings import AnnotateSettings
from reelign.records import Invitation, JudgeEntry, Opening, Showing, Workspace
from reelign.records.assignments import ANSWERED, OPEN, SKIPPED
from reelign.records.panel import JudgeStatistics, Share


@dataclass(frozen=True, kw_only=True, slots=True)
class Person:
    """A row of the table of judges."""

    name: str
    kind: str
    paused: bool
    excluded: bool
    invited: bool
    """Came to this page; critics, rewards and imported judges did not."""
    answered: int
    skipped: int
    repeats: Share
    """Questions answered the same when they came back."""
    statistics: JudgeStatistics | None
    """None without any judgement of what the project asks about."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Overview:
    """Everything the admin page shows."""

    covered: list[int]
    """How many questions have 0, 1, 2, … of the judgements they want."""
    people: list[Person]
    figures: Figures | None
    """None while those of a large record are counted for the first time."""
    behind: int
    """Judgements that came since the figures were counted."""

    @property
    def questions(self) -> int:
        return sum(self.covered)

    @property
    def done(self) -> float:
        """Share of all wanted judgements that were made, in [0, 1]."""
        wanted = self.questions * (len(self.covered) - 1)
        return sum(count * number for count, number in enumerate(self.covered)) / wanted if wanted else 0.0


def overview(workspace: Workspace, settings: AnnotateSettings, figures: Figures | None) -> Overview:
    """The page around the figures: a few quick queries, however large the record is."""
    last = mark_of(workspace).last
    with workspace.reading() as session:
        return Overview(
            covered=_covered(session, settings.judges_per_item),
            people=_people(session, figures),
            figures=figures,
            behind=last - figures.mark.last if figures else 0,
        )


def _covered(session: Session, wanted: int) -> list[int]:
    """From what each opening has taken, less what is only with a judge yet: of those there are few."""
    asked = Opening.gold.is_(False)
    taken = session.execute(select(Opening.taken, func.count()).where(asked).group_by(Opening.taken))
    covered = Counter(dict(taken.all()))
    excluded = select(JudgeEntry.name).where(JudgeEntry.excluded)
    held = select(Opening.taken, func.count()).join(Showing, Showing.task == Opening.task)
    held = held.where(asked, Showing.state == OPEN, Showing.turn == 0, Showing.judge.not_in(excluded))
    for number, open_ones in session.execute(held.group_by(Opening.task, Opening.taken)):
        covered[number] -= 1
        covered[number - open_ones] += 1
    found = [0] * (wanted + 1)
    for number, count in covered.items():
        found[min(number, wanted)] += count
    return found


def _people(session: Session, figures: Figures | None) -> list[Person]:
    invited = {each.judge: each for each in session.scalars(select(Invitation))}
    entries = {each.name: each for each in session.scalars(select(JudgeEntry))}
    handled = figures.handled if figures else {}
    repeats = figures.repeats if figures else {}
    statistics = figures.judges if figures else {}
    return [
        Person(
            name=name,
            kind=entries[name].kind if name in entries else "person",
            paused=name in invited and invited[name].paused,
            excluded=name in entries and entries[name].excluded,
            invited=name in invited,
            answered=handled.get((name, ANSWERED), 0),
            skipped=handled.get((name, SKIPPED), 0),
            repeats=Share.count(*repeats.get(name, (0, 0))),
            statistics=statistics.get(name),
        )
        for name in sorted({*invited, *entries})
    ]
