"""Formats: questions to the letter, answers as they occur, and nothing guessed."""

from __future__ import annotations

import hashlib

import pytest
import torch

from reelign.critics.formats import Format, Plain
from reelign.critics.frames import Shown
from reelign.critics.unifiedreward import UnifiedReward, UnifiedReward2, UnifiedRewardThink
from reelign.critics.unifiedreward_questions import RANK, RANK_2, SCORE, SCORE_2, THINK
from reelign.critics.videoscore2 import VideoScore2Format
from reelign.critics.writing import Token, Written
from reelign.errors import ReelignError
from reelign.video import Clip

STILL = Shown(frames=torch.zeros(1, 3, 2, 2, dtype=torch.uint8), times=(0.0,), seconds=1.0)
OTHER = Shown(frames=torch.ones(1, 3, 2, 2, dtype=torch.uint8), times=(0.0,), seconds=1.0)
SHARES = """Alignment Score:
 Video 1: {}
 Video 2: {}

Coherence Score:
 Video 1: 0.2
 Video 2: 0.8

Style Score:
 Video 1: 0.5
 Video 2: 0.5
"""
FIVE = """visual quality: 4
temporal consistency: 2
dynamic degree: 3
text-to-video alignment: 1
factual consistency: 2
Final Score: 6"""


def text_of(parts: list[str | Shown]) -> str:
    return "".join(part for part in parts if isinstance(part, str))


@pytest.mark.parametrize(
    ("question", "digest"),
    [(RANK, "c76ba521"), (SCORE, "514a6343"), (RANK_2, "2604f95c"), (SCORE_2, "707411fb"), (THINK, "e40c6e7f")],
)
def test_the_questions_are_those_the_checkpoints_were_trained_on(question: str, digest: str) -> None:
    assert hashlib.sha256(question.encode()).hexdigest()[:8] == digest


def test_videos_come_first_and_in_their_order() -> None:
    for format in (UnifiedReward(), UnifiedReward2(), UnifiedRewardThink()):
        dimension = format.compares[0]
        parts = format.pair_question(STILL, OTHER, "a red cat", dimension)
        assert parts[0] is STILL
        assert parts[1] is OTHER
        assert "a red cat" in text_of(parts)
        assert "{prompt}" not in text_of(parts)


def test_only_what_depends_on_the_prompt_is_told_it() -> None:
    plain = Plain({"cats": "how many cats there are"})
    told = {
        name: "a red cat" in text_of(plain.pair_question(STILL, OTHER, "a red cat", name)) for name in plain.compares
    }
    assert told == {"VQ": False, "MQ": False, "TA": True, "overall": True, "cats": True}
    assert "how many cats there are" in text_of(plain.question(STILL, "", "cats"))
    with pytest.raises(ReelignError, match="no meaning"):
        Plain({"cats": " "})


@pytest.mark.parametrize(
    ("text", "verdict"),
    [
        ("Video 1 follows the caption. So Video 1 is better.", "a"),
        ("video 2 is better", "b"),
        ("Both videos are equally good.", "tie"),
        ("Video 1 is better in light, but all in all Video 2 is better.", None),
        ("Video 12 is better", None),
        ("I like the first.", None),
    ],
)
def test_unifiedreward_says_which_video_is_better(text: str, verdict: str | None) -> None:
    found = UnifiedReward().read_pair(Written(text=text), "overall")
    assert found.verdict == verdict
    assert found.left_out == ("" if verdict else "unparseable")


def test_unifiedreward_rates_five_aspects_on_their_scales() -> None:
    rated = {name: UnifiedReward().read(Written(text=FIVE), name) for name in UnifiedReward.rates}
    assert {name: (one.score, one.grade) for name, one in rated.items()} == {
        "VQ": (4, "good"),
        "temporal_consistency": (2, "normal"),
        "dynamic_degree": (3, "normal"),
        "TA": (1, "bad"),
        "factual_consistency": (2, "normal"),
        "overall": (6, "normal"),
    }
    for broken in ("visual quality: 5", "visual quality: 44", "visual quality: good", "quality: 4"):
        assert UnifiedReward().read(Written(text=broken), "VQ").score is None
    assert UnifiedReward().read(Written(text=FIVE + "\nvisual quality: 1"), "VQ").left_out == "unparseable"


def test_unifiedreward_2_gives_shares() -> None:
    def read(dimension: str, *shares: object) -> tuple[str | None, float | None]:
        one = UnifiedReward2().read_pair(Written(text=SHARES.format(*shares)), dimension)
        return one.verdict, one.margin

    assert read("TA", 0.75, 0.25) == ("a", 0.5)
    assert read("coherence", 0.75, 0.25) == ("b", pytest.approx(-0.6))
    assert read("style", 0.75, 0.25) == ("tie", 0.0)
    for shares in ((0.75, 0.75), ("X", "Y"), ("high", 0.2)):
        assert read("TA", *shares) == (None, None)
    single = "Alignment Score (1-5): 4.5\nPhysics Score (1-5): 2\nStyle Score (1-5): 6"
    rated = [UnifiedReward2().read(Written(text=single), name).score for name in UnifiedReward2.rates]
    assert rated == [4.5, 2.0, None]


def test_unifiedreward_think_answers_behind_its_thought() -> None:
    read = lambda text: UnifiedRewardThink().read_pair(Written(text=text), "overall")  # noqa: E731
    found = read("<think>Video 1 is better lit.</think>\n<answer>Video 2 is better</answer>")
    assert (found.verdict, found.reason) == ("b", "Video 1 is better lit.")
    assert read("<think>Video 1 is better</think>").verdict is None
    assert read("<think><answer>Video 1 is better</answer>").verdict is None
    assert read("<answer>Video 1 is better</answer><answer>Video 2 is better</answer>").verdict is None
    with pytest.raises(ReelignError, match="judges pairs alone"):
        UnifiedRewardThink().question(STILL, "", "overall")


def test_the_digit_of_a_verdict_tells_how_sure_it_is() -> None:
    chances = {"1": 0.6, "2": 0.2}
    tokens = tuple(
        Token(text=text, chances=chances if text == "1" else {text: 1.0}) for text in ("Video ", "1", " is better")
    )
    found = UnifiedReward().read_pair(Written(text="Video 1 is better", tokens=tokens), "overall")
    assert found.certainty == pytest.approx(0.75)


def test_videoscore2_rates_with_the_rewards_own_question_and_frames() -> None:
    format = VideoScore2Format()
    lines = ("(1) visual quality: 4", "(2) text-to-video alignment: 3", "(3) physical/common-sense consistency: 1")
    answer = "<think>Sharp.</think>" + "\n".join(lines)
    rated = [format.read(Written(text=answer), name) for name in format.rates]
    assert [(one.score, one.grade, one.reason) for one in rated] == [
        (4, "good", "Sharp."),
        (3, "normal", "Sharp."),
        (1, "bad", "Sharp."),
    ]
    assert format.read(Written(text="<think>Sharp."), "VQ").left_out == "unparseable"
    assert format.count(Clip(frames=torch.zeros(81, 3, 2, 2), fps=16.0), pair=False) == 10
    assert format.count(Clip(frames=torch.zeros(8, 3, 2, 2), fps=16.0), pair=False) == 4


@pytest.mark.parametrize("format", [Plain(), UnifiedReward(), UnifiedReward2(), VideoScore2Format()])
def test_every_dimension_of_a_format_has_a_question(format: Format) -> None:
    assert all(text_of(format.question(STILL, "a cat", name)) for name in format.rates)
