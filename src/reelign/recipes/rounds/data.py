"""What a round trains on: judgements of its own candidates, written down before training looks at them.

People may go on judging while a round trains, or take back what they said. So the keys of the judgements that count are
kept in a file of the round, and its preferences follow from these alone.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from itertools import combinations
from pathlib import Path

from sqlalchemy import select

from reelign.errors import ReelignError
from reelign.files import write_text
from reelign.recipes.data.preferences import Candidate, PreferenceData, clip_of, workspace_preferences
from reelign.recipes.rounds.settings import IterateSettings
from reelign.recipes.settings import AlignSettings
from reelign.records import Group, Judgement, Opening, Workspace, content_key
from reelign.records.grades import desirable, grade_votes

KINDS = {"pairwise": ("pairwise", "best_of"), "pointwise": ("three_level",)}
"""Of judgements, by what a round's judges answer."""
NOT_JUDGED = "candidate without a judgement"


def round_groups(workspace: Workspace, split: str, adapter: str, videos: Collection[str]) -> list[Group]:
    """The groups of a round's own candidates, whatever else was made of the same prompts and policy."""
    kept = []
    for group in workspace.groups(split, adapter):
        own = tuple(video for video in group.videos if video.id in videos)
        if own:
            kept.append(Group(prompt=group.prompt, videos=own))
    return kept


def counted(
    workspace: Workspace, videos: Collection[str], judges: Collection[str], answers: str, *, people: bool
) -> list[Judgement]:
    """The judgements of these videos that a round takes: its judges', and people's where they are asked."""
    names = {*judges, *(persons(workspace) if people else ())}
    return [
        each
        for each in workspace.judgements()
        if each.judge in names and each.kind in KINDS[answers] and all(video in videos for video in judged_videos(each))
    ]


def judged_videos(judgement: Judgement) -> list[str]:
    """The videos that a judgement is about."""
    if judgement.candidates is not None:
        return list(judgement.candidates)
    return [video for video in (judgement.video_a, judgement.video_b) if video is not None]


def persons(workspace: Workspace) -> set[str]:
    """Names of the people who judged."""
    return {judge.name for judge in workspace.judges() if judge.kind == "person"}


def open_questions(
    workspace: Workspace, groups: Sequence[Group], settings: IterateSettings, judges: Collection[str]
) -> tuple[int, int]:
    """How many questions about the candidates lack people's judgements, and how many there are.

    The questions are those that `annotate` planned about these candidates, the ones it asks now before earlier ones; as
    long as it planned none, all pairs of a group, or all candidates where answers are pointwise. The round's own judges
    are no people here, whatever they stand for.
    """
    videos = {video.id for group in groups for video in group.videos}
    asked = persons(workspace) - set(judges)
    heard: dict[frozenset[str], set[str]] = {}
    for each in counted(workspace, videos, asked, settings.answers, people=False):
        heard.setdefault(frozenset(judged_videos(each)), set()).add(each.judge)
    size = 1 if settings.answers == "pointwise" else 2
    questions = _planned(workspace, videos, settings.answers) or [
        frozenset(video.id for video in some) for group in groups for some in combinations(group.videos, size)
    ]
    return sum(len(heard.get(each, ())) < settings.people for each in questions), len(questions)


def _planned(workspace: Workspace, videos: Collection[str], answers: str) -> list[frozenset[str]]:
    """The sets of candidates that `annotate` asks about, or asked about at last."""
    tasks = [
        task
        for task in workspace.tasks()
        if task.gold is None and task.kind in KINDS[answers] and all(video in videos for video in task.videos)
    ]
    with workspace.reading() as session:
        now = set(session.scalars(select(Opening.task)))
    asked = [task for task in tasks if task.id in now] or tasks
    return list(dict.fromkeys(frozenset(task.videos) for task in asked))


def write_judgements(path: Path, judgements: Sequence[Judgement]) -> None:
    """Keep which judgements a round takes."""
    write_text(path, json.dumps([each.key for each in judgements], indent=0) + "\n")


def read_judgements(workspace: Workspace, path: Path) -> list[Judgement]:
    """The judgements of `write_judgements`, as they were then, whatever was corrected since."""
    keys = set(json.loads(path.read_text(encoding="utf-8")))
    found = [each for each in workspace.judgements(history=True) if each.key in keys]
    if len(found) < len(keys):
        raise ReelignError(
            f"{len(keys) - len(found)} of the {len(keys)} judgements that {path} names are not in the record.",
            "Put the database of that time back.",
        )
    return found


def round_preferences(
    workspace: Workspace,
    groups: Sequence[Group],
    judgements: Sequence[Judgement],
    settings: IterateSettings,
    align: AlignSettings,
) -> PreferenceData:
    """What a round trains on, by majority vote over its judgements."""
    if settings.answers == "pointwise":
        return label_preferences(workspace, groups, judgements, settings.dimension)
    assert align.pairs != "ground_truth"
    data = workspace_preferences(
        workspace,
        align.pairs,
        align.weights,
        groups=groups,
        judgements=judgements,
        defects=align.defects == "segments",
    )
    return data.above(align.min_margin)


def label_preferences(
    workspace: Workspace, groups: Sequence[Group], judgements: Sequence[Judgement], dimension: str
) -> PreferenceData:
    """Desirable = good or normal, undesirable = bad, by majority; IPO's rule (arXiv:2502.02088)."""
    prompt_of = {video.id: group.prompt.id for group in groups for video in group.videos}
    found = desirable(grade_votes(judgements), prompt_of, dimension=dimension)
    clips = {video.id: clip_of(workspace, video) for group in groups for video in group.videos}
    rows = {group.prompt.id: row for row, group in enumerate(groups)}
    missing = len(prompt_of) - len(found.labels) - sum(found.left_out.values())
    return PreferenceData(
        prompts=[workspace.asked(group.prompt) for group in groups],
        chosen=[],
        rejected=[],
        rows=[],
        key=content_key([[each.video, each.desirable] for each in found.labels]),
        left_out={**found.left_out, **({NOT_JUDGED: missing} if missing else {})},
        margins=[],
        candidates=[
            Candidate(clips[each.video], rows[each.prompt_id], 1.0 if each.desirable else -1.0) for each in found.labels
        ],
        scores=[],
    )
