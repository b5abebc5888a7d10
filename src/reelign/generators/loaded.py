"""A pipeline as it was loaded: its denoisers, and what its files say of how it is sampled, told and called."""

from __future__ import annotations

import abc
import sys
from collections.abc import Mapping
from dataclasses import fields, replace
from difflib import get_close_matches
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from reelign.errors import ReelignError
from reelign.generators.checkpointing import run_again, run_again_but_attention
from reelign.generators.defaults import (
    DEFAULTS_FILE,
    FAMILY_KEY,
    TOLD_KEY,
    SamplingDefaults,
    file_beside,
    values_beside,
)
from reelign.generators.fingerprints import fingerprint


class LoadedPipeline(abc.ABC):
    """A family's diffusers pipeline and the folder or hub id it came from.

    Args:
        pipeline: the loaded diffusers pipeline.
        model: the folder or hub id it came from.
    """

    pipeline_classes: ClassVar[tuple[str, ...]]
    """Names of the diffusers pipelines this file covers."""
    lora_targets: ClassVar[tuple[str, ...]]
    """Module name endings that take LoRA by default."""
    family_defaults: ClassVar[SamplingDefaults]
    family_told: ClassVar[dict[str, float]] = {}
    """Numbers that the model is told beside text and image, such as frames a second, by the pipeline's name of each."""
    adapter_line: ClassVar[str] = ""
    """What a script of plain diffusers says before `pipe.load_lora_weights` works for the family."""

    def __init__(self, pipeline: Any, model: str) -> None:
        self.pipeline = pipeline
        self.model = model
        for denoiser in self.denoisers.values():
            # Denoisers stay in eval() while they train: dropout would tear the policy from its reference.
            denoiser.requires_grad_(False).eval()
        pipeline.vae.requires_grad_(False).eval()

    @classmethod
    def pipeline_type(cls, name: str) -> Any:
        """The class of the pipeline that `model_index.json` names: diffusers' own for most families."""
        import diffusers

        return getattr(diffusers, name)

    @property
    @abc.abstractmethod
    def denoisers(self) -> dict[str, nn.Module]:
        """Pipeline component name -> denoiser; one entry for most families."""

    def expert_rows(self, sigma: Tensor) -> dict[str, Tensor]:
        """By the name of each denoiser, (B,) bool, at which of the noise levels (B,) it answers. Most have one."""
        return {next(iter(self.denoisers)): torch.ones_like(sigma, dtype=torch.bool)}

    def expert(self, sigma: float) -> str:
        """Which of the denoisers answers at a noise level."""
        level = torch.tensor([sigma], dtype=torch.float32)
        return next(name for name, rows in self.expert_rows(level).items() if rows[0])

    @property
    def device(self) -> torch.device:
        """Where the first denoiser is, and noise is drawn for it."""
        return next(next(iter(self.denoisers.values())).parameters()).device

    @cached_property
    def identity(self) -> str:
        """The model's name and a fingerprint of its files, for records and cache keys."""
        return f"{Path(self.model).name}@{fingerprint(self.model)}"

    @property
    def published_defaults(self) -> SamplingDefaults:
        """The family's, or what the pipeline's own files say of this checkpoint."""
        return self.family_defaults

    @cached_property
    def defaults(self) -> SamplingDefaults:
        """The family's sampling defaults, varied by a `reelign.json` beside the weights.

        Raises:
            ReelignError: the file is damaged, or names what the family has no default of.
        """
        own = self.published_defaults
        values = {name: each for name, each in values_beside(self.model).items() if name not in (TOLD_KEY, FAMILY_KEY)}
        known = [TOLD_KEY, FAMILY_KEY, *(field.name for field in fields(own))]
        for name in values:
            if name not in known:
                near = get_close_matches(name, known, n=1)
                raise ReelignError(
                    f"{file_beside(self.model)} says {name!r}, which {type(self).__name__} has no default of.",
                    f"Did you mean {near[0]!r}?" if near else f"It may say {', '.join(known)}.",
                )
        return replace(own, **values)

    @cached_property
    def told(self) -> dict[str, float]:
        """The family's own, varied by `told` in a `reelign.json` beside the weights.

        Raises:
            ReelignError: a name that the model is not told.
        """
        values: Mapping[str, float] = values_beside(self.model).get(TOLD_KEY, {})
        strange = sorted(values.keys() - self.family_told.keys())
        if strange:
            raise ReelignError(
                f"{file_beside(self.model) or DEFAULTS_FILE} tells the model {strange[0]!r}, which it is not asked.",
                f"It is told {', '.join(self.family_told) or 'nothing beside its inputs'}.",
            )
        return {**self.family_told, **values}

    @property
    def call_arguments(self) -> dict[str, Any]:
        """What a plain call of the pipeline needs beside size, steps and guidance to make the same videos."""
        return {}

    def pipeline_call(self, arguments: dict[str, Any]) -> dict[str, Any]:
        """A plain call of the pipeline that makes the same videos: its class, what a script says before, its arguments,
        and whether a prompt is among them.

        Args:
            arguments: size, steps, `guidance_scale` and `negative_prompt`, by the names that most pipelines have.
        """
        kind = importable(type(self.pipeline))
        return {
            "pipeline": kind.__name__,
            "module": "diffusers" if kind.__module__.startswith("diffusers.") else kind.__module__,
            "adapter_line": self.adapter_line,
            "arguments": {**arguments, **self.call_arguments},
            "reads_prompts": True,
        }

    @classmethod
    def original_lora_names(cls, layers: dict[str, Tensor]) -> dict[str, Tensor]:
        """Adapter weights of `save_lora_weights` under the key names of the model's original code (ComfyUI's).

        Raises:
            ReelignError: the family has no such names.
        """
        raise ReelignError(
            f"{cls.__name__} adapters cannot be written under original key names.", "Export format=diffusers."
        )

    def enable_activation_checkpointing(self, *, keep_attention: bool = False) -> None:
        """Keep no activations inside the denoisers' blocks but run them again in the backward pass: less memory, about
        one third more time, the same gradients. Forwards without gradients are as before.

        With `keep_attention` what attention gives is kept: over long sequences most of the time for some of the memory.
        """
        denoisers: Any = self.denoisers.values()
        for denoiser in denoisers:
            denoiser.enable_gradient_checkpointing(run_again_but_attention if keep_attention else run_again)


def importable(kind: type) -> type:
    """The class itself or the nearest of its bases that a script finds by name in the module that defines it.

    A family that gives a pipeline methods which diffusers left out loads a class that no module holds.
    """
    found: type = next(
        each for each in kind.__mro__ if getattr(sys.modules[each.__module__], each.__name__, None) is each
    )
    return found
