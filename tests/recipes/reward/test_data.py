"""What a reward is trained on: read from a workspace and from VideoReward's CSV, split by prompt, refused by name."""

from __future__ import annotations

import csv
import math
from pathlib import Path

import pytest
import torch

from recipes.reward_worlds import bright_data, write_clips
from reelign.errors import ReelignError
from reelign.objectives.ranking import BradleyTerry, BradleyTerryTies, ScoreRegression
from reelign.recipes.reward.data import NOT_TAUGHT, UNSAID, RewardData, csv_reward_data, workspace_reward_data
from reelign.records import Judgement, Workspace


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> RewardData:
    return bright_data(tmp_path_factory.mktemp("bright"))


def write_csv(path: Path, rows: list[dict[str, object]]) -> Path:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


def test_a_workspace_gives_its_majority_votes_and_mean_ratings(judged: Workspace) -> None:
    votes = {(each.video_a, each.video_b) for each in judged.judgements() if each.kind == "pairwise"}
    dimension = judged.judgements()[0].dimension
    rated = judged.videos()[0]
    judged.add_judgements(
        [
            Judgement(kind="rating", video_a=rated.id, dimension=dimension, verdict=grade, judge=who, judge_version="1")
            for who, grade in (("Ada", "5"), ("Ben", "2"))
        ]
    )
    found = workspace_reward_data(judged, [dimension])
    assert len(found) == len(votes)
    assert len(found.clips) == len({video for pair in votes for video in pair})
    names = [clip.name for clip in found.clips]
    assert found.scores[names.index(rated.id), 0] == 3.5
    assert int((~found.scores.isnan()).sum()) == 1
    assert all(clip.path.is_file() for clip in found.clips)
    assert {clip.prompt for clip in found.clips} == {prompt.text for prompt in judged.prompts()}


def test_a_csv_gives_labels_ties_what_is_missing_and_mean_opinion_scores(tmp_path: Path) -> None:
    (a, b, *_), *_ = write_clips(tmp_path)
    row = {"path_A": a.name, "path_B": b.name, "prompt": "a ring", "VQ": "A", "TA": "same"}
    rows = [
        {**row, "MOS_A_VQ": 4.5, "MOS_B_VQ": 2},
        {**row, "VQ": "B", "TA": "", "MOS_A_VQ": 0, "MOS_B_VQ": 0},
        {**row, "VQ": "", "TA": "skip", "MOS_A_VQ": 0, "MOS_B_VQ": 0},
    ]
    found = csv_reward_data(write_csv(tmp_path / "pairs.csv", rows), ("VQ", "TA"))
    assert found.pairs.tolist() == [[0, 1], [0, 1]]
    torch.testing.assert_close(found.labels, torch.tensor([[1.0, 0.0], [-1.0, math.nan]]), equal_nan=True)
    assert found.scores[:, 0].tolist() == [4.5, 2.0]
    assert found.scores[:, 1].isnan().all()
    assert found.left_out == {UNSAID: 1}
    torch.testing.assert_close(found.gaps(), torch.tensor([[2.5, math.nan], [0.0, math.nan]]), equal_nan=True)


def test_a_split_keeps_every_prompt_whole_and_follows_from_the_seed(data: RewardData) -> None:
    parts = data.split((0.2, 0.4), seed=3)
    prompts = [set(part.prompts) for part in parts]
    assert [len(each) for each in prompts] == [1, 2, 3]
    assert not prompts[0] & prompts[1] | prompts[1] & prompts[2] | prompts[0] & prompts[2]
    assert sum(map(len, parts)) == len(data)
    assert [part.key for part in data.split((0.2, 0.4), seed=3)] == [part.key for part in parts]
    assert len({data.split((0.2, 0.4), seed=seed)[0].key for seed in range(6)}) > 1
    assert [len(part) for part in data.split((0.0, 0.0), seed=3)] == [0, 0, len(data)]


def test_a_split_that_leaves_nothing_is_refused(data: RewardData) -> None:
    one = data.take(torch.tensor([0]))
    with pytest.raises(ReelignError, match="too few to keep 2 out"):
        one.split((0.1, 0.1), seed=0)


def test_ties_are_left_out_for_bradley_terry_and_counted(data: RewardData) -> None:
    only_ta = RewardData(**{**vars(data), "dimensions": ("TA",), "labels": data.labels[:, 1:]})
    kept = only_ta.fit_for(BradleyTerry())
    ties = int((only_ta.labels == 0).sum())
    assert kept.left_out == {NOT_TAUGHT: ties}
    assert len(kept) == len(data) - ties
    assert len(only_ta.fit_for(BradleyTerryTies())) == len(data)


def test_labels_that_teach_nothing_are_refused_by_name(data: RewardData) -> None:
    ties = RewardData(**{**vars(data), "labels": torch.zeros_like(data.labels)})
    for objective in (BradleyTerry(), BradleyTerryTies()):
        with pytest.raises(ReelignError, match="All labels of the dimension VQ are ties"):
            ties.fit_for(objective)
    missing = RewardData(**{**vars(data), "labels": torch.where(torch.tensor([True, False]), data.labels, math.nan)})
    with pytest.raises(ReelignError, match="All labels of the dimension TA are missing"):
        missing.fit_for(BradleyTerryTies())
    with pytest.raises(ReelignError, match="VQ has 0 different scores"):
        data.fit_for(ScoreRegression())
    with pytest.raises(ReelignError, match="needs scores of both videos"):
        data.fit_for(BradleyTerry(margin="scores"))
    same = RewardData(**{**vars(data), "scores": torch.full_like(data.scores, 3.0)})
    with pytest.raises(ReelignError, match="VQ has 1 different scores"):
        same.fit_for(ScoreRegression())


def test_scores_from_comparisons_are_the_share_won_with_ties_half(data: RewardData) -> None:
    scores = data.with_win_scores().scores
    # Of four clips from dark to bright: on VQ they win 0, 1, 2, 3 of 3; on TA all but neighbours lose to the darker.
    assert scores[:4, 0].tolist() == pytest.approx([1, 1 + 4 / 3, 1 + 8 / 3, 5])
    assert scores[:4, 1].tolist() == pytest.approx([1 + 4 * 2.5 / 3, 1 + 4 * 2 / 3, 1 + 4 * 1 / 3, 1 + 4 * 0.5 / 3])
    assert data.with_win_scores().fit_for(ScoreRegression())


def test_a_rated_video_without_a_pair_is_regressed_too(data: RewardData) -> None:
    scores = torch.arange(data.scores.numel()).reshape(data.scores.shape).float()
    few = RewardData(**{**vars(data), "scores": scores}).take(torch.tensor([0]))
    whole = few.with_single_videos()
    assert sorted(whole.pairs.unique().tolist()) == list(range(len(data.clips)))
    assert whole.labels[1:].isnan().all()


def test_what_is_not_there_is_refused_by_name(judged: Workspace, tmp_path: Path) -> None:
    with pytest.raises(ReelignError, match="Nobody judged the dimension nobody; there are"):
        workspace_reward_data(judged, ["nobody"])
    (a, b, *_), *_ = write_clips(tmp_path)
    row = {"path_A": a.name, "path_B": b.name, "prompt": "a ring", "VQ": "A"}
    path = write_csv(tmp_path / "pairs.csv", [row])
    b.unlink()
    with pytest.raises(ReelignError, match="1 of 2 judged videos are not there"):
        csv_reward_data(path, ("VQ",))
