"""Every layout of preferences that people have, recognised by what is there, and each way it can be wrong."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pytest
import torch
from PIL import Image
from pyarrow import parquet

from reelign.errors import ReelignError
from reelign.records import READERS, FilePair, decided, image_prompt, read_pairs, read_rows, write_labels, write_pairs
from reelign.records.readers import load_reader
from reelign.video import write_video


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("a", "b", "c", "d"):
        (tmp_path / f"{name}.mp4").write_bytes(name.encode())
    return tmp_path


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize("suffix", [".jsonl", ".json"])
def test_pairs_as_json(folder: Path, suffix: str) -> None:
    rows = [
        {"prompt": "2024", "chosen": "a.mp4", "rejected": "b.mp4", "margin": 0.5, "margin_VQ": 1, "margin_MQ": None},
        {"prompt": "ein Kreis 😀", "chosen": "c.mp4", "rejected": "a.mp4"},
    ]
    text = json.dumps(rows) if suffix == ".json" else "\n".join(json.dumps(row, ensure_ascii=False) for row in rows)
    found = read_rows(write(folder / f"pairs{suffix}", text))
    assert (found.format, found.broken) == ("pairs", [])
    pairs, left_out = decided(found.compared)
    assert pairs[0] == FilePair(
        prompt="2024", chosen=folder / "a.mp4", rejected=folder / "b.mp4", margin=0.5, margins={"VQ": 1.0}
    )
    assert (pairs[1].prompt, pairs[1].margin, left_out) == ("ein Kreis 😀", 1.0, {})


@pytest.mark.parametrize("suffix", [".csv", ".parquet", ".jsonl"])
def test_margins_on_dimensions_survive_writing(folder: Path, suffix: str) -> None:
    a, b, c = (folder / f"{name}.mp4" for name in "abc")
    pairs = [
        FilePair(prompt="p, q", chosen=a, rejected=b, margin=1 / 3, margins={"VQ": 1.0, "MQ": -1.0}),
        FilePair(prompt="NA", chosen=b, rejected=c, margin=1.0, margins={"TA": 0.0}),
    ]
    write_pairs(folder / "out" / f"pairs{suffix}", pairs)
    assert read_pairs(folder / "out" / f"pairs{suffix}") == pairs


VIDEOALIGN = """path_A,path_B,A_model,B_model,prompt,VQ,MQ,TA,Overall,fps_A,num_frames_A,fps_B,num_frames_B
a.mp4,b.mp4,x,y,a disc,A,B,same,A,24,96,24,96
a.mp4,b.mp4,x,y,a disc,B,B,A,B,24,96,24,96
c.mp4,d.mp4,x,y,a square,A,same,A,same,24,96,24,96
c.mp4,d.mp4,x,y,a square,invalid,,-,,24,96,24,96
"""


def test_videoalign_labels(folder: Path) -> None:
    found = read_rows(write(folder / "videogen-rewardbench.csv", VIDEOALIGN))
    assert found.format == "videoalign"
    assert [row.margins for row in found.compared] == [
        {"VQ": 1.0, "MQ": -1.0, "TA": 0.0},
        {"VQ": -1.0, "MQ": -1.0, "TA": 1.0},
        {"VQ": 1.0, "MQ": 0.0, "TA": 1.0},
        {},
    ]
    pairs, left_out = decided(found.compared)
    assert [(pair.chosen.stem, pair.rejected.stem) for pair in pairs] == [("a", "b"), ("b", "a")]
    assert pairs[1].margins == {"VQ": 1.0, "MQ": 1.0, "TA": -1.0}
    assert left_out == {"no label": 1, "tie": 1}


def test_the_training_csv_of_videoreward_has_no_overall_and_takes_the_mean(folder: Path) -> None:
    lines = [line.split(",") for line in VIDEOALIGN.splitlines()]
    text = "\n".join(",".join(cell for place, cell in enumerate(line) if place != 8) for line in lines)
    rows = read_rows(write(folder / "train.csv", text)).compared
    pairs, left_out = decided(rows)
    assert [(pair.chosen.stem, pair.margin) for pair in pairs] == [
        ("b", pytest.approx(1 / 3)),
        ("c", pytest.approx(2 / 3)),
    ]
    assert left_out == {"no label": 1, "tie": 1}


def test_policies_and_weights_on_dimensions(folder: Path) -> None:
    rows = read_rows(write(folder / "bench.csv", VIDEOALIGN)).compared
    by_motion, left_out = decided(rows, weights={"MQ": 1.0})
    assert [pair.chosen.stem for pair in by_motion] == ["b", "b"]
    assert left_out == {"no label": 1, "tie": 1}
    agreed, left_out = decided(rows, pairs="agreed", weights={"VQ": 1.0})
    assert agreed == []
    assert left_out == {"dimensions that disagree": 3, "no label": 1}
    each, left_out = decided(rows, pairs="per_dimension")
    assert Counter(name for pair in each for name in pair.margins) == {"VQ": 3, "MQ": 2, "TA": 2}
    assert left_out == {"no label": 1, "tie": 2}
    with pytest.raises(ReelignError, match=r"pairs=best_worst needs a workspace's candidates"):
        decided(rows, pairs="best_worst")
    with pytest.raises(ReelignError, match=r"'VG'.*does not have\nDid you mean 'VQ'"):
        decided(rows, weights={"VG": 1.0})


def test_videodpo_counts_in_metadata(folder: Path) -> None:
    clips = [{"basic": {"clip_path": f"{name}.mp4", "clip_duration": 2.0}, "misc": {}} for name in "abcd"]
    write(folder / "metadata.json", json.dumps(clips))
    pairs = [
        {"video1": 2, "video2": 0, "label": 0, "frame_caption": ["a disc"], "score": 0.3},
        {"video1": 1, "video2": 9, "frame_caption": "a square"},
    ]
    write(folder / "pair.json", json.dumps(pairs))
    for path in (folder / "pair.json", folder):
        found = read_rows(path)
        assert found.format == "videodpo"
        (row,) = found.compared
        assert (row.prompt, row.first.stem, row.second.stem, row.margin) == ("a disc", "c", "a", 1.0)
        (broken,) = found.broken
        assert "row 2" in broken.where
        assert "got 1 and 9" in broken.what
    clips[3]["basic"] = {"clip_path": "d.mp4", "clip_duration": 0.5}
    write(folder / "metadata.json", json.dumps(clips))
    with pytest.raises(ReelignError, match="1 clips under 1 s"):
        read_rows(folder)


def test_videodpo_without_metadata_counts_winners_and_losers(tmp_path: Path) -> None:
    for name in ("winvideos/000003", "losevideos/000003"):
        write(tmp_path / f"{name}.mp4", name)
    write(tmp_path / "pair.json", json.dumps([{"video1": 6, "video2": 7, "frame_caption": ["p"]}]))
    (pair,) = read_pairs(tmp_path)
    assert (pair.chosen.parent.name, pair.rejected.parent.name) == ("winvideos", "losevideos")


def test_two_folders_and_their_prompts(tmp_path: Path) -> None:
    for side in ("chosen", "rejected"):
        for name in ("one", "two", "three"):
            write(tmp_path / side / f"{name}.mp4", side + name)
    write(tmp_path / "chosen" / "one.txt", "a disc\n")
    write(tmp_path / "prompts.jsonl", json.dumps({"name": "two.mp4", "prompt": "a square"}))
    (tmp_path / "rejected" / "three.mp4").unlink()
    found = read_rows(tmp_path)
    assert found.format == "two-folders"
    assert [(row.prompt, row.first.stem, row.second.parent.name) for row in found.compared] == [
        ("a disc", "one", "rejected"),
        ("a square", "two", "rejected"),
    ]
    assert [broken.what for broken in found.broken] == ["it is in chosen/ and not in rejected/"]
    write(tmp_path / "rejected" / "three.mp4", "x")
    with pytest.raises(ReelignError, match="three: prompt must be a text, got None"):
        read_pairs(tmp_path)


def test_a_folder_per_pair(tmp_path: Path) -> None:
    for name in ("p1", "p2"):
        for side in ("chosen", "rejected"):
            write(tmp_path / name / f"{side}.mp4", name + side)
        write(tmp_path / name / "prompt.txt", f"prompt of {name}")
    (tmp_path / "p2" / "rejected.mp4").unlink()
    found = read_rows(tmp_path)
    assert found.format == "pair-folders"
    assert [(row.prompt, row.first.name) for row in found.compared] == [("prompt of p1", "chosen.mp4")]
    assert [Path(broken.where).name for broken in found.broken] == ["p2"]


def test_labels_in_the_words_people_use(folder: Path) -> None:
    words = ["true", "0", "good", "-1", "perhaps"]
    rows = [{"prompt": "p", "video": "a.mp4", "label": word} for word in words]
    rows += [{"prompt": "p", "video": "b.mp4", "label": value} for value in (True, False, 1, 0)]
    found = read_rows(write(folder / "labels.jsonl", "\n".join(map(json.dumps, rows))))
    assert found.format == "labels"
    assert [label.desirable for label in found.labels] == [True, False, True, False, True, False, True, False]
    assert [broken.what for broken in found.broken] == ["label must be true or false, got 'perhaps'"]


def test_datasets_on_disk_with_paths_and_with_bytes(folder: Path) -> None:
    datasets = pytest.importorskip("datasets")
    rows = {"prompt": ["p", "q"], "chosen": ["a.mp4", "c.mp4"], "rejected": ["b.mp4", "d.mp4"]}
    videos = {side: [str(folder / name) for name in rows[side]] for side in ("chosen", "rejected")}
    plain = datasets.Dataset.from_dict({**rows, **videos})
    plain.save_to_disk(str(folder / "plain"))
    datasets.DatasetDict({"train": plain, "test": plain.select([1])}).save_to_disk(str(folder / "splits"))
    assert [pair.prompt for pair in read_pairs(folder / "plain")] == ["p", "q"]
    assert read_pairs(folder / "splits") == read_pairs(folder / "plain")
    assert [pair.prompt for pair in read_pairs(folder / "splits" / "test")] == ["q"]

    bytes_of = {side: [{"bytes": Path(path).read_bytes(), "path": None} for path in videos[side]] for side in videos}
    kept = datasets.Dataset.from_dict({**rows, **bytes_of})
    kept.save_to_disk(str(folder / "kept"), num_shards=2)
    for _ in range(2):
        pairs = read_pairs(folder / "kept")
        assert [pair.chosen.read_bytes() for pair in pairs] == [b"a", b"c"]
    assert len(list((folder / "kept" / "reelign-videos").iterdir())) == 4


def test_a_parquet_with_videos_inside(folder: Path) -> None:
    noise = torch.rand(3, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    write_video(folder / "real.mp4", noise, 8)
    cells = [{"bytes": (folder / name).read_bytes(), "path": name} for name in ("real.mp4", "a.mp4")]
    parquet.write_table(pa.table({"prompt": ["p"], "chosen": cells[:1], "rejected": cells[1:]}), folder / "p.parquet")
    (pair,) = read_pairs(folder / "p.parquet")
    assert pair.chosen.read_bytes() == (folder / "real.mp4").read_bytes()
    assert pair.chosen.parent == folder / "reelign-videos"


def test_the_one_table_in_a_folder_is_read(folder: Path) -> None:
    write(folder / "pairs.csv", "prompt,chosen,rejected\np,a.mp4,b.mp4\n")
    assert read_rows(folder).path == folder / "pairs.csv"
    write(folder / "labels.csv", "prompt,video,label\np,a.mp4,1\n")
    with pytest.raises(ReelignError, match=r"several tables, labels\.csv, pairs\.csv"):
        read_rows(folder)
    empty = folder / "empty"
    empty.mkdir()
    with pytest.raises(ReelignError, match="no preferences that are recognised\nKnown formats are pairs: a table"):
        read_rows(empty)


def test_a_format_can_be_forced_and_named(folder: Path) -> None:
    path = write(folder / "both.csv", "prompt,chosen,rejected,video,label\np,a.mp4,b.mp4,c.mp4,1\n")
    assert read_rows(path).format == "pairs"
    assert len(read_rows(path, "labels").labels) == 1
    assert len(read_rows(path, "reelign.records.readers.labels:READER").labels) == 1
    with pytest.raises(ReelignError, match="no column 'path_A'"):
        read_rows(path, "videoalign")
    with pytest.raises(ReelignError, match="Did you mean 'videodpo'"):
        read_rows(path, "videoDPO")
    with pytest.raises(ReelignError, match="cannot be imported"):
        read_rows(path, "no_such_package.reader:READER")
    with pytest.raises(ReelignError, match="is no reader"):
        read_rows(path, "json:dumps")


def test_broken_rows_are_named_and_the_others_counted(folder: Path) -> None:
    text = "prompt,chosen,rejected\np,gone.mp4,b.mp4\n ,a.mp4,b.mp4\np,a.mp4,b.mp4\np,a.mp4,a.mp4\np,b.mp4,gone.mp4\n"
    path = write(folder / "pairs.csv", text)
    assert Counter(broken.reason for broken in read_rows(path).broken) == {
        "missing video": 2,
        "empty prompt": 1,
        "the same video twice": 1,
    }
    with pytest.raises(ReelignError) as caught:
        read_pairs(path)
    assert "row 1: the chosen video" in caught.value.what
    assert (
        "(and 3 more broken rows: 1 x empty prompt, 1 x the same video twice, 1 x missing video)" in caught.value.what
    )
    assert f"reelign pairs {path}" in caught.value.mend


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("x.jsonl", '{"prompt": "p"}\n{oops\n', r"x\.jsonl, line 2 is no JSON"),
        ("x.json", '{"prompt": "p"}', "is no list of objects"),
        ("x.jsonl", "\n", "is empty"),
        ("x.csv", "path_A,path_B,prompt\na.mp4,b.mp4,p\n", "judges nothing"),
        ("x.csv", "prompt,chosen,rejected,margin_VQ\np,a.mp4,b.mp4,much\n", "margin_VQ must be a number, got 'much'"),
        ("x.csv", "prompt,video,lable\np,a.mp4,1\n", "Rename 'lable' to 'label'"),
    ],
)
def test_wrong_files(folder: Path, name: str, text: str, message: str) -> None:
    with pytest.raises(ReelignError, match=message):
        read_pairs(write(folder / name, text))


def test_every_reader_says_what_it_holds() -> None:
    for name in READERS:
        reader = load_reader(name)
        assert reader.what
        assert bool(reader.columns) != bool(reader.recognise)


@pytest.mark.parametrize("suffix", [".csv", ".parquet", ".jsonl"])
def test_images_of_pairs_and_labels_are_read_and_survive_writing(folder: Path, suffix: str) -> None:
    Image.new("RGB", (4, 4), (200, 0, 0)).save(folder / "red.png")
    asked = image_prompt("p", folder / "red.png")
    pairs = [
        FilePair(prompt=asked, chosen=folder / "a.mp4", rejected=folder / "b.mp4"),
        FilePair(prompt="p", chosen=folder / "a.mp4", rejected=folder / "c.mp4"),
    ]
    write_pairs(folder / "out" / f"pairs{suffix}", pairs)
    assert [pair.prompt for pair in read_pairs(folder / "out" / f"pairs{suffix}")] == [asked, "p"]
    (label,) = read_rows(write(folder / "l.csv", "prompt,video,label,image\np,a.mp4,1,red.png\n")).labels
    assert label.prompt == asked
    write_labels(folder / "out" / f"labels{suffix}", [label])
    assert read_rows(folder / "out" / f"labels{suffix}").labels[0].prompt == asked


def test_rows_whose_image_cannot_be_read_are_counted(folder: Path) -> None:
    path = write(folder / "pairs.csv", "prompt,chosen,rejected,image\np,a.mp4,b.mp4,a.mp4\np,a.mp4,b.mp4,\n")
    found = read_rows(path)
    assert ([each.reason for each in found.broken], len(found.compared)) == (["unreadable image"], 1)
    with pytest.raises(ReelignError, match=r"row 1: .*a\.mp4 cannot be read as an image") as caught:
        found.refuse_broken()
    assert f"start at the folder of the file, {folder}" in caught.value.mend
