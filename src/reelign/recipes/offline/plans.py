"""From an objective and preferences to the step that trains it and the stream that feeds it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from reelign.diffusion.seeds import generator_from, seed_from
from reelign.generators.base import Conditioning, Generator
from reelign.objectives import DPO, KTO, RWR, SFT, histogram_weights
from reelign.recipes.data.buckets import BucketedStep, BucketedStream
from reelign.recipes.data.clips import load_latents
from reelign.recipes.data.empty_prompts import EmptyPrompts, lost_by_seed
from reelign.recipes.data.preferences import PreferenceData, random_videos
from reelign.recipes.data.real_clips import load_real, real_stream
from reelign.recipes.data.stratified_stream import StratifiedStream
from reelign.recipes.offline.reference_cache import ReferenceCache, SlottedStream
from reelign.recipes.offline.samples import (
    check_other_prompts,
    labelled,
    no_groups,
    training_clips,
    weighed_groups,
)
from reelign.recipes.settings import AlignSettings
from reelign.recipes.steps.kto import KTOStep
from reelign.recipes.steps.objective import WithBeta, in_means
from reelign.recipes.steps.pair import DPOStep
from reelign.recipes.steps.segment import SegmentDPOStep, SegmentedStream
from reelign.recipes.steps.video import AnchoredStream, DataAnchorStep, SFTStep
from reelign.records import Workspace
from reelign.training import PairBatch, SharedLatents, ShuffledStream, Step, Stream, VideoBatch
from reelign.training.caches import cached_texts
from reelign.video import probe_video


@dataclass(frozen=True)
class Plan:
    """A step, the stream of its batches, and how many samples an epoch has."""

    step: Step[Any]
    stream: Stream[Any]
    samples: int


@dataclass(frozen=True)
class Planner:
    """Puts the parts of a run together, a method for each kind of objective.

    `conditioning` has one row per prompt of the data. `reference` is what the policy is held near where that is not the
    base: the key of the weights it starts from.
    """

    workspace: Workspace
    generator: Generator
    settings: AlignSettings
    data: PreferenceData
    conditioning: Conditioning
    reference: str = ""

    def plan(self) -> Plan:
        objective = self.settings.objective
        own = not (isinstance(objective, SFT) and objective.on == "random")
        clips = training_clips(self.workspace, self.settings, self.data) if own else []
        parts = self.data.by_size(clips, self.generator, self.cache)
        plan = self.bucketed(self._weighable(parts)) if len(parts) > 1 else self.of_one_size()
        return self.anchored(plan) if self.settings.anchors.real else plan

    def bucketed(self, parts: dict[tuple[int, ...], PreferenceData]) -> Plan:
        """A plan for each size, with draws and an order of its own, and their steps in turn."""
        settings = self.settings
        seeds = [seed_from(settings.seed, "bucket", *shape) for shape in parts]
        plans = [
            replace(self, data=part, settings=replace(settings, seed=seed)).of_one_size()
            for part, seed in zip(parts.values(), seeds, strict=True)
        ]
        samples = [plan.samples for plan in plans]
        streams = [plan.stream for plan in plans]
        stream = BucketedStream(streams, samples, batch_size=settings.batch_size, seed=settings.seed)
        return Plan(BucketedStep([plan.step for plan in plans]), stream, sum(samples))

    def of_one_size(self) -> Plan:
        objective = self.settings.objective
        match objective:
            case DPO():
                return self.pairs(objective)
            case KTO():
                return self.labels(objective)
            case RWR():
                return self.rewards(objective)
            case SFT():
                return self.videos(objective)

    def pairs(self, objective: DPO) -> Plan:
        """Chosen and rejected videos; on parts of them, at draws that are kept, or afresh at every visit."""
        latents, rows = self.data.pairs(self.generator, self.cache)
        if self.settings.swap:
            latents = latents.swapped()
        weights = self._histogram_weights() if self.settings.histogram_alpha else None
        objective, settings = self._in_means(objective, latents[0, 0]), self.settings
        if self.data.segments is not None:
            segmented = SegmentedStream(
                latents,
                self.conditioning,
                rows,
                segments=self.data.segments,
                videos=[probe_video(clip.path) for clip in self.data.chosen],
                batch_size=settings.batch_size,
                seed=settings.seed,
                names=self.data.names,
                values=weights,
            )
            return Plan(SegmentDPOStep(objective, settings), self._forgetting(segmented), len(latents))
        if not settings.reference_slots:
            stream = self._stream(PairBatch, latents, rows, self.data.names, weights)
            return Plan(DPOStep(objective, settings), stream, len(latents))
        cache = ReferenceCache(
            self.cache / "reference",
            self.generator,
            settings,
            latents,
            self.conditioning.take(rows),
            reference=self.reference,
        )
        slotted = SlottedStream(
            latents,
            self.conditioning,
            rows,
            slots=settings.reference_slots,
            batch_size=settings.batch_size,
            seed=settings.seed,
            names=self.data.names,
            values=weights,
        )
        stream = self._forgetting(slotted, lambda batch: cache.lost(batch.visits))
        return Plan(DPOStep(objective, settings, cache=cache), stream, len(latents))

    def labels(self, objective: KTO) -> Plan:
        """Videos that stand above 0 in their group are desirable, below it undesirable."""
        judged = labelled(self.settings, self.data)
        if objective.baseline == "mismatched":
            check_other_prompts(judged, self.settings.batch_size)
        desirable = torch.tensor([(each.score > 0) != self.settings.swap for each in judged])
        latents = load_latents([each.clip for each in judged], self.generator, self.cache)
        step = KTOStep(self._in_means(objective, latents[0]), self.settings)
        rows = torch.tensor([each.row for each in judged])
        names = [f"{each.clip.name} ({'+' if each.score > 0 else '-'})" for each in judged]
        if self.settings.batch_size < 2 or len(desirable.unique()) < 2:
            return Plan(step, self._stream(VideoBatch, latents, rows, names, desirable), len(latents))
        stream = StratifiedStream(
            latents,
            self.conditioning,
            rows,
            batch_size=self.settings.batch_size,
            seed=self.settings.seed,
            names=names,
            values=desirable,
            # Whatever is made of the labels: a control that turns them around sees the very same batches.
            first_kind=torch.tensor([each.score > 0 for each in judged]),
        )
        return Plan(step, self._forgetting(stream), len(latents))

    def rewards(self, objective: RWR) -> Plan:
        """Every judged video, weighted by its standing among its group."""
        sign = -1.0 if self.settings.swap else 1.0
        groups = weighed_groups(self.settings, self.data)
        weights = [objective.weights(torch.tensor([[sign * each.score for each in group]]))[0] for group in groups]
        members = [each for group in groups for each in group]
        latents = load_latents([each.clip for each in members], self.generator, self.cache)
        rows, names = torch.tensor([each.row for each in members]), [each.clip.name for each in members]
        stream = self._stream(VideoBatch, latents, rows, names, torch.cat(weights))
        return Plan(SFTStep(objective, self.settings), stream, len(latents))

    def videos(self, objective: SFT) -> Plan:
        """One side of every pair, or as many own samples drawn at random."""
        names: list[str] | None = None
        latents: Tensor | SharedLatents
        if objective.on == "random":
            chance = generator_from(self.settings.seed, "random videos")
            latents, rows = random_videos(self.workspace, self.data, chance)
        else:
            clips, own = self.data.one_side(objective.on)
            names, rows = [clip.name for clip in clips], torch.tensor(own)
            if self.data.rows:  # a video in several pairs is held once
                latents = self.data.pairs(self.generator, self.cache)[0].side(0 if objective.on == "chosen" else 1)
            else:
                latents = load_latents(clips, self.generator, self.cache)
        return Plan(SFTStep(objective, self.settings), self._stream(VideoBatch, latents, rows, names), len(latents))

    def anchored(self, plan: Plan) -> Plan:
        """The plan with real clips beside every batch, in an order and with draws of their own."""
        settings = self.settings
        clips = load_real(settings.real, settings.images, self.generator, self.cache, limit=self.data.limit)
        real = real_stream(clips, self.generator, self.cache, batch_size=settings.batch_size, seed=settings.seed)
        stream = AnchoredStream(plan.stream, self._forgetting(real))
        return Plan(DataAnchorStep(plan.step, self.settings), stream, plan.samples)

    @property
    def cache(self) -> Path:
        return self.workspace.root / "cache"

    def _stream(
        self,
        make_batch: type[PairBatch] | type[VideoBatch],
        latents: Tensor | SharedLatents,
        rows: Tensor,
        names: list[str] | None,
        values: Tensor | None = None,
    ) -> Stream[Any]:
        stream = ShuffledStream(
            make_batch,
            latents,
            self.conditioning,
            rows,
            batch_size=self.settings.batch_size,
            seed=self.settings.seed,
            names=names,
            values=values,
        )
        return self._forgetting(stream)

    def _forgetting(self, stream: Stream[Any], lost: Callable[[Any], Tensor] | None = None) -> Stream[Any]:
        """The stream with a share of its captions left out, or the very same where none are."""
        share = self.settings.empty_prompt_share
        if not share:
            return stream
        empty = cached_texts([""], self.generator, self.cache / "text")
        return EmptyPrompts(stream, empty, lost or lost_by_seed(share))

    def _in_means(self, objective: WithBeta, one: Tensor) -> WithBeta:
        return in_means(objective, one.numel())

    def _weighable(self, parts: dict[tuple[int, ...], PreferenceData]) -> dict[tuple[int, ...], PreferenceData]:
        """Without the sizes of which RWR has no two videos of a group."""
        if not isinstance(self.settings.objective, RWR):
            return parts
        found = {shape: part for shape, part in parts.items() if weighed_groups(self.settings, part)}
        if not found:
            raise no_groups()
        return found

    def _histogram_weights(self) -> Tensor:
        return histogram_weights(torch.tensor(self.data.sides()), alpha=self.settings.histogram_alpha)
