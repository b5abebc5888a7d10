"""Every video pipeline of diffusers that no family covers is named with what is missing."""

from __future__ import annotations

import json
import re
from pathlib import Path

import diffusers
import pytest

from reelign.errors import ReelignError
from reelign.generators import GENERATORS, load_generator
from reelign.generators.unsupported import MISSING, SAME_WEIGHTS

MODEL_FAMILIES = (
    *("Allegro", "AnimateDiff", "AnyFlow", "ChronoEdit", "CogVideoX", "ConsisID", "Cosmos", "EasyAnimate", "Helios"),
    *("HunyuanSky", "HunyuanVideo", "I2VGen", "Kandinsky5", "Kandinsky6", "LTX", "Latte", "LucyEdit", "Mochi", "Motif"),
    *("PIA", "Sana(Video|Image|WM)", "SkyReels", "StableVideo", "TextToVideo", "VideoToVideo", "Wan"),
)
OF_IMAGES = ("Cosmos2TextToImagePipeline", "Kandinsky5I2IPipeline", "Kandinsky5T2IPipeline")
PIPELINES = sorted(
    name
    for name in dir(diffusers)
    if re.match(f"({'|'.join(MODEL_FAMILIES)}).*Pipeline$", name) and "Modular" not in name and name not in OF_IMAGES
)


def refused(folder: Path, name: str) -> ReelignError:
    (folder / "model_index.json").write_text(json.dumps({"_class_name": name}))
    with pytest.raises(ReelignError) as caught:
        load_generator(str(folder))
    return caught.value


def test_each_is_named_with_what_is_missing_or_whose_weights_it_has(tmp_path: Path) -> None:
    strange = [name for name in PIPELINES if name not in GENERATORS]
    assert len(strange) > 40
    for name in strange:
        error = refused(tmp_path, name)
        assert f"is a {name}, which reelign does not support: " in error.what, name
        assert "WanPipeline" in error.mend or "load that from the same weights" in error.mend


def test_what_is_said_is_of_pipelines_that_there_are() -> None:
    assert all(any(name.startswith(each) for name in PIPELINES) for each in MISSING)
    assert set(SAME_WEIGHTS) <= set(PIPELINES)
    assert set(SAME_WEIGHTS.values()) <= set(GENERATORS)
    for name in GENERATORS:  # a family that comes is taken off
        assert name not in SAME_WEIGHTS


def test_ltx_2_says_why_its_video_does_not_stand_alone(tmp_path: Path) -> None:
    assert "each of the two is denoised from the other's latents" in refused(tmp_path, "LTX2Pipeline").what
    assert "larger or finer" in refused(tmp_path, "LTX2LatentUpsamplePipeline").what


def test_a_pipeline_of_the_same_components_names_the_one_to_load(tmp_path: Path) -> None:
    error = refused(tmp_path, "CogVideoXVideoToVideoPipeline")
    assert "write CogVideoXPipeline as _class_name into model_index.json" in error.mend


def test_one_that_nobody_knows_names_the_supported_ones(tmp_path: Path) -> None:
    error = refused(tmp_path, "StrangePipeline")
    assert error.what.endswith("is a StrangePipeline, which reelign does not support.")
    assert "WanPipeline" in error.mend
