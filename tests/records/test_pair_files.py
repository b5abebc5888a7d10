"""Pair files as users write them, round trips, and each way a row can be wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from reelign.errors import ReelignError
from reelign.records import FilePair, read_pairs, write_pairs


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "videos").mkdir()
    for name in ("good", "bad", "other"):
        (tmp_path / "videos" / f"{name}.mp4").write_bytes(b"mp4")
    return tmp_path


def csv(folder: Path, text: str) -> Path:
    path = folder / "pairs.csv"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize("suffix", [".csv", ".parquet", ".jsonl"])
def test_round_trip(folder: Path, suffix: str) -> None:
    good, bad, other = (folder / "videos" / f"{name}.mp4" for name in ("good", "bad", "other"))
    pairs = [
        FilePair(prompt='a "red" square,\nmoving', chosen=good, rejected=bad, margin=1 / 3),
        FilePair(prompt="2024", chosen=other, rejected=good),
        FilePair(prompt="NA", chosen=other, rejected=bad, margin=0.1),
        FilePair(prompt="ein grüner Kreis 😀", chosen=bad, rejected=other),
        FilePair(prompt="two\u2028lines\u0085more", chosen=bad, rejected=other),
    ]
    path = folder / "exports" / f"pairs{suffix}"
    write_pairs(path, pairs)
    assert read_pairs(path) == pairs
    assert [each.name for each in path.parent.iterdir()] == [path.name]


def test_a_folder_with_both_can_be_moved(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    pair = FilePair(prompt="p", chosen=folder / "videos" / "good.mp4", rejected=folder / "videos" / "bad.mp4")
    write_pairs(folder / "pairs.parquet", [pair])
    moved = tmp_path_factory.mktemp("moved") / "all"
    folder.rename(moved)
    assert read_pairs(moved / "pairs.parquet")[0].chosen == moved / "videos" / "good.mp4"


def test_a_hand_written_csv(folder: Path) -> None:
    absolute = folder / "videos" / "bad.mp4"
    path = csv(folder, f"\ufeffid,prompt,chosen,rejected\n7,a disc,videos/good.mp4,{absolute}\n")
    assert read_pairs(path) == [
        FilePair(prompt="a disc", chosen=folder / "videos" / "good.mp4", rejected=absolute, margin=1.0)
    ]


def test_margins_may_be_left_out_row_by_row(folder: Path) -> None:
    rows = "p,videos/good.mp4,videos/bad.mp4,\np,videos/good.mp4,videos/other.mp4,0.25\n"
    path = csv(folder, f"prompt,chosen,rejected,margin\n{rows}")
    assert [pair.margin for pair in read_pairs(path)] == [1.0, 0.25]


ROW = "p,videos/good.mp4,videos/bad.mp4"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty"),
        ("prompt,chosen,rejected\n", "has no pairs"),
        (f"prompt,choosen,rejected\n{ROW}\n", r"no column 'chosen'.*\nRename 'choosen' to 'chosen'"),
        (f"text,chosen,rejected\n{ROW}\n", "no column 'prompt', only text, chosen, rejected"),
        (f"prompt,chosen,rejected,margn\n{ROW},1\n", "Rename 'margn' to 'margin'"),
        (f"prompt,chosen,rejected\n{ROW}\np,videos/gone.mp4,videos/bad.mp4\n", r"row 2: the chosen video .*gone\.mp4"),
        ("prompt,chosen,rejected\np,videos/good.mp4,\n", "row 1: rejected must be a text, got ''"),
        ("prompt,chosen,rejected\n ,videos/good.mp4,videos/bad.mp4\n", "row 1: prompt must be a text"),
        (
            f"prompt,chosen,rejected\n{ROW}\np,videos/bad.mp4,videos/../videos/bad.mp4\n",
            "row 2: chosen and rejected are",
        ),
        ("prompt,chosen,rejected\np,a\0b.mp4,videos/bad.mp4\n", r"row 1: chosen cannot be a path, got 'a\\x00b.mp4'"),
        (f"prompt,chosen,rejected\np,{'a' * 999}.mp4,videos/bad.mp4\n", "row 1: chosen cannot be a path"),
        ("prompt,chosen,rejected\np,~no-such-user/b.mp4,videos/bad.mp4\n", "row 1: chosen cannot be a path"),
        (f"prompt,chosen,rejected,margin\n{ROW},0\n", "row 1: margin must be a positive number, got '0'"),
        (f"prompt,chosen,rejected,margin\n{ROW},much\n", "row 1: margin must be a positive number, got 'much'"),
        (f"prompt,chosen,rejected\n{ROW},too,many\n", "cannot be read"),
    ],
)
def test_wrong_files_say_where(folder: Path, text: str, message: str) -> None:
    with pytest.raises(ReelignError, match=message):
        read_pairs(csv(folder, text))


def test_files_that_are_no_pairs(folder: Path) -> None:
    with pytest.raises(ReelignError, match="no file of pairs"):
        read_pairs(folder / "missing.csv")
    (folder / "pairs.xlsx").write_bytes(b"x")
    with pytest.raises(ReelignError, match="neither CSV nor Parquet"):
        read_pairs(folder / "pairs.xlsx")
    (folder / "pairs.parquet").write_bytes(b"not parquet")
    with pytest.raises(ReelignError, match=r"pairs\.parquet cannot be read"):
        read_pairs(folder / "pairs.parquet")


def test_nothing_to_write_is_refused(folder: Path) -> None:
    with pytest.raises(ReelignError, match="no pairs to write"):
        write_pairs(folder / "pairs.csv", [])
    with pytest.raises(ReelignError, match="neither CSV nor Parquet"):
        write_pairs(folder / "pairs.json", [])
