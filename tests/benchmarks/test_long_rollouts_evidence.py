"""The script behind the table of long rollouts: arms that resolve, clips and jumps worked out by hand, a table."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
import torch

from benchmark_scripts import benchmark
from reelign.errors import ReelignError
from reelign.opening import SECTIONS, resolve_section
from reelign.recipes.reward_gradient.settings import RewardGradientSettings
from reelign.recipes.settings import AlignSettings
from reelign.rewards.joints import Joints
from reelign.spriteworld.judges import attributes, track
from reelign.spriteworld.prompts import held_out_captions, parse
from reelign.spriteworld.reward import SpriteReward
from reelign.video.long_clips import LongClip


@pytest.fixture(scope="module")
def scripts() -> Iterator[dict[str, ModuleType]]:
    names = ("long_measures", "long_rollouts_evidence", "long_rollouts_table", "small_i2v", "small_vjepa")
    with benchmark(*names) as found:
        yield dict(zip(names, found, strict=True))


def test_every_arm_has_valid_settings(scripts: dict[str, ModuleType]) -> None:
    script = scripts["long_rollouts_evidence"]
    for arm in script.ARMS.values():
        own = script.merged(script.SETTINGS["align"], script.prepared(arm, Path("vjepa")))
        found = resolve_section("align", [("the script", own)])
        assert isinstance(found, RewardGradientSettings)
        assert found.reward.options["which"] == ("all" if found.through == "all" else "last")
    assert set(script.SETTINGS) <= set(SECTIONS)
    training = resolve_section("align", [("the script", scripts["small_i2v"].TRAINING)])
    assert isinstance(training, AlignSettings)
    assert training.images == "first_frame"


def test_rendered_passages_go_through_the_picture_at_one_speed(scripts: dict[str, ModuleType]) -> None:
    small, texts = scripts["small_i2v"], list(held_out_captions())[:12]
    clips = small.passages(texts, torch.Generator().manual_seed(0))
    assert clips.shape == (12, LongClip(small.SEGMENTS, small.FRAMES).length, 3, 32, 32)
    assert torch.equal(attributes(clips), parse(texts))
    path = track(clips).centroid[:, 1:-1]
    # Of px a frame; the estimate on the grid of pixels makes most of it.
    assert float(path.diff(n=2, dim=1).norm(dim=-1).mean()) < 0.2
    windows, told = small.clips(6, torch.Generator().manual_seed(0), flawed=False)
    assert (windows.shape, len(told)) == ((6, small.FRAMES, 3, 32, 32), 6)
    assert torch.equal(attributes(windows), parse(told))


def test_jumps_are_those_worked_out_by_hand(scripts: dict[str, ModuleType]) -> None:
    """A shape that is moved by 2 px right behind the first joint, where its background grows lighter by 0.1."""
    small, measuring = scripts["small_i2v"], scripts["long_measures"]
    clip = small.passages(["a red square moves down"], torch.Generator().manual_seed(0))
    clip = clip[:, :1].expand(-1, clip.shape[1], -1, -1, -1).clone()
    first = measuring.CLIP.joints[0]
    clip[:, first + 1 :] = clip[:, first + 1 :].roll(2, dims=-1)
    ground = clip[0, 0, 0, 0, 0].item()
    lighter = torch.where((clip - ground).abs() < 1e-6, clip + 0.1, clip)
    clip[:, first + 1 :] = lighter[:, first + 1 :]
    found = measuring._jumps(track(clip))
    # Two joints, of which one is broken.
    assert found["kick over"].item() == pytest.approx(2 / 2, abs=0.05)
    assert found["turn over"].item() == pytest.approx(2 / 3 / 2, abs=0.02)
    assert found["tint over"].item() == pytest.approx(0.1 * 3**0.5 / 2, abs=0.02)
    assert all(found[f"{name} inside"].item() == pytest.approx(0.0, abs=1e-4) for name in measuring.JUMPS)


def test_clips_are_broken_in_their_second_half_alone(scripts: dict[str, ModuleType]) -> None:
    vjepa, small = scripts["small_vjepa"], scripts["small_i2v"]
    scene = small.passing_scenes(4, torch.Generator().manual_seed(0))
    scene = small.replace(scene, attributes=parse(["a red square moves left"] * 4))
    smooth = small.render(scene)[:, vjepa.START : vjepa.START + vjepa.WINDOW]
    for kind in vjepa.BREAKS:
        other = vjepa.broken(scene, smooth, kind)
        assert other.shape == smooth.shape
        assert torch.equal(other[:, :4], smooth[:, :4])
        assert not torch.allclose(other[:, 4:], smooth[:, 4:], atol=1e-2)
    place = track(vjepa.broken(scene, smooth, "speed")).centroid
    # Twice as fast, and on from where it was: the joint's own step is as long as those behind it.
    steps = place[::2].diff(dim=1)[:, :, 0].abs()
    assert torch.allclose(steps[:, 3], steps[:, 5], atol=0.15)
    assert bool((steps[:, 3] > 1.5 * steps[:, :3].mean(dim=1)).all())


def test_a_table_from_what_was_measured(
    scripts: dict[str, ModuleType], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = scripts["long_rollouts_table"]
    monkeypatch.setattr(table, "rendered", lambda _: {"kick over": 0.05, "VQ 1": 1.0})
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- long rollouts: begin -->\nold\n<!-- long rollouts: end -->\nbehind\n")
    with pytest.raises(ReelignError, match="holds no measured run"):
        table.write_table(tmp_path, {"a": "an arm"}, page)
    for name, seed, change in (("a", 0, -0.5), ("a", 1, -0.25), ("b", 0, 0.0)):
        place = tmp_path / f"seed-{seed}" / "runs" / name
        place.mkdir(parents=True)
        base = {"kick over": [1.0, 1.0, 1.0, 1.0], "VQ 1": [0.5] * 4}
        aligned = {"kick over": [1 + change] * 4, "VQ 1": [0.5] * 4}
        told = {"prompts": 2, "base": base, "aligned": aligned}
        (place / table.MEASURED).write_text(json.dumps(told))
    kinds = ("first", "colour", "ground", "place", "VQ", "MQ", "TA", "rendered VQ", "rendered MQ", "rendered TA")
    right = ("colours right", "shapes right", "motions right")
    for name, told in (("i2v/check", dict.fromkeys((*kinds, *right), 0.5)), ("vjepa/ranks", {"speed": 0.75})):
        (tmp_path / f"{name}.json").parent.mkdir()
        (tmp_path / f"{name}.json").write_text(json.dumps(told))
    table.write_table(tmp_path, {"a": "an arm", "b": "another", "c": "not run"}, page)
    text = page.read_text()
    assert text.startswith("before\n")
    assert text.endswith("behind\n")
    assert "old" not in text
    assert "| | rendered | base | an arm (2) | another (1) |" in text.replace("|  |", "| |")
    jumps = next(line for line in text.splitlines() if line.startswith("| kick over joints, px"))
    assert jumps.split(" | ")[1:3] == ["0.050", "1.000"]
    assert "**-0.375** [-0.375, -0.375] (2 of 2)" in jumps
    assert "speed 0.75" in text


def test_the_true_judge_scores_windows_over_joints(scripts: dict[str, ModuleType]) -> None:
    arm = scripts["long_rollouts_evidence"].ARMS["motion-all"].settings["reward"]["options"]
    clip = scripts["small_i2v"].passages(["a red square moves down"], torch.Generator().manual_seed(0))
    reward = Joints(**{**arm, "reward": SpriteReward()})
    assert float(reward.score(clip, ["a red square moves down"])["across"]) > 0.9
