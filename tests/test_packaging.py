"""What a user installs: the wheel holds every file the code reads, and asks for every package the code imports."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
import zipfile
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SOURCE = ROOT / "src" / "reelign"
DATA = ("annotate/static", "annotate/templates", "evaluation/templates", "spriteworld/pipeline")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """Built as pip builds it, by hatchling, from the checkout."""
    from hatchling.builders.wheel import WheelBuilder

    folder = tmp_path_factory.mktemp("dist")
    (path,) = WheelBuilder(str(ROOT)).build(directory=str(folder), versions=["standard"])
    return zipfile.ZipFile(path)


def test_the_wheel_holds_the_code_and_every_file_it_reads(wheel: zipfile.ZipFile) -> None:
    there = set(wheel.namelist())
    wanted = [*SOURCE.rglob("*.py"), SOURCE / "py.typed"]
    wanted += [path for folder in DATA for path in (SOURCE / folder).rglob("*") if path.is_file()]
    assert {path.relative_to(SOURCE.parent).as_posix() for path in wanted} <= there
    for folder in DATA:
        assert any(name.startswith(f"reelign/{folder}/") for name in there)
    assert "reelign/spriteworld/pipeline/transformer/diffusion_pytorch_model.safetensors" in there


def test_the_wheel_is_small_and_holds_nothing_else(wheel: zipfile.ZipFile) -> None:
    assert {name.split("/")[0].partition("-")[0] for name in wheel.namelist()} == {"reelign"}
    assert sum(each.file_size for each in wheel.infolist()) < 12 << 20
    assert not [name for name in wheel.namelist() if "__pycache__" in name or name.endswith(".tmp")]


def test_the_wheel_brings_the_command(wheel: zipfile.ZipFile) -> None:
    (name,) = (name for name in wheel.namelist() if name.endswith("entry_points.txt"))
    assert "reelign = reelign.cli:main" in wheel.read(name).decode()


def test_every_package_that_the_code_imports_is_a_dependency() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = [line for extra, lines in project["optional-dependencies"].items() if extra != "test" for line in lines]
    asked = {_name(line) for line in project["dependencies"] + extras}
    brings = packages_distributions()
    undeclared = {
        f"{path.relative_to(SOURCE)}: {module}"
        for path in SOURCE.rglob("*.py")
        for module in _imported(path)
        if not {_name(distribution) for distribution in brings.get(module, [module])} & asked
    }
    assert undeclared == set()


def _imported(path: Path) -> set[str]:
    """Top-level modules from elsewhere that a file imports, wherever in it the import stands."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            found.add(str(node.module).partition(".")[0])
    return {name for name in found if name != "reelign" and name not in sys.stdlib_module_names}


def _name(requirement: str) -> str:
    return re.split(r"[^\w.-]", requirement)[0].replace("_", "-").lower()
