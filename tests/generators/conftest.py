"""Tiny pipelines of the families beside Wan, each saved once; loaded once to look at, and anew to train."""

from __future__ import annotations

from pathlib import Path

import pytest

from generators.tiny import save_cogvideox, save_modelscope
from generators.tiny_animatediff import save_animatediff
from generators.tiny_cogvideox import save_cogvideox15
from generators.tiny_hunyuan import save_hunyuan
from generators.tiny_hunyuan15 import save_hunyuan15
from generators.tiny_ltx import save_ltx
from generators.tiny_mochi import save_mochi
from generators.tiny_opensora import save_opensora
from generators.tiny_videocrafter2 import save_videocrafter2
from generators.tiny_wan22 import save_wan22_ti2v
from reelign.generators import Generator, VideoSize, load_generator

FAMILIES = (
    "cogvideox-2b",
    "cogvideox-5b",
    "cogvideox-1.5",
    "wan22-ti2v",
    "modelscope",
    "animatediff",
    "videocrafter2",
    "hunyuan",
    "hunyuan15",
    "ltx",
    "mochi",
    "opensora",
)
FRAME_UNETS = ("modelscope", "animatediff", "videocrafter2")
"""Those with a latent frame for each frame."""
FLOWS = ("wan22-ti2v", "hunyuan", "hunyuan15", "ltx", "mochi", "opensora")
"""Those without a table of noise levels."""
SIZES = {
    "wan22-ti2v": VideoSize(9, 32, 32),
    "ltx": VideoSize(9, 64, 32),
    "mochi": VideoSize(7, 16, 16),
    "opensora": VideoSize(17, 16, 16),
}
"""Of clips, where they are not those of most."""


@pytest.fixture(scope="session")
def family_folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    models = tmp_path_factory.mktemp("models")
    save_cogvideox(models / "cogvideox-2b", rotary=False)
    save_cogvideox(models / "cogvideox-5b", rotary=True)
    save_cogvideox15(models / "cogvideox-1.5")
    save_wan22_ti2v(models / "wan22-ti2v")
    save_modelscope(models / "modelscope")
    save_animatediff(models / "animatediff")
    save_videocrafter2(models / "videocrafter2")
    save_hunyuan(models / "hunyuan")
    save_hunyuan15(models / "hunyuan15")
    save_ltx(models / "ltx")
    save_mochi(models / "mochi")
    save_opensora(models / "opensora")
    return {name: models / name for name in FAMILIES}


@pytest.fixture(
    params=[pytest.param(name, marks=pytest.mark.slow if name == "videocrafter2" else ()) for name in FAMILIES]
)
def family_folder(request: pytest.FixtureRequest, family_folders: dict[str, Path]) -> Path:
    return family_folders[request.param]


class Loaded(dict[str, Generator]):
    """Each family when a test first asks for it: few tests need more than one."""

    def __init__(self, folders: dict[str, Path]) -> None:
        super().__init__()
        self.folders = folders

    def __missing__(self, name: str) -> Generator:
        self[name] = load_generator(str(self.folders[name]))
        return self[name]


@pytest.fixture(scope="session")
def loaded(family_folders: dict[str, Path]) -> dict[str, Generator]:
    return Loaded(family_folders)


@pytest.fixture
def family(family_folder: Path, loaded: dict[str, Generator]) -> Generator:
    """One of the families, to look at: every test shares it."""
    return loaded[family_folder.name]


@pytest.fixture(params=[name for name in FAMILIES if name not in FLOWS])
def table_folder(request: pytest.FixtureRequest, family_folders: dict[str, Path]) -> Path:
    return family_folders[request.param]


@pytest.fixture
def table_family(table_folder: Path, loaded: dict[str, Generator]) -> Generator:
    """One of the families whose noise levels are a table."""
    return loaded[table_folder.name]


@pytest.fixture
def own_family(family_folder: Path) -> Generator:
    """One of the families, loaded anew, so that a test may train it."""
    return load_generator(str(family_folder))


@pytest.fixture
def family_size(family_folder: Path) -> VideoSize:
    most = VideoSize(4 if family_folder.name in FRAME_UNETS else 9, 16, 16)
    return SIZES.get(family_folder.name, most)
