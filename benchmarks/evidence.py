"""Every offline objective on the small world, each on true held-out reward: the table in docs/evidence.md.

    python benchmarks/evidence.py --folder evidence                   # all that is not done yet, then the table
    python benchmarks/evidence.py --folder evidence --seeds 0,2,4     # half of it; the other half in another process
    python benchmarks/evidence.py --folder evidence --table-only

Each training seed has a workspace: its candidates and votes are made once and serve all arms. An arm that is evaluated
is not run again, and one that was stopped goes on. Seeds 0 to 2 train every arm, 3 and 4 the headline arms alone.
By what the demo's stages take on a core (0.56 s a step of 16 pairs, 0.16 s a video) that is 3.3 hours of one core.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from evidence_drift import match_drift
from evidence_table import write_table

from reelign import stages
from reelign.errors import ReelignError
from reelign.files import write_text
from reelign.records import Workspace
from reelign.records.tables import write_columns

SCREENED, HEADLINE = (0, 1, 2), (3, 4)
"""Training seeds of every arm, and those that the headline arms get beside them."""
SETTINGS = {
    "generate": {"candidates": 6},
    "align": {
        "batch_size": 16,
        "shift": 4,
        "trainer": {
            "steps": 300,
            "learning_rate": 1e-3,
            "checkpoint_every": 50,
            "keep_checkpoints": 6,
            "ema_decay": 0.98,
        },
        "trackers": [],
    },
    "evaluate": {"seeds": 12},
}
"""What the arms share: the demo's own settings without its anchor, and fewer videos a prompt."""
REAL_CLIPS = 96


@dataclass(frozen=True)
class Arm:
    """One way to train."""

    what: str
    """For the table."""
    settings: dict[str, Any] = field(default_factory=dict)
    """Over those that all share."""
    headline: bool = False
    group: str = ""
    """Arms of one group are compared at the same distance from the base too."""


def dpo(beta: float, **changed: Any) -> dict[str, Any]:
    return {"objective": {"name": "dpo", "beta": beta, **changed}}


ARMS = {
    "sft-random": Arm("SFT on random own samples", {"objective": {"name": "sft", "on": "random"}}, headline=True),
    "sft-best": Arm("SFT on best samples", {"objective": {"name": "sft", "on": "chosen"}}, headline=True),
    "sft-worst": Arm("SFT on losing samples", {"objective": {"name": "sft", "on": "rejected"}}),
    "rwr": Arm("RWR", {"objective": {"name": "rwr"}}),
    "dpo-30": Arm("Flow-DPO, β 30", dpo(30), group="β"),
    "dpo-100": Arm("Flow-DPO, β 100", dpo(100), headline=True, group="β"),
    "dpo-300": Arm("Flow-DPO, β 300", dpo(300), group="β"),
    "dpo-scheduled": Arm("Flow-DPO, β 300·(1 − σ)²", dpo(300, schedule="one_minus_sigma_squared"), group="β"),
    "ipo-chosen": Arm("β 100, anchor on chosen 1", {**dpo(100), "anchors": {"chosen": 1.0}}),
    "ipo-both": Arm("β 100, anchors on chosen 1 and real 0.5", {**dpo(100), "anchors": {"chosen": 1.0, "real": 0.5}}),
    "kto-32": Arm("KTO, baseline over 32 videos", {"objective": {"name": "kto", "beta": 100}, "batch_size": 32}, True),
    "kto-4": Arm(
        "KTO, baseline over 4 videos, as many videos in all",
        # Eight times the steps at 1/√8 of the rate: Adam's way of the same length where gradients are noise.
        {
            "objective": {"name": "kto", "beta": 100},
            "batch_size": 4,
            "trainer": {"steps": 2400, "learning_rate": 1e-3 / 8**0.5, "checkpoint_every": 600, "ema_decay": 0.9975},
        },
    ),
    "full": Arm("β 100, all weights at a rate of 10⁻⁴", {**dpo(100), "lora": None, "trainer": {"learning_rate": 1e-4}}),
}
"""By the name of their runs; LoRA of rank 16 where nothing else is said."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=Path("evidence"), help="where the seeds' workspaces are made")
    parser.add_argument("--seeds", default="0,1,2,3,4", help="training seeds, such as 0,2,4")
    parser.add_argument("--arms", default="", help="names of arms; all by default")
    parser.add_argument("--prompts", type=Path, help="other training prompts than the small world's")
    parser.add_argument("--held-out", type=Path, help="other held-out prompts")
    parser.add_argument("--settings", type=Path, help="YAML over what the arms share, for a smaller trial")
    parser.add_argument("--table", type=Path, default=Path("docs/evidence.md"), help="written between its markers")
    parser.add_argument("--table-only", action="store_true")
    given = parser.parse_args()
    arms = {name: ARMS[name] for name in (given.arms.split(",") if given.arms else ARMS)}
    changed = yaml.safe_load(given.settings.read_text()) if given.settings else {}
    try:
        for seed in () if given.table_only else map(int, given.seeds.split(",")):
            folder = given.folder / f"seed-{seed}"
            stages.init(folder, prompts=given.prompts, held_out=given.held_out)
            run_seed(folder, seed, arms, merged(SETTINGS, changed))
        write_table(given.folder, {name: arm.what for name, arm in arms.items()}, given.table)
    except ReelignError as error:
        sys.exit(str(error))
    except KeyboardInterrupt:
        sys.exit("Stopped; the same command again goes on.")


def run_seed(folder: Path, seed: int, arms: dict[str, Arm], settings: dict[str, Any]) -> None:
    """Candidates, votes, and every arm that this seed trains, in a workspace that has its prompts."""
    print(f"\n===== seed {seed}", flush=True)
    wanted = {name: arm for name, arm in arms.items() if seed in SCREENED or arm.headline}
    workspace = Workspace.open(folder)
    write_text(folder / "reelign.yaml", yaml.safe_dump(settings, sort_keys=False))
    stages.generate(folder, seed=seed)
    if not workspace.judgements():
        stages.judge(folder, seed=seed)
    real = real_clips(folder)
    for name, arm in wanted.items():
        own = merged({"real": str(real)} if "real" in arm.settings.get("anchors", {}) else {}, arm.settings)
        train_and_evaluate(folder, name, {**own, "seed": seed})
    grouped = [name for name, arm in wanted.items() if arm.group]
    if len(grouped) > 1:
        for run in match_drift(Workspace.open(folder), grouped):
            evaluate(folder, run)


def train_and_evaluate(folder: Path, run: str, settings: dict[str, Any]) -> None:
    if not (folder / "runs" / run / stages.EVALUATION).exists():
        print(f"\n== {run}", flush=True)
        stages.align(folder, run=run, **settings)
        evaluate(folder, run)


def evaluate(folder: Path, run: str) -> None:
    if not (folder / "runs" / run / stages.EVALUATION).exists():
        stages.evaluate(folder, run=run)
        for state in (folder / "runs" / run).glob("checkpoints/*/optimiser.pt"):
            state.unlink()  # half of a run's size, and nothing goes on from here


def real_clips(folder: Path) -> Path:
    """Clean videos of the small world's training captions, and the table that names them."""
    import torch

    from reelign.spriteworld.prompts import captions, train_captions
    from reelign.spriteworld.world import FPS, render, sample_scenes
    from reelign.video import write_video

    table = folder / "real" / "real.csv"
    if not table.exists():
        scenes = sample_scenes(4 * REAL_CLIPS, torch.Generator().manual_seed(0))
        texts, known, rows = captions(scenes.attributes), set(train_captions()), []
        for number, (text, video) in enumerate(zip(texts, render(scenes), strict=True)):
            if text in known and len(rows) < REAL_CLIPS:
                write_video(table.parent / f"{number}.mp4", video, FPS)
                rows.append((text, f"{number}.mp4"))
        write_columns(table, {"prompt": [text for text, _ in rows], "video": [name for _, name in rows]})
    return table.resolve()


def merged(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """`over` on top of `base`, dict by dict."""
    both = {**base, **over}
    return {
        key: merged(base[key], over[key])
        if isinstance(base.get(key), dict) and isinstance(over.get(key), dict)
        else value
        for key, value in both.items()
    }


if __name__ == "__main__":
    main()
