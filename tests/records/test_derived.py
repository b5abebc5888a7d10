"""What follows from a workspace's judgements, on both databases."""

from __future__ import annotations

import pytest

from records.test_workspace import judgement, video
from reelign.records import Workspace, majority
from reelign.records.derived import (
    comparisons,
    workspace_agreement,
    workspace_arena,
    workspace_judges,
    workspace_votes,
)
from reelign.records.schema import Task


@pytest.fixture
def judged(workspace: Workspace) -> Workspace:
    prompts = workspace.add_prompts([f"prompt {number}" for number in range(6)], "train")
    for number, prompt in enumerate(prompts):
        workspace.add_videos([video(f"base{number}", prompt.id), video(f"lora{number}", prompt.id, adapter="dpo")])
    workspace.add_tasks([Task(id="gold", videos=["base0", "lora0"], dimensions=["VQ"], gold={"VQ": "b"})])
    rows = [
        judgement(f"base{number}", f"lora{number}", verdict, judge=judge)
        for number in range(6)
        for judge, verdict in (("ann", "b"), ("bob", "b" if number else "a"), ("cem", "tie" if number < 4 else "a"))
    ]
    for row in rows:
        row.duration_s = 2.0
        row.task = "gold" if row.video_a == "base0" else None
    workspace.add_judgements(rows)
    return workspace


def test_what_was_withdrawn_counts_nowhere(judged: Workspace) -> None:
    assert len(comparisons(judged).value) == 18
    judged.withdraw(judged.judgements(judge="bob")[0])
    judged.set_judge("cem", excluded=True)
    assert len(comparisons(judged).value) == 11
    assert workspace_votes(judged) == majority(judged.judgements())
    assert [each.judge for each in workspace_judges(judged)] == ["ann", "bob"]


def test_votes_agreement_and_judges(judged: Workspace) -> None:
    votes = workspace_votes(judged)
    assert votes == majority(judged.judgements())
    assert [vote.verdict for vote in votes] == ["tie", "b", "b", "b", "b", "b"]
    (agreement,) = workspace_agreement(judged)
    assert (agreement.dimension, agreement.items, agreement.voices) == ("VQ", 6, 18)
    ann, bob, cem = workspace_judges(judged)
    assert (ann.gold.value, bob.gold.value, cem.gold.value) == (1, 0, 0)
    assert (ann.median_s, ann.left.value, ann.left.of) == (2.0, 0.0, 6)
    assert (cem.ties.value, cem.agrees.of) == (4 / 6, 5)


def test_an_adapter_is_a_contestant_of_its_own(judged: Workspace) -> None:
    first, second = workspace_arena(judged)
    assert (first.generator, second.generator) == ("tiny/wan@abc + dpo", "tiny/wan@abc")
    assert (first.wins, first.ties, first.losses) == (5, 1, 0)
    assert workspace_arena(judged, dimension="MQ") == []
