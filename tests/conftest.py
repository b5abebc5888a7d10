"""A real Wan pipeline, tiny and with random weights, for every test that needs a generator."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from generators.tiny_wan import save_wan
from reelign.generators import Generator, VideoSize, load_generator

torch.set_num_threads(1)


@pytest.fixture(scope="session")
def tiny_wan_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A complete diffusers folder."""
    folder = tmp_path_factory.mktemp("models") / "tiny-wan"
    save_wan(folder)
    return folder


@pytest.fixture
def tiny_wan(tiny_wan_folder: Path) -> Generator:
    """Loaded anew for each test, so that a test may train it."""
    return load_generator(str(tiny_wan_folder))


@pytest.fixture(scope="session")
def tiny_size() -> VideoSize:
    return VideoSize(num_frames=9, height=16, width=16)
