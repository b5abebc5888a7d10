"""The online stream: at every step prompts, candidates of the policy as it stands, a judge, and what is learnt."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import wait
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from reelign.diffusion.seeds import generator_from, seed_from
from reelign.recipes.online.counts import Counts, seen
from reelign.recipes.online.rollouts import Rollouts, Sampled
from reelign.recipes.online.samples import Samples, picks, read_samples, write_samples
from reelign.recipes.online.selection import Selected, select
from reelign.rewards.failures import Failures
from reelign.training import PairBatch, Stream, VideoBatch
from reelign.training.rollouts import Group

BUFFERS = "rollouts"


@dataclass(frozen=True)
class OnlineBatch:
    """What one step learns from, and what was seen while it was made."""

    batch: PairBatch | VideoBatch | None
    """None where no group had a preference."""
    real: VideoBatch | None
    """Beside it, where there is an anchor on real videos."""
    metrics: dict[str, float]

    @property
    def names(self) -> tuple[str, ...]:
        return () if self.batch is None else self.batch.names


class OnlineStream:
    """An endless source of batches that the policy makes itself.

    Every rank rolls out its own prompts; scores and chosen latents are gathered, so that all ranks hold the same global
    batch. Samples that the ranks cannot share evenly wait for the next step. What is held between steps lies in the
    run's folder once a checkpoint needs it, and nothing is written otherwise.

    Args:
        rollouts: what samples and has judged.
        folder: the run's.
        real: real videos beside every batch, or None.
    """

    def __init__(self, rollouts: Rollouts, folder: Path, *, real: Stream[VideoBatch] | None = None) -> None:
        self.rollouts = rollouts
        self.policy = rollouts.policy
        self.feedback = rollouts.feedback
        self.settings = rollouts.settings
        self.folder = folder / BUFFERS
        self.real = real
        self.weights = self.settings.selection.of(self.feedback.dimensions)
        self.step = 0
        self.uses = 0
        """How often the batch in hand has been trained on."""
        self.current: Samples | None = None
        self.waiting: Samples | None = None
        self.next: Sampled | None = None
        """The rollout that is judged while steps train, where rollouts go ahead."""
        self.counts = Counts()
        self.failures = Failures()

    def next_batch(self) -> OnlineBatch:
        metrics: dict[str, float] = {}
        if self.current is None or self.uses >= self.settings.reuse:
            metrics = self._renew()
        self.counts.add_step(self.current is not None, self.failures, self.settings.patience)
        self.uses += 1
        found = self._batch({**metrics, **self.counts.metrics()})
        self.step += 1
        return found

    def _batch(self, metrics: dict[str, float]) -> OnlineBatch:
        if self.current is None:
            return OnlineBatch(None, None, metrics)
        seed = generator_from(self.settings.seed, "draws", self.step).initial_seed()
        batch = self.current.batch(self.rollouts.sampler.sides.own, seed)
        metrics["online/samples"] = len(self.current)
        metrics["online/staleness"] = float((self.step - self.current.made_at).double().mean())
        return OnlineBatch(batch, None if self.real is None else self.real.next_batch(), metrics)

    def _renew(self) -> dict[str, float]:
        """Roll out and judge; what the ranks can share becomes the batch in hand."""
        fresh, metrics = self._roll_out()
        ready = fresh
        if self.waiting is not None:
            ready = self.waiting if fresh is None else self.waiting.and_then(fresh)
        self.current, self.waiting, self.uses = None, None, 0
        if ready is not None:
            even = len(ready) - len(ready) % self.policy.ranks.count
            self.current = ready.part(slice(0, even)) if even else None
            self.waiting = ready.part(slice(even, None)) if even < len(ready) else None
        return metrics

    def _roll_out(self) -> tuple[Samples | None, dict[str, float]]:
        """The samples of one rollout over all ranks, and what was seen of its candidates."""
        settings = self.settings
        now = self.next or self.rollouts.begin(self.counts.rollouts, self.step)
        more = settings.ahead and self.step + settings.reuse < settings.trainer.steps
        self.next = self.rollouts.begin(self.counts.rollouts + 1, self.step) if more else None
        scores = self.rollouts.scores(now)
        found = select(scores, settings.selection, self.weights, self.feedback.ties)
        self._count(now.groups, scores, found)
        chosen = picks(
            settings.objective,
            found,
            scores,
            self.weights,
            top=settings.selection.top,
            swap=settings.swap,
            seed=seed_from(settings.seed, "random", self.counts.rollouts),
        )
        self.counts.rollouts += 1
        samples = self.rollouts.chosen(now, chosen)
        self.counts.samples += 0 if samples is None else len(samples)
        return samples, {**seen(scores), **now.clock.metrics()}

    def _count(self, groups: list[Group], scores: dict[str, Tensor], found: Sequence[Selected]) -> None:
        names = [f"{group.prompt!r} with seed {seed}" for group in groups for seed in group.seeds]
        before = len(self.failures)
        self.failures.add({name: scores[name].flatten() for name in self.weights}, names)
        self.counts.unscored += len(self.failures) - before
        self.counts.candidates += len(names)
        self.counts.add_groups([each.reason for each in found])

    def settle(self) -> None:
        """Wait for the judge, so that nothing else decodes or scores beside it."""
        if self.next is not None:
            wait(self.next.scores)

    def state_dict(self) -> dict[str, Any]:
        """The cursor; latents that later steps need are written beside it into the run's folder."""
        held = self.current if self.uses < self.settings.reuse else None
        buffers = {name: each for name, each in (("current", held), ("waiting", self.waiting)) if each is not None}
        return {
            "step": self.step,
            "uses": self.uses,
            "counts": asdict(self.counts),
            "failed": self.failures.samples,
            "seen": self.failures.seen,
            "buffers": {name: self._written(name, each) for name, each in buffers.items()},
            "next": None if self.next is None else self._written("next", self.rollouts.candidates(self.next)),
            "real": None if self.real is None else self.real.state_dict(),
        }

    def _written(self, name: str, samples: Samples) -> dict[str, Any]:
        file = self.folder / f"{name}-{self.step:06d}.safetensors"
        if self.policy.ranks.main:
            write_samples(file, samples, keep=self.settings.trainer.keep_checkpoints + 1)
        return {"file": file.name, "names": list(samples.names)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.step, self.uses, self.counts = state["step"], state["uses"], Counts(**state["counts"])
        samples = {name: tuple(lacking) for name, lacking in state["failed"].items()}
        self.failures = Failures(samples, state["seen"])
        self.current, self.waiting = (self._read(state["buffers"].get(name)) for name in ("current", "waiting"))
        ahead = self._read(state.get("next"))
        self.next = None if ahead is None else self.rollouts.begin_again(self.counts.rollouts, ahead)
        if self.real is not None:
            self.real.load_state_dict(state["real"])

    def _read(self, told: dict[str, Any] | None) -> Samples | None:
        if told is None:
            return None
        return read_samples(self.folder / told["file"], told["names"], self.policy.generator.device)
