"""Evaluate: base and aligned on held-out prompts with the same seeds, scored by a judge that training did not see."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor

from reelign.diffusion.seeds import generator_from
from reelign.errors import ReelignError
from reelign.evaluation.paired import Comparison, compare
from reelign.naming import is_object_name, named_object
from reelign.records import Video, Workspace
from reelign.rewards.base import Reward
from reelign.rewards.judging import PREFIX, RewardScorer, RewardUse, reward_judge
from reelign.rewards.opening import check_reward
from reelign.training.latent_guide import GuideSettings
from reelign.video import read_video


class Scorer(Protocol):
    """Anything that scores videos (B, F, 3, H, W) in [0, 1] for their prompts: {dimension: (B,)}, higher is better."""

    def __call__(self, videos: Tensor, prompts: Sequence[str]) -> dict[str, Tensor]: ...


Cell = tuple[int, int]
"""A prompt's id and a place in its group."""

SCORERS = {
    "spriteworld-truth": "reelign.spriteworld.judges:scores",
    "spriteworld-panel": "reelign.spriteworld.panel:scores",
}
PROMPT_CHECKS = dict.fromkeys(SCORERS, "reelign.spriteworld.prompts:parse")
"""Of scorers that cannot score any prompt: `check(prompts)` raises a ReelignError for one that it does not know."""
READ_AT_ONCE = 64
"""Videos that a scorer gets in one call, at most; the small world's judges take as many at a time, too."""
READ_BYTES = 1 << 30
"""What the frames of one call may take, unless one video takes more."""
MEASURES = {"spriteworld-truth": "reelign.spriteworld.measures:measures"}
"""Beside each scorer: measures that label nothing, `measures(videos, prompts) -> {name: value}`."""


@dataclass(frozen=True, kw_only=True, slots=True)
class EvaluateSettings:
    """What to compare, on what, by whom."""

    run: str = "align"
    """The run whose adapter is compared with the base."""
    split: str = "held_out"
    seeds: int = 4
    """Videos per prompt on each side."""
    scorer: str = "spriteworld-truth"
    """A scorer's name, `reward:NAME`, or `package.module:object`."""
    tie: float = 0.01
    """Mean rewards no further apart than this are a tie in the win rate."""
    resamples: int = 2000
    seed: int = 1000
    """Of the evaluation's noise, apart from the training candidates'."""
    guide: GuideSettings = field(default_factory=GuideSettings)
    """A latent reward whose guidance is what is compared: the run's videos, or the base's with `run=`, without it and
    with it."""
    reward: RewardUse = field(default_factory=RewardUse)
    """Of a scorer `reward:NAME`; its own tie band plays no part here, `tie` above does."""

    def __post_init__(self) -> None:
        for name in ("seeds", "resamples"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if not 0 <= self.tie < math.inf:
            raise ValueError(f"tie must be a number of at least 0, got {self.tie}")


@dataclass(frozen=True)
class Evaluated:
    """The comparison, what labelled nothing, and the scores (prompts x seeds,) behind them."""

    comparison: Comparison
    measures: dict[str, tuple[float, float]]
    """Name -> (base, aligned)."""
    base_scores: dict[str, Tensor] = field(repr=False)
    aligned_scores: dict[str, Tensor] = field(repr=False)
    what: str = "Alignment"
    """That is compared with its absence, as a sentence about it begins."""


def load_scorer(spec: str, reward: RewardUse | None = None) -> Scorer:
    """Find a scorer by name, as `reward:NAME` opened with its settings, or as `package.module:object`.

    Raises:
        ReelignError: there is none, or the object is a reward, which needs its prefix, or no function at all.
    """
    if spec.startswith(PREFIX):
        return RewardScorer(reward_judge(spec.removeprefix(PREFIX), reward))
    scorer: Scorer = _load(SCORERS.get(spec, spec))
    if isinstance(scorer, (type, Reward)):
        raise ReelignError(
            f"{spec} is no function of videos and prompts.", f"Name a function, or a reward as {PREFIX}{spec}."
        )
    return scorer


def check_scorer(spec: str, reward: RewardUse, prompts: Sequence[str]) -> None:
    """Refuse a scorer that is not there, and prompts that it is known not to understand, before hours of sampling.

    A reward is looked up and not opened: until the videos are there, its weights would only take the generator's room.

    Raises:
        ReelignError: an unknown scorer, or such a prompt.
    """
    if spec.startswith(PREFIX):
        check_reward(spec.removeprefix(PREFIX), **reward.options)
        return
    load_scorer(spec)
    if spec not in PROMPT_CHECKS:
        return
    try:
        _load(PROMPT_CHECKS[spec])(prompts)
    except ReelignError as error:
        raise ReelignError(
            f"The scorer {spec} does not fit: {error.what}",
            f"Name one that does, as in reelign evaluate scorer=my_package.rewards:score. {error.mend}",
        ) from error


def evaluate(workspace: Workspace, base: list[Video], aligned: list[Video], settings: EvaluateSettings) -> Evaluated:
    """Compare the recorded videos of base and aligned, pair by pair.

    Args:
        workspace: where the videos are.
        base, aligned: videos of the same prompts and seeds; one that only one side has is a failed sample, counted and
            named by the comparison, never zero-filled.
    Raises:
        ReelignError: the two sides have no prompt and seed in common.
    """
    before, after = ({(video.prompt_id, video.index): video for video in side} for side in (base, aligned))
    prompts = list(dict.fromkeys(key[0] for key in (*before, *after)))
    if any(before[key].seed != after[key].seed for key in before.keys() & after.keys()) or not before.keys() & after:
        raise ReelignError(
            "The videos of base and aligned were not made with the same prompts and seeds.",
            "Run reelign evaluate again; it makes both sides alike.",
        )
    scorer = load_scorer(settings.scorer, settings.reward)
    text = {prompt.id: prompt.text for prompt in workspace.prompts()}
    cells = [(prompt, index) for prompt in prompts for index in range(settings.seeds)]
    scores = [_scored(scorer, workspace, side, cells, text) for side in (before, after)]
    shape = (len(prompts), settings.seeds)
    comparison = compare(
        {name: values.reshape(shape) for name, values in scores[0].items()},
        {name: values.reshape(shape) for name, values in scores[1].items()},
        tie=settings.tie,
        resamples=settings.resamples,
        generator=generator_from(settings.seed, "bootstrap"),
    )
    measures = _measured(settings, workspace, before, after, text)
    what = "Guidance" if settings.guide.active else "Alignment"
    return Evaluated(comparison, measures, scores[0], scores[1], what)


def score_recorded(workspace: Workspace, videos: Sequence[Video], scorer: str, reward: RewardUse) -> dict[str, Tensor]:
    """What a scorer says of recorded videos: {dimension: (videos,)} fp32, NaN where a reward could not score one."""
    side = {(video.prompt_id, video.index): video for video in videos}
    text = {prompt.id: prompt.text for prompt in workspace.prompts()}
    return _scored(load_scorer(scorer, reward), workspace, side, list(side), text)


def _scored(
    scorer: Scorer, workspace: Workspace, side: dict[Cell, Video], cells: list[Cell], text: dict[int, str]
) -> dict[str, Tensor]:
    """Scores of all cells in order, NaN where the sample failed."""
    there = [cell for cell in cells if cell in side]
    parts: list[dict[str, Tensor]] = []
    for cells_read in _chunks(there, side):
        prompts = [text[cell[0]] for cell in cells_read]
        with torch.no_grad():
            found = _called(scorer, workspace, [side[cell] for cell in cells_read], prompts)
        # A reward says NaN of a sample that it could not score, which is a failed sample like one that was not made.
        scores = _checked(found, prompts, may_fail=isinstance(scorer, RewardScorer))
        if parts and scores.keys() != parts[0].keys():
            raise ReelignError(
                f"The scorer scored some videos on {', '.join(parts[0])} and others on {', '.join(scores)}.",
                "Let it score every video on the same dimensions.",
            )
        parts.append({name: values.float().cpu() for name, values in scores.items()})
    rows = torch.tensor([cells.index(cell) for cell in there])
    return {
        name: torch.full((len(cells),), float("nan")).index_copy(0, rows, torch.cat([part[name] for part in parts]))
        for name in parts[0]
    }


def _chunks(cells: list[Cell], side: dict[Cell, Video]) -> Iterator[list[Cell]]:
    """Cells whose videos are read at once: few large ones, or many small."""
    largest = max(4 * 3 * side[cell].num_frames * side[cell].height * side[cell].width for cell in cells)
    size = max(1, min(READ_AT_ONCE, READ_BYTES // max(1, largest)))
    for start in range(0, len(cells), size):
        yield cells[start : start + size]


def _checked(found: Any, prompts: list[str], *, may_fail: bool) -> dict[str, Tensor]:
    """What a scorer returned, if it is what a scorer returns."""
    mend = "A scorer returns {dimension: tensor (videos,)}, finite, higher is better."
    if not isinstance(found, dict) or not found or not all(isinstance(each, Tensor) for each in found.values()):
        raise ReelignError(f"The scorer returned {type(found).__name__} and no tensors by dimension.", mend)
    for name, values in found.items():
        if values.shape != (len(prompts),):
            raise ReelignError(f"The scorer returned {name} as {tuple(values.shape)} for {len(prompts)} videos.", mend)
        for value, prompt in zip(values.tolist(), prompts, strict=True):
            if not math.isfinite(value) and not (may_fail and math.isnan(value)):
                raise ReelignError(f"The scorer's {name} of a video of {prompt!r} is {value}.", mend)
    return found


def _measured(
    settings: EvaluateSettings,
    workspace: Workspace,
    before: dict[Cell, Video],
    after: dict[Cell, Video],
    text: dict[int, str],
) -> dict[str, tuple[float, float]]:
    if settings.scorer not in MEASURES:
        return {}
    measure = _load(MEASURES[settings.scorer])
    both = [measure(_frames(workspace, list(s.values())), [text[cell[0]] for cell in s]) for s in (before, after)]
    return {name: (both[0][name], both[1][name]) for name in both[0]}


def _called(scorer: Scorer, workspace: Workspace, videos: list[Video], prompts: list[str]) -> Any:
    if not isinstance(scorer, RewardScorer):
        return scorer(_frames(workspace, videos), prompts)
    # A reward may sample frames by time; the videos of one sampling have one rate.
    clips = [read_video(workspace.video_path(video)) for video in videos]
    return scorer(torch.stack([clip.frames for clip in clips]), prompts, fps=clips[0].fps)


def _frames(workspace: Workspace, videos: list[Video]) -> Tensor:
    return torch.stack([read_video(workspace.video_path(video)).frames for video in videos])


def _load(spec: str) -> Any:
    if not is_object_name(spec):
        raise ReelignError(
            f"There is no scorer {spec!r}.",
            f"Known are {', '.join(SCORERS)} and reward:NAME (`reelign rewards` lists them); any other is named as "
            "package.module:object.",
        )
    return named_object(spec, "scorer")
