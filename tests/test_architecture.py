"""Imports run downwards: a room imports only from floors below its own."""

from __future__ import annotations

import ast
from pathlib import Path

SOURCE = Path(__file__).parent.parent / "src" / "reelign"

FLOORS = {
    0: ("errors", "files", "naming", "video", "diffusion", "objectives", "records"),
    1: ("generators", "rewards", "critics"),
    2: ("training",),
    3: ("recipes", "evaluation", "annotate"),
    4: (
        "config",
        "costs",
        "opening",
        "stages",
        "reward_stages",
        "critic_stages",
        "latent_stages",
        "searching",
        "memory_plans",
        "iterating",
        "round_reporting",
        "prompting",
        "reporting",
        "publishing",
        "demo",
        "cli",
        "__init__",
        "__main__",
    ),
}
FLOOR = {room: floor for floor, rooms in FLOORS.items() for room in rooms}
GROUND = ("errors", "files", "naming")
"""What every floor stands on."""
LEANS = {"critics": "rewards"}
"""A room that may import one of its own floor: critics look at videos with the eyes of the rewards on Qwen-VL."""
BESIDE = "spriteworld"
"""May import floors 0 to 2; below floor 4 it is known by name alone."""


def may_import(room: str, other: str) -> bool:
    if room == other or other in GROUND or LEANS.get(room) == other:
        return True
    if room == BESIDE:
        return other in FLOOR and FLOOR[other] <= 2
    if other == BESIDE:
        return FLOOR[room] == 4
    # The commands and what they are made of share a floor.
    return FLOOR[other] < FLOOR[room] or FLOOR[room] == FLOOR[other] == 4


def imported_rooms(code: str, module: tuple[str, ...]) -> set[str]:
    """The rooms of reelign that a module's code imports, wherever in it the import stands."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(("reelign", *module)[: -node.level]) if node.level else ""
            base = ".".join(part for part in (base, node.module) if part)
            names = [f"{base}.{alias.name}" for alias in node.names] if base == "reelign" else [base]
        else:
            continue
        rooms = (name.split(".")[1] if "." in name else "__init__" for name in names if name.split(".")[0] == "reelign")
        # `from reelign import __version__` asks for a number that stands in no room.
        found |= {room for room in rooms if not (room.startswith("__") and room != "__init__")}
    return found


def climbs(code: str, module: tuple[str, ...]) -> list[str]:
    room = module[0]
    return [
        f"{'.'.join(module)} imports {other}" for other in imported_rooms(code, module) if not may_import(room, other)
    ]


def modules() -> dict[tuple[str, ...], Path]:
    return {path.relative_to(SOURCE).with_suffix("").parts: path for path in sorted(SOURCE.rglob("*.py"))}


def test_every_room_has_a_floor() -> None:
    assert {module[0] for module in modules()} <= {*FLOOR, BESIDE}


def test_no_import_climbs() -> None:
    assert [climb for module, path in modules().items() for climb in climbs(path.read_text(), module)] == []


def test_a_climbing_import_is_noticed_in_every_form() -> None:
    climbing = {
        "from reelign.training import Policy": ("objectives", "dpo"),
        "import reelign.recipes.offline.align": ("training", "trainer"),
        "from reelign import recipes": ("generators", "wan"),
        "def late():\n    from reelign.recipes.offline.align import align": ("spriteworld", "pretrain"),
        "from ..training.policy import Policy": ("generators", "wan"),
        "from reelign.evaluation import evaluate": ("recipes", "offline"),
        "from reelign.spriteworld.world import render": ("recipes", "judging"),
        "from reelign.diffusion import flow": ("video", "files"),
        "import reelign": ("training", "policy"),
        "from reelign.critics import open_critic": ("rewards", "compose"),
        "from reelign.rewards import open_reward": ("generators", "wan"),
    }
    for code, module in climbing.items():
        assert climbs(code, module), code
    falling = {
        "from reelign.errors import ReelignError": ("records", "votes"),
        "from reelign.training import Policy\nfrom reelign.recipes.generation import generate": ("recipes", "offline"),
        "from .files import read_video": ("video", "sheets"),
        "from reelign import __version__": ("evaluation", "card"),
        "import torch": ("objectives", "dpo"),
        "from reelign.rewards.qwen_vision import look": ("critics", "local"),
    }
    for code, module in falling.items():
        assert not climbs(code, module), code
