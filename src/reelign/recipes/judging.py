"""Judge: ask judges about the pairs of every group and write down what they say."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from reelign.critics.judging import CriticJudge, CriticUse
from reelign.errors import ReelignError
from reelign.recipes.asked_critics import CACHE, Silences, ask_critics
from reelign.recipes.score_judging import answered, drawn_sides, score_pairs
from reelign.records import Group, Judge, Judgement, Verdict, Video, Workspace, kind_of, load_judges
from reelign.rewards.judging import RewardJudge, RewardUse
from reelign.video import read_video


@dataclass(frozen=True, kw_only=True, slots=True)
class JudgeSettings:
    """Whom to ask about what."""

    judge: str = "spriteworld-people"
    """A judge's name, `reward:NAME`, `critic:NAME`, or `package.module:object`."""
    split: str = "train"
    adapter: str = ""
    seed: int = 0
    reward: RewardUse = field(default_factory=RewardUse)
    """Of a judge `reward:NAME`."""
    critic: CriticUse = field(default_factory=CriticUse)
    """Of a judge `critic:NAME`."""


@dataclass(frozen=True)
class Judged:
    """What a call of `judge` did, in judgements."""

    made: int
    already_there: int
    unscored: tuple[str, ...] = ()
    """Of each reward that could not score some videos, and each critic that gave no verdict on some pairs, a sentence;
    these pairs are left out and tried again."""
    asked: tuple[str, ...] = ()
    """Of each critic, what asking it took: questions, answers from its cache, tokens, cost."""


def judges_of(workspace: Workspace, settings: JudgeSettings) -> list[Judge]:
    """The judges that the settings name; a critic keeps its answers in the workspace unless it has a folder."""
    critic = settings.critic
    if not critic.cache:
        critic = replace(critic, cache=str(workspace.root / CACHE))
    return load_judges(settings.judge, {"reward": settings.reward, "critic": critic})


def judge(
    workspace: Workspace, judges: Sequence[Judge], settings: JudgeSettings, *, groups: Sequence[Group] | None = None
) -> Judged:
    """Ask every judge about every pair of candidates in each group that it has not judged yet.

    `groups` are those to ask about, in place of all of the settings' split and adapter.

    The side on which a video stands is drawn per judge and pair, and recorded. Interrupted, the same call goes on.

    Only videos of one size are compared, but by rewards, which score each video by itself and once, and critics.

    Raises:
        ReelignError: no group has two candidates.
    """
    found = workspace.groups(settings.split, settings.adapter) if groups is None else groups
    several = [group for group in found if len(group.videos) > 1]
    if not any(_comparable(one, several) for one in judges):
        raise ReelignError(
            f"No prompt of split {settings.split!r} has two videos of one size to compare.",
            "Generate at least two candidates per prompt first: reelign generate -w WORKSPACE candidates=4",
        )
    for one in judges:
        workspace.set_judge(one.name, kind=kind_of(one))
    asked = {
        (row.judge, row.judge_version, frozenset((row.video_a, row.video_b)), row.dimension)
        for row in workspace.judgements()
    }
    made = there = 0
    unscored: list[str] = []
    for rows, known in compared(workspace, judges, several, asked, settings.seed, unscored):
        workspace.add_judgements(rows)
        made += len(rows)
        there += known
    told = tuple(f"{one.name}: {one.critic.tally}" for one in judges if isinstance(one, CriticJudge))
    return Judged(made=made, already_there=there, unscored=tuple(unscored), asked=told)


def compared(
    workspace: Workspace,
    judges: Sequence[Judge],
    groups: Sequence[Group],
    asked: set[Any],
    seed: int,
    unscored: list[str],
) -> Iterator[tuple[list[Judgement], int]]:
    """What judges say of the pairs of each group, as it comes; nothing is recorded.

    Args:
        groups: of two videos or more.
        asked: (judge, version, both videos, dimension) of what is judged already.
        seed: of the sides.
        unscored: takes a sentence of every judge that was silent on some pairs.
    Returns:
        New judgements, and how many there were.
    """
    rewards = [one for one in judges if isinstance(one, RewardJudge)]
    critics = [one for one in judges if isinstance(one, CriticJudge)]
    others = [one for one in judges if not isinstance(one, RewardJudge | CriticJudge)]
    verdicts, failed = score_pairs(workspace, groups if rewards else [], rewards, asked, seed)
    unscored += failed
    yield from verdicts
    alike = _alike(groups) if others else []
    with tqdm(total=len(alike), desc="judge", unit="group", disable=not alike) as bar:
        for group in alike:
            yield _ask_about(workspace, group, others, asked, seed)
            bar.update()
    silences = Silences()
    yield from ask_critics(workspace, groups, critics, asked, seed, silences)
    unscored += silences.sentences()


def _comparable(one: Judge, groups: Sequence[Group]) -> bool:
    """Whether any two videos can be shown to a judge together."""
    return bool(groups if isinstance(one, RewardJudge | CriticJudge) else _alike(groups))


def _alike(groups: Sequence[Group]) -> list[Group]:
    """The groups of several videos of one size that there are in these."""
    return [alike for group in groups for alike in _by_size(group) if len(alike.videos) > 1]


def _by_size(group: Group) -> list[Group]:
    """The candidates of each size: longer or larger ones stand beside the others once the settings have changed."""
    sizes: dict[tuple[int, int, int], list[Video]] = {}
    for video in group.videos:
        sizes.setdefault((video.num_frames, video.height, video.width), []).append(video)
    return [Group(prompt=group.prompt, videos=tuple(videos)) for videos in sizes.values()]


def _ask_about(
    workspace: Workspace, group: Group, judges: Sequence[Judge], asked: set[Any], seed: int
) -> tuple[list[Judgement], int]:
    """New judgements on one group, and how many there were. Each video is read once for all judges and pairs."""
    rows: list[Judgement] = []
    known = 0
    frames: dict[str, Tensor] = {}
    for one in judges:
        pairs = [pair for pair in combinations(group.videos, 2) if not answered(one, pair, asked)]
        known += (len(group.videos) * (len(group.videos) - 1) // 2 - len(pairs)) * len(one.dimensions)
        if not pairs:
            continue
        for video in group.videos:
            if video.id not in frames:
                frames[video.id] = read_video(workspace.video_path(video)).frames
        _check_sizes(group, frames)
        rows += _verdicts(one, group.prompt.text, pairs, frames, seed)
    return rows, known


def _check_sizes(group: Group, frames: dict[str, Tensor]) -> None:
    """Refuse files of several sizes whose records do not say so, as those of imported videos may not."""
    sizes = {tuple(frames[video.id].shape): video for video in group.videos}
    if len(sizes) > 1:
        (first, one), (second, other) = list(sizes.items())[:2]
        raise ReelignError(
            f"{one.path} and {other.path} of {group.prompt.text!r} differ in size (frames, channels, height, width): "
            f"{first} and {second}.",
            "Cut and scale the videos of a prompt to one size, and judge again.",
        )


def _verdicts(
    one: Judge, prompt: str, pairs: list[tuple[Video, Video]], frames: dict[str, Tensor], seed: int
) -> list[Judgement]:
    """One judge on some pairs of one prompt; its chance depends on who judges what, so that it can be asked again."""
    shown, chance = drawn_sides(one, pairs, seed)
    verdicts = one.compare(
        torch.stack([frames[left.id] for left, _ in shown]),
        torch.stack([frames[right.id] for _, right in shown]),
        [prompt] * len(shown),
        generator=chance,
    )
    _check_answers(one, verdicts, len(shown))
    return [
        Judgement(
            video_a=left.id,
            video_b=right.id,
            dimension=dimension,
            verdict=verdict,
            judge=one.name,
            judge_version=one.version,
            shown_left="a",
        )
        for (left, right), answers in zip(shown, verdicts, strict=True)
        for dimension, verdict in answers.items()
    ]


def _check_answers(one: Judge, verdicts: list[dict[str, Verdict]], pairs: int) -> None:
    """Refuse answers that do not belong to the questions: which verdict was on which pair would be a guess."""
    mend = "compare() returns one dict a pair, from each of the judge's dimensions to 'a', 'b' or 'tie'."
    if len(verdicts) != pairs:
        raise ReelignError(f"The judge {one.name!r} gave {len(verdicts)} answers on {pairs} pairs.", mend)
    for answers in verdicts:
        if set(answers) != set(one.dimensions):
            raise ReelignError(
                f"The judge {one.name!r} was asked about {', '.join(one.dimensions)} and answered on "
                f"{', '.join(answers) or 'nothing'}.",
                mend,
            )
