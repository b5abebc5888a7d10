"""The temporal half of Open-Sora 1.2's VAE: 4 latent frames of single pictures become one, by causal convolutions.

Written from the report's description (a 3D VAE after MAGVIT-v2, Yu et al. 2023, arXiv:2310.05737, §3.1, that keeps the
spatial size) and the released weights' key names and shapes (Open-Sora v1.2.0, opensora/models/vae/vae_temporal.py).
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn


class CausalConv(nn.Module):
    """A convolution over (B, C, F, H, W) that sees no later frame: zeros stand before the first."""

    def __init__(self, channels: int, out: int, kernel: int, *, stride: int = 1, bias: bool = True) -> None:
        super().__init__()
        side = kernel // 2
        self.padding = (side, side, side, side, kernel - stride, 0)
        self.conv = nn.Conv3d(channels, out, kernel, stride=(stride, 1, 1), bias=bias)

    def forward(self, features: Tensor) -> Tensor:
        """(B, channels, F, H, W) -> (B, out, ceil(F / stride), H, W), none from frames to come."""
        found: Tensor = self.conv(F.pad(features, self.padding))
        return found


class TemporalResBlock(nn.Module):
    """Two causal convolutions, each behind a norm and SiLU, beside what they are given."""

    def __init__(self, channels: int, out: int, groups: int) -> None:
        super().__init__()
        self.norm1 = nn.GroupNorm(groups, channels)
        self.conv1 = CausalConv(channels, out, 3, bias=False)
        self.norm2 = nn.GroupNorm(groups, out)
        self.conv2 = CausalConv(out, out, 3, bias=False)
        if channels != out:
            self.conv3 = CausalConv(channels, out, 1, bias=False)

    def forward(self, features: Tensor) -> Tensor:
        """(B, channels, F, H, W) -> (B, out, F, H, W)."""
        found: Tensor = self.conv1(F.silu(self.norm1(features)))
        found = self.conv2(F.silu(self.norm2(found)))
        return found + (self.conv3(features) if hasattr(self, "conv3") else features)


class TemporalEncoder(nn.Module):
    """(B, channels, F, H, W) -> (B, out, F / 2^halvings, H, W).

    Args:
        widths: of each level.
        blocks: residual blocks a level, and behind the last.
        halves: for each level but the last, whether it halves the frames.
    """

    def __init__(
        self, channels: int, out: int, widths: list[int], blocks: int, halves: tuple[bool, ...], groups: int
    ) -> None:
        super().__init__()
        self.conv_in = CausalConv(channels, widths[0], 3, bias=False)
        before = [widths[0], *widths]
        self.block_res_blocks = nn.ModuleList(
            nn.ModuleList(TemporalResBlock(before[level] if not row else width, width, groups) for row in range(blocks))
            for level, width in enumerate(widths)
        )
        self.conv_blocks = nn.ModuleList(
            CausalConv(width, width, 3, stride=2) if halve else nn.Identity()
            for width, halve in zip(widths, halves, strict=False)
        )
        self.res_blocks = nn.ModuleList(TemporalResBlock(widths[-1], widths[-1], groups) for _ in range(blocks))
        self.norm1 = nn.GroupNorm(groups, widths[-1])
        self.conv2 = CausalConv(widths[-1], out, 1)

    def forward(self, features: Tensor) -> Tensor:
        """(B, channels, F, H, W) -> (B, out, F / 2^halvings, H, W)."""
        features = self.conv_in(features)
        for level, blocks in enumerate(self.block_res_blocks):
            assert isinstance(blocks, nn.ModuleList)
            for block in blocks:
                features = block(features)
            if level < len(self.conv_blocks):
                features = self.conv_blocks[level](features)
        for block in self.res_blocks:
            features = block(features)
        found: Tensor = self.conv2(F.silu(self.norm1(features)))
        return found


class TemporalDecoder(nn.Module):
    """The way back: (B, latent channels, f, H, W) -> (B, out, f · 2^doublings, H, W); arguments as the encoder's."""

    def __init__(
        self, latent_channels: int, out: int, widths: list[int], blocks: int, halves: tuple[bool, ...], groups: int
    ) -> None:
        super().__init__()
        self.halves = halves
        self.conv1 = CausalConv(latent_channels, widths[-1], 3)
        self.res_blocks = nn.ModuleList(TemporalResBlock(widths[-1], widths[-1], groups) for _ in range(blocks))
        above = [*widths[1:], widths[-1]]
        self.block_res_blocks = nn.ModuleList(
            nn.ModuleList(TemporalResBlock(above[level] if not row else width, width, groups) for row in range(blocks))
            for level, width in enumerate(widths)
        )
        # Entry k stands between the levels k + 1 and k.
        self.conv_blocks = nn.ModuleList(
            CausalConv(width, 2 * width, 3) if halve else nn.Identity()
            for width, halve in zip(widths[1:], halves, strict=False)
        )
        self.norm1 = nn.GroupNorm(groups, widths[0])
        self.conv_out = CausalConv(widths[0], out, 3)

    def forward(self, latents: Tensor) -> Tensor:
        """(B, latent channels, f, H, W) -> (B, out, f · 2^doublings, H, W)."""
        features = self.conv1(latents)
        for block in self.res_blocks:
            features = block(features)
        for level in reversed(range(len(self.block_res_blocks))):
            blocks = self.block_res_blocks[level]
            assert isinstance(blocks, nn.ModuleList)
            for block in blocks:
                features = block(features)
            if level and self.halves[level - 1]:
                # Twice the channels, neighbours side by side, become twice the frames.
                pairs = self.conv_blocks[level - 1](features).unflatten(1, (-1, 2))
                features = pairs.transpose(2, 3).flatten(2, 3)
        found: Tensor = self.conv_out(F.silu(self.norm1(features)))
        return found


class TemporalVAE(nn.Module):
    """Encoder to means and log variances, decoder from latents; any number of frames that `stride` divides."""

    def __init__(self, channels: int, widths: list[int], blocks: int, halves: tuple[bool, ...], groups: int) -> None:
        super().__init__()
        self.stride = 2 ** sum(halves)
        self.encoder = TemporalEncoder(channels, 2 * channels, widths, blocks, halves, groups)
        self.quant_conv = CausalConv(2 * channels, 2 * channels, 1)
        self.post_quant_conv = CausalConv(channels, channels, 1)
        self.decoder = TemporalDecoder(channels, channels, widths, blocks, halves, groups)

    def moments(self, features: Tensor) -> Tensor:
        """(B, C, F, H, W) -> (B, 2 C, f, H, W) means and log variances; zeros fill the frames up from before."""
        fill = -features.shape[2] % self.stride
        found: Tensor = self.quant_conv(self.encoder(F.pad(features, (0, 0, 0, 0, fill, 0))))
        return found

    def decode(self, latents: Tensor) -> Tensor:
        """(B, C, f, H, W) -> (B, C, f · stride, H, W), the frames that were filled in still before the others."""
        found: Tensor = self.decoder(self.post_quant_conv(latents))
        return found
