"""The stages of latent rewards, as Python calls: `train_latent_reward("workspace")`, guided evaluation, `explore`."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch

from reelign.config import Layer
from reelign.costs import measured
from reelign.errors import ReelignError
from reelign.evaluation import Evaluated, EvaluateSettings
from reelign.evaluation import evaluate as compare_videos
from reelign.evaluation.evaluate import check_scorer, load_scorer
from reelign.evaluation.explorer import Exploration, write_explorer
from reelign.files import write_text
from reelign.opening import check_run_name, load_model, settings_of, use_run
from reelign.recipes.candidates import Candidates
from reelign.recipes.generation import generate as generate_candidates
from reelign.recipes.latent_reward.settings import LatentRewardSettings
from reelign.recipes.latent_reward.training import REWARD_FOLDER, TrainedLatentReward
from reelign.recipes.latent_reward.training import train_latent_reward as train
from reelign.recipes.reward.data import csv_reward_data, workspace_reward_data
from reelign.recipes.sampling import GenerateSettings, Sampling, refuse_segments
from reelign.records import Workspace, content_key
from reelign.training.latent_guide import GuideSettings, LatentGuide, guide_content
from reelign.training.latent_reward_files import load_latent_reward
from reelign.training.launch import start_ranks

GUIDED = "guided"
"""A workspace's folder of evaluations of guidance."""


def train_latent_reward(
    workspace: str | Path,
    *,
    data: str | Path | None = None,
    layers: list[Layer] | None = None,
    **settings: Any,
) -> TrainedLatentReward:
    """Train a reward on noisy latents on a workspace's judgements, or on a CSV in VideoReward's layout.

    Args:
        workspace: its folder, whose model it is for; takes the run, `runs/<run>`.
        data: the CSV, in place of the workspace's judgements; its videos are relative to its folder.
        settings: over the workspace's section `latent_reward`.
    Raises:
        ReelignError: nothing to train on, or several processes were launched.
    """
    if start_ranks().count > 1:
        raise ReelignError(
            "A latent reward is trained by one process, and several were launched.",
            "Start it without torchrun or accelerate launch.",
        )
    opened = Workspace.open(workspace)
    wanted: LatentRewardSettings = settings_of(opened, "latent_reward", layers, settings)
    check_run_name(wanted.run)
    with measured(opened.root, "latent-reward train", wanted.run):
        if data is None:
            pairs = workspace_reward_data(opened, wanted.dimensions, wanted.split or None)
        else:
            pairs = csv_reward_data(Path(data), wanted.dimensions)
        generator = load_model(opened, encoders=False)
        folder, cache = opened.root / "runs" / wanted.run, opened.root / "cache"
        return train(pairs, generator, wanted, folder, cache=cache, workspace=opened if data is None else None)


def located(workspace: Workspace, guide: GuideSettings) -> GuideSettings:
    """The guide with its reward's folder, where a run of the workspace was named."""
    own = workspace.root / "runs" / guide.latent_reward / REWARD_FOLDER
    if guide.latent_reward and not Path(guide.latent_reward).exists() and own.is_dir():
        return replace(guide, latent_reward=str(own))
    return guide


def guide_label(guide: GuideSettings) -> str:
    """What the name that guided videos are recorded under ends in: they are no candidates beside unguided ones."""
    content = guide_content(guide)
    return f"+guide@{content_key(content)[:12]}" if content else ""


def guided_result(workspace: Workspace, run: str, guide: GuideSettings) -> Path:
    """Where the numbers of a guided evaluation are kept."""
    return workspace.root / GUIDED / f"{run or 'base'}{guide_label(located(workspace, guide)).replace('+', '-')}.json"


def evaluate_guidance(workspace: Workspace, wanted: EvaluateSettings) -> Evaluated:
    """Compare a run's videos, or the base's, without and with the guidance of the settings, and keep the numbers."""
    guide = located(workspace, wanted.guide)
    label = guide_label(guide)
    own: GenerateSettings = settings_of(workspace, "generate")
    sampling = replace(own, split=wanted.split, candidates=wanted.seeds, seed=wanted.seed, guide=GuideSettings())
    check_scorer(wanted.scorer, wanted.reward, [prompt.text for prompt in workspace.prompts(wanted.split)])
    with measured(workspace.root, "evaluate guidance", wanted.run):
        generator = load_model(workspace)
        adapter = use_run(workspace, generator, wanted.run) if wanted.run else ""
        before = generate_candidates(workspace, generator, sampling, adapter=adapter)
        guided = replace(sampling, guide=guide)
        after = generate_candidates(workspace, generator, guided, adapter=adapter + label)
        result = compare_videos(workspace, before.videos, after.videos, wanted)
    kept = {
        "settings": asdict(wanted),
        "comparison": result.comparison.as_dict(),
        "base_scores": {name: values.tolist() for name, values in result.base_scores.items()},
        "aligned_scores": {name: values.tolist() for name, values in result.aligned_scores.items()},
        "measures": result.measures,
        "unguided": [video.id for video in before.videos],
        "guided": [video.id for video in after.videos],
        "failed": [*before.failed, *after.failed],
        "finished": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }
    write_text(guided_result(workspace, wanted.run, guide), json.dumps(kept, indent=1))
    return result


def explore(
    workspace: str | Path,
    prompt: str,
    over: Mapping[str, Sequence[float]],
    *,
    out: str | Path = "explorer.html",
    run: str = "",
    seed: int = 0,
    scorer: str = "",
    layers: list[Layer] | None = None,
    **settings: Any,
) -> Path:
    """Write a page with one video for every combination of two weights, all of one prompt and seed; returns its path.

    Args:
        workspace: its folder.
        prompt: what is shown.
        over: two dimensions of the latent reward, with the weights that each takes.
        out: the page.
        run: of an aligned model; '' is the base.
        seed: of the noise.
        scorer: as for `evaluate`, shown under each video beside the latent reward; '' shows none.
        settings: over the section `generate`, whose guide names the reward and the weights of further dimensions.
    Raises:
        ReelignError: no reward is named, or not two of its dimensions.
    """
    opened = Workspace.open(workspace)
    wanted: GenerateSettings = settings_of(opened, "generate", layers, settings)
    guide = located(opened, wanted.guide)
    if len(over) != 2 or not guide.latent_reward:
        named = guide.latent_reward or "none"
        raise ReelignError(
            f"An explorer shows two weights of a latent reward, and got {len(over)} of {named}.",
            "Give --latent-reward PATH --over VQ=0,0.5,1 --over MQ=0,0.5,1.",
        )
    if scorer:
        check_scorer(scorer, EvaluateSettings().reward, [prompt])
    generator = load_model(opened)
    if run:
        use_run(opened, generator, run)
    reward = load_latent_reward(guide.latent_reward, generator)
    (first, rows), (second, columns) = over.items()
    pairs = [(one, other) for one in rows for other in columns]
    weights: dict[str, float | torch.Tensor] = {
        **guide.weights,
        first: torch.tensor([one for one, _ in pairs]),
        second: torch.tensor([other for _, other in pairs]),
    }
    sampling = Sampling.resolve(wanted, generator)
    refuse_segments(sampling, "explore")
    steer = LatentGuide(reward, weights, guide.guidance)
    latents = Candidates(generator, sampling, [prompt], guide=steer).sample([prompt] * len(pairs), [seed] * len(pairs))
    with torch.no_grad():
        videos = torch.cat([generator.decode(each[None]) for each in latents]).cpu()
        clean = generator.path.clean_sigmas(len(pairs)).to(latents.device)
        conditioning = generator.encode_prompts([prompt] * len(pairs)).to(latents.device)
        rewards = {name: each.cpu() for name, each in reward(latents, clean, conditioning).items()}
        scores = load_scorer(scorer)(videos, [prompt] * len(pairs)) if scorer else {}
    write_explorer(
        out,
        Exploration(
            prompt=prompt,
            model=generator.identity + (f", run {run}" if run else ""),
            seed=seed,
            rows=(first, tuple(rows)),
            columns=(second, tuple(columns)),
            fixed={name: value for name, value in guide.weights.items() if name not in over},
            videos=videos,
            rewards=rewards,
            scores={name: each.cpu() for name, each in scores.items()},
            fps=sampling.fps,
        ),
    )
    return Path(out)
