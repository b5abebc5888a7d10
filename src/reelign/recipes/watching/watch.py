"""The watch on reward hacking: does what training does not see rise with what it maximises?"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import Tensor
from tqdm import tqdm

from reelign.errors import ReelignError
from reelign.generators.base import Generator
from reelign.recipes.sampling import Sampling
from reelign.recipes.watching.files import FOLDER, WatchFiles, fingerprint
from reelign.recipes.watching.grid import write_grid
from reelign.recipes.watching.looking import DISTANCE, Looker, fixed_seeds
from reelign.recipes.watching.settings import WatchSettings
from reelign.records import Workspace
from reelign.rewards.base import Reward
from reelign.rewards.compose import Composed
from reelign.rewards.judging import refuse_relative
from reelign.rewards.opening import open_reward
from reelign.training.caches import cached_sides
from reelign.training.looks import Look
from reelign.training.parting import Alarm, alarms, standing
from reelign.training.policy import Policy
from reelign.training.trackers import Trackers

__all__ = ["Look", "Watch", "WatchSettings", "make_watch"]


class Watch:
    """A monitor that looks every `settings.every` steps and raises alarms by `training.parting.alarms`.

    The moving average is looked at where one is kept, since it is what the run leaves. Metrics: `watch/` and each of
    the look's scores in the mean over its videos, `watch/alarms`, `watch/failed` (videos without a score),
    `watch/best_step` and `watch/seconds`. Files: `watch/base.json` and `watch/step-N.json` with the scores of every
    video; `watch/best-N/`, adapter and weights of each best look; `samples/watch/`, base and policy side by side.

    A look that was made before a kill is made again only where the weights are others.
    """

    def __init__(self, looker: Looker, folder: Path, title: str) -> None:
        self.looker = looker
        self.settings = looker.settings
        self.files = WatchFiles(folder, looker.key)
        self.folder = self.files.folder
        self.samples = folder / "samples" / FOLDER
        self.title = title
        self.trackers: Trackers | None = None
        """See the grids too."""
        self.looks: list[int] = []
        """Steps of the looks that were judged, in order."""
        self.best_step: int | None = None
        """Of the best look by what training does not see; the first that there was without held-out rewards."""
        self.alarmed = 0
        """Looks in a row with an alarm."""
        self.reason: str | None = None
        self._base: Look | None = None
        self._best: Look | None = None
        self._last: tuple[str, Look, dict[int, Tensor]] | None = None
        """The fingerprint of the weights last looked at, the look, and the shown videos."""

    @property
    def best(self) -> Path | None:
        """The folder with the adapter of the best look, as `load_adapter` takes it; None before the first look."""
        return None if self.best_step is None else self.files.best(self.best_step)

    def begin(self, policy: Policy) -> None:
        """The base's look, and the first of the policy, before the run's first step.

        A run that was killed has made it already and remembers it; `load_state_dict` then puts a checkpoint's memory in
        its place, where there is one.
        """
        if not self.settings.every:
            return
        kept = self.files.same(0, fingerprint(policy))
        if kept is None:
            self._judge(0, policy)
        else:
            self.looks, self.best_step, self._best = [0], 0, kept

    def after_step(self, step: int, policy: Policy, metrics: dict[str, float]) -> dict[str, float]:
        if not self.settings.every or step % self.settings.every:
            return {}
        return self._judge(step, policy)

    def look(self, policy: Policy) -> Look:
        """What the policy's videos score now; weights that were looked at last are not looked at again."""
        return self._look(policy, -1)

    def base_look(self, policy: Policy) -> Look:
        """What the base's videos score, at the same prompts and seeds."""
        path = self.files.base
        if self._base is None and path.exists():
            self._base = self.files.kept(path)
        if self._base is None:
            self._base, shown = self.looker.take(policy, "base", 0)
            _check_scored(self._base)
            if policy.ranks.main:
                self._write_grid("base", shown)
                self.files.write(path, self._base)
        return self._base

    def restore(self, policy: Policy) -> bool:
        """Put the best look's weights into the policy, where the watch has ended the run and was asked to.

        Returns:
            Whether it did; the recipe calls it after training and before it saves.
        """
        if self.reason is None or self.settings.action != "roll_back" or self.best_step is None:
            return False
        self.files.restore(policy, self.best_step)
        return True

    def verdict(self) -> str | None:
        return self.reason

    def state_dict(self) -> dict[str, Any]:
        return {"looks": self.looks, "best": self.best_step, "alarmed": self.alarmed, "reason": self.reason}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.looks, self.best_step = list(state["looks"]), state["best"]
        self.alarmed, self.reason = state["alarmed"], state["reason"]
        self._best = None if self.best_step is None else self.files.kept(self.files.look(self.best_step))

    def _judge(self, step: int, policy: Policy) -> dict[str, float]:
        """One look, what is wrong with it, and what follows."""
        began = time.perf_counter()
        base = self.base_look(policy)
        look = self._look(policy, step)
        self.looks.append(step)
        found: list[Alarm] = []
        if self._best is not None:
            bands = {name: self.settings.bands.get(name, self._band(name)) for name in look.proxies}
            count = len(self.looks) - 1
            found = alarms(look, self._best, base, level=self.settings.level, looks=count, bands=bands)
        if self._best is None or standing(look, base) > standing(self._best, base):
            self._best, self.best_step = look, step
            self.files.keep_weights(policy, step)
        self.alarmed = self.alarmed + 1 if found else 0
        if found and policy.ranks.main:
            tqdm.write(f"{self.title}: at step {step}, {'; '.join(alarm.what for alarm in found)}")
        if self.alarmed >= self.settings.patience and self.settings.action != "warn":
            self.reason = self._reason(step, found)
        if policy.ranks.main:
            self._write(step, policy, look, found)
        return {
            **look.metrics(),
            "watch/alarms": len(found),
            "watch/failed": look.failed,
            "watch/best_step": self.best_step or 0,
            "watch/seconds": time.perf_counter() - began,
        }

    def _look(self, policy: Policy, step: int) -> Look:
        weights = fingerprint(policy)
        if self._last is not None and self._last[0] == weights:
            look, shown = Look(step, self._last[1].prompts, self._last[1].scores), self._last[2]
        elif step >= 0 and (kept := self.files.same(step, weights)) is not None:
            look, shown = kept, {}
        elif self._base is not None and self.looker.is_base(policy):
            look, shown = Look(step, self._base.prompts, self._base.scores), {}
        else:
            look, shown = self.looker.take(policy, "average", step)
        self._last = (weights, look, shown)
        return look

    def _write(self, step: int, policy: Policy, look: Look, found: list[Alarm]) -> None:
        """Grid first: a look whose file is there is whole."""
        assert self._last is not None
        self._write_grid(f"step-{step:06d}", self._last[2], step)
        told = [{"kind": alarm.kind, "name": alarm.name, "what": alarm.what} for alarm in found]
        further = {"alarms": told, "best": self.best_step, "stopped": self.reason}
        self.files.write(self.files.look(step), look, weights=self._last[0], **further)

    def _write_grid(self, name: str, shown: dict[int, Tensor], step: int = 0) -> None:
        made = write_grid(self.samples, name, shown, self.looker.prompts, self.looker.sampling.fps)
        if made is not None and self.trackers is not None:
            self.trackers.video(step, "watch/grid", made, f"base above, step {step} below")

    def _band(self, name: str) -> tuple[float, float] | None:
        """A base has no distance from itself to take shares of."""
        return None if name == DISTANCE else self.settings.band

    def _reason(self, step: int, found: list[Alarm]) -> str:
        done = f"; the run ends at its best look, step {self.best_step}" if self.settings.action == "roll_back" else ""
        return f"the watch gave alarm at {self.alarmed} looks in a row: {found[0].what}, at step {step}{done}"


def make_watch(
    workspace: Workspace,
    generator: Generator,
    settings: WatchSettings,
    *,
    training: Reward | None,
    sampling: Sampling,
    folder: Path,
    title: str,
    judges: Sequence[str] = (),
) -> Watch:
    """The watch of a run, its rewards opened and its prompts encoded; nothing is sampled yet.

    Args:
        workspace: brings the held-out prompts, and keeps the encoded ones.
        generator: the base.
        training: the reward that training maximises; None where judges that compare take its place, and held-out
            rewards and measures are all that is looked at.
        sampling: how every look is sampled.
        folder: the run's.
        title: of the run, before what is told of an alarm.
        judges: names of those judges.
    Raises:
        ReelignError: too few prompts, nothing to measure, a reward that cannot be opened, scores relative to a batch,
            or a held-out reward that training sees.
    """
    if training is None and not settings.held_out and not settings.proxies:
        raise ReelignError(
            f"The watch has nothing to measure: {', '.join(judges)} gives no scores, and no others are named.",
            "Name rewards in watch.held_out, or measures in watch.proxies.",
        )
    prompts = list(settings.prompts) or _own_prompts(workspace, settings.count)
    held_out = {name: open_reward(name, **settings.options.get(name, {})) for name in settings.held_out}
    proxies = [open_reward(name, **settings.options.get(name, {})) for name in settings.proxies]
    for each in (*([training] if training else []), *held_out.values(), *proxies):
        refuse_relative(each)
    _check_apart(training, judges, held_out)
    texts, seeds = fixed_seeds(prompts, settings.seeds, settings.seed)
    cache = workspace.root / "cache" / "text"
    sides = cached_sides(texts, sampling.negative_prompt, generator, cache, sampling.size)
    return Watch(Looker(settings, sampling, texts, seeds, sides, training, held_out, proxies), folder, title)


def _own_prompts(workspace: Workspace, count: int) -> list[str]:
    """Held-out prompts spread over the workspace's."""
    texts = list(dict.fromkeys(workspace.asked_in("held_out")))
    if len(texts) < 2:
        raise ReelignError(
            f"The watch needs two or more prompts that are not trained on, and the workspace holds {len(texts)}.",
            "Add some, reelign init FOLDER --held-out prompts.txt, or name them under watch.prompts.",
        )
    count = min(count, len(texts))
    return [texts[place * len(texts) // count] for place in range(count)]


def _check_apart(training: Reward | None, judges: Sequence[str], held_out: dict[str, Reward]) -> None:
    parts = [reward for _, reward in training.parts] if isinstance(training, Composed) else []
    seen = {(each.name, each.version) for each in (*([training] if training else []), *parts)}
    for name, each in held_out.items():
        if (each.name, each.version) in seen or each.name in judges:
            raise ReelignError(
                f"watch.held_out names {name}, which is what training maximises.",
                "Name a reward that training does not see, such as one by other authors.",
            )


def _check_scored(base: Look) -> None:
    """Refuse a score that could not be told apart from chance at any later look."""
    for name, values in base.scores.items():
        there = base.clusters[values.isfinite()]
        if len(set(there.tolist())) < 2:
            raise ReelignError(
                f"The watch has a score of {name} for {len(there)} of the base's {len(values)} videos, and asks two "
                "prompts at least.",
                "Leave that reward out under watch, or name prompts that it can score.",
            )
