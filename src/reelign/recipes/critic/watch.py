"""Looks at held-out votes while a critic trains, and questions to it in its own words when it has."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import torch
from tqdm import tqdm

from reelign.critics.asking import AskingCritic
from reelign.critics.frames import Shown
from reelign.critics.writing import Sampling
from reelign.diffusion.seeds import generator_from
from reelign.recipes.critic.data import CriticData
from reelign.recipes.critic.lessons import Example
from reelign.recipes.critic.model import CriticModel, CriticPolicy
from reelign.recipes.critic.step import look
from reelign.recipes.critic.stream import batch_of
from reelign.recipes.reward.clips import VideoStore
from reelign.video import read_video

LESSONS_AT_ONCE = 8
"""Whose videos are in memory together."""


def surprise_look(
    data: CriticData, store: VideoStore[Shown], *, verdict_weight: float
) -> Callable[[CriticPolicy], dict[str, float]]:
    """A look at held-out lessons, for `reward_watch.HeldOutRanking`:

    held_out/loss           the surprise at right answers, as in training
    held_out/accuracy       share of right verdicts behind the judges' own reasons: these give much away
    """

    def metrics(policy: CriticPolicy) -> dict[str, float]:
        loss = total = 0.0
        right: list[bool] = []
        for start in range(0, len(data), LESSONS_AT_ONCE):
            lessons = list(data.lessons[start : start + LESSONS_AT_ONCE])
            found, weight = look(
                policy.model, batch_of(lessons, store, [0] * len(lessons)), verdict_weight=verdict_weight
            )
            loss += sum(float(each.loss) for each in found)
            total += weight
            right += [each.right for each in found]
        return {"held_out/loss": loss / total, "held_out/accuracy": sum(right) / len(right)}

    return metrics


@dataclass(frozen=True, kw_only=True, slots=True)
class Told:
    """What became of questions of one kind on one dimension."""

    asked: int
    right: int
    unread: int
    """Without a verdict; they are not right."""


def ask_held_out(
    model: CriticModel, data: CriticData, *, most: int, max_tokens: int, seed: int
) -> Mapping[str, Mapping[str, Told]]:
    """Ask the critic itself, which writes its own reasons: {'pairwise' or 'three_level': {dimension: Told}}.

    Args:
        data: held-out lessons.
        most: questions at most, drawn at random; both orders of a pair are questions.
        max_tokens: of an answer.
        seed: of the draw.
    """
    critic = AskingCritic(
        "trained", model.format, model.writer, sampling=Sampling(max_tokens=max_tokens), frames=model.frames
    )
    found: dict[str, dict[str, list[int]]] = {}
    for example in tqdm(list(_drawn(data, most, seed)), desc="ask held-out", unit="question", disable=not most):
        clips = [read_video(path) for path in example.videos]
        if len(clips) == 2:
            a, b = clips
            said = critic.compare(a, b, example.prompt, example.dimension).verdict
            kind = "pairwise"
        else:
            said = critic.rate(clips[0], example.prompt, example.dimension).grade  # type: ignore[assignment]
            kind = "three_level"
        counts = found.setdefault(kind, {}).setdefault(example.dimension, [0, 0, 0])
        counts[0] += 1
        counts[1] += said == example.answer
        counts[2] += said is None
    return {
        kind: {name: Told(asked=own[0], right=own[1], unread=own[2]) for name, own in sorted(by.items())}
        for kind, by in found.items()
    }


def _drawn(data: CriticData, most: int, seed: int) -> Iterator[Example]:
    examples = data.examples
    order = torch.randperm(len(examples), generator=generator_from(seed, "held-out questions"))[:most]
    return (examples[place] for place in order.sort().values.tolist())
