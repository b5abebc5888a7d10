"""Online alignment on the small world, each arm on true held-out reward: the table in docs/evidence.md.

    python benchmarks/online_evidence.py --folder online                     # all that is not done yet, then the table
    python benchmarks/online_evidence.py --folder online --seeds 0,2,4       # half of it; the other half beside it
    python benchmarks/online_evidence.py --folder online --table-only

Online against offline at equal pairs and equal steps; references with the true judge and with a learned one that can be
hacked; one dimension against several; anchors; sources of feedback. Each training seed has a workspace. An arm that is
evaluated is not run again, and one that was stopped goes on. Seeds 0 to 2 train every arm, 3 and 4 the headline arms.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import yaml
from evidence import HEADLINE, SCREENED, merged, train_and_evaluate
from evidence_table import write_table
from reward_gradient_evidence import LEARNED, TRUE, learned_reward
from watch_evidence import split

from reelign import stages
from reelign.errors import ReelignError
from reelign.files import write_text
from reelign.spriteworld.prompts import train_captions

SETTINGS: dict[str, Any] = {
    "generate": {"candidates": 6},
    "align": {
        "stream": "online",
        "judge": f"reward:{TRUE}",
        "objective": {"name": "dpo", "beta": 100},
        "prompts": 4,
        "rollout": {"candidates": 6},
        "selection": {"top": 3},
        "reuse": 2,
        "shift": 4,
        "reference": {"name": "curriculum", "every": 40},
        "trainer": {
            "steps": 120,
            "learning_rate": 5e-4,
            "checkpoint_every": 20,
            "keep_checkpoints": 1,
            "ema_decay": 0.95,
        },
        "trackers": [],
    },
    "evaluate": {"seeds": 8},
}
"""What the arms share. Sampling is nearly all of the cost, so that every candidate is in a pair and trains twice.
Chosen on seed 0 before any arm was run in full: at 1e-3, on the best and the worst alone and with a copy every 20
steps, the policy darkens its frames until nothing else is left of them (the watch's study shows it)."""
FIXED = {"name": "fixed"}
EMA, GATED = {"name": "ema", "decay": 0.975}, {"name": "gated", "every": 40, "level": 0.9}
STILLS = "feedback_oracles:StillTruth"
"""What single frames tell: the gate's judge where training sees the whole truth."""


@dataclass(frozen=True)
class Arm:
    """One way to train."""

    what: str
    """For the table."""
    settings: dict[str, Any] = field(default_factory=dict)
    headline: bool = False
    learned: bool = False
    """Whether the judge is the learned reward, and the gate's the true one."""


def gate(held_out: str) -> dict[str, Any]:
    """On captions that are neither trained nor evaluated on, so that what is let through is no luck of theirs."""
    watched = split(train_captions())[1]
    watch = {"held_out": [held_out], "prompts": watched, "proxies": [], "seeds": 2, "shown": 0, "batch_size": 36}
    return {"reference": GATED, "watch": watch}


def listens(*dimensions: str, **changed: Any) -> dict[str, Any]:
    return {"selection": {"weights": dict.fromkeys(dimensions, 1.0), **changed}}


def source(reward: str, **use: Any) -> dict[str, Any]:
    return {"judge": f"reward:{reward}", "reward": use}


ARMS = {
    "offline": Arm("offline: pairs of the base", {"rollouts": "base", "reference": FIXED}, headline=True),
    "fixed": Arm("online, reference fixed", {"reference": FIXED}, headline=True),
    "curriculum": Arm("online, a copy every 40 steps", {}, headline=True),
    "ema": Arm("online, EMA 0.975", {"reference": EMA}),
    "gated": Arm("online, gated by what stills tell", gate(STILLS)),
    "learned-fixed": Arm("learned judge, reference fixed", {"reference": FIXED}, headline=True, learned=True),
    "learned-curriculum": Arm("learned judge, a copy every 40 steps", {}, headline=True, learned=True),
    "learned-ema": Arm("learned judge, EMA 0.975", {"reference": EMA}, learned=True),
    "learned-gated": Arm("learned judge, gated by the true one", gate(TRUE), learned=True),
    "learned-base": Arm(
        "learned judge, a copy every 40 steps, distance to the base 1", {"distance": {"anchor": 1.0}}, learned=True
    ),
    "learned-chosen": Arm(
        "learned judge, a copy every 40 steps, anchor on chosen 1", {"anchors": {"chosen": 1.0}}, learned=True
    ),
    "vq": Arm("visual quality alone", listens("VQ")),
    "mq": Arm("motion quality alone", listens("MQ")),
    "ta": Arm("text alignment alone", listens("TA")),
    "agreement": Arm("agreement of all three", listens("VQ", "MQ", "TA", feedback="agreement")),
    "base-anchor": Arm("distance to the base 1", {"distance": {"anchor": 1.0}}),
    "chosen-anchor": Arm("anchor on chosen 1", {"anchors": {"chosen": 1.0}}),
    "unguided": Arm("sampled without guidance", {"rollout": {"guidance_scale": 1.0}}),
    "stills": Arm("judged by single frames", source(STILLS)),
    "people": Arm("judged by one noisy person", source("feedback_oracles:NoisyTruth", options={"sharpness": 12.0})),
    "vague": Arm("judged by a noisier person", source("feedback_oracles:NoisyTruth", options={"sharpness": 4.0})),
}
"""By the name of their runs; the true judge's mean and a copy every 40 steps where nothing else is said."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=Path("online"), help="where the seeds' workspaces are made")
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
    torch.set_num_threads(1)
    try:
        for seed in () if given.table_only else map(int, given.seeds.split(",")):
            folder = given.folder / f"seed-{seed}"
            prompts = given.prompts or given.folder / "train.txt"
            if given.prompts is None:
                write_text(prompts, "\n".join(split(train_captions())[0]))
            stages.init(folder, prompts=prompts, held_out=given.held_out)
            run_seed(folder, seed, arms, merged(SETTINGS, changed))
        told = {name: arm.what for name, arm in arms.items()}
        write_table(given.folder, told, given.table, name="online", script="online_evidence.py")
    except ReelignError as error:
        sys.exit(str(error))
    except KeyboardInterrupt:
        sys.exit("Stopped; the same command again goes on.")


def run_seed(folder: Path, seed: int, arms: dict[str, Arm], settings: dict[str, Any]) -> None:
    """Every arm that this seed trains, in a workspace that has its prompts."""
    assert seed in (*SCREENED, *HEADLINE), f"seeds are {SCREENED} and {HEADLINE}"
    print(f"\n===== seed {seed}", flush=True)
    write_text(folder / "reelign.yaml", yaml.safe_dump(settings, sort_keys=False))
    for name, arm in arms.items():
        if seed in SCREENED or arm.headline:
            train_and_evaluate(folder, name, {**prepared(folder, seed, arm), "seed": seed})


def prepared(folder: Path, seed: int, arm: Arm) -> dict[str, Any]:
    """An arm's settings, with the learned reward made where it is missing."""
    if not arm.learned:
        return arm.settings
    model = learned_reward(folder, seed)
    return merged(source(LEARNED, options={"model": str(model)}), arm.settings)


if __name__ == "__main__":
    main()
