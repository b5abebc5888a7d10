"""What held-out judges say of the policy after each round: the same prompts and seeds every time."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from reelign.diffusion.seeds import seed_from
from reelign.errors import ReelignError
from reelign.files import write_text
from reelign.recipes.generation import GenerateSettings
from reelign.recipes.iterate_settings import HeldOut
from reelign.recipes.round_manifest import Record, Stage, file_key
from reelign.recipes.round_parts import RoundPolicy
from reelign.recipes.rounds import Rounds
from reelign.records import Video


def look(rounds: Rounds, policy: RoundPolicy, which: str, sampling: GenerateSettings) -> Record:
    """Sample and score what a policy makes of a held-out judge's prompts, unless it is on record.

    Args:
        rounds: whose.
        policy: the base or a round's.
        which: 'selection' or 'report'.
        sampling: as `held_out_sampling` gives it.
    Returns:
        `mean` by dimension; `scores` by dimension and `videos`, of each prompt and seed, None where the sample or its
        score failed; and `failed`, the names of failed samples.
    """
    held: HeldOut = getattr(rounds.settings, which)
    file = rounds.folder / f"round-{policy.number}" / f"{which}.json"
    stage = Stage(
        name=which,
        inputs={"policy": policy.key, "prompts": rounds.prompts(held.split)},
        settings={"held_out": asdict(held), "generate": asdict(sampling)},
        work=lambda: _looked(rounds, policy, held, sampling, file),
        intact=lambda known: file.exists() and file_key(file) == known["sha256"],
    )
    rounds.stage(policy.number, stage)
    found: Record = json.loads(file.read_text(encoding="utf-8"))
    return found


def held_out_sampling(settings: GenerateSettings, held: HeldOut, which: str, seed: int) -> GenerateSettings:
    """How the videos of a held-out judge are sampled: the same noise after every round, and no other part's."""
    return replace(settings, split=held.split, candidates=held.seeds, seed=seed_from(seed, which))


def paired_gain(after: Record, before: Record) -> float:
    """Mean difference of two looks over the videos that both have every score of, in the mean over dimensions.

    Raises:
        ReelignError: there is no such video.
    """
    names = [name for name in after["scores"] if name in before["scores"]]
    columns = [after["scores"][name] for name in names] + [before["scores"][name] for name in names]
    rows = [row for row in zip(*columns, strict=True) if all(value is not None for value in row)]
    if not names or not rows:
        raise ReelignError(
            "The held-out judge scored no prompt and seed of both rounds.", "Look at the videos; use more seeds."
        )
    half = len(names)
    gains = [math.fsum(row[:half]) - math.fsum(row[half:]) for row in rows]
    return math.fsum(gains) / (half * len(rows))


def _looked(rounds: Rounds, policy: RoundPolicy, held: HeldOut, sampling: GenerateSettings, file: Path) -> Record:
    made = rounds.made(policy, sampling)
    prompts = rounds.workspace.prompts(held.split)
    cells = [(prompt.id, index) for prompt in prompts for index in range(held.seeds)]
    there = {(video.prompt_id, video.index): video for video in made.videos}
    videos = [there[cell] for cell in cells if cell in there]
    if not videos:
        raise ReelignError(
            f"Every sample of round {policy.number} on the split {held.split!r} failed.",
            "Lower the learning rate, raise β, or sample with other settings.",
        )
    scores = rounds.hands.score(held, videos)
    columns = {name: _numbers(cells, there, values.tolist()) for name, values in scores.items()}
    known = {name: [each for each in column if each is not None] for name, column in columns.items()}
    content = {
        "mean": {name: sum(column) / len(column) if column else None for name, column in known.items()},
        "scores": columns,
        "videos": [there[cell].id if cell in there else None for cell in cells],
        "failed": sorted(made.failed),
    }
    write_text(file, json.dumps(content, indent=1, allow_nan=False) + "\n")
    return {"sha256": file_key(file), "mean": content["mean"], "videos": len(videos), "failed": content["failed"]}


def _numbers(cells: Sequence[Any], there: Mapping[Any, Video], values: Sequence[float]) -> list[float | None]:
    """A value for each cell, None where the sample or its score failed."""
    found = iter(values)
    column = [next(found) if cell in there else math.nan for cell in cells]
    return [value if math.isfinite(value) else None for value in column]
