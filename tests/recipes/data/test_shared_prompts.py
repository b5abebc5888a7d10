"""Prompts that are trained on and held out are said, by init, by align and before an evaluation."""

from __future__ import annotations

import warnings
from dataclasses import replace
from pathlib import Path

import pytest

import reelign
from recipes.offline.test_align import SETTINGS
from reelign.generators import Generator, load_generator
from reelign.objectives.anchors import Anchors
from reelign.recipes.data.preferences import Clip, PreferenceData
from reelign.recipes.data.shared_prompts import shared_prompts, trained_prompts, warn_of_shared
from reelign.recipes.dry_run import dry_run
from reelign.recipes.offline.align import align
from reelign.recipes.offline.data import training_data
from reelign.records import Workspace


def test_prompts_are_the_same_whatever_their_capitals_and_spaces() -> None:
    held_out = ["a RED  square.", "a blue square", "a disc"]
    assert shared_prompts(["a red square", "A disc."], held_out) == ["a RED  square.", "a disc"]


def test_nothing_shared_says_nothing() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert warn_of_shared(["a"], ["b"]) == []
        assert warn_of_shared(["a"], []) == []


def test_init_says_it(tmp_path: Path) -> None:
    (tmp_path / "train.txt").write_text("a red square\na disc\n")
    (tmp_path / "held_out.txt").write_text("A disc\na ring\n")
    with pytest.warns(UserWarning, match="Of 2 held-out prompts 1 is trained on too, such as 'A disc'"):
        reelign.init(tmp_path / "ws", prompts=tmp_path / "train.txt", held_out=tmp_path / "held_out.txt")


def test_align_and_its_dry_run_say_it(judged: Workspace, tiny_wan: Generator) -> None:
    judged.add_prompts(["A red square"], "held_out")
    one_step = replace(SETTINGS, trainer=replace(SETTINGS.trainer, steps=1))
    with pytest.warns(UserWarning, match="Of 1 held-out prompts 1 is trained on too"):
        dry_run(judged, load_generator(judged.model, weights=False), one_step, training_data(judged, one_step))
    with pytest.warns(UserWarning, match="Of 1 held-out prompts 1 is trained on too"):
        align(judged, tiny_wan, one_step)


def test_what_is_kept_out_of_training_is_not_trained_on_and_real_clips_are(tmp_path: Path) -> None:
    clips = [Clip(tmp_path / f"{number}.mp4") for number in range(4)]
    data = PreferenceData(["a", "b"], clips[:2], clips[2:], [0, 1], "key")
    kept, held = data.split(0.5, seed=0)
    (trained,), (watched,) = trained_prompts(SETTINGS, kept), trained_prompts(SETTINGS, held)
    assert {trained, watched} == {"a", "b"}
    (tmp_path / "real.csv").write_text("prompt,video\na clip,0.mp4\n")
    (tmp_path / "0.mp4").write_bytes(b"")
    anchored = replace(SETTINGS, anchors=Anchors(real=0.1), real=str(tmp_path / "real.csv"))
    assert trained_prompts(anchored, kept) == [trained, "a clip"]
