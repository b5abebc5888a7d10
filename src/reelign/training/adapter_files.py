"""Saved adapters as weights: what they are known by, and how a policy goes on from one."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor

from reelign.errors import ReelignError
from reelign.training.adapters import ADAPTER, ADAPTER_FILE, WEIGHTS_FILE, expert_files, lora_files, of_component
from reelign.training.policy import Policy


def weights_key(folder: Path) -> str:
    """Changes with the weights and the scale of an adapter or of any trained denoiser."""
    return files_key(sorted(folder.glob(f"*/{WEIGHTS_FILE}")) or lora_files(folder) or [folder / ADAPTER_FILE])


def files_key(paths: Iterable[Path]) -> str:
    """Changes with the tensors of safetensors files, and the scales of adapters among them.

    Not with the files, whose metadata has no fixed order.
    """
    digest = hashlib.sha256()
    for path in paths:
        with safe_open(path, framework="pt") as file:
            metadata = json.loads((file.metadata() or {}).get("lora_adapter_metadata", "{}"))
            scales = {key: value for key, value in metadata.items() if key.endswith((".r", ".lora_alpha"))}
            digest.update(json.dumps(scales, sort_keys=True).encode())
            for name in sorted(file.keys()):
                # As bytes: numpy knows no bfloat16.
                raw = file.get_tensor(name).flatten().view(torch.uint8)
                digest.update(name.encode() + raw.numpy().tobytes())
    return digest.hexdigest()[:12]


def start_from(policy: Policy, folder: Path) -> None:
    """Let a fresh policy begin with a saved adapter, and be held near it: its reference moves there too.

    Args:
        policy: with an adapter of the saved one's shape, made with `moving=True`.
        folder: as `Policy.save` wrote it.
    Raises:
        ReelignError: the adapter has other layers, another rank or another scale, or is of other denoisers.
    """
    files = expert_files(policy.generator, folder)
    trained = [files[component] for component in policy.experts]
    if lora_files(folder) != sorted(trained):
        raise ReelignError(
            f"{folder} is no adapter of {' and '.join(policy.experts)} of {policy.generator.model}, which train here.",
            "Train with the experts that it was made with.",
        )
    weights: dict[str, Tensor] = {}
    for component, path in zip(policy.experts, trained, strict=True):
        weights |= _lora_weights(policy, component, path)
    policy.load_state_dict(weights)
    policy.move_reference()


def _lora_weights(policy: Policy, component: str, path: Path) -> dict[str, Tensor]:
    """The weights in the adapter's file of one denoiser by the names of the policy's parameters, in fp32."""
    saved = {name: tensor.float() for name, tensor in load_file(path).items()}
    named = {saved_name: name for name, saved_name in _saved_names(policy, component).items()}
    own = {name: tuple(each.shape) for name, each in policy.state_dict().items()}
    unfit = [name for name, each in saved.items() if own.get(named.get(name, "")) != tuple(each.shape)]
    if unfit or saved.keys() != named.keys() or not _same_scale(policy, component, path):
        odd = (unfit or sorted(saved.keys() ^ named.keys()) or ["lora_alpha"])[0]
        raise ReelignError(
            f"{path} is an adapter of another shape than the one to be trained: {odd} does not fit.",
            "Train with the lora settings that it was made with.",
        )
    return {named[name]: tensor for name, tensor in saved.items()}


def _saved_names(policy: Policy, component: str) -> dict[str, str]:
    """The name of each parameter of a denoiser, and the one it has in its saved adapter."""
    from peft.utils import get_peft_model_state_dict

    own = of_component(policy.state_dict(), component)
    known = {id(tensor): f"{component}.{name}" for name, tensor in own.items()}
    denoiser: Any = policy.denoisers[component]
    saved: dict[str, Tensor] = get_peft_model_state_dict(denoiser, state_dict=dict(own), adapter_name=ADAPTER)
    return {known[id(tensor)]: f"{_prefix(policy)}.{name}" for name, tensor in saved.items()}


def _same_scale(policy: Policy, component: str, path: Path) -> bool:
    """Whether the file's alpha is that of the policy's adapter; without the rank there is another scale too."""
    with safe_open(path, framework="pt") as file:
        metadata = json.loads((file.metadata() or {}).get("lora_adapter_metadata", "{}"))
    denoiser: Any = policy.denoisers[component]
    return bool(metadata.get(f"{_prefix(policy)}.lora_alpha") == denoiser.peft_config[ADAPTER].lora_alpha)


def _prefix(policy: Policy) -> str:
    """What the keys of all adapters begin with, as `expert_files` says."""
    return next(iter(policy.generator.denoisers))
