"""Objectives: pure functions from per-video errors to a loss per sample, each with its frozen settings."""

from reelign.objectives.anchors import Anchors, anchored_loss
from reelign.objectives.answer_tokens import answer_token_loss
from reelign.objectives.beta import AutoBeta, beta_at, check_schedule, mean_beta
from reelign.objectives.dpo import DPO, dpo_loss, gradient_factor, implicit_accuracy, implicit_margin
from reelign.objectives.kto import KTO, kto_baseline, kto_loss
from reelign.objectives.pair_weights import histogram_weights
from reelign.objectives.ranking import (
    BradleyTerry,
    BradleyTerryTies,
    ScoreRegression,
    bradley_terry_loss,
    bradley_terry_ties_loss,
    score_regression_loss,
)
from reelign.objectives.reward_gradient import RewardGradient, attenuated_mean, reward_gradient_loss
from reelign.objectives.rwr import RWR, reward_weights, rwr_loss
from reelign.objectives.segments import segment_dpo_loss, temporal_segments
from reelign.objectives.sft import SFT, sft_loss

__all__ = [
    "DPO",
    "KTO",
    "RWR",
    "SFT",
    "Anchors",
    "AutoBeta",
    "BradleyTerry",
    "BradleyTerryTies",
    "RewardGradient",
    "ScoreRegression",
    "anchored_loss",
    "answer_token_loss",
    "attenuated_mean",
    "beta_at",
    "bradley_terry_loss",
    "bradley_terry_ties_loss",
    "check_schedule",
    "dpo_loss",
    "gradient_factor",
    "histogram_weights",
    "implicit_accuracy",
    "implicit_margin",
    "kto_baseline",
    "kto_loss",
    "mean_beta",
    "reward_gradient_loss",
    "reward_weights",
    "rwr_loss",
    "score_regression_loss",
    "segment_dpo_loss",
    "sft_loss",
    "temporal_segments",
]
