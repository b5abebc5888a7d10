"""The whole loop on the small world, in one call: what `reelign demo` runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from reelign import publishing, reporting, stages
from reelign.errors import ReelignError
from reelign.evaluation import Comparison
from reelign.evaluation.report import headline
from reelign.opening import run_config
from reelign.recipes.offline.align import CONFIG_FILE
from reelign.records import Workspace

RUN = "align"
CONTROLS: dict[str, dict[str, Any]] = {
    "sft-random": {"objective": {"name": "sft", "on": "random"}, "anchors": {"chosen": 0}},
    "swapped": {"swap": True},
}
"""Runs that a gain has to be held against: the first must not gain as much, the second must lose."""


def run_demo(folder: Path, *, seed: int = 0, controls: bool = False) -> Comparison:
    """Prompts, videos, judgements, Flow-DPO, comparison, report; interrupted, it goes on where it stopped.

    A workspace that is there already brings its own prompts and settings.

    Args:
        folder: the workspace to make.
        seed: of candidates, judges, adapter and batches. The evaluation's noise is its own and the same for all seeds.
        controls: train and evaluate the two controls too.
    """
    _announce("prompts")
    workspace = stages.init(folder)
    _check_seed(folder, seed)
    _announce("generate")
    stages.generate(folder, seed=seed)
    _announce("judge")
    stages.judge(folder, seed=seed)
    _announce("align")
    stages.align(folder, run=RUN, seed=seed)
    _announce("evaluate")
    evaluated = stages.evaluate(folder, run=RUN)
    for run, how in CONTROLS.items() if controls else ():
        _announce(f"control: {run}")
        stages.align(folder, run=run, seed=seed, **how)
        stages.evaluate(folder, run=run)
    _announce("report")
    _say(workspace, evaluated.comparison, reporting.report(folder, run=RUN))
    return evaluated.comparison


def _check_seed(folder: Path, seed: int) -> None:
    """Refuse another seed than the one a demo began with here: its candidates would join the first one's."""
    if not (folder / "runs" / RUN / CONFIG_FILE).exists():
        return
    begun = run_config(folder / "runs" / RUN)["align"]["seed"]
    if begun != seed:
        raise ReelignError(
            f"The demo in {folder} was begun with seed {begun}.",
            f"Give seed {seed} a folder of its own: reelign demo OTHER-FOLDER --seed {seed}",
        )


def _announce(stage: str) -> None:
    print(f"\n== {stage}", flush=True)


def _say(workspace: Workspace, comparison: Comparison, page: Path) -> None:
    prompt = workspace.prompts("held_out")[0].text
    print(f"\n{headline(comparison)}")
    for name, each in comparison.dimensions.items():
        print(f"  {name}  {each.base:.3f} -> {each.aligned:.3f}  {each.gain:+.3f} [{each.low:+.3f}, {each.high:+.3f}]")
    print(f"\nReport: {page}\n\nThe aligned model in plain diffusers:\n")
    print(publishing.usage_lines(workspace, RUN, prompt))
