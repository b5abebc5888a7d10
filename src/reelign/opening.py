"""A workspace opened for a stage: its settings, its model and its runs."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import torch
import yaml

from reelign.annotate import AnnotateSettings
from reelign.config import Layer, ModelSettings, read_yaml, resolve, resolve_one_of
from reelign.errors import ReelignError
from reelign.evaluation import EvaluateSettings
from reelign.files import write_text
from reelign.generators import Generator, check_supported, load_generator, resolve_model
from reelign.recipes.critic.settings import CriticSettings
from reelign.recipes.judging import JudgeSettings
from reelign.recipes.latent_reward.settings import LatentRewardSettings
from reelign.recipes.offline.align import ADAPTER_FOLDER, CONFIG_FILE, AlignSettings
from reelign.recipes.prompts.settings import PromptSettings
from reelign.recipes.reward.settings import RewardSettings
from reelign.recipes.rounds.settings import IterateSettings
from reelign.recipes.sampling import GenerateSettings
from reelign.recipes.streams import stream_settings
from reelign.records import Workspace
from reelign.training import load_adapter
from reelign.training.adapter_files import weights_key
from reelign.training.adapters import ADAPTER_FILE, saved_weights

WORKSPACE_CONFIG = "reelign.yaml"
MODEL_SETTINGS = "settings.yaml"
"""What a model folder may bring beside its weights: settings that suit it, which a new workspace starts with."""
SECTIONS: dict[str, type[Any]] = {
    "model": ModelSettings,
    "generate": GenerateSettings,
    "judge": JudgeSettings,
    "annotate": AnnotateSettings,
    "align": AlignSettings,
    "evaluate": EvaluateSettings,
    "reward": RewardSettings,
    "critic": CriticSettings,
    "latent_reward": LatentRewardSettings,
    "iterate": IterateSettings,
    "prompts": PromptSettings,
}


def write_config(workspace: Workspace) -> None:
    """Give the workspace a settings file, unless it has one: the model folder's own, or empty sections."""
    path = workspace.root / WORKSPACE_CONFIG
    own = Path(resolve_model(workspace.model)) / MODEL_SETTINGS
    if path.exists():
        return
    if own.exists():
        write_text(path, own.read_text(encoding="utf-8"))
        return
    sections = "\n".join(f"{name}: {{}}" for name in SECTIONS)
    write_text(
        path, f"# Settings of this workspace's commands; `reelign schema` prints what each may hold.\n{sections}\n"
    )


def settings_of(
    workspace: Workspace, section: str, layers: list[Layer] | None = None, given: Mapping[str, Any] | None = None
) -> Any:
    """A stage's settings: defaults, the workspace's own, further layers, those given in the call."""
    return resolve_section(section, [*section_layers(workspace, section, layers), ("the call", given or {})])


def section_layers(workspace: Workspace, section: str, layers: list[Layer] | None = None) -> list[Layer]:
    """What the workspace and further layers say about a section, the later over the earlier."""
    path = workspace.root / WORKSPACE_CONFIG
    stored = read_yaml(path) if path.exists() else {}
    for name in stored:
        if name not in SECTIONS:
            near = difflib.get_close_matches(str(name), SECTIONS, n=1)
            mend = f"Did you mean {near[0]!r}? " if near else ""
            raise ReelignError(f"{path}: there is no section {name!r}.", f"{mend}Sections: {', '.join(SECTIONS)}.")
    own = stored.get(section) or {}
    if not isinstance(own, Mapping):
        raise ReelignError(f"{path}: {section} = {own!r} is not valid.", "Write `key: value` lines under it.")
    return [(str(path), own), *(_part(layer, section) for layer in layers or [])]


def resolve_section(section: str, layers: list[Layer]) -> Any:
    """A section's settings from its layers; those of `align` are of the kind that its stream has.

    Raises:
        ReelignError: an unknown key or a wrong value, or another section's name among the keys.
    """
    _check_apart(section, layers)
    if section == "align":
        return resolve_one_of(stream_settings(), "stream", layers)
    return resolve(SECTIONS[section], layers)


def section_kinds(section: str) -> list[type[Any]]:
    """The dataclasses that a section's settings may be of."""
    return list(stream_settings().values()) if section == "align" else [SECTIONS[section]]


def _check_apart(section: str, layers: list[Layer]) -> None:
    """Refuse `model.dtype=bfloat16` among the settings of another section, of which it is no misspelt key."""
    own = {field.name for kind in section_kinds(section) for field in fields(kind)}
    for name, settings in layers:
        for key in settings:
            if key in SECTIONS and key not in own:
                raise ReelignError(
                    f"{name}: there is no key {key!r} among the settings of {section}: it is a section of its own.",
                    f"Write what it is to hold under `{key}:` in {WORKSPACE_CONFIG}, the workspace's settings.",
                )


def _part(layer: Layer, section: str) -> Layer:
    """A file of whole sections, such as a recipe or another workspace's settings, brings its own section's alone."""
    name, settings = layer
    return (f"{name}, under {section}", settings.get(section) or {}) if is_of_sections(layer) else layer


def is_of_sections(layer: Layer) -> bool:
    """Whether a layer is a file of whole sections, and not of one command's settings.

    Only a file: `evaluate.seeds=4` among the words of another command is a mistake to be told.
    """
    name, settings = layer
    parts = [key in SECTIONS and (value is None or isinstance(value, Mapping)) for key, value in settings.items()]
    return name.endswith((".yaml", ".yml")) and bool(parts) and all(parts)


def known_model(model: str) -> str:
    """The model's name as a workspace keeps it: a folder by its whole path, found from anywhere.

    What is wrong with a folder is said before a workspace is made for it, and of a hub id what can be known without the
    network: a name that the hub does not take, a path that leads into a folder here, a kept copy of a pipeline that is
    not supported. Another id is looked up when it is loaded (`is_unseen`).
    """
    source = resolve_model(model)
    is_hub_id = source.count("/") == 1 and not source.startswith((".", "~", "/")) and not Path(source).exists()
    if is_hub_id:
        _check_hub_id(model)
    if folder := _kept_from_hub(model) if is_hub_id else source:
        check_supported(model, folder)
    return model if is_hub_id or source != model else str(Path(model).resolve())


def is_unseen(model: str) -> bool:
    """Whether a model is a hub id of which nothing lies here yet, so that whether it is there is not known."""
    return not Path(resolve_model(model)).exists() and not _kept_from_hub(model)


def _kept_from_hub(model: str) -> str:
    """The folder of a hub id's copy here, '' where there is none."""
    from huggingface_hub import try_to_load_from_cache

    index = try_to_load_from_cache(model, "model_index.json")
    return str(Path(index).parent) if isinstance(index, str) else ""


def _check_hub_id(model: str) -> None:
    """Refuse what cannot be an id of the hub, or is more likely a mistyped folder."""
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]

    above = Path(model).parent
    if above.is_dir():
        near = difflib.get_close_matches(Path(model).name, [each.name for each in above.iterdir()], n=1)
        raise ReelignError(
            f"There is no folder {model}, though there is a folder {above}.",
            f"Did you mean {above / near[0]}?"
            if near
            else "Check the path; to name a hub id all the same, call this from elsewhere.",
        )
    try:
        validate_repo_id(model)
    except HFValidationError as error:
        raise ReelignError(
            f"{model} is no folder here and cannot be an id of the Hugging Face Hub: {error}",
            "Give a diffusers folder, or an id such as Wan-AI/Wan2.1-T2V-1.3B-Diffusers.",
        ) from error


def load_model(workspace: Workspace, *, encoders: bool = True, weights: bool = True) -> Generator:
    """The workspace's generator, on the device and in the precision that its settings name.

    Without `encoders` the weights of text encoders and VAE stay on disk until something has to be encoded; without
    `weights` all do.
    """
    wanted: ModelSettings = settings_of(workspace, "model")
    gpu = torch.cuda.is_available()
    device = ("cuda" if gpu else "cpu") if wanted.device == "auto" else wanted.device
    name = ("float32" if device == "cpu" else "bfloat16") if wanted.dtype == "auto" else wanted.dtype
    return load_generator(
        workspace.model,
        device=_usable(device),
        dtype=getattr(torch, name),
        encoders=encoders,
        weights=weights,
        vae_dtype=getattr(torch, wanted.vae_dtype),
    )


def check_run_name(name: str) -> None:
    """Refuse a name that could not be a run's folder."""
    if not name.strip() or name in (".", "..") or set(name) & set("/\\\0"):
        raise ReelignError(
            f"run = {name!r} cannot be the name of a run's folder.", "Use a name without slashes, such as dpo-1."
        )


def finished_runs(workspace: Workspace) -> list[Path]:
    """Folders of the runs that have an adapter, by name; a folder without its file was left by a kill."""
    adapters = (workspace.root / "runs").glob(f"*/{ADAPTER_FOLDER}")
    return sorted(path.parent for path in adapters if any(path.rglob("*.safetensors")))


def run_folder(workspace: Workspace, run: str) -> Path:
    """The folder of a finished run.

    Raises:
        ReelignError: there is no such run, or it is not finished.
    """
    folder = workspace.root / "runs" / run
    there = finished_runs(workspace)
    if folder not in there and (folder / ADAPTER_FOLDER).is_dir():
        raise ReelignError(
            f"The run {run} has lost its adapter, or never finished: {folder / ADAPTER_FOLDER} holds no weights.",
            f"Put the file back, or go on with the run: reelign align -w WORKSPACE run={run}",
        )
    if folder not in there:
        named = ", ".join(path.name for path in there)
        raise ReelignError(
            f"{workspace.root} has no finished run {run!r}.",
            f"Finished runs: {named}." if named else "Align first: reelign align -w WORKSPACE",
        )
    return folder


def run_config(folder: Path) -> dict[str, Any]:
    """What a run was made with: model, data and settings, as resolved."""
    config: dict[str, Any] = yaml.safe_load((folder / CONFIG_FILE).read_text())
    return config


def use_run(workspace: Workspace, generator: Generator, run: str) -> str:
    """Load the run's adapter and return the name its videos are recorded under, which changes with its weights."""
    folder = run_folder(workspace, run) / ADAPTER_FOLDER
    load_adapter(generator, folder)
    return f"{run}@{weights_key(folder)}"


def adapter_file(folder: Path) -> Path:
    """The adapter of a run's folder; a run that trained all weights has none."""
    path = saved_weights(folder / ADAPTER_FOLDER)
    if path.name != ADAPTER_FILE:
        raise ReelignError(
            f"The run {folder.name} trained all weights and has no adapter.",
            f"Load {path.parent} with the denoiser's from_pretrained.",
        )
    return path


def _usable(device: str) -> str:
    try:
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).partition("\n")[0]
        raise ReelignError(
            f"The device {device!r} cannot be used: {reason}", "Set device under model in reelign.yaml to auto or cpu."
        ) from error
    return device
