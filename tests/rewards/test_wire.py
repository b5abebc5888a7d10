"""What travels arrives: bit for bit, or refused."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import save

from reelign.errors import ReelignError
from reelign.rewards.wire import pack, packed, unpack, unpacked


def test_whole_255ths_travel_as_bytes_and_everything_else_as_it_is() -> None:
    chance = torch.Generator().manual_seed(0)
    read = torch.randint(0, 256, (3, 3, 8, 10), generator=chance).float() / 255
    made = torch.rand(2, 3, 6, 6, generator=chance)
    assert packed(read).dtype == torch.uint8
    assert packed(made).dtype == torch.float32
    assert packed(made.half()).dtype == torch.float16
    parcel = unpack(pack([read, made], ["a café", "zwei"], fps=8))
    assert (parcel.prompts, parcel.fps) == (["a café", "zwei"], 8.0)
    for sent, came in zip((read, made), parcel.videos, strict=True):
        assert torch.equal(unpacked(came), sent)
    assert unpack(pack(made[None], [""], fps=None)).fps is None


def test_rounded_when_asked() -> None:
    made = torch.rand(2, 3, 6, 6, generator=torch.Generator().manual_seed(0))
    assert packed(made, "uint8").dtype == torch.uint8
    assert (unpacked(packed(made, "uint8")) - made).abs().max() <= 0.5 / 255 + 1e-6
    assert len(pack(made[None], ["a"], fps=8, precision="uint8")) < len(pack(made[None], ["a"], fps=8)) / 2


VIDEO = torch.zeros(2, 3, 4, 4, dtype=torch.uint8)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "no safetensors file"),
        (b"\xff" * 64, "no safetensors file"),
        (save({"0": VIDEO}), "no safetensors file with prompts"),
        (save({"0": VIDEO}, {"prompts": "["}), "no safetensors file with prompts"),
        (save({"0": VIDEO}, {"prompts": '"a"'}), "no list of texts"),
        (save({"0": VIDEO}, {"prompts": "[1]"}), "no list of texts"),
        (save({"0": VIDEO}, {"prompts": '["a", "b"]'}), "1 videos and 2 prompts"),
        (save({"one": VIDEO}, {"prompts": '["a"]'}), "1 videos and 1 prompts"),
        (save({}, {"prompts": "[]"}), "0 videos and 0 prompts"),
        (save({"0": VIDEO}, {"prompts": json.dumps(["a" * 20_001])}), "longer than 20000"),
        (save({"0": VIDEO}, {"prompts": '["a"]', "fps": "fast"}), "no safetensors file with prompts"),
        (save({"0": VIDEO}, {"prompts": '["a"]', "fps": "nan"}), "fps is nan"),
        (save({"0": VIDEO}, {"prompts": '["a"]', "fps": "0"}), r"fps is 0\.0"),
        (save({"0": VIDEO[:, :2].contiguous()}, {"prompts": '["a"]'}), r"\(2, 2, 4, 4\) of torch.uint8"),
        (save({"0": VIDEO.double()}, {"prompts": '["a"]'}), "float64"),
        (save({"0": VIDEO.float() - 1}, {"prompts": '["a"]'}), "values from -1 to -1"),
        (save({"0": VIDEO.float() * torch.nan}, {"prompts": '["a"]'}), "values from nan"),
        (pack(VIDEO[None].float(), ["a"], fps=8)[:-1], "no safetensors file"),
    ],
)
def test_what_cannot_be_read_is_refused_with_its_reason(body: bytes, reason: str) -> None:
    with pytest.raises(ReelignError, match=reason):
        unpack(body)
