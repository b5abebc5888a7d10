"""Votes as lessons for a critic: questions about videos, their right answers, and the reasons that judges gave."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from reelign.recipes.critic.reasons import defects_told, reason_in_order
from reelign.records import Judgement, Video, Workspace
from reelign.records.grades import TIE, GradeVote
from reelign.records.votes import Vote

NO_MAJORITY = "judges without a majority"
OTHER_PROMPTS = "videos of different prompts"
TURNED = {"a": "b", "b": "a", "tie": "tie"}
SIDES = ("Video A", "Video B")


@dataclass(frozen=True, kw_only=True, slots=True)
class Example:
    """One question and its right answer."""

    videos: tuple[Path, ...]
    """Two in the order in which they are shown, or one."""
    prompt: str
    dimension: str
    answer: str
    """Of two 'a', 'b' or 'tie', of one 'good', 'normal' or 'bad'."""
    reasons: tuple[str, ...]
    """Of judges who gave that answer, each for this order; may be none."""
    name: str
    """What a person would call it, for messages."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Lesson:
    """One vote: a pair in both orders, or a video by itself. They train in one step, so that no order is preferred."""

    examples: tuple[Example, ...]
    consistency: float
    """Share of the judges who said so, in (½, 1]."""

    @property
    def prompt(self) -> str:
        return self.examples[0].prompt

    @property
    def videos(self) -> tuple[Path, ...]:
        return self.examples[0].videos


class LessonMaker:
    """Makes lessons of a workspace's votes."""

    def __init__(
        self, workspace: Workspace, texts: Mapping[int, str], videos: Mapping[str, Video], rows: Iterable[Judgement]
    ) -> None:
        self.workspace = workspace
        self.texts = texts
        self.videos = videos
        latest: dict[tuple[frozenset[str], str, str], dict[str, Judgement]] = {}
        for row in rows:
            if row.kind in ("pairwise", "three_level"):
                asked = frozenset(each for each in (row.video_a, row.video_b) if each)
                latest.setdefault((asked, row.dimension, row.kind), {})[row.judge] = row
        self.voices = latest

    def of(self, vote: Vote | GradeVote) -> Lesson | str | None:
        """The lesson, the reason why there is none, or None where the vote is not of these prompts."""
        ids = (vote.video_a, vote.video_b) if isinstance(vote, Vote) else (vote.video,)
        if any(each not in self.videos for each in ids):
            return None
        if len({self.videos[each].prompt_id for each in ids}) > 1:
            return OTHER_PROMPTS
        # A pair without a majority is voted a tie; it is none of which anybody was convinced.
        if 2 * vote.consistency <= 1 or (isinstance(vote, GradeVote) and vote.verdict == TIE):
            return NO_MAJORITY
        if isinstance(vote, GradeVote):
            return Lesson(examples=(self._example(vote, ids, vote.verdict),), consistency=vote.consistency)
        orders = ((ids, vote.verdict), (ids[::-1], TURNED[vote.verdict]))
        examples = tuple(self._example(vote, own, answer) for own, answer in orders)
        return Lesson(examples=examples, consistency=vote.consistency)

    def _example(self, vote: Vote | GradeVote, ids: tuple[str, ...], answer: str) -> Example:
        known = [self.videos[each] for each in ids]
        kind = "pairwise" if len(ids) == 2 else "three_level"
        voices = self.voices.get((frozenset(ids), vote.dimension, kind), {}).values()
        told = [_told(row, ids) for row in voices if _answer(row, ids) == answer]
        return Example(
            videos=tuple(self.workspace.video_path(video) for video in known),
            prompt=self.texts[known[0].prompt_id],
            dimension=vote.dimension,
            answer=answer,
            reasons=tuple(dict.fromkeys(each for each in told if each)),
            name=" and ".join(ids),
        )


def _answer(row: Judgement, ids: Sequence[str]) -> str:
    """A judgement as an answer to the videos in this order."""
    return TURNED.get(row.verdict, row.verdict) if len(ids) == 2 and row.video_a != ids[0] else row.verdict


def _told(row: Judgement, ids: Sequence[str]) -> str:
    """A judge's words and tagged defects for this order; '' where there are none that fit it."""
    if len(ids) == 1:
        return " ".join(part for part in (row.reason or "", defects_told(row.defects, {ids[0]: ""})) if part)
    left = row.video_a if row.shown_left == "a" else row.video_b
    words = reason_in_order(row.reason or "", SIDES, turned=left != ids[0]) or ""
    return " ".join(part for part in (words, defects_told(row.defects, dict(zip(ids, SIDES, strict=True)))) if part)
