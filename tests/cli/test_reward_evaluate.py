"""`reelign reward evaluate`: on a benchmark's file, on a workspace, stopped, and refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cli.process import reelign, refusal, start, succeed
from evaluation.judged_world import make_clips, write_bench
from reelign.records import Judgement, Video, Workspace

SLOWLY = """
import time
from evaluation.judged_world import Truth as Quick

class Truth(Quick):
    def score(self, videos, prompts, *, fps=None):
        time.sleep(0.3)
        return super().score(videos, prompts, fps=fps)
"""
TESTS = str(Path(__file__).parent.parent)


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bench")
    write_bench(folder / "videogen-rewardbench.csv", make_clips(folder, prompts=4))
    (folder / "slowly.py").write_text(SLOWLY)
    return folder


def test_a_benchmark_in_the_papers_layout(bench: Path, tmp_path: Path) -> None:
    out = succeed(
        *("reward", "evaluate", "sharpness", "--data", bench / "videogen-rewardbench.csv", "measure.resamples=50"),
        folder=tmp_path,
    )
    assert "read as videoalign, 12 videos" in out
    assert "VideoReward (published)" in out
    assert "73.59" in out
    result = json.loads((tmp_path / "feedback" / "sharpness" / "feedback.json").read_text())
    assert result["measured"]["accuracy"]["VQ"]["pairs"] == 12
    assert (tmp_path / "feedback" / "sharpness" / "feedback.png").exists()


def test_a_workspaces_own_judgements(bench: Path, tmp_path: Path) -> None:
    workspace = Workspace.create(tmp_path / "w", model="tiny/wan")
    (prompt,) = workspace.add_prompts(["a red square moves right"], "train")
    names = [f"{number:03}" for number in range(3)]
    for place, name in enumerate(names):
        (workspace.root / "videos" / f"{name}.mp4").write_bytes((bench / f"{name}.mp4").read_bytes())
        place_in = {"seed": place, "index": place, "path": f"videos/{name}.mp4", "prompt_id": prompt.id}
        size = {"fps": 8.0, "num_frames": 17, "height": 32, "width": 32}
        workspace.add_videos([Video(id=name, generator="wan", **place_in, **size)])
    workspace.add_judgements(
        [
            Judgement(
                kind="best_of",
                video_a="000",
                candidates=names,
                verdict="1",
                judge="Ada",
                judge_version="1",
                dimension="VQ",
            )
        ]
    )
    out = succeed("reward", "evaluate", "sharpness", "-w", "w", folder=tmp_path)
    assert "The best of N" in out
    assert "chance, VQ" in out
    assert "published" not in out  # of eight candidates, and these are three
    assert (workspace.root / "feedback" / "sharpness" / "scores.jsonl").exists()
    assert "reward evaluate" in (workspace.root / "costs.jsonl").read_text()


def test_ctrl_c_keeps_what_was_scored(bench: Path, tmp_path: Path) -> None:
    words = ["reward", "evaluate", "slowly:Truth", "--data", bench / "videogen-rewardbench.csv", "reward.batch_size=1"]
    environment = {"PYTHONPATH": f"{bench}:{TESTS}"}
    scores = tmp_path / "feedback" / "truth" / "scores.jsonl"
    stopped = start(*words, folder=tmp_path, **environment).interrupt(scores.exists)
    assert stopped.code == 130
    assert "Stopped." in refusal(stopped)
    done = len(scores.read_text().splitlines())
    assert 0 < done < 12
    finished = reelign(*words, "measure.resamples=50", folder=tmp_path, **environment)
    assert finished.code == 0, finished.err
    assert f"/{12 - done} [" in finished.err
    assert len(scores.read_text().splitlines()) == 12


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["sharpness"], "Give either --data FILE or -w WORKSPACE"),
        (["sharpness", "--data", "BENCH", "measure.resample=9"], "Did you mean 'resamples'?"),
    ],
)
def test_refusals(words: list[str], message: str, bench: Path, tmp_path: Path) -> None:
    words = [str(bench / "videogen-rewardbench.csv") if word == "BENCH" else word for word in words]
    assert message in refusal(reelign("reward", "evaluate", *words, folder=tmp_path))


def test_help_shows_an_example(tmp_path: Path) -> None:
    assert "reelign reward evaluate videoreward" in succeed(
        "reward", "evaluate", "--help", folder=tmp_path, COLUMNS="200"
    )
