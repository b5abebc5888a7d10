"""What a critic is trained on: lessons from the votes of a workspace, each with the reasons that judges gave."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain

from reelign.errors import ReelignError
from reelign.recipes.critic.lessons import Example, Lesson, LessonMaker
from reelign.recipes.data.splits import split_by_prompt
from reelign.records import Judgement, Workspace, content_key, majority
from reelign.records.grades import GradeVote, grade_votes
from reelign.records.votes import Vote

NO_REASON = "no reason given"


@dataclass(frozen=True, kw_only=True)
class CriticData:
    """Lessons, and what of the record is none."""

    dimensions: tuple[str, ...]
    lessons: tuple[Lesson, ...]
    left_out: Mapping[str, int] = field(default_factory=dict)
    """Votes that are not here, by the reason."""

    def __len__(self) -> int:
        return len(self.lessons)

    @property
    def examples(self) -> list[Example]:
        return [example for lesson in self.lessons for example in lesson.examples]

    @property
    def key(self) -> str:
        """Of all that training can see of it but the pixels."""
        rows = [[each.name, each.prompt, each.dimension, each.answer, each.reasons] for each in self.examples]
        return content_key(self.dimensions, rows)

    def split(self, shares: Sequence[float], seed: int) -> list[CriticData]:
        """Parts by their prompts, as `split_by_prompt`."""
        parts = split_by_prompt([lesson.prompt for lesson in self.lessons], shares, seed)
        return [replace(self, lessons=tuple(self.lessons[row] for row in rows)) for rows in parts]


def workspace_critic_data(
    workspace: Workspace,
    dimensions: Sequence[str],
    *,
    split: str | None = None,
    judges: Sequence[str] = (),
    reasons_required: bool = False,
    judgements: Iterable[Judgement] | None = None,
) -> CriticData:
    """The majority votes on pairs and on single videos of three levels, with the reasons of those who agree with them.

    Args:
        workspace: with judgements.
        dimensions: which are learned.
        split: only prompts of this split; None takes all.
        judges: only these; () for all who count in votes.
        reasons_required: leave votes out for which nobody gave a reason.
        judgements: these alone, such as `critic_refresh.dependable` selects; None for all of the workspace.
    Raises:
        ReelignError: a dimension or judge that nothing is there of, or a video file that is gone.
    """
    said = [*(workspace.judgements() if judgements is None else judgements)]
    _check_there(said, dimensions, judges)
    rows = [row for row in said if row.dimension in dimensions and (not judges or row.judge in judges)]
    texts = {prompt.id: prompt.text for prompt in workspace.prompts(split)}
    videos = {video.id: video for video in workspace.videos(split)}
    maker = LessonMaker(workspace, texts, videos, rows)
    lessons: list[Lesson] = []
    left_out = Counter[str]()
    graded = [vote for vote in grade_votes(rows) if vote.kind == "three_level"]
    for vote in chain[Vote | GradeVote](majority(rows), graded):
        found = maker.of(vote)
        if isinstance(found, str):
            left_out[found] += 1
        elif found is not None and reasons_required and not any(each.reasons for each in found.examples):
            left_out[NO_REASON] += 1
        elif found is not None:
            lessons.append(found)
    if not lessons:
        counted = ", ".join(f"{count} x {reason}" for reason, count in left_out.items())
        raise ReelignError(
            f"No judgement teaches a critic anything{f': {counted}' if counted else ''}.",
            "Judge pairs or single videos: reelign annotate, or reelign judge.",
        )
    gone = [path for lesson in lessons for path in lesson.videos if not path.is_file()]
    if gone:
        raise ReelignError(
            f"{len(set(gone))} judged videos are not there; the first is {gone[0]}.",
            "Put the files back, or make them again: reelign generate.",
        )
    return CriticData(dimensions=tuple(dimensions), lessons=tuple(lessons), left_out=dict(sorted(left_out.items())))


def _check_there(rows: Sequence[Judgement], dimensions: Sequence[str], judges: Sequence[str]) -> None:
    for what, wanted, known in (
        ("dimension", dimensions, {row.dimension for row in rows}),
        ("judge", judges, {row.judge for row in rows}),
    ):
        for name in wanted:
            if name not in known:
                raise ReelignError(
                    f"There are no judgements of the {what} {name!r}; there are {', '.join(sorted(known)) or 'none'}.",
                    f"Name others under {what}s, or judge first: reelign annotate.",
                )
