"""The scripts behind the table of online arms and behind the cost of a step, on runs small enough for a test."""

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
from reelign.opening import resolve_section
from reelign.recipes.online.settings import OnlineSettings
from reelign.spriteworld.prompts import train_captions

SMALL = {
    "generate": {"num_inference_steps": 2, "num_frames": 5},
    "align": {
        "prompts": 1,
        "selection": {"top": 1},
        "rollout": {"candidates": 2},
        "lora": {"rank": 2, "alpha": 2},
        "trainer": {"steps": 2, "checkpoint_every": 2},
    },
    "evaluate": {"seeds": 2, "resamples": 20},
}


@pytest.fixture(scope="module")
def script() -> Iterator[ModuleType]:
    with benchmark("online_evidence") as (found,):
        yield found


def test_every_arm_has_valid_settings(script: ModuleType) -> None:
    for arm in script.ARMS.values():
        found = resolve_section("align", [("shared", script.SETTINGS["align"]), ("arm", arm.settings)])
        assert isinstance(found, OnlineSettings)
        assert found.trainer.steps * found.prompts * found.selection.top == 1440  # equal pairs and equal steps
        assert not set(found.watch.prompts) & set(script.split(train_captions())[0])
    assert sum(arm.headline for arm in script.ARMS.values()) == 5


@pytest.mark.slow
def test_arms_are_run_once_and_tabled(script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = tmp_path / "seeds" / "seed-0"
    for name, texts in (("train", TRAIN), ("held-out", HELD_OUT)):
        (tmp_path / f"{name}.txt").write_text("\n".join(texts))
    stages.init(own, prompts=tmp_path / "train.txt", held_out=tmp_path / "held-out.txt")
    arms = {name: script.ARMS[name] for name in ("offline", "curriculum")}
    settings = script.merged(script.SETTINGS, SMALL)
    script.run_seed(own, 0, arms, settings)
    rows = [json.loads((own / "runs" / name / "metrics.jsonl").read_text().splitlines()[0]) for name in arms]
    assert rows[0]["reward/VQ"] == rows[1]["reward/VQ"]
    page = tmp_path / "evidence.md"
    page.write_text("# Found\n\n<!-- online: begin -->\nold\n<!-- online: end -->\n\nThe end.\n")
    told = {name: arm.what for name, arm in arms.items()}
    script.write_table(own.parent, told, page, name="online", script="online_evidence.py")
    assert "| offline: pairs of the base | 1 | **" in page.read_text()

    def never(*_: Any, **__: Any) -> None:
        raise AssertionError("an evaluated arm was run again")

    monkeypatch.setattr(stages, "align", never)
    script.run_seed(own, 0, arms, settings)


@pytest.mark.slow
def test_a_step_costs_little_more_than_its_parts(script: ModuleType) -> None:
    import online_step

    assert online_step.main(steps=3, prompts=1, candidates=3, sampler_steps=4) < 1.2
