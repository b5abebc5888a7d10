"""The policy: the generator being aligned, its reference, and what of it trains."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from reelign.errors import ReelignError
from reelign.generators.base import Generator
from reelign.training.ranks import ALONE, Ranks
from reelign.training.sharding import shard, split_like, whole

Weights = Literal["policy", "reference"]

ADAPTER = "policy"


@dataclass(frozen=True, kw_only=True, slots=True)
class LoRA:
    """A low-rank adapter (Hu et al. 2021, arXiv:2106.09685) on the denoiser's linear layers."""

    rank: int = 16
    alpha: int = 16
    """The update is scaled by alpha / rank."""
    targets: tuple[str, ...] = ()
    """Endings of the module names that take the adapter; empty means the family's own list."""

    def __post_init__(self) -> None:
        if self.rank < 1:
            raise ValueError(f"rank must be at least 1, got {self.rank}")


class Policy:
    """Trainable weights over a generator.

    With LoRA the reference is the same weights with the adapter off: no second copy. Trainable weights are fp32
    whatever the base's precision, since small updates are lost in bf16.

    Args:
        generator: the base; its weights stay frozen under LoRA.
        lora: the adapter, or None to train the denoisers' own weights (there is no reference then).
        extra: further modules that train with them, by name.
        seed: of the adapter's initial weights.
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
        if lora is not None:
            for denoiser in modules.values():
                _add_adapter(denoiser, lora, lora.targets or generator.lora_targets, seed)
        else:
            for module in modules.values():
                module.requires_grad_(True)
        if self.sharded:
            for module in modules.values():
                shard(module)
        for name, module in (extra or {}).items():
            modules[name] = module.requires_grad_(True)
        self.parameters: dict[str, nn.Parameter] = {
            f"{component}.{name}": parameter
            for component, module in modules.items()
            for name, parameter in module.named_parameters()
            if parameter.requires_grad
        }
        """Trainable parameters by unique name, in a fixed order."""

    @contextlib.contextmanager
    def using(self, weights: Weights) -> Iterator[None]:
        """Run the block under the named weights; `reference` is the base without the adapter."""
        if weights == "policy":
            yield
            return
        if self.lora is None:
            raise ReelignError(
                "Full fine-tuning has no reference model at hand.", "Train a LoRA adapter, or use an SFT objective."
            )
        denoisers: Any = self.generator.denoisers.values()
        for denoiser in denoisers:
            denoiser.disable_adapters()
        try:
            yield
        finally:
            for denoiser in denoisers:
                denoiser.enable_adapters()

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

    def save(self, folder: Path) -> Path:
        """Write the adapter as `pipeline.load_lora_weights` takes it, alpha in its metadata; returns the file.

        All ranks call it, and the main one writes.
        """
        from peft.utils import get_peft_model_state_dict

        layers: dict[str, Any] = {}
        denoisers: dict[str, Any] = dict(self.generator.denoisers)
        for component, denoiser in denoisers.items():
            state = get_peft_model_state_dict(denoiser, adapter_name=ADAPTER)
            layers[f"{component}_lora_layers"] = {name: whole(value).contiguous() for name, value in state.items()}
            layers[f"{component}_lora_adapter_metadata"] = denoiser.peft_config[ADAPTER].to_dict()
        if self.ranks.main:
            type(self.generator.pipeline).save_lora_weights(folder, **layers)
        return Path(folder) / "pytorch_lora_weights.safetensors"


def load_adapter(generator: Generator, path: Path | str, name: str = "aligned") -> None:
    """Load a saved adapter into the generator for sampling, strictly.

    diffusers only warns where keys do not fit; an adapter that changes nothing, or of which a part would be left out in
    silence, is refused here.
    """
    try:
        strangers = _unknown_layers(generator, path)
        if not strangers:
            generator.pipeline.load_lora_weights(str(path), adapter_name=name)
    except (OSError, ValueError, KeyError, RuntimeError) as error:  # RuntimeError: weights of another width
        raise ReelignError(
            f"{path} could not be loaded as an adapter of {generator.model}: {error}",
            "Give a folder or safetensors file written by `reelign align` or `save_lora_weights`.",
        ) from error
    prefixes = " or ".join(f"'{component}.'" for component in generator.denoisers)
    mend = f"Check that the adapter was trained on this model and that its keys start with {prefixes}."
    if strangers:
        raise ReelignError(
            f"{path} does not fit {generator.model}, which has no {strangers[0]} ({len(strangers)} such layers).",
            mend,
        )
    loaded = generator.pipeline.get_list_adapters()
    if not any(name in adapters for adapters in loaded.values()):
        raise ReelignError(
            f"No weight in {path} fits {generator.model}.",
            mend,
        )
    for denoiser in generator.denoisers.values():
        denoiser.requires_grad_(False).eval()


def _unknown_layers(generator: Generator, path: Path | str) -> list[str]:
    """Layers that a saved adapter changes and the generator does not have."""
    layers = {
        f"{component}.{name}"
        for component, denoiser in generator.denoisers.items()
        for name, _ in denoiser.named_modules()
    }
    found: dict[str, Tensor] | tuple[dict[str, Tensor], Any] = generator.pipeline.lora_state_dict(str(path))
    # The Stable Diffusion loaders, which U-Net pipelines share, return the alphas of other tools' files beside it.
    state = found[0] if isinstance(found, tuple) else found
    return sorted({key.partition(".lora_")[0] for key in state if ".lora_" in key} - layers)


def _add_adapter(denoiser: Any, lora: LoRA, targets: tuple[str, ...], seed: int) -> None:
    from peft import LoraConfig

    config = LoraConfig(r=lora.rank, lora_alpha=lora.alpha, target_modules=list(targets), init_lora_weights=True)
    # peft draws from the global generator; give it ours and hand the old state back.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        denoiser.add_adapter(config, adapter_name=ADAPTER)
    for name, parameter in denoiser.named_parameters():
        if parameter.requires_grad:
            if "lora_" not in name:
                raise AssertionError(f"{name} trains but is no part of the adapter")
            parameter.data = parameter.data.float()
