"""Rewards judge a workspace: every video read and scored once, scores kept, failed samples left out by name."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

import reelign.recipes.scoring
from reelign import stages
from reelign.errors import ReelignError
from reelign.generators import Generator
from reelign.recipes.generation import generate
from reelign.recipes.judging import JudgeSettings, judge
from reelign.recipes.sampling import GenerateSettings
from reelign.recipes.scoring import score_videos
from reelign.records import Workspace
from reelign.rewards.judging import RewardJudge
from reelign.video import read_video, write_video
from rewards.rewards import Light

LIGHT = "rewards.rewards:Light"


class Counted:
    """Counts the files that are read."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.paths: list[Path] = []
        monkeypatch.setattr(
            reelign.recipes.scoring, "read_video", lambda path: self.paths.append(path) or read_video(path)
        )


def named(name: str) -> Light:
    reward = Light()
    reward.name = name
    return reward


def test_the_higher_score_wins_and_the_scores_are_kept(judged: Workspace) -> None:
    done = judge(judged, [RewardJudge(Light(), tie={"TA": 0.5})], JudgeSettings())
    assert (done.made, done.already_there, done.unscored) == (12, 0, ())
    kept = {(row.video, row.dimension): row.value for row in judged.scores("light")}
    assert len(kept) == 12
    for row in judged.judgements(judge="light"):
        assert row.video_b is not None
        a, b = kept[row.video_a, row.dimension], kept[row.video_b, row.dimension]
        assert row.verdict == ("tie" if row.dimension == "TA" or a == b else "a" if a > b else "b")
    for video in judged.videos("train", ""):
        light = float(read_video(judged.video_path(video)).frames.mean())
        assert kept[video.id, "VQ"] == pytest.approx(light, rel=1e-5)
    assert {each.name: each.kind for each in judged.judges()}["light"] == "reward"


def test_each_video_is_read_once_for_all_rewards_and_scored_once(
    judged: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    counted = Counted(monkeypatch)
    one, two = named("one"), named("two")
    done = judge(judged, [RewardJudge(one, batch_size=4), RewardJudge(two)], JudgeSettings())
    assert done.made == 24
    assert len(counted.paths) == len(set(counted.paths)) == 6
    assert one.calls == two.calls == [4, 2]


def test_a_second_call_reads_nothing_and_another_band_scores_nothing(
    judged: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    judge(judged, [RewardJudge(Light())], JudgeSettings())
    counted = Counted(monkeypatch)
    again = Light()
    done = judge(judged, [RewardJudge(again)], JudgeSettings())
    assert (done.made, done.already_there) == (0, 12)
    assert judge(judged, [RewardJudge(again, tie=9.0)], JudgeSettings()).made == 12
    assert counted.paths == []
    assert again.calls == []
    assert {row.verdict for row in judged.judgements(judge="light") if "tie" in row.judge_version} == {"tie"}


def test_what_could_not_be_scored_is_left_out_by_name_and_tried_again(judged: Workspace) -> None:
    video = judged.videos("train", "")[0]
    path = judged.video_path(video)
    whole = path.read_bytes()
    write_video(path, torch.zeros(9, 3, 16, 16), 8)
    done = judge(judged, [RewardJudge(Light())], JudgeSettings())
    assert done.made == 12 - 2, "its two pairs have no verdict on VQ"
    assert done.unscored == (f"light: 1 of 6 samples could not be scored and are left out: {video.path} (VQ)",)
    assert not [row for row in judged.scores("light", "VQ") if row.video == video.id]
    path.write_bytes(whole)
    done = judge(judged, [RewardJudge(Light())], JudgeSettings())
    assert (done.made, done.already_there) == (2, 10)


def test_rewards_compare_videos_of_any_sizes(judged: Workspace, tiny_wan: Generator, small: GenerateSettings) -> None:
    generate(judged, tiny_wan, replace(small, candidates=1, height=32))
    done = judge(judged, [RewardJudge(Light())], JudgeSettings())
    assert done.made == 2 * 6 * 2, "two groups of four, two dimensions"


def test_scores_of_an_older_version_are_made_anew(judged: Workspace) -> None:
    videos = [(video, "a red square") for video in judged.videos("train", "")]
    score_videos(judged, [Light()], videos)
    newer = Light()
    newer.version = "2"
    found, failures = score_videos(judged, [newer], videos)
    assert sum(newer.calls) == 6
    assert len(found["light"]) == 6
    assert str(failures["light"]) == "all 6 samples were scored"
    with pytest.raises(ReelignError, match="Two rewards have one name: light, light"):
        score_videos(judged, [Light(), newer], videos)


def test_the_stage_takes_the_name_and_its_settings(judged: Workspace) -> None:
    done = stages.judge(
        judged.root,
        judge=f"reward:{LIGHT}",
        reward={"options": {"gain": 9.0}, "tie": {"TA": 1.0}, "dimensions": ["VQ"]},
    )
    assert done.made == 6
    assert max(row.value for row in judged.scores("light", "VQ")) > 1
    with pytest.raises(ReelignError, match=r"there is no key 'reward\.ties'"):
        stages.judge(judged.root, judge=f"reward:{LIGHT}", reward={"ties": 1})
    with pytest.raises(ReelignError, match="takes no setting 'gian'"):
        stages.judge(judged.root, judge=f"reward:{LIGHT}", reward={"options": {"gian": 1}})
