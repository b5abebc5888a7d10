"""Rounds as a Python call: `iterate("workspace", rounds=3)` generates, judges and aligns as long as it helps."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from torch import Tensor

from reelign.config import Layer
from reelign.costs import measured
from reelign.critics.judging import PREFIX, voted_critic
from reelign.critics.opening import check_critic, is_foreign
from reelign.diffusion.seeds import seed_from
from reelign.errors import ReelignError
from reelign.evaluation import check_scorer
from reelign.evaluation.evaluate import score_recorded
from reelign.latent_stages import guide_label
from reelign.opening import check_run_name, is_of_sections, load_model, resolve_section, section_layers, settings_of
from reelign.recipes.asked_critics import CACHE
from reelign.recipes.critic.settings import CriticSettings
from reelign.recipes.grading import grade
from reelign.recipes.judging import JudgeSettings, compared, judges_of
from reelign.recipes.judging import judge as ask_judges
from reelign.recipes.offline.align import ADAPTER_FOLDER
from reelign.recipes.reward.settings import RewardSettings
from reelign.recipes.rounds.checks import LOOKS, check_parts
from reelign.recipes.rounds.iterate import Iterated
from reelign.recipes.rounds.iterate import iterate as run_rounds
from reelign.recipes.rounds.parts import Hands, RoundPlan
from reelign.recipes.rounds.refresh_checks import check_refreshed, checkpoint_of
from reelign.recipes.rounds.settings import HeldOut, IterateSettings
from reelign.records import Group, Judgement, Video, Workspace, load_judges, read_prompts
from reelign.rewards.judging import PREFIX as REWARD
from reelign.round_reporting import report_rounds
from reelign.training.launch import start_ranks, together

ANCHORS = {"chosen": 0.2, "real": 0.1}
"""IPO's λ1 and λ2 (arXiv:2502.02088)."""


@dataclass(frozen=True, kw_only=True)
class IterationOutlook:
    """What `iterate` would do with the same arguments."""

    settings: IterateSettings
    plans: list[RoundPlan]
    prompts: dict[str, int]
    """By split."""
    done: int
    """Rounds that are finished."""

    @property
    def candidates(self) -> int:
        """Videos that a round makes to be judged."""
        return self.prompts[self.settings.split] * self.plans[0].generate.candidates

    @property
    def questions(self) -> int:
        """Pairs, or videos where answers are pointwise, about which every judge of a round is asked."""
        each = self.plans[0].generate.candidates
        size = each if self.settings.answers == "pointwise" else each * (each - 1) // 2
        return self.prompts[self.settings.split] * size

    @property
    def looked(self) -> dict[str, int]:
        """Videos of the base and of every round, by held-out judge."""
        held = {which: getattr(self.settings, which) for which in LOOKS}
        return {which: self.prompts[each.split] * each.seeds for which, each in held.items() if each.scorer}


def iterate(workspace: str | Path, *, layers: list[Layer] | None = None, **settings: Any) -> Iterated:
    """Run rounds of candidates, judgements and alignment; killed or waiting for people, the same call goes on.

    Args:
        workspace: its folder.
        settings: over the workspace's section `iterate`; what it says under `generate`, `judge`, `align`, `critic` and
            `reward` stands over the sections of these names.
    Raises:
        ReelignError: a judge or prompt that two parts share, a setting that was changed since the rounds began, or
            whatever a stage refuses.
    """
    ranks = start_ranks()
    with together(ranks):
        with ranks.first():
            opened, wanted, plans = _opened(workspace, layers, settings)
            prompts = _prompts(opened, wanted)
            _check(wanted, plans, prompts)
            if ranks.main:
                for split, texts in prompts.items():
                    opened.add_prompts(texts, split)
        hands = Hands(
            load=partial(load_model, opened),
            judge=partial(_judged, opened, wanted),
            score=partial(_scored, opened),
            compare=partial(_compared, opened),
            say=partial(print, flush=True) if ranks.main else _silent,
            ranks=ranks,
        )
        with measured(opened.root, "iterate", wanted.run) if ranks.main else nullcontext():
            done = run_rounds(opened, wanted, plans, hands, sampling=plans[0].generate)
            if ranks.main:
                report_rounds(opened.root, wanted.run)
            return done


def plan_iteration(workspace: str | Path, *, layers: list[Layer] | None = None, **settings: Any) -> IterationOutlook:
    """What `iterate` would do with the same arguments; it loads no weights, writes and starts nothing."""
    opened, wanted, plans = _opened(workspace, layers, settings)
    prompts = _prompts(opened, wanted)
    _check(wanted, plans, prompts)
    runs = opened.root / "runs"
    done = [plan for plan in plans if any((runs / plan.align.run / ADAPTER_FOLDER).rglob("*.safetensors"))]
    return IterationOutlook(
        settings=wanted, plans=plans, prompts={split: len(texts) for split, texts in prompts.items()}, done=len(done)
    )


def _opened(
    workspace: str | Path, layers: list[Layer] | None, settings: dict[str, Any]
) -> tuple[Workspace, IterateSettings, list[RoundPlan]]:
    opened = Workspace.open(workspace)
    wanted: IterateSettings = settings_of(opened, "iterate", layers, settings)
    check_run_name(wanted.run)
    files = [layer for layer in layers or [] if is_of_sections(layer)]
    return opened, wanted, [_plan(opened, wanted, number, files) for number in range(1, wanted.rounds + 1)]


def _plan(workspace: Workspace, wanted: IterateSettings, number: int, files: list[Layer]) -> RoundPlan:
    """The settings of a round's stages: the first takes the seed as it is, so that it is what the commands do."""
    seed = wanted.seed if number == 1 else seed_from(wanted.seed, "round", number)

    def resolved(section: str, first: Mapping[str, Any], *last: Layer) -> Any:
        own = ("iterate, under " + section, getattr(wanted, section))
        layers = [*section_layers(workspace, section, files), own, *last]
        return resolve_section(section, [("the rounds", first), *layers])

    trained = ("iterate, under each", wanted.each.get(number, {}))
    named = [layer for _, layer in [*section_layers(workspace, "align", files), ("", wanted.align), trained]]
    judge: JudgeSettings = resolved("judge", {}, ("the rounds", {"split": wanted.split, "seed": seed}))
    return RoundPlan(
        number=number,
        generate=resolved("generate", {}, ("the rounds", {"split": wanted.split, "seed": seed})),
        judge=judge,
        align=resolved(
            "align",
            {"pairs": "best_worst", "anchors": _anchors(named)},
            trained,
            ("the rounds", {"run": f"{wanted.run}-{number}", "seed": seed, "stream": "offline"}),
        ),
        refresh=_refresh(judge, wanted, resolved, {"run": f"{wanted.run}-{number}-judge", "seed": seed}),
    )


def _refresh(
    judge: JudgeSettings, wanted: IterateSettings, resolved: Callable[..., Any], own: Mapping[str, Any]
) -> CriticSettings | RewardSettings | None:
    """How the judge is trained again: a critic from the checkpoint that it is, unless the settings name another."""
    check_refreshed(wanted, judge)
    if not wanted.refresh.critic:
        return None
    if judge.judge.startswith(REWARD):
        reward: RewardSettings = resolved("reward", {}, ("the rounds", {**own, "split": wanted.split}))
        return reward
    present = checkpoint_of(judge.judge.removeprefix(PREFIX), judge.critic)
    first: dict[str, Any] = {"backbone": present} if present else {}
    if wanted.answers == "pointwise":
        first["dimensions"] = [wanted.dimension]  # the one that is asked about
    critic: CriticSettings = resolved("critic", first, ("the rounds", {**own, "split": wanted.split}))
    return critic


def _anchors(named: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """IPO's weights of the anchors that the objective and the files have; what the settings name stands over them."""
    objective = [name for layer in named if (name := (layer.get("objective") or {}).get("name"))]
    real = [layer["real"] for layer in named if "real" in layer]
    found = {"chosen": ANCHORS["chosen"]} if not objective or objective[-1] == "dpo" else {}
    return found | ({"real": ANCHORS["real"]} if real and real[-1] else {})


def _prompts(workspace: Workspace, wanted: IterateSettings) -> dict[str, list[str]]:
    """The prompts of each split, with those that the settings bring."""
    files = {getattr(wanted, which).split: getattr(wanted, which).prompts for which in LOOKS}
    return {
        split: list(
            dict.fromkeys(
                [
                    *workspace.asked_in(split),
                    *(read_prompts(Path(files[split])) if files.get(split) else ()),
                ]
            )
        )
        for split in wanted.splits
    }


def _check(wanted: IterateSettings, plans: Sequence[RoundPlan], prompts: Mapping[str, Sequence[str]]) -> None:
    """Refuse before anything is written what could not run to its end."""
    check_parts(wanted, plans, prompts)
    if guide_label(plans[0].generate.guide):
        raise ReelignError(
            "A guide bends the candidates of these rounds, and each trains on its policy's own.",
            "Leave the guide out of iterate: generate.guide={}.",
        )
    for held in (getattr(wanted, which) for which in LOOKS):
        if held.scorer and held.compares:
            _check_judge(held)
        elif held.scorer:
            check_scorer(held.scorer, held.reward, prompts[held.split])


def _check_judge(held: HeldOut) -> None:
    """Refuse a judge that is not there, without loading a critic's weights."""
    if held.scorer.startswith(PREFIX):
        spec = held.scorer.removeprefix(PREFIX)
        check_critic(spec, **({} if is_foreign(spec) else held.critic.options()))
    else:
        load_judges(held.scorer)


def _judged(
    workspace: Workspace, wanted: IterateSettings, settings: JudgeSettings, groups: Sequence[Group]
) -> dict[str, str]:
    """Ask the judges of a round; their names and versions."""
    if wanted.answers == "pointwise":
        # It keeps its answers in the workspace, as where it compares.
        use = replace(settings.critic, cache=settings.critic.cache or str(workspace.root / CACHE))
        critic = voted_critic(settings.judge.removeprefix(PREFIX), use)
        graded = grade(workspace, critic, groups, [wanted.dimension])
        for reason, count in graded.left_out.items():
            print(f"left out: {count} x {reason}")
        return {critic.name: critic.version}
    judges = judges_of(workspace, settings)
    done = ask_judges(workspace, judges, settings, groups=groups)
    for sentence in (*done.asked, *done.unscored):
        print(sentence)
    return {judge.name: judge.version for judge in judges}


def _scored(workspace: Workspace, held: HeldOut, videos: Sequence[Video]) -> dict[str, Tensor]:
    return score_recorded(workspace, videos, held.scorer, held.reward)


def _compared(workspace: Workspace, held: HeldOut, groups: Sequence[Group]) -> list[Judgement]:
    """What a held-out judge says, and a sentence of what it does not."""
    judges = judges_of(workspace, JudgeSettings(judge=held.scorer, critic=held.critic))
    unscored: list[str] = []
    rows = [row for rows, _ in compared(workspace, judges, groups, set(), 0, unscored) for row in rows]
    for sentence in unscored:
        print(sentence)
    return rows


def _silent(line: str) -> None:
    """Of a rank that is not the main one."""
