"""What VideoReward's scores depend on beside weights, and how videos and prompts become its input."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor

from reelign.errors import ReelignError
from reelign.rewards.qwen_vision import ClipSettings, Patches, look
from reelign.rewards.qwen_vl import ClipBatch, Positions, chat_text, collate, family_of, patch_layout, video_text
from reelign.rewards.videoreward_template import DETAILED_SPECIAL, check_template, fill, reward_token


@dataclass(frozen=True, kw_only=True, slots=True)
class VideoRewardSettings:
    """What a trained VideoReward's scores depend on beside its weights; kept with them."""

    dimensions: tuple[str, ...] = ("VQ", "MQ", "TA")
    """Names, in the order of the outputs."""
    template: str = DETAILED_SPECIAL
    """The question; `videoreward_template.short_template` writes one for other dimensions."""
    pooling: Literal["special", "last"] = "special"
    """Where scores are read: at each dimension's own token, or all at the last token of the text."""
    head_width: int = 1
    """Outputs of the head: 1 (one direction for all reward tokens, as released) or one per dimension, of which
    each token's own is read. Pooling at the last token takes one per dimension."""
    positions: Positions = "sequential"
    """See `qwen_vl.Positions`; "sequential" is VideoReward's, "multimodal" what `from_backbone` sets."""
    clips: ClipSettings = field(default_factory=ClipSettings)
    """Frames and pixels looked at."""
    mean: tuple[float, ...] = ()
    """Of the raw score of each dimension over some set of videos; () does not normalise."""
    std: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        names = self.dimensions
        if not names or len(set(names)) != len(names) or not all(name.isidentifier() for name in names):
            raise ReelignError(
                f"The dimensions are {', '.join(map(repr, names)) or 'none'}.",
                "Name at least one, each once, by letters, digits and underscores.",
            )
        check_template(self.template, names if self.pooling == "special" else ())
        widths = (1, len(names)) if self.pooling == "special" else (len(names),)
        if self.head_width not in widths:
            raise ReelignError(
                f"The head is {self.head_width} wide for the {len(names)} dimensions {', '.join(names)}, "
                f"read at {'their tokens' if self.pooling == 'special' else 'the last token'}.",
                f"Use a head of width {' or '.join(map(str, widths))}.",
            )
        if len(self.mean) != len(self.std) or len(self.mean) not in (0, len(names)) or not all(s > 0 for s in self.std):
            raise ReelignError(
                f"The normalisation has means {self.mean} and deviations {self.std} for {len(names)} dimensions.",
                "Give one mean and one deviation above 0 per dimension, or neither.",
            )


class ClipPreparer:
    """Turns videos and prompts into batches; holds no weights, so that data workers can carry it.

    Args:
        tokenizer: the backbone's; reward tokens are added to it where it lacks them.
        config: of the backbone.
        settings: template, frames and pixels.
    """

    def __init__(self, tokenizer: Any, config: Any, settings: VideoRewardSettings) -> None:
        tokens = [reward_token(name) for name in settings.dimensions] if settings.pooling == "special" else []
        tokenizer.add_tokens(tokens, special_tokens=True)
        self.tokenizer = tokenizer
        self.settings = settings
        self.layout = patch_layout(config)
        self.reward_ids: tuple[int, ...] = tuple(tokenizer.convert_tokens_to_ids(tokens))
        """Of the reward tokens, by dimension; () for pooling at the last token."""
        self._family = family_of(config)
        self._special = tuple(tokenizer.get_added_vocab())

    def look(self, video: Tensor, fps: float, device: torch.device | None = None) -> Patches:
        """Sample, resize and cut a video; the part worth caching, the same for every prompt.

        Args:
            video: (F, 3, H, W), float in [0, 1], F at least 2.
            fps: frames per second of the video.
            device: where it is resized; None is the video's.
        Returns:
            Its patches: uint8, or float with a gradient where `video` requires one.
        Raises:
            ReelignError: too few frames or a frame too long.
        """
        return look(video, fps, settings=self.settings.clips, layout=self.layout, device=device)

    def read(self, seen: Patches, prompt: str) -> list[int]:
        """The token ids of the question about a video.

        Raises:
            ReelignError: the prompt holds a special token.
        """
        question = fill(self.settings.template, prompt, self._special)
        video = video_text(seen, family=self._family, merge_size=self.layout.merge_size)
        ids: list[int] = self.tokenizer(chat_text(video + question, family=self._family))["input_ids"]
        return ids

    def batch(self, seen: Sequence[Patches], prompts: Sequence[str]) -> ClipBatch:
        """B videos with their prompts, of any lengths and sizes, for one forward call."""
        ids = [self.read(patches, prompt) for patches, prompt in zip(seen, prompts, strict=True)]
        return collate(seen, ids, pad=self.tokenizer.pad_token_id)
