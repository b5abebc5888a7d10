"""What reward guidance changes on the small world, on true held-out scores: the tables in docs/evidence.md.

    python benchmarks/guidance_evidence.py --folder guidance             # all that is not done yet, then the tables
    python benchmarks/guidance_evidence.py --folder guidance --seeds 1   # one training seed
    python benchmarks/guidance_evidence.py --folder guidance --table-only

Each training seed has a workspace with candidates, rendered clips of the world, votes of simulated people on both, a
noise-aware latent reward, a clean-latent one, and an aligned adapter, which learns from the candidates alone. An arm
compares the same prompts and noise without and with guidance. Seeds 0 to 2 take every arm and the searches, 3 and 4 the
headline arms alone. What is done is not done again, and what was stopped goes on.
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import yaml
from evidence import HEADLINE, SCREENED, merged
from guidance_table import write_guidance_tables
from rendered_clips import add_clips, judgements_of

from reelign import latent_stages, stages
from reelign.diffusion.seeds import generator_from, seed_from
from reelign.errors import ReelignError
from reelign.files import write_text
from reelign.generators import Generator
from reelign.opening import load_model, settings_of
from reelign.recipes.candidates import Candidates
from reelign.recipes.sampling import Sampling
from reelign.records import Workspace
from reelign.spriteworld.judges import scores
from reelign.training.latent_guide import GuideSettings
from reelign.training.latent_reward import LatentReward
from reelign.training.latent_reward_files import load_latent_reward
from reelign.training.latent_search import SearchSettings, best_of

SETTINGS = {
    "generate": {"candidates": 8},
    "align": {"objective": {"name": "dpo", "beta": 100}, "anchors": {"chosen": 1}, "shift": 4, "trackers": []},
    "latent_reward": {
        "blocks": 2,
        "epochs": 0,
        "micro_batch_size": 32,
        "trainer": {
            "steps": 400,
            "learning_rate": 3e-4,
            "warmup_steps": 20,
            "schedule": "cosine",
            "checkpoint_every": 100,
        },
        "watch": {"held_out": 0.05, "every": 200},
    },
    "evaluate": {"seeds": 4},
}
RENDERED, CLIPS = "rendered", 16
"""What rendered clips are recorded under, and how many there are of each prompt: candidates of one good model differ
too little in motion for a few hundred votes to teach a reward anything of it."""
ADAPTER = {"trainer": {"steps": 300, "learning_rate": 1e-3, "ema_decay": 0.98}}
THIRD = {"VQ": 1 / 3, "MQ": 1 / 3, "TA": 1 / 3}
AXIS = (0.0, 0.5, 1.0)
SEARCHES = {
    "best of 8, all seen through": SearchSettings(candidates=8, keep=8),
    "best of 8, 2 of them seen through": SearchSettings(candidates=8, keep=2),
    "best of 12, 3 of them seen through": SearchSettings(candidates=12, keep=3),
    "one video": SearchSettings(candidates=1, keep=1),
}
"""The third takes as many denoiser calls as the first less a sixth, in steps of 10 with the look after 5."""


@dataclass(frozen=True)
class Arm:
    """One guidance."""

    what: str
    weights: dict[str, float]
    reward: str = "noisy"
    run: str = ""
    headline: bool = False
    guidance: dict[str, Any] = field(default_factory=dict)


ARMS = {
    **{f"{name}-only": Arm(f"{name} 1", {name: 1.0}, headline=True) for name in THIRD},
    **{f"{name}-clean": Arm(f"{name} 1, clean-latent reward", {name: 1.0}, reward="clean") for name in THIRD},
    "thirds": Arm("⅓ each", THIRD, headline=True),
    "minus": Arm("−⅓ each", {name: -weight for name, weight in THIRD.items()}),
    "second": Arm("⅓ each, at every second step", THIRD, guidance={"every": 2}),
    "aligned": Arm("⅓ each, on the aligned adapter", THIRD, run="align"),
    **{
        f"surface-{one:g}-{other:g}": Arm(f"VQ {one:g}, MQ {other:g}", {"VQ": one, "MQ": other})
        for one, other in itertools.product(AXIS, AXIS)
        if one or other
    },
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=Path("guidance"), help="where the seeds' workspaces are made")
    parser.add_argument("--seeds", default=",".join(map(str, (*SCREENED, *HEADLINE))), help="training seeds")
    parser.add_argument("--arms", default="", help="names of arms; all by default")
    parser.add_argument("--settings", type=Path, help="YAML over what the arms share, for a smaller trial")
    parser.add_argument("--searches", type=int, default=36, help="held-out prompts that searches are compared on")
    parser.add_argument("--table", type=Path, default=Path("docs/evidence.md"), help="written between its markers")
    parser.add_argument("--table-only", action="store_true")
    given = parser.parse_args()
    arms = {name: ARMS[name] for name in (given.arms.split(",") if given.arms else ARMS)}
    changed = yaml.safe_load(given.settings.read_text()) if given.settings else {}
    try:
        for seed in () if given.table_only else map(int, given.seeds.split(",")):
            run_seed(given.folder / f"seed-{seed}", seed, arms, merged(SETTINGS, changed), given.searches)
        write_guidance_tables(given.folder, {name: arm.what for name, arm in arms.items()}, AXIS, given.table)
    except ReelignError as error:
        sys.exit(str(error))
    except KeyboardInterrupt:
        sys.exit("Stopped; the same command again goes on.")


def run_seed(folder: Path, seed: int, arms: dict[str, Arm], settings: dict[str, Any], searches: int) -> None:
    assert seed in (*SCREENED, *HEADLINE), f"seeds are {SCREENED} and {HEADLINE}"
    print(f"\n===== seed {seed}", flush=True)
    if seed in HEADLINE:
        arms, searches = {name: arm for name, arm in arms.items() if arm.headline}, 0
    stages.init(folder)
    write_text(folder / "reelign.yaml", yaml.safe_dump(settings, sort_keys=False))
    workspace = Workspace.open(folder)
    stages.generate(folder, seed=seed)
    if not workspace.judgements():
        stages.judge(folder, seed=seed)
    # Before there are votes on rendered clips, which are no preferences over what the model makes.
    if any(arm.run for arm in arms.values()) and not (folder / "runs" / "align" / "adapter").exists():
        stages.align(folder, run="align", seed=seed, **ADAPTER)
    add_votes(workspace, seed)
    kinds = {arm.reward for arm in arms.values()} | ({"noisy"} if searches else set())
    rewards = {kind: trained(folder, kind, seed) for kind in sorted(kinds)}
    found = {}
    for name, arm in arms.items():
        guide = GuideSettings(latent_reward=rewards[arm.reward], weights=arm.weights)
        content = {"latent_reward": guide.latent_reward, "weights": dict(arm.weights), "guidance": arm.guidance}
        resolved = settings_of(workspace, "evaluate", None, {"run": arm.run, "guide": content})
        path = latent_stages.guided_result(workspace, arm.run, resolved.guide)
        if not path.exists():
            print(f"\n== {arm.what}", flush=True)
            stages.evaluate(folder, run=arm.run, guide=content)
        found[name] = path.name
    write_text(folder / "arms.json", json.dumps(found, indent=1))
    if searches:
        compare_searches(workspace, rewards["noisy"], searches)


def add_votes(workspace: Workspace, seed: int) -> None:
    """Rendered clips of the train prompts and three people's votes on thousands of pairs, which come last and stand for
    all: of these clips, and of the candidates."""
    clips = {video.id for video in workspace.videos("train", RENDERED)}
    if clips & {judgement.video_a for judgement in workspace.judgements()}:
        return
    chance = generator_from(seed, "guidance evidence")
    add_clips(workspace, "train", CLIPS, chance, seed=seed, adapter=RENDERED)
    groups = [*workspace.groups("train", RENDERED), *workspace.groups("train", "")]
    workspace.add_judgements(judgements_of(groups, workspace, chance))


def trained(folder: Path, kind: str, seed: int) -> str:
    """The folder of a latent reward of that kind, trained where it is not there yet."""
    done = folder / "runs" / kind / "latent_reward"
    if not (done / "numbers.json").exists():
        latent_stages.train_latent_reward(folder, run=kind, levels=kind, seed=seed)
    return str(done)


def compare_searches(workspace: Workspace, path: str, count: int) -> None:
    """True scores of what each search finds, a prompt each, and what it cost; kept in the workspace."""
    kept = workspace.root / "searches.json"
    if kept.exists():
        return
    generator = load_model(workspace)
    reward = load_latent_reward(path, generator)
    prompts = [prompt.text for prompt in workspace.prompts("held_out")][:count]
    sampling = Sampling.resolve(settings_of(workspace, "generate"), generator)
    found = {what: searched(generator, reward, prompts, sampling, how) for what, how in SEARCHES.items()}
    write_text(kept, json.dumps(found, indent=1))


def searched(
    generator: Generator, reward: LatentReward, prompts: list[str], sampling: Sampling, settings: SearchSettings
) -> dict[str, float]:
    candidates = Candidates(generator, sampling, prompts)
    total, calls = dict.fromkeys(THIRD, 0.0), 0
    for prompt in prompts:
        best = best_of(
            generator,
            reward,
            THIRD,
            candidates.encoded([prompt]),
            candidates.negative,
            [seed_from("search", prompt, place) for place in range(settings.candidates)],
            sampling.size,
            steps=sampling.steps,
            guidance_scale=sampling.guidance_scale,
            settings=settings,
        )
        with torch.no_grad():
            true = scores(generator.decode(best.latents), [prompt])
        total = {name: value + float(true[name]) / len(prompts) for name, value in total.items()}
        calls += best.denoiser_calls
    return {**total, "denoiser_calls": calls / len(prompts)}


if __name__ == "__main__":
    main()
