"""Critics by name: the table, objects of one's own, and what is refused before anything is loaded or asked."""

from __future__ import annotations

from typing import Any

import pytest

from critics.chat import chatting, honest
from critics.clips import flat
from reelign.critics import CRITICS, Comparison, Critic, Rating, Tally, check_critic, open_critic
from reelign.critics.judging import CriticUse, critic_judge
from reelign.critics.opening import _format
from reelign.errors import ReelignError
from reelign.video import Clip

HERE = "critics.test_opening"


class Left(Critic):
    """A user's own: the first video, always."""

    def __init__(self) -> None:
        self.name, self.version = "left", "1"
        self.compares, self.rates = ("VQ",), ()
        self.tally = Tally()

    def compare(self, a: Clip, b: Clip, prompt: str, dimension: str, *, vote: int = 0) -> Comparison:
        return Comparison(verdict="a", reason="It is the first.")

    def rate(self, video: Clip, prompt: str, dimension: str, *, vote: int = 0) -> Rating:
        raise NotImplementedError


def no_critic() -> str:
    return "me"


@pytest.mark.parametrize("name", CRITICS)
def test_every_checkpoint_of_the_table_has_a_format_and_a_whole_card(name: str) -> None:
    card = CRITICS[name]
    assert card.what
    assert bool(card.weights) == bool(card.licence) == bool(card.size)
    assert _format(card.format, {}).compares
    check_critic(name, model="somewhere", server={"url": "http://127.0.0.1:1/v1"})


@pytest.mark.parametrize(
    ("spec", "options", "message"),
    [
        ("qwen2.5-vl", {}, "Did you mean 'qwen2.5-vl-7b'|Did you mean 'qwen2.5-vl-3b'"),
        ("local", {}, "was given no model"),
        ("server", {}, "was given no address"),
        ("videoscore2", {"frame": 8}, "Did you mean 'frames'"),
        ("server", {"server": {"urls": "x"}}, "Did you mean 'url'"),
        ("videoscore2", {"frames": 0}, "frames must be at least 1"),
        ("videoscore2", {"format": "plane"}, "Did you mean 'plain'"),
        ("videoscore2", {"own": {"cats": "how many"}}, "has dimensions of its own"),
        (f"{HERE}:HERE", {}, "is no critic: it is str"),
    ],
)
def test_what_is_no_critic_is_refused_before_anything_is_loaded(
    spec: str, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ReelignError, match=message):
        check_critic(spec, **options)
    with pytest.raises(ReelignError, match=message):
        open_critic(spec, **options)


def test_a_critic_of_ones_own_is_used_as_it_is() -> None:
    found = open_critic(f"{HERE}:Left").compare(flat(0.1), flat(0.9), "", "VQ")
    assert (found.verdict, found.reason) == ("a", "It is the first.")
    with pytest.raises(ReelignError, match="gave str and no critic"):
        open_critic(f"{HERE}:no_critic")
    judge = critic_judge(f"{HERE}:Left", CriticUse(swap=False))
    assert (judge.name, judge.dimensions) == ("left", ("VQ",))


def test_versions_change_with_what_may_change_an_answer() -> None:
    with chatting(honest) as server:
        base = {
            "critic": {},
            "own": {"own": {"TA": "something else"}},
            "frames": {"frames": 8},
            "long": {"max_tokens": 9},
        }
        found = {name: open_critic(server.url, **options).version for name, options in base.items()}
        found["warm"] = open_critic(server.url, temperature=0.5).version
        found["seed"] = open_critic(server.url, temperature=0.5, seed=1).version
        assert open_critic(server.url, seed=1).version == found["critic"], "of the likeliest answer no seed takes part"
        assert open_critic(server.url, device="cpu", cache="x").version == found["critic"]
    assert len(set(found.values())) == len(found)


def test_a_judge_names_its_dimensions_and_refuses_others() -> None:
    with chatting(honest) as server:
        use = {"server": CriticUse().server}
        judge = critic_judge(server.url, CriticUse(**use, fps=8.0))
        assert judge.dimensions == ("VQ", "MQ", "TA")
        answers = judge.compare(
            flat(0.8).frames[None],
            flat(0.2).frames[None],
            ["a lamp"],
            generator=None,  # type: ignore[arg-type]
        )
        assert answers == [{"VQ": "a", "MQ": "a", "TA": "a"}]
        with pytest.raises(ReelignError, match="does not compare videos on colour"):
            critic_judge(server.url, CriticUse(dimensions=("colour",)))
    with pytest.raises(ValueError, match="votes must be at least 1"):
        CriticUse(votes=0)
