"""One optimiser step of a critic: the surprise at right answers, of pairs in both orders."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from reelign.objectives.answer_tokens import answer_token_loss
from reelign.recipes.critic.model import CriticModel
from reelign.recipes.critic.stream import Asked, CriticBatch
from reelign.recipes.critic.tokens import AnswerTokens, answer_tokens


@dataclass(frozen=True, kw_only=True, slots=True)
class Surprise:
    """What one answer costs."""

    loss: Tensor
    """Summed over its tokens, weighted."""
    verdict_loss: Tensor
    """Mean over the tokens of the verdict."""
    right: bool
    """Whether the likeliest tokens at the verdict's place are its own, the reasons before it being given."""


class CriticStep:
    """The gradient of the weighted mean surprise over all answer tokens of a batch.

    The weights are counted over the whole batch before the first forward, so that answers taken one at a time, which
    need no padding, add up to the gradient of the batch.

    Args:
        verdict_weight: of the verdict's tokens; all others count 1.
    """

    def __init__(self, *, verdict_weight: float) -> None:
        self.verdict_weight = verdict_weight

    def accumulate_gradients(self, policy: Any, batch: CriticBatch) -> dict[str, float]:
        """Add the gradient to the parameters' `.grad`.

        Returns:
            `loss`; `verdict_loss` of the verdicts' tokens alone; `accuracy`, the share of verdicts that are the
            likeliest behind the given reasons.
        """
        model: CriticModel = policy.model
        answers = spelled(model, batch, self.verdict_weight)
        total = sum(float(each.weights.sum()) for each in answers)
        found = []
        for asked, answer in zip(batch.asked, answers, strict=True):
            surprise = surprise_at(model, asked, answer)
            (surprise.loss / total).backward()
            found.append(surprise)
        return _metrics(found, total)


@torch.no_grad()
def look(model: CriticModel, batch: CriticBatch, *, verdict_weight: float) -> tuple[list[Surprise], float]:
    """The surprise at each answer of a batch, and the weight of all its tokens."""
    answers = spelled(model, batch, verdict_weight)
    found = [surprise_at(model, asked, answer) for asked, answer in zip(batch.asked, answers, strict=True)]
    return found, sum(float(each.weights.sum()) for each in answers)


def spelled(model: CriticModel, batch: CriticBatch, verdict_weight: float) -> list[AnswerTokens]:
    """The tokens of every right answer."""
    return [
        answer_tokens(model.writer, each.example.answer, each.reason, verdict_weight=verdict_weight)
        for each in batch.asked
    ]


def surprise_at(model: CriticModel, asked: Asked, answer: AnswerTokens) -> Surprise:
    """One forward of a question with its right answer."""
    logits = model.logits(model.question(asked.example, asked.seen), answer.ids)
    ids, weights, verdict = (each.to(logits.device) for each in (answer.ids, answer.weights, answer.verdict))
    losses = answer_token_loss(logits, ids, weights)
    return Surprise(
        loss=losses.sum(),
        verdict_loss=(losses[verdict] / weights[verdict]).mean().detach(),
        right=bool((logits[verdict].argmax(dim=-1) == ids[verdict]).all()),
    )


def _metrics(found: list[Surprise], total: float) -> dict[str, float]:
    return {
        "loss": float(torch.stack([each.loss.detach() for each in found]).sum()) / total,
        "verdict_loss": float(torch.stack([each.verdict_loss for each in found]).mean()),
        "accuracy": sum(each.right for each in found) / len(found),
    }
