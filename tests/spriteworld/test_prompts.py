"""The captions, and a split in which evaluation shows combinations that alignment never saw."""

from __future__ import annotations

from collections import Counter

import pytest
import torch

from reelign.errors import ReelignError
from reelign.spriteworld.prompts import all_captions, captions, held_out_captions, parse, train_captions


def test_the_split_shares_no_combination() -> None:
    train, held_out = set(train_captions()), set(held_out_captions())
    assert not train & held_out
    assert train | held_out == set(all_captions())
    assert (len(train), len(held_out)) == (108, 36)


def test_the_split_is_balanced() -> None:
    for texts, counts in ((held_out_captions(), (6, 9, 6)), (train_captions(), (18, 27, 18))):
        for column, count in zip(parse(texts).T.tolist(), counts, strict=True):
            assert set(Counter(column).values()) == {count}
    colours_and_motions = {(colour, motion) for colour, _, motion in parse(held_out_captions()).tolist()}
    assert len(colours_and_motions) == 36


def test_captions_are_read_back() -> None:
    assert captions(parse(all_captions())) == all_captions()
    assert "a red ring moves left" in all_captions()
    assert parse([]).shape == (0, 3)
    assert parse(["a red ring moves left"]).dtype == torch.int64


def test_a_foreign_prompt_is_refused() -> None:
    with pytest.raises(ReelignError, match="a cat plays the piano"):
        parse(["a cat plays the piano"])
