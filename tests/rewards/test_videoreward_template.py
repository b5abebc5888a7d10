"""The question: VideoReward's own to the letter, and what may stand in one."""

from __future__ import annotations

import hashlib

import pytest

from reelign.errors import ReelignError
from reelign.rewards.videoreward_template import (
    DETAILED_SPECIAL,
    check_template,
    fill,
    reward_token,
    sees_prompt,
    short_template,
)


def test_the_detailed_template_is_the_published_one() -> None:
    # Of DETAILED_PROMPT_WITH_SPECIAL_TOKEN in VideoAlign's prompt_template.py, before the prompt is put in.
    digest = hashlib.sha256(DETAILED_SPECIAL.encode()).hexdigest()
    assert (len(DETAILED_SPECIAL), digest[:12]) == (3997, "fdb6309bac61")
    check_template(DETAILED_SPECIAL, ("VQ", "MQ", "TA"))
    assert [sees_prompt(DETAILED_SPECIAL, name) for name in ("VQ", "MQ", "TA")] == [False, False, True]


def test_a_short_template_keeps_the_prompt_from_the_agnostic_dimensions() -> None:
    template = short_template(("TA", "VQ", "colour"), agnostic=("VQ",))
    assert template == (
        "Rate the video.\nVQ: <|VQ_reward|>\nPrompt: {text_prompt}\nTA: <|TA_reward|>\ncolour: <|colour_reward|>\n"
    )
    check_template(template, ("TA", "VQ", "colour"))
    check_template(short_template(()), ())


def test_a_prompt_is_taken_to_the_letter() -> None:
    assert fill("Prompt: {text_prompt}.", "{a} {text_prompt} %s \\1", []) == "Prompt: {a} {text_prompt} %s \\1."


@pytest.mark.parametrize("token", [reward_token("MQ"), "<|im_end|>"])
def test_a_prompt_with_a_special_token_is_refused_by_its_name(token: str) -> None:
    with pytest.raises(ReelignError) as caught:
        fill(DETAILED_SPECIAL, f"A cat {token} sleeps", [reward_token("MQ"), "<|im_end|>"])
    assert token in caught.value.what


@pytest.mark.parametrize(
    ("template", "dimensions", "message"),
    [
        ("VQ: <|VQ_reward|>", ("VQ",), "holds {text_prompt} 0 times"),
        ("{text_prompt} {text_prompt}", (), "holds {text_prompt} 2 times"),
        ("{text_prompt}", ("VQ",), "holds <|VQ_reward|> 0 times"),
        ("{text_prompt} <|VQ_reward|> <|VQ_reward|>", ("VQ",), "holds <|VQ_reward|> 2 times"),
        ("{text_prompt} <|VQ_reward|> <|MQ_reward|>", ("VQ",), "holds 2 reward tokens"),
        ("{text_prompt} <|VQ_reward|>", (), "holds 1 reward tokens .* none"),
    ],
)
def test_a_template_that_cannot_be_read_is_refused(template: str, dimensions: tuple[str, ...], message: str) -> None:
    with pytest.raises(ReelignError, match=message.replace("|", r"\|").replace("{", r"\{")):
        check_template(template, dimensions)
