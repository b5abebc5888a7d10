"""GenAI-Bench's table: columns and votes as its dataset card has them, videos by address or by file."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow import parquet

from reelign.errors import ReelignError
from reelign.records import decided, read_rows

HUB = "https://huggingface.co/datasets/tianleliphoebe/genai-arena-video-mp4/blob/main/"
VOTES = ("leftvote", "rightvote", "tievote", "bothbad_vote")


def rows(left: str, right: str) -> list[dict[str, str]]:
    """A row for each vote, in the columns of `TIGER-Lab/GenAI-Bench`, `video_generation`."""
    return [
        {
            "prompt": "a disc",
            "left_model": "T2V-Turbo",
            "left_video": left,
            "right_model": "LaVie",
            "right_video": right,
            "vote_type": vote,
        }
        for vote in VOTES
    ]


def videos(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(name.encode())


@pytest.mark.parametrize("suffix", [".parquet", ".json", ".jsonl"])
@pytest.mark.parametrize("place", ["dir/79e4.mp4", "79e4.mp4", "videos/79e4.mp4"])
def test_votes_and_videos_where_a_download_puts_them(tmp_path: Path, suffix: str, place: str) -> None:
    videos(tmp_path, place, "b.mp4")
    path, table = tmp_path / f"test{suffix}", rows(HUB + "dir/79e4.mp4?download=true", "b.mp4")
    if suffix == ".parquet":
        parquet.write_table(pa.Table.from_pylist(table), path)
    else:
        path.write_text(json.dumps(table) if suffix == ".json" else "\n".join(json.dumps(row) for row in table))
    found = read_rows(path)
    assert (found.format, found.broken) == ("genai-bench", [])
    assert [row.margin for row in found.compared] == [1, -1, 0, 0]
    assert {row.first for row in found.compared} == {tmp_path / place}
    assert {row.models for row in found.compared} == {("T2V-Turbo", "LaVie")}
    pairs, left_out = decided(found.compared)
    assert [pair.chosen.name for pair in pairs] == ["79e4.mp4", "b.mp4"]
    assert left_out == {"tie": 2}


def test_what_is_missing_or_unknown_is_named(tmp_path: Path) -> None:
    videos(tmp_path, "b.mp4")
    wrong = {**rows("b.mp4", "b.mp4")[0], "vote_type": "upvote"}
    table = [rows(HUB + "dir/" + "x" * 300 + ".mp4", "b.mp4")[0], rows("https://example.org/c.mp4", "b.mp4")[0], wrong]
    path = tmp_path / "test.json"
    path.write_text(json.dumps(table))
    found = read_rows(path)
    assert [broken.reason for broken in found.broken] == ["missing video", "missing video", "unreadable value"]
    assert "hf download tianleliphoebe/genai-arena-video-mp4 --repo-type dataset" in found.broken[0].mend
    assert "upvote" in found.broken[2].what
    with pytest.raises(ReelignError, match="not beside the table"):
        found.refuse_broken()


def test_videogen_rewardbench_says_what_made_its_videos(tmp_path: Path) -> None:
    videos(tmp_path, "a.mp4", "b.mp4")
    header = "path_A,path_B,A_model,B_model,prompt,VQ,MQ,TA,Overall,fps_A,num_frames_A,fps_B,num_frames_B\n"
    (tmp_path / "bench.csv").write_text(header + "a.mp4,b.mp4,kling1.5,luma,a disc,A,B,same,A,24,96,24,96\n")
    assert [row.models for row in read_rows(tmp_path / "bench.csv").compared] == [("kling1.5", "luma")]
