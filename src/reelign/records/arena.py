"""The arena table: how strong each generator is, by Bradley and Terry, from votes on pairs of their videos."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from reelign.records.votes import Vote

Floats = NDArray[np.float64]
Codes = NDArray[np.int64]

PRIOR = 1e-3
"""Weight of a standard normal prior on each strength: next to nothing, but a generator that never lost stays finite."""

DECIMALS = 6
"""Of a strength that the fit can be trusted with."""

_OUTCOME = {"a": 1.0, "tie": 0.5, "b": 0.0}


@dataclass(frozen=True, kw_only=True, slots=True)
class ArenaRow:
    """One generator."""

    generator: str
    strength: float
    """Log-odds: the video of a generator that is stronger by 1 is preferred in 73 % of the pairs. The mean is 0."""
    low: float
    high: float
    """Its 95 % interval over other prompts."""
    wins: int
    ties: int
    losses: int
    island: int
    """Strengths compare only between generators of the same number: those are linked by votes."""


def arena(
    votes: Iterable[Vote], generators: Mapping[str, str], prompts: Mapping[str, int], *, dimension: str | None = None
) -> list[ArenaRow]:
    """Bradley–Terry strengths, the strongest first.

    P(a is better than b) = 1 / (1 + exp(strength_b - strength_a)), by maximum likelihood; a tie is half a win for
    each. Votes on one prompt hang together, so the intervals come from the spread between prompts (the sandwich
    estimator, clustered by prompt); fewer than some twenty prompts make them too narrow.

    Args:
        votes: at most one per pair and dimension; those between two videos of one generator say nothing here.
        generators: video id to the generator's name; votes on other videos are not looked at.
        prompts: video id to its prompt.
        dimension: only this one; by default the votes on all count the same.
    """
    rows = [
        (generators[vote.video_a], generators[vote.video_b], _OUTCOME[vote.verdict], prompts[vote.video_a])
        for vote in votes
        if (dimension is None or vote.dimension == dimension)
        and vote.video_a in generators
        and vote.video_b in generators
        and generators[vote.video_a] != generators[vote.video_b]
    ]
    names = sorted({name for row in rows for name in row[:2]})
    if not names:
        return []
    place = {name: index for index, name in enumerate(names)}
    a = np.array([place[row[0]] for row in rows])
    b = np.array([place[row[1]] for row in rows])
    outcome = np.array([row[2] for row in rows])
    _, prompt = np.unique([row[3] for row in rows], return_inverse=True)
    wins = _table(a, b, outcome, len(names))
    strengths = _fit(wins)
    deviations = _deviations(strengths, wins, a, b, outcome, prompt)
    found = [
        ArenaRow(
            generator=name,
            strength=float(strengths[code]),
            low=float(strengths[code] - 1.959964 * deviations[code]),
            high=float(strengths[code] + 1.959964 * deviations[code]),
            wins=int(((a == code) & (outcome == 1)).sum() + ((b == code) & (outcome == 0)).sum()),
            ties=int((((a == code) | (b == code)) & (outcome == 0.5)).sum()),
            losses=int(((a == code) & (outcome == 0)).sum() + ((b == code) & (outcome == 1)).sum()),
            island=island,
        )
        for code, (name, island) in enumerate(zip(names, _islands(wins), strict=True))
    ]
    # Strengths that are equal to what the fit can tell stand by name, and not by the last bits of one machine.
    return sorted(found, key=lambda row: (row.island, -round(row.strength, DECIMALS), row.generator))


def _table(a: Codes, b: Codes, outcome: Floats, count: int) -> Floats:
    """(count, count) wins of the row's generator over the column's, ties as halves."""
    wins: Floats = np.zeros((count, count))
    np.add.at(wins, (a, b), outcome)
    np.add.at(wins, (b, a), 1 - outcome)
    return wins


def _fit(wins: Floats) -> Floats:
    from scipy.optimize import minimize

    def loss(strengths: Floats) -> float:
        difference = strengths[:, None] - strengths[None, :]
        return float((wins * np.logaddexp(0, -difference)).sum() + PRIOR / 2 * (strengths**2).sum())

    def gradient(strengths: Floats) -> Floats:
        expected = (wins + wins.T) * _chance(strengths)
        slope: Floats = PRIOR * strengths - (wins - expected).sum(axis=1)
        return slope

    found = minimize(
        loss,
        np.zeros(len(wins)),
        jac=gradient,
        hess=lambda strengths: _information(strengths, wins),
        method="trust-exact",
        options={"gtol": 1e-8 * wins.sum()},
    )
    strengths: Floats = found.x
    return strengths


def _chance(strengths: Floats) -> Floats:
    chance: Floats = 1 / (1 + np.exp(strengths[None, :] - strengths[:, None]))
    return chance


def _information(strengths: Floats, wins: Floats) -> Floats:
    """The second derivative of the loss."""
    chance = _chance(strengths)
    weight = (wins + wins.T) * chance * (1 - chance)
    information: Floats = np.diag(weight.sum(axis=1) + PRIOR) - weight
    return information


def _deviations(strengths: Floats, wins: Floats, a: Codes, b: Codes, outcome: Floats, prompt: Codes) -> Floats:
    """Standard errors by the sandwich H⁻¹ (Σ g gᵀ) H⁻¹, with g the gradient of one prompt's votes."""
    surprise = outcome - 1 / (1 + np.exp(strengths[b] - strengths[a]))
    gradients = np.zeros((int(prompt.max()) + 1, len(strengths)))
    np.add.at(gradients, (prompt, a), surprise)
    np.add.at(gradients, (prompt, b), -surprise)
    inverse = np.linalg.inv(_information(strengths, wins))
    errors: Floats = np.sqrt(np.diag(inverse @ (gradients.T @ gradients) @ inverse))
    return errors


def _islands(wins: Floats) -> list[int]:
    from scipy.sparse.csgraph import connected_components

    labels: list[int] = connected_components(wins + wins.T, directed=False)[1].tolist()
    return labels
