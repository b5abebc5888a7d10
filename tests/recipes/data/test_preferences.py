"""Preferences and their latents, from a workspace and from a user's files."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from reelign.diffusion.seeds import generator_from
from reelign.errors import ReelignError
from reelign.generators import Generator
from reelign.recipes.data.clips import Clip
from reelign.recipes.data.files import file_preferences
from reelign.recipes.data.preferences import (
    Candidate,
    PreferenceData,
    ground_truth_preferences,
    random_videos,
    workspace_preferences,
)
from reelign.recipes.offline.data import training_data
from reelign.recipes.settings import AlignSettings
from reelign.records import FilePair, Workspace, write_pairs
from reelign.video import read_video, write_video


@pytest.fixture
def pair_file(tmp_path: Path) -> Path:
    chance = torch.Generator().manual_seed(0)
    pairs = []
    for number in range(2):
        paths = [tmp_path / f"{number}-{side}.mp4" for side in ("chosen", "rejected")]
        for path, light in zip(paths, (0.8, 0.1), strict=True):
            write_video(path, light + 0.1 * torch.rand(9, 3, 16, 16, generator=chance), 8)
        pairs.append(FilePair(prompt="a red square", chosen=paths[0], rejected=paths[1]))
    write_pairs(tmp_path / "pairs.csv", pairs)
    return tmp_path / "pairs.csv"


def test_the_votes_become_pairs_with_the_samplers_own_latents(judged: Workspace, tiny_wan: Generator) -> None:
    data = workspace_preferences(judged, "all")
    latents, rows = data.pairs(tiny_wan, judged.root / "cache")
    assert latents.shape == (6, 2, 16, 3, 2, 2)
    assert rows.tolist() == [0, 0, 0, 1, 1, 1]
    for pair, (chosen, rejected) in enumerate(zip(data.chosen, data.rejected, strict=True)):
        assert read_video(chosen.path).frames.mean() > read_video(rejected.path).frames.mean()
        for column, clip in enumerate((chosen, rejected)):
            assert clip.shard is not None
            assert torch.equal(latents[pair, column], load_file(clip.shard)[str(clip.key)])


def test_clips_that_pairs_have_in_common_are_held_once(judged: Workspace, tiny_wan: Generator) -> None:
    data = workspace_preferences(judged, "all")
    latents, _ = data.pairs(tiny_wan, judged.root / "cache")
    assert len(data.clips) == 12
    assert len(latents.clips) == 6
    plain = latents[:]
    assert (latents.shape, len(latents)) == (plain.shape, len(plain))
    assert torch.equal(latents.swapped()[:], plain.flip(1))
    assert torch.equal(latents.side(1)[torch.tensor([2, 0])], plain[[2, 0], 1])


def test_best_against_worst_is_one_pair_a_prompt(judged: Workspace) -> None:
    assert workspace_preferences(judged, "best_worst").rows == [0, 1]


def test_no_preference_is_refused_with_the_reasons(judged: Workspace) -> None:
    with pytest.raises(ReelignError, match=r"no preference to train on \(6 x"):
        workspace_preferences(judged, "all", {"MQ": 1.0})


def test_files_go_through_the_vae_once(pair_file: Path, tiny_wan: Generator, tmp_path: Path) -> None:
    data = file_preferences(pair_file)
    latents, rows = data.pairs(tiny_wan, tmp_path / "cache")
    assert rows.tolist() == [0, 0]
    expected = tiny_wan.encode(read_video(data.rejected[1].path).frames[None])[0]
    torch.testing.assert_close(latents[1, 1], expected)

    cached = sorted((tmp_path / "cache").rglob("*.safetensors"))
    assert len(cached) == 1
    encoded: list[int] = []
    tiny_wan.pipeline.vae.encoder.register_forward_pre_hook(lambda *_: encoded.append(1))
    again, _ = file_preferences(pair_file).pairs(tiny_wan, tmp_path / "cache")
    assert torch.equal(again[:], latents[:])
    assert encoded == []


def test_the_key_follows_the_content_of_the_files(pair_file: Path) -> None:
    before = file_preferences(pair_file)
    assert file_preferences(pair_file).key == before.key
    write_video(before.chosen[0].path, torch.zeros(9, 3, 16, 16), 8)
    assert file_preferences(pair_file).key != before.key


def test_a_file_with_frames_the_vae_would_drop_is_named(pair_file: Path, tiny_wan: Generator, tmp_path: Path) -> None:
    data = file_preferences(pair_file)
    write_video(data.chosen[1].path, torch.zeros(10, 3, 16, 16), 8)
    with pytest.raises(ReelignError, match=r"1-chosen\.mp4.*10 frames") as caught:
        data.pairs(tiny_wan, tmp_path / "cache")
    assert "9 frames" in caught.value.mend


def test_files_of_two_sizes_are_refused(pair_file: Path, tiny_wan: Generator, tmp_path: Path) -> None:
    data = file_preferences(pair_file)
    write_video(data.chosen[1].path, torch.zeros(5, 3, 16, 16), 8)
    with pytest.raises(ReelignError, match="differ in size"):
        data.pairs(tiny_wan, tmp_path / "cache")


def test_random_videos_are_the_workspaces_own_and_belong_to_their_prompt(judged: Workspace) -> None:
    data = workspace_preferences(judged, "all")
    latents, rows = random_videos(judged, data, generator_from(0))
    again, _ = random_videos(judged, data, generator_from(0))
    assert latents.shape == (6, 16, 3, 2, 2)
    assert torch.equal(latents, again)
    for row, prompt in enumerate(data.prompts):
        group = next(group for group in judged.groups() if group.prompt.text == prompt)
        own = []
        for video in group.videos:
            path = judged.latents_path(video)
            assert path is not None
            own.append(load_file(path)[str(video.latents_key)])
        for drawn in latents[rows == row]:
            assert any(torch.equal(drawn, each) for each in own)


def test_random_videos_beside_foreign_pairs_are_refused(judged: Workspace, pair_file: Path) -> None:
    foreign = file_preferences(pair_file)
    foreign = PreferenceData(["a disc"], foreign.chosen, foreign.rejected, foreign.rows, foreign.key)
    with pytest.raises(ReelignError, match="holds no base sample"):
        random_videos(judged, foreign, generator_from(0))


def test_candidates_stand_as_the_votes_say(judged: Workspace) -> None:
    """Three candidates by brightness on VQ, ties on MQ: 1/2, 0 and -1/2 in some order."""
    data = workspace_preferences(judged, "best_worst")
    assert data.candidates is not None
    assert [each.row for each in data.standing()] == [0, 0, 0, 1, 1, 1]
    for row in (0, 1):
        scores = {each.clip: each.score for each in data.standing() if each.row == row}
        assert sorted(scores.values()) == [-0.5, 0.0, 0.5]
        place = data.rows.index(row)
        assert (scores[data.chosen[place]], scores[data.rejected[place]]) == (0.5, -0.5)


def pairs_of(*rows: tuple[str, str, int]) -> PreferenceData:
    sides = [[Clip(Path(f"{row[side]}.mp4")) for row in rows] for side in (0, 1)]  # type: ignore[misc]
    prompts = [f"prompt {number}" for number in range(max(row for *_, row in rows) + 1)]
    margins = [(number + 1) / len(rows) for number in range(len(rows))]
    return PreferenceData(prompts, sides[0], sides[1], [row for *_, row in rows], "key", margins=margins)


def test_candidates_of_a_file_follow_from_its_pairs() -> None:
    data = pairs_of(("a", "b", 0), ("a", "c", 0), ("c", "b", 0), ("x", "y", 1))
    found = {each.clip.name: each.score for each in data.standing()}
    assert found == {"a": 1.0, "b": -1.0, "c": 0.0, "x": 1.0, "y": -1.0}


def test_a_threshold_counts_what_it_leaves_out(judged: Workspace) -> None:
    data = pairs_of(("a", "b", 0), ("a", "c", 0), ("c", "b", 0), ("x", "y", 1)).above(0.6)
    assert [clip.name for clip in data.chosen] == ["c", "x"]
    assert (data.rows, data.margins, data.left_out) == ([0, 1], [0.75, 1.0], {"margin below the threshold": 2})
    with pytest.raises(ReelignError, match=r"no preference to train on \(6 x margin below the threshold\)"):
        training_data(judged, AlignSettings(min_margin=0.9))


def test_pairs_keep_their_videos_standings_whatever_is_left_out(judged: Workspace) -> None:
    """Those of the whole data: a weight by how rare they are is no affair of what else is trained on."""
    data = workspace_preferences(judged, "all")
    own = dict(zip(data.names, data.sides(), strict=True))
    for fewer in (data.above(0.4), data.first(3), data.above(0.4).first(3), data.split(0.5, 0)[0]):
        assert fewer.rows
        assert dict(zip(fewer.names, fewer.sides(), strict=True)).items() <= own.items()
    labels = [Candidate(Clip(Path("y.mp4")), 0, 1.0)]
    beside = replace(pairs_of(("a", "b", 0), ("a", "c", 0), ("c", "b", 0)), candidates=labels)
    assert beside.first(2).sides() == [(1.0, -1.0), (1.0, 0.0)]


def test_a_trial_takes_the_clearest_labels() -> None:
    """Those that a threshold leaves."""
    scores = {"a": 0.2, "b": 0.9, "c": -0.3, "d": -0.8}
    labels = [Candidate(Clip(Path(f"{name}.mp4")), 0, score) for name, score in scores.items()]
    few = PreferenceData(["a disc"], [], [], [], "labels", candidates=labels).first(2)
    assert [each.clip.name for each in few.standing()] == ["b", "d"]


def test_random_videos_are_of_no_prompt_that_is_held_out(judged: Workspace) -> None:
    data = workspace_preferences(judged, "all")
    kept, held_out = data.split(0.5, 0)
    _, rows = random_videos(judged, kept, generator_from(0))
    assert set(rows.tolist()) == set(kept.rows) != set(held_out.rows)


def test_no_prompt_is_in_both_parts_of_a_split() -> None:
    data = pairs_of(*((f"a{row}{n}", f"b{row}{n}", row) for row in range(10) for n in range(3)))
    train, held_out = data.split(0.2, seed=0)
    assert len(set(held_out.rows)) == 2
    assert sorted({*train.rows, *held_out.rows}) == list(range(10))
    assert not {*train.rows} & {*held_out.rows}
    assert not {each.clip for each in train.standing()} & {each.clip for each in held_out.standing()}
    assert data.split(0.2, seed=0)[1].rows == held_out.rows
    assert len({tuple(data.split(0.2, seed=seed)[1].rows) for seed in range(5)}) > 1
    with pytest.raises(ReelignError, match=r"Holding out 0\.5 of 1 prompts leaves nothing"):
        pairs_of(("a", "b", 0)).split(0.5, seed=0)


def test_real_videos_are_chosen_against_all_samples_of_their_prompt(judged: Workspace, tmp_path: Path) -> None:
    write_video(tmp_path / "real.mp4", torch.full((9, 3, 16, 16), 0.5), 8)
    group = judged.groups()[1]
    path = tmp_path / "real.csv"
    path.write_text(f"prompt,video\n{group.prompt.text},real.mp4\n")
    data = ground_truth_preferences(judged, path)
    assert [clip.name for clip in data.chosen] == ["real"] * 3
    assert {clip.path for clip in data.rejected} == {judged.video_path(video) for video in group.videos}
    assert data.rows == [1, 1, 1]
    assert data.left_out == {"no real video": 1}
    path.write_text("prompt,video\na prompt of nobody,real.mp4\n")
    with pytest.raises(ReelignError, match="has no video of a prompt"):
        ground_truth_preferences(judged, path)
