"""From an objective and preferences to the step that trains it and the stream that feeds it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from reelign.diffusion.seeds import generator_from
from reelign.errors import ReelignError
from reelign.generators.base import Conditioning, Generator
from reelign.objectives import DPO, KTO, RWR, SFT, check_schedule, histogram_weights, mean_beta
from reelign.recipes.kto_step import KTOStep
from reelign.recipes.pair_step import DPOStep
from reelign.recipes.preference_data import PreferenceData, file_hash, load_latents, random_videos, real_videos
from reelign.recipes.settings import AlignSettings
from reelign.recipes.video_steps import AnchoredStream, DataAnchorStep, SFTStep
from reelign.records import Workspace, content_key, read_videos
from reelign.training import PairBatch, ShuffledStream, Step, Stream, VideoBatch


@dataclass(frozen=True)
class Plan:
    """A step, the stream of its batches, and how many samples an epoch has."""

    step: Step[Any]
    stream: Stream[Any]
    samples: int


def make_plan(
    workspace: Workspace,
    generator: Generator,
    settings: AlignSettings,
    data: PreferenceData,
    conditioning: Conditioning,
) -> Plan:
    """Put the parts of one objective together; `conditioning` has one row per prompt of the data."""
    objective, cache = settings.objective, workspace.root / "cache"
    plan: Plan
    if isinstance(objective, DPO):
        plan = _on_pairs(objective, generator, settings, data, conditioning, cache)
    elif isinstance(objective, KTO):
        plan = _on_labels(objective, generator, settings, data, conditioning, cache)
    elif isinstance(objective, RWR):
        plan = _on_rewards(objective, generator, settings, data, conditioning, cache)
    else:
        plan = _on_videos(objective, workspace, generator, settings, data, conditioning)
    return _anchored(plan, generator, settings, cache) if settings.anchors.real else plan


def data_key(settings: AlignSettings, data: PreferenceData) -> str:
    """Changes with what the objective looks at: pairs or how every video stands, and real clips."""
    parts: list[object] = []
    if isinstance(settings.objective, KTO | RWR):
        parts.append([[each.clip.name, each.row, each.score] for each in data.standing()])
    if settings.anchors.real:
        parts.append([[each.prompt, file_hash(each.video)] for each in read_videos(settings.real)])
    return content_key(data.key, *parts) if parts else data.key


def _on_pairs(
    objective: DPO,
    generator: Generator,
    settings: AlignSettings,
    data: PreferenceData,
    conditioning: Conditioning,
    cache: Path,
) -> Plan:
    latents, rows = data.pairs(generator, cache)
    if settings.swap:
        latents = latents.flip(1)
    objective = _in_means(objective, generator, latents[0, 0].numel())
    values = _pair_weights(data, settings.histogram_alpha) if settings.histogram_alpha else None
    stream = _stream(PairBatch, latents, conditioning, rows, settings, data.names, values)
    return Plan(DPOStep(objective, settings), stream, len(latents))


def _on_labels(
    objective: KTO,
    generator: Generator,
    settings: AlignSettings,
    data: PreferenceData,
    conditioning: Conditioning,
    cache: Path,
) -> Plan:
    judged = [each for each in data.standing() if each.score != 0]
    desirable = torch.tensor([(each.score > 0) != settings.swap for each in judged])
    if not judged or bool(desirable.all()) or not bool(desirable.any()):
        raise ReelignError(
            "KTO needs desirable and undesirable videos, and the labels are of one kind alone.",
            "Judge more candidates, or lower min_margin.",
        )
    latents = load_latents([each.clip for each in judged], generator, cache)
    objective = _in_means(objective, generator, latents[0].numel())
    rows = torch.tensor([each.row for each in judged])
    names = [f"{each.clip.name} ({'+' if each.score > 0 else '-'})" for each in judged]
    stream = _stream(VideoBatch, latents, conditioning, rows, settings, names, desirable)
    return Plan(KTOStep(objective, settings), stream, len(latents))


def _on_rewards(
    objective: RWR,
    generator: Generator,
    settings: AlignSettings,
    data: PreferenceData,
    conditioning: Conditioning,
    cache: Path,
) -> Plan:
    judged = sorted(data.standing(), key=lambda each: each.row)
    sign = -1.0 if settings.swap else 1.0
    weights = []
    for row in dict.fromkeys(each.row for each in judged):
        rewards = torch.tensor([[sign * each.score for each in judged if each.row == row]])
        weights.append(objective.weights(rewards)[0])
    latents = load_latents([each.clip for each in judged], generator, cache)
    rows = torch.tensor([each.row for each in judged])
    names = [each.clip.name for each in judged]
    stream = _stream(VideoBatch, latents, conditioning, rows, settings, names, torch.cat(weights))
    return Plan(SFTStep(objective, settings), stream, len(latents))


def _on_videos(
    objective: SFT,
    workspace: Workspace,
    generator: Generator,
    settings: AlignSettings,
    data: PreferenceData,
    conditioning: Conditioning,
) -> Plan:
    if objective.on == "random":
        latents, rows = random_videos(workspace, data, generator_from(settings.seed, "random videos"))
        names = None
    else:
        pairs, rows = data.pairs(generator, workspace.root / "cache")
        side = 0 if objective.on == "chosen" else 1
        latents, names = pairs[:, side], [clip.name for clip in (data.chosen, data.rejected)[side]]
    return Plan(
        SFTStep(objective, settings), _stream(VideoBatch, latents, conditioning, rows, settings, names), len(latents)
    )


def _anchored(plan: Plan, generator: Generator, settings: AlignSettings, cache: Path) -> Plan:
    latents, prompts, rows, names = real_videos(Path(settings.real), generator, cache)
    conditioning = generator.encode_prompts(prompts)
    real = _stream(VideoBatch, latents, conditioning, torch.tensor(rows), settings, names, kind="real")
    return Plan(DataAnchorStep(plan.step, settings), AnchoredStream(plan.stream, real), plan.samples)


def _stream(
    make_batch: type[Any],
    latents: Tensor,
    conditioning: Conditioning,
    rows: Tensor,
    settings: AlignSettings,
    names: list[str] | None,
    values: Tensor | None = None,
    kind: str = "",
) -> ShuffledStream[Any]:
    # Real clips have an order and draws of their own.
    seed = generator_from(settings.seed, kind).initial_seed() if kind else settings.seed
    return ShuffledStream(
        make_batch,
        latents,
        conditioning,
        rows,
        batch_size=settings.batch_size,
        seed=seed,
        names=names,
        values=values,
    )


def _in_means(objective: Any, generator: Generator, elements: int) -> Any:
    """The objective with its β under the mean reduction, its schedule checked against the model's kind."""
    check_schedule(objective.schedule, generator.path.prediction)
    return replace(
        objective,
        beta=mean_beta(objective.beta, reduction=objective.reduction, elements=elements),
        reduction="mean",
    )


def _pair_weights(data: PreferenceData, alpha: float) -> Tensor:
    score = {(each.row, each.clip): each.score for each in data.standing()}
    sides = zip(data.rows, data.chosen, data.rejected, strict=True)
    scores = torch.tensor([[score[row, chosen], score[row, rejected]] for row, chosen, rejected in sides])
    return histogram_weights(scores, alpha=alpha)
