"""The policy: the generator being aligned, its reference, and what of it trains."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from reelign.errors import ReelignError
from reelign.generators.base import Generator
from reelign.training.adapters import ADAPTER, save_denoisers, save_lora
from reelign.training.masters import Masters
from reelign.training.ranks import ALONE, Ranks
from reelign.training.sharding import shard, split_like, whole

Weights = Literal["policy", "reference", "average"]
TAKE_ADAPTERS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Embedding)
"""Layers that peft can put an adapter on."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LoRA:
    """A low-rank adapter (Hu et al. 2021, arXiv:2106.09685) on the denoiser's linear layers."""

    rank: int = 16
    alpha: int = 16
    """The update is scaled by alpha / rank."""
    targets: tuple[str, ...] = ()
    """Endings of the module names that take the adapter; empty means the family's own list."""
    dora: bool = False
    """Train each weight's magnitude apart from its direction (DoRA, Liu et al. 2024, arXiv:2402.09353): nearer to full
    fine-tuning at the same rank, and slower."""

    def __post_init__(self) -> None:
        if self.rank < 1:
            raise ValueError(f"rank must be at least 1, got {self.rank}")
        if self.alpha < 1:
            raise ValueError(f"alpha must be at least 1, got {self.alpha}")


def check_targets(generator: Generator, lora: LoRA) -> None:
    """Refuse target names that no layer ends in, or that end in what takes no adapter."""
    layers = [(name, each) for denoiser in generator.denoisers.values() for name, each in denoiser.named_modules()]
    for target in lora.targets:
        found = [(name, each) for name, each in layers if name == target or name.endswith(f".{target}")]
        unfit = [name for name, each in found if not isinstance(each, TAKE_ADAPTERS)]
        if not found or unfit:
            what = f"{unfit[0]} of {generator.model} is no layer" if unfit else f"{generator.model} has no layer"
            end = "that takes an adapter" if unfit else f"whose name ends in {target}"
            raise ReelignError(
                f"lora.targets names {target!r}: {what} {end}.",
                f"Name endings such as {', '.join(generator.lora_targets)}, or leave lora.targets empty.",
            )


class Policy:
    """Trainable weights over a generator.

    With LoRA the reference is the same weights with the adapter off: no second copy. What the optimiser moves is fp32
    whatever precision the model computes in, since small updates are lost in bf16.

    Args:
        generator: the base; its weights stay frozen under LoRA.
        lora: the adapter, or None to train the denoisers' own weights.
        extra: further modules that train with them, by name.
        seed: of the adapter's initial weights.
        reference: keep a frozen copy of the denoisers where all weights train; an adapter needs none.
        ranks: the processes that train it together.
        sharded: split the weights over them.
    """

    def __init__(
        self,
        generator: Generator,
        lora: LoRA | None,
        *,
        extra: dict[str, nn.Module] | None = None,
        seed: int = 0,
        reference: bool = False,
        ranks: Ranks = ALONE,
        sharded: bool = False,
    ) -> None:
        self.generator = generator
        self.lora = lora
        self.ranks = ranks
        self.sharded = sharded and ranks.count > 1
        modules = dict(generator.denoisers)
        for component, module in modules.items():
            ranks.check_same({f"{component}.{name}": each for name, each in module.named_parameters()}, "as loaded")
        self.frozen = copy.deepcopy(modules) if lora is None and reference else {}
        """The reference of fully trained denoisers, by component."""
        for denoiser in modules.values():
            if lora is None:
                denoiser.requires_grad_(True)
            else:
                _add_adapter(denoiser, lora, lora.targets or generator.lora_targets, seed)
        self.precision = {
            f"{component}.{name}": parameter.dtype
            for component, module in modules.items()
            for name, parameter in module.named_parameters()
        }
        """What the model computes in, and its weights are saved in; split weights are kept in fp32 where they train."""
        if self.sharded:
            for module in (*modules.values(), *self.frozen.values()):
                shard(module)
        for name, module in (extra or {}).items():
            modules[name] = module.requires_grad_(True)
        trained = {
            f"{component}.{name}": parameter
            for component, module in modules.items()
            for name, parameter in module.named_parameters()
            if parameter.requires_grad
        }
        self.masters = Masters(trained)
        self.parameters: dict[str, nn.Parameter] = self.masters.parameters
        """What the optimiser moves, by unique name and in a fixed order; `refresh` after it did."""
        self.average: dict[str, Tensor] | None = None
        """The moving average of `parameters` where a trainer keeps one: what is saved at its end."""

    @contextlib.contextmanager
    def using(self, weights: Weights) -> Iterator[None]:
        """Run the block under the named weights, without gradients but for `policy`.

        `reference` is the base without the adapter, `average` the moving average, which is the policy where none is
        kept. They are exchanged in place, bit for bit and without a second copy.
        """
        if weights == "policy" or (weights == "average" and self.average is None):
            yield
            return
        if weights == "average":
            self._exchange_average()
            try:
                yield
            finally:
                self._exchange_average()
            return
        pipeline, denoisers = self.generator.pipeline, dict(self.generator.denoisers)
        if self.lora is None and not self.frozen:
            raise ReelignError(
                "Full fine-tuning keeps no reference model unless it is asked to.",
                "Train a LoRA adapter, use an SFT objective, or make the policy with reference=True.",
            )
        for component, denoiser in denoisers.items():
            if self.lora is None:
                setattr(pipeline, component, self.frozen[component])
            else:
                _adapters(denoiser, on=False)
        try:
            yield
        finally:
            for component, denoiser in denoisers.items():
                if self.lora is None:
                    setattr(pipeline, component, denoiser)
                else:
                    _adapters(denoiser, on=True)

    @torch.no_grad()
    def _exchange_average(self) -> None:
        assert self.average is not None
        for name, parameter in self.parameters.items():
            held = parameter.detach().clone()
            parameter.copy_(self.average[name])
            self.average[name].copy_(held)
        self.refresh()

    def refresh(self) -> None:
        """Let the model compute with what the optimiser has moved."""
        self.masters.refresh()

    def state_dict(self) -> dict[str, Tensor]:
        """Trainable weights, detached, by name."""
        return {name: parameter.detach() for name, parameter in self.parameters.items()}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Load trainable weights strictly: a missing or unexpected name is an error."""
        missing, unexpected = self.parameters.keys() - state.keys(), state.keys() - self.parameters.keys()
        if missing or unexpected:
            raise ReelignError(
                f"The saved weights do not fit: missing {sorted(missing)[:3]}, unexpected {sorted(unexpected)[:3]}.",
                "Load them with the model and the adapter settings they were trained with.",
            )
        with torch.no_grad():
            for name, parameter in self.parameters.items():
                parameter.copy_(split_like(state[name], parameter))
        self.refresh()

    def save(self, folder: Path) -> Path | None:
        """Write the adapter as `pipeline.load_lora_weights` takes it, or fully trained denoisers as `from_pretrained`
        does, and return the file. All ranks call it, and the main one writes; others return None."""
        weights: dict[str, Tensor] = whole(self.state_dict())
        if not self.ranks.main:
            return None
        if self.lora is None:
            saved = {name: tensor.to(self.precision.get(name, tensor.dtype)) for name, tensor in weights.items()}
            return save_denoisers(self.generator, saved, folder)
        return save_lora(self.generator, weights, folder)


def _adapters(denoiser: Any, *, on: bool) -> None:
    if on:
        denoiser.enable_adapters()
    else:
        denoiser.disable_adapters()


def _add_adapter(denoiser: Any, lora: LoRA, targets: tuple[str, ...], seed: int) -> None:
    from peft import LoraConfig

    config = LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,
        target_modules=list(targets),
        init_lora_weights=True,
        use_dora=lora.dora,
    )
    # peft draws from the global generator; give it ours and hand the old state back.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        denoiser.add_adapter(config, adapter_name=ADAPTER)
    for name, parameter in denoiser.named_parameters():
        if parameter.requires_grad and "lora_" not in name:
            raise AssertionError(f"{name} trains but is no part of the adapter")
