"""Rewards are found by name, by module and by class; what is wrong is named with the nearest that is right."""

from __future__ import annotations

import pytest

from reelign.errors import ReelignError
from reelign.rewards import REWARDS, RewardCard, card_of, open_reward
from rewards.rewards import Light, opened

HERE = "rewards.rewards"


def test_a_name_a_class_a_function_and_a_reward_open() -> None:
    assert open_reward("flicker").name == "flicker"
    light = open_reward(f"{HERE}:Light", gain=2.0)
    assert isinstance(light, Light)
    assert light.gain == 2
    assert open_reward(f"{HERE}:factory", gain=3.0).score is not None
    assert open_reward(f"{HERE}:opened") is opened


@pytest.mark.parametrize(
    ("spec", "settings", "message"),
    [
        ("flickr", {}, "No reward is called 'flickr'.*\n.*Did you mean 'flicker'"),
        ("nothing like it", {}, "Known are .*flicker"),
        (f"{HERE}:Ligth", {}, "has no 'Ligth'.*\n.*Did you mean 'Light'"),
        ("nowhere_at_all:Light", {}, "the reward's module 'nowhere_at_all' cannot be imported"),
        (f"{HERE}:Light", {"gian": 1.0}, "takes no setting 'gian'.*\n.*Did you mean 'gain'.*It takes: gain"),
        ("flicker", {"model": "x"}, "takes no setting 'model'.*\nIt takes: no settings"),
        (f"{HERE}:factory", {}, "cannot be opened so: missing a required"),
        (f"{HERE}:opened", {"gain": 1.0}, "is opened already and takes no gain"),
        (f"{HERE}:no_reward", {}, "gave str and no reward"),
        (f"{HERE}:HERE", {}, "has no 'HERE'"),
        ("rewards.test_opening:HERE", {}, "is no reward: it is str"),
    ],
)
def test_what_is_no_reward_is_refused(spec: str, settings: dict[str, object], message: str) -> None:
    with pytest.raises(ReelignError, match=message):
        open_reward(spec, **settings)


@pytest.mark.parametrize("name", REWARDS)
def test_every_reward_of_the_table_has_a_whole_card(name: str) -> None:
    card = card_of(name)
    assert card.what
    assert card.dimensions
    assert card.frames_needed >= 1
    assert bool(card.weights) == bool(card.licence) == bool(card.size), "weights come with their licence and size"


def test_what_has_no_card_says_so() -> None:
    with pytest.raises(ReelignError, match="has no card"):
        card_of(f"{HERE}:factory")
    assert isinstance(card_of(f"{HERE}:Light"), RewardCard)
