"""The setting that a plan names is one that is not yet set, and lowers the term that is largest."""

from __future__ import annotations

from typing import Any

import pytest

from reelign.generators.base import VideoSize
from reelign.objectives import SFT
from reelign.recipes.online.settings import OnlineSettings, RolloutSettings
from reelign.recipes.planning.mends import mend_for
from reelign.recipes.reward_gradient.settings import RewardChoice, RewardGradientSettings
from reelign.recipes.sampling import Sampling
from reelign.recipes.settings import AlignSettings
from reelign.training import TrainerSettings
from reelign.training.staged_decode import DecodeSettings

HOW = Sampling(VideoSize(81, 480, 832), 16.0, 50, 5.0, "")
FULL = TrainerSettings(activation_checkpointing="full")
ONE: dict[str, Any] = {"trainer": FULL, "micro_batch_size": 1}


@pytest.mark.parametrize(
    ("stage", "term", "settings", "named"),
    [
        ("learn", "denoiser", AlignSettings(), "trainer.activation_checkpointing=full"),
        ("learn", "denoiser", AlignSettings(trainer=FULL), "micro_batch_size=1 instead of 16"),
        ("learn", "denoiser", AlignSettings(**ONE), "pairing=apart"),
        ("learn", "denoiser", AlignSettings(**ONE, pairing="apart"), "two_pass=true"),
        ("learn", "denoiser", AlignSettings(**ONE, pairing="apart", two_pass=True), "generate.num_frames"),
        ("learn", "denoiser", AlignSettings(**ONE, objective=SFT()), "generate.num_frames"),
        ("learn", "denoiser", RewardGradientSettings(**ONE, graph="held"), "graph=step"),
        ("learn", "decoder", RewardGradientSettings(decode=DecodeSettings(mode="whole")), "decode.mode=reverse"),
        ("learn", "decoder", RewardGradientSettings(**ONE), "model.vae_dtype=bfloat16"),
        ("learn", "reward", RewardGradientSettings(**ONE), "reward.checkpointing=true"),
        ("learn", "reward", RewardGradientSettings(**ONE, reward=RewardChoice(checkpointing=True)), "frames.count"),
        ("decode", "decoder", OnlineSettings(), "rollout.batch_size=1"),
        ("decode", "decoder", OnlineSettings(rollout=RolloutSettings(batch_size=1)), "model.vae_dtype=bfloat16"),
        ("judge", "reward", OnlineSettings(), "reward.batch_size=1"),
        ("roll out", "denoiser", OnlineSettings(), "rollout.batch_size=1"),
        ("update weights", "optimiser's moments", AlignSettings(lora=None), "lora: {}"),
        ("update weights", "optimiser's moments", AlignSettings(), "trainer.optimiser=adamw_8bit"),
        ("encode prompts", "text encoders' weights", AlignSettings(), "cache/text"),
        ("learn", "denoiser's weights", AlignSettings(), "trainer.sharded=true"),
    ],
)
def test_it_is_the_next_that_helps(stage: str, term: str, settings: Any, named: str) -> None:
    found = mend_for(stage, term, settings, HOW, precise=("vae",))
    assert named in found
    assert found.endswith("in reelign.yaml)") is named.startswith(("model.", "generate."))


def test_what_is_in_half_precision_already_is_not_advised() -> None:
    settings = RewardGradientSettings(**ONE)
    assert "rollout.num_frames" in mend_for("learn", "decoder", settings, HOW)
    assert "model.dtype=bfloat16" in mend_for("learn", "denoiser's weights", settings, HOW, precise=("denoiser",))
