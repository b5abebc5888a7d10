"""Sample videos during a training: the same prompts and seeds every time, base and policy side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from reelign.diffusion.seeds import seed_from
from reelign.files import whole
from reelign.generators.base import Generator
from reelign.generators.encoders import VAE, holding, image_encoders
from reelign.recipes.sampling import Sampling
from reelign.records import Workspace
from reelign.training import Policy
from reelign.training.asked import Sides
from reelign.training.long_rollouts import sample_videos
from reelign.training.trackers import Trackers
from reelign.video import contact_sheet, read_video, write_video


@dataclass(frozen=True, kw_only=True, slots=True)
class SampleSettings:
    """Which sample videos a run makes while it trains; how they are sampled is the `generate` section's affair."""

    every: int = 0
    """Steps between two looks, the first of them before the first step; 0 takes none."""
    prompts: tuple[str, ...] = ()
    """What is sampled; empty takes the workspace's own, held-out ones first."""
    count: int = 4
    """How many of the workspace's own."""
    seed: int = 0

    def __post_init__(self) -> None:
        if self.every < 0:
            raise ValueError(f"every must be at least 0, got {self.every}")
        if self.count < 1:
            raise ValueError(f"count must be at least 1, got {self.count}")

    def texts(self, workspace: Workspace, others: Sequence[str]) -> list[str]:
        """The prompts to sample; `others` where the workspace has none of its own."""
        if not self.every or self.prompts:
            return list(self.prompts) if self.every else []
        own = [workspace.asked(prompt) for split in ("held_out", "train") for prompt in workspace.prompts(split)]
        return list(dict.fromkeys(own or others))[: self.count]


class SampleVideos:
    """A monitor that writes `samples/step-N/K.mp4` and a contact sheet `samples/step-N.png`, the base's beside each.

    One video at a time, so that sampling needs less memory than a training step; the VAE is loaded to decode and
    dropped again. Text embeddings come in ready made.

    Args:
        folder: the run's.
        sampling: size, steps and guidance.
        settings: how often and with which seed.
        prompts: what is sampled.
        sides: of guidance, a row per prompt.
    """

    def __init__(
        self,
        folder: Path,
        sampling: Sampling,
        settings: SampleSettings,
        prompts: Sequence[str],
        sides: Sides,
    ) -> None:
        self.folder = folder / "samples"
        self.sampling = sampling
        self.settings = settings
        self.prompts = list(prompts)
        self.sides = sides
        self.trackers: Trackers | None = None
        """See the videos too."""

    def after_step(self, step: int, policy: Policy, metrics: dict[str, float]) -> dict[str, float]:
        if step % self.settings.every == 0:
            self.look(step, policy)
        return {}

    def begin(self, policy: Policy) -> None:
        """The look before the first step, which finds out whether sampling works at all; once a run."""
        if not self._sheet(0).exists():
            self.look(0, policy)

    def look(self, step: int, policy: Policy) -> None:
        """Sample every prompt with the policy as it would be saved now; the base's are made at the first look."""
        name, main = f"step-{step:06d}", policy.ranks.main
        if not all(path.exists() for path in self._paths("base")):
            with policy.using("base"):
                base = self._sample(policy.generator)
            if main:
                self._write("base", base, policy.generator)
        # Every rank samples, since each may hold a part of the weights; one decodes and writes.
        with policy.using("average"):
            own = self._sample(policy.generator)
        if main:
            self._write(name, own, policy.generator)
            self._show(step, name)

    def _sheet(self, step: int) -> Path:
        return self.folder / f"step-{step:06d}.png"

    def _paths(self, name: str) -> list[Path]:
        return [self.folder / name / f"{number}.mp4" for number in range(1, len(self.prompts) + 1)]

    @torch.no_grad()
    def _sample(self, generator: Generator) -> list[Tensor]:
        """Latents (1, C, F, H, W) of each prompt; of several segments videos (1, F, 3, H, W), as they are made."""
        made = []
        for row, text in enumerate(self.prompts):
            own, negative = (side.to(generator.device) for side in self.sides.take(torch.tensor([row])))
            guidance = self.sampling.guidance(negative)
            seeds = [seed_from(self.settings.seed, text)]
            size, steps, segments = self.sampling.size, self.sampling.steps, self.sampling.segments
            if segments == 1:
                made.append(generator.sample(own, seeds, size, steps=steps, guidance=guidance))
                continue
            with holding(generator, *image_encoders(generator)):
                long = sample_videos(generator, own, seeds, size, steps=steps, guidance=guidance, segments=segments)
            made.append(long.videos.cpu())
        return made

    @torch.no_grad()
    def _write(self, name: str, made: Sequence[Tensor], generator: Generator) -> None:
        with holding(generator, VAE):
            for path, one in zip(self._paths(name), made, strict=True):
                video = generator.decode(one) if self.sampling.segments == 1 else one
                # A policy that has collapsed shows black, and goes on to be stopped by what watches its loss.
                write_video(path, video[0].cpu().nan_to_num(0.0), self.sampling.fps)

    def _show(self, step: int, made: str) -> None:
        videos, labels = [], []
        for base, own, text in zip(self._paths("base"), self._paths(made), self.prompts, strict=True):
            videos += [read_video(base).frames, read_video(own).frames]
            labels += [f"base: {text}", f"step {step}: {text}"]
            if self.trackers is not None:
                self.trackers.video(step, f"samples/{own.stem}", own, f"step {step}: {text}")
        with whole(self._sheet(step)) as beside:
            contact_sheet(torch.stack(videos), labels).save(beside, format="PNG")

    def verdict(self) -> str | None:
        return None

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        pass
