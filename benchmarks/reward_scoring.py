"""CPU time of scoring 8 videos of different lengths in one batch and one by one: `python benchmarks/reward_scoring.py`.

VideoReward's architecture at a tiny width with random weights: the very code of `VideoReward.score`, from frames in
memory to scores of three dimensions. Both ways take turns in one process; the ratio is of the medians of CPU time.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable

import torch
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from torch import Tensor
from transformers import Qwen2Tokenizer, Qwen2VLConfig, Qwen2VLModel

from reelign.rewards.qwen_vision import ClipSettings
from reelign.rewards.videoreward import VideoReward
from reelign.rewards.videoreward_clips import VideoRewardSettings
from reelign.rewards.videoreward_model import VideoRewardModel
from reelign.rewards.videoreward_template import DETAILED_SPECIAL, short_template

NAMES = ("VQ", "MQ", "TA")
FPS = 8.0
LENGTHS = (16, 24, 20, 48, 32, 28, 40, 36)
"""Frames of the videos: 2 to 6 seconds."""
KINDS = {
    "small world": (VideoRewardSettings(template=short_template(NAMES), clips=ClipSettings(min_pixels=56 * 56)), 32),
    "VideoReward's template": (VideoRewardSettings(clips=ClipSettings(min_pixels=56 * 56)), 32),
    "VideoReward's template and pixels": (VideoRewardSettings(), 256),
}
"""What is asked, and the side of the videos in pixels."""
SPECIAL = ["<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>"]


def main(kind: str, repeats: int) -> None:
    settings, side = KINDS[kind]
    reward = VideoReward(model=tiny_model(settings), check=False)
    calls: list[int] = []
    reward.model.register_forward_hook(lambda _, given, __: calls.append(len(given[0])))
    generator = torch.Generator().manual_seed(0)
    videos = [torch.rand(length, 3, side, side, generator=generator) for length in LENGTHS]
    prompts = [f"a red square moves left, {index}" for index in range(len(videos))]

    def together() -> dict[str, Tensor]:
        return reward.score(videos, prompts, fps=FPS)

    def one_by_one() -> dict[str, Tensor]:
        rows = [reward.score([video], [prompt], fps=FPS) for video, prompt in zip(videos, prompts, strict=True)]
        return {name: torch.cat([row[name] for row in rows]) for name in NAMES}

    first, second = together(), one_by_one()
    apart = max(float((first[name] - second[name]).abs().max()) for name in NAMES)
    taken = {"one call": calls[0], "alone": len(calls) - 1}
    times: dict[str, list[float]] = {"together": [], "one by one": []}
    for _ in range(repeats):
        times["together"].append(cpu_seconds(together))
        times["one by one"].append(cpu_seconds(one_by_one))
    batched, plain = (statistics.median(times[name]) for name in ("together", "one by one"))
    print(
        f"{kind}: {batched:.3f} s for {taken['one call']} videos in one forward, {plain:.3f} s in {taken['alone']} "
        f"(medians of {repeats}, CPU time); ratio {batched / plain:.2f}; scores differ by {apart:.1e} at most",
        flush=True,
    )


def cpu_seconds(call: Callable[[], object]) -> float:
    start = time.process_time()
    call()
    return time.process_time() - start


def tiny_model(settings: VideoRewardSettings) -> VideoRewardModel:
    words = tiny_tokenizer()
    ids = dict(zip(SPECIAL, words.convert_tokens_to_ids(SPECIAL), strict=True))
    text = {
        "vocab_size": len(words),
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "rope_parameters": {"rope_type": "default", "mrope_section": [2, 3, 3], "rope_theta": 1e6},
        "bos_token_id": None,
        "eos_token_id": None,
    }
    config = Qwen2VLConfig(
        text_config=text,
        vision_config={"depth": 4, "embed_dim": 64, "hidden_size": 64, "num_heads": 4, "mlp_ratio": 2},
        image_token_id=ids["<|image_pad|>"],
        video_token_id=ids["<|video_pad|>"],
        vision_start_token_id=ids["<|vision_start|>"],
        vision_end_token_id=ids["<|vision_end|>"],
    )
    torch.manual_seed(0)
    return VideoRewardModel(Qwen2VLModel(config), words, settings).eval().requires_grad_(False)


def tiny_tokenizer() -> Qwen2Tokenizer:
    """Bytes, and pairs of them that VideoReward's template is made of, about 900 tokens of it as of Qwen's own 850."""
    bytes_ = Tokenizer(models.BPE())
    bytes_.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    bytes_.train_from_iterator(
        [DETAILED_SPECIAL], trainers.BpeTrainer(vocab_size=1000, initial_alphabet=alphabet, show_progress=False)
    )
    held = json.loads(bytes_.to_str())["model"]
    words = Qwen2Tokenizer(vocab=held["vocab"], merges=[tuple(pair) for pair in held["merges"]])
    words.add_tokens(SPECIAL, special_tokens=True)
    return words


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS))
    parser.add_argument("--repeats", type=int, default=7)
    options = parser.parse_args()
    torch.set_num_threads(1)
    for chosen in options.kinds:
        main(chosen, options.repeats)
