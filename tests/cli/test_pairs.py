"""`reelign pairs` on the command line."""

from __future__ import annotations

from pathlib import Path

import torch

from cli.process import reelign, refusal, succeed
from reelign.video import write_video

ROWS = "a.mp4,b.mp4,a disc,A,B,same\nb.mp4,c.mp4,a disc,A,A,A\na.mp4,gone.mp4,a disc,A,A,A\n"


def bench(folder: Path) -> None:
    for number, name in enumerate("abc"):
        write_video(folder / f"{name}.mp4", torch.full((5, 3, 16, 16), 0.2 + 0.2 * number), 8)
    (folder / "bench.csv").write_text(f"path_A,path_B,prompt,VQ,MQ,TA\n{ROWS}")


def test_it_says_what_it_read_and_writes_the_good_rows(tmp_path: Path) -> None:
    bench(tmp_path)
    said = succeed("pairs", "bench.csv", "weights.VQ=1", "--out", "good.jsonl", folder=tmp_path)
    assert "bench.csv: read as videoalign, 3 rows" in said
    assert "2 pairs of 1 prompts" in said
    assert "broken: 1 x missing video" in said
    assert "row 3: the path_B video" in said
    assert "agrees" in said
    assert "wrote 2 rows to good.jsonl" in said
    assert "2 pairs of 1 prompts" in succeed("pairs", "good.jsonl", folder=tmp_path)


def test_a_format_is_forced_and_a_wrong_one_refused(tmp_path: Path) -> None:
    bench(tmp_path)
    message = refusal(reelign("pairs", "bench.csv", "--format", "labels", folder=tmp_path))
    assert "has no column 'video'" in message
    assert "no file of pairs" in refusal(reelign("pairs", "none.csv", folder=tmp_path))
    assert "is no workspace" in refusal(reelign("pairs", "pairs=agreed", folder=tmp_path))
