"""What a look says in one number a video, and how it is kept."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

from reelign.errors import ReelignError
from reelign.training.looks import Look, gain, read_look, write_look

NAN = math.nan
LOOK = Look(
    3,
    ("a", "a", "b"),
    {
        "training/VQ": torch.tensor([1.0, 2.0, 3.0]),
        "training/TA": torch.tensor([3.0, 4.0, NAN]),
        "held_out/http://judge/one/overall": torch.tensor([5.0, 6.0, 7.0]),
        "held_out/http://judge/one/part": torch.tensor([0.0, 0.0, 0.0]),
        "held_out/two/VQ": torch.tensor([0.0, 1.0, 2.0]),
        "proxy/sharpness": torch.tensor([0.25, 0.5, 0.75]),
    },
)


def test_dimensions_come_to_one_number() -> None:
    assert LOOK.training[:2].tolist() == [2.0, 3.0]
    assert LOOK.training[2].isnan()
    # A composed reward's own sum speaks for its parts.
    assert {name: values.tolist() for name, values in LOOK.held_out.items()} == {
        "http://judge/one": [5.0, 6.0, 7.0],
        "two": [0.0, 1.0, 2.0],
    }
    assert list(LOOK.proxies) == ["sharpness"]
    assert LOOK.failed == 1
    assert LOOK.clusters.tolist() == [0, 0, 1]


def test_metrics_are_means_over_what_was_scored() -> None:
    found = LOOK.metrics()
    assert found["watch/training/VQ"] == 2.0
    assert found["watch/training/TA"] == 3.5
    assert found["watch/proxy/sharpness"] == 0.5


def test_a_look_is_kept_to_the_bit(tmp_path: Path) -> None:
    path = tmp_path / "look.json"
    write_look(path, LOOK, weights="abc")
    found, kept = read_look(path)
    assert kept["weights"] == "abc"
    assert "NaN" not in path.read_text()
    assert (found.step, found.prompts) == (3, LOOK.prompts)
    for name, values in LOOK.scores.items():
        assert torch.equal(found.scores[name].nan_to_num(-1), values.nan_to_num(-1))


@pytest.mark.parametrize("text", [None, "{", "{}", "[]"])
def test_what_is_no_look_is_refused(tmp_path: Path, text: str | None) -> None:
    path = tmp_path / "look.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(ReelignError, match=r"cannot be read"):
        read_look(path)


def test_a_gain_is_paired_and_counts_prompts_not_videos() -> None:
    now, before = torch.tensor([1.0, 1.0, 5.0]), torch.tensor([0.0, 0.0, 4.0])
    found = gain(now, before, LOOK.clusters)
    assert (found.mean, found.low, found.high) == (1.0, 1.0, 1.0)
    with pytest.raises(ReelignError, match="at least 2 prompts"):
        gain(now, torch.tensor([0.0, 0.0, NAN]), LOOK.clusters)
