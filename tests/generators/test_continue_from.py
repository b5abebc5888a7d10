"""A clip goes on from the last frame of another: as from that image, and with the gradient that reaches it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from generators.tiny_svd import save_svd
from generators.tiny_wan_i2v import save_wan_i2v
from reelign.generators import Generator, VideoSize, load_generator

SIZES = {"svd": VideoSize(3, 16, 16), "wan-i2v": VideoSize(5, 16, 16)}
SAVES: dict[str, Callable[[Path], None]] = {"svd": save_svd, "wan-i2v": save_wan_i2v}


@pytest.fixture(scope="module", params=list(SIZES))
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Generator:
    place: Path = tmp_path_factory.mktemp("models") / request.param
    SAVES[request.param](place)
    loaded = load_generator(str(place))
    # Slopes of networks with norms are no slopes over steps that fp32 resolves.
    loaded.pipeline.vae.double()
    loaded.pipeline.image_encoder.double()
    return loaded


@pytest.fixture
def size(model: Generator) -> VideoSize:
    return SIZES[Path(model.model).name]


@pytest.fixture
def frames() -> Tensor:
    """(2, 3, 16, 16) whole 255ths."""
    return torch.randint(0, 256, (2, 3, 16, 16), generator=torch.Generator().manual_seed(0)).float() / 255


def test_a_last_frame_is_taken_as_an_image_of_it(model: Generator, size: VideoSize, frames: Tensor) -> None:
    with torch.no_grad():
        found = model.continue_from(frames, size)
    wanted = model.encode_condition(frames, size)
    assert model.grades_images
    assert found.tensors.keys() == wanted.tensors.keys()
    for name, tensor in wanted.tensors.items():
        # Both read 255ths; one processor rounds what it resized to 255ths, and the other does not.
        torch.testing.assert_close(found[name], tensor, rtol=0, atol=0.02 * float(tensor.abs().max()))


def test_the_gradient_is_the_slope(model: Generator, size: VideoSize, frames: Tensor) -> None:
    """Along a line from the frames, through each of the tensors that the model takes."""
    frames = (0.2 + 0.6 * frames).double()
    line = torch.randn(frames.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    names = list(model.encode_condition(frames, size).tensors)

    def along(step: float, name: str) -> Tensor:
        tensor = model.continue_from(frames + step * line, size)[name]
        weights = torch.randn(tensor.shape, generator=torch.Generator().manual_seed(2))
        return (weights * tensor).double().sum()

    for name in names:
        leaf = frames.clone().requires_grad_()
        tensor = model.continue_from(leaf, size)[name]
        weights = torch.randn(tensor.shape, generator=torch.Generator().manual_seed(2))
        (slope,) = torch.autograd.grad((weights * tensor).sum(), leaf)
        with torch.no_grad():
            wanted = float(along(1e-4, name) - along(-1e-4, name)) / 2e-4
        assert float((slope * line).sum()) == pytest.approx(wanted, rel=0.01)
        assert slope.flatten(1).any(dim=1).all()
