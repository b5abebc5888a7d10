"""Runs compared at the same distance from the base: of each its checkpoint whose drift is nearest to the common one."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

from safetensors.torch import load_file

from reelign.config import resolve
from reelign.files import write_text
from reelign.opening import load_model, run_config
from reelign.recipes.offline.align import ADAPTER_FOLDER, CONFIG_FILE
from reelign.recipes.offline.data import training_data
from reelign.recipes.settings import AlignSettings
from reelign.records import Workspace
from reelign.training import HeldOutPairs, MonitorSettings, Policy
from reelign.training.caches import cached_prompts
from reelign.training.checkpoints import checkpoint_folders

DRIFT = "drift.json"
MATCHED = "-matched"
PAIRS = 16


def match_drift(workspace: Workspace, runs: Sequence[str]) -> list[str]:
    """Make of each run one of the same drift as the others, named RUN-matched; returns their names.

    The drift is the mean squared distance of the velocity to the base's on candidates, as `held_out/distance`. The
    common one is the smallest of the runs' last ones, so that every run has passed it.
    """
    folders = [workspace.root / "runs" / run for run in runs]
    if not all((folder / DRIFT).exists() for folder in folders):
        _measure(workspace, folders)
    drifts = {folder.name: json.loads((folder / DRIFT).read_text()) for folder in folders}
    target = min(list(steps.values())[-1] for steps in drifts.values())
    names = []
    for folder in folders:
        step = min(drifts[folder.name], key=lambda name: abs(drifts[folder.name][name] - target))
        own = folder.with_name(folder.name + MATCHED)
        if not (own / DRIFT).exists():
            shutil.copytree(folder / "by-step" / step, own / ADAPTER_FOLDER, dirs_exist_ok=True)
            shutil.copyfile(folder / CONFIG_FILE, own / CONFIG_FILE)
            write_text(own / DRIFT, json.dumps({step: drifts[folder.name][step]}))
        names.append(own.name)
    return names


def _measure(workspace: Workspace, folders: Sequence[Path]) -> None:
    """The drift of every checkpoint of these runs, and their adapters."""
    settings = resolve(AlignSettings, [("the first run", run_config(folders[0])["align"])])
    data = training_data(workspace, settings)
    generator = load_model(workspace, encoders=False)
    latents, rows = data.pairs(generator, workspace.root / "cache")
    conditioning = cached_prompts(data.prompts, generator, workspace.root / "cache" / "text").take(rows)
    watch = HeldOutPairs(latents, conditioning, MonitorSettings(max_pairs=PAIRS))
    policy = Policy(generator, settings.lora)
    for folder in folders:
        found = {}
        for checkpoint in checkpoint_folders(folder / "checkpoints"):
            average = checkpoint / "ema.safetensors"
            policy.load_state_dict(load_file(average if average.exists() else checkpoint / "weights.safetensors"))
            policy.save(folder / "by-step" / checkpoint.name)
            found[checkpoint.name] = watch.look(policy)["held_out/distance"]
        write_text(folder / DRIFT, json.dumps(found, indent=1))
