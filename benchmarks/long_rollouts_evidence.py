"""Long rollouts on the small world: what a reward's gradient over the joints does to videos of three segments.

    python benchmarks/long_rollouts_evidence.py --folder long                   # what is not done yet, then the table
    python benchmarks/long_rollouts_evidence.py --folder long --seeds 0         # a third of it
    python benchmarks/long_rollouts_evidence.py --folder long --table-only

In small what VADER does to Stable Video Diffusion (arXiv:2407.08737, its image-to-video task): each segment goes on
from the last frame of the one before, and V-JEPA's masked prediction over the joints is the reward; beside it the true
judge of motion over the same windows. The gradient goes through the last segment alone, or through all.

The image-to-video model (`small_i2v`) and the V-JEPA 2 (`small_vjepa`) are made once for all training seeds. Each seed
has a workspace with images of its own; an arm that is measured is not run again, and one that was stopped goes on.
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
from evidence import merged
from long_measures import measures
from long_rollouts_table import MEASURED, draw_joints, write_table
from small_i2v import FRAMES, SEGMENTS, make_model, model_check, write_prompts
from small_vjepa import WINDOW, make_vjepa

from reelign import stages
from reelign.errors import ReelignError
from reelign.files import write_text
from reelign.records import Workspace
from reelign.rewards.vjepa2 import VJEPA2Consistency
from reelign.video import read_video

TRUE = "reelign.spriteworld.reward:SpriteReward"
SETTINGS: dict[str, Any] = {
    "generate": {"segments": SEGMENTS, "batch_size": 36},
    "align": {
        "stream": "reward_gradient",
        "trackers": [],
        "batch_size": 6,
        "lora": {"rank": 16, "alpha": 16},
        "gradient": {"name": "last", "steps": 3},
        "rollout": {"num_inference_steps": 6},
        "trainer": {
            "steps": 24,
            "learning_rate": 7e-4,
            "ema_decay": 0.9,
            "checkpoint_every": 8,
            "keep_checkpoints": 1,
        },
    },
    "evaluate": {"seeds": 2},
}
"""What the arms share. Rollouts of training take 6 steps of the sampler, finished videos the model's ten."""


@dataclass(frozen=True)
class Arm:
    """One way to climb."""

    what: str
    """For the table."""
    settings: dict[str, Any] = field(default_factory=dict)
    vjepa: bool = False


def over_joints(which: str, reward: str, **options: Any) -> dict[str, Any]:
    """The reward of windows over all joints or the last."""
    clip = {"segments": SEGMENTS, "segment_frames": FRAMES, "frames": WINDOW, "which": which}
    return {"reward": {"name": "joints", "options": {"reward": reward, **options, **clip}}}


ARMS = {
    "vjepa-all": Arm("V-JEPA 2, through all", {"through": "all", **over_joints("all", "vjepa2")}, vjepa=True),
    "motion-all": Arm("true MQ, through all", {"through": "all", **over_joints("all", TRUE, dimension="MQ")}),
    "vjepa-last": Arm("V-JEPA 2, through the last", over_joints("last", "vjepa2"), vjepa=True),
    "motion-last": Arm("true MQ, through the last", over_joints("last", TRUE, dimension="MQ")),
}
"""By the name of their runs."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=Path("long"), help="where models and workspaces are made")
    parser.add_argument("--seeds", default="0,1,2", help="training seeds, such as 0,2")
    parser.add_argument("--arms", default="", help="names of arms; all by default")
    parser.add_argument("--settings", type=Path, help="YAML over what the arms share, for a smaller trial")
    parser.add_argument("--table", type=Path, default=Path("docs/evidence.md"), help="written between its markers")
    parser.add_argument("--picture", type=Path, help="a PNG of joints before and after to write")
    parser.add_argument("--table-only", action="store_true")
    given = parser.parse_args()
    arms = {name: ARMS[name] for name in (given.arms.split(",") if given.arms else ARMS)}
    changed = yaml.safe_load(given.settings.read_text()) if given.settings else {}
    torch.set_num_threads(1)
    try:
        for seed in () if given.table_only else map(int, given.seeds.split(",")):
            run_seed(given.folder, seed, arms, merged(SETTINGS, changed))
        told = {name: arm.what for name, arm in arms.items()}
        write_table(given.folder, told, given.table)
        if given.picture:
            draw_joints(given.folder, told, given.picture)
    except ReelignError as error:
        sys.exit(str(error))
    except KeyboardInterrupt:
        sys.exit("Stopped; the same command again goes on.")


def run_seed(folder: Path, seed: int, arms: dict[str, Arm], settings: dict[str, Any]) -> None:
    """Every arm of a seed that is not measured yet."""
    model, vjepa = make_model(folder / "i2v"), make_vjepa(folder / "vjepa")
    model_check(folder / "i2v")
    own = folder / f"seed-{seed}"
    train, held_out = write_prompts(own / "prompts", seed)
    stages.init(own, model=str(model), prompts=train, held_out=held_out)
    write_text(own / "reelign.yaml", yaml.safe_dump(settings, sort_keys=False))
    for name, arm in arms.items():
        if not (own / "runs" / name / MEASURED).exists():
            print(f"\n===== seed {seed}, {name}", flush=True)
            stages.align(own, run=name, seed=seed, **prepared(arm, vjepa))
            stages.evaluate(own, run=name)
            measure(own, name, vjepa)


def prepared(arm: Arm, vjepa: Path) -> dict[str, Any]:
    """An arm's settings with the model that they name."""
    if not arm.vjepa:
        return arm.settings
    opened = {"model": str(vjepa), "frames": WINDOW, "num_masks": 4}
    return merged(arm.settings, {"reward": {"options": {"options": opened}}})


def measure(folder: Path, run: str, vjepa: Path) -> None:
    """What happens at the joints of base and aligned, by other masks than the reward's, beside the run; of the base's
    videos, which are the same for all runs, it is found once."""
    workspace, place = Workspace.open(folder), folder / "runs" / run
    told = json.loads((place / stages.EVALUATION).read_text())
    assert not told["failed"], f"samples of {run} failed: {told['failed']}"
    videos = {video.id: video for video in workspace.videos("held_out")}
    texts = {prompt.id: prompt.text for prompt in workspace.prompts("held_out")}
    eyes = VJEPA2Consistency(model=str(vjepa), frames=WINDOW, num_masks=4, seed=1)

    def measured(ids: list[str]) -> dict[str, list[float]]:
        own = [videos[each] for each in ids]
        clips = torch.stack([read_video(workspace.video_path(each)).frames for each in own])
        values = measures(clips, [texts[each.prompt_id] for each in own], eyes)
        return {name: value.tolist() for name, value in values.items()}

    of_base = folder / "base.json"
    if not of_base.exists():
        write_text(of_base, json.dumps(measured(told["base"])))
    sides = {"base": json.loads(of_base.read_text()), "aligned": measured(told["aligned"])}
    write_text(place / MEASURED, json.dumps({"prompts": told["comparison"]["prompts"], **sides}))


if __name__ == "__main__":
    main()
