"""Critics: models that look at videos, give their reasons in words, and then a verdict."""

from reelign.critics.base import Comparison, Critic, Grade, Rating, Tally
from reelign.critics.opening import open_critic

__all__ = ["Comparison", "Critic", "Grade", "Rating", "Tally", "open_critic"]
