"""VideoReward's model: a Qwen-VL backbone, a reward token per dimension, a head read at those tokens.

Liu et al. 2025, Improving Video Generation with Human Feedback (arXiv:2501.13918), section 3 and fig. 3. Unlike the
authors' code the reward tokens are a parameter of their own, written into the input embeddings: training them needs no
gradient, optimiser state or copy of the whole embedding table. The head is applied to the tokens' states alone.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from reelign.rewards.loading import load_part
from reelign.rewards.qwen_vl import ClipBatch, hidden_states
from reelign.rewards.qwen_vl_weights import load_backbone
from reelign.rewards.videoreward_clips import ClipPreparer, VideoRewardSettings

__all__ = ["ClipPreparer", "VideoRewardModel", "VideoRewardSettings", "from_backbone"]


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
    """A model to train: a pretrained backbone, with reward tokens and a head drawn from `seed`; all weights trainable.

    Args:
        source: hub id or folder of a Qwen2-VL, Qwen2.5-VL or Qwen3-VL checkpoint.
        settings: None gives VideoReward's dimensions and template with the backbone's own positions (M-RoPE), which
            its weights know; VideoReward's sequential ones are asked for by settings.
        device, dtype: of the weights.
        seed: for what is drawn.
    Raises:
        ReelignError: another kind of model, or weights that are missing from it.
    """
    from transformers import AutoTokenizer

    backbone = load_backbone(source, device=device, dtype=dtype).requires_grad_(True)
    tokenizer = load_part(AutoTokenizer, source)
    settings = settings or VideoRewardSettings(positions="multimodal")
    return VideoRewardModel(backbone, tokenizer, settings, torch.Generator().manual_seed(seed)).eval()
