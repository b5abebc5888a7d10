"""Judges of the small world that err: the same video is always judged alike, and their error is as large as it says."""

from __future__ import annotations

import pytest
import torch

from reelign.errors import ReelignError
from reelign.spriteworld import judges
from reelign.spriteworld.panel import HIGH, LOW, NOISE, Grader, scores
from reelign.spriteworld.prompts import captions
from reelign.spriteworld.world import FPS, render, sample_scenes
from reelign.video import Clip


def test_its_error_belongs_to_the_video_and_is_as_large_as_it_says() -> None:
    scenes = sample_scenes(48, torch.Generator().manual_seed(3))
    videos, texts = render(scenes), captions(scenes.attributes)
    seen, true = scores(videos, texts), judges.scores(videos, texts)
    alone = scores(videos[5:6], texts[5:6])
    assert all(torch.equal(values[5:6], alone[name]) for name, values in seen.items())
    error = torch.stack([seen[name] - true[name] for name in judges.DIMENSIONS])
    # 144 draws: mean and deviation within four standard errors.
    assert abs(float(error.mean())) < 4 * NOISE / 144**0.5
    assert abs(float(error.std()) - NOISE) < 4 * NOISE / (2 * 144) ** 0.5
    assert abs(float(torch.corrcoef(error)[0, 1])) < 0.6


def test_grades_follow_the_mean_score() -> None:
    scenes = sample_scenes(6, torch.Generator().manual_seed(3))
    videos, texts = render(scenes), captions(scenes.attributes)
    grader = Grader(noise=0.0)
    for video, text in zip(torch.cat([videos, torch.rand(1, *videos.shape[1:])]), [*texts, texts[0]], strict=True):
        mean = float(torch.stack(list(judges.scores(video[None], [text]).values())).mean())
        said = grader.rate(Clip(frames=video, fps=FPS), text, "overall")
        assert said.grade == ("bad" if mean < LOW else "good" if mean >= HIGH else "normal")
    assert said.grade == "bad"
    with pytest.raises(ReelignError, match="it compares videos on nothing"):
        grader.compare(Clip(frames=video, fps=FPS), Clip(frames=video, fps=FPS), text, "overall")
