"""DPO on segments of a pair, each with a label of its own."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def segment_dpo_loss(error: Tensor, ref_error: Tensor, label: Tensor, *, beta: float | Tensor) -> Tensor:
    """DPO loss of each pair as the mean over its labelled segments.

    DenseDPO (Wu et al. 2025, arXiv:2506.03517) for segments in time; regions in space-time are the same with other
    masks. A segment may speak against the pair's own order, and one without a preference does not count:

        mean over labelled s of  -log σ( -β/2 · label_s · [ (e_s0 - ref_s0) - (e_s1 - ref_s1) ] )

    We take the mean where the paper sums, so that β and the learning rate do not depend on how many segments there
    are; one segment labelled 1 is `dpo_loss`.

    Args:
        error: (pairs, segments, 2) the policy's mean squared error over each segment's elements, of both videos.
        ref_error: the same for the reference.
        label: (pairs, segments) 1 where video 0 is better, -1 where video 1 is, 0 for a tie or no label.
        beta: > 0, or (pairs,); as in `dpo_loss`.
    Returns:
        (pairs,) loss.
    Raises:
        ValueError: shapes that do not fit, other labels, or a pair without a labelled segment.
    """
    if error.shape != ref_error.shape or error.ndim != 3 or error.shape[2] != 2:
        raise ValueError(
            f"errors must both be (pairs, segments, 2), got {tuple(error.shape)} and {tuple(ref_error.shape)}"
        )
    if label.shape != error.shape[:2]:
        raise ValueError(f"label must be (pairs, segments) = {tuple(error.shape[:2])}, got {tuple(label.shape)}")
    if not bool(((label == 0) | (label.abs() == 1)).all()):
        raise ValueError("a label must be 1, -1 or 0")
    counted = label.abs().sum(dim=1)
    if bool((counted == 0).any()):
        raise ValueError("a pair without a labelled segment holds no preference; leave it out")
    first, second = (error - ref_error).unbind(dim=2)
    strength = beta[:, None] if isinstance(beta, Tensor) else beta
    loss = -F.logsigmoid(0.5 * strength * label * (second - first))
    return (loss * label.abs()).sum(dim=1) / counted


def temporal_segments(num_frames: int, num_segments: int) -> Tensor:
    """Masks of equal stretches of time, (segments, 1, 1, frames, 1, 1), as `velocity_errors` takes them.

    Counted in latent frames; where the number does not divide, lengths differ by one frame.
    """
    if not 1 <= num_segments <= num_frames:
        raise ValueError(f"num_segments must be between 1 and the {num_frames} latent frames, got {num_segments}")
    own = torch.arange(num_frames) * num_segments // num_frames
    return (own[None] == torch.arange(num_segments)[:, None]).float().reshape(num_segments, 1, 1, num_frames, 1, 1)
