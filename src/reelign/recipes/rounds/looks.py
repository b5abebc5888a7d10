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
from reelign.recipes.rounds.manifest import Record, Stage, file_key, read_manifest
from reelign.recipes.rounds.parts import RoundPolicy
from reelign.recipes.rounds.settings import HeldOut
from reelign.recipes.rounds.stages import Rounds
from reelign.recipes.rounds.verdicts import Cell, Column, against, net_wins, pairs_of, won
from reelign.recipes.sampling import GenerateSettings
from reelign.records import Video, Workspace


def look(
    rounds: Rounds, policy: RoundPolicy, which: str, sampling: GenerateSettings, before: Sequence[RoundPolicy] = ()
) -> Record:
    """Sample and score what a policy makes of a held-out judge's prompts, unless it is on record.

    Args:
        rounds: whose.
        policy: the base or a round's.
        which: 'selection' or 'report'.
        sampling: as `held_out_sampling` gives it.
        before: those whose videos a judge that compares sees beside this policy's, all looked at before.
    Returns:
        `mean` by dimension; `scores` by dimension and `videos`, of each prompt and seed, None where the sample or its
        score failed; and `failed`, the names of failed samples. Of a judge that compares `scores` are as
        `verdicts.won` has them against the base, none of the base itself, and `against` holds them by the number
        of each of `before`.
    """
    held: HeldOut = getattr(rounds.settings, which)
    file, beside = _file(rounds, policy, which), {each.number: _file(rounds, each, which) for each in before}
    stage = Stage(
        name=which,
        inputs={
            "policy": policy.key,
            "prompts": rounds.prompts(held.split),
            **({"against": [each.key for each in before]} if held.compares else {}),
        },
        settings={"held_out": _asked(held), "generate": asdict(sampling)},
        work=lambda: _looked(rounds, policy, held, sampling, file, beside),
        intact=lambda known: file.exists() and file_key(file) == known["sha256"],
    )
    rounds.stage(policy.number, stage)
    found: Record = json.loads(file.read_text(encoding="utf-8"))
    return found


def held_out_sampling(settings: GenerateSettings, held: HeldOut, which: str, seed: int) -> GenerateSettings:
    """How the videos of a held-out judge are sampled: the same noise after every round, and no other part's."""
    return replace(settings, split=held.split, candidates=held.seeds, seed=seed_from(seed, which))


def gain(looks: Sequence[Record], number: int, best: int) -> float:
    """By how much a round is better than the best so far, in the eyes of the judge that took these looks.

    Raises:
        ReelignError: as `paired_gain`.
    """
    after = looks[number]
    return net_wins(against(after, best)) if "against" in after else paired_gain(after, looks[best])


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


def _file(rounds: Rounds, policy: RoundPolicy, which: str) -> Path:
    return rounds.folder / f"round-{policy.number}" / f"{which}.json"


def _asked(held: HeldOut) -> Record:
    """What a judge is asked with; of `critic` only where it is one, as looks of before there was that field have it."""
    return {name: value for name, value in asdict(held).items() if name != "critic" or held.compares}


def _looked(
    rounds: Rounds,
    policy: RoundPolicy,
    held: HeldOut,
    sampling: GenerateSettings,
    file: Path,
    before: Mapping[int, Path],
) -> Record:
    """Args: as `look`; `before` are the files of the looks that a judge sets this one beside, by their rounds."""
    made = rounds.made(policy, sampling)
    prompts = rounds.workspace.prompts(held.split)
    cells = [(prompt.id, index) for prompt in prompts for index in range(held.seeds)]
    there = _by_cell(made.videos)
    videos = [there[cell] for cell in cells if cell in there]
    if not videos:
        raise ReelignError(
            f"Every sample of round {policy.number} on the split {held.split!r} failed.",
            "Lower the learning rate, raise β, or sample with other settings.",
        )
    beside: dict[str, dict[str, Column]] = {}
    if held.compares:
        for number, path in before.items():
            earlier = _by_cell(_videos(rounds.workspace, read_manifest(path)["videos"]))
            rows = rounds.hands.compare(held, pairs_of(prompts, earlier, there))
            beside[str(number)] = won(rows, cells, earlier, there)
        columns = beside.get("0", {})
    else:
        scores = rounds.hands.score(held, videos)
        columns = {name: _numbers(cells, there, values.tolist()) for name, values in scores.items()}
    known = {name: [each for each in column if each is not None] for name, column in columns.items()}
    content = {
        "mean": {name: sum(column) / len(column) if column else None for name, column in known.items()},
        "scores": columns,
        **({"against": beside} if held.compares else {}),
        "videos": [there[cell].id if cell in there else None for cell in cells],
        "failed": sorted(made.failed),
    }
    write_text(file, json.dumps(content, indent=1, allow_nan=False) + "\n")
    return {"sha256": file_key(file), "mean": content["mean"], "videos": len(videos), "failed": content["failed"]}


def _videos(workspace: Workspace, ids: Sequence[str | None]) -> list[Video]:
    return [video for video in workspace.videos() if video.id in ids]


def _by_cell(videos: Sequence[Video]) -> dict[Cell, Video]:
    return {(video.prompt_id, video.index): video for video in videos}


def _numbers(cells: Sequence[Any], there: Mapping[Any, Video], values: Sequence[float]) -> list[float | None]:
    """A value for each cell, None where the sample or its score failed."""
    found = iter(values)
    column = [next(found) if cell in there else math.nan for cell in cells]
    return [value if math.isfinite(value) else None for value in column]
