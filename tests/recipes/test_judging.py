"""Judging: each pair is asked about once, on a side that is drawn and recorded."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations

import pytest
import torch

from recipes.judges import Brightness, Hasty, OneSided
from reelign.errors import ReelignError
from reelign.generators import Generator
from reelign.recipes.generation import generate
from reelign.recipes.judging import JudgeSettings, judge
from reelign.recipes.sampling import GenerateSettings
from reelign.records import Workspace
from reelign.spriteworld.people import people
from reelign.video import read_video, write_video


def test_every_pair_of_a_group_is_judged_on_every_dimension(judged: Workspace) -> None:
    rows = judged.judgements()
    asked = {(frozenset((row.video_a, row.video_b)), row.dimension) for row in rows}
    expected = {
        (frozenset(video.id for video in pair), dimension)
        for group in judged.groups("train", "")
        for pair in combinations(group.videos, 2)
        for dimension in ("VQ", "MQ")
    }
    assert asked == expected
    assert len(rows) == len(expected) == 12


def test_the_verdict_belongs_to_the_recorded_sides(judged: Workspace) -> None:
    light = {
        video.id: float(read_video(judged.video_path(video)).frames.mean()) for video in judged.videos("train", "")
    }
    for row in judged.judgements("VQ"):
        assert row.verdict == ("a" if light[row.video_a] > light[row.video_b] else "b")
        assert row.shown_left == "a"
    assert {row.verdict for row in judged.judgements("MQ")} == {"tie"}


def test_sides_are_drawn(judged: Workspace) -> None:
    place = {video.id: video.index for video in judged.videos()}
    judge(judged, [named("second"), named("third")], JudgeSettings())
    swapped = [place[row.video_a] > place[row.video_b] for row in judged.judgements("VQ")]
    assert 0 < sum(swapped) < len(swapped)


def named(name: str) -> Brightness:
    each = Brightness()
    each.name = name
    return each


def test_a_second_call_asks_nobody(judged: Workspace) -> None:
    one = Brightness()
    done = judge(judged, [one], JudgeSettings())
    assert (done.made, done.already_there, one.asked) == (0, 12, 0)
    assert len(judged.judgements()) == 12


def test_a_new_version_of_a_judge_is_asked_anew(judged: Workspace) -> None:
    one = Brightness()
    one.version = "2"
    assert judge(judged, [one], JudgeSettings()).made == 12


def test_a_workspace_without_pairs_is_refused(empty: Workspace) -> None:
    with pytest.raises(ReelignError, match="No prompt of split 'train' has two videos"):
        judge(empty, [Brightness()], JudgeSettings())


def test_too_few_answers_are_refused(judged: Workspace) -> None:
    before = len(judged.judgements())
    for one, message in ((Hasty(), "2 answers on 3 pairs"), (OneSided(), "asked about VQ, MQ and answered on VQ")):
        one.name = "other"
        with pytest.raises(ReelignError, match=message):
            judge(judged, [one], JudgeSettings())
    assert len(judged.judgements()) == before


def test_only_videos_of_one_size_are_compared(judged: Workspace, tiny_wan: Generator, small: GenerateSettings) -> None:
    large = generate(judged, tiny_wan, replace(small, candidates=2, height=32)).videos
    assert judge(judged, [Brightness()], JudgeSettings()).made == 4
    ids = {video.id for video in large}
    assert all((row.video_a in ids) == (row.video_b in ids) for row in judged.judgements())


def test_files_of_another_size_than_recorded_are_named(judged: Workspace) -> None:
    video = judged.videos("train", "")[0]
    write_video(judged.video_path(video), torch.zeros(9, 3, 32, 16), 8)
    with pytest.raises(ReelignError, match=rf"{video.path} and .* of 'a red square' differ in size"):
        judge(judged, [named("second")], JudgeSettings())


def test_the_record_knows_what_kind_of_judge_it_was(judged: Workspace) -> None:
    assert {each.kind for each in judged.judges()} == {"critic"}
    someone = named("Ada")
    someone.kind = people(1)[0].kind
    judge(judged, [someone], JudgeSettings())
    assert {each.name: each.kind for each in judged.judges()}["Ada"] == "person"
