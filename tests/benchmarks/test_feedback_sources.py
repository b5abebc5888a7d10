"""The script behind the table of sources, on a workspace small enough for a test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
import torch

from benchmark_scripts import benchmark
from evaluation.judged_world import make_clips
from reelign.errors import ReelignError
from reelign.evaluation.ranking_groups import chance_reciprocal_rank
from reelign.records import Video, Workspace
from reelign.spriteworld import judges
from reelign.video import read_video

PROMPTS = 6


@pytest.fixture(scope="module")
def script() -> Iterator[ModuleType]:
    with benchmark("feedback_sources") as (found,):
        yield found


@pytest.fixture(scope="module")
def workspace(script: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """Groups of eight in place of the model's own, with everyone's choices."""
    made = Workspace.create(tmp_path_factory.mktemp("sources"), model="tiny/wan")
    clips = make_clips(made.root / "videos", prompts=PROMPTS, candidates=8)
    prompts = {prompt.text: prompt.id for prompt in made.add_prompts([clip.prompt for clip in clips], "train")}
    size = {"fps": 8.0, "num_frames": 17, "height": 32, "width": 32, "generator": "mix"}
    made.add_videos(
        Video(
            id=clip.path.stem,
            prompt_id=prompts[clip.prompt],
            seed=number,
            index=number % 8,
            path=f"videos/{clip.path.name}",
            **size,
        )
        for number, clip in enumerate(clips)
    )
    script.choose(made)
    return made


def test_people_choose_once_and_mostly_what_is_best(script: ModuleType, workspace: Workspace) -> None:
    rows = workspace.judgements()
    assert len(rows) == PROMPTS * 5 * 4
    script.choose(workspace)
    assert len(workspace.judgements()) == len(rows)
    gained = []
    for row in rows:
        if row.dimension == "MQ":
            videos = {video.id: workspace.video_path(video) for video in workspace.videos()}
            frames = torch.stack([read_video(videos[name]).frames for name in row.candidates or ()])
            (prompt,) = (group.prompt.text for group in workspace.groups() if group.videos[0].id == row.video_a)
            truth = judges.scores(frames, [prompt] * 8)["MQ"]
            gained.append((truth[int(row.verdict)] - truth.mean()).item())
    assert sum(gained) / len(gained) > 0.2


def test_the_table_puts_the_judges_over_the_rest_and_the_papers_rows_beside(
    script: ModuleType, workspace: Workspace, tmp_path: Path
) -> None:
    page = tmp_path / "evidence.md"
    page.write_text("before\n<!-- sources: begin -->\nold\n<!-- sources: end -->\nafter\n")
    script.write_table(workspace, script.sources(), page)
    text = page.read_text()
    assert text.startswith("before\n")
    assert text.endswith("after\n")
    assert "old" not in text
    lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines() if line.startswith("|")]
    assert {len(line) for line in lines} == {9}
    mrr = {line[1]: float(line[2].split(" ")[0]) for line in lines[2:]}
    assert mrr["chance"] == pytest.approx(100 * chance_reciprocal_rank([8]), abs=0.05)
    assert mrr["true judges"] > mrr["one more person"] > mrr["chance"]
    assert mrr["true judges"] > mrr["true judges of single frames"]
    assert mrr["HPSv2 (published)"] == 46.3
    page.write_text("no markers")
    with pytest.raises(ReelignError, match="no place for the table"):
        script.write_table(workspace, [], page)


def test_still_frames_know_no_motion(script: ModuleType, workspace: Workspace) -> None:
    from feedback_oracles import StillTruth, Truth

    video = workspace.videos()[0]
    frames = read_video(workspace.video_path(video)).frames
    (prompt,) = (prompt.text for prompt in workspace.prompts() if prompt.id == video.prompt_id)
    shuffled = frames[torch.tensor([0, *reversed(range(1, 16)), 16])]
    reward = StillTruth()
    still = [reward.score(each[None], [prompt]) for each in (frames, frames.flip(0))]
    assert all(torch.allclose(still[0][name], still[1][name], atol=1e-5) for name in still[0])
    moving = [Truth().score(each[None], [prompt])["MQ"].item() for each in (frames, shuffled)]
    assert moving[1] < moving[0]


def test_a_reward_by_name_and_settings(script: ModuleType) -> None:
    source = script.named_source("video:how steady=flicker")
    assert (source.level, source.label, source.reward.name) == ("video", "how steady", "flicker")
    with pytest.raises(ReelignError, match="takes no setting 'model'"):
        script.named_source("video:x=flicker;model=runs/btt")
    with pytest.raises(ReelignError, match="names no source"):
        script.named_source("flicker")
