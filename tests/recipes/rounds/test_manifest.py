"""A stage of a round is done once, and what was lost comes back as it was or not at all."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from reelign.errors import ReelignError
from reelign.recipes.rounds.manifest import Stage, read_manifest, run_stage, write_manifest


class Work:
    """Writes a file and counts how often it was asked to."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / "made.txt"
        self.times = 0
        self.text = "one"

    def __call__(self) -> dict[str, Any]:
        self.times += 1
        self.file.write_text(self.text)
        return {"text": self.text, "pair": ("a", "b")}

    def stage(self, **changed: Any) -> Stage:
        given: dict[str, Any] = {"inputs": {"policy": "base"}, "settings": {"beta": 5.0, "range": (0, 1)}, **changed}
        return Stage(name="align", work=self, intact=lambda known: self.file.exists(), **given)


@pytest.fixture
def work(tmp_path: Path) -> Work:
    return Work(tmp_path)


def test_it_is_done_once_and_remembers_inputs_settings_and_times(work: Work, tmp_path: Path) -> None:
    path = tmp_path / "runs" / "round-1.json"
    first = run_stage(path, work.stage())
    assert run_stage(path, work.stage()) == first == {"text": "one", "pair": ["a", "b"]}
    assert work.times == 1
    record = read_manifest(path)["stages"]["align"]
    assert record["inputs"] == {"policy": "base"}
    assert record["settings"] == {"beta": 5.0, "range": [0, 1]}
    assert record["began"] <= record["finished"]
    assert record["seconds"] >= 0


@pytest.mark.parametrize(
    ("changed", "what"),
    [
        ({"inputs": {"policy": "abc"}}, r'other inputs: policy was "base" and is "abc"'),
        ({"settings": {"beta": 5.0}}, r"other settings: range was \[0, 1\] and is null"),
    ],
)
def test_other_inputs_or_settings_are_refused(work: Work, tmp_path: Path, changed: dict[str, Any], what: str) -> None:
    path = tmp_path / "round-1.json"
    run_stage(path, work.stage())
    with pytest.raises(ReelignError, match=what):
        run_stage(path, work.stage(**changed))


def test_lost_outputs_are_made_again_and_must_be_the_same(work: Work, tmp_path: Path) -> None:
    path = tmp_path / "round-1.json"
    run_stage(path, work.stage())
    work.file.unlink()
    run_stage(path, work.stage())
    assert work.times == 2
    work.file.unlink()
    work.text = "two"
    with pytest.raises(
        ReelignError, match='came out differently when they were made again: text was "one" and is "two"'
    ):
        run_stage(path, work.stage())
    assert read_manifest(path)["stages"]["align"]["outputs"]["text"] == "one"


def test_a_stage_that_fails_leaves_no_record(tmp_path: Path) -> None:
    def fails() -> dict[str, Any]:
        raise ReelignError("It failed.", "Mend it.")

    path = tmp_path / "round-1.json"
    with pytest.raises(ReelignError, match="It failed"):
        run_stage(path, Stage(name="judge", inputs={}, settings={}, work=fails, intact=lambda known: True))
    assert not path.exists()


def test_a_broken_manifest_is_refused_and_no_number_is_invented(tmp_path: Path) -> None:
    (tmp_path / "round-1.json").write_text("{")
    with pytest.raises(ReelignError, match="is no manifest"):
        read_manifest(tmp_path / "round-1.json")
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_manifest(tmp_path / "round-2.json", {"mean": float("nan")})
    write_manifest(tmp_path / "round-3.json", {1: Path("a")})
    assert json.loads((tmp_path / "round-3.json").read_text()) == {"1": "a"}
