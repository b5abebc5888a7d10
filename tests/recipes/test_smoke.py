"""A run cut down to a few videos and steps."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from recipes.offline.test_align import SETTINGS
from reelign.objectives import KTO
from reelign.recipes.offline.data import training_data
from reelign.recipes.run_config import claim_run
from reelign.recipes.smoke import clear_smoke, smoke_settings
from reelign.records import Workspace
from reelign.stages import align, plan_alignment
from reelign.video import write_video


def test_only_steps_and_intervals_are_cut(judged: Workspace) -> None:
    cut = smoke_settings(SETTINGS)
    assert (cut.run, cut.trainer.steps, cut.trainer.checkpoint_every) == ("first-smoke", 4, 2)
    trainer = replace(cut.trainer, steps=12, checkpoint_every=6)
    assert replace(cut, run="first", trainer=trainer, monitor=SETTINGS.monitor) == SETTINGS


def test_few_pairs_come_from_as_many_prompts_as_there_are(judged: Workspace) -> None:
    whole = training_data(judged, SETTINGS)
    few = whole.first(3)
    assert sorted(few.rows) == [0, 0, 1]
    assert few.key != whole.key != whole.first(2).key
    turned = {name: getattr(whole, name)[::-1] for name in ("rows", "chosen", "rejected")}
    last = replace(whole, **turned, candidates=None).first(1)
    assert (last.prompts, last.rows, last.chosen) == ([whole.prompts[whole.rows[-1]]], [0], whole.chosen[-1:])
    kinds = [each.score > 0 for each in training_data(judged, replace(SETTINGS, objective=KTO())).first(4).standing()]
    assert sorted(kinds) == [False, False, True, True]


def test_a_smoke_run_is_made_anew_and_another_run_is_left(judged: Workspace) -> None:
    options = {"batch_size": 2, "lora": {"rank": 2, "alpha": 2}, "trainer": {"steps": 3}}
    for _ in range(2):
        done = align(judged.root, limit=2, **options)
        assert (done.samples, done.started_from, done.folder.name) == (2, 0, "align-smoke")
        assert done.seconds_per_step > 0
    assert plan_alignment(judged.root, limit=2, **options).goes_on_from == 0
    kept = judged.root / "runs" / "own-smoke"
    claim_run(kept, {"align": {"trainer": {"steps": 100}}})
    clear_smoke(kept)
    assert kept.exists()


def test_a_trial_encodes_no_more_real_clips_than_it_takes(judged: Workspace, tmp_path: Path) -> None:
    rows = ["prompt,video"]
    for number in range(3):
        write_video(tmp_path / f"real-{number}.mp4", torch.full((9, 3, 16, 16), 0.2 + 0.3 * number), 8)
        rows.append(f"a disc,real-{number}.mp4")
    (tmp_path / "real.csv").write_text("\n".join(rows))
    options = {"batch_size": 2, "lora": {"rank": 2, "alpha": 2}, "trainer": {"steps": 1}}
    real = {"anchors": {"real": 0.1}, "real": str(tmp_path / "real.csv")}
    assert plan_alignment(judged.root, limit=2, **options, **real).videos_to_encode == 2
    align(judged.root, limit=2, **options, **real)
    assert plan_alignment(judged.root, **options, **real).videos_to_encode == 1


def test_a_limit_of_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="limit must be at least 1"):
        align(tmp_path, limit=0)
