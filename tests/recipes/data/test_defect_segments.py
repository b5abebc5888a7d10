"""Defects that judges marked, from the judgements to the loss."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from recipes.offline.test_align import SETTINGS
from reelign.errors import ReelignError
from reelign.generators import Generator
from reelign.objectives import DPO, SFT
from reelign.recipes.data.defect_segments import defect_segments
from reelign.recipes.offline.align import align
from reelign.recipes.offline.data import training_data
from reelign.recipes.offline.plans import Planner
from reelign.recipes.settings import AlignSettings
from reelign.recipes.steps.draws import draw_for
from reelign.records import Judgement, Video, Workspace, majority
from reelign.records.pair_policies import Pair
from reelign.training import LoRA, Policy
from reelign.training.caches import cached_prompts

FPS = 8.0


def video(name: str) -> Video:
    return Video(
        id=name, prompt_id=1, generator="g", seed=0, path=f"{name}.mp4", fps=FPS, num_frames=9, height=16, width=16
    )


def mark(name: str, start_s: float, end_s: float) -> dict[str, object]:
    return {"tag": "flicker", "video": name, "start_s": start_s, "end_s": end_s}


def judgement(a: str, b: str, *defects: dict[str, object], dimension: str = "VQ", verdict: str = "a") -> Judgement:
    return Judgement(
        video_a=a, video_b=b, dimension=dimension, verdict=verdict, judge="ann", judge_version="1", defects=[*defects]
    )


PAIR = Pair(prompt_id=1, chosen="a", rejected="b", margin=1.0, margins={"VQ": 1.0})
VIDEOS = [video("a"), video("b"), video("c")]


def labels(*judgements: Judgement, pair: Pair = PAIR) -> list[tuple[int, int | None, int]]:
    """First frame, frame behind the last (None at the end of the video) and label of each segment."""
    (found,) = defect_segments([pair], judgements, VIDEOS)
    return [
        (math.ceil(each.start_s * FPS), None if math.isinf(each.end_s) else math.ceil(each.end_s * FPS), each.label)
        for each in found
    ]


def test_who_has_no_defect_is_better_while_the_other_has_one() -> None:
    """Frames 2 to 4 of the chosen and 4 to 5 of the rejected: at 4 both have one."""
    found = labels(judgement("a", "b", mark("a", 0.25, 0.5)), judgement("b", "a", mark("b", 0.5, 0.74)))
    assert found == [(0, 2, 1), (2, 4, -1), (4, 5, 0), (5, 6, 1), (6, None, 1)]


def test_a_moment_is_its_frame_and_a_mark_ends_with_the_video() -> None:
    assert labels(judgement("a", "b", mark("b", 0.375, 0.375))) == [(0, 3, 1), (3, 4, 1), (4, None, 1)]
    assert labels(judgement("a", "b", mark("a", 0.9, 60.0))) == [(0, 7, 1), (7, None, -1)]


def test_only_what_was_seen_beside_each_other_on_dimensions_that_count_is_told() -> None:
    counts = judgement("b", "a", mark("a", 0.5, 2.0))
    other_pair = judgement("a", "c", mark("a", 0.0, 2.0))
    other_dimension = judgement("a", "b", mark("a", 0.0, 2.0), dimension="TA")
    unsure = judgement("a", "b", mark("a", 0.0, 2.0), verdict="cannot_say")
    assert labels(counts, other_pair, other_dimension, unsure) == [(0, 4, 1), (4, None, -1)]
    of_three = Judgement(
        kind="best_of",
        video_a="a",
        candidates=["a", "b", "c"],
        dimension="VQ",
        verdict="0",
        judge="bo",
        judge_version="1",
        defects=[mark("b", 0.5, 2.0)],
    )
    assert labels(of_three) == [(0, 4, 1), (4, None, 1)]


def test_where_all_is_a_tie_the_pair_is_judged_as_a_whole_and_without_marks_there_is_nothing_to_do() -> None:
    both = judgement("a", "b", mark("a", 0.0, 9.0), mark("b", 0.0, 9.0))
    other = replace(PAIR, chosen="c")
    one = judgement("c", "b", mark("c", 0.0, 0.1))
    whole, parts = defect_segments([PAIR, other], [both, one], VIDEOS)
    assert whole == ()
    assert [each.label for each in parts] == [-1, 1]
    with pytest.raises(ReelignError, match="No judgement of the pairs marks a defect"):
        defect_segments([PAIR], [judgement("a", "b")], VIDEOS)


@pytest.fixture
def marked(judged: Workspace) -> Workspace:
    """A person agrees with the judge on the first pair, and marks the last half of its better video."""
    vote = next(each for each in majority(judged.judgements()) if each.verdict != "tie")
    better = vote.video_a if vote.verdict == "a" else vote.video_b
    judged.add_judgements(
        [
            judgement(
                vote.video_a, vote.video_b, mark(better, 0.625, 2.0), dimension=vote.dimension, verdict=vote.verdict
            )
        ]
    )
    return judged


def test_what_a_judge_marked_decides_the_loss(marked: Workspace, tiny_wan: Generator) -> None:
    """9 frames in 3 latents: frames 5 to 8 are the last latent. The rest of the loss is the whole pairs'."""
    settings = AlignSettings(objective=DPO(beta=20.0), defects="segments", batch_size=1, lora=LoRA(rank=4))
    data = training_data(marked, settings)
    assert data.segments is not None
    assert training_data(marked, replace(settings, defects="ignored")).segments is None
    (pair,) = (row for row, each in enumerate(data.segments) if each)
    assert [each.label for each in data.segments[pair]] == [1, -1]
    assert data.key != training_data(marked, replace(settings, defects="ignored")).key
    alone = data._only([pair], [], {})
    conditioning = cached_prompts(data.prompts, tiny_wan, marked.root / "cache" / "text")
    plan = Planner(marked, tiny_wan, settings, alone, conditioning).plan()
    policy = Policy(tiny_wan, settings.lora)
    with torch.no_grad():
        for parameter in policy.parameters.values():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(3)))
    batch = plan.stream.next_batch()
    logged = plan.step.accumulate_gradients(policy, batch)

    draw = draw_for(batch.latents[:, 0].shape, settings, tiny_wan, batch.seed)
    gains = {}
    for name in ("policy", "reference"):
        squares = []
        for side in (0, 1):
            latents, sigma = batch.latents[:, side], draw.sigma.view(-1, 1, 1, 1, 1)
            with policy.using(name), torch.no_grad():  # type: ignore[arg-type]
                found = tiny_wan.velocity((1 - sigma) * latents + sigma * draw.noise, draw.sigma, batch.conditioning)
            squares.append((found - (draw.noise - latents)).square()[0].mean(dim=(0, 2, 3)))
        gains[name] = torch.stack(squares)
    moved = gains["policy"] - gains["reference"]  # (sides, latent frames)
    begin, end = moved[:, :2].mean(dim=1), moved[:, 2]
    losses = [math.log1p(math.exp(10.0 * sign * float(each[0] - each[1]))) for sign, each in ((1, begin), (-1, end))]
    assert logged["loss"] == pytest.approx(sum(losses) / 2, rel=1e-4)
    assert abs(losses[0] - losses[1]) > 1e-3


def test_a_workspaces_defects_align_and_are_refused_where_they_would_be_passed_over(
    marked: Workspace, tiny_wan: Generator, tmp_path: Path
) -> None:
    wanted = replace(SETTINGS, defects="segments")
    with pytest.raises(ReelignError, match="segments with verdicts of their own, which do not go with objective"):
        align(marked, tiny_wan, replace(wanted, objective=SFT()))
    with pytest.raises(ReelignError, match="defects=segments is about the workspace's own judgements"):
        training_data(marked, wanted, tmp_path / "pairs.csv")
    with pytest.raises(ValueError, match="pairs=ground_truth has none"):
        replace(wanted, pairs="ground_truth", real="clips.csv")
    align(marked, tiny_wan, replace(wanted, trainer=replace(wanted.trainer, steps=1)))
