"""Preferences with their videos, and those of a workspace's own judgements; `file_data` brings a user's files."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from reelign.diffusion.seeds import generator_from
from reelign.errors import ReelignError
from reelign.generators.base import Conditioning, Generator, VideoSize
from reelign.recipes.data.clips import Clip, latent_shapes, load_latents, pixel_size, stored_latents
from reelign.recipes.data.defect_segments import defect_segments
from reelign.records import (
    Group,
    ImagePrompt,
    Judgement,
    PairPolicy,
    Video,
    Workspace,
    content_key,
    ground_truth_pairs,
    majority,
    preferences,
    read_videos,
    standings,
)
from reelign.records.pair_policies import SMALL_MARGIN
from reelign.records.segments import Segments, segments_cell
from reelign.training import SharedLatents
from reelign.training.caches import cached_prompts, file_hash


@dataclass(frozen=True)
class Candidate:
    """One judged video: the row of its prompt, and how it stands among its group, in [-1, 1]."""

    clip: Clip
    row: int
    score: float


@dataclass(frozen=True)
class PreferenceData:
    """Pairs to train on.

    `rows` gives each pair the index of its prompt; `left_out` counts what gave no pair, by reason; `key` changes
    with the data. `margins` says how clear each pair is, and `candidates` how every judged video stands; where there
    are none, they follow from the pairs. Labels of single videos are candidates of score 1 or -1 without pairs.
    `segments` are the pairs' parts with verdicts of their own; an empty one is judged as a whole. `scores` is how
    chosen and rejected of each pair stand in the whole data, whatever was left out since; `held` are the rows of
    prompts that are held out. `limit` is what the data were cut down to, for a trial: other videos are cut to as many.
    """

    prompts: list[str]
    chosen: list[Clip]
    rejected: list[Clip]
    rows: list[int]
    key: str
    left_out: dict[str, int] = field(default_factory=dict)
    margins: list[float] | None = None
    candidates: list[Candidate] | None = None
    segments: list[Segments] | None = None
    scores: list[tuple[float, float]] | None = None
    held: frozenset[int] = frozenset()
    limit: int | None = None

    def __post_init__(self) -> None:
        # Labels of single videos need no pair, but candidates that all tie are none.
        if not self.rows and not any(each.score for each in self.candidates or ()):
            reasons = ", ".join(f"{count} x {reason}" for reason, count in self.left_out.items())
            raise ReelignError(
                f"There is no preference to train on{f' ({reasons})' if reasons else ''}.",
                "Judge the candidates first, or generate more of them: reelign judge -w WORKSPACE",
            )

    def check_pairs(self) -> None:
        """Refuse data that hold labels of single videos alone."""
        if not self.rows:
            raise ReelignError(
                "The data hold labels of single videos and no pairs.",
                "Train with objective.name=kto, rwr or sft and without held-out pairs, or give pairs.",
            )

    def one_side(self, on: Literal["chosen", "rejected"]) -> tuple[list[Clip], list[int]]:
        """One side's videos with the rows of their prompts: of every pair, or where labels stand alone the desirable
        (`chosen`) or undesirable ones.

        Raises:
            ReelignError: labels alone, none of them of that kind.
        """
        if self.rows:
            return self.chosen if on == "chosen" else self.rejected, self.rows
        kept = [each for each in self.standing() if (each.score > 0 if on == "chosen" else each.score < 0)]
        if not kept:
            raise ReelignError(
                f"objective.on={on} trains on {'' if on == 'chosen' else 'un'}desirable videos, and no label is so.",
                "Set objective.on to the other side, or label more videos.",
            )
        return [each.clip for each in kept], [each.row for each in kept]

    def pairs(self, generator: Generator, cache: Path) -> tuple[SharedLatents, Tensor]:
        """Latents (pairs, 2, C, F, H, W), column 0 chosen, and (pairs,) rows of their prompts."""
        place = {clip: index for index, clip in enumerate(dict.fromkeys(self.clips))}
        index = torch.tensor([place[clip] for clip in self.clips]).unflatten(0, (-1, 2))
        return SharedLatents(load_latents(list(place), generator, cache), index), torch.tensor(self.rows)

    def conditioning(self, generator: Generator, cache: Path) -> Conditioning:
        """A row for each prompt; images are encoded for the size of the videos."""
        return cached_prompts(self.prompts, generator, cache / "text", size=self.image_size())

    def image_size(self) -> VideoSize | None:
        """The size of the videos that go on from images; None where no prompt has one.

        Raises:
            ReelignError: there are several.
        """
        if not any(isinstance(prompt, ImagePrompt) for prompt in self.prompts):
            return None
        return pixel_size([*self.clips, *(each.clip for each in self.candidates or ())])

    @property
    def clips(self) -> list[Clip]:
        """Chosen and rejected of each pair, one after the other."""
        return [clip for pair in zip(self.chosen, self.rejected, strict=True) for clip in pair]

    @property
    def names(self) -> list[str]:
        return [f"{one.name} over {other.name}" for one, other in zip(self.chosen, self.rejected, strict=True)]

    def standing(self) -> list[Candidate]:
        """Every judged video once, by prompt: its mean margin, or the share of its pairs that it won over lost."""
        return self._by_pairs() if self.candidates is None else self.candidates

    def sides(self) -> list[tuple[float, float]]:
        """How chosen and rejected of each pair stand among their group."""
        if self.scores is not None:
            return self.scores
        # Beside labels of single videos, those of pairs are no candidates.
        score = {(each.row, each.clip): each.score for each in (*self._by_pairs(), *self.standing())}
        rows = zip(self.rows, self.chosen, self.rejected, strict=True)
        return [(score[row, chosen], score[row, rejected]) for row, chosen, rejected in rows]

    def _by_pairs(self) -> list[Candidate]:
        seen: dict[tuple[int, Clip], list[float]] = {}
        for row, chosen, rejected in zip(self.rows, self.chosen, self.rejected, strict=True):
            seen.setdefault((row, chosen), []).append(1.0)
            seen.setdefault((row, rejected), []).append(-1.0)
        found = [Candidate(clip, row, sum(values) / len(values)) for (row, clip), values in seen.items()]
        return sorted(found, key=lambda each: each.row)

    def above(self, min_margin: float) -> PreferenceData:
        """The pairs that are at least so clear, with all candidates: which of them are is the objective's affair."""
        if not min_margin:
            return self
        margins = self.margins or [1.0] * len(self.rows)
        clear = [index for index, margin in enumerate(margins) if margin >= min_margin]
        candidates = self.standing()
        if not clear and all(abs(each.score) < min_margin for each in candidates):
            candidates = []
        dropped = {SMALL_MARGIN: len(self.rows) - len(clear)} if len(clear) < len(self.rows) else {}
        return self._only(clear, candidates, dropped)

    def first(self, limit: int) -> PreferenceData:
        """At most so many pairs and so many labels, from as many prompts as there are, of both kinds in turn, and their
        prompts alone: what nothing is trained on need not be encoded."""
        pairs = _in_turn(self.rows)[:limit]
        labels = None
        if self.candidates is not None:
            # The clearest, so that a threshold leaves of both kinds as many as it can.
            labelled = sorted((each for each in self.candidates if each.score), key=lambda each: -abs(each.score))
            kinds = _in_turn([each.score > 0 for each in labelled])
            labels = [labelled[index] for index in kinds[:limit]]
        only = self._only(pairs, labels or [], {})
        place = {row: new for new, row in enumerate(sorted({*only.rows, *(each.row for each in labels or ())}))}
        return replace(
            only,
            prompts=[self.prompts[row] for row in place],
            rows=[place[row] for row in only.rows],
            candidates=None if labels is None else [replace(each, row=place[each.row]) for each in labels],
            held=frozenset(place[row] for row in self.held & place.keys()),
            key=content_key(self.key, limit),
            limit=limit,
        )

    def split(self, share: float, seed: int) -> tuple[PreferenceData, PreferenceData]:
        """A training part and a held-out part with that share of the prompts, at least one; no prompt is in both."""
        self.check_pairs()
        prompts = sorted(set(self.rows))
        count = max(1, round(share * len(prompts)))
        if count >= len(prompts):
            raise ReelignError(
                f"Holding out {share:g} of {len(prompts)} prompts leaves nothing to train on.",
                "Judge candidates of more prompts, or set monitor.held_out=0.",
            )
        order = torch.randperm(len(prompts), generator=generator_from(seed, "held out")).tolist()
        held = {prompts[index] for index in order[:count]}
        parts = []
        for wanted in (False, True):
            kept = [index for index, row in enumerate(self.rows) if (row in held) is wanted]
            parts.append(self._only(kept, [each for each in self.standing() if (each.row in held) is wanted], {}))
        return replace(parts[0], held=frozenset(held)), parts[1]

    def by_size(
        self, clips: Sequence[Clip], generator: Generator, cache: Path
    ) -> dict[tuple[int, ...], PreferenceData]:
        """The data of each size of latents (C, F, H, W) that the clips come in, the commonest first.

        Raises:
            ReelignError: the videos of a pair differ in size.
        """
        shapes, candidates = latent_shapes(clips, generator, cache), self.standing()
        for name, chosen, rejected in zip(self.names, self.chosen, self.rejected, strict=True):
            if chosen in shapes and rejected in shapes and shapes[chosen] != shapes[rejected]:
                raise ReelignError(
                    f"{name}: the videos differ in size, their latents are {shapes[chosen]} and {shapes[rejected]}.",
                    "Cut or resize one of them, or leave the pair out.",
                )
        parts = {}
        for shape, _ in Counter(shapes.values()).most_common():
            kept = [index for index, clip in enumerate(self.chosen) if shapes.get(clip) == shape]
            parts[shape] = self._only(kept, [each for each in candidates if shapes.get(each.clip) == shape], {})
        return parts

    def _only(self, kept: list[int], candidates: list[Candidate], dropped: dict[str, int]) -> PreferenceData:
        def pick(values: list[Any]) -> list[Any]:
            return [values[index] for index in kept]

        return replace(
            self,
            chosen=pick(self.chosen),
            rejected=pick(self.rejected),
            rows=pick(self.rows),
            margins=None if self.margins is None else pick(self.margins),
            segments=None if self.segments is None else pick(self.segments),
            scores=pick(self.sides()),
            candidates=candidates,
            left_out={**self.left_out, **dropped},
        )


def _in_turn(kinds: Sequence[Hashable]) -> list[int]:
    """Indices such that each kind comes once before any comes twice, in the order they have."""
    seen: Counter[Hashable] = Counter()
    rounds = []
    for kind in kinds:
        rounds.append(seen[kind])
        seen[kind] += 1
    return sorted(range(len(kinds)), key=rounds.__getitem__)


def workspace_preferences(
    workspace: Workspace,
    pairs: PairPolicy,
    weights: Mapping[str, float] | None = None,
    *,
    split: str = "train",
    adapter: str = "",
    defects: bool = False,
    groups: Sequence[Group] | None = None,
    judgements: Sequence[Judgement] | None = None,
) -> PreferenceData:
    """The preferences that follow from the workspace's judgements by majority vote.

    With `defects` the stretches in which judges marked some become segments with verdicts of their own. `groups` and
    `judgements` are those to look at, in place of all candidates of the split by `adapter` and of all that hold.
    """
    groups = workspace.groups(split, adapter) if groups is None else groups
    judgements = workspace.judgements() if judgements is None else judgements
    votes = majority(judgements)
    found = preferences(groups, votes, weights=weights, pairs=pairs)
    segments = None
    if defects:
        counted = [each for each in judgements if weights is None or weights.get(each.dimension)]
        segments = defect_segments(found.pairs, counted, (video for group in groups for video in group.videos))
    clips = {video.id: clip_of(workspace, video) for group in groups for video in group.videos}
    prompts = {group.prompt.id: row for row, group in enumerate(groups)}
    return PreferenceData(
        prompts=[workspace.asked(group.prompt) for group in groups],
        chosen=[clips[pair.chosen] for pair in found.pairs],
        rejected=[clips[pair.rejected] for pair in found.pairs],
        rows=[prompts[pair.prompt_id] for pair in found.pairs],
        key=content_key(
            [[pair.chosen, pair.rejected] for pair in found.pairs], *([segments_cell(each) for each in segments or ()])
        ),
        left_out=found.left_out,
        segments=segments,
        margins=[pair.margin for pair in found.pairs],
        candidates=[
            Candidate(clips[each.video], prompts[each.prompt_id], each.score)
            for each in standings(groups, votes, weights=weights)
        ],
    )


def ground_truth_preferences(workspace: Workspace, path: Path, *, split: str = "train") -> PreferenceData:
    """Real videos from a file of (prompt, video) against the base's samples of the same prompts."""
    groups = workspace.groups(split, "")
    ids = {workspace.asked(group.prompt): group.prompt.id for group in groups}
    clips = {video.id: clip_of(workspace, video) for group in groups for video in group.videos}
    real: dict[int, list[str]] = {}
    for each in read_videos(path):
        if each.prompt in ids:
            real.setdefault(ids[each.prompt], []).append(str(each.video))
            clips[str(each.video)] = Clip(each.video)
    if not real:
        raise ReelignError(
            f"{path} has no video of a prompt that {workspace.root} has samples of.",
            "Give its prompts in the very words of the workspace's, and generate candidates of them.",
        )
    found = ground_truth_pairs(groups, real)
    prompts = {group.prompt.id: row for row, group in enumerate(groups)}
    return PreferenceData(
        prompts=[workspace.asked(group.prompt) for group in groups],
        chosen=[clips[pair.chosen] for pair in found.pairs],
        rejected=[clips[pair.rejected] for pair in found.pairs],
        rows=[prompts[pair.prompt_id] for pair in found.pairs],
        key=content_key([[file_hash(clips[pair.chosen].path), pair.rejected] for pair in found.pairs]),
        left_out=found.left_out,
    )


def random_videos(workspace: Workspace, data: PreferenceData, chance: torch.Generator) -> tuple[Tensor, Tensor]:
    """Latents and prompts' rows of `random_clips`."""
    drawn = random_clips(workspace, data, chance)
    return torch.stack([stored_latents(clip) for clip, _ in drawn]), torch.tensor([row for _, row in drawn])


def random_clips(workspace: Workspace, data: PreferenceData, chance: torch.Generator) -> list[tuple[Clip, int]]:
    """As many of the workspace's own base samples as there are pairs, drawn without a look at any judgement."""
    groups = workspace.groups("train", "")
    row = {prompt: index for index, prompt in enumerate(data.prompts) if index not in data.held}
    asked = [(group, workspace.asked(group.prompt)) for group in groups]
    videos = [(video, row[prompt]) for group, prompt in asked if prompt in row for video in group.videos]
    if not videos:
        raise ReelignError(
            f"{workspace.root} holds no base sample of the prompts that the preferences are about.",
            "Generate candidates of these prompts first: reelign generate -w WORKSPACE",
        )
    drawn = [videos[index] for index in torch.randperm(len(videos), generator=chance)[: len(data.rows)].tolist()]
    return [(clip_of(workspace, video), index) for video, index in drawn]


def clip_of(workspace: Workspace, video: Video) -> Clip:
    """A video of the record as something to train on."""
    return Clip(workspace.video_path(video), workspace.latents_path(video), video.latents_key)
