"""Offline alignment: stored preferences, a LoRA policy, one objective, the one Trainer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
import yaml
from pydantic import Field
from torch import Tensor

from reelign.diffusion.noise_levels import Distribution
from reelign.diffusion.seeds import generator_from
from reelign.errors import ReelignError
from reelign.generators.base import Conditioning, Generator
from reelign.objectives.dpo import DPO, implicit_margin
from reelign.objectives.sft import SFT
from reelign.recipes.preference_data import PreferenceData, random_videos, workspace_preferences
from reelign.records import Workspace
from reelign.training import (
    LoRA,
    PairBatch,
    Policy,
    ShuffledStream,
    Step,
    Trainer,
    TrainerSettings,
    VideoBatch,
    make_draw,
    velocity_errors,
)

CONFIG_FILE = "config.yaml"
ADAPTER_FOLDER = "adapter"


@dataclass(frozen=True, kw_only=True, slots=True)
class AlignSettings:
    """How to turn preferences into an adapter."""

    run: str = "align"
    """Name of the run's folder under `runs/`."""
    objective: Annotated[DPO | SFT, Field(discriminator="name")] = field(default_factory=DPO)
    pairs: Literal["best_worst", "all"] = "all"
    """Which preferences of a group: its best against its worst, or every pair that the votes decide."""
    weights: Mapping[str, float] | None = None
    """Weight of each judged dimension in a preference; None counts all alike."""
    swap: bool = False
    """A control: chosen and rejected exchanged. A sound pipeline must then get worse."""
    noise_levels: Distribution = "uniform"
    shift: float = 1.0
    """Shift of the training noise levels towards noise."""
    batch_size: int = 16
    """Pairs (or videos) per optimiser step."""
    micro_batch_size: int = 16
    """Of which this many go through the model at once; smaller saves memory and changes nothing else."""
    lora: LoRA = field(default_factory=LoRA)
    trainer: TrainerSettings = field(default_factory=TrainerSettings)
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("batch_size", "micro_batch_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")


@dataclass(frozen=True)
class Aligned:
    """What a call of `align` did."""

    folder: Path
    adapter: Path
    """Folder with `pytorch_lora_weights.safetensors`, as `pipe.load_lora_weights` takes it."""
    samples: int
    """Pairs or videos trained on."""
    left_out: dict[str, int]
    started_from: int
    """The step it went on from; 0 for a fresh run."""


class DPOStep:
    """Flow-DPO on latents: the two sides of a pair share sigma and noise and go through the model together."""

    def __init__(self, objective: DPO, settings: AlignSettings) -> None:
        self.objective = objective
        self.settings = settings

    def accumulate_gradients(self, policy: Policy, batch: PairBatch) -> dict[str, float]:
        pairs, settings = len(batch.latents), self.settings
        draw = make_draw(
            batch.latents[:, 0].shape,
            path=policy.generator.path,
            distribution=settings.noise_levels,
            shift=settings.shift,
            generator=generator_from(batch.seed),
            device=policy.generator.device,
        )
        errors, references = [], []
        for start in range(0, pairs, settings.micro_batch_size):
            rows = slice(start, start + settings.micro_batch_size)
            latents = batch.latents[rows].flatten(0, 1).to(policy.generator.device)
            both = velocity_errors(policy, latents, _twice(batch.conditioning, rows), draw[rows].repeat(2))
            error, reference = both["policy"].unflatten(0, (-1, 2)), both["reference"].unflatten(0, (-1, 2))
            (self.objective(error, reference).sum() / pairs).backward()
            errors.append(error.detach())
            references.append(reference)
        return self._metrics(torch.cat(errors), torch.cat(references))

    def _metrics(self, error: Tensor, reference: Tensor) -> dict[str, float]:
        margin = implicit_margin(error, reference)
        gap = (error - reference).mean(dim=0)
        return {
            "loss": float(self.objective(error, reference).mean()),
            # At the reference every margin is 0 and the policy knows nothing: that is one half, not none.
            "implicit_accuracy": float((margin > 0).float().mean() + 0.5 * (margin == 0).float().mean()),
            "margin": float(margin.mean()),
            "chosen_error_gap": float(gap[0]),
            "rejected_error_gap": float(gap[1]),
        }


class SFTStep:
    """Supervised fine-tuning on latents."""

    def __init__(self, objective: SFT, settings: AlignSettings) -> None:
        self.objective = objective
        self.settings = settings

    def accumulate_gradients(self, policy: Policy, batch: VideoBatch) -> dict[str, float]:
        videos, settings = len(batch.latents), self.settings
        draw = make_draw(
            batch.latents.shape,
            path=policy.generator.path,
            distribution=settings.noise_levels,
            shift=settings.shift,
            generator=generator_from(batch.seed),
            device=policy.generator.device,
        )
        total = 0.0
        for start in range(0, videos, settings.micro_batch_size):
            rows = slice(start, start + settings.micro_batch_size)
            latents = batch.latents[rows].to(policy.generator.device)
            conditioning = Conditioning({name: tensor[rows] for name, tensor in batch.conditioning.tensors.items()})
            errors = velocity_errors(policy, latents, conditioning, draw[rows], weights=("policy",))
            loss = self.objective(errors["policy"]).sum() / videos
            loss.backward()
            total += float(loss.detach())
        return {"loss": total}


def align(
    workspace: Workspace, generator: Generator, settings: AlignSettings, *, data: PreferenceData | None = None
) -> Aligned:
    """Train an adapter on the workspace's preferences, or on the given ones; a stopped run goes on.

    Args:
        workspace: takes the run's folder, and brings the preferences where `data` is None.
        generator: the base; it carries the trained adapter afterwards.
        settings: the objective and how to optimise it.
        data: preferences from elsewhere, such as `preference_data.file_preferences`.
    Raises:
        ReelignError: there are no preferences, or the run's name is taken by one with other settings.
    """
    data = data or workspace_preferences(workspace, settings.pairs, settings.weights)
    folder = workspace.root / "runs" / settings.run
    claim_run(folder, {"model": generator.identity, "data": data.key, "align": asdict(settings)})
    policy = Policy(generator, settings.lora, seed=settings.seed)
    conditioning = generator.encode_prompts(data.prompts)
    stream: ShuffledStream[Any]
    step: Step[Any]
    if isinstance(settings.objective, DPO):
        latents, rows = data.pairs(generator, workspace.root / "cache")
        if settings.swap:
            latents = latents.flip(1)
        step = DPOStep(settings.objective, settings)
        stream = ShuffledStream(
            PairBatch, latents, conditioning, rows, batch_size=settings.batch_size, seed=settings.seed
        )
    else:
        latents, rows = _sft_videos(settings.objective, workspace, generator, data, settings.seed)
        step = SFTStep(settings.objective, settings)
        stream = ShuffledStream(
            VideoBatch, latents, conditioning, rows, batch_size=settings.batch_size, seed=settings.seed
        )
    trainer = Trainer(policy, stream, step, settings.trainer, folder, title=f"align {settings.run}")
    started_from = trainer.train()
    policy.save(folder / ADAPTER_FOLDER)
    return Aligned(folder, folder / ADAPTER_FOLDER, len(latents), data.left_out, started_from)


def claim_run(folder: Path, config: dict[str, Any]) -> None:
    """Write the resolved config into the run's folder, or refuse one that holds a run with another config."""
    text = yaml.safe_dump(_plain(config), sort_keys=False)
    path = folder / CONFIG_FILE
    if path.exists() and path.read_text() != text:
        raise ReelignError(
            f"The run {folder.name} in {folder.parent} was made with other settings or other data.",
            "Give this one a name of its own (run=NAME), or remove that folder.",
        )
    folder.mkdir(parents=True, exist_ok=True)
    # Beside and renamed: half a config, left by a kill, would refuse the very run it belongs to.
    beside = path.with_name(f".{path.name}.tmp")
    beside.write_text(text)
    beside.replace(path)


def _sft_videos(
    objective: SFT, workspace: Workspace, generator: Generator, data: PreferenceData, seed: int
) -> tuple[Tensor, Tensor]:
    if objective.on == "random":
        return random_videos(workspace, data, generator_from(seed, "random videos"))
    latents, rows = data.pairs(generator, workspace.root / "cache")
    return latents[:, 0], rows


def _twice(conditioning: Conditioning, rows: slice) -> Conditioning:
    return Conditioning(
        {name: tensor[rows].repeat_interleave(2, dim=0) for name, tensor in conditioning.tensors.items()}
    )


def _plain(value: Any) -> Any:
    """What YAML can hold: tuples become lists."""
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value
