"""The policy: the generator being aligned, its reference, and what of it trains."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from reelign.errors import ReelignError
from reelign.generators.base import Generator
from reelign.generators.experts import TwoExperts
from reelign.training.adapters import ADAPTER, REFERENCE, of_component, save_denoisers, save_lora
from reelign.training.lora import LoRA, activate, add_adapters, switch_adapters
from reelign.training.ranks import ALONE, Ranks
from reelign.training.sharding import shard, split_like, whole
from reelign.training.trained import MovedWeights

Weights = Literal["policy", "reference", "base", "average"]


def check_experts(generator: Generator, experts: Sequence[str]) -> None:
    """Refuse names of denoisers to train that the model does not have."""
    unknown = [name for name in experts if name not in generator.denoisers]
    if unknown:
        raise ReelignError(
            f"experts names {unknown[0]!r}, and {generator.model} has no such denoiser.",
            f"Name some of {', '.join(generator.denoisers)}, or leave experts empty for all.",
        )


class Policy(MovedWeights):
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
                add_adapters(denoiser, lora, lora.targets or generator.lora_targets, seed, reference=moving)
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
        MovedWeights.__init__(self, trained)
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
            activate(denoisers, REFERENCE)
            try:
                yield
            finally:
                activate(denoisers, ADAPTER)
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
                switch_adapters(denoiser, on=False)
        try:
            yield
        finally:
            for component, denoiser in denoisers.items():
                if self.lora is None:
                    setattr(pipeline, component, denoiser)
                else:
                    switch_adapters(denoiser, on=True)

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
