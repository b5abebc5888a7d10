"""The archive of a study's numbers: all of them and nothing else, the same bytes each time, and out again."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from benchmark_scripts import benchmark
from reelign.errors import ReelignError

KEPT = {
    "seed-0/costs.jsonl": '{"seconds": 3}\n',
    "seed-0/runs/sharp/evaluation.json": "[1, 2]",
    "seed-0/runs/sharp/watch/step-000010.json": "{}",
}
LEFT = (
    "seed-0/reelign.db",
    "seed-0/cache/text/manifest.json",
    "seed-0/runs/sharp/checkpoints/step-000010/state.json",
    "seed-0/runs/sharp/adapter/adapter_config.json",
    "seed-0/runs/sharp/adapter/adapter_model.safetensors",
)


@pytest.fixture(scope="module")
def script() -> Iterator[ModuleType]:
    with benchmark("results") as (found,):
        yield found


@pytest.fixture
def study(tmp_path: Path) -> Path:
    folder = tmp_path / "study"
    for name, text in {**KEPT, **dict.fromkeys(LEFT, "x")}.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


def test_all_numbers_and_nothing_else_go_in_and_come_out(script: ModuleType, study: Path, tmp_path: Path) -> None:
    archive = tmp_path / "kept" / "study.tar.xz"
    assert script.keep(study, archive) == len(KEPT)
    assert script.unpack(archive, tmp_path / "out") == len(KEPT)
    out = {str(path.relative_to(tmp_path / "out")): path for path in (tmp_path / "out").rglob("*") if path.is_file()}
    assert {name: path.read_text() for name, path in out.items()} == KEPT


def test_equal_numbers_give_equal_bytes(script: ModuleType, study: Path, tmp_path: Path) -> None:
    archives = [tmp_path / f"{name}.tar.xz" for name in ("one", "two")]
    for archive in archives:
        script.keep(study, archive)
        for path in study.rglob("*.json"):
            path.touch()
    assert archives[0].read_bytes() == archives[1].read_bytes()


def test_what_cannot_be_done_is_said(script: ModuleType, study: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(ReelignError, match="no numbers"):
        script.keep(tmp_path / "empty", tmp_path / "kept.tar.xz")
    assert not (tmp_path / "kept.tar.xz").exists()
    script.keep(study, tmp_path / "kept.tar.xz")
    with pytest.raises(ReelignError, match="exists already"):
        script.unpack(tmp_path / "kept.tar.xz", study)
    with pytest.raises(ReelignError, match=r"There are kept\."):
        script.unpack(tmp_path / "other.tar.xz", tmp_path / "new")
