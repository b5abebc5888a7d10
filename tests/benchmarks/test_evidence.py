"""The script behind the table of objectives, on arms small enough for a test."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from benchmark_scripts import benchmark
from cli.workspaces import HELD_OUT, TRAIN
from reelign import stages
from reelign.config import resolve
from reelign.errors import ReelignError
from reelign.opening import SECTIONS

SMALL = {
    "generate": {"candidates": 3, "num_inference_steps": 2, "num_frames": 5},
    "align": {"batch_size": 4, "lora": {"rank": 2, "alpha": 2}, "trainer": {"steps": 4, "checkpoint_every": 2}},
    "evaluate": {"seeds": 2, "resamples": 20},
}


@pytest.fixture(scope="module")
def scripts() -> Iterator[tuple[ModuleType, ...]]:
    with benchmark("evidence", "evidence_table") as found:
        yield found


def workspace(folder: Path) -> Path:
    for name, texts in (("train", TRAIN), ("held-out", HELD_OUT)):
        (folder / f"{name}.txt").write_text("\n".join(texts))
    own = folder / "seeds" / "seed-0"
    stages.init(own, prompts=folder / "train.txt", held_out=folder / "held-out.txt")
    return own


def test_every_arm_has_valid_settings(scripts: tuple[ModuleType, ModuleType]) -> None:
    script = scripts[0]
    for arm in script.ARMS.values():
        own = script.merged(script.SETTINGS["align"], arm.settings)
        real = {"real": "real.csv"} if own.get("anchors", {}).get("real") else {}
        assert resolve(SECTIONS["align"], [("arm", {**own, **real})])
    assert sum(arm.headline for arm in script.ARMS.values()) == 4


def test_arms_are_run_once_compared_at_one_drift_and_tabled(
    scripts: tuple[ModuleType, ModuleType], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script, table = scripts
    own = workspace(tmp_path)
    arms = {name: script.ARMS[name] for name in ("dpo-30", "dpo-300")}
    settings = script.merged(script.SETTINGS, SMALL)
    script.run_seed(own, 0, arms, settings)
    page = tmp_path / "evidence.md"
    page.write_text("# What was found\n\n<!-- evidence: begin -->\nold\n<!-- evidence: end -->\n\nThe end.\n")
    table.write_table(own.parent, {name: arm.what for name, arm in arms.items()}, page)
    text = page.read_text()
    for told in ("| Flow-DPO, β 30 | 1 | **", "| Flow-DPO, β 300 at matched drift |", "| VQ | MQ | TA |", "The end."):
        assert told in text
    assert "old\n" not in text
    drifts = [json.loads((own / "runs" / f"{arm}-matched" / "drift.json").read_text()) for arm in ("dpo-30", "dpo-300")]
    last = [json.loads((own / "runs" / arm / "drift.json").read_text())["step-000004"] for arm in ("dpo-30", "dpo-300")]
    assert min(last) in [value for drift in drifts for value in drift.values()]

    def never(*_: Any, **__: Any) -> None:
        raise AssertionError("an evaluated arm was run again")

    monkeypatch.setattr(stages, "align", never)
    monkeypatch.setattr(stages, "evaluate", never)
    script.run_seed(own, 0, arms, settings)


def test_the_drift_of_an_online_run_is_what_it_logged_itself(
    scripts: tuple[ModuleType, ModuleType], tmp_path: Path
) -> None:
    run = tmp_path / "seed-3" / "runs" / "curriculum"
    run.mkdir(parents=True)
    (run / "evaluation.json").write_text("{}")
    assert scripts[1].results_of(tmp_path, "curriculum") == {3: {}}
    (run / "metrics.jsonl").write_text('{"base_distance": 0.1}\n{"base_distance": 0.3}\n{"loss": 0.5}\n')
    assert scripts[1].results_of(tmp_path, "curriculum") == {3: {"drift": 0.3}}
    (run / "drift.json").write_text('{"step-000002": 0.2}')
    assert scripts[1].results_of(tmp_path, "curriculum") == {3: {"drift": 0.2}}


def test_a_page_without_markers_is_refused(scripts: tuple[ModuleType, ModuleType], tmp_path: Path) -> None:
    (tmp_path / "page.md").write_text("# Nothing\n")
    with pytest.raises(ReelignError, match="has no place for the table"):
        scripts[1].write_table(tmp_path, {}, tmp_path / "page.md")
