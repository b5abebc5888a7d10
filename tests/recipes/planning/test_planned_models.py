"""The table of planned memory: every published model by every method, and as a plan of today says."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import pytest

from reelign.generators import VideoSize
from reelign.generators.published import published_configs
from reelign.recipes.planning.memory_plan import MemoryPlan, Stage
from reelign.recipes.planning.planned_models import METHODS, in_short, usual_plan
from reelign.recipes.planning.planned_table import planned_methods, planned_table

CHEAP = ("THUDM/CogVideoX-2b", "sft")


def test_every_published_model_is_in_it() -> None:
    models = planned_table()["models"]
    assert list(models) == list(published_configs())
    assert planned_methods() == list(METHODS)
    for model, entry in models.items():
        assert {"size", "sft", "dpo", "reward_gradient"} <= set(entry) <= {"size", *METHODS}, model
        # A pair holds what a video does, and more.
        assert entry["dpo"]["training"] > entry["sft"]["training"], model


def test_a_plan_of_today_says_what_the_table_does() -> None:
    model, method = CHEAP
    found, kept = asdict(in_short(usual_plan(model, method))), planned_table()["models"][model][method]
    assert found == pytest.approx(kept, rel=0.01)


def test_encoding_is_told_from_training() -> None:
    stages = [
        Stage(name="encode prompts", held={"w": 5}, by={"text": 6}),
        Stage(name="encode videos", held={"w": 5}, by={"vae": 2}),
        Stage(name="roll out", held={"w": 5}, by={"denoiser": 1}),
        Stage(name="learn", held={"w": 5}, by={"denoiser": 3}),
    ]
    size = VideoSize(81, 480, 832)
    whole: dict[str, Any] = {
        "model": "wan",
        "settings": METHODS["dpo"],
        "size": size,
        "tokens": 32760,
        "trainable": 1,
        "forwards": {},
    }
    assert asdict(in_short(MemoryPlan(stages=stages, host=4, **whole))) == {"training": 8, "encoding": 11, "host": 4}
