"""Offline alignment: stored preferences, a LoRA policy, one objective, the one Trainer."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from reelign.generators.base import Conditioning, Generator
from reelign.objectives import DPO, KTO
from reelign.recipes.data.preferences import PreferenceData
from reelign.recipes.data.shared_prompts import trained_prompts, warn_of_shared
from reelign.recipes.offline.data import training_data
from reelign.recipes.offline.plans import Plan, Planner
from reelign.recipes.offline.samples import check, drawn_clips, left_out
from reelign.recipes.run_config import CONFIG_FILE, check_claim, claim_run, run_content
from reelign.recipes.samples import SampleVideos
from reelign.recipes.sampling import GenerateSettings, Sampling
from reelign.recipes.settings import AlignSettings
from reelign.records import Workspace
from reelign.training import ALONE, HeldOutPairs, Monitor, Policy, Ranks, Trainer, load_adapter
from reelign.training.adapter_files import start_from, weights_key
from reelign.training.caches import cached_sides
from reelign.training.sharding import wanted_by_launcher
from reelign.training.trackers import Trackers, check_trackers

__all__ = ["ADAPTER_FOLDER", "CONFIG_FILE", "AlignSettings", "Aligned", "align", "claim_run"]

ADAPTER_FOLDER = "adapter"


@dataclass(frozen=True)
class Aligned:
    """What a call of `align` did."""

    folder: Path
    adapter: Path
    """Folder with `pytorch_lora_weights.safetensors`, as `pipe.load_lora_weights` takes it; of full fine-tuning, with
    the denoiser's own folder, as `from_pretrained` takes it."""
    samples: int
    """Pairs or videos trained on; of a reward's gradient, whose videos live for a step, the prompts it draws from."""
    left_out: dict[str, int]
    started_from: int
    """The step it went on from; 0 for a fresh run."""
    stopped: str | None = None
    """Why a monitor ended the run before its last step."""

    @property
    def steps(self) -> int:
        """Done in all, by this call and those before it; a monitor may have ended the run before its last."""
        return int(self._last_metrics().get("step", 0))

    @property
    def seconds_per_step(self) -> float:
        """Of the last step: the first ones warm up."""
        return float(self._last_metrics()["seconds"])

    def _last_metrics(self) -> dict[str, Any]:
        *_, last = ["{}", *(self.folder / "metrics.jsonl").read_text().splitlines()]
        metrics: dict[str, Any] = json.loads(last)
        return metrics


def align(
    workspace: Workspace,
    generator: Generator,
    settings: AlignSettings,
    *,
    data: PreferenceData | None = None,
    sampling: GenerateSettings | None = None,
    start: Path | None = None,
    ranks: Ranks = ALONE,
) -> Aligned:
    """Train an adapter on the workspace's preferences, or on the given ones; a stopped run goes on.

    With `start` the same adapter trains on: it begins at the saved weights and is held near them, and what it comes to
    is one adapter over the base like any other.

    Args:
        workspace: takes the run's folder, and brings the preferences where `data` is None.
        generator: the base; it carries the trained adapter afterwards.
        settings: the objective and how to optimise it.
        data: preferences from elsewhere, such as `training_data` of a file of pairs.
        sampling: how `settings.samples` are made; None takes the model's own defaults.
        start: what an earlier alignment of this model saved; None begins at the base.
        ranks: the processes that train together; `batch_size` is that of each.
    Raises:
        ReelignError: there are no preferences, the run's name is taken by one with other settings, or `start` is an
            adapter of another shape.
    """
    check_trackers(settings.trackers)
    data = data or training_data(workspace, settings)
    watched = settings.monitor.held_out > 0
    kept, held_out = data.split(settings.monitor.held_out, settings.seed) if watched else (data, data)
    check(settings, generator, kept)
    warn_of_shared(trained_prompts(settings, kept), workspace.asked_in("held_out"))
    folder = workspace.root / "runs" / settings.run
    together = replace(settings, batch_size=settings.batch_size * ranks.count)
    content = run_content(generator, settings, data, drawn_clips(workspace, settings, kept))
    begun = weights_key(start) if start is not None else ""
    content |= {"start": begun} if begun else {}
    how = Sampling.resolve(sampling or GenerateSettings(), generator) if settings.samples.every else None
    with ranks.first():
        if ranks.main:
            check_claim(folder, content)
        conditioning = data.conditioning(generator, workspace.root / "cache")
        monitors: list[Monitor] = [_watch(workspace, generator, settings, held_out, conditioning)] if watched else []
        samples = [_samples(workspace, generator, settings, data, how)] if how else []
        plan = Planner(workspace, generator, together, kept, conditioning, reference=begun).plan()
    sharded = settings.trainer.sharded or wanted_by_launcher()
    asks = isinstance(settings.objective, DPO | KTO) or watched or bool(samples)
    if start is not None and settings.lora is None:
        load_adapter(generator, start)
    policy = Policy(
        generator,
        settings.lora,
        seed=settings.seed,
        reference=asks,
        moving=start is not None and settings.lora is not None,
        experts=settings.experts,
        ranks=ranks,
        sharded=sharded,
    )
    if start is not None and settings.lora is not None:
        start_from(policy, start)
    if ranks.main:
        # Last, so that whatever is refused leaves no run of that name behind.
        claim_run(folder, content)
    wanted = Trackers(settings.trackers if ranks.main else (), folder, content)
    trainer, started_from = _trained(policy, plan, settings, folder, wanted, monitors, samples)
    return Aligned(
        folder, folder / ADAPTER_FOLDER, plan.samples, left_out(settings, kept), started_from, trainer.verdict()
    )


def _trained(
    policy: Policy,
    plan: Plan,
    settings: AlignSettings,
    folder: Path,
    wanted: Trackers,
    watch: list[Monitor],
    samples: list[SampleVideos],
) -> tuple[Trainer[Any], int]:
    """Run the loop with all that looks on, and save what it came to; the trainer, and the step it went on from."""
    title = f"align {settings.run}"
    with wanted as trackers:
        for each in samples:
            each.trackers = trackers
            each.begin(policy)
        monitors = [*watch, *samples, trackers]
        trainer = Trainer(policy, plan.stream, plan.step, settings.trainer, folder, title=title, monitors=monitors)
        started_from = trainer.train()
    if trainer.ema:
        policy.load_state_dict(trainer.ema)
    policy.save(folder / ADAPTER_FOLDER)
    return trainer, started_from


def _samples(
    workspace: Workspace, generator: Generator, settings: AlignSettings, data: PreferenceData, sampling: Sampling
) -> SampleVideos:
    prompts = settings.samples.texts(workspace, data.prompts)
    cache = workspace.root / "cache" / "text"
    sides = cached_sides(prompts, sampling.negative_prompt, generator, cache, sampling.size)
    return SampleVideos(workspace.root / "runs" / settings.run, sampling, settings.samples, prompts, sides)


def _watch(
    workspace: Workspace,
    generator: Generator,
    settings: AlignSettings,
    held_out: PreferenceData,
    conditioning: Conditioning,
) -> HeldOutPairs:
    latents, rows = held_out.pairs(generator, workspace.root / "cache")
    if settings.swap:
        latents = latents.swapped()
    return HeldOutPairs(
        latents,
        conditioning.take(rows),
        settings.monitor,
        micro_batch_size=settings.micro_batch_size,
        seed=settings.seed,
    )
