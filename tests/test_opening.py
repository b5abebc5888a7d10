"""What a workspace's runs are known by."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from reelign.opening import weights_key
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
