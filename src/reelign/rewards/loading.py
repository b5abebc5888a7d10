"""Weights loaded strictly, and what a loaded reward is checked with before anyone trusts its numbers."""

from __future__ import annotations

import hashlib
import math
import pickle
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor, nn

from reelign.errors import ReelignError
from reelign.rewards.base import Reward

TEST_PROMPTS = ("A bright square moves to the right over a colourful background.", "Night.")


def device_and_dtype(device: str, dtype: str, *, large: bool = False) -> tuple[torch.device, torch.dtype]:
    """Where a reward runs and in which precision.

    Args:
        device: torch's name of it; 'auto' is cuda where there is one.
        dtype: 'float32', 'float16', 'bfloat16'; 'auto' is bfloat16 for a large model off the CPU and else float32.
        large: whether the model has billions of parameters.
    Raises:
        ReelignError: an unknown dtype or device.
    """
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if dtype == "auto":
        dtype = "bfloat16" if large and device != "cpu" else "float32"
    if dtype not in ("float32", "float16", "bfloat16"):
        raise ReelignError(f"dtype is {dtype!r}.", "Give float32, float16, bfloat16 or auto.")
    try:
        return torch.device(device), getattr(torch, dtype)
    except RuntimeError as error:
        raise ReelignError(f"There is no device {device!r}: {error}.", "Give cpu, cuda, cuda:1 or auto.") from error


def load_pretrained(
    kind: Any, source: str, *, device: torch.device, dtype: torch.dtype, apart: str = "", **settings: Any
) -> Any:
    """A model of transformers from a hub id or folder, every weight in its place, frozen and in eval mode.

    transformers itself only warns of weights that it lacks (they stay random) or has no place for.

    Args:
        kind: the class, such as CLIPModel.
        source: hub id or folder.
        apart: keys that begin so belong to a head of their own, which `read_part` reads; "" is none.
        settings: what else its `from_pretrained` takes.
    Raises:
        ReelignError: no such model, or weights that do not fit; the first one is named.
    """
    from transformers.utils import logging

    logging.disable_progress_bar()
    # What does not fit is raised below; the table that transformers prints of it says it may be ignored.
    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        model, report = kind.from_pretrained(source, dtype=dtype, output_loading_info=True, **settings)
    except (OSError, SafetensorError, ValueError, RuntimeError) as error:
        raise ReelignError(
            f"{source} could not be loaded as {kind.__name__}: {_first_line(error)}",
            "Check the hub id or folder; without a network the model must be in the cache of Hugging Face.",
        ) from error
    finally:
        logging.set_verbosity(verbosity)
    unexpected = [key for key in report["unexpected_keys"] if not (apart and str(key).startswith(apart))]
    _refuse(source, kind.__name__, report["missing_keys"], unexpected, report["mismatched_keys"])
    return model.to(device).eval().requires_grad_(False)


def load_part(kind: Any, source: str, **settings: Any) -> Any:
    """A tokenizer or config from a hub id or folder.

    Raises:
        ReelignError: there is none.
    """
    try:
        return kind.from_pretrained(source, **settings)
    except (OSError, ValueError, KeyError) as error:
        raise ReelignError(
            f"{source} holds no {kind.__name__} that can be read: {_first_line(error)}", "Check the hub id or folder."
        ) from error


def _first_line(error: Exception) -> str:
    """What an error says first; the rest of a library's is its own advice."""
    return next(iter(str(error).splitlines()), type(error).__name__)


def load_strictly(module: nn.Module, weights: Mapping[str, Tensor], source: str) -> None:
    """Load a state dict of which every key has a place of its shape, and which leaves none empty.

    Raises:
        ReelignError: the first key that is missing, has no place, or another shape.
    """
    own = module.state_dict()
    other = [key for key, value in weights.items() if key in own and own[key].shape != value.shape]
    _refuse(source, type(module).__name__, own.keys() - weights.keys(), weights.keys() - own.keys(), other)
    module.load_state_dict(dict(weights), strict=True)


def _refuse(source: str, kind: str, missing: Iterable[Any], unexpected: Iterable[Any], other: Iterable[Any]) -> None:
    troubles = (
        ("lacks the weight", missing),
        ("holds, without a place for it, the weight", unexpected),
        ("holds in another shape the weight", other),
    )
    for trouble, keys in troubles:
        names = sorted(str(key[0]) if isinstance(key, tuple) else str(key) for key in keys)
        if names:
            more = f" and {len(names) - 1} more" if len(names) > 1 else ""
            raise ReelignError(
                f"{source} {trouble} {names[0]}{more}.",
                f"Check that it is a checkpoint of {kind} in the public layout.",
            )


def fetch_file(source: str, names: tuple[str, ...]) -> Path:
    """A file of weights: `source` itself, or the first of `names` that its folder or hub repository has.

    Raises:
        ReelignError: none of them is there.
    """
    path = Path(source)
    if path.is_file():
        return path
    if path.is_dir():
        for name in names:
            if (path / name).is_file():
                return path / name
        raise ReelignError(f"{source} holds none of {', '.join(names)}.", "Name the file itself.")
    from huggingface_hub import hf_hub_download

    reasons = []
    for name in names:
        try:
            return Path(hf_hub_download(source, name))
        except (OSError, ValueError) as error:
            reasons.append(f"{name}: {_first_line(error)}")
    raise ReelignError(
        f"{source} is no file or folder, and the hub gave nothing: {'; '.join(reasons)}",
        "Check the hub id, or download the file and name its path.",
    )


def read_weights(path: Path) -> dict[str, Tensor]:
    """The tensors of a .safetensors or of a torch file, by key; nothing but tensors is unpickled.

    Raises:
        ReelignError: a damaged file, or one that holds code beside the tensors.
    """
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        held = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, SafetensorError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
        raise ReelignError(
            f"{path} cannot be read as weights: {_first_line(error)}",
            "Download it again; a whole pickled model must be saved anew as its state_dict().",
        ) from error
    # Training scripts wrap theirs, and leave steps and epochs beside it.
    held = held.get("state_dict", held) if isinstance(held, dict) else held
    if not isinstance(held, dict) or not all(isinstance(value, Tensor) for value in held.values()):
        raise ReelignError(f"{path} holds no state dict of tensors.", "Name the file of weights itself.")
    return held


def read_part(folder: Path, prefix: str) -> dict[str, Tensor]:
    """The tensors of a folder's .safetensors files whose keys begin with `prefix`, without it; the rest is not read."""
    part: dict[str, Tensor] = {}
    for path in sorted(folder.glob("*.safetensors")):
        with safe_open(path, framework="pt") as file:
            held = [key for key in list(file.keys()) if key.startswith(prefix)]
            part |= {key.removeprefix(prefix): file.get_tensor(key) for key in held}
    return part


def fingerprint(*modules: nn.Module) -> str:
    """A digest of weights: names, shapes, precision and 64 values of each, which no other checkpoint shares."""
    digest = hashlib.sha256()
    for module in modules:
        for name, weight in module.state_dict().items():
            flat = weight.detach().flatten()
            values = flat[:: max(1, flat.numel() // 64)][:64].double().cpu()
            digest.update(f"{name} {tuple(weight.shape)} {weight.dtype}".encode() + values.numpy().tobytes())
    return digest.hexdigest()[:12]


def version_of(*parts: object) -> str:
    """A short digest of everything that decides a score: weights' fingerprint, preprocessing, templates, settings."""
    return hashlib.sha256("\n".join(map(repr, parts)).encode()).hexdigest()[:12]


def self_test_clip(num_frames: int, height: int = 48, width: int = 64) -> Tensor:
    """The clip of the self-test: a bright square that moves over two gradients, (F, 3, H, W) in [0, 1]."""
    down, across = torch.meshgrid(torch.linspace(0, 1, height), torch.linspace(0, 1, width), indexing="ij")
    frames = torch.stack([across, down, (across + down) / 2]).repeat(num_frames, 1, 1, 1)
    for index, frame in enumerate(frames):
        left = index * (width // 2) // num_frames
        frame[:, height // 4 : height // 2, left : left + width // 4] = 1.0
    return (frames * 255).round() / 255


def tolerance_of(dtype: torch.dtype) -> float:
    """How far the self-test's scores may differ in a precision: kernels round otherwise for other batches."""
    return 1e-2 if dtype == torch.float32 else 0.1


def self_test(
    reward: Reward,
    *,
    expected: Mapping[str, float] | float | None = None,
    prompts: tuple[str, str] = TEST_PROMPTS,
    num_frames: int = 2,
    fps: float = 8.0,
    tolerance: float = 1e-2,
) -> dict[str, float]:
    """Score a fixed clip alone and beside another one: numbers, the same in both, and those that are expected.

    Args:
        reward: just loaded.
        expected: the clip's score by dimension, as an earlier load of the same weights gave it; a number
            where there is one dimension; None checks the rest.
        prompts: of the clip, and of the other one.
        num_frames: of the clip, where the reward needs fewer.
        tolerance: how far scores may differ, times 1 + their size; half precision rounds.
    Returns:
        The clip's score by dimension, to be kept as `expected`.
    Raises:
        ReelignError: a score that is no number, that changes with its company, or that is not the expected one.
    """
    if isinstance(expected, float | int):
        expected = {reward.dimensions[0]: expected}
    length = max(num_frames, reward.frames_needed)
    clip = self_test_clip(length)
    with torch.no_grad():
        alone = reward.score([clip], prompts[:1], fps=fps)
        beside = reward.score([1 - self_test_clip(length, 40, 40), clip], prompts[::-1], fps=fps)
    mend = "Download the weights again, and update reelign and transformers."
    scores = {}
    for dimension in reward.dimensions:
        score, again = float(alone[dimension][0]), float(beside[dimension][1])
        if not (math.isfinite(score) and math.isfinite(again)):
            raise ReelignError(f"The reward {reward.name!r} gives its test clip {score} for {dimension}.", mend)
        if abs(score - again) > tolerance * (1 + abs(score)):
            raise ReelignError(
                f"The reward {reward.name!r} gives its test clip {score:.5g} for {dimension} alone and {again:.5g} "
                "beside another clip.",
                mend,
            )
        if expected is not None and (
            dimension not in expected or abs(score - expected[dimension]) > tolerance * (1 + abs(score))
        ):
            raise ReelignError(
                f"The reward {reward.name!r} gives its test clip {score:.5g} for {dimension}; expected was "
                f"{expected.get(dimension, 'nothing')}.",
                "Check that these are the weights that the expected score was taken with.",
            )
        scores[dimension] = score
    return scores
