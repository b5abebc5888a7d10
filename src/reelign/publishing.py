"""What leaves the workspace: the adapter in other tools' formats, the lines that load it, the upload."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from reelign.errors import ReelignError
from reelign.evaluation import CardSample, is_repository, write_card
from reelign.files import whole
from reelign.generators import family_of, resolve_model
from reelign.opening import adapter_file, run_config, run_folder
from reelign.recipes.offline.align import ADAPTER_FOLDER, CONFIG_FILE
from reelign.records import ImagePrompt, Workspace
from reelign.reporting import comparison_of, evenly, read_evaluation, recorded_videos
from reelign.training.adapters import expert_of, lora_files

FORMATS = ("diffusers", "comfyui")
UPLOAD_FOLDER = "upload"


def export_adapter(workspace: str | Path, out: str | Path, *, run: str = "align", format: str = "diffusers") -> Path:
    """Write a run's adapter as one safetensors file; those of further experts stand beside it under their names.

    `diffusers` is the file as `pipe.load_lora_weights` takes it; `comfyui` has the original code's key names and an
    `.alpha` tensor a layer, without which an alpha that differs from the rank would be lost.
    """
    opened = Workspace.open(workspace)
    folder = run_folder(opened, run)
    adapter_file(folder)
    out = Path(out)
    if format not in FORMATS:
        raise ReelignError(f"There is no adapter format {format!r}.", f"Formats: {', '.join(FORMATS)}.")
    for expert, source in _experts(folder / ADAPTER_FOLDER).items():
        target = out.with_stem(f"{out.stem}-{expert}") if expert else out
        with whole(target) as beside:
            if format == "diffusers":
                shutil.copyfile(source, beside)
            else:
                save_file(_in_original_names(source, opened.model), beside)
    return out


def _experts(adapter: Path) -> dict[str, Path]:
    """The files of a saved adapter by the expert that each belongs to; the first denoiser's has no name."""
    return {expert_of(file): file for file in lora_files(adapter)}


def usage_lines(
    workspace: Workspace, run: str, prompt: str, *, model: str = "", adapter: Path | str | None = None
) -> str:
    """The lines of plain diffusers that sample from an evaluated run's model just as its evaluation did.

    Args:
        workspace: the run's.
        run: an evaluated run.
        prompt: what the lines sample.
        model: where the base is loaded from, if not from where the workspace has it.
        adapter: where the adapter is loaded from, if not from the run's folder.
    """
    folder = run_folder(workspace, run)
    call = read_evaluation(folder)["call"]
    arguments = ", ".join(f"{name}={value!r}" for name, value in call["arguments"].items())
    source, adapter = model or resolve_model(workspace.model), str(adapter or folder / ADAPTER_FOLDER)
    chance = "generator=torch.Generator().manual_seed(0)"
    if isinstance(prompt, ImagePrompt):
        arguments = f"image=diffusers.utils.load_image({str(prompt.image)!r}), {arguments}"
    asked = f"prompt={str(prompt)!r}, " if call.get("reads_prompts", True) else ""
    prepare, module = call.get("adapter_line", ""), call.get("module", "diffusers")
    imports = ", ".join(dict.fromkeys(["torch", "diffusers", module]))
    return "\n".join(
        [
            f"import {imports}; pipe = {module}.{call['pipeline']}.from_pretrained({source!r}, dtype=torch.float32)",
            *([prepare] if prepare else []),
            *_loading(adapter, _experts(folder / ADAPTER_FOLDER)),
            f'frames = pipe({asked}{arguments}, {chance}, output_type="pt").frames',
        ]
    )


def _loading(adapter: str, files: dict[str, Path]) -> list[str]:
    """A line for each file of the adapter."""
    return [
        f"pipe.load_lora_weights({adapter!r}, "
        + (f'weight_name="{file.name}", load_into_{expert}=True, ' if expert else "")
        + 'adapter_name="aligned")'
        for expert, file in files.items()
    ]


def push(
    workspace: str | Path,
    repository: str = "",
    *,
    folder: str | Path | None = None,
    run: str = "align",
    samples: int = 4,
) -> str:
    """Put an evaluated run's adapter, its card and sample videos where others find them; returns where.

    Args:
        workspace: the run's.
        repository: a repository of the Hugging Face Hub, as `owner/name`.
        folder: a local folder to write the same files into; one of the two is given, never both.
        run: an evaluated run.
        samples: videos shown on the card.
    """
    _check_target(repository, folder)
    opened = Workspace.open(workspace)
    source = run_folder(opened, run)
    adapter_file(source)
    local = Path(folder) if folder is not None else source / UPLOAD_FOLDER
    kept, config = read_evaluation(source), run_config(source)
    text = {prompt.id: opened.asked(prompt) for prompt in opened.prompts()}
    # One video a prompt: several of one would show less of what the adapter does.
    shown = evenly([video for video in recorded_videos(opened, kept["aligned"]) if video.index == 0], samples)
    model = _public_name(opened.model)
    if folder is None:
        _clear(local, opened)
    for file in lora_files(source / ADAPTER_FOLDER):
        _copy(file, local / file.name)
    _copy(source / CONFIG_FILE, local / CONFIG_FILE)
    for video in shown:
        _copy(opened.video_path(video), local / f"{video.id}.mp4")
    first = text[shown[0].prompt_id]
    if isinstance(first, ImagePrompt):
        _copy(first.image, local / first.image.name)
        first = ImagePrompt(str(first), Path(first.image.name), first.image_key)
    write_card(
        local,
        base_model=model,
        comparison=comparison_of(kept),
        config=config,
        data_hash=str(config["data"]),
        usage=usage_lines(opened, run, first, model=model, adapter=repository or local),
        samples=[CardSample(prompt=str(text[video.prompt_id]), file=f"{video.id}.mp4") for video in shown],
    )
    return _upload(local, repository) if repository else str(local)


def _clear(folder: Path, workspace: Workspace) -> None:
    """Remove the videos of an earlier push, which the new card would not show; what others put there stays."""
    known = {video.id for video in workspace.videos()}
    # From the folder's own files: an imported id may be any text, one that leads elsewhere too.
    for path in folder.glob("*.mp4"):
        if path.stem in known:
            path.unlink()


def _copy(source: Path, target: Path) -> None:
    with whole(target) as beside:
        shutil.copyfile(source, beside)


def _public_name(model: str) -> str:
    """A model as others may read of it: a hub id as it is, of a folder here its name alone."""
    return model if is_repository(model) and not Path(model).exists() else f"path/to/{Path(model).name}"


def _check_target(repository: str, folder: str | Path | None) -> None:
    if (folder is None) == (not repository):
        raise ReelignError(
            "An adapter is pushed to one place: a hub repository or a local folder.",
            "Give either: reelign push me/wan-dpo, or reelign push --to FOLDER",
        )
    if folder is not None:
        if Path(folder).is_file():
            raise ReelignError(f"{folder} is a file.", "Name a folder for the adapter.")
        return
    if not is_repository(repository):
        raise ReelignError(
            f"{repository!r} is no hub repository, whose name is owner/name.",
            f"Write it as me/wan-dpo; a local folder is named by its option: reelign push --to {repository}",
        )


def _upload(folder: Path, repository: str) -> str:
    from huggingface_hub import HfApi

    api = HfApi()
    try:
        api.create_repo(repository, exist_ok=True)
        return str(api.upload_folder(repo_id=repository, folder_path=str(folder)))
    except Exception as error:  # of the hub, of its HTTP library, of the network: all end the same way
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        raise ReelignError(
            f"{repository} could not be uploaded: {reason}",
            f"Check the name, the network and `hf auth login`; what was to be uploaded is in {folder}.",
        ) from error


def _in_original_names(adapter: Path, model: str) -> dict[str, Any]:
    """The adapter's weights under the names of the model's own code, with an alpha a layer."""
    named = family_of(model).original_lora_names(load_file(adapter))
    first = ".lora_A.weight"
    layers = [name.removesuffix(first) for name in sorted(named) if name.endswith(first)]
    return {**named, **{f"{layer}.alpha": torch.tensor(_lora_alpha(adapter)) for layer in layers}}


def _lora_alpha(adapter: Path) -> float:
    """The scale in an adapter file's metadata, whose keys carry their component's prefix."""
    with safe_open(adapter, framework="pt") as file:
        metadata = json.loads(file.metadata()["lora_adapter_metadata"])
    return next(float(value) for key, value in metadata.items() if key.partition(".")[2] == "lora_alpha")
