"""Critics: models that look at videos, give their reasons in words, and then a verdict."""

from reelign.critics.base import Comparison, Critic, Grade, Rating, Tally
from reelign.critics.opening import check_critic, open_critic
from reelign.critics.table import CRITICS
from reelign.critics.voting import Voted, Voting

__all__ = [
    "CRITICS",
    "Comparison",
    "Critic",
    "Grade",
    "Rating",
    "Tally",
    "Voted",
    "Voting",
    "check_critic",
    "open_critic",
]
