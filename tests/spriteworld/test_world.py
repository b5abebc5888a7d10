"""The small world: what it draws, what it spoils, and that a seed says all."""

from __future__ import annotations

from dataclasses import fields, replace

import pytest
import torch

from reelign.spriteworld.prompts import captions, parse
from reelign.spriteworld.world import (
    FPS,
    NUM_FRAMES,
    SIZE,
    Mix,
    no_flaws,
    render,
    sample_flaws,
    sample_mix,
    sample_scenes,
)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_videos_have_the_promised_shape_and_range() -> None:
    videos, texts, scene, flaws = sample_mix(12, seeded())
    assert videos.shape == (12, NUM_FRAMES, 3, SIZE, SIZE)
    assert videos.dtype == torch.float32
    assert 0 <= videos.min() <= videos.max() <= 1
    assert (NUM_FRAMES - 1) % 4 == 0
    assert FPS > 0
    assert torch.equal(parse(texts), flaws.told)
    assert scene.attributes.shape == (12, 3)


def test_equal_seeds_draw_equal_videos() -> None:
    first, again, other = (sample_mix(6, seeded(seed)) for seed in (3, 3, 4))
    assert torch.equal(first[0], again[0])
    assert first[1] == again[1]
    assert not torch.equal(first[0], other[0])


def test_a_video_does_not_depend_on_its_batch() -> None:
    scene = sample_scenes(8, seeded())
    flaws = sample_flaws(scene, seeded(1), Mix(vq=1, mq=1))
    half_scene = replace(scene, **{field.name: getattr(scene, field.name)[4:] for field in fields(scene)})
    half_flaws = replace(flaws, **{field.name: getattr(flaws, field.name)[4:] for field in fields(flaws)})
    torch.testing.assert_close(render(half_scene, flaws=half_flaws), render(scene, flaws=flaws)[4:])


def test_the_clean_shape_stays_inside_the_frame() -> None:
    scene = sample_scenes(400, seeded())
    border = torch.ones(SIZE, SIZE, dtype=torch.bool)
    border[1:-1, 1:-1] = False
    beside = render(scene)[..., border] - scene.background[:, None, None, None]
    # A corner's anti-aliasing may just reach the outermost pixels.
    assert beside.abs().max() < 0.25


def test_scenes_show_the_attributes_asked_for() -> None:
    wanted = parse(["a red ring moves left", "a blue cross grows"])
    assert torch.equal(sample_scenes(2, seeded(), attributes=wanted).attributes, wanted)


def test_no_flaws_is_clean() -> None:
    scene = sample_scenes(4, seeded())
    assert torch.equal(render(scene), render(scene, flaws=no_flaws(scene)))


def test_the_mix_spoils_the_shares_it_promises() -> None:
    scene = sample_scenes(4000, seeded())
    flaws = sample_flaws(scene, seeded(1), Mix(vq=0.4, mq=0.3, caption=0.15))
    visual = torch.stack([flaws.blur, flaws.fade, flaws.blotches])
    motion = torch.stack([flaws.jitter, flaws.wobble, flaws.flicker])
    for strengths, share in ((visual, 0.4), (motion, 0.3)):
        assert (strengths > 0).sum(dim=0).max() == 1
        assert (strengths > 0).any(dim=0).float().mean().item() == pytest.approx(share, abs=0.03)
        assert strengths[strengths > 0].min() >= 0.5
    wrong = (flaws.told != scene.attributes).sum(dim=1)
    assert wrong.max() == 1
    assert wrong.float().mean().item() == pytest.approx(0.15, abs=0.03)
    assert ((flaws.told != scene.attributes).float().mean(dim=0) > 0.02).all()
    assert len(captions(flaws.told)) == 4000
