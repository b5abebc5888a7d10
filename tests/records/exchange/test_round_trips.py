"""What went out and comes in again is the same: through every format, and through both databases."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings

from records.conftest import NewWorkspace
from records.exchange.bundles import bundles, same
from records.test_judgement_log import every_kind
from records.test_workspace import video
from reelign.errors import ReelignError
from reelign.records.exchange import (
    Bundle,
    add_bundle,
    bundle_of,
    read_argilla,
    read_hub_dataset,
    read_label_studio,
    read_tables,
    write_argilla,
    write_hub_dataset,
    write_label_studio,
    write_tables,
)
from reelign.records.exchange.record_files import Imported, import_record, recognise
from reelign.records.exchange.tables import FORMATS, TableFormat
from reelign.records.schema import Score, Task

EXAMPLES = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@pytest.mark.parametrize("format", FORMATS)
@EXAMPLES
@given(bundles())
def test_tables(format: TableFormat, bundle: Bundle) -> None:
    with tempfile.TemporaryDirectory() as folder:
        write_tables(folder, bundle, format)
        back = read_tables(folder)
        same(bundle, replace(back, judgements=list(back.judgements)))


@EXAMPLES
@given(bundles())
def test_hub_dataset(bundle: Bundle) -> None:
    with tempfile.TemporaryDirectory() as folder:
        write_hub_dataset(folder, bundle, name="team/judgements", license="apache-2.0")
        back = read_hub_dataset(folder)
        same(bundle, replace(back, judgements=list(back.judgements)))


@pytest.mark.parametrize(
    ("write", "read"), [(write_label_studio, read_label_studio), (write_argilla, read_argilla)], ids=["ls", "argilla"]
)
@EXAMPLES
@given(bundle=bundles(extras=False))
def test_other_tools(write: Callable[..., None], read: Callable[..., Bundle], bundle: Bundle) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "export.json"
        write(path, bundle)
        same(bundle, read(path))


def test_a_record_moves_to_another_database(new_workspace: NewWorkspace, tmp_path: Path) -> None:
    here, there = new_workspace(), new_workspace()
    prompts = here.add_prompts(["a red square", 'a "blue" disc,\nrolling'], "train")
    here.add_videos(video(f"v{number}", prompts[number % 2].id, index=number) for number in range(4))
    here.add_tasks([Task(id="t", videos=["v0", "v1"], dimensions=["VQ"], gold={"VQ": "a"})])
    here.add_judgements(every_kind())
    here.withdraw(here.judgements()[1])
    here.add_scores([Score(video="v0", reward="r", reward_version="1", dimension="VQ", value=0.1)])

    write_tables(tmp_path / "out", bundle_of(here))
    for _ in range(2):  # a second time adds nothing
        add_bundle(there, read_tables(tmp_path / "out"))
        same(bundle_of(here), bundle_of(there))
    assert len(there.judgements()) == 4


def test_a_folder_without_tables(tmp_path: Path) -> None:
    with pytest.raises(ReelignError, match="no tables of videos"):
        read_tables(tmp_path)


def test_videos_of_ones_own_are_a_record_without_judgements(new_workspace: NewWorkspace, tmp_path: Path) -> None:
    row = '{{"id": "cat-{0}", "prompt": "a cat", "path": "videos/cat-{0}.mp4", "fps": 16, "num_frames": 81}}\n'
    (tmp_path / "videos.jsonl").write_text(row.format(0) + row.format(1))
    workspace = new_workspace()
    assert import_record(workspace, tmp_path, recognise(tmp_path)) == Imported(judgements=0, videos=2)
    (group,) = workspace.groups("train")
    assert [each.id for each in group.videos] == ["cat-0", "cat-1"]
    assert group.prompt.text == "a cat"
    (tmp_path / "tasks.jsonl").write_text("")
    with pytest.raises(ReelignError, match="no tables of judgements"):
        list(read_tables(tmp_path).judgements)


def test_a_damaged_table_is_named(tmp_path: Path) -> None:
    write_tables(tmp_path, Bundle(judgements=every_kind()), "jsonl")
    path = tmp_path / "judgements.jsonl"
    path.write_text(path.read_text()[:-20])
    with pytest.raises(ReelignError, match=r"judgements\.jsonl cannot be read"):
        list(read_tables(tmp_path).judgements)
    path.write_text('{"video_a": "v0"}\n')
    with pytest.raises(ReelignError, match=r"judgements\.jsonl, row 1 is no judgement"):
        list(read_tables(tmp_path).judgements)
