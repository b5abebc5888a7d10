"""The true judges: clean videos are near perfect, each flaw costs its own dimension, and nothing is never good."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from reelign.errors import ReelignError
from reelign.spriteworld.judges import DIMENSIONS, attributes, diversity, scores
from reelign.spriteworld.prompts import captions
from reelign.spriteworld.world import Mix, Scene, render, sample_flaws, sample_mix, sample_scenes, swap_word

COUNT = 120


@pytest.fixture(scope="module")
def scene() -> Scene:
    return sample_scenes(COUNT, torch.Generator().manual_seed(11))


@pytest.fixture(scope="module")
def clean(scene: Scene) -> Tensor:
    return render(scene)


def lightly_blurred(videos: Tensor, sigma: float = 0.4) -> Tensor:
    kernel = torch.exp(-0.5 * (torch.arange(-2, 3) / sigma) ** 2)
    kernel = torch.outer(kernel, kernel) / kernel.sum() ** 2
    padded = F.pad(videos.flatten(0, 1), (2, 2, 2, 2), mode="replicate").flatten(0, 1)[:, None]
    return F.conv2d(padded, kernel[None, None]).reshape(videos.shape)


def lightly_noisy(videos: Tensor) -> Tensor:
    noise = torch.rand(videos.shape, generator=torch.Generator().manual_seed(0))
    return (videos + 0.04 * noise - 0.02).clamp(0, 1)


def test_clean_videos_are_near_perfect(scene: Scene, clean: Tensor) -> None:
    for values in scores(clean, captions(scene.attributes)).values():
        assert values.mean() >= 0.97
        assert values.min() >= 0.9
        assert values.max() <= 1
    assert torch.equal(attributes(clean), scene.attributes)


@pytest.mark.parametrize("spoil", [lightly_blurred, lightly_noisy])
def test_an_autoencoders_small_errors_are_forgiven(
    scene: Scene, clean: Tensor, spoil: Callable[[Tensor], Tensor]
) -> None:
    for values in scores(spoil(clean), captions(scene.attributes)).values():
        assert values.quantile(0.01) >= 0.9


@pytest.mark.parametrize(
    ("flaw", "dimension"),
    [
        ("blur", "VQ"),
        ("fade", "VQ"),
        ("blotches", "VQ"),
        ("jitter", "MQ"),
        ("wobble", "MQ"),
        ("flicker", "MQ"),
    ],
)
def test_each_flaw_lowers_its_own_dimension_smoothly(scene: Scene, flaw: str, dimension: str) -> None:
    unspoilt = sample_flaws(scene, torch.Generator().manual_seed(1), Mix(vq=0, mq=0, caption=0))
    judged = [
        scores(render(scene, flaws=replace(unspoilt, **{flaw: torch.full((COUNT,), s)})), captions(scene.attributes))
        for s in (0.0, 0.5, 0.75, 1.0)
    ]
    own = [float(one[dimension].mean()) for one in judged]
    assert own[0] - own[1] > 0.04
    assert own[1] - own[2] > 0.1
    assert own[2] - own[3] > 0.1
    assert own[3] < 0.5
    for other in set(DIMENSIONS) - {dimension}:
        assert judged[0][other].mean() - judged[3][other].mean() < 0.15
        assert judged[0][other].mean() - judged[2][other].mean() < 0.03


def test_a_wrong_word_lowers_text_alignment_alone(scene: Scene, clean: Tensor) -> None:
    told = swap_word(scene.attributes, torch.ones(COUNT, dtype=torch.bool), torch.Generator().manual_seed(2))
    judged = scores(clean, captions(told))
    assert judged["TA"].max() < 0.45
    assert judged["VQ"].mean() >= 0.97
    assert judged["MQ"].mean() >= 0.97
    worse = scores(clean, captions((scene.attributes + 1) % torch.tensor([6, 4, 6])))
    assert worse["TA"].max() < 0.1


def test_nothing_is_never_good() -> None:
    noise = torch.rand(4, 17, 3, 32, 32, generator=torch.Generator().manual_seed(3))
    for videos in (torch.zeros_like(noise), torch.ones_like(noise), torch.full_like(noise, 0.5), noise):
        for values in scores(videos, ["a red ring moves left"] * 4).values():
            assert values.max() < 0.1
            assert values.min() >= 0


def test_a_frozen_or_shuffled_clip_has_poor_motion(scene: Scene, clean: Tensor) -> None:
    order = torch.randperm(17, generator=torch.Generator().manual_seed(4))
    for videos in (clean[:, :1].expand_as(clean), clean[:, order]):
        judged = scores(videos, captions(scene.attributes))
        assert judged["MQ"].mean() < 0.1
        assert judged["VQ"].mean() >= 0.97


def test_a_score_does_not_depend_on_the_batch(scene: Scene, clean: Tensor) -> None:
    texts = captions(scene.attributes)
    whole, part = scores(clean, texts), scores(clean[62:67], texts[62:67])
    for name in DIMENSIONS:
        torch.testing.assert_close(part[name], whole[name][62:67])
    assert scores(clean[:0], [])["VQ"].shape == (0,)


def test_bad_input_is_refused(clean: Tensor) -> None:
    with pytest.raises(ReelignError, match="2 videos came with 1 prompts"):
        scores(clean[:2], ["a red ring moves left"])
    with pytest.raises(ReelignError, match="32"):
        scores(torch.zeros(1, 17, 3, 64, 64), ["a red ring moves left"])
    with pytest.raises(ReelignError, match="a cat"):
        scores(clean[:1], ["a cat"])


def test_diversity_is_zero_for_copies(clean: Tensor) -> None:
    assert diversity(clean[:1].repeat(4, 1, 1, 1, 1)) == pytest.approx(0, abs=1e-6)
    assert diversity(clean[:16]) > 0.1


def test_rendering_and_judging_are_fast() -> None:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # threads that wait for a busy processor would be counted as work
    start = time.process_time()
    videos, texts, *_ = sample_mix(128, torch.Generator().manual_seed(5))
    scores(videos, texts)
    took = time.process_time() - start
    torch.set_num_threads(threads)
    # A tenth of the usual speed: this fails on a loop over videos, not on a slow machine.
    assert took < 128 / 150
