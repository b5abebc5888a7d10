"""Captioned videos in a CSV or Parquet file."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest
from PIL import Image
from pyarrow import parquet

from reelign.errors import ReelignError
from reelign.records import FileVideo, ImagePrompt, image_prompt, read_videos


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    (tmp_path / "clips").mkdir()
    path = tmp_path / "clips" / "one.mp4"
    path.touch()
    return path


def write(folder: Path, text: str) -> Path:
    path = folder / "real.csv"
    path.write_text(text)
    return path


def test_rows_become_videos_beside_the_file(tmp_path: Path, clip: Path) -> None:
    path = write(tmp_path, f'prompt,video,note\n2024,clips/one.mp4,x\n"a, b",{clip},y\n')
    expected = [FileVideo(prompt="2024", video=clip.resolve()), FileVideo(prompt="a, b", video=clip.resolve())]
    assert read_videos(path) == expected
    table = pa.table({"prompt": ["2024", "a, b"], "video": ["clips/one.mp4", str(clip)]})
    parquet.write_table(table, tmp_path / "real.parquet")
    assert read_videos(tmp_path / "real.parquet") == expected


def test_a_column_names_the_image_that_a_clip_goes_on_from(tmp_path: Path, clip: Path) -> None:
    Image.new("RGB", (4, 4), (200, 0, 0)).save(tmp_path / "clips" / "first.png")
    first, plain = read_videos(
        write(tmp_path, "prompt,video,image\na,clips/one.mp4,clips/first.png\na,clips/one.mp4,\n")
    )
    assert first.prompt == image_prompt("a", tmp_path / "clips" / "first.png")
    assert (plain.prompt, isinstance(plain.prompt, ImagePrompt)) == ("a", False)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("prompt,clip\na,clips/one.mp4\n", "has no column 'video', only prompt, clip"),
        ("prompt,video\n", "has no videos"),
        ("prompt,video\n ,clips/one.mp4\n", "row 1: prompt must be a text"),
        ("prompt,video\na,clips/two.mp4\n", "row 1: the video .*two.mp4 does not exist"),
        ("prompt,video\na,clips/\0.mp4\n", r"row 1: 'clips/\\x00.mp4' cannot be a path"),
        ("prompt,video,image\na,clips/one.mp4,none.png\n", "row 1: .*none.png cannot be read as an image"),
        ("", "is empty"),
    ],
)
def test_wrong_files_are_refused(tmp_path: Path, clip: Path, text: str, message: str) -> None:
    with pytest.raises(ReelignError, match=message):
        read_videos(write(tmp_path, text))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ReelignError, match="no file of videos at"):
        read_videos(tmp_path / "none.csv")
