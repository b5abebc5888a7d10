"""What `reelign pairs` says equals what is there, and what it writes can be trained on."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

import reelign
from reelign.errors import ReelignError
from reelign.recipes.data.files import file_preferences
from reelign.recipes.data.pair_summary import Balance, histogram
from reelign.recipes.data.preferences import workspace_preferences
from reelign.records import Workspace, read_pairs
from reelign.video import write_video


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for number, name in enumerate("abcd"):
        write_video(tmp_path / f"{name}.mp4", torch.full((9, 3, 16, 16), 0.2 + 0.2 * number), 8)
    return tmp_path


@pytest.fixture
def bench(folder: Path) -> Path:
    rows = [
        "a.mp4,b.mp4,a disc,A,B,same,A",
        "a.mp4,c.mp4,a disc,A,A,A,A",
        "b.mp4,c.mp4,a square,B,B,,same",
        "c.mp4,gone.mp4,a square,A,A,A,A",
    ]
    path = folder / "bench.csv"
    path.write_text("\n".join(["path_A,path_B,prompt,VQ,MQ,TA,Overall", *rows]))
    return path


def test_the_counts_of_a_benchmark(bench: Path) -> None:
    found = reelign.pairs(bench)
    assert (found.format, found.rows, len(found.pairs), found.prompts) == ("videoalign", 4, 2, 1)
    assert found.left_out == {"tie": 1}
    assert [(broken.where, broken.reason) for broken in found.broken] == [(f"{bench}, row 4", "missing video")]
    assert found.dimensions == {
        "VQ": Balance(first=2, second=1, tie=0, unjudged=0),
        "MQ": Balance(first=1, second=2, tie=0, unjudged=0),
        "TA": Balance(first=1, second=0, tie=1, unjudged=1),
    }
    assert [found.agreement(name) for name in ("VQ", "MQ", "TA")] == [1.0, 0.5, 1.0]
    assert reelign.pairs(bench, pairs="agreed").left_out == {"dimensions that disagree": 1, "tie": 1}
    assert reelign.pairs(bench, weights={"MQ": 1.0}).pairs[0].chosen.stem == "b"


@pytest.mark.parametrize("suffix", ["csv", "parquet", "jsonl"])
def test_what_is_written_holds_the_good_rows(bench: Path, suffix: str) -> None:
    with pytest.raises(ReelignError, match=r"row 4: the path_B video .*gone\.mp4 does not exist"):
        file_preferences(bench)
    found = reelign.pairs(bench, out=bench.parent / "out" / f"good.{suffix}")
    good = bench.parent / "out" / f"good.{suffix}"
    assert read_pairs(good) == found.pairs
    assert file_preferences(good).rows == [0, 0]


def test_labels_and_the_chance_of_one_class(folder: Path) -> None:
    rows = [{"prompt": "p", "video": f"{name}.mp4", "label": name != "a"} for name in "abcd"]
    (folder / "labels.jsonl").write_text("\n".join(map(json.dumps, rows)))
    found = reelign.pairs(folder / "labels.jsonl", out=folder / "again.csv")
    assert (len(found.labels), found.desirable) == (4, 3)
    assert [each.score for each in file_preferences(folder / "again.csv").standing()] == [-1, 1, 1, 1]


def test_a_workspace_tells_of_its_judgements(judged: Workspace) -> None:
    found = reelign.pairs(workspace=judged.root)
    data = workspace_preferences(judged, "all")
    assert (found.format, found.rows, len(found.pairs), found.prompts) == ("workspace", 6, 6, 2)
    assert [pair.chosen for pair in found.pairs] == [clip.path for clip in data.chosen]
    assert found.dimensions["MQ"] == Balance(first=0, second=0, tie=6, unjudged=0)
    assert found.agreement("VQ") == 1.0
    assert found.agreement("MQ") != found.agreement("MQ")  # nobody decided on it
    assert reelign.pairs(workspace=judged.root, min_margin=0.9).left_out == {"margin below the threshold": 6}


def test_margins_fall_into_equal_steps() -> None:
    assert histogram([0.1, 0.2, 0.3, 1.0, 1.0], bins=5) == [
        (pytest.approx(0.0), pytest.approx(0.2), 2),
        (pytest.approx(0.2), pytest.approx(0.4), 1),
        (pytest.approx(0.4), pytest.approx(0.6), 0),
        (pytest.approx(0.6), pytest.approx(0.8), 0),
        (pytest.approx(0.8), pytest.approx(1.0), 2),
    ]
    assert [count for *_, count in histogram([n * 0.1 for n in range(1, 11)])] == [1] * 10
    assert histogram([]) == []
