"""Settings of `reelign iterate`: how many rounds, who judges each, who chooses the best of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from reelign.critics.judging import PREFIX as CRITIC
from reelign.critics.judging import CriticUse, critic_use, who
from reelign.recipes.rounds.refresh_settings import RoundRefresh
from reelign.records import is_comparing
from reelign.rewards.judging import PREFIX as REWARD
from reelign.rewards.judging import RewardUse

GIVEN = {
    "generate": ("split", "seed"),
    "judge": ("split", "adapter", "seed"),
    "align": ("run", "seed", "stream", "swap"),
    "critic": ("run", "seed", "split", "judges"),
    "reward": ("run", "seed", "split"),
}
"""What the rounds themselves decide of the stages they are made of."""


@dataclass(frozen=True, kw_only=True, slots=True)
class HeldOut:
    """A judge that training does not see, and prompts that it does not see either."""

    scorer: str = ""
    """As of `evaluate`, a scorer's name, `reward:NAME` or `package.module:object`; or a judge that compares,
    `critic:NAME`, a judge's name or `package.module:object`, which is shown each video beside the base's and, where it
    chooses, beside the best round's so far."""
    split: str = ""
    """The prompts' split, which no other part of the rounds may share."""
    prompts: str = ""
    """A text file with a prompt a line that fills the split; empty where the workspace has it already."""
    seeds: int = 2
    """Videos per prompt."""
    reward: RewardUse = field(default_factory=RewardUse)
    """Of a scorer `reward:NAME`."""
    critic: CriticUse = field(default_factory=CriticUse)
    """Of a judge `critic:NAME`."""

    @property
    def compares(self) -> bool:
        """Whether it is shown two videos at a time."""
        return is_comparing(self.scorer)

    @property
    def asked(self) -> tuple[str, ...] | None:
        """Which critic it is, by `critics.judging.who`; None where it is none."""
        if self.scorer == f"{REWARD}critic":
            name = self.reward.options.get("critic", "")
            return who(name, critic_use(name, self.reward.options.get("options", {})))
        return who(self.scorer.removeprefix(CRITIC), self.critic) if self.scorer.startswith(CRITIC) else None

    def __post_init__(self) -> None:
        if self.seeds < 1:
            raise ValueError(f"seeds must be at least 1, got {self.seeds}")


def _selection() -> HeldOut:
    return HeldOut(split="selection")


def _report() -> HeldOut:
    return HeldOut(split="held_out")


@dataclass(frozen=True, kw_only=True, slots=True)
class IterateSettings:
    """Rounds of candidates, judgements and offline alignment, each from the policy of the round before.

    `generate`, `judge`, `align`, `critic` and `reward` are settings over the workspace's sections of these names.
    """

    run: str = "iterate"
    """Name of the whole under `runs/`, where the best round's adapter ends; a round's own run is RUN-K."""
    rounds: int = 3
    """At most so many; a finished iteration takes more with a higher number."""
    split: str = "train"
    """The prompts that candidates are made of."""
    answers: Literal["pairwise", "pointwise"] = "pairwise"
    """pairwise: judges compare candidates, and the best is trained against the worst. pointwise: they call each good,
    normal or bad, and good and normal are desirable (KTO)."""
    dimension: str = "overall"
    """Of pointwise judgements the one that decides."""
    people: int = 0
    """Wait in every round until so many people have judged each question about its candidates (`reelign annotate`);
    their judgements join the judge's. 0 asks nobody."""
    generate: Mapping[str, Any] = field(default_factory=dict)
    judge: Mapping[str, Any] = field(default_factory=dict)
    """`judge: {judge: people}` asks people alone."""
    align: Mapping[str, Any] = field(default_factory=dict)
    """Unless it names others, anchors are IPO's: 0.2 on chosen videos beside DPO, and 0.1 on real ones where a file
    `real` is named."""
    each: Mapping[int, Mapping[str, Any]] = field(default_factory=dict)
    """Round to settings of its own over those of `align`, such as {2: {objective: {beta: 300}}}."""
    refresh: RoundRefresh = field(default_factory=RoundRefresh)
    """Trains the judge again between the rounds; `critic` and `reward` say how, of a judge `critic:NAME` or
    `reward:NAME`."""
    critic: Mapping[str, Any] = field(default_factory=dict)
    reward: Mapping[str, Any] = field(default_factory=dict)
    selection: HeldOut = field(default_factory=_selection)
    """Chooses the best round, and ends the rounds when they no longer help."""
    report: HeldOut = field(default_factory=_report)
    """Is reported and chooses nothing; without a scorer nothing is reported beside the selection."""
    min_gain: float = 0.0
    """A round is better than the best so far when its mean selection score is by more than this; of a judge that
    compares, when its wins against it less its losses are more than this share."""
    patience: int = 1
    """So many rounds in a row that are not better end the rounds."""
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("rounds", "patience"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        for name in ("min_gain", "people"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name} must be at least 0, got {getattr(self, name)}")
        if not all(self.splits) or len(set(self.splits)) < len(self.splits):
            raise ValueError(f"split must differ from selection.split and report.split, got {', '.join(self.splits)}")
        named = [(held.scorer, held.reward, held.critic) for held in (self.selection, self.report)]
        if self.selection.scorer and named[0] == named[1]:
            raise ValueError(
                f"selection.scorer must be another judge than report.scorer, got {self.report.scorer!r} twice"
            )
        for section, given in GIVEN.items():
            own = getattr(self, section)
            for name in (name for name in given if name in own):
                raise ValueError(f"{section}.{name} is decided by the rounds, got {own[name]!r}")
        if any(number < 1 for number in self.each):
            raise ValueError(f"each must name rounds from 1, got {sorted(self.each)}")

    @property
    def splits(self) -> tuple[str, ...]:
        """Of training, selection and report, which no prompt may share."""
        return self.split, self.selection.split, self.report.split
