"""Questions put to a critic and its answers, kept as they come."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from pathlib import Path

from tqdm import tqdm

from reelign.critics import Critic
from reelign.errors import ReelignError
from reelign.evaluation.kept_rows import KeptRows
from reelign.records.schema import content_key
from reelign.training.caches import file_hash
from reelign.video import Clip, read_video

CLIPS_HELD = 16
"""Decoded videos that stay in memory: questions about a pair follow one another."""
BROKEN = "unreadable video"
VALUES = {"a": 1.0, "tie": 0.0, "b": -1.0, "good": 1.0, "normal": 0.5, "bad": 0.0}
"""An answer as a number: of two videos how much better the first is, of one how good."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Question:
    """What a critic is asked, about two videos in this order or about one."""

    videos: tuple[Path, ...]
    prompt: str
    dimension: str
    """The critic's own."""
    vote: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """What it said."""

    verdict: str | None
    """'a', 'b' or 'tie'; 'good', 'normal' or 'bad'; None where there is none, and `left_out` says why."""
    certainty: float | None = None
    reason: str = ""
    left_out: str = ""

    @property
    def value(self) -> float:
        """As `VALUES` has it, NaN where there is no verdict."""
        return float("nan") if self.verdict is None else VALUES[self.verdict]


def ask_all(
    critic: Critic, questions: Sequence[Question], path: Path, *, skip_broken: bool = False
) -> dict[Question, Answer]:
    """Ask what was not asked yet, as many at a time as the critic takes; interrupted, the same call goes on.

    Args:
        questions: those about the same videos next to each other, so that each is read once.
        path: of the answers, by the content of the videos and the critic's version.
        skip_broken: let files that cannot be read go without an answer.
    Raises:
        ReelignError: such a file otherwise, or the critic gives no answer at all.
    """
    kept = KeptRows(path)
    keys = {each: _key(critic, each) for each in dict.fromkeys(questions)}
    found = {each: Answer(**kept.rows[key]) for each, key in keys.items() if key in kept.rows}
    missing = [each for each in keys if each not in found]
    read = functools.lru_cache(maxsize=CLIPS_HELD)(read_video)
    window = 4 * critic.concurrency
    with (
        tqdm(total=len(missing), desc="ask", unit="question", disable=not missing) as bar,
        ThreadPoolExecutor(critic.concurrency, thread_name_prefix="critic") as pool,
    ):
        for start in range(0, len(missing), window):
            waiting = {
                pool.submit(_answer, critic, each, read, skip_broken): each for each in missing[start : start + window]
            }
            for done in as_completed(waiting):
                question, answer = waiting[done], done.result()
                found[question] = answer
                if answer.left_out != BROKEN:
                    kept.add({keys[question]: asdict(answer)})
                bar.update()
    return found


def _answer(critic: Critic, question: Question, read: functools._lru_cache_wrapper[Clip], skip_broken: bool) -> Answer:
    try:
        clips = [read(path) for path in question.videos]
    except ReelignError as error:
        if skip_broken:
            return Answer(verdict=None, left_out=BROKEN)
        raise ReelignError(error.what, f"{error.mend} Or leave such videos out, counted: skip_broken=true") from error
    if len(clips) == 2:
        said = critic.compare(clips[0], clips[1], question.prompt, question.dimension, vote=question.vote)
        return Answer(verdict=said.verdict, certainty=said.certainty, reason=said.reason, left_out=said.left_out)
    rated = critic.rate(clips[0], question.prompt, question.dimension, vote=question.vote)
    return Answer(verdict=rated.grade, certainty=rated.certainty, reason=rated.reason, left_out=rated.left_out)


def _key(critic: Critic, question: Question) -> str:
    videos = [file_hash(path) for path in question.videos]
    return content_key(critic.name, critic.version, videos, question.prompt, question.dimension, question.vote)


def counts(answers: Mapping[Question, Answer], questions: Sequence[Question]) -> dict[str, int]:
    """Why questions have no verdict, and how many of them; a refusal's own words are not told apart."""
    found: dict[str, int] = {}
    for each in questions:
        if reason := answers[each].left_out.partition(":")[0]:
            found[reason] = found.get(reason, 0) + 1
    return dict(sorted(found.items()))
