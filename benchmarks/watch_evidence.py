"""A reward that can be hacked, and the watch that ends the run, on the small world: the table in docs/evidence.md.

    python benchmarks/watch_evidence.py --folder watch               # all that is not done yet, then the table
    python benchmarks/watch_evidence.py --folder watch --seeds 0     # of one training seed
    python benchmarks/watch_evidence.py --folder watch --table-only

Online DPO climbs the sharpness of the frames, which noise raises as detail does; the true judges are held out of
training and in the watch's eyes. Beside it the true judges train, once as hot and once at half the learning rate with a
fixed reference, and what single frames tell is held out.
The watch's prompts are neither trained on nor evaluated on, so that choosing the best look favours none.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import yaml
from evidence import merged, train_and_evaluate
from evidence_table import write_table

from reelign import stages
from reelign.errors import ReelignError
from reelign.files import write_text
from reelign.spriteworld.prompts import train_captions

TRUE = "reelign.spriteworld.reward:SpriteReward"
STILLS = "feedback_oracles:StillTruth"
EVERY_NTH = 6
"""Of the small world's training captions one in so many is the watch's."""
SETTINGS: dict[str, Any] = {
    "generate": {"candidates": 6},
    "align": {
        "stream": "online",
        "judge": "reward:sharpness",
        "objective": {"name": "dpo", "beta": 100},
        "prompts": 4,
        "rollout": {"candidates": 6},
        "shift": 4,
        "reference": {"name": "curriculum", "every": 20},
        "trainer": {"steps": 80, "learning_rate": 1e-3, "checkpoint_every": 20, "keep_checkpoints": 1},
        "watch": {
            "every": 10,
            "count": 18,
            "seeds": 4,
            "held_out": [TRUE],
            "proxies": ["dynamic-degree", "colour"],
            "batch_size": 36,
        },
        "trackers": [],
    },
    "evaluate": {"seeds": 6},
}
"""Hotter than `online_evidence.py`: the best against the worst alone, and a copy every 20 steps."""


@dataclass(frozen=True)
class Arm:
    """One way to train."""

    what: str
    settings: dict[str, Any] = field(default_factory=dict)


SOUND = {"judge": f"reward:{TRUE}", "watch": {"action": "roll_back", "held_out": [STILLS]}}
ARMS = {
    "sharp": Arm("sharpness as the reward, alarms alone"),
    "sharp-watched": Arm("sharpness as the reward, rolled back", {"watch": {"action": "roll_back"}}),
    "true-watched": Arm("the true judges as the reward, rolled back", SOUND),
    "true-fixed": Arm(
        "the same at half the learning rate and with a fixed reference",
        {**SOUND, "reference": {"name": "fixed"}, "trainer": {"learning_rate": 5e-4}},
    ),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=Path("watch"), help="where the seeds' workspaces are made")
    parser.add_argument("--seeds", default="0,1,2", help="training seeds, such as 0,2")
    parser.add_argument("--arms", default="", help="names of arms; all by default")
    parser.add_argument("--settings", type=Path, help="YAML over what the arms share, for a smaller trial")
    parser.add_argument("--table", type=Path, default=Path("docs/evidence.md"), help="written between its markers")
    parser.add_argument("--table-only", action="store_true")
    given = parser.parse_args()
    arms = {name: ARMS[name] for name in (given.arms.split(",") if given.arms else ARMS)}
    changed = yaml.safe_load(given.settings.read_text()) if given.settings else {}
    torch.set_num_threads(1)
    try:
        for seed in () if given.table_only else map(int, given.seeds.split(",")):
            run_seed(given.folder / f"seed-{seed}", seed, arms, merged(SETTINGS, changed))
        told = {name: f"{arm.what}{endings(given.folder, name)}" for name, arm in arms.items()}
        write_table(given.folder, told, given.table, name="watch", script="watch_evidence.py")
    except ReelignError as error:
        sys.exit(str(error))
    except KeyboardInterrupt:
        sys.exit("Stopped; the same command again goes on.")


def run_seed(folder: Path, seed: int, arms: dict[str, Arm], settings: dict[str, Any]) -> None:
    print(f"\n===== seed {seed}", flush=True)
    trained, watched = split(train_captions())
    prompts = folder.parent / "train.txt"
    write_text(prompts, "\n".join(trained))
    stages.init(folder, prompts=prompts)
    settings = merged(settings, {"align": {"watch": {"prompts": watched[: settings["align"]["watch"]["count"]]}}})
    write_text(folder / "reelign.yaml", yaml.safe_dump(settings, sort_keys=False))
    for name, arm in arms.items():
        train_and_evaluate(folder, name, {**arm.settings, "seed": seed})


def split(captions: list[str]) -> tuple[list[str], list[str]]:
    """What is trained on, and what the watch looks at, spread over all of them."""
    watched = captions[::EVERY_NTH]
    return [each for each in captions if each not in watched], watched


def endings(folder: Path, run: str) -> str:
    """Of each seed, in their order: the first alarm's step and where the run ended."""
    found = []
    for watch in sorted(folder.glob(f"seed-*/runs/{run}/watch")):
        looks = [json.loads(path.read_text()) for path in sorted(watch.glob("step-*.json"))]
        first = next((str(look["step"]) for look in looks if look["alarms"]), "none")
        end = (
            f"stopped at {looks[-1]['step']}, best look {looks[-1]['best']}" if looks[-1]["stopped"] else "not stopped"
        )
        found.append(f"first alarm {first}, {end}")
    return f" ({'; '.join(found)})" if found else ""


if __name__ == "__main__":
    main()
