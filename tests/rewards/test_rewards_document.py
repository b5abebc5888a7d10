"""docs/rewards.md says what the cards say, and its examples run."""

from __future__ import annotations

import json
import re
import urllib.request
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.numpy import save

from reelign.cli.rewards import markdown
from reelign.rewards import REWARDS, Reward, card_of, check_input, open_reward
from reelign.rewards.base import RewardCard
from reelign.rewards.compose import _part
from rewards.rewards import Light
from rewards.servers import ask, serving

DOCUMENT = (Path(__file__).parents[2] / "docs" / "rewards.md").read_text()


def block(language: str, begins: str) -> str:
    (found,) = (
        code for code in re.findall(rf"```{language}\n(.*?)```", DOCUMENT, re.DOTALL) if code.startswith(begins)
    )
    return str(found)


def test_the_table_is_that_of_the_cards() -> None:
    rows = markdown({name: card_of(name) for name in REWARDS}).splitlines()
    missing = [row for row in rows if row not in DOCUMENT.splitlines()]
    assert not missing, "put what `reelign rewards --markdown` prints into docs/rewards.md"
    named = re.findall(r"^\| `([\w.-]+)` \|", DOCUMENT.partition("<!--")[2].partition("The five")[0], re.MULTILINE)
    assert named == list(REWARDS)


def test_the_advice_names_rewards_that_there_are() -> None:
    advice = DOCUMENT.partition("## Which to use when")[2].partition("## The sources")[0]
    names = set(re.findall(r"`([a-z0-9.-]+)`", advice))
    assert names >= {"videoreward", "vjepa2", "dynamic-degree"}
    assert names <= set(REWARDS)


def test_the_parts_of_the_example_fit_their_rewards() -> None:
    for given in yaml.safe_load(block("yaml", "# mix.yaml"))["parts"]:
        part = _part(given)
        assert isinstance(part.reward, str)
        assert set(part.weights) <= {*card_of(part.reward).dimensions, "overall"}


def test_the_plain_request_is_answered() -> None:
    frames = torch.full((3, 3, 16, 16), 51, dtype=torch.uint8).numpy()
    with serving(Light()) as server:
        code = block("python", "import json, urllib.request").replace("http://127.0.0.1:8500", server.address)
        printed: list[Any] = []
        exec(code, {"frames": frames, "print": printed.append, "json": json, "urllib": urllib, "save": save})
        assert printed == [{"VQ": [pytest.approx(0.2)], "TA": [5.0]}]
        told = ask(server, "GET", "/reward")[1]
    row = next(line for line in DOCUMENT.splitlines() if line.startswith("| `GET /reward`"))
    assert set(re.findall(r"`(\w+)`", row)) == set(told)


def test_the_reward_of_ones_own_works() -> None:
    names: dict[str, Any] = {"Reward": Reward, "RewardCard": RewardCard, "check_input": check_input, "torch": torch}
    exec(block("python", "class Redness"), names)
    reward = names["Redness"]()
    assert isinstance(reward, Reward)
    video = torch.zeros(1, 2, 3, 4, 4)
    video[:, :, 0] = 0.5
    assert reward.score(video, ["red"])["red"].tolist() == [0.5]


def test_the_settings_of_the_client_are_those_that_it_takes() -> None:
    line = next(line for line in DOCUMENT.splitlines() if "Its settings:" in line)
    with serving(Light()) as server:
        given: dict[str, Any] = {"token": "", "timeout_s": 9.0, "retries": 1, "patience_s": 9.0, "precision": "uint8"}
        assert re.findall(r"`(\w+)`", line.partition("Its settings:")[2]) == list(given)
        assert open_reward(server.address, **given).name == "light"
