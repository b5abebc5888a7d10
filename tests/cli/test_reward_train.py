"""`reelign reward train` as a process: from a workspace's judgements, and from a CSV without one."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from cli.process import reelign, succeed
from recipes.reward_worlds import PER_PROMPT, PROMPTS, write_clips
from reelign import reward_stages  # noqa: F401 - forks of this process need not import it again
from reelign.records import Judgement, Video, Workspace
from reelign.rewards.videoreward import VideoReward
from rewards import tiny_qwen

QUICK = (
    "template=short",
    "train=head",
    "clips.fps=4",
    "clips.min_pixels=784",
    "clips.max_pixels=784",
    "epochs=0",
    "trainer.steps=3",
    "trainer.learning_rate=0.01",
    "batch_size=4",
    "device=cpu",
    "watch.held_out=0.2",
    "watch.calibration=0.2",
    "watch.every=2",
)


@pytest.fixture(scope="module")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_qwen.save(tiny_qwen.qwen2_vl(), tmp_path_factory.mktemp("models") / "qwen")


@pytest.fixture
def judged(tmp_path: Path) -> Path:
    """A workspace with clips whose judge likes the brighter ones on VQ and finds all alike on MQ."""
    workspace = Workspace.create(tmp_path / "w", model="spriteworld")
    prompts = workspace.add_prompts(PROMPTS, "train")
    clips = write_clips(workspace.root / "videos")
    made = {"generator": "none", "fps": 4.0, "num_frames": 4, "height": 32, "width": 32}
    workspace.add_videos(
        Video(id=path.stem, prompt_id=prompt.id, seed=0, index=place, path=f"videos/{path.name}", **made)
        for prompt, own in zip(prompts, clips, strict=True)
        for place, path in enumerate(own)
    )
    workspace.add_judgements(
        Judgement(
            video_a=f"{number}-{a}",
            video_b=f"{number}-{b}",
            dimension=dimension,
            verdict=verdict,
            judge="Ada",
            judge_version="1",
        )
        for number in range(len(PROMPTS))
        for a in range(PER_PROMPT)
        for b in range(a + 1, PER_PROMPT)
        for dimension, verdict in (("VQ", "b"), ("MQ", "tie"))
    )
    return workspace.root


def test_judgements_become_a_reward_in_one_command(judged: Path, backbone: Path) -> None:
    words = ("reward", "train", "-w", judged, f"backbone={backbone}", *QUICK)
    out = succeed(*words, "dimensions=[VQ]", "agnostic=[VQ]", folder=judged)
    folder = judged / "runs" / "reward" / "reward"
    assert f"trained on {4 * 6} pairs; the reward is {folder}" in out
    assert "VQ: " in out
    assert "of held-out pairs ordered right" in out
    assert VideoReward(model=str(folder), device="cpu").dimensions == ("VQ",)
    # The same command again finds everything done; a dimension of ties alone is refused by name.
    assert f"the reward is {folder}" in succeed(*words, "dimensions=[VQ]", "agnostic=[VQ]", folder=judged)
    ties = reelign(*words, "dimensions=[MQ]", "agnostic=[MQ]", "run=other", folder=judged)
    assert ties.code == 2
    assert "All labels of the dimension MQ are ties" in ties.err


def test_a_csv_becomes_a_reward_without_a_workspace(tmp_path: Path, backbone: Path) -> None:
    with (tmp_path / "pairs.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["path_A", "path_B", "prompt", "VQ", "TA"])
        for prompt, own in zip(PROMPTS, write_clips(tmp_path), strict=True):
            writer.writerow([own[0].name, own[3].name, prompt, "B", "A"])
            writer.writerow([own[2].name, own[1].name, prompt, "A", "same"])
    words = ("reward", "train", "--data", tmp_path / "pairs.csv", f"backbone={backbone}", *QUICK)
    out = succeed(*words, "--out", tmp_path / "own", "dimensions=[VQ,TA]", folder=tmp_path)
    assert f"trained on 8 pairs; the reward is {tmp_path / 'own' / 'reward'}" in out
    assert (tmp_path / "own" / "reward" / "README.md").is_file()


def test_what_cannot_be_trained_is_refused_by_name(judged: Path, backbone: Path) -> None:
    refusals = {
        ("--data", "pairs.csv"): "neither a workspace nor a file of pairs",
        ("-w", judged, "--out", "elsewhere"): "--out was given",
        ("-w", judged, "dimensions=[TA]"): "Nobody judged the dimension TA; there are MQ, VQ",
        ("-w", judged, "dimensoins=[TA]"): "Did you mean 'dimensions'?",
        ("-w", judged, "dimensions=[VQ]", "objective.name=btt", "objective.theta=0.5"): "theta must be above 1",
        ("-w", judged, "run=a/b"): "cannot be the name of a run's folder",
    }
    for words, what in refusals.items():
        result = reelign("reward", "train", f"backbone={backbone}", *words, folder=judged)
        assert result.code == 2, words
        assert what in result.err, result.err
        assert "Traceback" not in result.err


def test_help_shows_an_example(tmp_path: Path) -> None:
    out = reelign("reward", "train", "--help", folder=tmp_path, COLUMNS="200").out
    assert "reelign reward train -w wan" in out
