"""Videos are read and scored once each, and what was scored is kept."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch

from evaluation.judged_world import Changed, Clip, Interrupted, Truth, make_clips
from reelign.errors import ReelignError
from reelign.evaluation import feedback_clips
from reelign.evaluation.feedback_data import Candidate
from reelign.evaluation.feedback_scores import ScoreFile, Scores, score_candidates
from reelign.video import read_video, write_video

DIMENSIONS = ("VQ", "MQ", "TA")


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> list[Clip]:
    return make_clips(tmp_path_factory.mktemp("clips"), prompts=2)


@pytest.fixture
def candidates(clips: list[Clip]) -> list[Candidate]:
    return [Candidate(clip.path, clip.prompt) for clip in clips]


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Files in the order in which they were read."""
    found: list[Path] = []

    def noted(path: Path) -> object:
        found.append(path)
        return read_video(path)

    monkeypatch.setattr(feedback_clips, "read_video", noted)
    return found


def score(candidates: list[Candidate], reward: Truth, folder: Path, **settings: object) -> Scores:
    return score_candidates(candidates, reward, ScoreFile(folder / "scores.jsonl"), **settings)  # type: ignore[arg-type]


def test_scores_are_the_rewards_own_whatever_the_batches(
    clips: list[Clip], candidates: list[Candidate], tmp_path: Path
) -> None:
    for size in (1, 4, 100):
        reward = Truth()
        found = score(candidates, reward, tmp_path / str(size), batch_size=size, readers=3)
        assert sum(reward.sizes) == len(clips)
        assert max(reward.sizes) == min(size, len(clips))
        assert not found.failed
        for clip, each in zip(clips, candidates, strict=True):
            assert found.of(each, ["VQ"]) == pytest.approx(clip.truth["VQ"], abs=1e-6)
            assert found.of(each, DIMENSIONS) == pytest.approx(sum(clip.truth.values()) / 3, abs=1e-6)
            assert found.duration_s(each) == 17 / 8


def test_each_file_is_read_once_and_each_content_scored_once(
    clips: list[Clip], candidates: list[Candidate], reads: list[Path], tmp_path: Path
) -> None:
    copy = Path(shutil.copy(clips[0].path, tmp_path / "copy.mp4"))
    other = clips[-1].prompt
    assert other != clips[0].prompt
    asked = [*candidates, Candidate(copy, clips[0].prompt), Candidate(clips[0].path, other), candidates[0]]
    reward = Truth()
    found = score(asked, reward, tmp_path)
    assert sorted(reads) == sorted(clip.path for clip in clips)
    assert sum(reward.sizes) == len(clips) + 1  # of the other prompt
    assert found.scored[Candidate(copy, clips[0].prompt)] == found.scored[candidates[0]]
    assert found.of(Candidate(clips[0].path, other), ["TA"]) < found.of(candidates[0], ["TA"])


def test_the_same_call_again_reads_nothing(candidates: list[Candidate], reads: list[Path], tmp_path: Path) -> None:
    first = score(candidates, Truth(), tmp_path)
    reads.clear()
    again = Truth()
    assert score(candidates, again, tmp_path).scored == first.scored
    assert (reads, again.sizes) == ([], [])
    newer = Truth()
    newer.version = "2"
    score(candidates, newer, tmp_path)
    assert sum(newer.sizes) == len(candidates)


def test_an_interrupted_call_goes_on_behind_the_last_batch(candidates: list[Candidate], tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        score(candidates, Interrupted(), tmp_path, batch_size=2)
    file = tmp_path / "scores.jsonl"
    assert len(file.read_text().splitlines()) == 2
    # Killed within a line: that one is made again, and the next does not grow onto what is left of it.
    file.write_bytes(file.read_bytes()[:-9])
    reward = Truth()
    found = score(candidates, reward, tmp_path, batch_size=2)
    assert sum(reward.sizes) == len(candidates) - 1
    assert len(found.scored) == len(candidates)
    assert len(ScoreFile(file).known) == len(candidates)


def test_videos_of_other_sizes_and_rates_are_scored_apart(clips: list[Clip], tmp_path: Path) -> None:
    frames = read_video(clips[0].path).frames
    write_video(tmp_path / "short.mp4", frames[:9], 8)
    write_video(tmp_path / "fast.mp4", frames, 16)
    mixed = [clips[0].path, tmp_path / "short.mp4", clips[1].path, tmp_path / "fast.mp4", clips[2].path]
    asked = [Candidate(path, clips[0].prompt) for path in mixed]
    reward = Truth()
    found = score(asked, reward, tmp_path)
    assert sorted(reward.sizes) == [1, 1, 3]
    assert [found.duration_s(each) for each in asked] == [17 / 8, 9 / 8, 17 / 8, 17 / 16, 17 / 8]


def test_little_memory_makes_smaller_batches(
    candidates: list[Candidate], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(feedback_clips, "HELD_BYTES", 1)
    reward = Truth()
    score(candidates, reward, tmp_path)
    assert reward.sizes == [1] * len(candidates)


def test_what_is_not_finite_is_no_score(candidates: list[Candidate], tmp_path: Path) -> None:
    def spoil(scores: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        scores["TA"][0] = float("nan")
        for values in scores.values():
            values[1] = float("inf")
        return scores

    reward = Changed(spoil)
    found = score(candidates, reward, tmp_path, readers=1)
    one, two, *others = candidates
    assert found.failed == {one: "the reward could not score TA", two: "the reward could not score it"}
    assert found.of(one, ["VQ"]) == found.of(one, ["VQ"])
    assert all(value != value for value in (found.of(one, DIMENSIONS), found.of(two, ["VQ"])))
    assert len(found.scored) == len(others) + 1
    # What has no score at all is tried again.
    assert score(candidates, Truth(), tmp_path).failed == {one: "the reward could not score TA"}


def test_files_that_cannot_be_scored(clips: list[Clip], candidates: list[Candidate], tmp_path: Path) -> None:
    damaged, short = tmp_path / "damaged.mp4", tmp_path / "short.mp4"
    damaged.write_bytes(clips[0].path.read_bytes()[:900])
    write_video(short, torch.rand(3, 3, 32, 32), 8)
    for path, message in ((damaged, "cannot be read"), (short, "3 frames and the reward needs 4")):
        asked = [Candidate(path, clips[0].prompt), *candidates]
        with pytest.raises(ReelignError, match=message) as refused:
            score(asked, Truth(), tmp_path)
        assert "skip_broken=true" in refused.value.mend
        found = score(asked, Truth(), tmp_path, skip_broken=True)
        assert list(found.failed) == asked[:1]
        assert str(path) in found.failed[asked[0]]
        assert len(found.scored) == len(candidates)
    with pytest.raises(ReelignError, match="no video file"):
        score([Candidate(tmp_path / "gone.mp4", "a")], Truth(), tmp_path)


@pytest.mark.parametrize(
    "change",
    [
        lambda scores: {"VQ": scores["VQ"]},
        lambda scores: {name: values.mean() for name, values in scores.items()},
        lambda scores: {**scores, "more": scores["VQ"]},
    ],
)
def test_a_reward_that_breaks_its_promise(change: object, candidates: list[Candidate], tmp_path: Path) -> None:
    with pytest.raises(ReelignError, match="returned"):
        score(candidates, Changed(change), tmp_path)  # type: ignore[arg-type]
