"""Samples that a reward could not score: NaN in its scores; counted and named, and never trained on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

NAMED = 5
"""Samples that a message names; it counts the rest."""


def scored(scores: Mapping[str, Tensor]) -> Tensor:
    """(B,) bool: which samples have a finite score on every dimension, and may be trained on."""
    return torch.stack([values.isfinite() for values in scores.values()]).all(dim=0)


@dataclass
class Failures:
    """What failed so far, for a log line or a table."""

    samples: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """Name of a sample -> the dimensions that it has no finite score on."""
    seen: int = 0
    """Samples looked at, those that were scored among them."""

    def add(self, scores: Mapping[str, Tensor], names: Sequence[object]) -> Tensor:
        """Count a batch: scores (B,) per dimension and B names; returns the mask of `scored`."""
        finite = {dimension: values.isfinite().tolist() for dimension, values in scores.items()}
        for number, name in enumerate(names):
            lacking = tuple(dimension for dimension, flags in finite.items() if not flags[number])
            if lacking:
                self.samples[str(name)] = lacking
        self.seen += len(names)
        return scored(scores)

    def __len__(self) -> int:
        return len(self.samples)

    def __str__(self) -> str:
        """One sentence: how many, which, on what."""
        if not self.samples:
            return f"all {self.seen} samples were scored"
        named = [f"{name} ({', '.join(lacking)})" for name, lacking in list(self.samples.items())[:NAMED]]
        more = f" and {len(self) - NAMED} more" if len(self) > NAMED else ""
        return f"{len(self)} of {self.seen} samples could not be scored and are left out: {', '.join(named)}{more}"
