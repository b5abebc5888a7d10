"""DPO on parts of a pair, from the file to the adapter."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from recipes.offline.test_align import SETTINGS, adapter, metrics
from reelign.errors import ReelignError
from reelign.generators import Generator, load_generator
from reelign.objectives import DPO, SFT
from reelign.recipes.data.files import file_preferences
from reelign.recipes.offline.align import align
from reelign.recipes.settings import AlignSettings
from reelign.recipes.steps.pair import DPOStep
from reelign.recipes.steps.segment import SegmentDPOStep, SegmentedStream, segment_masks
from reelign.records import Workspace
from reelign.records.segments import Segment, Segments
from reelign.training import LoRA, PairBatch, Policy, ShuffledStream
from reelign.video import Probe, write_video

PAIRS = torch.randn(3, 2, 16, 3, 2, 2, generator=torch.Generator().manual_seed(1))
PROMPTS = ["a red square", "a disc", "a blue disc"]
VIDEO = Probe(num_frames=9, height=16, width=16, fps=8.0)
STEP = AlignSettings(objective=DPO(beta=20.0), batch_size=3, micro_batch_size=2)


def masks(*segments: Segment, shape: tuple[int, ...] = (16, 3, 2, 2), video: Probe = VIDEO) -> torch.Tensor:
    return segment_masks(segments, shape, video, "a over b")


def test_seconds_become_the_latent_frames_that_hold_them() -> None:
    """9 frames in 3 latents: the first alone, then four and four."""
    first, rest, middle = masks(Segment(end_s=1 / 8), Segment(start_s=1 / 8), Segment(start_s=3 / 8, end_s=5 / 8))
    assert first[0, :, 0, 0].tolist() == [1, 0, 0]
    assert rest[0, :, 0, 0].tolist() == [0, 1, 1]
    assert middle[0, :, 0, 0].tolist() == [0, 0.5, 0]
    per_frame = masks(Segment(start_s=0.5), shape=(4, 9, 2, 2))
    assert per_frame[0, 0, :, 0, 0].tolist() == [0.0] * 4 + [1.0] * 5


def test_a_box_covers_cells_in_part() -> None:
    (mask,) = masks(Segment(box=(0.0, 0.5, 0.75, 1.0)))
    assert mask[0, 0].tolist() == [[0.0, 0.0], [1.0, 0.5]]


def test_a_segment_behind_the_end_is_refused_by_name() -> None:
    with pytest.raises(ReelignError, match="Segment 2 of a over b begins at 3 s, and the video ends at 1"):
        masks(Segment(), Segment(start_s=3.0))


@pytest.fixture
def policy(tiny_wan: Generator) -> Policy:
    policy = Policy(tiny_wan, LoRA(rank=4))
    with torch.no_grad():
        chance = torch.Generator().manual_seed(3)
        for parameter in policy.parameters.values():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=chance))
    return policy


def gradients(policy: Policy, *segments: Segments, micro: int = 2) -> tuple[torch.Tensor, dict[str, float]]:
    conditioning = policy.generator.encode_prompts(PROMPTS)
    stream = SegmentedStream(
        PAIRS, conditioning, torch.arange(3), segments=segments, videos=[VIDEO] * 3, batch_size=3, seed=0
    )
    found = SegmentDPOStep(DPO(beta=20.0), replace(STEP, micro_batch_size=micro)).accumulate_gradients(
        policy, stream.next_batch()
    )
    return flat(policy), found


def flat(policy: Policy) -> torch.Tensor:
    found = torch.cat([each.grad.flatten() for each in policy.parameters.values() if each.grad is not None])
    for each in policy.parameters.values():
        each.grad = None
    return found


def test_pairs_without_segments_are_plain_dpo(policy: Policy) -> None:
    conditioning = policy.generator.encode_prompts(PROMPTS)
    plain = ShuffledStream(PairBatch, PAIRS, conditioning, torch.arange(3), batch_size=3, seed=0)
    told = DPOStep(DPO(beta=20.0), STEP).accumulate_gradients(policy, plain.next_batch())
    whole = flat(policy)
    own, found = gradients(policy, (), (), ())
    torch.testing.assert_close(own, whole, rtol=1e-4, atol=1e-7)
    assert found["loss"] == pytest.approx(told["loss"], rel=1e-5)
    assert found["chosen_error_gap"] == pytest.approx(told["chosen_error_gap"], abs=1e-6)


def test_micro_batches_add_up_and_a_label_turns_the_gradient(policy: Policy) -> None:
    half = (Segment(end_s=0.5), Segment(start_s=0.5, label=0))
    other = (Segment(end_s=0.5, label=-1),)
    one, _ = gradients(policy, half, half, (), micro=3)
    parts, _ = gradients(policy, half, half, (), micro=1)
    torch.testing.assert_close(one, parts, rtol=1e-3, atol=1e-6)
    straight, _ = gradients(policy, half, half, half)
    turned, _ = gradients(policy, other, other, other)
    assert float(torch.cosine_similarity(straight, turned, dim=0)) < -0.9


def file_of(folder: Path, *cells: object) -> Path:
    chance = torch.Generator().manual_seed(0)
    rows = []
    for number, cell in enumerate(cells):
        for side in ("chosen", "rejected"):
            write_video(folder / f"{side}-{number}.mp4", torch.rand(9, 3, 16, 16, generator=chance), 8.0)
        row = {"prompt": PROMPTS[number], "chosen": f"chosen-{number}.mp4", "rejected": f"rejected-{number}.mp4"}
        rows.append({**row, "segments": cell})
    (folder / "pairs.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return folder / "pairs.jsonl"


def test_a_file_with_segments_aligns(tiny_wan_folder: Path, tmp_path: Path) -> None:
    cells = [[{"to": 0.5, "better": "rejected"}, {"from": 0.5, "box": [0, 0, 1, 0.5]}], None]
    data = file_preferences(file_of(tmp_path, *cells))
    workspace = Workspace.create(tmp_path / "ws", model=str(tiny_wan_folder))
    plain = file_preferences(file_of(tmp_path, None, None))
    assert plain.segments is None
    assert plain.key != data.key
    done = align(workspace, load_generator(str(tiny_wan_folder)), SETTINGS, data=data)
    rows = metrics(done.folder)
    assert rows[-1]["loss"] < rows[0]["loss"]
    assert adapter(done.folder)


@pytest.mark.parametrize("changed", [{"objective": SFT()}, {"reference_slots": 2}], ids=["sft", "slots"])
def test_segments_are_not_passed_over_in_silence(tiny_wan: Generator, tmp_path: Path, changed: dict[str, Any]) -> None:
    data = file_preferences(file_of(tmp_path, [{"to": 0.5}]))
    workspace = Workspace.create(tmp_path / "ws", model=tiny_wan.model)
    with pytest.raises(ReelignError, match="segments with verdicts of their own"):
        align(workspace, tiny_wan, replace(SETTINGS, **changed), data=data)
