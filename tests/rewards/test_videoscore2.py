"""VideoScore2's answers, read from texts as they occur and from a model whose answer is known token by token."""

from __future__ import annotations

import hashlib
import logging
from pathlib import Path

import pytest
import torch

from reelign.errors import ReelignError
from reelign.rewards.opening import open_reward
from reelign.rewards.videoscore2 import QUESTION, VideoScore2
from reelign.rewards.videoscore2_answer import read_digits, soft_score, token_at
from rewards.clips import mp4
from rewards.tiny_qwen import SMALL, clip, qwen2_5_vl, scripted, tokenizer

ASKED_FOR = "visual quality: 4;\ntext-to-video alignment: 3,\nphysical/common-sense consistency: 5"
AS_RELEASED = """<think>The visual quality: 1 at first sight, but visual quality: 5.</think>
(1) visual quality – clarity, smoothness, artifacts: 4
(2) text-to-video alignment – fidelity to the prompt: 3
(3) physical/common-sense consistency – naturalness and physics plausibility: 5"""
MARKED = "**Visual Quality**: **4**\n- Text to video alignment (2): <3>\n_Physical/common sense consistency_: 5.0"
PIECES = ("visual quality: ", "; text-to-video alignment: ", ", physical/common-sense consistency: ")


@pytest.mark.parametrize("text", [ASKED_FOR, AS_RELEASED, MARKED, "10 words.</think>" + ASKED_FOR])
def test_scores_are_read_from_answers_as_they_occur(text: str) -> None:
    places = read_digits(text)
    assert places is not None
    assert [text[place] for place in places.values()] == ["4", "3", "5"]
    assert text[: min(places.values())].endswith(("</think>visual quality: ", "visual quality: ", ": ", ": **"))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "<think>visual quality: 4; text-to-video alignment: 3, physical/common-sense consistency: 5",
        "visual quality: 4; text-to-video alignment: 3",
        "visual quality: 10; text-to-video alignment: 3, physical/common-sense consistency: 5",
        "visual quality: 3.5; text-to-video alignment: 3, physical/common-sense consistency: 5",
        "visual quality: 0; text-to-video alignment: 6, physical/common-sense consistency: 5",
        ASKED_FOR + "</think> That is all.",
    ],
)
def test_what_is_not_there_is_not_guessed(text: str) -> None:
    assert read_digits(text) is None


def test_soft_scores_are_those_worked_out_by_hand() -> None:
    probabilities = torch.tensor([0.0, 0.1, 0.2, 0.1, 0.0])  # 0.6 went to other tokens
    assert soft_score(3, probabilities, "released") == pytest.approx(3 * 0.2 / 0.4)
    assert soft_score(3, probabilities, "expected") == pytest.approx((2 * 0.1 + 3 * 0.2 + 4 * 0.1) / 0.4)
    assert soft_score(4, probabilities, "hard") == 4
    assert torch.isnan(torch.tensor(soft_score(4, torch.zeros(5), "expected")))


def test_the_token_of_a_character_is_found_in_tokens_of_any_length() -> None:
    words = ["ab", "c", "", "def", "g"]
    decode = lambda tokens: "".join(words[token] for token in tokens)  # noqa: E731
    assert [token_at(offset, range(5), decode) for offset in range(7)] == [0, 0, 1, 3, 3, 3, 4]


def test_the_question_is_the_released_one() -> None:
    text = QUESTION.replace("{text_prompt}", "$t2v_prompt")
    assert hashlib.sha256(text.encode()).hexdigest()[:12] == "e35029e823f2"


def save_scripted(folder: Path) -> Path:
    """A Qwen2.5-VL that answers 4, 3, 5."""
    # After each token, the probabilities of the next.
    chain = {"\n": {PIECES[0]: 1.0}, PIECES[0]: {"4": 0.6, "5": 0.3}, "4": {PIECES[1]: 1.0}, PIECES[1]: {"3": 0.8}}
    chain |= {"3": {PIECES[2]: 1.0}, PIECES[2]: {"5": 0.5, "1": 0.25, "2": 0.25}, "5": {"<|im_end|>": 1.0}}
    return scripted(qwen2_5_vl(), chain, folder)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_scripted(tmp_path_factory.mktemp("videoscore2"))


def test_a_real_file_is_scored_by_what_is_written_and_how_surely(folder: Path, tmp_path: Path) -> None:
    reward = open_reward("videoscore2", model=str(folder), temperature=0.0, clips=SMALL)
    scores = reward.score([mp4(tmp_path, num_frames=10, height=56, width=56), clip(5)], ["a", "b"], fps=4.0)
    assert list(scores) == ["visual_quality", "text_to_video_alignment", "physical_consistency"]
    wanted = [4 * 0.6 / 0.9, 3.0, 5 * 0.5]
    assert torch.allclose(torch.stack(list(scores.values()))[:, 0], torch.tensor(wanted), atol=1e-3)
    expected = VideoScore2(model=str(folder), temperature=0.0, clips=SMALL, soft="expected").score(
        [clip(5)], ["a"], fps=4.0
    )
    assert expected["physical_consistency"].item() == pytest.approx(5 * 0.5 + 1 * 0.25 + 2 * 0.25, abs=1e-3)
    assert not reward.differentiable


def test_an_answer_without_scores_is_nan_and_counted(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    reward = VideoScore2(model=str(folder), temperature=0.0, clips=SMALL)
    reward.max_new_tokens = 3
    with caplog.at_level(logging.WARNING):
        scores = reward.score([clip(5), clip(6)], ["a", "b"], fps=4.0)
    assert all(each.isnan().all() for each in scores.values())
    assert "no three scores for 2 of 2 videos" in caplog.text


def test_sampling_depends_on_the_seed_alone(folder: Path) -> None:
    reward = VideoScore2(model=str(folder), temperature=0.0, clips=SMALL, soft="hard")
    reward.temperature, reward.max_new_tokens = 1.0, 8
    drawn = []
    for seed in range(8):
        reward.seed = seed
        drawn.append(reward.answer(clip(5), "a", 4.0)[0])
        torch.rand(3)  # the global state is neither used nor moved
        assert reward.answer(clip(5), "a", 4.0)[0] == drawn[-1]
    assert len({tuple(each) for each in drawn}) > 1


def test_what_cannot_be_scored_is_refused(folder: Path, tmp_path: Path) -> None:
    reward = VideoScore2(model=str(folder), temperature=0.0, clips=SMALL)
    with pytest.raises(ReelignError, match="no frame rate"):
        reward.score([clip(5)], ["a"])
    with pytest.raises(ReelignError, match="special token"):
        reward.score([clip(5)], ["a <|video_pad|> of a cat"], fps=4.0)
    with pytest.raises(ReelignError, match="soft is 'normed'"):
        VideoScore2(model=str(folder), soft="normed")  # type: ignore[arg-type]
    qwen2_5_vl().save_pretrained(tmp_path)
    tokenizer().save_pretrained(tmp_path)
    with pytest.raises(ReelignError, match="gives its test clip nan for visual_quality"):
        VideoScore2(model=str(tmp_path), clips=SMALL, max_new_tokens=4)
