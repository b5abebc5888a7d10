"""The scripts behind the rewards' figures, at a size for a test."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from benchmark_scripts import benchmark
from reelign.config import resolve
from reelign.errors import ReelignError
from reelign.recipes.reward.settings import RewardSettings
from reelign.spriteworld.prompts import held_out_captions, train_captions


@pytest.fixture(scope="module")
def scripts() -> Iterator[tuple[ModuleType, ...]]:
    with benchmark("reward_evidence", "reward_evidence_table", "reward_step") as found:
        yield found


def test_every_arm_is_valid_settings(scripts: tuple[ModuleType, ...]) -> None:
    for arm in scripts[0].ARMS.values():
        assert resolve(RewardSettings, [("shared", scripts[0].SHARED), ("arm", arm)])


def test_arms_are_trained_once_and_stand_in_the_page(
    scripts: tuple[ModuleType, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    evidence, table, _ = scripts
    monkeypatch.setattr(evidence, "train_captions", lambda: train_captions()[::18])
    monkeypatch.setattr(evidence, "held_out_captions", lambda: held_out_captions()[::12])
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- rewards: begin -->\nold\n<!-- rewards: end -->\nafter\n")
    with pytest.raises(ReelignError, match="holds no measured arm"):
        table.write_table(tmp_path / "rewards", list(evidence.ARMS), page)
    for _ in range(2):
        evidence.main(tmp_path / "rewards", [0], ["btt", "regression"], steps=2, candidates=7, epochs=0.1)
    table.write_table(tmp_path / "rewards", list(evidence.ARMS), page)
    text = page.read_text()
    assert "old" not in text
    assert text.startswith("before")
    assert text.endswith("after\n")
    assert "| BTT, a token each (VideoReward's) | 1 |" in text
    moved = re.search(r"BTT, a token each \(VideoReward's\): VQ 0, MQ 0, TA ([\d.]+)", text)  # by another prompt
    assert moved is not None
    assert float(moved[1]) > 0
    assert "63 pairs a seed" in text


def test_a_pair_step_costs_less_than_a_third_of_the_reference_way(
    scripts: tuple[ModuleType, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scripts[2], "VOCABULARY", 20_000)
    ratios = scripts[2].main(pairs=1, hidden=64, steps=2)
    # The CPU's ratio is of one moment on a busy machine; at the full vocabulary it is 0.05.
    assert ratios["memory"] < 0.5
    assert ratios["CPU"] < 1.0
