"""Critics of this process: real tiny models, one whose answers are known token by token, others that are random."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from critics.clips import flat
from critics.tiny_llava import SIDE, save_llava
from reelign.critics import Critic, open_critic
from reelign.critics.asking import AskingCritic
from reelign.critics.frames import shown
from reelign.critics.local_images import ImagesWriter
from reelign.critics.local_qwen import Pixels, QwenWriter
from reelign.critics.writing import Refused
from reelign.errors import ReelignError
from reelign.rewards.qwen_vision import ClipSettings, look, normalise
from reelign.video import Clip
from rewards.tiny_qwen import clip, qwen2_5_vl, qwen3_vl, save, scripted

SMALL = {"min_pixels": 28 * 28, "max_pixels": 4 * 28 * 28}
A, B = Clip(frames=clip(5), fps=4.0), Clip(frames=clip(4, 84, 56), fps=8.0)
SAYS = {"\n": {"Verdict:": 1.0}, "Verdict:": {" A": 0.6, " B": 0.3, " tie": 0.1}}
SAYS |= {word: {"<|im_end|>": 1.0} for word in (" A", " B", " tie")}
GRADES = {"\n": {"Verdict:": 1.0}, "Verdict:": {" bad": 0.5, " good": 0.25}, " bad": {"<|im_end|>": 1.0}}
GRADES |= {" good": {"<|im_end|>": 1.0}}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return scripted(qwen2_5_vl(), SAYS, tmp_path_factory.mktemp("says-a"))


@pytest.fixture(scope="module")
def critic(folder: Path) -> Critic:
    return open_critic("qwen2.5-vl-7b", model=str(folder), max_tokens=8, **SMALL)


def test_a_pair_of_different_sizes_is_judged_with_the_known_certainty(critic: Critic) -> None:
    found = critic.compare(A, B, "a red square", "TA")
    assert (found.verdict, found.answers) == ("a", ("Verdict: A",))
    assert found.certainty == pytest.approx(0.6, abs=1e-3)
    assert (critic.name, critic.tally.counts["completion_tokens"]) == ("qwen2.5-vl-7b", 3)


def test_one_video_is_graded_in_words(tmp_path: Path) -> None:
    critic = open_critic("local", model=str(scripted(qwen2_5_vl(), GRADES, tmp_path)), max_tokens=8, **SMALL)
    found = critic.rate(A, "", "MQ")
    assert (found.grade, found.score) == ("bad", None)
    assert found.certainty == pytest.approx(0.5 / 0.75, abs=1e-3)
    assert critic.name == tmp_path.name


def test_votes_draw_their_own_chance_and_the_same_one_again(folder: Path) -> None:
    critic = open_critic("local", model=str(folder), max_tokens=8, temperature=1.0, **SMALL)
    said = [critic.compare(A, B, "", "VQ", vote=vote) for vote in range(6)]
    torch.rand(3)  # the global state is neither used nor moved
    assert [critic.compare(A, B, "", "VQ", vote=vote) for vote in (4, 1)] == [said[4], said[1]]
    sure = {one.verdict: one.certainty for one in said}
    assert len(sure) > 1
    chances = {"a": 0.6, "b": 0.3, "tie": 0.1}
    assert sure == {verdict: pytest.approx(chances[str(verdict)], abs=1e-3) for verdict in sure}


def test_an_answer_that_is_cut_off_is_no_verdict(folder: Path) -> None:
    critic = open_critic("local", model=str(folder), max_tokens=1, **SMALL)
    assert critic.compare(A, B, "", "VQ").left_out == "unparseable"
    assert critic.tally.counts["cut_off"] == 1


def test_a_qwen_sees_what_the_rewards_on_it_see(critic: Critic) -> None:
    assert isinstance(critic, AskingCritic)
    assert isinstance(critic.writer, QwenWriter)
    inputs = critic.writer.inputs([shown(A, 4), "and", shown(B, 4)])
    layout = critic.writer.layout
    alike = [
        look(each.frames, each.fps, settings=ClipSettings(num_frames=4, **SMALL), layout=layout) for each in (A, B)
    ]
    assert torch.equal(inputs["pixel_values_videos"], torch.cat([normalise(each.pixels, layout) for each in alike]))
    assert inputs["video_grid_thw"].tolist() == [list(each.grid) for each in alike]
    assert inputs["second_per_grid_ts"].tolist() == pytest.approx([each.seconds_per_patch for each in alike])
    spans = (inputs["mm_token_type_ids"][0] == 2).int().diff()
    assert (spans == 1).sum() == 2, "two videos, apart"


def test_a_video_of_one_frame_and_of_an_odd_number_can_be_seen(critic: Critic) -> None:
    assert critic.compare(flat(0.5, frames=1), flat(0.5, frames=3), "", "VQ").verdict == "a"


def test_qwen3_vl_is_asked_with_times_and_a_random_one_says_nothing_clear(tmp_path: Path) -> None:
    critic = open_critic("qwen3-vl-8b", model=str(save(qwen3_vl(), tmp_path)), max_tokens=4, **SMALL)
    assert critic.compare(A, B, "a", "TA").left_out == "unparseable"
    assert critic.rate(A, "a", "TA").left_out == "unparseable"
    assert critic.tally.counts["unparseable"] == 2
    assert isinstance(critic, AskingCritic)
    assert isinstance(critic.writer, QwenWriter)
    text = critic.writer.tokenizer.decode(critic.writer.inputs([shown(A, 4)])["input_ids"][0])
    assert "<0.1 seconds><|vision_start|>" in text


def test_a_special_token_in_a_prompt_is_refused_and_told(critic: Critic) -> None:
    found = critic.compare(A, B, "a <|video_pad|> cat", "TA")
    assert (found.verdict, found.left_out) == (None, "refused: The question holds the special token <|video_pad|>.")
    assert isinstance(critic, AskingCritic)
    with pytest.raises(Refused):
        critic.writer.write(["<|im_end|>"], critic.sampling)


def test_any_other_model_sees_whole_frames_as_pictures(tmp_path: Path) -> None:
    critic = open_critic("local", model=str(save_llava(tmp_path)), max_tokens=3)
    assert isinstance(critic, AskingCritic)
    assert isinstance(critic.writer, ImagesWriter)
    wide = Clip(frames=torch.ones(2, 3, 8, 32), fps=8.0)
    pixels = critic.writer.inputs([shown(wide, 2), "What is it?"])["pixel_values"]
    assert pixels.shape == (2, 3, SIDE, SIDE)
    mean = torch.tensor(critic.writer.processor.image_processor.image_mean)
    deviation = torch.tensor(critic.writer.processor.image_processor.image_std)
    rows = (pixels[0] * deviation.view(3, 1, 1) + mean.view(3, 1, 1)).mean(dim=(0, 2))
    assert rows[0] < 0.05, "black above"
    assert rows[SIDE // 2] > 0.95
    assert critic.compare(wide, A, "a", "TA").left_out == "unparseable"


def test_weights_that_do_not_fit_are_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ReelignError, match="holds no AutoConfig"):
        open_critic("local", model=str(tmp_path))
    other = save(qwen2_5_vl(), tmp_path / "other")
    (other / "model.safetensors").unlink()
    with pytest.raises(ReelignError, match="could not be loaded"):
        QwenWriter.load(str(other), pixels=Pixels())
