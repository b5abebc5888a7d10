"""VideoReward's model: a Qwen-VL backbone, a reward token per dimension, a head read at those tokens.

Liu et al. 2025, Improving Video Generation with Human Feedback (arXiv:2501.13918), section 3 and fig. 3. Unlike the
authors' code the reward tokens are a parameter of their own, written into the input embeddings: training them needs no
gradient, optimiser state or copy of the whole embedding table. The head is applied to the tokens' states alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor, nn

from reelign.errors import ReelignError
from reelign.rewards.qwen_vision import ClipSettings, Patches, look
from reelign.rewards.qwen_vl import (
    ClipBatch,
    Positions,
    chat_text,
    collate,
    family_of,
    hidden_states,
    patch_layout,
)
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

    def look(self, video: Tensor, fps: float) -> Patches:
        """Sample, resize and cut a video; the part worth caching, the same for every prompt.

        Args:
            video: (F, 3, H, W), float in [0, 1], F at least 2.
            fps: frames per second of the video.
        Returns:
            Its patches: uint8, or float with a gradient where `video` requires one.
        Raises:
            ReelignError: too few frames or a frame too long.
        """
        return look(video, fps, settings=self.settings.clips, layout=self.layout)

    def read(self, seen: Patches, prompt: str) -> list[int]:
        """The token ids of the question about a video.

        Raises:
            ReelignError: the prompt holds a special token.
        """
        question = fill(self.settings.template, prompt, self._special)
        text = chat_text(question, seen, family=self._family, merge_size=self.layout.merge_size)
        ids: list[int] = self.tokenizer(text)["input_ids"]
        return ids

    def batch(self, seen: Sequence[Patches], prompts: Sequence[str]) -> ClipBatch:
        """B videos with their prompts, of any lengths and sizes, for one forward call."""
        ids = [self.read(patches, prompt) for patches, prompt in zip(seen, prompts, strict=True)]
        return collate(seen, ids, pad=self.tokenizer.pad_token_id)


class VideoRewardModel(nn.Module):
    """From a batch of videos with prompts to raw scores.

    Args:
        backbone: Qwen2VLModel, Qwen2_5_VLModel or Qwen3VLModel, with its weights; `backbone.visual` is the vision
            tower, `backbone.language_model` takes LoRA, `backbone.gradient_checkpointing_enable()` saves memory.
        tokenizer: the backbone's.
        settings: kept with the weights.
        generator: on the CPU, draws head and reward tokens; None seeds one with 0.
    """

    backbone: Any
    reward_tokens: nn.Parameter | None
    """(dimensions, hidden) input embeddings of the reward tokens; None for pooling at the last token."""
    head: nn.Linear
    """hidden → settings.head_width, no bias."""

    def __init__(
        self,
        backbone: nn.Module,
        tokenizer: Any,
        settings: VideoRewardSettings,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.settings = settings
        self.preparer = ClipPreparer(tokenizer, self.backbone.config, settings)
        table = self.backbone.get_input_embeddings().weight
        generator = generator or torch.Generator().manual_seed(0)
        hidden, dimensions = table.shape[1], len(settings.dimensions)
        self.head = nn.Linear(hidden, settings.head_width, bias=False, device=table.device, dtype=table.dtype)
        with torch.no_grad():
            self.head.weight.copy_(0.02 * torch.randn(self.head.weight.shape, generator=generator))
        self.reward_tokens = None
        if settings.pooling == "special":
            # As long as the words of the text are, so that the first layers treat them alike.
            drawn = torch.randn(dimensions, hidden, generator=generator) * table.detach().float().std().cpu()
            self.reward_tokens = nn.Parameter(drawn.to(table))

    @property
    def device(self) -> torch.device:
        return self.head.weight.device

    def forward(self, batch: ClipBatch) -> Tensor:
        """Raw scores, higher is better, before any normalisation.

        Args:
            batch: B videos with prompts, on the model's device.
        Returns:
            (B, dimensions) float32, in the order of `settings.dimensions`.
        """
        states = hidden_states(self.backbone, batch, self._embed(batch), positions=self.settings.positions)
        read = self._read_at(batch, states)
        scores: Tensor = self.head(read.to(self.head.weight.dtype)).float()
        if self.settings.pooling == "last":
            return scores
        return scores.squeeze(2) if self.settings.head_width == 1 else scores.diagonal(dim1=1, dim2=2)

    def _embed(self, batch: ClipBatch) -> Tensor:
        """(B, L, hidden) input embeddings, the reward tokens' from their own parameter."""
        table: nn.Embedding = self.backbone.get_input_embeddings()
        if self.reward_tokens is None:
            plain: Tensor = table(batch.input_ids)
            return plain
        is_token = self._is_reward_token(batch)
        # A reward token's id may lie behind the table's end.
        words: Tensor = table(batch.input_ids.masked_fill(is_token.any(2), 0))
        own = is_token.to(self.reward_tokens.dtype) @ self.reward_tokens
        return torch.where(is_token.any(2, keepdim=True), own.to(words.dtype), words)

    def _read_at(self, batch: ClipBatch, states: Tensor) -> Tensor:
        """The states that scores are read from: (B, dimensions, hidden), or (B, hidden) of the last tokens."""
        rows = torch.arange(len(batch), device=states.device)
        if self.settings.pooling == "last":
            return states[rows, batch.attention_mask.sum(1) - 1]
        places = self._is_reward_token(batch).int().argmax(1)
        return states[rows[:, None], places]

    def _is_reward_token(self, batch: ClipBatch) -> Tensor:
        """(B, L, dimensions) bool."""
        ids = torch.tensor(self.preparer.reward_ids, device=batch.input_ids.device)
        return batch.input_ids[..., None] == ids


def from_backbone(
    source: str,
    settings: VideoRewardSettings | None = None,
    *,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
    seed: int = 0,
) -> VideoRewardModel:
    """A model to train: a pretrained backbone, with reward tokens and a head drawn from `seed`.

    Args:
        source: hub id or folder of a Qwen2-VL, Qwen2.5-VL or Qwen3-VL checkpoint.
        settings: None gives VideoReward's dimensions and template with the backbone's own positions (M-RoPE), which
            its weights know; VideoReward's sequential ones are asked for by settings.
        device, dtype: of the weights.
        seed: for what is drawn.
    Raises:
        ReelignError: another kind of model, or weights that are missing from it.
    """
    raise NotImplementedError
