"""What critics without a format of their own are asked: a question for each dimension, of two videos or of one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from reelign.errors import ReelignError


@dataclass(frozen=True, kw_only=True, slots=True)
class Dimension:
    """What is judged, in words."""

    title: str
    meaning: str
    sees_prompt: bool = True
    """Whether the critic is told the prompt: what does not depend on it is asked without, so that it cannot."""


DIMENSIONS = {
    "VQ": Dimension(
        title="visual quality",
        meaning="how clear, detailed and pleasing each single frame looks, without blur, noise, artefacts, or bodies "
        "and objects that are deformed",
        sees_prompt=False,
    ),
    "MQ": Dimension(
        title="motion quality",
        meaning="how natural, smooth and stable the motion is from frame to frame, without jumps, flicker, or things "
        "that appear, vanish or change without cause; a video in which hardly anything moves is poor",
        sees_prompt=False,
    ),
    "TA": Dimension(
        title="text alignment",
        meaning="how completely and correctly the video shows what the prompt asks for: its subjects and their number "
        "and looks, what they do, the scene, the style and the camera",
    ),
    "overall": Dimension(
        title="overall preference",
        meaning="which video a person who wrote the prompt would rather have, all in all: how it looks, how it moves "
        "and how well it shows what the prompt asks for",
    ),
}
"""What critics judge by default. A user's own dimensions stand beside them, see `dimensions`."""
GRADES = {
    "good": "free of noticeable faults",
    "normal": "acceptable, with faults that are small or few",
    "bad": "with faults that spoil it",
}
"""The words of a verdict on one video, as IPO's critic has them (arXiv:2502.02088), and what they mean."""


def dimensions(own: Mapping[str, str] | None = None) -> dict[str, Dimension]:
    """The default dimensions and a user's own, name -> its meaning in words, which replace defaults of their name.

    Raises:
        ReelignError: one without a meaning.
    """
    for name, meaning in (own or {}).items():
        if not name.strip() or not meaning.strip():
            raise ReelignError(f"The dimension {name!r} has no name or no meaning.", "Say in words what is judged.")
    return DIMENSIONS | {name: Dimension(title=name, meaning=meaning) for name, meaning in (own or {}).items()}


def pairwise(dimension: Dimension, prompt: str) -> str:
    """The question that follows two videos, shown as Video A and Video B."""
    return (
        f"{_prompt('Both videos were', dimension, prompt)}Compare Video A and Video B on {dimension.title}: "
        f"{dimension.meaning}. Judge nothing else, and do not mind which one is shown first.\n\n"
        "First write your reasons in two to four sentences: what you see in Video A, what you see in Video B, and how "
        "they differ. Then write a last line that is exactly one of these:\n"
        "Verdict: A\nVerdict: B\nVerdict: tie"
    )


def pointwise(dimension: Dimension, prompt: str) -> str:
    """The question that follows one video."""
    lines = "\n".join(f"Verdict: {grade}" for grade in GRADES)
    meant = "; ".join(f"{grade} is {meaning}" for grade, meaning in GRADES.items())
    return (
        f"{_prompt('The video was', dimension, prompt)}Judge the video on {dimension.title}: {dimension.meaning}. "
        "Judge nothing else.\n\n"
        "First write your reasons in two to four sentences: what you see, and which faults there are. Then write a "
        f"last line that is exactly one of these, where {meant}:\n{lines}"
    )


def _prompt(whose: str, dimension: Dimension, prompt: str) -> str:
    return f'{whose} generated from this prompt: "{prompt}"\n\n' if dimension.sees_prompt else ""
