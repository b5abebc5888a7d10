"""Reward gradients on the small world: truth against reward queries and compute, and what a learned reward does.

    python benchmarks/reward_gradient_evidence.py --folder gradients                 # what is not done yet, the tables
    python benchmarks/reward_gradient_evidence.py --folder gradients --seeds 0,2,4   # half of it
    python benchmarks/reward_gradient_evidence.py --folder gradients --table-only

Three questions in small: VADER's Figure 7 (arXiv:2407.08737: truth on unseen prompts against reward queries and
compute, for reward gradients, online and offline DPO, all of the same true reward), its Table 1 (trained and unseen
prompts), and OnlineVPO's Figure 7 (arXiv:2412.15159: ReFL with a learned reward rises and falls), with the anchors that
shall help.

Each training seed has a workspace. An arm that is evaluated is not run again, and one that was stopped goes on. Seeds 0
to 2 train every arm, 3 and 4 the headline arms alone.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import yaml
from evidence import HEADLINE, SCREENED, merged, real_clips
from reward_gradient_plot import draw, draw_frames
from reward_gradient_table import CANDIDATES, write_tables
from small_reward import fit

from reelign import stages
from reelign.errors import ReelignError
from reelign.files import write_text
from reelign.records import Workspace
from reelign.spriteworld.judges import scores
from reelign.video import read_video

TRUE = "reelign.spriteworld.reward:SpriteReward"
LEARNED = "small_reward:SmallReward"
WATCH = {"every": 15, "count": 18, "seeds": 2, "shown": 0, "batch_size": 36, "proxies": ["dynamic-degree"]}
SETTINGS: dict[str, Any] = {
    "generate": {"candidates": 6},
    "align": {
        "trackers": [],
        "lora": {"rank": 16, "alpha": 16},
        "trainer": {"steps": 60, "learning_rate": 5e-4, "checkpoint_every": 15, "keep_checkpoints": 1},
    },
    "evaluate": {"seeds": 8},
}
"""What the arms share. Chosen on seed 0: at 1e-3 and K = 1 the reward fell. The last of ten steps moves a video too
little for its gradient to stand out from chance: the mean cosine of two batches' gradients is 0.06, of K = 5 0.24."""
TRAINED = 3
"""Videos of each trained prompt, of which there are three times as many as unseen ones."""
GRADIENT = {"stream": "reward_gradient", "reward": {"name": TRUE}, "batch_size": 8, "watch": WATCH}


@dataclass(frozen=True)
class Arm:
    """One way to learn from a reward."""

    what: str
    """For the tables."""
    settings: dict[str, Any] = field(default_factory=dict)
    headline: bool = False
    learned: bool = False
    """Whether it climbs the learned reward, and the true one is what it does not see."""


def climbs(**changed: Any) -> dict[str, Any]:
    return merged(GRADIENT, changed)


def last(steps: int) -> dict[str, Any]:
    return {"name": "last", "steps": steps}


ONE_STEP = {"name": "one_step", "window": [0.5, 1.0]}
LONG = {"trainer": {"steps": 120}}
"""For a reward to fall after it rose."""
ARMS = {
    "k1": Arm("reward gradient, K = 1", climbs(gradient=last(1))),
    "k2": Arm("reward gradient, K = 2", climbs(gradient=last(2))),
    "k5": Arm("reward gradient, K = 5", climbs(gradient=last(5)), headline=True),
    "k5-frames": Arm("K = 5, 5 of 17 frames", climbs(gradient=last(5), frames={"count": 5})),
    "k5-window": Arm("K = 5, a window of 5 frames", climbs(gradient=last(5), frames={"count": 5, "how": "window"})),
    "renoised": Arm("last step from 2 noisings", climbs(gradient={"name": "renoised", "times": 2})),
    "refl": Arm("one-step estimate (ReFL)", climbs(gradient=ONE_STEP)),
    "online-dpo": Arm(
        "online DPO, 6 candidates",
        {
            "stream": "online",
            "objective": {"name": "dpo", "beta": 100},
            "judge": f"reward:{TRUE}",
            "reward": {"dimensions": ["overall"]},
            "prompts": 4,
            "selection": {"top": 3},
            "reuse": 2,
            "shift": 4,
            "reference": {"name": "curriculum", "every": 40},
            "trainer": {"steps": 120, "checkpoint_every": 20, "ema_decay": 0.95},
            "watch": WATCH,
        },
        headline=True,
    ),
    "offline-dpo": Arm(
        "offline DPO, 9 videos of the base a prompt",
        {
            "objective": {"name": "dpo", "beta": 100},
            "shift": 4,
            "batch_size": 16,
            "weights": {"overall": 1.0},
            "trainer": {"steps": 300, "learning_rate": 1e-3, "ema_decay": 0.98},
        },
        headline=True,
    ),
    "learned": Arm("ReFL, learned reward", climbs(gradient=ONE_STEP, **LONG), headline=True, learned=True),
    "learned-reference": Arm(
        "the same, distance to the base 1",
        climbs(gradient=ONE_STEP, objective={"reference": 1.0}, **LONG),
        learned=True,
    ),
    "learned-data": Arm(
        "the same, real clips 1", climbs(gradient=ONE_STEP, data_anchor=1.0, shift=4, **LONG), learned=True
    ),
    "learned-cap": Arm(
        "the same, capped at 1", climbs(gradient=ONE_STEP, objective={"cap": 1.0}, **LONG), learned=True
    ),
}
"""By the name of their runs."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=Path("gradients"), help="where the seeds' workspaces are made")
    parser.add_argument("--seeds", default="0,1,2,3,4", help="training seeds, such as 0,2,4")
    parser.add_argument("--arms", default="", help="names of arms; all by default")
    parser.add_argument("--prompts", type=Path, help="other training prompts than the small world's")
    parser.add_argument("--held-out", type=Path, help="other held-out prompts")
    parser.add_argument("--settings", type=Path, help="YAML over what the arms share, for a smaller trial")
    parser.add_argument(
        "--page", type=Path, default=Path("docs/evidence.md"), help="written between its markers; images/ beside it"
    )
    parser.add_argument("--table-only", action="store_true")
    given = parser.parse_args()
    arms = {name: ARMS[name] for name in (given.arms.split(",") if given.arms else ARMS)}
    changed = yaml.safe_load(given.settings.read_text()) if given.settings else {}
    torch.set_num_threads(1)
    try:
        for seed in () if given.table_only else map(int, given.seeds.split(",")):
            folder = given.folder / f"seed-{seed}"
            stages.init(folder, prompts=given.prompts, held_out=given.held_out)
            run_seed(folder, seed, arms, merged(SETTINGS, changed))
        named = {name: (arm.what, arm.learned) for name, arm in arms.items()}
        write_tables(given.folder, named, given.page)
        pictures = given.page.parent / "images"
        draw(given.folder, named, pictures / "reward-gradients.png")
        draw_frames(given.folder, named, pictures / "reward-gradients-frames.png")
    except ReelignError as error:
        sys.exit(str(error))
    except KeyboardInterrupt:
        sys.exit("Stopped; the same command again goes on.")


def run_seed(folder: Path, seed: int, arms: dict[str, Arm], settings: dict[str, Any]) -> None:
    """Every arm that this seed trains, with the candidates and the learned reward that some of them need."""
    assert seed in (*SCREENED, *HEADLINE), f"seeds are {SCREENED} and {HEADLINE}"
    print(f"\n===== seed {seed}", flush=True)
    write_text(folder / "reelign.yaml", yaml.safe_dump(settings, sort_keys=False))
    for name, arm in arms.items():
        if seed in HEADLINE and not arm.headline:
            continue
        if (folder / "runs" / name / "evaluation-train.json").exists():
            continue
        print(f"\n== {name}", flush=True)
        stages.align(folder, run=name, seed=seed, **prepared(folder, seed, arm))
        evaluate(folder, name)


def prepared(folder: Path, seed: int, arm: Arm) -> dict[str, Any]:
    """An arm's settings, with what they name made where it is missing."""
    found = arm.settings
    if "stream" not in found:
        judged(folder, seed)
    if arm.learned:
        model = learned_reward(folder, seed)
        watch = {**WATCH, "held_out": [TRUE]}
        found = merged(found, {"reward": {"name": LEARNED, "options": {"model": str(model)}}, "watch": watch})
    if found.get("data_anchor"):
        found = merged(found, {"real": str(real_clips(folder))})
    return found


def judged(folder: Path, seed: int) -> None:
    """Candidates of the base, each with its true scores: what offline methods learn from."""
    stages.generate(folder, seed=seed)
    if not Workspace.open(folder).judgements():
        stages.judge(folder, judge=f"reward:{TRUE}", reward={"dimensions": ["overall"]}, seed=seed)
    videos = Workspace.open(folder).videos("train", "")
    write_text(folder / CANDIDATES, json.dumps({"judged": len(videos)}))


def learned_reward(folder: Path, seed: int) -> Path:
    """A small network fitted to half of the candidates' true scores."""
    path = (folder / "learned" / "reward.safetensors").resolve()
    if not path.exists():
        stages.generate(folder, seed=seed)
        workspace = Workspace.open(folder)
        texts = {prompt.id: prompt.text for prompt in workspace.prompts("train")}
        videos = [video for video in workspace.videos("train", "") if video.index % 2 == 0]
        seen = torch.stack([read_video(workspace.video_path(video)).frames for video in videos])
        prompts = [texts[video.prompt_id] for video in videos]
        truth = torch.stack(list(scores(seen, prompts).values())).mean(dim=0)
        order = torch.randperm(len(seen), generator=torch.Generator().manual_seed(seed))
        correlation = fit(seen[order], [prompts[place] for place in order.tolist()], truth[order], path, seed=seed)
        write_text(path.with_suffix(".json"), json.dumps({"videos": len(seen), "correlation": correlation}))
        print(f"learned reward: correlation {correlation:.2f} on videos of the base that it did not see", flush=True)
    return path


def evaluate(folder: Path, run: str) -> None:
    """On unseen prompts, and on those that were trained on."""
    own = folder / "runs" / run
    for split in ("held_out", "train"):
        kept = own / f"evaluation-{split}.json"
        if not kept.exists():
            stages.evaluate(folder, run=run, split=split, **({"seeds": TRAINED} if split == "train" else {}))
            os.replace(own / stages.EVALUATION, kept)


if __name__ == "__main__":
    main()
