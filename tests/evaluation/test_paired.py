"""Base against aligned: gains by dimension, win rates, and what is left out."""

from __future__ import annotations

import json
import math

import pytest
import torch

from reelign.diffusion.seeds import generator_from
from reelign.errors import ReelignError
from reelign.evaluation import Failure, compare, win_tie_loss

NAN = float("nan")


def test_win_tie_loss_by_hand():
    found = win_tie_loss(torch.tensor([0.0, 0, 0, 0, NAN]), torch.tensor([1.0, 0.5, -0.5, -1, 1]), tie=0.5)
    assert (found.wins, found.ties, found.losses, found.rate) == (1, 2, 1, 0.5)
    found = win_tie_loss(torch.zeros(4), torch.tensor([1.0, 1, 0, -1]), tie=0)
    assert found.rate == (2 + 1 / 2) / 4
    assert math.isnan(win_tie_loss(torch.tensor([NAN]), torch.tensor([1.0]), tie=0).rate)


def test_compare_leaves_a_failed_pair_out_on_both_sides_of_every_dimension():
    base = {"VQ": torch.tensor([[0.0, 0.0], [0.0, 0.0], [9.0, 0.0]]), "MQ": torch.ones(3, 2)}
    aligned = {"VQ": torch.tensor([[1.0, 1.0], [NAN, 1.0], [9.0, 1.0]]), "MQ": torch.zeros(3, 2)}
    base["MQ"][2, 0] = aligned["MQ"][2, 0] = NAN
    found = compare(base, aligned, generator=generator_from("compare"))
    assert found.left_out == (Failure(1, 0, "aligned"), Failure(2, 0, "both"))
    assert (found.prompts, found.seeds, found.pairs) == (3, 2, 4)
    visual, motion = found.dimensions["VQ"], found.dimensions["MQ"]
    assert (visual.base, visual.aligned, visual.gain) == (0, 1, 1)
    assert (motion.base, motion.aligned, motion.high) == (1, 0, -1)
    assert (found.base, found.aligned, found.gain, found.low, found.high) == (0.5, 0.5, 0, 0, 0)
    assert found.significantly_down == ("MQ",)
    assert (visual.win.wins, motion.win.losses, found.win.ties) == (4, 4, 4)


def test_compare_gain_is_the_mean_over_dimensions_and_serialises(comparison):
    gains = [dimension.gain for dimension in comparison.dimensions.values()]
    assert comparison.gain == pytest.approx(sum(gains) / 3)
    assert comparison.aligned - comparison.base == pytest.approx(comparison.gain)
    stored = json.loads(json.dumps(comparison.as_dict()))
    assert stored["gain"] == comparison.gain
    assert stored["low"] <= stored["gain"] <= stored["high"]
    assert stored["dimensions"]["TA"]["significantly_down"] is True
    assert stored["left_out"] == [{"prompt": 3, "seed": 1, "side": "aligned"}]


def test_a_dimension_does_not_depend_on_its_neighbours():
    scores = {name: torch.rand(10, 2, generator=generator_from(name)) for name in "abcd"}
    both = compare(
        {"x": scores["a"], "y": scores["b"]}, {"x": scores["c"], "y": scores["d"]}, generator=generator_from(0)
    )
    alone = compare({"y": scores["b"]}, {"y": scores["d"]}, generator=generator_from(0))
    assert both.dimensions["y"] == alone.dimensions["y"]


def test_compare_refuses_other_dimensions_and_shapes():
    with pytest.raises(ReelignError, match="same dimensions"):
        compare({"VQ": torch.ones(2, 2)}, {"MQ": torch.ones(2, 2)}, generator=generator_from(0))
    with pytest.raises(ReelignError, match="one \\(prompts, seeds\\) shape"):
        compare({"VQ": torch.ones(2, 2)}, {"VQ": torch.ones(2, 3)}, generator=generator_from(0))
