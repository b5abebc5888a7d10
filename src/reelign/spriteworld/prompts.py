"""The words of the small world: its captions, and the fixed split into train and held-out captions."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

import torch
from torch import Tensor

from reelign.errors import ReelignError

COLOURS = ("red", "yellow", "green", "cyan", "blue", "purple")
SHAPES = ("square", "triangle", "ring", "cross")
MOTIONS = ("moves left", "moves right", "moves up", "moves down", "grows", "shrinks")
VOCABULARIES = (COLOURS, SHAPES, MOTIONS)

WORDS = {
    "template": "a {colour} {shape} {motion}",
    "attributes": {"colour": COLOURS, "shape": SHAPES},
    "categories": {"moves": {"motion": MOTIONS[:4]}, "changes size": {"motion": MOTIONS[4:]}},
}
"""Of captions, as `reelign prompts` combines them."""


def caption(colour: int, shape: int, motion: int) -> str:
    """The caption of three attribute indices, such as "a red ring moves left"."""
    return f"a {COLOURS[colour]} {SHAPES[shape]} {MOTIONS[motion]}"


def captions(attributes: Tensor) -> list[str]:
    """The captions of (B, 3) attribute indices in the order colour, shape, motion."""
    return [caption(colour, shape, motion) for colour, shape, motion in attributes.tolist()]


_ATTRIBUTES = {
    caption(*indices): indices for indices in product(*(range(len(vocabulary)) for vocabulary in VOCABULARIES))
}


def parse(prompts: Sequence[str]) -> Tensor:
    """The (B, 3) attribute indices that the captions name, int64, in the order colour, shape, motion.

    Raises:
        ReelignError: a prompt is not a caption of this world.
    """
    for prompt in prompts:
        if prompt not in _ATTRIBUTES:
            raise ReelignError(
                f"the small world cannot judge the prompt {prompt!r}: it knows only its own captions.",
                f"Write 'a <colour> <shape> <motion>' with a colour of {', '.join(COLOURS)}; a shape of "
                f"{', '.join(SHAPES)}; a motion of {', '.join(MOTIONS)}.",
            )
    return torch.tensor([_ATTRIBUTES[prompt] for prompt in prompts], dtype=torch.int64).reshape(-1, 3)


def is_held_out(colour: int, shape: int, motion: int) -> bool:
    """Whether alignment never sees this combination.

    A Latin-square rule: each (colour, motion) pair holds out exactly one shape, and the shift by `colour // 5` makes
    the quarter even, 6 captions of every colour and motion and 9 of every shape.
    """
    return (colour + colour // 5 + motion) % len(SHAPES) == shape


def all_captions() -> list[str]:
    """All 144 captions in a fixed order."""
    return list(_ATTRIBUTES)


def train_captions() -> list[str]:
    """The 108 captions that alignment may train on."""
    return [text for text, indices in _ATTRIBUTES.items() if not is_held_out(*indices)]


def held_out_captions() -> list[str]:
    """The 36 captions kept for evaluation; each of their words also stands in the train captions."""
    return [text for text, indices in _ATTRIBUTES.items() if is_held_out(*indices)]
