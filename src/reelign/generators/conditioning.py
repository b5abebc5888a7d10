"""What a denoiser takes beside noisy latents and sigma, and the other side of classifier-free guidance."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Conditioning:
    """What the denoiser takes beside noisy latents and sigma: named tensors, each (B, ...)."""

    tensors: dict[str, Tensor]

    def __len__(self) -> int:
        return next(iter(self.tensors.values())).shape[0]

    def __getitem__(self, name: str) -> Tensor:
        return self.tensors[name]

    def take(self, index: Tensor) -> Conditioning:
        """The rows at (n,) `index`, repeats allowed."""
        return Conditioning({name: tensor[index.to(tensor.device)] for name, tensor in self.tensors.items()})

    def joined(self, other: Conditioning) -> Conditioning:
        """With the tensors of another of as many rows, such as an image's beside a text's."""
        return Conditioning({**self.tensors, **other.tensors})

    def to(self, device: torch.device | str) -> Conditioning:
        """The same tensors on a device."""
        return Conditioning({name: tensor.to(device) for name, tensor in self.tensors.items()})

    @staticmethod
    def cat(parts: list[Conditioning]) -> Conditioning:
        """Join along the batch: parts of the same names and, but for their rows, the same shapes."""
        return Conditioning({name: torch.cat([part[name] for part in parts]) for name in parts[0].tensors})


@dataclass(frozen=True)
class Guidance:
    """Classifier-free guidance: `negative + scale·(positive - negative)`; a scale of 1 or less needs no second pass."""

    scale: float
    negative: Conditioning | None = None
    scale_2: float | None = None
    """Of the expert for low noise, where a model has two; None is its `second_scale`."""

    @property
    def active(self) -> bool:
        """Whether there is a second side to guide away from, at a scale that guides."""
        return self.scale > 1 and self.negative is not None
