"""From selected candidates to what each objective trains on."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

from reelign.errors import ReelignError
from reelign.generators.base import Conditioning
from reelign.objectives import DPO, KTO, RWR, SFT
from reelign.recipes.online.samples import Samples, picks, read_samples, write_samples
from reelign.recipes.online.selection import Selected
from reelign.training import PairBatch, VideoBatch

FOUND = [Selected([(2, 0)], None), Selected([], "equal"), Selected([(0, 1), (2, 3)], None)]
SCORES = {"MQ": torch.tensor([[0.0, math.nan, 1.0, 0.5], [1.0] * 4, [3.0, 0.0, 2.0, 1.0]])}
WEIGHTS = {"MQ": 1.0}


def test_pairs_of_dpo_stand_chosen_first_and_swapped_the_other_way_round() -> None:
    found = picks(DPO(), FOUND, SCORES, WEIGHTS, top=2)
    assert found.places.tolist() == [[2, 0, -1, -1], [-1] * 4, [0, 1, 2, 3]]
    assert (found.values, found.sides) == (None, 2)
    swapped = picks(DPO(), FOUND, SCORES, WEIGHTS, top=2, swap=True)
    assert swapped.places.tolist() == [[0, 2, -1, -1], [-1] * 4, [1, 0, 3, 2]]


def test_kto_labels_the_same_videos() -> None:
    found = picks(KTO(), FOUND, SCORES, WEIGHTS, top=2)
    assert found.places.tolist() == [[2, 0, -1, -1], [-1] * 4, [0, 1, 2, 3]]
    assert found.values is not None
    assert found.values.tolist() == [[True, False, True, False]] * 3
    assert found.sides == 1


def test_sft_takes_one_side_or_as_many_at_random() -> None:
    assert picks(SFT(), FOUND, SCORES, WEIGHTS, top=2).places.tolist() == [[2, -1], [-1, -1], [0, 2]]
    assert picks(SFT(on="rejected"), FOUND, SCORES, WEIGHTS, top=2).places.tolist() == [[0, -1], [-1, -1], [1, 3]]
    drawn = {
        tuple(picks(SFT(on="random"), FOUND, SCORES, WEIGHTS, top=2, seed=n).places[0].tolist()) for n in range(40)
    }
    assert drawn == {(0, -1), (2, -1), (3, -1)}  # of the candidate without a score none


def test_rwr_weighs_all_scored_candidates_of_a_group_with_a_preference() -> None:
    found = picks(RWR(temperature=0.5, cap=10), FOUND, SCORES, WEIGHTS, top=1)
    assert found.places.tolist() == [[0, 2, 3, -1], [-1] * 4, [0, 1, 2, 3]]
    assert found.values is not None
    parts = [math.exp(2 * reward) for reward in (0.0, 1.0, 0.5)]
    expected = torch.tensor([3 * part / sum(parts) for part in parts])
    torch.testing.assert_close(found.values[0, :3], expected)
    turned = picks(RWR(temperature=0.5, cap=10), FOUND, SCORES, WEIGHTS, top=1, swap=True).values
    assert turned is not None
    assert turned[0, 0] == turned[0, :3].max()


def test_samples_become_batches_and_files_and_come_back(tmp_path: Path) -> None:
    latents = torch.randn(3, 2, 4, 1, 2, 2, generator=torch.Generator().manual_seed(0))
    one = Samples(latents[:1], torch.tensor([1]), torch.tensor([5]), None, ("a",))
    both = one.and_then(Samples(latents[1:], torch.tensor([0, 1]), torch.tensor([6, 6]), None, ("b", "c")))
    text = Conditioning({"text": torch.tensor([[10.0], [11.0], [99.0]])})
    batch = both.batch(text, seed=7)
    assert isinstance(batch, PairBatch)
    assert batch.conditioning["text"].tolist() == [[11.0], [10.0], [11.0]]
    assert (batch.seed, batch.names) == (7, ("a", "b", "c"))
    for step in (1, 2, 3):
        write_samples(tmp_path / f"current-{step}.safetensors", both, keep=2)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["current-2.safetensors", "current-3.safetensors"]
    again = read_samples(tmp_path / "current-3.safetensors", both.names, torch.device("cpu"))
    assert torch.equal(again.latents, latents)
    assert torch.equal(again.made_at, both.made_at)
    assert isinstance(Samples(latents[:, 0], both.rows, both.made_at).batch(text, 0), VideoBatch)
    with pytest.raises(ReelignError, match=r"current-1\.safetensors"):
        read_samples(tmp_path / "current-1.safetensors", both.names, torch.device("cpu"))
    assert both.part(slice(1, None)).names == ("b", "c")
