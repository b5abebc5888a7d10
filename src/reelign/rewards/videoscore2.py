"""VideoScore2: Qwen2.5-VL-7B that thinks aloud and then writes three scores of 1 to 5 (arXiv:2509.22799)."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from reelign.errors import ReelignError
from reelign.rewards.base import Reward, RewardCard, Videos, check_input
from reelign.rewards.loading import (
    device_and_dtype,
    fingerprint,
    load_part,
    load_pretrained,
    self_test,
    version_of,
)
from reelign.rewards.qwen_vision import ClipSettings, look, normalise
from reelign.rewards.qwen_vl import chat_text, family_of, patch_layout, video_text
from reelign.rewards.videoreward_template import fill
from reelign.rewards.videoscore2_answer import LABELS, Soft, read_digits, soft_score, token_at

log = logging.getLogger(__name__)

CLIPS = ClipSettings(fps=2.0, min_pixels=128 * 28 * 28, max_pixels=768 * 28 * 28, total_pixels=24576 * 28 * 28)
"""qwen-vl-utils' limits at 2 frames per second, as on the model's card."""
QUESTION = """
    You are an expert for evaluating AI-generated videos from three dimensions:
    (1) visual quality – clarity, smoothness, artifacts;
    (2) text-to-video alignment – fidelity to the prompt;
    (3) physical/common-sense consistency – naturalness and physics plausibility.

    Video prompt: {text_prompt}

    Please output in this format:
    visual quality: <v_score>;
    text-to-video alignment: <t_score>,
    physical/common-sense consistency: <p_score>
    """
"""VideoScore2's own (vs2_inference.py): it was trained on this question."""


class VideoScore2(Reward):
    """Visual quality, text alignment and physical consistency, from a written answer.

    An answer that does not give all three numbers scores NaN, and a warning counts them: no number is guessed.

    Args:
        model: hub id or folder; '' is the card's.
        soft: how digits become scores, see `videoscore2_answer.soft_score`.
        temperature: of the sampling; 0 takes the likeliest token, which on real clips is reported to go in circles.
        seed: of the sampling, set anew for each video: its score does not depend on what is scored beside it.
        max_new_tokens: after which an answer is cut off.
        clips: frames and pixels looked at; None takes the card's.
        device: torch's name; 'auto' is cuda where there is one.
        dtype: 'auto' is bfloat16 off the CPU and float32 on it.
        expected_scores: of the self-test's clip by dimension, from an earlier load; None is not compared.
        check: False leaves the self-test out, which writes three answers.
    """

    card = RewardCard(
        what="Three aspects of a video by Qwen2.5-VL-7B, which reasons in words first; about 15 s a clip on one GPU",
        dimensions=tuple(LABELS),
        differentiable=False,
        frames_needed=2,
        weights="TIGER-Lab/VideoScore2",
        licence="Apache-2.0",
        size="8.3 B parameters, 16.6 GB in bf16",
    )
    name = "videoscore2"
    dimensions = card.dimensions

    def __init__(
        self,
        *,
        model: str = "",
        soft: Soft = "released",
        temperature: float = 0.7,
        seed: int = 0,
        max_new_tokens: int = 1024,
        clips: ClipSettings | None = None,
        device: str = "auto",
        dtype: str = "auto",
        expected_scores: Mapping[str, float] | None = None,
        check: bool = True,
    ) -> None:
        if soft not in ("released", "expected", "hard") or temperature < 0 or max_new_tokens < 1:
            raise ReelignError(
                f"soft is {soft!r}, temperature {temperature} and max_new_tokens {max_new_tokens}.",
                "Give released, expected or hard; 0 or more; and 1 or more.",
            )
        from transformers import AutoTokenizer, Qwen2_5_VLForConditionalGeneration

        self.device, precision = device_and_dtype(device, dtype, large=True)
        source = model or self.card.weights
        self.model: Any = load_pretrained(
            Qwen2_5_VLForConditionalGeneration, source, device=self.device, dtype=precision
        )
        self.tokenizer: Any = load_part(AutoTokenizer, source)
        self.digits = [self._only_token(str(digit)) for digit in range(1, 6)]
        self.clips = clips or CLIPS
        self.layout, self.family = patch_layout(self.model.config), family_of(self.model.config)
        self.soft, self.temperature, self.seed, self.max_new_tokens = soft, temperature, seed, max_new_tokens
        settings = (soft, temperature, seed, max_new_tokens, self.clips, QUESTION)
        self.version = version_of(self.name, fingerprint(self.model), *settings)
        # 2 s of it, so that there are four frames to look at.
        self.self_test_scores = self_test(self, expected=expected_scores, num_frames=16) if check else None

    def score(self, videos: Videos, prompts: Sequence[str], *, fps: float | None = None) -> dict[str, Tensor]:
        check_input(self, videos, prompts, fps=fps)
        if fps is None:
            raise ReelignError(
                "The reward 'videoscore2' chooses frames by time, and no frame rate was given.",
                "Give fps, the frames per second of the videos.",
            )
        rows = [self._score(video, prompt, fps) for video, prompt in zip(videos, prompts, strict=True)]
        unread = sum(row is None for row in rows)
        if unread:
            log.warning("videoscore2 gave no three scores for %d of %d videos: they are NaN.", unread, len(rows))
        nothing = dict.fromkeys(self.dimensions, float("nan"))
        return {name: torch.tensor([(row or nothing)[name] for row in rows]) for name in self.dimensions}

    @torch.no_grad()
    def answer(self, video: Tensor, prompt: str, fps: float) -> tuple[list[int], tuple[Tensor, ...]]:
        """The tokens that the model writes about a video, and for each the (vocabulary,) logits it was drawn from.

        Args:
            video: (F, 3, H, W) in [0, 1].
            prompt: what it was generated from.
            fps: frames per second of the video.
        """
        seen = look(video, fps, settings=self.clips, layout=self.layout, device=self.device)
        question = fill(QUESTION, prompt, self.tokenizer.get_added_vocab())
        shown = video_text(seen, family=self.family, merge_size=self.layout.merge_size)
        text = chat_text(shown + question, family=self.family)
        ids = self.tokenizer(text, return_tensors="pt").input_ids.to(self.device)
        sampling = {"do_sample": True, "temperature": self.temperature} if self.temperature else {"do_sample": False}
        devices = [self.device] if self.device.type == "cuda" else []
        with torch.random.fork_rng(devices=devices):
            torch.manual_seed(self.seed)
            output = self.model.generate(
                input_ids=ids,
                attention_mask=torch.ones_like(ids),
                pixel_values_videos=normalise(seen.pixels, self.layout).to(self.model.dtype),
                video_grid_thw=torch.tensor([seen.grid], device=self.device),
                second_per_grid_ts=torch.tensor([seen.seconds_per_patch], device=self.device),
                mm_token_type_ids=2 * (ids == self.model.config.video_token_id).int(),
                max_new_tokens=self.max_new_tokens,
                eos_token_id=[self._only_token("<|im_end|>"), self._only_token("<|endoftext|>")],
                pad_token_id=self._only_token("<|endoftext|>"),
                output_scores=True,
                return_dict_in_generate=True,
                **sampling,
            )
        return output.sequences[0, ids.shape[1] :].tolist(), tuple(step[0] for step in output.scores)

    def _score(self, video: Tensor, prompt: str, fps: float) -> dict[str, float] | None:
        tokens, logits = self.answer(video, prompt, fps)
        text = self._decode(tokens)
        places = read_digits(text)
        if places is None:
            log.info("videoscore2 answered: %s", text)
            return None
        scores = {}
        for dimension, place in places.items():
            probabilities = logits[token_at(place, tokens, self._decode)].float().softmax(dim=-1)[self.digits]
            scores[dimension] = soft_score(int(text[place]), probabilities, self.soft)
        return scores

    def _decode(self, tokens: Sequence[int]) -> str:
        text: str = self.tokenizer.decode(tokens, skip_special_tokens=False, clean_up_tokenization_spaces=False)
        return text

    def _only_token(self, text: str) -> int:
        ids: list[int] = self.tokenizer.encode(text, add_special_tokens=False)
        if len(ids) != 1:
            raise ReelignError(
                f"The tokenizer of {self.name} writes {text!r} in {len(ids)} tokens.", "Use that of the checkpoint."
            )
        return ids[0]
