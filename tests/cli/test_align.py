"""`reelign align` on the command line: before a long run."""

from __future__ import annotations

from pathlib import Path

from cli.process import reelign, refusal, succeed
from cli.workspaces import WORKSPACE, copy


def test_a_dry_run_tells_and_starts_nothing(tmp_path: Path) -> None:
    runs = copy(tmp_path) / "runs"
    said = succeed("align", "-w", WORKSPACE, "--dry-run", "run=later", "trainer.steps=8", folder=tmp_path)
    for told in ("run: later", "training: dpo, 8 steps of 2 (2 at once)", "text_encoder: UMT5EncoderModel"):
        assert told in said
    assert "runs/later/adapter/pytorch_lora_weights.safetensors" in said
    assert not (runs / "later").exists()
    assert "other settings" in refusal(reelign("align", "-w", WORKSPACE, "--dry-run", "seed=5", folder=tmp_path))


def test_a_smoke_run_ends_with_what_a_step_costs(tmp_path: Path) -> None:
    runs = copy(tmp_path) / "runs"
    said = succeed("align", "-w", WORKSPACE, "--limit", "2", "batch_size=3", folder=tmp_path)
    assert "trained on 2 samples" in said
    assert "a step takes" in said
    assert (runs / "align-smoke" / "checkpoints" / "step-000002").is_dir()


def test_a_run_on_a_rewards_gradient_ends_with_the_steps_and_videos_it_trained_in(tmp_path: Path) -> None:
    copy(tmp_path)
    climb = ("stream=reward_gradient", "reward.name=reelign.spriteworld.reward:SpriteReward", "batch_size=1")
    words = ("align", "-w", WORKSPACE, "run=climb", *climb)
    assert "trained in 2 steps of 1 video, of 3 prompts; the adapter is" in succeed(*words, folder=tmp_path)
    assert "trained in 2 steps of 1 video, of 3 prompts" in succeed(*words, folder=tmp_path)
    stopping = ("watch.every=1", "watch.proxies=[sharpness]", "watch.patience=1", "watch.action=stop", "watch.seeds=1")
    band = "watch.bands={sharpness: [100, 200]}"
    said = succeed(*words, "run=stopped", *stopping, band, folder=tmp_path)
    assert "ended before its last step" in said
    assert "trained in 1 step of 1 video, of 3 prompts" in said
