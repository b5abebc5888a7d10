"""Rewards: from (video, prompt) to a number per dimension, higher is better. One file per source."""

from reelign.rewards.base import Reward, RewardCard, Videos, check_input

__all__ = ["Reward", "RewardCard", "Videos", "check_input"]
