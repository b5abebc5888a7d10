"""Weights are loaded whole or not at all, and what was loaded can be told from what else might have been."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from reelign.errors import ReelignError
from reelign.rewards.loading import (
    device_and_dtype,
    fetch_file,
    fingerprint,
    load_strictly,
    read_part,
    read_weights,
    self_test_clip,
    version_of,
)


def test_places_and_precisions() -> None:
    assert device_and_dtype("cpu", "auto") == (torch.device("cpu"), torch.float32)
    assert device_and_dtype("cuda:1", "auto", large=True) == (torch.device("cuda:1"), torch.bfloat16)
    assert device_and_dtype("cuda", "auto")[1] == torch.float32
    with pytest.raises(ReelignError, match="dtype is 'int8'"):
        device_and_dtype("cpu", "int8")
    with pytest.raises(ReelignError, match="There is no device 'gpu'"):
        device_and_dtype("gpu", "auto")


def test_a_state_dict_fits_or_the_first_key_that_does_not_is_named() -> None:
    layer = nn.Linear(2, 3)
    whole = {"weight": torch.ones(3, 2), "bias": torch.zeros(3)}
    load_strictly(layer, whole, "here")
    assert torch.equal(layer.weight, torch.ones(3, 2))
    with pytest.raises(ReelignError, match=r"here lacks the weight bias\."):
        load_strictly(layer, {"weight": whole["weight"]}, "here")
    with pytest.raises(ReelignError, match="without a place for it, the weight a and 1 more"):
        load_strictly(layer, whole | {"a": torch.ones(1), "b": torch.ones(1)}, "here")
    with pytest.raises(ReelignError, match="in another shape the weight bias"):
        load_strictly(layer, whole | {"bias": torch.zeros(1)}, "here")


def test_files_are_found_and_only_tensors_are_read(tmp_path: Path) -> None:
    save_file({"a": torch.ones(2), "head.bias": torch.zeros(1)}, tmp_path / "one.safetensors")
    assert fetch_file(str(tmp_path), ("none.pt", "one.safetensors")) == tmp_path / "one.safetensors"
    assert fetch_file(str(tmp_path / "one.safetensors"), ("none.pt",)) == tmp_path / "one.safetensors"
    assert set(read_weights(tmp_path / "one.safetensors")) == {"a", "head.bias"}
    assert set(read_part(tmp_path, "head.")) == {"bias"}
    with pytest.raises(ReelignError, match=r"holds none of none\.pt"):
        fetch_file(str(tmp_path), ("none.pt",))
    torch.save([torch.ones(1)], tmp_path / "list.pt")
    with pytest.raises(ReelignError, match="holds no state dict"):
        read_weights(tmp_path / "list.pt")
    torch.save(nn.Linear(1, 1), tmp_path / "model.pt")
    with pytest.raises(ReelignError, match="cannot be read as weights"):
        read_weights(tmp_path / "model.pt")
    (tmp_path / "cut.safetensors").write_bytes((tmp_path / "one.safetensors").read_bytes()[:-3])
    with pytest.raises(ReelignError, match="cannot be read as weights"):
        read_weights(tmp_path / "cut.safetensors")


def test_versions_tell_weights_precisions_and_settings_apart() -> None:
    layer = nn.Linear(300, 2)
    marks = {fingerprint(layer)}
    assert fingerprint(layer) in marks
    layer.weight.data += 1e-3
    marks.add(fingerprint(layer))
    marks.add(fingerprint(layer.to(torch.bfloat16)))
    assert len(marks) == 3
    assert version_of("a", 1) == version_of("a", 1) != version_of("a", 2)


def test_the_clip_of_the_self_test_moves_and_is_on_256_levels() -> None:
    clip = self_test_clip(4)
    assert clip.shape == (4, 3, 48, 64)
    assert torch.equal(clip, (clip * 255).round() / 255)
    assert 0 <= clip.min() <= clip.max() <= 1
    assert not torch.equal(clip[0], clip[1])
