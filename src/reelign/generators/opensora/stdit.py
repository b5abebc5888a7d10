"""STDiT3, the denoiser of Open-Sora 1.2 (Zheng et al. 2024, arXiv:2412.20404): blocks in space and over time by turns.

The keys of its weights are those of hpcai-tech/OpenSora-STDiT-v3, its configuration the fields of that model's own that
say anything about its shape. In bf16 it rounds what the model was rounding when it was trained in bf16: timesteps (to
multiples of 4 near 1000), the frequencies of places, angles in time.
"""

from __future__ import annotations

import math
from typing import ClassVar

import torch
import torch.nn.functional as F
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from diffusers.loaders import PeftAdapterMixin
from torch import Tensor, nn

from reelign.generators.opensora.blocks import (
    CaptionEmbedder,
    FinalLayer,
    Rotary,
    STDiT3Block,
    WaveEmbedder,
    frequencies,
)


class PatchEmbedder(nn.Module):
    """Latents (B, C, F, H, W) -> tokens (B, frames, places, width); sides that do not divide are filled with zeros."""

    def __init__(self, patch: tuple[int, int, int], channels: int, width: int) -> None:
        super().__init__()
        self.patch = patch
        self.proj = nn.Conv3d(channels, width, kernel_size=patch, stride=patch)

    def forward(self, latents: Tensor) -> Tensor:
        """(B, C, F, H, W) -> (B, frames, places, width)."""
        over = [-size % patch for size, patch in zip(latents.shape[2:], self.patch, strict=True)]
        padded = F.pad(latents, [0, over[2], 0, over[1], 0, over[0]])
        tokens: Tensor = self.proj(padded).flatten(3).permute(0, 2, 3, 1)
        return tokens


class STDiT3(ModelMixin, ConfigMixin, PeftAdapterMixin):  # type: ignore[misc]
    """Defaults are those of STDiT3-XL/2, 1.1 B weights.

    Args:
        input_sq_size: the side of a square picture, in pixels, at which places are counted one by one.
        in_channels: of the latents; with `pred_sigma` twice as many come out, and the later half is not used.
        patch_size: latents over frames, height and width that make one token.
        hidden_size: width of the tokens, of `depth` pairs of blocks with `num_heads` heads.
        caption_channels: of the text encoder's features.
        model_max_length: tokens of text.
        qk_norm: norms on queries and keys.
    """

    _supports_gradient_checkpointing = True
    _repeated_blocks: ClassVar[list[str]] = ["STDiT3Block"]
    _no_split_modules: ClassVar[list[str]] = ["STDiT3Block"]

    @register_to_config  # type: ignore[untyped-decorator]
    def __init__(
        self,
        input_sq_size: int = 512,
        in_channels: int = 4,
        patch_size: tuple[int, int, int] = (1, 2, 2),
        hidden_size: int = 1152,
        depth: int = 28,
        num_heads: int = 16,
        mlp_ratio: float = 4.0,
        pred_sigma: bool = True,
        caption_channels: int = 4096,
        model_max_length: int = 300,
        qk_norm: bool = True,
    ) -> None:
        super().__init__()
        width, patch = hidden_size, (patch_size[0], patch_size[1], patch_size[2])
        self.gradient_checkpointing = False
        self.out_channels = 2 * in_channels if pred_sigma else in_channels
        self.rope = Rotary(width // num_heads)
        self.x_embedder = PatchEmbedder(patch, in_channels, width)
        self.t_embedder = WaveEmbedder(width)
        self.fps_embedder = WaveEmbedder(width)
        self.t_block = nn.Sequential(nn.SiLU(), nn.Linear(width, 6 * width))
        self.y_embedder = CaptionEmbedder(caption_channels, width, model_max_length)
        inner = int(width * mlp_ratio)
        self.spatial_blocks, self.temporal_blocks = (
            nn.ModuleList(
                STDiT3Block(width, num_heads, inner, normed=qk_norm, over_time=over_time) for _ in range(depth)
            )
            for over_time in (False, True)
        )
        self.final_layer = FinalLayer(width, math.prod(patch) * self.out_channels)

    def forward(
        self,
        hidden_states: Tensor,
        timestep: Tensor,
        encoder_hidden_states: Tensor,
        encoder_attention_mask: Tensor,
        fps: Tensor,
        height: int,
        width: int,
        noisy_frames: Tensor | None = None,
    ) -> tuple[Tensor]:
        """
        Args:
            hidden_states: (B, C, F, H, W) noisy latents.
            timestep: (B,) in [0, 1000], 1000 is pure noise.
            encoder_hidden_states: (B, L, caption_channels) features of the text.
            encoder_attention_mask: (B, L) bool, true where there is text; at least one token a video.
            fps: (B,) frames per second.
            height: of the video in pixels, and `width`: they set the distance between places.
            noisy_frames: (B, F) bool, false for latent frames that are given and bear no noise; None for none of them.
        Returns:
            one tensor (B, C or 2 C, F, H, W): latents minus noise, and with `pred_sigma` as many channels of no use
            behind it.
        """
        dtype = self.x_embedder.proj.weight.dtype
        level = self._level(timestep.to(dtype), fps.to(dtype))[:, None]
        if noisy_frames is not None:
            clean = self._level(torch.zeros_like(timestep, dtype=dtype), fps.to(dtype))[:, None]
            level = torch.where(noisy_frames[:, :, None], level, clean)
        every_block = self.t_block(level).unflatten(-1, (6, -1))
        text = self.y_embedder(encoder_hidden_states.to(dtype))
        mask = encoder_attention_mask.bool()
        frames, rows, columns = self._grid(hidden_states)
        tokens = self.x_embedder(hidden_states.to(dtype)) + self._places(rows, columns, height, width)
        angles = self.rope(frames)
        for pair in zip(self.spatial_blocks, self.temporal_blocks, strict=True):
            for block in pair:
                if torch.is_grad_enabled() and self.gradient_checkpointing:
                    tokens = self._gradient_checkpointing_func(block, tokens, text, mask, every_block, angles)
                else:
                    tokens = block(tokens, text, mask, every_block, angles)
        patches: Tensor = self.final_layer(tokens.flatten(1, 2), level)
        return (self._unpatched(patches, (frames, rows, columns), hidden_states.shape),)

    def _level(self, timestep: Tensor, fps: Tensor) -> Tensor:
        level: Tensor = self.t_embedder(timestep) + self.fps_embedder(fps)
        return level

    def _grid(self, latents: Tensor) -> tuple[int, int, int]:
        """Tokens over frames, height and width."""
        frames, rows, columns = (
            -(-size // patch) for size, patch in zip(latents.shape[2:], self.config.patch_size, strict=True)
        )
        return frames, rows, columns

    def _places(self, rows: int, columns: int, height: int, width: int) -> Tensor:
        """(places, width) waves of each token's column, then of its row.

        The grid is stretched to a square of as many tokens, and its distances are those of a picture of
        `input_sq_size` that was cut as finely.
        """
        weight = self.x_embedder.proj.weight
        waves = frequencies(self.config.hidden_size // 4).to(weight).float()
        side = round((rows * columns) ** 0.5) * self.config.input_sq_size / (height * width) ** 0.5
        y = torch.arange(rows, device=waves.device).float() * (side / rows)
        x = torch.arange(columns, device=waves.device).float() * (side / columns)
        y_angles, x_angles = y[:, None] * waves, x[:, None] * waves
        x_waves = torch.cat([x_angles.sin(), x_angles.cos()], dim=-1).expand(rows, -1, -1)
        y_waves = torch.cat([y_angles.sin(), y_angles.cos()], dim=-1)[:, None].expand(-1, columns, -1)
        return torch.cat([x_waves, y_waves], dim=-1).flatten(0, 1).to(weight.dtype)

    def _unpatched(self, patches: Tensor, grid: tuple[int, int, int], shape: torch.Size) -> Tensor:
        """(B, tokens, values of a patch) -> (B, out, F, H, W), what was filled in cut off."""
        (frames, rows, columns), (p, q, r) = grid, self.config.patch_size
        cells = patches.reshape(len(patches), frames, rows, columns, p, q, r, self.out_channels)
        latents = cells.permute(0, 7, 1, 4, 2, 5, 3, 6).reshape(
            len(patches), self.out_channels, frames * p, rows * q, columns * r
        )
        return latents[:, :, : shape[2], : shape[3], : shape[4]]
