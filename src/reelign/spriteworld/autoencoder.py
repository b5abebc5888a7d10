"""A Wan autoencoder in closed form: 8x8 pixels by 4 frames become one latent vector, and no gradient step is taken.

The encoder is principal component analysis in two stages. Stage one turns 4x4 pixels of a frame into `codes`
coefficients, and two frames into the mean and the half difference of theirs; stage two does the same to 2x2 such blocks
and two such pairs; a last projection gives the latent. The network treats the first frame on its own and skips what
joins frames, so it passes for a video that stands still: mean as it is, no difference.

The decoder inverts this, against two habits of the architecture:

- Every nonlinear step is an RMS norm and a SiLU. One channel of a huge value makes the norm a constant, which the
  norm's gain undoes; OFFSET lifts the others into SiLU's linear range, and the next convolution subtracts it.
- It enlarges by repeating each cell 2x2, and a convolution cannot tell the four copies apart. Two channels count
  columns and rows (1, 2, 3, ... times STEP); after the repetition, a cell minus its left neighbour is STEP on even
  columns and 0 on odd ones. The counts come from zero padding: each convolution that adds STEP to a cell's left
  neighbour counts one column further. Six of them count to 7, so frames may be up to 56 pixels wide and high.

What differs between the four copies is gated: a hidden channel holds a coefficient plus OFFSET on the copies that want
it and a negative number, which SiLU sets to zero, on the others. Any function of the copy is a sum of four parts: one
for all copies, one for even columns, one for even rows, one for both.

Half precision holds all weights exactly, so storing them in it changes nothing; computing takes float32.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from diffusers import AutoencoderKLWan
from diffusers.models.autoencoders.autoencoder_kl_wan import WanRMS_norm, patchify
from torch import Tensor, nn

from reelign.errors import ReelignError

PATCH = 2
"""Pixels of a cell's side; the network proper sees cells of `CELL` numbers."""
CELL = 3 * PATCH**2
OFFSET = 24.0
REACH = 8.0
"""Coefficients are scaled into [-REACH, REACH]; from OFFSET - REACH upwards SiLU is linear to 2e-6."""
STEP = 16.0
SHUT = 48.0
"""What a shut gate subtracts: OFFSET + REACH - SHUT is as far below zero as SiLU needs to be zero."""
PIXEL_SCALE = 4.0
STRONGEST = 2.0
"""Largest standard deviation of a normalised latent channel, before all are scaled to a mean square of 1."""
GATES = ((0, 1), (1, 0), (1, 1))
"""(even row, even column) that open the three gates."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Projection:
    """coefficients = (data - mean) @ basis / scale, and back: coefficients * scale @ basis.T + mean."""

    mean: Tensor
    """(inputs,)"""
    basis: Tensor
    """(inputs, outputs), orthonormal columns by falling variance."""
    scale: float
    spread: Tensor
    """(outputs,) standard deviation of each coefficient."""

    def __call__(self, data: Tensor) -> Tensor:
        return (data - self.mean) @ self.basis / self.scale


@dataclass(frozen=True, kw_only=True, slots=True)
class Analysis:
    """What `videos` teach: one projection for each stage."""

    block: Projection
    """2x2 cells (4x4 pixels) of one frame, to `codes`."""
    pair: Projection
    """2x2 blocks of mean and half difference of two frames, to `codes`."""
    chunk: Projection
    """Mean and half difference of two pairs, to the latent."""


def build_autoencoder(
    videos: Tensor, *, latent_channels: int = 48, width: int = 64, spectrum: float = 0.5
) -> AutoencoderKLWan:
    """The autoencoder for videos like these, in float32 and evaluation mode.

    Args:
        videos: (B, 4k + 1, 3, H, W) in [0, 1], H and W multiples of 8; a few hundred suffice.
        latent_channels: at most `width - 6`; 8x8 pixels by 4 frames are 768 numbers.
        width: channels of the decoder; half of them, less three, are the coefficients of a pair of frames.
        spectrum: the standard deviation of a latent channel, once the pipeline has normalised it by the config's
            `latents_mean` and `latents_std`, is proportional to its own to this power; 0 would whiten.
    Raises:
        ReelignError: the videos or the sizes do not fit the network.
    """
    batch_shape = tuple(videos.shape)
    if videos.ndim != 5 or batch_shape[1] % 4 != 1 or batch_shape[2] != 3 or batch_shape[3] % 8 or batch_shape[4] % 8:
        raise ReelignError(
            f"an autoencoder cannot be built from videos of shape {batch_shape}.",
            "Give (batch, 4k + 1 frames, 3, height, width) with height and width multiples of 8.",
        )
    codes = width // 2 - 3
    if width % 2 or codes < CELL or not 2 <= latent_channels <= 2 * codes:
        raise ReelignError(
            f"an autoencoder of width {width} cannot have {latent_channels} latent channels.",
            f"Choose an even width of at least {2 * CELL + 6}, and 2 to {2 * codes} latent channels for this one.",
        )
    found = analyse(videos, codes=codes, latent_channels=latent_channels)
    # Normalised variances average to 1 over the channels, the scale of the noise that they are mixed with.
    # The first channel, the background, is capped: it would be plain to see under almost any noise.
    kept = found.chunk.spread**spectrum
    kept = (kept / kept.square().mean().sqrt()).clamp(max=STRONGEST)
    latents_std = found.chunk.spread / (kept / kept.square().mean().sqrt())
    vae: Any = AutoencoderKLWan(
        base_dim=2 * codes + 2,
        decoder_base_dim=width,
        z_dim=latent_channels,
        dim_mult=[1, 1, 1],
        num_res_blocks=0,
        temperal_downsample=[True, True],
        latents_mean=[0.0] * latent_channels,
        latents_std=[round(value, 6) for value in latents_std.tolist()],
        in_channels=CELL,
        out_channels=CELL,
        patch_size=PATCH,
        scale_factor_temporal=4,
        scale_factor_spatial=4 * PATCH,
    )
    with torch.no_grad():
        for parameter in vae.parameters():
            parameter.zero_()
        write_encoder(vae, found)
        write_decoder(vae, found)
    built: AutoencoderKLWan = vae.eval().requires_grad_(False)
    return built


# ---- analysis: everything in float64, channels last


def analyse(videos: Tensor, *, codes: int, latent_channels: int) -> Analysis:
    """Principal components of blocks, pairs and chunks of the videos (B, F, 3, H, W) in [0, 1]."""
    pixels = videos.double().transpose(1, 2) * 2 - 1
    cells = patchify(pixels, PATCH).permute(0, 2, 3, 4, 1)
    blocks = gather(cells)
    block = principal(blocks, codes)
    pairs = gather(joined(block(blocks)))
    pair = principal(pairs, codes)
    chunks = joined(pair(pairs))
    chunk = principal(chunks, latent_channels)
    return Analysis(block=block, pair=pair, chunk=chunk)


def gather(grid: Tensor) -> Tensor:
    """(B, F, H, W, C) to (B, F, H / 2, W / 2, 4C): 2x2 neighbours, row by row."""
    b, f, h, w, c = grid.shape
    return grid.reshape(b, f, h // 2, 2, w // 2, 2, c).transpose(3, 4).reshape(b, f, h // 2, w // 2, 4 * c)


def joined(frames: Tensor) -> Tensor:
    """(B, 2n + 1, H, W, C) to (B, n + 1, H, W, 2C): mean and half difference of two frames, the first one doubled."""
    frames = torch.cat([frames[:, :1], frames], dim=1)
    first, second = frames[:, 0::2], frames[:, 1::2]
    return torch.cat([first + second, second - first], dim=-1) / 2


def principal(data: Tensor, count: int) -> Projection:
    """The `count` directions of largest variance of (..., C), scaled so that coefficients stay within REACH."""
    rows = data.flatten(0, -2)
    mean = rows.mean(dim=0)
    basis = torch.linalg.eigh((rows - mean).T @ (rows - mean)).eigenvectors.flip(1)[:, :count]
    # The sign of an eigenvector is arbitrary; this one makes the latents the same on every machine.
    basis = basis * basis.gather(0, basis.abs().argmax(dim=0, keepdim=True)).sign()
    coefficients = (rows - mean) @ basis
    scale = float(coefficients.abs().max()) / REACH
    return Projection(mean=mean, basis=basis, scale=scale, spread=coefficients.std(dim=0) / scale)


# ---- writing weights


def half(values: Tensor) -> Tensor:
    """The nearest numbers that half precision can hold, in float64."""
    return values.to(torch.float16).double()


def open_norms(module: nn.Module) -> float:
    """Set every RMS norm's gain to undo its division by the huge channel, and return the value to put into that.

    A norm divides by the length, about the huge value, and multiplies by sqrt(channels) * gain; of the values between
    30000 and 60000, this one lets half precision hold it and all the gains with the least error.
    """
    norms = [part for part in module.modules() if isinstance(part, WanRMS_norm)]
    values = half(torch.arange(30000.0, 60000.0, 32.0))
    quotients = values / torch.tensor([[norm.scale] for norm in norms], dtype=torch.float64)
    huge = float(values[(half(quotients) / quotients - 1).abs().amax(dim=0).argmin()])
    for norm in norms:
        norm.gamma.fill_(huge / norm.scale)
        norm.gamma.copy_(half(norm.gamma))
    return huge


def tap(conv: Any, dy: int = 0, dx: int = 0, dt: int = 0) -> Tensor:
    """The (out, in) weights a convolution applies to the neighbour (dy, dx), `dt` frames before the newest; a view."""
    weight: Tensor = conv.weight
    if weight.ndim == 5:
        weight = weight[:, :, weight.shape[2] - 1 - dt]
    return weight[:, :, weight.shape[2] // 2 + dy, weight.shape[3] // 2 + dx]


def balance(conv: Any, wanted: Tensor, constants: Tensor, huge_channel: int) -> None:
    """Set the bias of the first outputs so that they are `wanted` when the inputs are `constants`.

    The bias is rounded to half precision; what the rounding drops goes through the huge channel, whose weights resolve
    a few thousandths of the unit.
    """
    rows = len(wanted)
    missing = wanted - tap(conv)[:rows].double() @ constants
    bias = half(missing)
    conv.bias[:rows] = bias
    tap(conv)[:rows, huge_channel] = half((missing - bias) / constants[huge_channel])


# ---- encoder


def write_encoder(vae: Any, found: Analysis) -> None:
    """conv_in passes cells on; two (gather, join) stages; constants enter in the last block before the only SiLU."""
    encoder, codes = vae.encoder, found.block.basis.shape[1]
    shrink_block, shrink_pair = encoder.down_blocks
    tap(encoder.conv_in)[:CELL] = torch.eye(CELL)
    write_shrinking(shrink_block, found.block)
    write_shrinking(shrink_pair, found.pair)
    channels = encoder.conv_out.weight.shape[1]
    huge = open_norms(encoder)
    constants = torch.zeros(channels, dtype=torch.float64)
    constants[: 2 * codes], constants[2 * codes] = OFFSET, huge
    encoder.mid_block.resnets[1].conv2.bias.copy_(constants)
    latent = found.chunk.basis.shape[1]
    tap(encoder.conv_out)[:latent, : 2 * codes] = half(found.chunk.basis.T / found.chunk.scale)
    balance(encoder.conv_out, -found.chunk.mean @ found.chunk.basis / found.chunk.scale, constants, 2 * codes)
    # The variance of the posterior: none.
    encoder.conv_out.bias[latent:] = -30.0
    for conv in (vae.quant_conv, vae.post_quant_conv):
        tap(conv).copy_(torch.eye(conv.weight.shape[0]))


def write_shrinking(resample: Any, projection: Projection) -> None:
    """Project 2x2 neighbours, then turn two frames into mean and half difference."""
    space, time = resample.resample[1], resample.time_conv
    codes, size = projection.basis.shape[1], projection.basis.shape[0] // 4
    matrix = half(projection.basis.T / projection.scale)
    for quadrant in range(4):
        # Stride 2 and padding at the far end only: the window starts at the first of the two rows and columns.
        columns = matrix[:, quadrant * size : (quadrant + 1) * size]
        tap(space, quadrant // 2 - 1, quadrant % 2 - 1)[:codes, :size] = columns
    space.bias[:codes] = half(-matrix @ projection.mean)
    for dt, sign in ((1, -1.0), (0, 1.0)):
        tap(time, dt=dt)[:codes, :codes] = torch.eye(codes) / 2
        tap(time, dt=dt)[codes : 2 * codes, :codes] = sign * torch.eye(codes) / 2


# ---- decoder: coefficients first, then the huge channel, the column count and the row count


def write_decoder(vae: Any, found: Analysis) -> None:
    """conv_in gives mean and difference of two pairs; (split in time, repeat, gate) twice; conv_out gives cells."""
    decoder, codes = vae.decoder, found.block.basis.shape[1]
    huge = open_norms(decoder)
    extras = 2 * codes
    tap(decoder.conv_in)[:extras] = half(found.chunk.basis * found.chunk.scale)
    decoder.conv_in.bias[:extras] = half(found.chunk.mean)
    decoder.conv_in.bias[extras] = huge
    decoder.conv_in.bias[extras + 1 : extras + 3] = STEP
    first, second, third = decoder.up_blocks
    for resnet in (*decoder.mid_block.resnets, first.resnets[0]):
        write_counting(resnet, extras)
    write_growing(first.upsamplers[0], codes)
    write_placing(second.resnets[0], found.pair, huge=huge)
    write_growing(second.upsamplers[0], codes)
    write_placing(third.resnets[0], found.block, huge=huge, scale=PIXEL_SCALE, offset=OFFSET)
    constants = torch.zeros(decoder.conv_out.weight.shape[1], dtype=torch.float64)
    constants[:CELL], constants[CELL] = OFFSET, huge
    tap(decoder.conv_out)[:CELL, :CELL] = torch.eye(CELL) / PIXEL_SCALE
    balance(decoder.conv_out, torch.zeros(CELL, dtype=torch.float64), constants, CELL)


def write_counting(resnet: Any, extras: int) -> None:
    """Lengthen both counts by two: count becomes STEP + left neighbour of (STEP + left neighbour of count)."""
    conv1, conv2 = resnet.conv1, resnet.conv2
    tap(conv1)[extras, extras] = 1
    for axis, (dy, dx) in enumerate(((0, -1), (-1, 0))):
        count = extras + 1 + axis
        tap(conv1, dy, dx)[count, count] = 1
        tap(conv2, dy, dx)[count, count] = 1
        # The residual connection adds the old count, so a copy of it is taken off.
        tap(conv1)[axis, count] = 1
        tap(conv2)[count, axis] = -1
        for conv in (conv1, conv2):
            conv.bias[count] = STEP


def write_growing(resample: Any, codes: int) -> None:
    """Split mean and half difference into two frames, then repeat every cell 2x2 and lift coefficients by OFFSET."""
    time, space = resample.time_conv, resample.resample[1]
    width, extras = time.weight.shape[1], 2 * codes
    for half_of_outputs, sign in ((0, -1.0), (width, 1.0)):
        rows = tap(time)[half_of_outputs : half_of_outputs + width]
        rows[:codes, :codes] = torch.eye(codes)
        rows[:codes, codes:extras] = sign * torch.eye(codes)
        rows[extras : extras + 3, extras : extras + 3] = torch.eye(3)
    tap(space)[:codes, :codes] = torch.eye(codes)
    tap(space)[codes : codes + 3, extras : extras + 3] = torch.eye(3)
    space.bias[:codes] = OFFSET


def write_placing(resnet: Any, projection: Projection, *, huge: float, scale: float = 1.0, offset: float = 0.0) -> None:
    """Give each of the four copies of a cell its own part of what the coefficients stand for, and continue the counts.

    Outputs are the projection's inputs of one quadrant, times `scale` plus `offset`.
    """
    conv1, conv2, shortcut = resnet.conv1, resnet.conv2, resnet.conv_shortcut
    codes, width = projection.basis.shape[1], conv1.weight.shape[0]
    (base, *steps), (base_mean, *step_means) = by_copy(projection, scale)
    outputs = base.shape[0]
    constants = torch.zeros(codes + 3, dtype=torch.float64)
    constants[:codes], constants[codes] = OFFSET, huge
    tap(shortcut)[:outputs, :codes] = half(base)
    tap(shortcut)[outputs, codes] = 1
    tap(shortcut)[outputs + 1, codes + 1] = tap(shortcut)[outputs + 2, codes + 2] = 2
    balance(shortcut, base_mean + offset, constants, codes)

    # Hidden channels: `rank` coefficients of each gate, the three gates themselves (STEP where open), the huge one.
    rank = min(outputs, codes, (int(width) - 4) // 3)
    gates = 3 * rank
    wanted = torch.zeros(gates + 3, dtype=torch.float64)
    for index, (gate, step, mean) in enumerate(zip(GATES, steps, step_means, strict=True)):
        rows, row = slice(index * rank, (index + 1) * rank), gates + index
        reading, writing = factors(step, projection.spread, rank)
        tap(conv1)[rows, :codes] = reading
        wanted[rows], wanted[row] = OFFSET - SHUT * sum(gate), STEP * (1 - sum(gate))
        for axis, (dy, dx) in enumerate(((0, -1), (-1, 0))):
            if gate[1 - axis]:
                for target, weight in ((rows, SHUT / STEP), (row, 1.0)):
                    tap(conv1)[target, codes + 1 + axis] = weight
                    tap(conv1, dy, dx)[target, codes + 1 + axis] = -weight
        tap(conv2)[:outputs, rows] = writing
        tap(conv2)[:outputs, row] = half((mean - OFFSET * writing.sum(dim=1)) / STEP)
        if index < 2:
            # Twice the repeated count, less one on even columns (rows), counts the new columns (rows).
            tap(conv2)[outputs + 1 + index, row] = -1
    balance(conv1, wanted, constants, codes)
    tap(conv1)[gates + 3, codes] = 1


def by_copy(projection: Projection, scale: float) -> tuple[Tensor, Tensor]:
    """The projection's way back as sums of four: for all copies, and what each of the GATES adds.

    Returns:
        matrices (4, outputs, codes) and means (4, outputs), all times `scale`.
    """
    size = projection.basis.shape[0] // 4
    whole = torch.cat([projection.basis * projection.scale, projection.mean[:, None]], dim=1) * scale
    even, even_row, even_column, odd = whole.reshape(4, size, -1)
    sums = torch.stack([odd, even_column - odd, even_row - odd, even - even_row - even_column + odd])
    return sums[..., :-1], sums[..., -1]


def factors(matrix: Tensor, spread: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    """The best reading (rank, inputs) of unit rows and writing (outputs, rank) with writing @ reading near matrix.

    Best for inputs of the given standard deviations; both factors are exact in half precision.
    """
    left = torch.linalg.svd(matrix * spread).U[:, :rank]
    reading = left.T @ matrix
    norms = reading.norm(dim=1, keepdim=True).clamp(min=1e-6)
    return half(reading / norms), half(left * norms.T)
