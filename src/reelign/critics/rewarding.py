"""A critic as a reward: its verdicts on single videos as numbers, wherever a reward is asked for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from reelign.critics.base import Grade, Rating, check_dimension
from reelign.critics.judging import by_default, critic_use, together, voted_critic
from reelign.errors import ReelignError
from reelign.rewards.base import Reward, RewardCard, Videos, check_input
from reelign.video import Clip

WORTH: dict[Grade, float] = {"bad": 0.0, "normal": 0.5, "good": 1.0}


class CriticReward(Reward):
    """Scores by a critic's `rate`: bad 0, normal 0.5, good 1, or its own number where it gives one.

    A video without a verdict is NaN; `critic.tally` counts them.

    Args:
        critic: as for `critics.open_critic`.
        dimensions: what is scored; none is all that the critic rates, but for 'overall' where there is more.
        votes: askings of each question.
        options: of the critic, such as `server` and `cache`.
    """

    card = RewardCard(
        what="A critic's verdicts on single videos: bad 0, normal 0.5, good 1; critic=NAME, see docs/critics.md",
        dimensions=("VQ", "MQ", "TA"),
        differentiable=False,
        frames_needed=1,
    )

    def __init__(
        self,
        *,
        critic: str,
        dimensions: Sequence[str] = (),
        votes: int = 1,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        """Args: as of the class.

        Raises:
            ReelignError: an option that is not valid, a dimension that the critic does not rate, or as `open_critic`.
        """
        self.critic = voted_critic(critic, critic_use(critic, options or {}, votes=votes))
        self.name, self.version = self.critic.name, self.critic.version
        self.dimensions = tuple(dimensions) or by_default(self.critic.rates)
        for dimension in self.dimensions:
            check_dimension(self.critic, "rates", dimension)

    def score(self, videos: Videos, prompts: Sequence[str], *, fps: float | None = None) -> dict[str, Tensor]:
        """As `Reward.score`: {dimension: (B,)}, NaN of a video without a verdict.

        Raises:
            ReelignError: no frame rate, or a server that gives no answer.
        """
        check_input(self, videos, prompts, fps=fps)
        if fps is None:
            raise ReelignError(
                f"The critic {self.name!r} is told when each frame is seen, and no frame rate was given.",
                "Give fps, the frames per second of the videos.",
            )
        clips = [Clip(frames=video, fps=fps) for video in videos]
        calls = [
            partial(self.critic.rate, clip, prompt, dimension)
            for dimension in self.dimensions
            for clip, prompt in zip(clips, prompts, strict=True)
        ]
        worths = torch.tensor([worth(rating) for rating in together(self.critic.concurrency, calls)])
        columns = worths.reshape(len(self.dimensions), len(prompts)).to(videos[0].device)
        return dict(zip(self.dimensions, columns, strict=True))


def worth(rating: Rating) -> float:
    """A rating as a number: its score, or else what its grade is worth; NaN where there is no verdict."""
    if rating.grade is None:
        return float("nan")
    return WORTH[rating.grade] if rating.score is None else rating.score
