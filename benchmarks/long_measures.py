"""What happens at the joints of long videos of the small world, by its own estimates of where the shape is and how it
looks; nothing here is trained on.

With p_f the shape's place and radius of gyration in frame f (px), and j a joint:

    kick   |p_{j+1} - 2 p_j + p_{j-1}|                                 in one frame, px
    turn   |(p_{j+3} - p_j) / 3 - (p_j - p_{j-3}) / 3|                 of the velocity, px a frame
    tint   |mean colour of frames j+1 to j+3 - that of j-2 to j|       of shape and background, in [0, 1]

each at the joints and, for comparison, at the middles of segments, where nothing is joined. All are 0 at best.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from small_i2v import FRAMES, SEGMENTS
from small_vjepa import WINDOW
from torch import Tensor

from reelign.rewards import Reward
from reelign.rewards.joints import Joints
from reelign.spriteworld.judges import Tracks, scores, tracked
from reelign.video.long_clips import LongClip

CLIP = LongClip(SEGMENTS, FRAMES)
MIDDLES = [joint - (FRAMES - 1) // 2 for joint in (*CLIP.joints, CLIP.length - 1)]
REACH = 3
JUMPS = ("kick", "turn", "tint")


def measures(videos: Tensor, prompts: Sequence[str], vjepa: Reward) -> dict[str, Tensor]:
    """Of long videos (B, 25, 3, 32, 32): name to (B,).

    `JUMP over` and `JUMP inside`; `V-JEPA over` and `V-JEPA inside`, the masked prediction's score of the windows;
    `MQ over`, the true judge's of the same windows; `VQ 1` to `TA 3`, the true judges' of each segment.
    """
    parts = [_jumps(tracks) for _, tracks in tracked(videos)]
    found = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
    windows = Joints(reward=vjepa, segments=SEGMENTS, segment_frames=FRAMES, frames=WINDOW, compare=True)
    with torch.no_grad():
        told = windows.score(videos, prompts)
    found |= {"V-JEPA over": told["across"], "V-JEPA inside": told["within"]}
    over = [scores(videos[:, window], prompts)["MQ"] for window in CLIP.over_joints(WINDOW)]
    found["MQ over"] = torch.stack(over).mean(dim=0)
    for segment in range(SEGMENTS):
        start = segment * (FRAMES - 1)
        own = scores(videos[:, start : start + FRAMES], prompts)
        found |= {f"{name} {segment + 1}": value for name, value in own.items()}
    return found


def _jumps(tracks: Tracks) -> dict[str, Tensor]:
    pose = torch.cat([tracks.centroid, tracks.gyration[..., None]], dim=-1)
    look = torch.cat([tracks.colour, tracks.ground], dim=-1)
    found = {}
    for where, places in (("over", CLIP.joints), ("inside", MIDDLES)):
        found[f"kick {where}"] = _mean([pose[:, j + 1] - 2 * pose[:, j] + pose[:, j - 1] for j in places])
        found[f"turn {where}"] = _mean(
            [(pose[:, j + REACH] - 2 * pose[:, j] + pose[:, j - REACH]) / REACH for j in places]
        )
        after = [look[:, j + 1 : j + 1 + REACH].mean(dim=1) for j in places]
        before = [look[:, j + 1 - REACH : j + 1].mean(dim=1) for j in places]
        found[f"tint {where}"] = _mean([one - other for one, other in zip(after, before, strict=True)])
    return found


def _mean(differences: list[Tensor]) -> Tensor:
    """Mean length of differences (B, D), (B,)."""
    return torch.stack([each.norm(dim=-1) for each in differences]).mean(dim=0)
