"""Whole weights and their split."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from reelign.errors import ReelignError
from reelign.training.sharding import shard, split_like
from training.processes import run_in_ranks
from training.sharded_run import assert_split_is_whole


def test_a_split_policy_begins_as_its_reference_and_as_one_process(tiny_wan_folder: Path, tmp_path: Path) -> None:
    """LoRA, DoRA and full fine-tuning of a model in bf16, some of whose weights stay fp32."""
    run_in_ranks(assert_split_is_whole, str(tiny_wan_folder), tmp_path / "saved", folder=tmp_path)


def test_a_module_with_weights_of_two_precisions_is_refused() -> None:
    mixed = nn.Linear(2, 2)
    mixed.bias.data = mixed.bias.data.bfloat16()
    with pytest.raises(ReelignError, match="A Linear holds weights of two precisions"):
        shard(mixed)


def test_what_a_checkpoint_held_goes_where_its_parameter_is() -> None:
    """A device without values stands for a GPU: a file is always read to the CPU."""
    parameter = nn.Parameter(torch.empty(3, device="meta"))
    average = split_like(torch.zeros(3), parameter)
    assert average.device == parameter.device
    average.lerp_(parameter.detach(), 0.1)


def test_a_whole_tensor_beside_its_parameter_is_itself() -> None:
    tensor = torch.zeros(3)
    assert split_like(tensor, nn.Parameter(torch.zeros(3))) is tensor
