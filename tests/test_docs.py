"""The documents are true: links resolve, commands and options exist, every room and family is named."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from cli.process import reelign
from reelign.cli import COMMANDS, GROUPS
from reelign.generators import GENERATORS
from test_architecture import BESIDE, FLOORS, SOURCE

ROOT = Path(__file__).parent.parent
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_and_named_documents_are_there(document: Path) -> None:
    text = document.read_text()
    links = [link for link in re.findall(r"\]\(([^)#]+)", text) if "://" not in link]
    named = re.findall(r"`((?:docs|tests|benchmarks|src)/[\w./-]+)`", text)
    missing = [link for link in links if not (document.parent / link).exists()]
    assert missing + [name for name in named if not (ROOT / name).exists()] == []


def test_every_command_in_the_readme_exists_with_its_options(tmp_path: Path) -> None:
    text = (ROOT / "README.md").read_text()
    for line in re.findall(r"^    (reelign .*)$|`(reelign [^`]*)`", text.replace("\n--", " --"), re.MULTILINE):
        command, *words = (line[0] or line[1]).split()[1:]
        inner = words[:1] if command in GROUPS and words and words[0] in GROUPS[command].COMMANDS else []
        assert command in COMMANDS or command in GROUPS, line
        options = {word for word in words if word.startswith("-")}
        if options:
            known = reelign(command, *inner, "--help", folder=tmp_path, COLUMNS="200").out
            assert not [option for option in options if option not in known], line


def test_the_table_of_families_names_every_pipeline() -> None:
    assert not [name for name in GENERATORS if f"`{name}`" not in (ROOT / "docs" / "families.md").read_text()]


def test_the_map_names_every_room() -> None:
    rows = re.findall(r"^\| (\d|beside) \| (.*?) \|", (ROOT / "docs" / "architecture.md").read_text(), re.MULTILINE)
    told = {
        room.strip("/").removesuffix(".py"): floor for floor, cell in rows for room in re.findall(r"`([^`]+)`", cell)
    }
    built = {room: str(floor) for floor, rooms in FLOORS.items() for room in rooms if _there(room)}
    assert told == {**built, BESIDE: "beside"}


def _there(room: str) -> bool:
    return not room.startswith("__") and ((SOURCE / f"{room}.py").exists() or any((SOURCE / room).glob("*.py")))
