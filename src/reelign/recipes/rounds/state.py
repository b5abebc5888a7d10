"""The state of all rounds together: what they are made with, how far they are, and the best adapter."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from reelign.errors import ReelignError
from reelign.files import whole
from reelign.recipes.judging import JudgeSettings
from reelign.recipes.offline.align import ADAPTER_FOLDER, CONFIG_FILE, AlignSettings
from reelign.recipes.rounds.manifest import Record, file_key, plain, read_manifest, short, write_manifest
from reelign.recipes.rounds.parts import RoundPlan, RoundPolicy, Waiting
from reelign.recipes.rounds.settings import IterateSettings
from reelign.recipes.rounds.stages import Rounds
from reelign.recipes.run_config import filled
from reelign.recipes.sampling import GenerateSettings

MANIFEST = "manifest.json"
RESOLVED = ("rounds", "generate", "judge", "align", "each", "critic", "reward")
"""Settings that the plans of the rounds hold as resolved. Rounds may be added to those there are."""


@dataclass(frozen=True, kw_only=True)
class Decision:
    """What the selection judge makes of the rounds so far."""

    best: int
    """The best round; 0 is the base."""
    ended: str | None
    """Why no further round is of use."""


def claim(rounds: Rounds, plans: Sequence[RoundPlan]) -> None:
    """Write what the rounds are made with, or refuse a folder with rounds that were made with something else.

    More rounds than before are no change: finished ones go on. Nor is a setting that there was none of then.
    """
    path, workspace, settings = rounds.folder / MANIFEST, rounds.workspace, rounds.settings
    content = plain(
        {
            "model": workspace.model,
            "settings": asdict(settings),
            "prompts": {split: [each.text for each in workspace.prompts(split)] for split in settings.splits},
            "plans": {plan.number: asdict(plan) for plan in plans},
        }
    )
    known = read_manifest(path)
    if not known and (rounds.folder / CONFIG_FILE).exists():
        raise ReelignError(
            f"The run {rounds.folder.name} is none of rounds.", "Give these rounds a name of their own: run=NAME."
        )
    filled_in = filled(known, content, _defaults(content)) if known else {}
    changed = _changed(_deciding(filled_in, content), _deciding(content, content)) if known else None
    if changed is not None:
        raise ReelignError(
            f"The rounds {rounds.folder.name} were begun otherwise: {changed}.",
            "Put it back, or give these rounds a name of their own: run=NAME.",
        )
    write_manifest(path, {**known, **content})


def _defaults(content: Record) -> Record:
    """What settings that earlier reeligns did not have are taken to have stood at."""
    plan = RoundPlan(number=0, generate=GenerateSettings(), judge=JudgeSettings(), align=AlignSettings())
    found: Record = plain(
        {"settings": asdict(IterateSettings()), "plans": dict.fromkeys(content["plans"], asdict(plan))}
    )
    return found


def _deciding(content: Record, now: Record) -> Record:
    """What of a manifest may not change; of the plans those that there are now and more where rounds are left out."""
    settings = {name: value for name, value in content["settings"].items() if name not in RESOLVED}
    new = [number for number in now["plans"] if number not in content["plans"]]
    plans = {**content["plans"], **{number: now["plans"][number] for number in new}}
    return {"model": content["model"], "prompts": content["prompts"], "settings": settings, "plans": plans}


def _changed(before: Record, after: Record) -> str | None:
    """The first thing that is not as it was, by its path."""
    for key in {**before, **after}:
        old, new = before.get(key), after.get(key)
        if isinstance(old, dict) and isinstance(new, dict):
            inner = _changed(old, new)
            if inner is not None:
                return f"{key}.{inner}"
        elif old != new:
            return f"{key}: {short(old)} then, {short(new)} now"
    return None


def conclude(
    rounds: Rounds,
    policies: Sequence[RoundPolicy],
    looks: Sequence[dict[str, Record]],
    decision: Decision,
    waiting: Waiting | None,
) -> None:
    """Put the state of the whole on record, and the best round's adapter where other commands find it."""
    best = policies[decision.best]
    if best.folder is not None:
        _keep(best.folder.parent, rounds.folder)
    elif (rounds.folder / ADAPTER_FOLDER).exists():
        shutil.rmtree(rounds.folder / ADAPTER_FOLDER)
    known = read_manifest(rounds.folder / MANIFEST)
    state: dict[str, Any] = {
        "rounds": {
            policy.number: {
                "manifest": rounds.manifest(policy.number).name,
                "sha256": file_key(rounds.manifest(policy.number)),
                "policy": policy.key,
                **{which: look["mean"] for which, look in looks[policy.number].items()},
            }
            for policy in policies
        },
        "best": {"round": decision.best, "policy": best.key},
        "ended": decision.ended,
        "waiting": None if waiting is None else asdict(waiting),
    }
    write_manifest(rounds.folder / MANIFEST, {**known, **state})


def _keep(run: Path, folder: Path) -> None:
    """Copy a round's adapter and config, so that the rounds' own folder is a run like any other."""
    for path in sorted((run / ADAPTER_FOLDER).rglob("*")):
        if path.is_file():
            with whole(folder / path.relative_to(run)) as beside:
                shutil.copyfile(path, beside)
    with whole(folder / CONFIG_FILE) as beside:
        shutil.copyfile(run / CONFIG_FILE, beside)
