"""The families that one set of tests runs over: how a tiny pipeline of each is saved, and the clips that it makes.

A family whose weights make clips of text alone and of a first frame too stands here in the way that asks more of it;
its other way is compared with its pipeline in its own tests.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from generators.tiny import save_cogvideox, save_modelscope
from generators.tiny_animatediff import save_animatediff
from generators.tiny_cogvideox import save_cogvideox15, save_cogvideox_i2v
from generators.tiny_hunyuan import save_hunyuan
from generators.tiny_hunyuan15 import SIDE, save_hunyuan15
from generators.tiny_hunyuan_i2v import save_hunyuan_i2v
from generators.tiny_ltx import save_ltx
from generators.tiny_mochi import save_mochi
from generators.tiny_opensora import save_opensora
from generators.tiny_svd import save_svd
from generators.tiny_videocrafter2 import save_videocrafter2
from generators.tiny_wan import save_wan
from generators.tiny_wan22 import save_wan22, save_wan22_i2v, save_wan22_ti2v
from generators.tiny_wan_i2v import save_wan_i2v
from reelign.generators import Conditioning, Generator, VideoSize
from reelign.generators.defaults import DEFAULTS_FILE

USUAL = VideoSize(9, 16, 16)


@dataclass(frozen=True)
class Family:
    save: Callable[[Path], object]
    size: VideoSize = USUAL
    """Of its clips here."""
    image: bool = False
    """Whether its clips go on from a first frame here."""
    table: bool = False
    """Whether its noise levels are a DDPM table."""
    slow: bool = False
    rate: float = 2e-2
    """Of learning, in the steps of its tests."""
    bound: float = 2e-6
    """Of its samples' difference from its pipeline's, over the largest value."""
    pixel_bound: float = 2e-5
    """Of its videos'."""
    guided: float = 1e-2
    """How far guidance moves a sample at least; text has little say in Wan's miniatures."""


def save_ltx_condition_i2v(folder: Path) -> None:
    save_ltx(folder, version="0.9.7", task="condition")
    family = "reelign.generators.ltx_condition:LTXConditionImageToVideo"
    (folder / DEFAULTS_FILE).write_text(json.dumps({"generator": family}))


FRAMES = VideoSize(4, 16, 16)
"""Of families with a latent frame for each frame."""
LTX_SIZE = VideoSize(9, 64, 32)

# VideoCrafter2's released layout fixes widths of 64, which round further; Stable Video Diffusion starts at 700 times
# the video, whose rounding is left in what is made; a decode makes 4e-5 of that of HunyuanVideo I2V.
FAMILIES = {
    "wan": Family(save_wan, guided=1e-3),
    "wan-i2v": Family(save_wan_i2v, image=True, guided=1e-3),
    "wan22": Family(save_wan22),
    "wan22-i2v": Family(save_wan22_i2v, image=True, guided=1e-3),
    "wan22-ti2v": Family(save_wan22_ti2v, VideoSize(9, 32, 32), image=True),
    "cogvideox-2b": Family(lambda folder: save_cogvideox(folder, rotary=False), table=True),
    "cogvideox-5b": Family(lambda folder: save_cogvideox(folder, rotary=True), table=True),
    "cogvideox-1.5": Family(save_cogvideox15, table=True),
    "cogvideox-i2v": Family(lambda folder: save_cogvideox_i2v(folder, fifteen=False), image=True, table=True),
    "cogvideox-1.5-i2v": Family(lambda folder: save_cogvideox_i2v(folder, fifteen=True), image=True, table=True),
    "modelscope": Family(save_modelscope, FRAMES, table=True),
    "animatediff": Family(save_animatediff, FRAMES, table=True),
    "videocrafter2": Family(save_videocrafter2, FRAMES, table=True, slow=True, bound=5e-6),
    "svd": Family(save_svd, VideoSize(3, 16, 16), image=True, bound=1e-4, pixel_bound=2e-3, rate=6e-2),
    "hunyuan": Family(save_hunyuan),
    "hunyuan-i2v": Family(lambda folder: save_hunyuan_i2v(folder, kind="token_replace"), image=True, pixel_bound=1e-4),
    "hunyuan15": Family(save_hunyuan15),
    "hunyuan15-i2v": Family(lambda folder: save_hunyuan15(folder, image=True), VideoSize(9, SIDE, SIDE), image=True),
    "ltx": Family(save_ltx, LTX_SIZE),
    "ltx-i2v": Family(lambda folder: save_ltx(folder, version="0.9.1", task="image"), LTX_SIZE, image=True),
    "ltx-condition": Family(save_ltx_condition_i2v, LTX_SIZE, image=True),
    "mochi": Family(save_mochi, VideoSize(7, 16, 16)),
    "opensora": Family(save_opensora, VideoSize(17, 16, 16)),
    "opensora-image": Family(save_opensora, VideoSize(17, 16, 16), image=True),
}

PROMPTS = ["a red square moves left", "a disc"]


def images_of(folder: Path) -> Tensor | None:
    """The first frames of the two prompts' clips, (2, 3, 40, 42) in whole 255ths, of a shape that is not the clips';
    None where they have none."""
    if not FAMILIES[folder.name].image:
        return None
    chance = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (2, 3, 40, 42), generator=chance).float() / 255


def sides(generator: Generator) -> tuple[Conditioning, Conditioning]:
    """What a family is told of the two prompts, their images too, and of nothing on the other side of guidance."""
    folder = Path(generator.model)
    images = images_of(folder)
    if images is None:
        return generator.encode_prompts(PROMPTS), generator.encode_prompts(["", ""])
    given = generator.encode_condition(images, FAMILIES[folder.name].size)
    own = generator.encode_together(PROMPTS, images)
    return own.joined(given), generator.encode_prompts(["", ""]).joined(given)
