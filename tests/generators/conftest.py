"""Tiny pipelines of the families, each saved and loaded when a test first asks for it; loaded anew to train."""

from __future__ import annotations

from pathlib import Path

import pytest

from generators.families import FAMILIES
from reelign.generators import Generator, VideoSize, load_generator

ALL = [pytest.param(name, marks=pytest.mark.slow if each.slow else ()) for name, each in FAMILIES.items()]


class Folders(dict[str, Path]):
    """Each family's folder, made when it is first asked for: few tests need more than one."""

    def __init__(self, root: Path) -> None:
        super().__init__()
        self.root = root

    def __missing__(self, name: str) -> Path:
        FAMILIES[name].save(self.root / name)
        self[name] = self.root / name
        return self[name]


@pytest.fixture(scope="session")
def family_folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return Folders(tmp_path_factory.mktemp("models"))


@pytest.fixture(params=ALL)
def family_folder(request: pytest.FixtureRequest, family_folders: dict[str, Path]) -> Path:
    return family_folders[request.param]


class Loaded(dict[str, Generator]):
    """Each family, loaded when a test first asks for it."""

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


@pytest.fixture(params=[name for name, each in FAMILIES.items() if each.table])
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
    return FAMILIES[family_folder.name].size
