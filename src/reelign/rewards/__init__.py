"""Rewards: from (video, prompt) to a number per dimension, higher is better. One file per source."""

from reelign.rewards.base import Reward, RewardCard, Videos, check_input
from reelign.rewards.opening import card_of, open_reward
from reelign.rewards.table import REWARDS

__all__ = ["REWARDS", "Reward", "RewardCard", "Videos", "card_of", "check_input", "open_reward"]
