"""The stages of the loop, by the names of the commands: `reelign.generate("workspace", candidates=4)`.

Each takes a workspace folder and settings as keywords (nested ones as dicts), over the workspace's `reelign.yaml`.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import resource
import time
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import safe_open

from reelign.config import Layer, ModelSettings, read_yaml, resolve
from reelign.errors import ReelignError
from reelign.evaluation import Evaluated, EvaluateSettings
from reelign.evaluation import evaluate as compare_videos
from reelign.evaluation.evaluate import load_scorer
from reelign.generators import Generator, check_supported, load_generator, pipeline_class, resolve_model
from reelign.recipes.generation import Candidates, Generated, GenerateSettings, Sampling
from reelign.recipes.generation import generate as generate_candidates
from reelign.recipes.judging import Judged, JudgeSettings
from reelign.recipes.judging import judge as ask_judges
from reelign.recipes.offline import ADAPTER_FOLDER, Aligned, AlignSettings
from reelign.recipes.offline import align as align_offline
from reelign.recipes.preference_data import file_preferences, workspace_preferences
from reelign.records import FilePair, Workspace, load_judges, write_pairs
from reelign.training import load_adapter
from reelign.video import write_video

T = TypeVar("T")

WORKSPACE_CONFIG = "reelign.yaml"
EVALUATION = "evaluation.json"
SECTIONS: dict[str, type[Any]] = {
    "model": ModelSettings,
    "generate": GenerateSettings,
    "judge": JudgeSettings,
    "align": AlignSettings,
    "evaluate": EvaluateSettings,
}


def init(
    folder: str | Path,
    *,
    model: str = "spriteworld",
    prompts: str | Path | None = None,
    held_out: str | Path | None = None,
) -> Workspace:
    """Make a workspace and fill it with prompts.

    Args:
        folder: where.
        model: a diffusers folder, a hub id, or the shipped `spriteworld`.
        prompts, held_out: text files with a prompt a line, to train on and to evaluate on. A model folder may bring
            its own as `prompts/train.txt` and `prompts/held_out.txt`.
    """
    model = _known_model(model)
    workspace = Workspace.create(folder, model=model)
    config = workspace.root / WORKSPACE_CONFIG
    if not config.exists():
        sections = "\n".join(f"{name}: {{}}" for name in SECTIONS)
        config.write_text(
            f"# Settings of this workspace's commands; `reelign schema` prints what each may hold.\n{sections}\n"
        )
    own = Path(resolve_model(model)) / "prompts"
    for split, given in (("train", prompts), ("held_out", held_out)):
        path = Path(given) if given is not None else own / f"{split}.txt"
        if given is None and not path.exists():
            continue
        workspace.add_prompts(_read_prompts(path), split)
    return workspace


def generate(workspace: str | Path, *, run: str = "", layers: list[Layer] | None = None, **settings: Any) -> Generated:
    """Sample candidates for every prompt of a split; with `run`, from that run's aligned model."""
    opened = Workspace.open(workspace)
    wanted = _settings(opened, "generate", layers, settings)
    generator = _load(opened)
    adapter = _use_run(opened, generator, run) if run else ""
    return generate_candidates(opened, generator, wanted, adapter=adapter)


def judge(workspace: str | Path, *, layers: list[Layer] | None = None, **settings: Any) -> Judged:
    """Ask a judge, or a panel of them, about the candidates."""
    opened = Workspace.open(workspace)
    wanted = _settings(opened, "judge", layers, settings)
    return ask_judges(opened, load_judges(wanted.judge), wanted)


def align(
    workspace: str | Path, *, pairs: str | Path | None = None, layers: list[Layer] | None = None, **settings: Any
) -> Aligned:
    """Train an adapter on the workspace's preferences, or on a CSV or Parquet file of pairs."""
    opened = Workspace.open(workspace)
    wanted = _settings(opened, "align", layers, settings)
    _check_run_name(wanted.run)
    if pairs is not None:
        data = file_preferences(Path(pairs))
    else:
        data = workspace_preferences(opened, wanted.pairs, wanted.weights)
    return align_offline(opened, _load(opened), wanted, data=data)


def evaluate(workspace: str | Path, *, layers: list[Layer] | None = None, **settings: Any) -> Evaluated:
    """Make what is missing of the held-out videos of base and aligned, compare them, and keep the numbers."""
    opened = Workspace.open(workspace)
    wanted = _settings(opened, "evaluate", layers, settings)
    # Before hours of sampling, not after.
    load_scorer(wanted.scorer)
    run_folder(opened, wanted.run)
    sampling = replace(
        _settings(opened, "generate", None, {}), split=wanted.split, candidates=wanted.seeds, seed=wanted.seed
    )
    generator = _load(opened)
    base = generate_candidates(opened, generator, sampling)
    adapter = _use_run(opened, generator, wanted.run)
    aligned = generate_candidates(opened, generator, sampling, adapter=adapter)
    result = compare_videos(opened, base.videos, aligned.videos, wanted)
    _keep(run_folder(opened, wanted.run) / EVALUATION, wanted, result, base, aligned)
    return result


def sample(
    workspace: str | Path,
    prompt: str,
    *,
    run: str = "",
    seed: int = 0,
    out: str | Path | None = None,
    layers: list[Layer] | None = None,
    **settings: Any,
) -> Path:
    """Make one video of a prompt, with the base or a run's aligned model, and return its file."""
    opened = Workspace.open(workspace)
    generator = _load(opened)
    if run:
        _use_run(opened, generator, run)
    sampling = Sampling.resolve(_settings(opened, "generate", layers, settings), generator)
    latents = Candidates(generator, sampling, [prompt]).sample([prompt], [seed])
    with torch.no_grad():
        video = generator.decode(latents)[0].cpu()
    path = Path(out) if out else Path(f"sample-{run or 'base'}-{seed}.mp4")
    write_video(path, video, sampling.fps)
    return path


def export_pairs(workspace: str | Path, path: str | Path) -> int:
    """Write the workspace's preferences as a CSV or Parquet file of (prompt, chosen, rejected); returns how many."""
    opened = Workspace.open(workspace)
    wanted = _settings(opened, "align", None, {})
    data = workspace_preferences(opened, wanted.pairs, wanted.weights)
    rows = zip(data.rows, data.chosen, data.rejected, strict=True)
    write_pairs(
        path,
        [
            FilePair(prompt=data.prompts[row], chosen=chosen.path, rejected=rejected.path)
            for row, chosen, rejected in rows
        ],
    )
    return len(data.rows)


def run_folder(workspace: Workspace, run: str) -> Path:
    """The folder of a finished run.

    Raises:
        ReelignError: there is no such run, or it is not finished.
    """
    folder = workspace.root / "runs" / run
    if not (folder / ADAPTER_FOLDER).is_dir():
        there = sorted(path.parent.name for path in (workspace.root / "runs").glob(f"*/{ADAPTER_FOLDER}"))
        raise ReelignError(
            f"{workspace.root} has no finished run {run!r}.",
            f"Finished runs: {', '.join(there)}." if there else "Align first: reelign align -w WORKSPACE",
        )
    return folder


def peak_memory_bytes() -> int:
    """The largest memory this process has held (Linux counts in KiB)."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _settings(workspace: Workspace, section: str, layers: list[Layer] | None, given: Mapping[str, Any]) -> Any:
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
    layers = [(str(path), own), *(layers or []), ("the call", given)]
    return resolve(SECTIONS[section], layers)


def _known_model(model: str) -> str:
    """The model's name as a workspace keeps it: a folder by its whole path, found from anywhere.

    What is wrong with a folder is said before a workspace is made for it; a hub id is looked up when it is loaded.
    """
    source = resolve_model(model)
    is_hub_id = source.count("/") == 1 and not source.startswith((".", "~", "/")) and not Path(source).exists()
    if not is_hub_id:
        check_supported(model, pipeline_class(source))
    return model if is_hub_id or source != model else str(Path(model).resolve())


def _check_run_name(name: str) -> None:
    if not name.strip() or name in (".", "..") or set(name) & set("/\\\0"):
        raise ReelignError(
            f"run = {name!r} cannot be the name of a run's folder.", "Use a name without slashes, such as dpo-1."
        )


def _usable(device: str) -> str:
    try:
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).partition("\n")[0]
        raise ReelignError(
            f"The device {device!r} cannot be used: {reason}", "Set device under model in reelign.yaml to auto or cpu."
        ) from error
    return device


def _load(workspace: Workspace) -> Generator:
    wanted: ModelSettings = _settings(workspace, "model", None, {})
    gpu = torch.cuda.is_available()
    device = ("cuda" if gpu else "cpu") if wanted.device == "auto" else wanted.device
    name = ("float32" if device == "cpu" else "bfloat16") if wanted.dtype == "auto" else wanted.dtype
    return load_generator(workspace.model, device=_usable(device), dtype=getattr(torch, name))


def _use_run(workspace: Workspace, generator: Generator, run: str) -> str:
    """Load the run's adapter and return the name its videos are recorded under, which changes with its weights."""
    folder = run_folder(workspace, run) / ADAPTER_FOLDER
    load_adapter(generator, folder)
    return f"{run}@{_weights_key(folder / 'pytorch_lora_weights.safetensors')}"


def _weights_key(path: Path) -> str:
    """Changes with the adapter's weights and scale, unlike its file, whose metadata has no fixed order."""
    digest = hashlib.sha256()
    with safe_open(path, framework="pt") as file:
        metadata = json.loads((file.metadata() or {}).get("lora_adapter_metadata", "{}"))
        scales = {key: value for key, value in metadata.items() if key.endswith((".r", ".lora_alpha"))}
        digest.update(json.dumps(scales, sort_keys=True).encode())
        for name in sorted(file.keys()):
            digest.update(name.encode() + file.get_tensor(name).numpy().tobytes())
    return digest.hexdigest()[:12]


def _read_prompts(path: Path) -> list[str]:
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
    except OSError as error:
        raise ReelignError(f"There is no prompt file {path}.", "Give a text file with a prompt a line.") from error
    except UnicodeDecodeError as error:
        raise ReelignError(f"{path} is no text in UTF-8.", "Give a text file with a prompt a line.") from error
    texts = [line for line in lines if line]
    if not texts:
        raise ReelignError(f"{path} holds no prompt.", "Write one a line.")
    return texts


def _keep(path: Path, settings: EvaluateSettings, result: Evaluated, base: Generated, aligned: Generated) -> None:
    """Write the evaluation beside and rename it."""
    kept = {
        "settings": asdict(settings),
        "comparison": result.comparison.as_dict(),
        "measures": result.measures,
        "base": [video.id for video in base.videos],
        "aligned": [video.id for video in aligned.videos],
        "base_scores": {name: values.tolist() for name, values in result.base_scores.items()},
        "aligned_scores": {name: values.tolist() for name, values in result.aligned_scores.items()},
        "failed": [*base.failed, *aligned.failed],
        "finished": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }
    beside = path.with_suffix(".tmp")
    beside.write_text(json.dumps(kept, indent=1))
    beside.replace(path)
