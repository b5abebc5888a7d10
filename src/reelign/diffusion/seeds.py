"""Seeds that are functions of what they are for, so that any piece of work can be repeated or resumed on its own."""

from __future__ import annotations

import hashlib

import torch


def seed_from(*parts: object) -> int:
    """A 63-bit seed from anything with a stable `str`, the same on every machine and in every process."""
    digest = hashlib.sha256("\x1f".join(str(part) for part in parts).encode()).digest()
    return int.from_bytes(digest[:8], "little") >> 1


def generator_from(*parts: object, device: torch.device | str = "cpu") -> torch.Generator:
    """A fresh generator seeded with `seed_from(*parts)`."""
    return torch.Generator(device=device).manual_seed(seed_from(*parts))
