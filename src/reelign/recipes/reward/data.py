"""What a reward is trained on: videos with their prompts, pairs of them, and what was said of each dimension."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor

from reelign.errors import ReelignError
from reelign.objectives.ranking import MISSING, BradleyTerry, RankingObjective, ScoreRegression, decided
from reelign.recipes.data.splits import split_by_prompt
from reelign.records import Judgement, Workspace, content_key, majority
from reelign.records.derived import workspace_votes
from reelign.records.exchange.videoreward import read_rows
from reelign.records.grades import grade_votes
from reelign.records.schema import Video

Key = TypeVar("Key", bound=Hashable)
LABELS = {"a": 1.0, "b": -1.0, "tie": 0.0}
UNSAID = "no verdict on any of the dimensions"
NOT_TAUGHT = "verdicts that teach the objective nothing, such as ties"


@dataclass(frozen=True, kw_only=True, slots=True)
class RewardClip:
    """A video file and the prompt it was made for."""

    path: Path
    prompt: str
    name: str
    """What a person would call it, for messages."""


@dataclass(frozen=True, kw_only=True)
class RewardData:
    """Labelled pairs of V videos on D dimensions."""

    dimensions: tuple[str, ...]
    clips: tuple[RewardClip, ...]
    """V, each once however many pairs it stands in."""
    pairs: Tensor
    """(N, 2) int64, the places of a and b in `clips`."""
    labels: Tensor
    """(N, D) float32: 1 where a is better, -1 where b is, 0 a tie, NaN nobody said."""
    scores: Tensor
    """(V, D) float32 mean scores on a scale from 1 to 5, NaN where there are none."""
    left_out: dict[str, int] = field(default_factory=dict)
    """Pairs that are not here, by the reason."""

    def __len__(self) -> int:
        return len(self.pairs)

    @property
    def prompts(self) -> list[str]:
        """(N) of each pair."""
        return [self.clips[a].prompt for a in self.pairs[:, 0].tolist()]

    @property
    def key(self) -> str:
        """Of all that training can see of it but the pixels."""
        clips = [[clip.name, clip.prompt] for clip in self.clips]
        told = [["-" if math.isnan(value) else value for value in row] for row in self.labels.tolist()]
        scores = [["-" if math.isnan(value) else round(value, 6) for value in row] for row in self.scores.tolist()]
        return content_key(self.dimensions, clips, self.pairs.tolist(), told, scores)

    def take(self, rows: Tensor) -> RewardData:
        """The pairs of the given rows; videos that stand in none of them stay, unread."""
        return replace(self, pairs=self.pairs[rows], labels=self.labels[rows])

    def split(self, shares: Sequence[float], seed: int) -> list[RewardData]:
        """Parts of the pairs by their prompts, no prompt in two: one for each share, and the rest.

        Raises:
            ReelignError: too few prompts to give every share one.
        """
        parts = split_by_prompt(self.prompts, shares, seed)
        return [self.take(torch.tensor(rows, dtype=torch.int64)) for rows in parts]

    def fit_for(self, objective: RankingObjective) -> RewardData:
        """The pairs that teach this objective something; the others are counted.

        Raises:
            ReelignError: a dimension on which no pair does, or on which regression finds all videos equal.
        """
        if isinstance(objective, ScoreRegression):
            return self._fit_for_regression()
        counts = taught(objective, self.labels)
        for column, name in enumerate(self.dimensions):
            own = self.labels[:, column]
            if not bool(decided(own).any()):
                what = "ties" if bool((own == 0).any()) else "missing"
                raise ReelignError(
                    f"All labels of the dimension {name} are {what}: nothing tells a better video from a worse one.",
                    "Judge more pairs, or leave this dimension out of `dimensions`.",
                )
        if isinstance(objective, BradleyTerry) and objective.needs_scores:
            gaps = self.gaps()
            if bool((counts & gaps.isnan()).any()):
                raise ReelignError(
                    f"objective.margin={objective.margin} needs scores of both videos, and some pairs have none.",
                    "Set scores=wins, or another margin.",
                )
        rows = counts.any(dim=1)
        left_out = Counter(self.left_out) + Counter({NOT_TAUGHT: int((~rows).sum())})
        return replace(self.take(rows.nonzero()[:, 0]), left_out=dict(left_out))

    def _fit_for_regression(self) -> RewardData:
        used = self.scores[self.pairs.flatten().unique()]
        for column, name in enumerate(self.dimensions):
            different = len(used[:, column][~used[:, column].isnan()].unique())
            if different < 2:
                raise ReelignError(
                    f"The dimension {name} has {different} different scores: there is nothing for regression to learn.",
                    "Rate videos, take scores from comparisons (scores=wins), or train on pairs (objective.name=btt).",
                )
        return self

    def with_single_videos(self) -> RewardData:
        """The same with each scored video that stands in no pair beside itself, without a label, for regression."""
        alone = torch.ones(len(self.clips), dtype=torch.bool)
        alone[self.pairs.flatten()] = False
        found = (alone & ~self.scores.isnan().all(dim=1)).nonzero()
        labels = torch.full((len(found), len(self.dimensions)), MISSING)
        return replace(
            self,
            pairs=torch.cat([self.pairs, found.expand(-1, 2)]),
            labels=torch.cat([self.labels, labels]),
        )

    def gaps(self) -> Tensor:
        """(N, D) how much higher the preferred video scored, >= 0; NaN at ties and where a score is missing."""
        a, b = (self.scores[self.pairs[:, side]] for side in (0, 1))
        return torch.where(decided(self.labels), (self.labels * (a - b)).clamp(min=0), MISSING)

    def with_win_scores(self) -> RewardData:
        """Scores from the comparisons themselves: 1 + 4 · the share that a video won, ties half."""
        won, fought = torch.zeros_like(self.scores), torch.zeros_like(self.scores)
        said = ~self.labels.isnan()
        for side, sign in ((0, 1.0), (1, -1.0)):
            points = torch.where(said, 0.5 + 0.5 * sign * self.labels, 0.0)
            won.index_add_(0, self.pairs[:, side], points)
            fought.index_add_(0, self.pairs[:, side], said.float())
        return replace(self, scores=torch.where(fought > 0, 1 + 4 * won / fought.clamp(min=1), MISSING))


def taught(objective: RankingObjective, labels: Tensor) -> Tensor:
    """Which labels enter the objective's mean; bool in the labels' shape."""
    return decided(labels) if isinstance(objective, BradleyTerry) else ~labels.isnan()


def workspace_reward_data(
    workspace: Workspace,
    dimensions: Sequence[str],
    split: str | None = None,
    *,
    judgements: Sequence[Judgement] | None = None,
) -> RewardData:
    """The majority votes of a workspace, ties among them, and the mean of its ratings.

    Args:
        workspace: with judgements.
        dimensions: in this order.
        split: only prompts of this split; None takes all.
        judgements: these alone, such as `critic_refresh.dependable` gives; None for all that count.
    Raises:
        ReelignError: a dimension that nobody judged, or a video file that is gone.
    """
    prompts = {prompt.id: prompt.text for prompt in workspace.prompts(split)}
    videos = {video.id: video for video in workspace.videos(split)}
    found: dict[tuple[str, str], dict[str, float]] = {}
    for vote in workspace_votes(workspace) if judgements is None else majority(judgements):
        if vote.video_a in videos and vote.video_b in videos:
            found.setdefault((vote.video_a, vote.video_b), {})[vote.dimension] = LABELS[vote.verdict]
    means = {
        (vote.video, vote.dimension): 1 + 4 * vote.mean
        for vote in grade_votes(workspace.judgements() if judgements is None else judgements)
        if vote.kind == "rating"
    }
    _check_judged(dimensions, [*(name for own in found.values() for name in own), *(name for _, name in means)])

    def clip(video: Video) -> RewardClip:
        return RewardClip(path=workspace.video_path(video), prompt=prompts[video.prompt_id], name=video.id)

    clips = {key: clip(video) for key, video in videos.items()}
    return _assemble(dimensions, clips, found.items(), means)


def csv_reward_data(path: Path, dimensions: Sequence[str]) -> RewardData:
    """A CSV in VideoReward's layout; the videos' paths are relative to its folder.

    Raises:
        ReelignError: no such file, a missing column or dimension, or a video file that is not there.
    """
    clips: dict[tuple[str, str], RewardClip] = {}
    labelled, means = [], {}
    for row in read_rows(path):
        keys = [(own, row.prompt) for own in row.paths]
        for side, key in enumerate(keys):
            clips[key] = RewardClip(path=path.parent / key[0], prompt=row.prompt, name=key[0])
            for name, pair in row.scores.items():
                if pair[side] is not None:
                    means[key, name] = float(pair[side] or 0)
        labelled.append(((keys[0], keys[1]), {name: LABELS[verdict] for name, verdict in row.verdicts.items()}))
    _check_judged(dimensions, [*(name for _, own in labelled for name in own), *(name for _, name in means)])
    return _assemble(dimensions, clips, labelled, means)


def _check_judged(dimensions: Sequence[str], there: Iterable[str]) -> None:
    known = sorted(set(there))
    for name in dimensions:
        if name not in known:
            raise ReelignError(
                f"Nobody judged the dimension {name}; there are {', '.join(known) or 'no judgements'}.",
                "Judge it, or name the dimensions that there are: dimensions=[VQ,MQ].",
            )


def _assemble(
    dimensions: Sequence[str],
    clips: Mapping[Key, RewardClip],
    labelled: Iterable[tuple[tuple[Key, Key], dict[str, float]]],
    means: Mapping[tuple[Key, str], float],
) -> RewardData:
    pairs, labels = [], []
    used: dict[Key, int] = {}
    unsaid = 0
    for keys, told in labelled:
        row = [told.get(name, MISSING) for name in dimensions]
        if all(math.isnan(value) for value in row):
            unsaid += 1
            continue
        pairs.append([used.setdefault(key, len(used)) for key in keys])
        labels.append(row)
    for key, _ in means:
        if key in clips:
            used.setdefault(key, len(used))
    gone = [clips[key] for key in used if not clips[key].path.is_file()]
    if gone:
        raise ReelignError(
            f"{len(gone)} of {len(used)} judged videos are not there; the first is {gone[0].path}.",
            "Put the files back, or take these rows out.",
        )
    if not used:
        raise ReelignError("There are no judged pairs to train on.", "Judge some: reelign judge, or reelign annotate.")
    return RewardData(
        dimensions=tuple(dimensions),
        clips=tuple(clips[key] for key in used),
        pairs=torch.tensor(pairs, dtype=torch.int64).reshape(-1, 2),
        labels=torch.tensor(labels).reshape(-1, len(dimensions)),
        scores=torch.tensor([[means.get((key, name), MISSING) for name in dimensions] for key in used]),
        left_out={UNSAID: unsaid} if unsaid else {},
    )
