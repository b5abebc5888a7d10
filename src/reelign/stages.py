"""The stages of the loop, by the names of the commands: `reelign.generate("workspace", candidates=4)`.

Each takes a workspace folder and settings as keywords (nested ones as dicts), over the workspace's `reelign.yaml`.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reelign.config import Layer, resolve
from reelign.costs import measured
from reelign.errors import ReelignError
from reelign.evaluation import Evaluated, check_scorer
from reelign.evaluation import evaluate as compare_videos
from reelign.files import prepare_file, write_text
from reelign.generators import Generator, resolve_model
from reelign.latent_stages import evaluate_guidance, guide_label, located
from reelign.opening import check_run_name, known_model, load_model, run_folder, settings_of, use_run, write_config
from reelign.recipes.candidates import Candidates
from reelign.recipes.data.pair_summary import PairSummary, summarise_file, summarise_workspace
from reelign.recipes.data.shared_prompts import warn_of_shared
from reelign.recipes.dry_run import RunOutlook
from reelign.recipes.generation import Generated
from reelign.recipes.generation import generate as generate_candidates
from reelign.recipes.judging import Judged, judges_of
from reelign.recipes.judging import judge as ask_judges
from reelign.recipes.offline.align import Aligned, AlignSettings
from reelign.recipes.offline.data import training_data
from reelign.recipes.sampling import Sampling
from reelign.recipes.settings import RunSettings
from reelign.recipes.smoke import clear_smoke, smoke_settings
from reelign.recipes.streams import STREAMS
from reelign.records import FilePair, Workspace, image_prompt, read_prompts, write_pairs
from reelign.records.exchange.record_files import Imported, check_format, export_record, import_record, recognise
from reelign.training.latent_guide import GuideSettings, open_guide
from reelign.training.launch import start_ranks, together
from reelign.video import write_video

if TYPE_CHECKING:
    from reelign.annotate.server import Server

EVALUATION = "evaluation.json"


def init(
    folder: str | Path,
    *,
    model: str = "spriteworld",
    prompts: str | Path | None = None,
    held_out: str | Path | None = None,
    database: str | None = None,
) -> Workspace:
    """Make a workspace and fill it with prompts.

    Args:
        folder: where.
        model: a diffusers folder, a hub id, or the shipped `spriteworld`.
        prompts, held_out: files of prompts to train on and to evaluate on: one a line, or a table of the columns text
            and image. For a split that is left without any, a model folder may bring its own: `prompts/train.txt`,
            `prompts/held_out.txt`. Beside them it may bring the settings that a new workspace starts with,
            `settings.yaml`.
        database: a PostgreSQL URL for a team; None keeps the record in a file of the workspace.
    """
    model = known_model(model)
    texts = {
        split: read_prompts(Path(given))
        for split, given in (("train", prompts), ("held_out", held_out))
        if given is not None
    }
    workspace = Workspace.create(folder, model=model, database=database)
    write_config(workspace)
    with measured(workspace.root, "init"):
        for split in ("train", "held_out"):
            own = Path(resolve_model(model)) / "prompts" / f"{split}.txt"
            if split in texts:
                workspace.add_prompts(texts[split], split)
            elif own.exists() and not workspace.prompts(split):
                workspace.add_prompts(read_prompts(own), split)
    warn_of_shared(workspace.asked_in("train"), workspace.asked_in("held_out"))
    return workspace


def generate(workspace: str | Path, *, run: str = "", layers: list[Layer] | None = None, **settings: Any) -> Generated:
    """Sample candidates for every prompt of a split; with `run`, from that run's aligned model."""
    opened = Workspace.open(workspace)
    wanted = settings_of(opened, "generate", layers, settings)
    wanted = replace(wanted, guide=located(opened, wanted.guide))
    label = guide_label(wanted.guide)
    with measured(opened.root, f"generate with {run}" if run else "generate", run):
        generator = load_model(opened)
        adapter = use_run(opened, generator, run) if run else ""
        return generate_candidates(opened, generator, wanted, adapter=adapter + label)


def judge(workspace: str | Path, *, layers: list[Layer] | None = None, **settings: Any) -> Judged:
    """Ask a judge, or a panel of them, about the candidates."""
    opened = Workspace.open(workspace)
    wanted = settings_of(opened, "judge", layers, settings)
    with measured(opened.root, "judge"):
        return ask_judges(opened, judges_of(opened, wanted), wanted)


def annotate(workspace: str | Path, *, layers: list[Layer] | None = None, **settings: Any) -> Server:
    """Plan what people are asked, and put together the page where they answer; its `run()` serves until it is ended.

    Raises:
        ReelignError: there is nothing to ask, or the packages of the page are not installed.
    """
    try:
        from reelign.annotate.server import Server
    except ModuleNotFoundError as error:
        raise ReelignError(f"The page needs the package {error.name}.", "pip install 'reelign[annotate]'") from error
    opened = Workspace.open(workspace)
    return Server(opened, settings_of(opened, "annotate", layers, settings))


def align(
    workspace: str | Path,
    *,
    pairs: str | Path | None = None,
    format: str | None = None,
    limit: int | None = None,
    layers: list[Layer] | None = None,
    **settings: Any,
) -> Aligned:
    """Train an adapter on the workspace's preferences, on those in a file or folder, or with another stream
    (`recipes.streams`) on videos that the run makes itself.

    Args:
        workspace: its folder.
        pairs: any layout that `reelign.pairs` shows; None takes the workspace's judgements.
        format: the layout's name where it is not to be recognised.
        limit: try it out first: a few steps on so many pairs, videos or prompts as a run of its own, made anew every
            time.
    """
    ranks = start_ranks()
    with together(ranks):
        with ranks.first():  # an older workspace is migrated as it is opened
            opened, wanted, data = _alignment(workspace, pairs, format, limit, layers, settings)
            if limit is not None and ranks.main:
                clear_smoke(opened.root / "runs" / wanted.run)
        with measured(opened.root, "align", wanted.run) if ranks.main else nullcontext():
            how = settings_of(opened, "generate")
            model = load_model(opened, encoders=False)
            return STREAMS[wanted.stream].align(opened, model, wanted, sampling=how, ranks=ranks, **data())


def plan_alignment(
    workspace: str | Path,
    *,
    pairs: str | Path | None = None,
    format: str | None = None,
    limit: int | None = None,
    layers: list[Layer] | None = None,
    **settings: Any,
) -> RunOutlook:
    """What `align` would do with the same arguments; it reads the data, loads no weights and starts nothing."""
    opened, wanted, data = _alignment(workspace, pairs, format, limit, layers, settings)
    how = settings_of(opened, "generate")
    dry_run = STREAMS[wanted.stream].dry_run
    found: RunOutlook = dry_run(
        opened, load_model(opened, weights=False), wanted, sampling=how, anew=limit is not None, **data()
    )
    return found


def _alignment(
    workspace: str | Path,
    pairs: str | Path | None,
    format: str | None,
    limit: int | None,
    layers: list[Layer] | None,
    settings: dict[str, Any],
) -> tuple[Workspace, Any, Callable[[], dict[str, Any]]]:
    """The workspace, the settings of the stream as resolved, and how to read what the stream trains on."""
    if limit is not None and limit < 1:
        raise ReelignError(f"limit must be at least 1, got {limit}.", "Give a small number, such as 4.")
    opened = Workspace.open(workspace)
    wanted: RunSettings = settings_of(opened, "align", layers, settings)
    check_run_name(wanted.run)
    if not isinstance(wanted, AlignSettings) and (pairs is not None or format is not None):
        raise ReelignError(
            f"The run {wanted.run} makes its videos itself, and takes no pairs from {pairs}.",
            "Set stream=offline to train on stored preferences, or leave --pairs and --format out.",
        )

    def data() -> dict[str, Any]:
        if not isinstance(wanted, AlignSettings):
            return {"limit": limit}
        whole = training_data(opened, wanted, None if pairs is None else Path(pairs), format)
        return {"data": whole if limit is None else whole.first(limit)}

    return opened, wanted if limit is None else smoke_settings(wanted), data


def evaluate(workspace: str | Path, *, layers: list[Layer] | None = None, **settings: Any) -> Evaluated:
    """Make what is missing of the held-out videos of base and aligned, compare them, and keep the numbers.

    With a guide among the settings, of a run's videos (or the base's, `run=""`) without and with its guidance.
    """
    opened = Workspace.open(workspace)
    wanted = settings_of(opened, "evaluate", layers, settings)
    if wanted.guide.active:
        return evaluate_guidance(opened, wanted)
    # Before hours of sampling, not after.
    check_scorer(wanted.scorer, wanted.reward, [prompt.text for prompt in opened.prompts(wanted.split)])
    folder = run_folder(opened, wanted.run)
    shared = warn_of_shared(opened.asked_in("train"), opened.asked_in(wanted.split))
    own = settings_of(opened, "generate")
    unguided = GuideSettings()
    sampling = replace(own, split=wanted.split, candidates=wanted.seeds, seed=wanted.seed, guide=unguided)
    with measured(opened.root, "evaluate", wanted.run):
        generator = load_model(opened)
        base = generate_candidates(opened, generator, sampling)
        adapter = use_run(opened, generator, wanted.run)
        aligned = generate_candidates(opened, generator, sampling, adapter=adapter)
        result = compare_videos(opened, base.videos, aligned.videos, wanted)
    kept = {
        "settings": asdict(wanted),
        **_numbers(result),
        "base": [video.id for video in base.videos],
        "aligned": [video.id for video in aligned.videos],
        "failed": [*base.failed, *aligned.failed],
        "trained_on_too": shared,
        "call": _pipeline_call(generator, Sampling.resolve(sampling, generator)),
        "finished": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }
    write_text(folder / EVALUATION, json.dumps(kept, indent=1))
    return result


def sample(
    workspace: str | Path,
    prompt: str,
    *,
    image: str | Path | None = None,
    run: str = "",
    seed: int = 0,
    out: str | Path | None = None,
    layers: list[Layer] | None = None,
    **settings: Any,
) -> Path:
    """Make one video of a prompt, with the base or a run's aligned model, and return its file.

    An image-to-video model goes on from `image`.
    """
    if not 0 <= seed < 2**63:
        raise ReelignError(
            f"The seed {seed} is no seed of torch's generators.", "Give a whole number from 0 to 2^63 - 1."
        )
    opened = Workspace.open(workspace)
    if image is not None:
        prompt = image_prompt(prompt, Path(image))
    path = Path(out) if out else Path(f"sample-{run or 'base'}-{seed}.mp4")
    prepare_file(path)
    generator = load_model(opened)
    if run:
        use_run(opened, generator, run)
    wanted = settings_of(opened, "generate", layers, settings)
    sampling, guide = Sampling.resolve(wanted, generator), open_guide(located(opened, wanted.guide), generator)
    made = Candidates(generator, sampling, [prompt], guide=guide).make([prompt], [seed])
    write_video(path, made.videos[0].cpu(), sampling.fps)
    return path


def pairs(
    path: str | Path | None = None,
    *,
    workspace: str | Path | None = None,
    format: str | None = None,
    out: str | Path | None = None,
    layers: list[Layer] | None = None,
    **settings: Any,
) -> PairSummary:
    """What preferences hold: counts, ties, rows left out or broken, each dimension's balance, margins.

    Args:
        path: a table (CSV, Parquet, JSONL, JSON), a saved Hugging Face dataset, or a folder of videos; None looks at a
            workspace's judgements.
        workspace: whose settings are taken, and whose judgements without `path`; None is the present folder then.
        format: the layout's name where it is not to be recognised.
        out: a CSV, Parquet or JSONL to write the pairs to, or the labels where there are no pairs.
        settings: of `align`: pairs, weights, min_margin.
    Raises:
        ReelignError: nothing there that is recognised. Broken rows are told in the summary and not refused.
    """
    if path is None or workspace is not None:
        opened = Workspace.open("." if workspace is None else workspace)
        wanted = settings_of(opened, "align", layers, {"stream": "offline", **settings})
    else:
        wanted = resolve(AlignSettings, [*(layers or []), ("the call", settings)])
    found = summarise_workspace(opened, wanted) if path is None else summarise_file(Path(path), wanted, format)
    if out is not None:
        found.write(out)
    return found


def export_pairs(workspace: str | Path, path: str | Path) -> int:
    """Write the pairs that `align` would train on as a CSV, Parquet or JSONL, with their margins; returns how many."""
    opened = Workspace.open(workspace)
    wanted = settings_of(opened, "align", given={"stream": "offline"})
    if wanted.pairs != "ground_truth":
        return summarise_workspace(opened, wanted).write(path)
    # Nobody judged real videos against generated ones, so that there is nothing to summarise.
    data = training_data(opened, wanted)
    rows = zip(data.rows, data.chosen, data.rejected, strict=True)
    write_pairs(
        path,
        [
            FilePair(prompt=data.prompts[row], chosen=chosen.path, rejected=rejected.path)
            for row, chosen, rejected in rows
        ],
    )
    return len(data.rows)


def export_judgements(workspace: str | Path, path: str | Path, format: str) -> int:
    """Write the workspace's record in one of `record_files.RECORD_FORMATS`; returns how many judgements or pairs."""
    return export_record(Workspace.open(workspace), Path(path), check_format(format))


def import_judgements(
    workspace: str | Path, path: str | Path, *, format: str | None = None, judge: str = ""
) -> Imported:
    """Add what a file or folder of judgements holds and the workspace does not.

    Args:
        workspace: its folder.
        path: what `export_judgements`, Label Studio or Argilla wrote, or a CSV of VideoReward's.
        format: the format's name where it is not to be recognised.
        judge: who judged, for VideoReward's CSV, which names nobody; the file's name by default.
    """
    path = Path(path)
    known = recognise(path) if format is None else check_format(format)
    return import_record(Workspace.open(workspace), path, known, judge=judge)


def _numbers(result: Evaluated) -> dict[str, Any]:
    return {
        "comparison": result.comparison.as_dict(),
        "measures": result.measures,
        "base_scores": {name: values.tolist() for name, values in result.base_scores.items()},
        "aligned_scores": {name: values.tolist() for name, values in result.aligned_scores.items()},
    }


def _pipeline_call(generator: Generator, sampling: Sampling) -> dict[str, Any]:
    """The pipeline's class, and what a plain call of it takes to sample as the evaluation did, one segment of it."""
    arguments = {name: value for name, value in sampling.as_dict().items() if name not in ("fps", "segments")}
    return generator.pipeline_call(arguments)
