"""A critic as a judge of a workspace: `judge=critic:NAME` with its options, votes and dimensions."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields
from functools import partial
from typing import Any, Literal, TypeVar

import torch
from torch import Tensor

from reelign.critics.base import Comparison, Critic
from reelign.critics.opening import CriticOptions, is_foreign, is_url, open_critic
from reelign.critics.server import ServerSettings
from reelign.critics.voting import Voted, Voting
from reelign.errors import ReelignError
from reelign.records import Verdict
from reelign.video import Clip

T = TypeVar("T")
PREFIX = "critic:"
"""Before a critic's name, where a judge is named."""
OVERALL = "overall"


@dataclass(frozen=True, kw_only=True, slots=True)
class CriticUse(CriticOptions):
    """How `critic:NAME` is opened and asked."""

    dimensions: tuple[str, ...] = ()
    """What is judged; none is all that the critic compares, but for 'overall' where there is more."""
    votes: int = 1
    """Askings of each question, with chance of their own; the verdict is what most say."""
    swap: bool = True
    """Each is asked twice, the other way round the second time; a verdict that goes with the place is left out."""
    tie: float = 0.0
    """Margins up to this are a tie, of critics that give numbers."""
    min_certainty: float = 0.0
    """Verdicts that the critic is less sure of are left out, 0 to 1."""
    fps: float | None = None
    """Frames per second of videos that bring no rate of their own; those of a workspace do."""

    def __post_init__(self) -> None:
        CriticOptions.__post_init__(self)
        self.voting()

    def voting(self) -> Voting:
        """How often it is asked, and what counts."""
        return Voting(votes=self.votes, swap=self.swap, tie=self.tie, min_certainty=self.min_certainty)

    def options(self) -> dict[str, Any]:
        """What `open_critic` takes."""
        return {each.name: getattr(self, each.name) for each in fields(CriticOptions)}


def critic_use(spec: str, options: Mapping[str, Any], **further: Any) -> CriticUse:
    """How a critic is asked, from options as a file or a call has them, `server` a mapping or its settings.

    Raises:
        ReelignError: an option that there is not, or a value that it cannot have.
    """
    server = options.get("server")
    try:
        held = {**options, **({"server": ServerSettings(**server)} if isinstance(server, Mapping) else {})}
        return CriticUse(**{**further, **held})
    except (TypeError, ValueError) as error:
        raise ReelignError(f"An option of the critic {spec!r} is not valid: {error}.", "Correct it.") from None


def who(spec: str, options: CriticOptions) -> tuple[str, ...]:
    """What tells critics apart: how and where one is asked makes no other of it. The critic `server` alone is whatever
    answers at its address."""
    address = spec if is_url(spec) else options.server.url if spec == "server" else ""
    return "server" if address else spec, options.model, options.server.model, address


def voted_critic(spec: str, settings: CriticUse | None = None) -> Voted:
    """The critic as the settings want it, with its votes."""
    settings = settings or CriticUse()
    return Voted(open_critic(spec, **({} if is_foreign(spec) else settings.options())), settings.voting())


def critic_judge(spec: str, settings: CriticUse | None = None) -> CriticJudge:
    """The judge behind `judge=critic:NAME`."""
    settings = settings or CriticUse()
    return CriticJudge(voted_critic(spec, settings), dimensions=settings.dimensions, fps=settings.fps)


class CriticJudge:
    """A judge (`records.Judge`) whose verdicts have reasons, and which may have none on a pair."""

    kind: Literal["critic"] = "critic"

    def __init__(self, critic: Critic, *, dimensions: Sequence[str] = (), fps: float | None = None) -> None:
        """Args: as in `CriticUse`.

        Raises:
            ReelignError: a dimension on which the critic does not compare.
        """
        self.fps = fps
        self.critic = critic
        self.dimensions = tuple(dimensions) or by_default(critic.compares)
        unknown = [name for name in self.dimensions if name not in critic.compares]
        if unknown or not self.dimensions:
            raise ReelignError(
                f"The critic {critic.name!r} does not compare videos on {', '.join(unknown) or 'anything'}.",
                f"It compares them on {', '.join(critic.compares) or 'nothing'}.",
            )

    @property
    def name(self) -> str:
        return self.critic.name

    @property
    def version(self) -> str:
        return self.critic.version

    def asked(self, questions: Sequence[tuple[Clip, Clip, str, str]]) -> list[Comparison]:
        """What the critic says of pairs, each with its prompt and on a dimension, as many at a time as it takes."""
        return together(self.critic.concurrency, [partial(self.critic.compare, *question) for question in questions])

    def compare(
        self,
        videos_a: Tensor,
        videos_b: Tensor,
        prompts: Sequence[str],
        *,
        generator: torch.Generator,
        fps: float | None = None,
    ) -> list[dict[str, Verdict]]:
        """As `records.Judge`, but that a dimension without a verdict is not in a pair's dict.

        Args:
            videos_a, videos_b, prompts: as there.
            generator: not used; the critic's chance is its own.
            fps: frames per second of the videos; None is the `fps` that the judge was made with.
        Raises:
            ReelignError: no frame rate.
        """
        rate = fps or self.fps
        if rate is None:
            raise ReelignError(
                f"The critic {self.name!r} is told when each frame is seen, and no frame rate was given.",
                "Set critic.fps, the frames per second of the videos.",
            )
        clips_a, clips_b = ([Clip(frames=video, fps=rate) for video in each] for each in (videos_a, videos_b))
        questions = [
            (a, b, prompt, dimension)
            for a, b, prompt in zip(clips_a, clips_b, prompts, strict=True)
            for dimension in self.dimensions
        ]
        said = iter(self.asked(questions))
        answers = [{dimension: next(said).verdict for dimension in self.dimensions} for _ in prompts]
        return [{name: verdict for name, verdict in each.items() if verdict is not None} for each in answers]


def by_default(known: Sequence[str]) -> tuple[str, ...]:
    """Dimensions where none are named: all, but for the overall one beside others."""
    return tuple(name for name in known if name != OVERALL) or tuple(known)


def together(limit: int, calls: Sequence[Callable[[], T]]) -> list[T]:
    """The results of calls in their order, up to `limit` of them under way; the first error stops the rest."""
    if limit == 1 or len(calls) < 2:
        return [call() for call in calls]
    with ThreadPoolExecutor(min(limit, len(calls))) as pool:
        futures = [pool.submit(call) for call in calls]
        try:
            return [future.result() for future in futures]
        finally:
            for future in futures:
                future.cancel()
