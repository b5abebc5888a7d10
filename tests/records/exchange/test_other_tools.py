"""Files as the other tools write them themselves, and what is refused."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import DatasetCard
from hypothesis import given, settings
from hypothesis import strategies as st

from records.exchange.bundles import names, texts
from records.test_judgement_log import every_kind
from reelign.errors import ReelignError
from reelign.records import Workspace, majority
from reelign.records.exchange import (
    Bundle,
    RewardRow,
    SharedVideo,
    add_bundle,
    bundle_of,
    bundle_of_rows,
    read_argilla,
    read_label_studio,
    read_rows,
    rows_of,
    write_hub_dataset,
    write_rows,
)

LABEL_STUDIO: list[dict[str, Any]] = [
    {
        "id": 7,
        "data": {"prompt": "a red square", "video_a": "videos/0.mp4", "video_b": "videos/1.mp4"},
        "annotations": [
            {
                "completed_by": {"id": 3, "email": "ann@example.org"},
                "lead_time": 12.5,
                "created_at": "2026-11-21T10:11:12.000000Z",
                "result": [
                    {"from_name": "VQ", "to_name": "a,b", "type": "pairwise", "value": {"selected": "right"}},
                    {"from_name": "MQ", "to_name": "a,b", "type": "choices", "value": {"choices": ["Same"]}},
                ],
            }
        ],
    },
    {
        "id": 8,
        "data": {"prompt": "a red square", "video": "videos/0.mp4"},
        "annotations": [
            {
                "completed_by": 4,
                "result": [{"from_name": "overall", "to_name": "v", "type": "rating", "value": {"rating": 4}}],
            }
        ],
    },
]

ARGILLA: list[dict[str, Any]] = [
    {
        "id": "1",
        "status": "completed",
        "fields": {"prompt": "a red square", "video_a": "videos/0.mp4", "video_b": "videos/1.mp4"},
        "metadata": {},
        "suggestions": {},
        "responses": {
            "VQ": [{"value": "a", "user_id": "ann"}, {"value": "same", "user_id": "bob"}],
            "MQ": [{"value": "b", "user_id": "ann", "status": "discarded"}],
        },
    }
]

# The first rows of a file such as the authors give as an example.
VIDEOALIGN = """\
path_A,path_B,prompt,VQ,MQ,TA,MOS_A_VQ,fps_A,num_frames_A,fps_B,num_frames_B
videos/a.mp4,videos/b.mp4,"A cat, running.",A,same,B,3.5,24,97,30,150
videos/a.mp4,videos/c.mp4,"A cat, running.",B,invalid,,3.5,24,97,8.0,
"""


def test_label_studio(tmp_path: Path, workspace: Workspace) -> None:
    path = tmp_path / "export.json"
    path.write_text(json.dumps(LABEL_STUDIO))
    for _ in range(2):
        add_bundle(workspace, read_label_studio(path))
    said = [(each.kind, each.dimension, each.verdict, each.judge) for each in workspace.judgements()]
    assert said == [
        ("pairwise", "VQ", "b", "ann@example.org"),
        ("pairwise", "MQ", "tie", "ann@example.org"),
        ("rating", "overall", "4", "4"),
    ]
    first = workspace.judgements()[0]
    assert (first.duration_s, first.created.isoformat()) == (12.5, "2026-11-21T10:11:12+00:00")
    assert sorted(each.path for each in workspace.videos()) == ["videos/0.mp4", "videos/1.mp4"]


def test_label_studio_controls_that_judge_nothing_are_no_judgements(tmp_path: Path) -> None:
    path = tmp_path / "export.json"
    others = json.loads(json.dumps(LABEL_STUDIO[:1]))
    others[0]["annotations"][0]["result"] += [
        {"from_name": "why", "to_name": "a,b", "type": "textarea", "value": {"text": ["the left one shakes"]}},
        {"from_name": "TA", "to_name": "a,b", "type": "choices", "value": {"choices": []}},
        {"from_name": "TA", "to_name": "a,b", "type": "rating", "value": {}},
    ]
    path.write_text(json.dumps(others))
    assert [each.dimension for each in read_label_studio(path).judgements] == ["VQ", "MQ"]


def test_label_studio_numbers_and_times_that_are_none_are_named(tmp_path: Path) -> None:
    path = tmp_path / "export.json"
    for part, name, value in (
        ("annotation", "created_at", "yesterday"),
        ("annotation", "created_at", 5),
        ("annotation", "lead_time", "long"),
        ("data", "fps", "fast"),
        ("data", "num_frames", float("nan")),
    ):
        wrong = json.loads(json.dumps(LABEL_STUDIO))
        {"annotation": wrong[0]["annotations"][0], "data": wrong[0]["data"]}[part][name] = value
        path.write_text(json.dumps(wrong))
        with pytest.raises(ReelignError, match=rf"task 1: .*{value!r}"):
            read_label_studio(path)


def test_argilla(tmp_path: Path) -> None:
    path = tmp_path / "records.json"
    path.write_text(json.dumps(ARGILLA))
    found = list(read_argilla(path).judgements)
    assert [(each.dimension, each.verdict, each.judge) for each in found] == [("VQ", "a", "ann"), ("VQ", "tie", "bob")]


@pytest.mark.parametrize("read", [read_label_studio, read_argilla])
def test_what_is_no_export(read: Any, tmp_path: Path) -> None:
    path = tmp_path / "export.json"
    for text, message in (
        ("{", "cannot be read"),
        ("{}", "no list but dict"),
        ('[{"data": {"image": "x"}, "fields": {"image": "x"}}]', "has the fields image"),
        ('[{"rows": 1}]', "is not as"),
    ):
        path.write_text(text)
        with pytest.raises(ReelignError, match=message):
            read(path)


def test_an_unknown_answer_is_named(tmp_path: Path) -> None:
    path = tmp_path / "export.json"
    wrong = json.loads(json.dumps(LABEL_STUDIO[:1]))
    wrong[0]["annotations"][0]["result"][1]["value"]["choices"] = ["awful"]
    path.write_text(json.dumps(wrong))
    with pytest.raises(ReelignError, match=r"task 1: the answer 'awful' on 'MQ' is not known"):
        read_label_studio(path)


def test_videoalign_csv(tmp_path: Path, workspace: Workspace) -> None:
    path = tmp_path / "train.csv"
    path.write_text(VIDEOALIGN)
    first, second = read_rows(path)
    assert first.verdicts == {"VQ": "a", "MQ": "tie", "TA": "b"}
    assert (second.verdicts, second.fps, second.num_frames) == ({"VQ": "b"}, (24.0, 8.0), (97, None))

    add_bundle(workspace, bundle_of_rows([first, second], judge="train.csv"))
    assert [each.text for each in workspace.prompts()] == ["A cat, running."]
    assert len(workspace.videos()) == 3
    votes = majority(workspace.judgements())
    out = rows_of(votes, bundle_of(workspace).videos)
    write_rows(tmp_path / "out.csv", out)
    assert read_rows(tmp_path / "out.csv") == out
    again = bundle_of_rows(read_rows(tmp_path / "out.csv"), judge="train.csv")
    assert majority(again.judgements) == votes


@pytest.mark.parametrize("path", ["/etc/passwd", "../b.mp4", "videos/../../b.mp4", r"..\b.mp4", r"C:\b.mp4"])
def test_a_path_out_of_the_workspace_is_refused(path: str, workspace: Workspace) -> None:
    rows = [RewardRow(paths=("videos/a.mp4", path), prompt="a cat", verdicts={"VQ": "a"})]
    with pytest.raises(ReelignError, match=r"video 2 of 'a cat' has the path .* out of the workspace"):
        add_bundle(workspace, bundle_of_rows(rows, judge="ann"))
    assert workspace.prompts() == []


def test_videoalign_csv_without_its_columns(tmp_path: Path) -> None:
    path = tmp_path / "train.csv"
    path.write_text("path_A,prompt\nx,y\n")
    with pytest.raises(ReelignError, match="no column 'path_B'"):
        read_rows(path)
    path.write_text(VIDEOALIGN.replace("24,97,30", "fast,97,30"))
    with pytest.raises(ReelignError, match="row 1: could not convert"):
        read_rows(path)
    for value in ("nan", "inf"):
        path.write_text(VIDEOALIGN.replace("24,97,30", f"24,{value},30"))
        with pytest.raises(ReelignError, match=f"row 1: .*{value}"):
            read_rows(path)


rows = st.builds(
    RewardRow,
    paths=st.tuples(names, names),
    prompt=names,
    verdicts=st.dictionaries(
        st.sampled_from(["VQ", "MQ", "TA", "Overall", "style"]), st.sampled_from(["a", "b", "tie"])
    ),
    models=st.tuples(texts, texts),
    fps=st.tuples(st.none() | st.floats(0.1, 240), st.none() | st.floats(0.1, 240)),
    num_frames=st.tuples(st.none() | st.integers(1, 999), st.none() | st.integers(1, 999)),
)


@settings(deadline=None)
@given(st.lists(rows, max_size=4))
def test_videoalign_rows_come_back(some: list[RewardRow]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        write_rows(Path(folder) / "rows.csv", some)
        assert read_rows(Path(folder) / "rows.csv") == some


def test_the_card_says_what_is_in_the_folder(tmp_path: Path) -> None:
    videos = [
        SharedVideo(id=f"v{number}", prompt="a", path=f"{number}.mp4", fps=8.0, num_frames=9) for number in range(4)
    ]
    write_hub_dataset(tmp_path, Bundle(videos=videos, judgements=every_kind()), name="team/judgements", license="mit")
    card = DatasetCard.load(tmp_path / "README.md")
    assert card.data.license == "mit"
    assert [each["config_name"] for each in card.data.configs] == ["judgements", "videos", "tasks", "scores"]
    for config in card.data.configs:
        assert (tmp_path / config["data_files"][0]["path"]).is_file()
    assert "2 pairwise" in card.text
    assert "| `videos` | 4 |" in card.text
