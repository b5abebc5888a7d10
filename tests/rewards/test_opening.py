"""Rewards are found by name, by module and by class; what is wrong is named with the nearest that is right."""

from __future__ import annotations

import ast
from importlib.util import find_spec
from pathlib import Path

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


@pytest.mark.parametrize("name", REWARDS)
def test_a_card_is_read_without_the_libraries_of_models(name: str) -> None:
    module = REWARDS[name].partition(":")[0]
    path = Path(str(find_spec(module).origin))  # type: ignore[union-attr]
    first = {
        (node.module or "") if isinstance(node, ast.ImportFrom) else node.names[0].name
        for node in ast.parse(path.read_text()).body
        if isinstance(node, ast.Import | ast.ImportFrom)
    }
    heavy = {each for each in first if each.partition(".")[0] in ("transformers", "diffusers", "peft", "accelerate")}
    assert not heavy, "import it where it is used: listing the rewards must not wait for it"
