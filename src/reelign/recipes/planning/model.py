"""A generator without values, watched: whose forwards run, how many there are, and the shapes of its conditioning."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from reelign.generators.base import Conditioning, Generator
from reelign.generators.encoders import VAE, encoders, text_encoders
from reelign.training.memory import LiveMemory

DENOISER, DECODER, ENCODER, TEXT, REWARD = "denoiser", "decoder", "encoder", "text encoders", "reward"
LATENTS = "latents"
"""What runs, as a plan names it; latents are what is made before any of these does."""


@dataclass
class Forwards:
    """Calls of the denoisers, a video's each; guidance's two sides are two."""

    graded: int = 0
    plain: int = 0
    """Without a graph."""

    def add(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        # Latents come first, as frames or as tokens of three dimensions; a timestep has one or two.
        videos = next(len(each) for each in (*args, *kwargs.values()) if isinstance(each, Tensor) and each.ndim > 2)
        if torch.is_grad_enabled():
            self.graded += videos
        else:
            self.plain += videos


@contextlib.contextmanager
def telling(memory: LiveMemory, generator: Generator) -> Iterator[Forwards]:
    """In the block, what is allocated counts under the part whose forward began last; the forwards of the block."""
    found = Forwards()

    def label(name: str) -> Any:
        def begin(module: nn.Module, args: Any, kwargs: Any) -> None:
            memory.label = name
            if name == DENOISER:
                found.add(args, kwargs)

        return begin

    handles = [part.register_forward_pre_hook(label(name), with_kwargs=True) for name, part in _parts(generator)]
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()


def _parts(generator: Generator) -> list[tuple[str, nn.Module]]:
    # Every module of a VAE's halves: they may run without the forward of the half, and lie in parts of the VAE.
    vae = [(name.split("."), each) for name, each in encoders(generator)[VAE].named_modules()]
    return [
        *((DENOISER, each) for each in generator.denoisers.values()),
        *((TEXT, each) for each in text_encoders(generator).values()),
        *((half, each) for half in (DECODER, ENCODER) for path, each in vae if half in path),
    ]


def ask_one_expert(generator: Generator, name: str) -> None:
    """From here on this denoiser answers at every noise level: levels on the meta device choose none.

    What runs together asks one expert in training too, for its draws are put together by expert, and a sampler has
    one level at a time. The experts are of one shape, so that what one takes the others do.
    """

    def expert_rows(sigma: Tensor) -> dict[str, Tensor]:
        return {
            each: torch.full(sigma.shape, each == name, dtype=torch.bool, device="cpu") for each in generator.denoisers
        }

    vars(generator)["expert_rows"] = expert_rows


def rows(conditioning: Conditioning, count: int) -> Conditioning:
    """A conditioning of one row as `count` equal ones in the host's memory, where training keeps it."""
    return Conditioning(
        {
            name: torch.zeros((1, *tensor.shape[1:]), dtype=tensor.dtype).expand(count, *tensor.shape[1:])
            for name, tensor in conditioning.tensors.items()
        }
    )


def nbytes(*modules: nn.Module) -> int:
    """Of all parameters and buffers, one that several share once."""
    tensors = {id(each): each for module in modules for each in (*module.parameters(), *module.buffers())}
    return sum(each.nbytes for each in tensors.values())
