"""Segments in files: read, written, turned around, refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from reelign.records import FilePair, decided, read_pairs, read_rows, write_pairs
from reelign.records.segments import Segment, read_segments, segments_cell, turned_around
from reelign.video import write_video

CELL = [{"from": 0, "to": 0.5, "better": "rejected"}, {"from": 0.5, "box": [0, 0, 0.5, 1]}, {"to": 1, "better": "tie"}]
SEGMENTS = (
    Segment(end_s=0.5, label=-1),
    Segment(start_s=0.5, box=(0.0, 0.0, 0.5, 1.0)),
    Segment(end_s=1.0, label=0),
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for number, name in enumerate("ab"):
        write_video(tmp_path / f"{name}.mp4", torch.full((9, 3, 16, 16), 0.3 + 0.3 * number), 8.0)
    return tmp_path


def test_a_cell_is_json_or_a_list_and_comes_back_as_it_was() -> None:
    assert read_segments(CELL) == read_segments(json.dumps(CELL)) == SEGMENTS
    assert read_segments(segments_cell(SEGMENTS)) == SEGMENTS
    assert read_segments("") == read_segments(None) == ()
    assert segments_cell(()) is None
    assert [each.label for each in turned_around(SEGMENTS)] == [1, -1, 0]


@pytest.mark.parametrize(
    ("cell", "message"),
    [
        ("{", "must be JSON"),
        ('{"from": 0}', "a list of objects"),
        ('[{"form": 0}]', "no 'form', only from, to, box, better"),
        ('[{"from": 2, "to": 1}]', "increasing seconds"),
        ('[{"box": [0, 0, 2, 1]}]', "shares in"),
        ('[{"box": [0, 1]}]', "box four of them"),
        ('[{"better": "b"}]', "better must be one of"),
        ('[{"better": "tie"}]', "all of them are ties"),
    ],
)
def test_what_is_wrong_is_said(cell: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_segments(cell)


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet"])
def test_pairs_keep_their_segments_in_a_file(folder: Path, suffix: str) -> None:
    pairs = [
        FilePair(prompt="p", chosen=folder / "a.mp4", rejected=folder / "b.mp4", segments=SEGMENTS),
        FilePair(prompt="q", chosen=folder / "b.mp4", rejected=folder / "a.mp4"),
    ]
    write_pairs(folder / f"pairs.{suffix}", pairs)
    assert read_pairs(folder / f"pairs.{suffix}") == pairs


def test_a_pair_turned_by_a_dimension_turns_its_segments_and_a_broken_cell_is_counted(folder: Path) -> None:
    rows = [
        {"prompt": "p", "chosen": "a.mp4", "rejected": "b.mp4", "margin_VQ": -1.0, "segments": CELL},
        {"prompt": "p", "chosen": "a.mp4", "rejected": "b.mp4", "margin_VQ": 1.0, "segments": [{"box": [1]}]},
    ]
    (folder / "pairs.jsonl").write_text("\n".join(map(json.dumps, rows)))
    found = read_rows(folder / "pairs.jsonl")
    (pair,), _ = decided(found.compared, pairs="per_dimension")
    assert pair.chosen.name == "b.mp4"
    assert pair.segments == turned_around(SEGMENTS)
    (broken,) = found.broken
    assert "box four of them" in broken.what
