"""Small-world videos in files, what people said of them, and rewards that score them."""

from __future__ import annotations

import csv
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from reelign.diffusion.seeds import generator_from
from reelign.rewards import Reward, RewardCard, Videos, check_input
from reelign.spriteworld import judges
from reelign.spriteworld.prompts import parse, train_captions
from reelign.spriteworld.world import FPS, sample_mix
from reelign.video import read_video, write_video

BAND = 0.05
"""True scores this near are a tie to people."""
MODELS = ("alpha", "beta", "gamma")


class Truth(Reward):
    """The small world's true judges."""

    card = RewardCard(what="reads the small world", dimensions=judges.DIMENSIONS, differentiable=False, frames_needed=4)
    name = "truth"
    version = "1"
    dimensions = judges.DIMENSIONS

    def __init__(self) -> None:
        self.sizes: list[int] = []
        """Of the calls."""

    def score(self, videos: Videos, prompts: Sequence[str], *, fps: float | None = None) -> dict[str, Tensor]:
        check_input(self, videos, prompts, fps=fps)
        assert isinstance(videos, Tensor)
        self.sizes.append(len(prompts))
        return judges.scores(videos, prompts)


class Changed(Truth):
    """Truth, with something done to what it returns."""

    def __init__(self, change: Callable[[dict[str, Tensor]], dict[str, Tensor]]) -> None:
        super().__init__()
        self.change = change

    def score(self, videos: Videos, prompts: Sequence[str], *, fps: float | None = None) -> dict[str, Tensor]:
        return self.change(super().score(videos, prompts, fps=fps))


class Interrupted(Truth):
    """Someone presses Ctrl-C in the second call."""

    def score(self, videos: Videos, prompts: Sequence[str], *, fps: float | None = None) -> dict[str, Tensor]:
        if self.sizes:
            raise KeyboardInterrupt
        return super().score(videos, prompts, fps=fps)


@dataclass(frozen=True)
class Clip:
    """A file and what the true judges say of it."""

    path: Path
    prompt: str
    model: str
    truth: dict[str, float]


def make_clips(folder: Path, *, prompts: int, candidates: int = 3) -> list[Clip]:
    """Candidates of some prompts as mp4s in the folder, one of each model in turn."""
    texts = train_captions()[:: len(train_captions()) // prompts][:prompts]
    asked = [text for text in texts for _ in range(candidates)]
    # The second candidate of each prompt shows the next one's, so that not all are right.
    shown = [texts[(number // candidates + (number % candidates == 1)) % prompts] for number in range(len(asked))]
    videos, _, _, _ = sample_mix(len(asked), generator_from("judged world"), attributes=parse(shown))
    found = []
    for number, (video, text) in enumerate(zip(videos, asked, strict=True)):
        path = folder / f"{number:03}.mp4"
        write_video(path, video, FPS)
        truth = judges.scores(read_video(path).frames[None], [text])
        scores = {name: values.item() for name, values in truth.items()}
        found.append(Clip(path, text, MODELS[number % candidates % len(MODELS)], scores))
    return found


def sign(first: Clip, second: Clip, dimension: str) -> int:
    """What people say."""
    dimensions = judges.DIMENSIONS if dimension == "Overall" else (dimension,)
    difference = sum(first.truth[name] - second.truth[name] for name in dimensions) / len(dimensions)
    return 0 if abs(difference) <= BAND else 1 if difference > 0 else -1


def write_bench(
    path: Path, clips: Sequence[Clip], *, dimensions: Sequence[str] = (*judges.DIMENSIONS, "Overall")
) -> int:
    """VideoGen-RewardBench's columns over all pairs of candidates; returns how many rows."""
    rows = [
        (one, other) for place, one in enumerate(clips) for other in clips[place + 1 :] if one.prompt == other.prompt
    ]
    header = [
        "path_A",
        "path_B",
        "A_model",
        "B_model",
        "prompt",
        *dimensions,
        "fps_A",
        "num_frames_A",
        "fps_B",
        "num_frames_B",
    ]
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(header)
        for one, other in rows:
            labels = [{1: "A", -1: "B", 0: "same"}[sign(one, other, name)] for name in dimensions]
            lengths = [FPS, 17, FPS, 17]
            writer.writerow([one.path.name, other.path.name, one.model, other.model, one.prompt, *labels, *lengths])
    return len(rows)
