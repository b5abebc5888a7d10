"""Users' files of preferences with real videos: what becomes training data, and what is refused by name."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from pathlib import Path

import pytest
import torch

from reelign.errors import ReelignError
from reelign.generators import Generator
from reelign.recipes.data.files import checked, file_preferences
from reelign.recipes.data.real_clips import read_real
from reelign.recipes.offline.data import training_data
from reelign.recipes.settings import AlignSettings
from reelign.records import Workspace, read_rows
from reelign.video import write_video


def clip(path: Path, light: float, frames: int = 9, size: tuple[int, int] = (16, 16)) -> Path:
    write_video(path, torch.full((frames, 3, *size), light), 8)
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for number, name in enumerate("abcd"):
        clip(tmp_path / f"{name}.mp4", 0.2 + 0.2 * number)
    return tmp_path


def write(path: Path, rows: list[dict[str, object]]) -> Path:
    path.write_text("\n".join(map(json.dumps, rows)))
    return path


def pair(chosen: str, rejected: str, prompt: str = "a red square") -> dict[str, object]:
    return {"prompt": prompt, "chosen": f"{chosen}.mp4", "rejected": f"{rejected}.mp4"}


def test_videoalign_rows_become_latents(folder: Path, tiny_wan: Generator, tmp_path: Path) -> None:
    rows = "a.mp4,b.mp4,a disc,B,B,same\nc.mp4,d.mp4,a disc,A,same,A\na.mp4,d.mp4,a red square,A,B,same\n"
    (folder / "bench.csv").write_text(f"path_A,path_B,prompt,VQ,MQ,TA\n{rows}")
    data = file_preferences(folder / "bench.csv")
    assert [(one.name, other.name) for one, other in zip(data.chosen, data.rejected, strict=True)] == [
        ("b", "a"),
        ("c", "d"),
    ]
    assert (data.prompts, data.rows, data.left_out) == (["a disc"], [0, 0], {"tie": 1})
    assert data.margins == pytest.approx([2 / 3, 2 / 3])
    latents, _ = data.pairs(tiny_wan, tmp_path / "cache")
    assert latents.shape == (2, 2, 16, 3, 2, 2)


def test_the_layout_is_said_aloud(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file_preferences(write(folder / "pairs.jsonl", [pair("a", "b")]))
    assert "pairs.jsonl: read as pairs" in capsys.readouterr().err


def test_labels_become_candidates(folder: Path) -> None:
    rows = [{"prompt": "p", "video": f"{name}.mp4", "label": name in "ab"} for name in "abc"]
    data = file_preferences(write(folder / "labels.jsonl", rows))
    assert [(each.clip.name, each.score) for each in data.standing()] == [("a", 1.0), ("b", 1.0), ("c", -1.0)]
    assert data.rows == []
    changed = write(folder / "labels.jsonl", [{**rows[0], "label": False}, *rows[1:]])
    assert file_preferences(changed).key != data.key


def test_settings_choose_dimensions_and_threshold(folder: Path, judged: Workspace) -> None:
    (folder / "bench.csv").write_text("path_A,path_B,prompt,VQ,MQ,TA\na.mp4,b.mp4,p,A,B,B\nc.mp4,d.mp4,p,A,A,A\n")
    path = folder / "bench.csv"
    both = training_data(judged, AlignSettings(), path)
    assert [each.name for each in both.chosen] == ["b", "c"]
    assert training_data(judged, AlignSettings(weights={"VQ": 1.0}), path).chosen[0].name == "a"
    clear = training_data(judged, AlignSettings(min_margin=0.5), path)
    assert ([each.name for each in clear.chosen], clear.left_out) == (["c"], {"margin below the threshold": 1})
    assert training_data(judged, AlignSettings(pairs="agreed"), path).left_out == {"dimensions that disagree": 1}
    assert len(training_data(judged, AlignSettings(pairs="per_dimension"), path).rows) == 6
    with pytest.raises(ReelignError, match=r"Did you mean 'videoalign'"):
        training_data(judged, AlignSettings(), path, "videoaling")


def test_what_cannot_be_trained_on_is_named(folder: Path) -> None:
    clip(folder / "long.mp4", 0.5, frames=13)
    clip(folder / "wide.mp4", 0.5, size=(16, 32))
    shutil.copy(folder / "a.mp4", folder / "copy.mp4")
    (folder / "cut.mp4").write_bytes((folder / "a.mp4").read_bytes()[:-300])
    rows = [
        pair("a", "long"),
        pair("a", "wide"),
        pair("a", "copy"),
        pair("cut", "a"),
        pair("a", "b", " "),
        pair("a", "b"),
    ]
    path = write(folder / "pairs.jsonl", rows)
    found = checked(read_rows(path))
    assert Counter(broken.reason for broken in found.broken) == {
        "videos of different sizes": 2,
        "two copies of one video": 1,
        "unreadable video": 1,
        "empty prompt": 1,
    }
    assert len(found.compared) == 1
    for number, message in enumerate(
        (
            r"row 1: its videos differ in size: .*a\.mp4 has 9 frames of 16 x 16, .*long\.mp4 has 13 frames of 16 x 16",
            r"row 1: its videos differ in size: .*wide\.mp4 has 9 frames of 16 x 32",
            r"row 1: .*a\.mp4 and .*copy\.mp4 are two copies of one video",
            r"row 1: .*cut\.mp4 cannot be read as a video",
            r"row 1: prompt must be a text, got ' '",
        )
    ):
        write(path, rows[number : number + 1])
        with pytest.raises(ReelignError, match=message):
            file_preferences(path)


def test_ties_alone_are_no_preference(folder: Path) -> None:
    (folder / "ties.csv").write_text("path_A,path_B,prompt,VQ\na.mp4,b.mp4,p,same\n")
    with pytest.raises(ReelignError, match=r"There is no preference to train on \(1 x tie\)"):
        file_preferences(folder / "ties.csv")


def test_segments_in_videos_of_two_frame_rates_are_refused(folder: Path) -> None:
    """Their seconds would be other frames of the one than of the other."""
    write_video(folder / "slow.mp4", torch.full((9, 3, 16, 16), 0.9), 4)
    row = pair("a", "slow")
    assert len(file_preferences(write(folder / "whole.jsonl", [row])).rows) == 1
    segments = json.dumps([{"from": 0.5, "better": "chosen"}])
    with pytest.raises(ReelignError, match=r"counted in seconds, and .*a\.mp4 has 8 fps, .*slow\.mp4 4"):
        file_preferences(write(folder / "parts.jsonl", [{**row, "segments": segments}]))


def test_a_missing_file_of_real_clips_is_told_by_its_setting(tmp_path: Path) -> None:
    with pytest.raises(ReelignError, match=r"real names the file of videos .*none\.csv, which is not there") as caught:
        read_real(tmp_path / "none.csv")
    assert "real=PATH" in caught.value.mend
