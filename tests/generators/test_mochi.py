"""Mochi's own ways: time from noise to video, a schedule of two parts, empty prompts, 6k + 1 frames."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch

from generators.pipelines import PROMPTS
from reelign.errors import ReelignError
from reelign.generators import Generator, VideoSize, load_generator


@pytest.fixture
def mochi(loaded: dict[str, Generator]) -> Generator:
    return loaded["mochi"]


def test_half_the_steps_leave_a_fortieth_of_the_noise(mochi: Generator) -> None:
    """Straight by 0.025 in two of four steps; then c·i² + b·i + a through the same point and slope, to 0 at the end.

    With x = i - 2: 1 - σ = 0.025 + 0.0125·x + 0.2375·x², which is 1 at x = 2.
    """
    expected = torch.tensor([1.0, 0.9875, 0.975, 0.725, 0.0])
    torch.testing.assert_close(mochi.sigmas(4, ()), expected, rtol=0, atol=1e-6)


def test_one_step_has_no_schedule(mochi: Generator) -> None:
    with pytest.raises(ReelignError, match="1 step has not room for both"):
        mochi.sigmas(1, ())


def test_an_empty_prompt_is_no_text_whatever_it_stands_beside(mochi: Generator) -> None:
    """The pipeline blanks a batch by its last prompt."""
    found = mochi.encode_prompts(["", PROMPTS[0], "", PROMPTS[1]])
    lengths = found["prompt_attention_mask"].sum(dim=1).tolist()
    assert lengths == [0, len(PROMPTS[0].split()) + 1, 0, len(PROMPTS[1].split()) + 1]
    assert torch.equal(found["prompt_embeds"][[1, 3]], mochi.encode_prompts(PROMPTS)["prompt_embeds"])
    assert torch.equal(found["prompt_embeds"][0], mochi.encode_prompts([""])["prompt_embeds"][0])


@pytest.mark.parametrize("frames", [1, 7, 13])
def test_6k_plus_1_frames_come_back_as_they_went_in(mochi: Generator, frames: int) -> None:
    with torch.no_grad():
        latents = mochi.encode(torch.rand(1, frames, 3, 16, 16))
        assert latents.shape == (1, *mochi.latent_shape(VideoSize(frames, 16, 16)))
        assert mochi.decode(latents).shape == (1, frames, 3, 16, 16)


@pytest.mark.parametrize(
    ("asked", "nearest"), [((163, 480, 848), (163, 480, 848)), ((84, 500, 8), (85, 496, 16)), ((2, 1, 1), (1, 16, 16))]
)
def test_the_nearest_legal_size(mochi: Generator, asked: tuple[int, int, int], nearest: tuple[int, int, int]) -> None:
    assert mochi.legal(VideoSize(*asked)) == VideoSize(*nearest)


def test_a_scheduler_that_does_not_turn_time_round_is_refused(family_folders: dict[str, Path], tmp_path: Path) -> None:
    copy = Path(shutil.copytree(family_folders["mochi"], tmp_path / "copy"))
    path = copy / "scheduler" / "scheduler_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "invert_sigmas": False}))
    with pytest.raises(ReelignError, match="invert_sigmas") as caught:
        load_generator(str(copy))
    assert "scheduler_config.json" in caught.value.mend
