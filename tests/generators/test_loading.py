"""Loading a model: what is wrong is said in one sentence, the mend in another."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from reelign.errors import ReelignError
from reelign.generators import load_generator
from reelign.generators.defaults import DEFAULTS_FILE
from reelign.generators.fingerprints import fingerprint


@pytest.fixture
def copy(tiny_wan_folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_wan_folder, tmp_path / "copy"))


def edit(path: Path, **values: object) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def test_an_unsupported_pipeline_class_names_the_supported_ones(copy: Path) -> None:
    edit(copy / "model_index.json", _class_name="AllegroPipeline")
    with pytest.raises(ReelignError, match="AllegroPipeline, which reelign does not support") as caught:
        load_generator(str(copy))
    assert "WanPipeline" in caught.value.mend


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(ReelignError, match=r"no model folder .*/nowhere") as caught:
        load_generator(str(tmp_path / "nowhere"))
    assert "diffusers folder" in caught.value.mend


def test_a_misspelt_shipped_model_is_recognised() -> None:
    with pytest.raises(ReelignError, match="Did you mean 'spriteworld'"):
        load_generator("spritworld")


def test_a_folder_that_is_no_pipeline_is_named(tmp_path: Path) -> None:
    with pytest.raises(ReelignError, match=r"no model_index\.json") as caught:
        load_generator(str(tmp_path))
    assert "save_pretrained" in caught.value.mend


@pytest.mark.parametrize("text", ["{", "{}", "[]"])
def test_a_damaged_index_is_named(copy: Path, text: str) -> None:
    (copy / "model_index.json").write_text(text)
    with pytest.raises(ReelignError, match=r"model_index\.json"):
        load_generator(str(copy))


def test_a_missing_weight_file_is_named(copy: Path) -> None:
    next((copy / "transformer").glob("*.safetensors")).unlink()
    with pytest.raises(ReelignError, match="copy"):
        load_generator(str(copy))


def test_identity_changes_with_one_weight(copy: Path) -> None:
    before = load_generator(str(copy)).identity
    assert before.startswith("copy@")
    assert load_generator(str(copy)).identity == before
    path = next((copy / "transformer").glob("*.safetensors"))
    weights = load_file(path)
    name = sorted(weights)[0]
    weights[name] = weights[name] + 1e-3
    save_file(weights, path, metadata={"format": "pt"})
    assert load_generator(str(copy)).identity != before


def test_fingerprint_is_of_the_files_and_not_of_the_place(copy: Path, tiny_wan_folder: Path) -> None:
    assert fingerprint(str(copy)) == fingerprint(str(tiny_wan_folder))


def test_fingerprint_sees_the_end_of_a_large_file(tmp_path: Path) -> None:
    path = tmp_path / "weights.bin"
    path.write_bytes(bytes(5 << 20))
    before = fingerprint(str(tmp_path))
    path.write_bytes(bytes((5 << 20) - 1) + b"x")
    assert fingerprint(str(tmp_path)) != before


def test_what_lies_beside_the_model_is_no_part_of_it(copy: Path) -> None:
    before = fingerprint(str(copy))
    (copy / "settings.yaml").write_text("align: {}\n")
    (copy / "prompts").mkdir()
    (copy / "prompts" / "train.txt").write_text("a red ring moves left\n")
    assert fingerprint(str(copy)) == before
    index = json.loads((copy / "model_index.json").read_text())
    (copy / "model_index.json").write_text(json.dumps(index | {"boundary_ratio": 0.9}))
    assert fingerprint(str(copy)) != before


def test_what_is_told_beside_the_weights_is_part_of_the_model_and_what_every_video_records_is_not(copy: Path) -> None:
    before = fingerprint(str(copy))
    (copy / DEFAULTS_FILE).write_text(json.dumps({"num_frames": 9, "fps": 8}))
    assert fingerprint(str(copy)) == before
    (copy / DEFAULTS_FILE).write_text(json.dumps({"num_frames": 9, "guidance_rescale": 0.7}))
    told = fingerprint(str(copy))
    (copy / DEFAULTS_FILE).write_text(json.dumps({"guidance_rescale": 0.7, "num_frames": 17}))
    assert before != told == fingerprint(str(copy))


def test_defaults_beside_the_weights_win(copy: Path) -> None:
    (copy / DEFAULTS_FILE).write_text(json.dumps({"num_frames": 9, "fps": 8}))
    defaults = load_generator(str(copy)).defaults
    assert (defaults.num_frames, defaults.fps, defaults.height) == (9, 8, 480)


def test_bf16_leaves_the_vae_in_fp32(tiny_wan_folder: Path) -> None:
    generator = load_generator(str(tiny_wan_folder), dtype=torch.bfloat16)
    assert generator.pipeline.transformer.dtype == torch.bfloat16
    assert generator.pipeline.vae.dtype == torch.float32
