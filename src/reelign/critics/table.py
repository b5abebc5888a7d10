"""Which critics there are: a line a checkpoint, by name."""

from __future__ import annotations

from dataclasses import dataclass

FORMATS: dict[str, str] = {
    "plain": "reelign.critics.formats:Plain",
    "unifiedreward": "reelign.critics.unifiedreward:UnifiedReward",
    "unifiedreward-2": "reelign.critics.unifiedreward:UnifiedReward2",
    "unifiedreward-think": "reelign.critics.unifiedreward:UnifiedRewardThink",
    "videoscore2": "reelign.critics.videoscore2:VideoScore2Format",
}
"""What a checkpoint was trained on being asked; `plain` is reelign's own, for any that follows instructions."""


@dataclass(frozen=True, kw_only=True, slots=True)
class CriticCard:
    """A checkpoint that judges, opened here or behind a server."""

    what: str
    weights: str = ""
    """Hub id; '' where the user names one."""
    format: str = "plain"
    licence: str = ""
    size: str = ""
    temperature: float = 0.0
    """As its authors draw answers."""
    max_tokens: int = 1024


CRITICS: dict[str, CriticCard] = {
    "local": CriticCard(what="Any vision-language model of transformers, by model=HUB-ID or FOLDER"),
    "server": CriticCard(what="Any model behind an OpenAI-compatible server, by server.url=URL"),
    "qwen2.5-vl-3b": CriticCard(
        what="Qwen2.5-VL, follows instructions",
        weights="Qwen/Qwen2.5-VL-3B-Instruct",
        licence="Qwen Research, non-commercial",
        size="3.8 B parameters, 7.5 GB in bf16",
    ),
    "qwen2.5-vl-7b": CriticCard(
        what="Qwen2.5-VL, follows instructions",
        weights="Qwen/Qwen2.5-VL-7B-Instruct",
        licence="Apache-2.0",
        size="8.3 B parameters, 16.6 GB in bf16",
    ),
    "qwen3-vl-4b": CriticCard(
        what="Qwen3-VL, follows instructions",
        weights="Qwen/Qwen3-VL-4B-Instruct",
        licence="Apache-2.0",
        size="4.4 B parameters, 8.9 GB in bf16",
    ),
    "qwen3-vl-8b": CriticCard(
        what="Qwen3-VL, follows instructions",
        weights="Qwen/Qwen3-VL-8B-Instruct",
        licence="Apache-2.0",
        size="8.8 B parameters, 17.5 GB in bf16",
    ),
    "unifiedreward": CriticCard(
        what="Qwen2.5-VL trained to compare two videos and to rate one on five aspects",
        weights="CodeGoat24/UnifiedReward-qwen-7b",
        format="unifiedreward",
        licence="MIT, on Apache-2.0",
        size="8.3 B parameters, 16.6 GB in bf16",
        max_tokens=4096,
    ),
    "unifiedreward-2": CriticCard(
        what="Qwen2.5-VL trained to give two videos shares on three aspects, and one 1 to 5",
        weights="CodeGoat24/UnifiedReward-2.0-qwen-7b",
        format="unifiedreward-2",
        licence="MIT, on Apache-2.0",
        size="8.3 B parameters, 16.6 GB in bf16",
        max_tokens=4096,
    ),
    "unifiedreward-think": CriticCard(
        what="Qwen3-VL trained to think aloud and then compare two videos",
        weights="CodeGoat24/UnifiedReward-Think-qwen3vl-8b",
        format="unifiedreward-think",
        licence="MIT, on Apache-2.0",
        size="8.8 B parameters, 17.5 GB in bf16",
        max_tokens=4096,
    ),
    "videoscore2": CriticCard(
        what="Qwen2.5-VL trained to think aloud and then rate a video on three aspects",
        weights="TIGER-Lab/VideoScore2",
        format="videoscore2",
        licence="Apache-2.0",
        size="8.3 B parameters, 16.6 GB in bf16",
        temperature=0.7,
    ),
}
"""Name -> checkpoint; `opening.open_critic` opens one."""
