"""`reelign critic train` and `critic evaluate` as processes: from judgements to a folder that is asked about them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cli.process import reelign, succeed
from recipes.critic_worlds import all_judged, bright_workspace
from reelign import critic_stages  # noqa: F401 - forks of this process need not import it again
from rewards import tiny_qwen

QUICK = (
    "dimensions=[VQ]",
    "frames=2",
    "pixels.min_pixels=784",
    "pixels.max_pixels=784",
    "max_tokens=2",
    "epochs=0",
    "trainer.steps=1",
    "batch_size=1",
    "device=cpu",
    "watch.held_out=0.2",
    "watch.asked=1",
)


@pytest.fixture(scope="module")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_qwen.save(tiny_qwen.qwen2_vl(), tmp_path_factory.mktemp("models") / "qwen")


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = bright_workspace(tmp_path_factory.mktemp("bright") / "w")
    all_judged(made)
    return made.root


def test_judgements_become_a_critic_that_is_measured_against_them(workspace: Path, backbone: Path) -> None:
    out = succeed("critic", "train", "-w", workspace, f"backbone={backbone}", *QUICK, folder=workspace)
    critic = workspace / "runs" / "critic" / "critic"
    assert f"trained on 50 votes, 35 with a reason; the critic is {critic}" in out
    assert "held-out questions right" in out
    words = ("ask.max_pairs=1", "ask.max_videos=1", "ask.probes=1", "ask.repeats=1", "resamples=20")
    out = succeed("critic", "evaluate", critic, "-w", workspace, *words, "critic.device=cpu", folder=workspace)
    assert "critic (version" in out
    # The pair in two orders and with two other prompts, the video with these three.
    assert "7 questions; now 7 questions asked" in out
    assert "Accuracy (as IPO's Table 6)" in out
    kept = json.loads((workspace / "feedback" / "critic-critic" / "critic.json").read_text())
    assert kept["measured"]["pairs"]["VQ"]["pairs"] == 1
    again = succeed("critic", "evaluate", critic, "-w", workspace, *words, "critic.device=cpu", folder=workspace)
    assert "7 questions; now 0 questions asked" in again


def test_what_cannot_be_done_is_refused_by_name(workspace: Path, backbone: Path) -> None:
    refusals = {
        ("train", "-w", workspace, f"backbone={backbone}", "dimensions=[MQ]"): "dimension 'MQ'; there are VQ",
        ("train", "-w", workspace, "dimensoins=[VQ]"): "Did you mean 'dimensions'?",
        ("train", "-w", workspace, "run=a/b"): "cannot be the name of a run's folder",
        ("evaluate", "qwen2.5-vl-7b"): "either --data FILE or -w WORKSPACE",
        ("evaluate", "qwen2.5-vl-77b", "-w", workspace): "Did you mean 'qwen2.5-vl-7b'?",
        ("evaluate", "qwen2.5-vl-7b", "-w", workspace, "critic.frams=8"): "Did you mean 'frames'?",
    }
    for words, what in refusals.items():
        result = reelign("critic", *words, folder=workspace)
        assert result.code == 2, words
        assert what in result.err, result.err
        assert "Traceback" not in result.err
