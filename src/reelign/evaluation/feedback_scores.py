"""Scores of the videos that people judged: each video is read and scored once, and what was scored is kept."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from tqdm import tqdm

from reelign.errors import ReelignError
from reelign.evaluation.feedback_clips import Waiting, batches
from reelign.evaluation.feedback_data import Candidate
from reelign.evaluation.kept_rows import KeptRows
from reelign.records.schema import content_key
from reelign.rewards.base import Reward
from reelign.training.caches import file_hash


@dataclass(frozen=True, kw_only=True, slots=True)
class Scored:
    """What a reward says of one video for its prompt."""

    scores: Mapping[str, float]
    """By dimension, higher is better; one that the reward could not score is not there."""
    num_frames: int
    fps: float

    @property
    def duration_s(self) -> float:
        return self.num_frames / self.fps


@dataclass(frozen=True, slots=True)
class Scores:
    """Scores of all candidates, and the candidates that lack some, each with the reason."""

    scored: Mapping[Candidate, Scored]
    failed: Mapping[Candidate, str]

    def of(self, candidate: Candidate, dimensions: Sequence[str]) -> float:
        """The mean over some dimensions; NaN where any of them is missing."""
        found = self.scored.get(candidate)
        known = found.scores if found else {}
        return math.fsum(known.get(name, math.nan) for name in dimensions) / len(dimensions)

    def duration_s(self, candidate: Candidate) -> float:
        """NaN of a video that was not read."""
        found = self.scored.get(candidate)
        return found.duration_s if found else math.nan


class ScoreFile:
    """Scores by content, prompt and reward version: a line each, added as they are made.

    A kill costs the last line at most. Videos without any score are not kept; the next call tries them again.
    """

    def __init__(self, path: Path) -> None:
        self._kept = KeptRows(path)
        self.known = {
            key: Scored(scores=row["scores"], num_frames=row["num_frames"], fps=row["fps"])
            for key, row in self._kept.rows.items()
        }

    def add(self, found: Mapping[str, Scored]) -> None:
        """Write some scores down."""
        self._kept.add({key: asdict(each) for key, each in found.items()})
        self.known.update(found)


def score_candidates(
    candidates: Sequence[Candidate],
    reward: Reward,
    kept: ScoreFile,
    *,
    batch_size: int = 8,
    readers: int = 2,
    skip_broken: bool = False,
) -> Scores:
    """Score what is not scored yet; interrupted, the same call goes on behind the last batch.

    Args:
        candidates: videos and their prompts; the same content under two names is scored once.
        batch_size: videos in one call of the reward.
        readers: threads that decode videos ahead.
        skip_broken: let files that cannot be read, or are too short for the reward, fail by themselves.
    Raises:
        ReelignError: such a file otherwise, or a reward that returns something else than it promises.
    """
    keys = {each: _key(each, reward) for each in tqdm(candidates, desc="look", unit="video", disable=None, leave=False)}
    missing: dict[str, Candidate] = {}
    for each, key in keys.items():
        if key not in kept.known:
            missing.setdefault(key, each)
    broken: dict[str, str] = {}

    def refuse(key: str, error: ReelignError) -> None:
        if not skip_broken:
            raise ReelignError(error.what, f"{error.mend} Or leave such videos out, counted: skip_broken=true")
        broken[key] = error.what

    with tqdm(total=len(missing), desc="score", unit="video", disable=not missing) as bar:
        for part in batches(
            missing, batch_size=batch_size, readers=readers, frames_needed=reward.frames_needed, refuse=refuse
        ):
            found = _scored(reward, part)
            kept.add({key: each for key, each in found.items() if each.scores})
            broken |= {key: "the reward could not score it" for key, each in found.items() if not each.scores}
            bar.update(len(part))
            bar.set_postfix(failed=len(broken), refresh=False)
    scored = {each: kept.known[key] for each, key in keys.items() if key in kept.known}
    failed = {each: broken[key] for each, key in keys.items() if key in broken}
    return Scores(scored, {**failed, **_partly(scored, reward)})


def _key(candidate: Candidate, reward: Reward) -> str:
    if not candidate.video.is_file():
        raise ReelignError(f"There is no video file at {candidate.video}.", "Check the path, or make it again.")
    return content_key(file_hash(candidate.video), candidate.prompt, reward.name, reward.version)


def _partly(scored: Mapping[Candidate, Scored], reward: Reward) -> dict[Candidate, str]:
    absent = {each: [name for name in reward.dimensions if name not in found.scores] for each, found in scored.items()}
    return {each: f"the reward could not score {', '.join(names)}" for each, names in absent.items() if names}


def _scored(reward: Reward, part: Sequence[Waiting]) -> dict[str, Scored]:
    """One call of the reward; what is not finite is no score."""
    with torch.no_grad():
        found = reward.score(torch.stack([one.frames for one in part]), [one.prompt for one in part], fps=part[0].fps)
    if set(found) != set(reward.dimensions) or any(values.shape != (len(part),) for values in found.values()):
        shapes = {name: tuple(values.shape) for name, values in found.items()}
        raise ReelignError(
            f"The reward {reward.name!r} returned {shapes} for {len(part)} videos.",
            f"It promises a tensor (videos,) for each of {', '.join(reward.dimensions)}.",
        )
    columns = {name: values.detach().float().cpu().tolist() for name, values in found.items()}
    return {
        one.key: Scored(
            scores={name: values[row] for name, values in columns.items() if math.isfinite(values[row])},
            num_frames=len(one.frames),
            fps=one.fps,
        )
        for row, one in enumerate(part)
    }
