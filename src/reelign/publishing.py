"""What leaves the workspace: the report, the adapter in other tools' formats, the hub."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import shutil
from pathlib import Path
from typing import Any

import torch
import yaml
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from reelign.diffusion.seeds import generator_from
from reelign.errors import ReelignError
from reelign.evaluation import (
    CardSample,
    Comparison,
    Interval,
    Measure,
    Report,
    ReportSample,
    compare,
    write_card,
    write_report,
)
from reelign.generators import SamplingDefaults, load_generator, resolve_model
from reelign.recipes.offline import ADAPTER_FOLDER, CONFIG_FILE
from reelign.records import Video, Workspace
from reelign.stages import EVALUATION, run_folder
from reelign.video import read_video

ADAPTER_FILE = "pytorch_lora_weights.safetensors"
RESULT = "result.json"
REPORT = "report.html"
PACKAGES = ("reelign", "torch", "diffusers", "transformers", "peft", "accelerate", "av")


def report(
    workspace: str | Path,
    *,
    run: str = "align",
    samples: int = 8,
    stages: dict[str, float] | None = None,
    peak_memory_bytes: int | None = None,
    controls: list[tuple[str, Interval]] | None = None,
) -> Path:
    """Write an evaluated run's `result.json` and self-contained `report.html`; returns the page.

    Args:
        workspace: the workspace folder.
        run: an evaluated run.
        samples: prompts shown before and after.
        stages: seconds per stage, if they were timed.
        peak_memory_bytes: if it was measured.
        controls: gains of runs that should not gain.
    """
    opened = Workspace.open(workspace)
    folder = run_folder(opened, run)
    kept = read_evaluation(folder)
    comparison = comparison_of(kept)
    config = yaml.safe_load((folder / CONFIG_FILE).read_text())
    result = {
        "gain": comparison.gain,
        "low": comparison.low,
        "high": comparison.high,
        "win_rate": comparison.win.rate,
        "dimensions": comparison.as_dict()["dimensions"],
        "measures": kept["measures"],
        "failed": kept["failed"],
        "seconds": stages or {},
        "peak_memory_bytes": peak_memory_bytes,
        "controls": {name: [interval.mean, interval.low, interval.high] for name, interval in controls or []},
    }
    _write_whole(folder / RESULT, json.dumps(result, indent=2) + "\n")
    shown, fps = _samples(opened, kept, samples)
    page = Report(
        title=f"{run}: base and aligned",
        model=opened.model,
        comparison=comparison,
        samples=shown,
        fps=fps,
        curves=folder / "metrics.jsonl",
        config=config,
        versions=versions(),
        seeds={"training": config["align"]["seed"], "evaluation": kept["settings"]["seed"]},
        stages=stages or {},
        peak_memory_bytes=peak_memory_bytes,
        measures=[Measure(name=name, base=base, aligned=aligned) for name, (base, aligned) in kept["measures"].items()],
        controls=controls or [],
    )
    write_report(folder / REPORT, page)
    return folder / REPORT


def read_evaluation(folder: Path) -> dict[str, Any]:
    """The numbers that `evaluate` kept in the run's folder."""
    path = folder / EVALUATION
    if not path.exists():
        raise ReelignError(
            f"The run {folder.name} was not evaluated yet.",
            f"Evaluate it: reelign evaluate -w WORKSPACE run={folder.name}",
        )
    kept: dict[str, Any] = json.loads(path.read_text())
    return kept


def comparison_of(kept: dict[str, Any]) -> Comparison:
    """The comparison behind kept scores: the bootstrap is seeded, so these are the very numbers of the evaluation."""
    settings = kept["settings"]
    shape = (-1, settings["seeds"])
    sides = [
        {name: torch.tensor(values).reshape(shape) for name, values in kept[key].items()}
        for key in ("base_scores", "aligned_scores")
    ]
    return compare(
        *sides,
        tie=settings["tie"],
        resamples=settings["resamples"],
        generator=generator_from(settings["seed"], "bootstrap"),
    )


def export_adapter(workspace: str | Path, out: str | Path, *, run: str = "align", format: str = "diffusers") -> Path:
    """Write a run's adapter as one safetensors file.

    `diffusers` is the file as `pipe.load_lora_weights` takes it; `comfyui` has the original code's key names and an
    `.alpha` tensor a layer, without which an alpha that differs from the rank would be lost.
    """
    opened = Workspace.open(workspace)
    source = run_folder(opened, run) / ADAPTER_FOLDER / ADAPTER_FILE
    out = Path(out)
    if format not in ("diffusers", "comfyui"):
        raise ReelignError(f"There is no adapter format {format!r}.", "Formats: diffusers, comfyui.")
    out.parent.mkdir(parents=True, exist_ok=True)
    if format == "diffusers":
        shutil.copyfile(source, out)
        return out
    layers = load_file(source)
    alpha = float(adapter_config(source)["lora_alpha"])
    named = load_generator(opened.model).original_lora_names(layers)
    alphas = {name.removesuffix(".lora_A.weight") + ".alpha" for name in named if name.endswith(".lora_A.weight")}
    save_file({**named, **{name: torch.tensor(alpha) for name in sorted(alphas)}}, out)
    return out


def adapter_config(path: Path) -> dict[str, Any]:
    """The LoRA settings in an adapter file's metadata, without their component's prefix."""
    with safe_open(path, framework="pt") as file:
        metadata = json.loads(file.metadata()["lora_adapter_metadata"])
    return {key.partition(".")[2]: value for key, value in metadata.items()}


def usage_lines(workspace: Workspace, adapter: Path | str, prompt: str) -> str:
    """The lines of plain diffusers that sample from the aligned model, with all that its sampling depends on."""
    generator = load_generator(workspace.model)
    pipeline = type(generator.pipeline).__name__
    how: SamplingDefaults = generator.defaults
    arguments = {
        "negative_prompt": "",
        "num_frames": how.num_frames,
        "height": how.height,
        "width": how.width,
        "num_inference_steps": how.num_inference_steps,
        "guidance_scale": how.guidance_scale,
        **generator.call_arguments,
    }
    listed = ", ".join(f"{name}={value!r}" for name, value in arguments.items())
    source = resolve_model(workspace.model)
    return "\n".join(
        [
            f"import torch, diffusers; pipe = diffusers.{pipeline}.from_pretrained({source!r}, dtype=torch.float32)",
            f'pipe.load_lora_weights({str(adapter)!r}, adapter_name="aligned")',
            f'frames = pipe({prompt!r}, {listed}, generator=torch.Generator().manual_seed(0), output_type="pt").frames',
        ]
    )


def push(workspace: str | Path, target: str, *, run: str = "align", samples: int = 4) -> str:
    """Put a run's adapter, its card and sample videos into a hub repository or a local folder; returns where."""
    opened = Workspace.open(workspace)
    folder = run_folder(opened, run)
    kept = read_evaluation(folder)
    local = Path(target) if target.startswith((".", "/")) or Path(target).is_dir() else folder / "upload"
    local.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(folder / ADAPTER_FOLDER / ADAPTER_FILE, local / ADAPTER_FILE)
    shutil.copyfile(folder / CONFIG_FILE, local / CONFIG_FILE)
    config = yaml.safe_load((folder / CONFIG_FILE).read_text())
    text = {prompt.id: prompt.text for prompt in opened.prompts()}
    shown = _every(_videos(opened, kept["aligned"]), samples)
    for video in shown:
        shutil.copyfile(opened.video_path(video), local / f"{video.id}.mp4")
    write_card(
        local,
        base_model=opened.model,
        comparison=comparison_of(kept),
        config=config,
        data_hash=str(config["data"]),
        usage=usage_lines(opened, target, text[shown[0].prompt_id]),
        samples=[CardSample(prompt=text[video.prompt_id], file=f"{video.id}.mp4") for video in shown],
    )
    if local == folder / "upload":
        return _upload(local, target)
    return str(local)


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


def versions() -> dict[str, str]:
    """What this ran on."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        found[name] = importlib.metadata.version(name)
    return found


def _samples(workspace: Workspace, kept: dict[str, Any], count: int) -> tuple[list[ReportSample], float]:
    """Prompts spread over the whole list, not picked by their scores: what one sees is what there is."""
    text = {prompt.id: prompt.text for prompt in workspace.prompts()}
    base = {(video.prompt_id, video.index): video for video in _videos(workspace, kept["base"])}
    aligned = {(video.prompt_id, video.index): video for video in _videos(workspace, kept["aligned"])}
    prompts = list(dict.fromkeys(key[0] for key in (*base, *aligned)))
    seeds = kept["settings"]["seeds"]
    cells = [cell for cell in base if cell in aligned and cell[1] == 0]
    shown = []
    for cell in _every(cells, count):
        row = prompts.index(cell[0]) * seeds + cell[1]
        shown.append(
            ReportSample(
                prompt=text[cell[0]],
                seed=base[cell].seed,
                base=read_video(workspace.video_path(base[cell])).frames,
                aligned=read_video(workspace.video_path(aligned[cell])).frames,
                base_scores={name: values[row] for name, values in kept["base_scores"].items()},
                aligned_scores={name: values[row] for name, values in kept["aligned_scores"].items()},
            )
        )
    return shown, next(iter(base.values())).fps


def _videos(workspace: Workspace, ids: list[str]) -> list[Video]:
    known = {video.id: video for video in workspace.videos()}
    return [known[key] for key in ids]


def _every(items: list[Any], count: int) -> list[Any]:
    """`count` items evenly spread over the list."""
    count = min(count, len(items))
    return [items[index * len(items) // count] for index in range(count)]


def _write_whole(path: Path, text: str) -> None:
    beside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    beside.write_text(text)
    beside.replace(path)
