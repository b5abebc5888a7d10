"""The demo over several seeds, with its controls and its pairs as files; every run ends up in one Markdown table.

    python benchmarks/ten_seeds.py --folder ten-seeds --seeds 0-10 --table docs/ten-seeds.md

Each seed has a folder of its own. Stopped, the same command goes on; a seed that is done is not run again. What must
be the same for all seeds is hashed when a seed begins, and a seed that was begun with something else is refused.
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from ten_seeds_table import FAILED, FILES, FIXED, LOOP, RESULT, has_controls, write_table

import reelign.spriteworld
from reelign.errors import ReelignError
from reelign.files import write_text
from reelign.opening import SECTIONS, WORKSPACE_CONFIG, settings_of
from reelign.records import Workspace

COMMAND = Path(sys.executable).parent / "reelign"
WORLD = Path(reelign.spriteworld.__path__[0])
HASHED = {
    "base weights": ("pipeline/**/*.safetensors",),
    "judges": ("judges.py", "people.py", "measures.py"),
    "data mix": ("world.py", "prompts.py"),
}
"""What was fixed before the first seed, as files of the small world."""
FIRST_ORDER = (Path(__file__).parent / "ten_seeds_fields.txt").read_text().split()
FIRST_FIELDS = frozenset(FIRST_ORDER)
"""The settings that there were when the first table was begun."""

Command = Callable[..., None]


@dataclasses.dataclass(frozen=True)
class Seeds:
    """What is run for which seeds."""

    loop: list[int]
    controls: list[int]
    files: list[int]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=Path("ten-seeds"), help="where the seeds' folders are made")
    parser.add_argument("--seeds", default="0-10", help="such as 0-10 or 1,2,5; 0 is the demo's default")
    parser.add_argument("--controls", default="0-10", help="seeds that run the controls too")
    parser.add_argument("--files", default="0-10", help="seeds whose pairs also go out as files and come back in")
    parser.add_argument("--table", type=Path, default=Path("docs/ten-seeds.md"))
    parser.add_argument("--prompts", type=Path, help="other training prompts than the small world's")
    parser.add_argument("--held-out", type=Path, help="other held-out prompts")
    parser.add_argument("--settings", type=Path, help="a reelign.yaml for every workspace")
    given = parser.parse_args()
    try:
        chosen = Seeds(*(seeds_in(text) for text in (given.seeds, given.controls, given.files)))
        run_seeds(given.folder, chosen, given.prompts, given.held_out, given.settings)
        write_table(given.folder, given.table)
    except (ReelignError, RuntimeError) as error:
        sys.exit(str(error))
    except KeyboardInterrupt:
        sys.exit("Stopped; the same command again goes on.")


def seeds_in(text: str) -> list[int]:
    """`0-3,7` -> [0, 1, 2, 3, 7]; the empty text names none."""
    ends = [part.partition("-") for part in text.split(",") if part]
    return [seed for first, _, last in ends for seed in range(int(first), int(last or first) + 1)]


def reelign_command(*words: object) -> None:
    """A command in a process of its own, so that its memory is its own too."""
    done = subprocess.run([COMMAND, *map(str, words)], stderr=subprocess.PIPE, text=True, check=False)
    if done.returncode < 0 or done.returncode == 130:
        raise KeyboardInterrupt
    if done.returncode:
        raise RuntimeError(done.stderr.strip()[-2000:])


def run_seeds(
    folder: Path,
    seeds: Seeds,
    prompts: Path | None,
    held_out: Path | None,
    settings: Path | None,
    command: Command = reelign_command,
) -> None:
    """Run what is not done yet. A seed that fails is noted with its reason, and the next is run."""
    for seed in seeds.loop:
        own, controls = folder / f"seed-{seed}", seed in seeds.controls
        arms = [LOOP, *([FILES] if seed in seeds.files else [])]
        if all((own / arm / RESULT).exists() for arm in arms) and (not controls or has_controls(own / LOOP / RESULT)):
            print(f"seed {seed} is done", flush=True)
            continue
        print(f"\n===== seed {seed}", flush=True)
        for arm in arms:
            _make_workspace(own / arm, prompts, held_out, settings, command)
        _check_fixed(own)
        try:
            command("demo", own / LOOP, "--seed", seed, *(["--controls"] if controls else []))
            if FILES in arms:
                _run_files(own, seed, command)
        except RuntimeError as error:
            print(error, file=sys.stderr)
            write_text(own / FAILED, str(error))
        else:
            (own / FAILED).unlink(missing_ok=True)


def _make_workspace(
    workspace: Path, prompts: Path | None, held_out: Path | None, settings: Path | None, command: Command
) -> None:
    options = [
        word for name, path in (("--prompts", prompts), ("--held-out", held_out)) if path for word in (name, path)
    ]
    command("init", workspace, *options)
    if settings:
        shutil.copyfile(settings, workspace / WORKSPACE_CONFIG)


def _run_files(own: Path, seed: int, command: Command) -> None:
    """The demo's pairs as mp4 files in a fresh workspace that knows nothing else of it."""
    pairs = own / "pairs.csv"
    command("export", pairs, "-w", own / LOOP)
    command("align", "-w", own / FILES, "--pairs", pairs, f"seed={seed}")
    command("evaluate", "-w", own / FILES)
    command("report", "-w", own / FILES)


def _check_fixed(own: Path) -> None:
    """Note what this seed runs with, or refuse to go on with something else than it began with."""
    now, path = fixed(own / LOOP), own / FIXED
    if not path.exists():
        write_text(path, json.dumps(now, indent=1))
    then = json.loads(path.read_text())
    if changed := [name for name in now if then[name] != now[name]]:
        raise ReelignError(
            f"{own} was begun with other {', '.join(changed)}.", "Remove that folder to run its seed again."
        )


def fixed(workspace: Path) -> dict[str, str]:
    """Hashes of what must not change between seeds."""
    opened = Workspace.open(workspace)
    # Sections that were added later and say nothing of their own refuse no seed either.
    config = {name: said for name in SECTIONS if (said := told(settings_of(opened, name), name))}
    prompts = {split: [prompt.text for prompt in opened.prompts(split)] for split in ("train", "held_out")}
    found = {name: _hash_files(patterns) for name, patterns in HASHED.items()}
    return {**found, "prompts": _hash(json.dumps(prompts)), "config": _hash(json.dumps(config, default=str))}


def told(settings: Any, path: str) -> dict[str, Any]:
    """Settings as a nested dict: all that there were at first, of later ones those that differ from their defaults.

    A setting that is added must not refuse the seeds run before it: its default is what the code did without it. The
    first ones stand there at their defaults too, so that a default that is changed is seen, and in the order they had.
    """
    found = {}
    place = {key: number for number, key in enumerate(FIRST_ORDER)}
    for field in sorted(dataclasses.fields(settings), key=lambda each: place.get(f"{path}.{each.name}", len(place))):
        value, key = getattr(settings, field.name), f"{path}.{field.name}"
        default = field.default if field.default_factory is dataclasses.MISSING else field.default_factory()
        if key in FIRST_FIELDS or value != default:
            found[field.name] = told(value, key) if dataclasses.is_dataclass(value) else value
    return found


def _hash_files(patterns: Iterable[str]) -> str:
    digest = hashlib.sha256()
    for path in sorted(path for pattern in patterns for path in WORLD.glob(pattern)):
        digest.update(path.relative_to(WORLD).as_posix().encode() + path.read_bytes())
    return digest.hexdigest()[:16]


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


if __name__ == "__main__":
    main()
