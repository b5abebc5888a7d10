"""The whole loop on the small world, in one call: what `reelign demo` runs."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from reelign import publishing, stages
from reelign.evaluation import Comparison
from reelign.evaluation.report import headline
from reelign.records import Workspace

RUN = "align"
CONTROLS: dict[str, dict[str, Any]] = {
    "SFT on random own samples": {"run": "sft-random", "objective": {"name": "sft", "on": "random"}},
    "chosen and rejected swapped": {"run": "swapped", "swap": True},
}
"""What a gain has to be held against: one must not gain as much, the other must lose."""


def run_demo(folder: Path, *, seed: int = 0, controls: bool = False) -> Comparison:
    """Prompts, videos, judgements, Flow-DPO, comparison, report; interrupted, it goes on where it stopped.

    Args:
        folder: the workspace to make.
        seed: of candidates, judges, adapter and batches. The evaluation's noise is its own and the same for all seeds.
        controls: train and evaluate the two controls too.
    """
    clock = Clock(folder)
    with clock.stage("prompts"):
        workspace = stages.init(folder)
    with clock.stage("generate"):
        stages.generate(folder, seed=seed)
    with clock.stage("judge"):
        stages.judge(folder, seed=seed)
    with clock.stage("align"):
        aligned = stages.align(folder, run=RUN, seed=seed)
    with clock.stage("evaluate"):
        evaluated = stages.evaluate(folder, run=RUN)
    checked = []
    for name, how in CONTROLS.items() if controls else ():
        with clock.stage(f"control: {name}"):
            stages.align(folder, seed=seed, **how)
            checked.append((name, stages.evaluate(folder, run=how["run"]).comparison.interval))
    with clock.stage("report"):
        page = publishing.report(folder, run=RUN)
    publishing.report(
        folder, run=RUN, stages=clock.seconds, peak_memory_bytes=stages.peak_memory_bytes(), controls=checked
    )
    _say(workspace, evaluated.comparison, page, aligned.adapter)
    return evaluated.comparison


class Clock:
    """Seconds per stage, kept in the workspace, so that an interrupted demo adds up."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "seconds.json"
        self.seconds: dict[str, float] = json.loads(self.path.read_text()) if self.path.exists() else {}

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        print(f"\n== {name}", flush=True)
        began = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] = round(self.seconds.get(name, 0.0) + time.perf_counter() - began, 2)
            if self.path.parent.is_dir():
                beside = self.path.with_suffix(".tmp")
                beside.write_text(json.dumps(self.seconds))
                beside.replace(self.path)


def _say(workspace: Workspace, comparison: Comparison, page: Path, adapter: Path) -> None:
    prompt = workspace.prompts("held_out")[0].text
    print(f"\n{headline(comparison)}")
    for name, each in comparison.dimensions.items():
        print(f"  {name}  {each.base:.3f} -> {each.aligned:.3f}  {each.gain:+.3f} [{each.low:+.3f}, {each.high:+.3f}]")
    print(f"\nReport: {page}\n\nThe aligned model in plain diffusers:\n")
    print(publishing.usage_lines(workspace, adapter, prompt))
