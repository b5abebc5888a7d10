"""Dual rounds: after a round its judge is trained again, and the next round asks the one that came of it.

Yang et al. 2025 (arXiv:2502.02088v4, Dual-IPO). Two stages of the round that is done, on record like its others, and
made when the next round begins: the judgements that can be depended on, written down, and the training on them.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from reelign.critics import Critic
from reelign.critics.judging import PREFIX as CRITIC
from reelign.critics.judging import critic_use, voted_critic
from reelign.critics.opening import CriticOptions
from reelign.files import write_text
from reelign.recipes.asked_critics import CACHE
from reelign.recipes.critic.settings import CriticSettings
from reelign.recipes.critic.training import CRITIC_FOLDER
from reelign.recipes.judging import JudgeSettings
from reelign.recipes.reward.settings import RewardSettings
from reelign.recipes.reward.training import REWARD_FOLDER
from reelign.recipes.rounds.critic_refresh import critic_on, dependable, reward_on, too_few
from reelign.recipes.rounds.data import round_groups
from reelign.recipes.rounds.manifest import Record, Stage, file_key, read_manifest
from reelign.recipes.rounds.parts import RoundPlan
from reelign.recipes.rounds.refresh_checks import VIDEOREWARD
from reelign.recipes.rounds.refresh_settings import JUDGE
from reelign.recipes.rounds.stages import Rounds
from reelign.records import Judgement, content_key
from reelign.records.exchange.bundle import as_row, from_row
from reelign.training.adapter_files import files_key

WHEN = ("key", "created", "duration_s", "task", "supersedes")
"""Of a judgement what training does not see; without it, the same answers make the same file."""
ASKED = ("model", "server", "format", "own", "frames", "min_pixels", "max_pixels", "max_tokens")
"""Options that a trained critic brings with its weights."""


@dataclass(frozen=True, kw_only=True)
class Refreshed:
    """A judge that was trained again."""

    folder: Path
    """Of the critic or the reward, which opens by it."""
    key: str
    """Changes with its weights."""


def asking(plan: RoundPlan, judge: Refreshed | None) -> JudgeSettings:
    """Whom a round asks: the judge that its settings name, or what became of it."""
    if judge is None:
        return plan.judge
    if isinstance(plan.refresh, RewardSettings):
        same = plan.judge.judge == VIDEOREWARD
        kept = {name: value for name, value in plan.judge.reward.options.items() if same and name != "backbone"}
        options = {**kept, "model": str(judge.folder)}
        return replace(plan.judge, judge=VIDEOREWARD, reward=replace(plan.judge.reward, options=options))
    assert plan.refresh is not None
    plain, use = CriticOptions(), plan.judge.critic
    own = {name: getattr(plain, name) for name in ASKED}
    dimensions = use.dimensions or plan.refresh.dimensions
    return replace(plan.judge, judge=f"{CRITIC}{judge.folder}", critic=replace(use, dimensions=dimensions, **own))


def refresh(rounds: Rounds, plan: RoundPlan, judge: Refreshed | None) -> Refreshed | None:
    """The judge of the next round, trained again after a finished round, unless that is on record.

    Too few dependable judgements leave it as it was, which the manifest and the user are told.

    Args:
        rounds: whose.
        plan: of the finished round.
        judge: what it asked, where that was trained again before; None for the judge that its settings name.
    """
    if plan.refresh is None:
        return judge
    file = rounds.folder / f"round-{plan.number}" / "dependable.json"
    found = rounds.stage(plan.number, _ask(rounds, plan, judge, file))
    if found["too_few"]:
        rounds.hands.say(f"round {plan.number}: the judge stays as it is: {found['too_few']}")
        return judge
    trained = rounds.stage(plan.number, _train(rounds, plan, judge, file, found))
    return Refreshed(folder=_folder(rounds, plan.refresh), key=trained["weights"])


def _ask(rounds: Rounds, plan: RoundPlan, judge: Refreshed | None, file: Path) -> Stage:
    """Ask about the round's own candidates, and keep what can be depended on."""
    made = read_manifest(rounds.manifest(plan.number))["stages"]["generate"]["outputs"]
    trains, how = plan.refresh, rounds.settings.refresh
    assert trains is not None

    def work() -> Record:
        groups = round_groups(rounds.workspace, rounds.settings.split, made["adapter"], made["videos"])
        teacher, answers = _teacher(rounds, plan, judge), rounds.settings.answers
        found = dependable(rounds.workspace, teacher, trains.dimensions, how, groups, answers)
        rows = [{name: value for name, value in as_row(each).items() if name not in WHEN} for each in found.judgements]
        write_text(file, json.dumps(rows, indent=0, ensure_ascii=False) + "\n")
        return {
            "sha256": file_key(file),
            "judgements": len(rows),
            "of_critic": found.of_critic,
            "left_out": dict(found.left_out),
            "too_few": too_few(found, trains.dimensions, how.fewest),
        }

    return Stage(
        name="dependable",
        inputs={"videos": content_key(made["videos"]), "judge": judge.key if judge else ""},
        settings={**asdict(how), "dimensions": trains.dimensions},
        work=work,
        intact=lambda known: file.exists() and file_key(file) == known["sha256"],
    )


def _train(rounds: Rounds, plan: RoundPlan, judge: Refreshed | None, file: Path, found: Record) -> Stage:
    """Train the judge on them, from what it is now."""
    trains = plan.refresh
    assert trains is not None
    folder = _folder(rounds, trains)

    def work() -> Record:
        said: Sequence[Judgement] = [from_row(Judgement, row) for row in json.loads(file.read_text(encoding="utf-8"))]
        run = rounds.workspace.root / "runs" / trains.run
        if isinstance(trains, CriticSettings):
            begun = replace(trains, backbone=str(judge.folder)) if judge else trains
            critic_on(rounds.workspace, said, begun, run)
        else:
            reward = replace(trains, start_from=str(judge.folder)) if judge else trains
            reward_on(rounds.workspace, said, reward, run)
        return {"run": trains.run, "weights": _key_of(folder), "judgements": len(said)}

    return Stage(
        name="refresh",
        inputs={"dependable": found["sha256"], "judge": judge.key if judge else ""},
        settings=asdict(trains),
        work=work,
        intact=lambda known: _key_of(folder) == known["weights"],
    )


def _teacher(rounds: Rounds, plan: RoundPlan, judge: Refreshed | None) -> Critic:
    """Who is asked; it keeps its answers in the workspace, so that what `judge` asked it is not asked again."""
    how, cache = rounds.settings.refresh, str(rounds.workspace.root / CACHE)
    if how.critic != JUDGE:
        return voted_critic(how.critic, critic_use(how.critic, how.options, cache=cache)).critic
    now = asking(plan, judge)
    return voted_critic(now.judge.removeprefix(CRITIC), replace(now.critic, cache=now.critic.cache or cache)).critic


def _folder(rounds: Rounds, trains: CriticSettings | RewardSettings) -> Path:
    inner = CRITIC_FOLDER if isinstance(trains, CriticSettings) else REWARD_FOLDER
    return rounds.workspace.root / "runs" / trains.run / inner


def _key_of(folder: Path) -> str | None:
    """The key of the weights in a folder, None where there are none."""
    files = sorted(folder.glob("*.safetensors"))
    return files_key(files) if files else None
