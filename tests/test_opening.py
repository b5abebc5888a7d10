"""What a workspace's runs are known by."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from reelign.cli.init import init
from reelign.errors import ReelignError
from reelign.opening import is_unseen, known_model
from reelign.training.adapter_files import weights_key
from reelign.training.adapters import ADAPTER_FILE, WEIGHTS_FILE


def test_an_adapters_key_follows_from_its_weights_and_scale(tmp_path: Path) -> None:
    weights = {"b": torch.arange(6.0).reshape(2, 3), "a": torch.ones(2)}
    for metadata in (
        {"lora_adapter_metadata": '{"x.r": 4, "x.z": 1}'},
        {"lora_adapter_metadata": '{"x.z": 2, "x.r": 4}'},
    ):
        save_file(weights, tmp_path / ADAPTER_FILE, metadata)
        # Videos are recorded under it: another key would make them all anew.
        assert weights_key(tmp_path) == "b7ebfae938d7"
    save_file(weights, tmp_path / ADAPTER_FILE, {"lora_adapter_metadata": '{"x.r": 8}'})
    assert weights_key(tmp_path) != "b7ebfae938d7"


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_key_of_trained_denoisers_follows_from_all_of_them(dtype: torch.dtype, tmp_path: Path) -> None:
    keys = set()
    for first, second in ((1, 1), (1, 2), (2, 1)):
        for name, value in (("transformer", first), ("transformer_2", second)):
            (tmp_path / name).mkdir(exist_ok=True)
            save_file({"w": torch.full((3,), value, dtype=dtype)}, tmp_path / name / WEIGHTS_FILE)
        keys.add(weights_key(tmp_path))
    assert len(keys) == 3


def test_a_hub_id_is_checked_as_far_as_it_can_be_without_the_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert known_model("nobody/nothing") == "nobody/nothing"
    assert is_unseen("nobody/nothing")
    assert not is_unseen("spriteworld")
    with pytest.raises(ReelignError, match="no/thing!! is no folder here and cannot be an id of the Hugging Face Hub"):
        known_model("no/thing!!")
    (tmp_path / "models" / "wan-small").mkdir(parents=True)
    with pytest.raises(ReelignError, match=r"no folder models/wan-smal, .*\nDid you mean models/wan-small\?"):
        known_model("models/wan-smal")


def test_init_says_what_it_cannot_know(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for model, told in (("nobody/nothing", True), ("spriteworld", False)):
        init(tmp_path / str(told), model=model)
        assert ("nobody/nothing is not here yet" in capsys.readouterr().out) is told


def test_a_kept_copy_from_the_hub_is_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As huggingface_hub keeps one: a commit behind `refs/main`, its files in `snapshots`."""
    monkeypatch.chdir(tmp_path)
    kept = tmp_path / "hub" / "models--some--image-model"
    (kept / "refs").mkdir(parents=True)
    (kept / "refs" / "main").write_text("c0ffee")
    (kept / "snapshots" / "c0ffee").mkdir(parents=True)
    (kept / "snapshots" / "c0ffee" / "model_index.json").write_text('{"_class_name": "StableDiffusionPipeline"}')
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    assert not is_unseen("some/image-model")
    with pytest.raises(ReelignError, match="some/image-model is a StableDiffusionPipeline, which reelign does not"):
        known_model("some/image-model")
