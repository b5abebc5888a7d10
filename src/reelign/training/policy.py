"""The policy: the generator being aligned, its reference, and what of it trains."""

from __future__ import annotations

import contextlib
import copy
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from reelign.errors import ReelignError
from reelign.generators.base import Generator
from reelign.generators.experts import TwoExperts
from reelign.training.adapters import ADAPTER, REFERENCE, of_component, save_denoisers, save_lora
from reelign.training.masters import Masters
from reelign.training.ranks import ALONE, Ranks
from reelign.training.sharding import shard, split_like, whole

Weights = Literal["policy", "reference", "base", "average"]
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


def check_experts(generator: Generator, experts: Sequence[str]) -> None:
    """Refuse names of denoisers to train that the model does not have."""
    unknown = [name for name in experts if name not in generator.denoisers]
    if unknown:
        raise ReelignError(
            f"experts names {unknown[0]!r}, and {generator.model} has no such denoiser.",
            f"Name some of {', '.join(generator.denoisers)}, or leave experts empty for all.",
        )


class Policy:
    """Trainable weights over a generator.

    With LoRA the base is the same weights with the adapter off: no second copy. A reference that moves is a second
    adapter on them. What the optimiser moves is fp32 whatever precision the model computes in, since small updates are
    lost in bf16.

    Args:
        generator: the base; its weights stay frozen under LoRA.
        lora: the adapter, or None to train the denoisers' own weights.
        extra: further modules that train with them, by name.
        seed: of the adapter's initial weights.
        reference: keep a frozen copy of the denoisers where all weights train; an adapter needs none.
        moving: the reference may leave the base (`move_reference`); of adapters alone.
        experts: the denoisers that train, by component name; empty is all of them. Others stay the base.
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
        moving: bool = False,
        experts: Sequence[str] = (),
        ranks: Ranks = ALONE,
        sharded: bool = False,
    ) -> None:
        self.generator = generator
        self.lora = lora
        self.ranks = ranks
        self.sharded = sharded and ranks.count > 1
        check_experts(generator, experts)
        _check_kind(generator, lora, moving=moving, sharded=self.sharded)
        self.experts = tuple(name for name in generator.denoisers if not experts or name in experts)
        for component, module in generator.denoisers.items():
            ranks.check_same(_named({component: module}), "as loaded")
        modules = self.denoisers
        self.frozen = copy.deepcopy(modules) if lora is None and reference else {}
        """The base of fully trained denoisers, by component."""
        for denoiser in modules.values():
            if lora is None:
                denoiser.requires_grad_(True)
            else:
                _add_adapters(denoiser, lora, lora.targets or generator.lora_targets, seed, reference=moving)
        self.precision = {name: parameter.dtype for name, parameter in _named(modules).items()}
        """What the model computes in, and its weights are saved in; split weights are kept in fp32 where they train."""
        if self.sharded:
            # Those that do not train too: a rank holds no denoiser by itself.
            for module in (*generator.denoisers.values(), *self.frozen.values()):
                shard(module)
            if isinstance(generator, TwoExperts):
                generator.asked_anywhere = ranks.any
        for name, module in (extra or {}).items():
            modules[name] = module.requires_grad_(True)
        trained = {name: parameter for name, parameter in _named(modules).items() if parameter.requires_grad}
        self.masters = Masters(trained)
        self.parameters: dict[str, nn.Parameter] = self.masters.parameters
        """What the optimiser moves, by unique name and in a fixed order; `refresh` after it did."""
        self.average: dict[str, Tensor] | None = None
        """The moving average of `parameters` where a trainer keeps one: what is saved at its end."""
        self.reference: dict[str, Tensor] | None = None
        """What a moving reference has in the place of `parameters`, in fp32; it begins as the base, which the adapter
        is before its first step."""
        if moving:
            self.reference = {name: tensor.clone() for name, tensor in self.state_dict().items()}
            self._write_reference()

    @property
    def denoisers(self) -> dict[str, nn.Module]:
        """Those of the generator's that train, by component name."""
        return {name: self.generator.denoisers[name] for name in self.experts}

    @contextlib.contextmanager
    def using(self, weights: Weights) -> Iterator[None]:
        """Run the block under the named weights, without gradients but for `policy`.

        `base` is the model without the adapter, `reference` what the objective holds the policy near: the base unless
        it has moved. `average` is the moving average, which is the policy where none is kept; it is exchanged in place,
        bit for bit and without a second copy.
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
        pipeline, denoisers = self.generator.pipeline, self.denoisers
        if weights == "reference" and self.reference is not None:
            # Another adapter, not other values in the same one: a policy's forward may still wait for its backward.
            _activate(denoisers, REFERENCE)
            try:
                yield
            finally:
                _activate(denoisers, ADAPTER)
            return
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

    @torch.no_grad()
    def move_reference(self, share: float = 1.0) -> None:
        """Move the reference towards the policy, by a share in (0, 1]: 1 is a copy, less a moving average."""
        assert self.reference is not None, "this policy's reference is the base"
        for name, own in self.state_dict().items():
            self.reference[name].lerp_(own, share)
        self._write_reference()

    @torch.no_grad()
    def load_reference(self, state: Mapping[str, Tensor]) -> None:
        """Put a saved reference into its place."""
        if self.reference is None or state.keys() != self.reference.keys():
            raise ReelignError(
                "The saved reference does not fit this policy.",
                "Go on with the adapter and reference settings that the run was made with.",
            )
        for name, held in self.reference.items():
            held.copy_(split_like(state[name], self.parameters[name]))
        self._write_reference()

    @torch.no_grad()
    def _write_reference(self) -> None:
        """Round the reference into its adapter, in the precision that the model computes in."""
        assert self.reference is not None
        for component, denoiser in self.denoisers.items():
            there = dict(denoiser.named_parameters())
            for name, held in of_component(self.reference, component).items():
                there[name.replace(f".{ADAPTER}.", f".{REFERENCE}.")].copy_(held)

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
        does, and return the file, the first of several. All ranks call it, and the main one writes; others return None.
        """
        weights: dict[str, Tensor] = whole(self.state_dict())
        if not self.ranks.main:
            return None
        if self.lora is None:
            saved = {name: tensor.to(self.precision.get(name, tensor.dtype)) for name, tensor in weights.items()}
            return save_denoisers(self.generator, saved, folder)
        return save_lora(self.generator, weights, folder)


def _check_kind(generator: Generator, lora: LoRA | None, *, moving: bool, sharded: bool) -> None:
    """Refuse what cannot be together."""
    if sharded and len(generator.denoisers) > 1 and not isinstance(generator, TwoExperts):
        raise ReelignError(
            f"{generator.model} has several denoisers, and its family does not have all ranks ask the same ones, as "
            "split weights must be.",
            "Train with whole weights on each rank: trainer.sharded=false, recipes/accelerate/ddp.yaml.",
        )
    if moving and lora is None:
        raise ReelignError(
            "A reference that moves is a second adapter, and full fine-tuning has none.",
            "Train a LoRA adapter, or hold the policy near the base with reference.name=fixed.",
        )


def _named(modules: Mapping[str, nn.Module]) -> dict[str, nn.Parameter]:
    """The parameters of several modules by unique name."""
    return {
        f"{component}.{name}": parameter
        for component, module in modules.items()
        for name, parameter in module.named_parameters()
    }


def _activate(denoisers: Mapping[str, Any], adapter: str) -> None:
    """Compute with this adapter; gradients are for the policy's alone."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    for denoiser in denoisers.values():
        for module in denoiser.modules():
            if isinstance(module, BaseTunerLayer):
                module.set_adapter([adapter], inference_mode=adapter != ADAPTER)


def _adapters(denoiser: Any, *, on: bool) -> None:
    if on:
        denoiser.enable_adapters()
    else:
        denoiser.disable_adapters()


def _add_adapters(denoiser: Any, lora: LoRA, targets: tuple[str, ...], seed: int, *, reference: bool) -> None:
    """Put the policy's adapter on a denoiser, and one for a reference that moves."""
    from peft import LoraConfig

    config = LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,
        target_modules=list(targets),
        init_lora_weights=True,
        use_dora=lora.dora,
    )
    for name in (ADAPTER, *([REFERENCE] if reference else [])):
        # peft draws from the global generator; give it ours and hand the old state back.
        with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Already found a `peft_config`")  # as is meant
            torch.manual_seed(seed)
            denoiser.add_adapter(config, adapter_name=name)
    if reference:
        _activate({"": denoiser}, ADAPTER)
    for name, parameter in denoiser.named_parameters():
        if parameter.requires_grad and "lora_" not in name:
            raise AssertionError(f"{name} trains but is no part of the adapter")
