"""A small V-JEPA 2 trained from nothing on the small world's rendered clips, and whether it tells a broken joint.

Training is V-JEPA's (arXiv:2404.08471, eq. 1): the predictor and the encoder of what is seen follow the gradient of the
error, the encoder of what is wanted is their moving average. The clips are as long as the windows over joints. A clip
is broken by letting its second half go on otherwise than its first began: from the same place, at another speed, with
another colour, from a few pixels away, or not at all.
"""

from __future__ import annotations

import copy
import json
from dataclasses import replace
from pathlib import Path

import torch
from small_i2v import passing_scenes
from torch import Tensor
from transformers import VJEPA2Config, VJEPA2Model

from reelign.files import write_text
from reelign.rewards.images import look
from reelign.rewards.vjepa2 import VJEPA2Consistency, prediction_error, preprocessing, representations, tube_masks
from reelign.spriteworld.world import DIRECTIONS, NUM_FRAMES, SIZE, Scene, render

WINDOW = 8
"""Frames over a joint: half before it, half behind."""
START = (NUM_FRAMES - WINDOW) // 2
STEPS, BATCH = 1500, 32
AVERAGE = 0.99
BREAKS = ("speed", "place", "colour", "stop")


def tiny_vjepa() -> VJEPA2Model:
    """16 patches of 8 x 8 pixels by four pairs of frames."""
    config = VJEPA2Config(
        crop_size=SIZE,
        patch_size=8,
        frames_per_clip=WINDOW,
        hidden_size=96,
        num_hidden_layers=3,
        num_attention_heads=4,
        mlp_ratio=2,
        pred_hidden_size=48,
        pred_num_attention_heads=4,
        pred_num_hidden_layers=2,
        pred_num_mask_tokens=1,
        pred_mlp_ratio=2,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return VJEPA2Model(config)


def make_vjepa(folder: Path) -> Path:
    """The model's folder, trained where it is missing, with what it tells of broken clips in `ranks.json`."""
    if not (folder / "ranks.json").exists():
        model = tiny_vjepa()
        train(model)
        model.eval().save_pretrained(folder)
        found = ranks(VJEPA2Consistency(model=str(folder), frames=WINDOW, num_masks=8))
        write_text(folder / "ranks.json", json.dumps(found))
        print("V-JEPA prefers the smooth clip:", found, flush=True)
    return folder.resolve()


def train(model: VJEPA2Model) -> None:
    """STEPS of AdamW on clean windows, new ones and new masks at every step."""
    teacher = copy.deepcopy(model.encoder).requires_grad_(False)
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.04)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 1e-3, total_steps=STEPS, pct_start=0.1)
    chance = torch.Generator().manual_seed(0)
    resized = preprocessing(SIZE)
    for step in range(STEPS):
        videos = render(passing_scenes(BATCH, chance))[:, START : START + WINDOW]
        pixels = look(videos, WINDOW, resized, torch.device("cpu")).unflatten(0, (BATCH, WINDOW))
        wanted = representations(teacher, pixels)
        loss = prediction_error(model, pixels, tube_masks(SIZE // 8, WINDOW // 2, 1, seed=step), wanted).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
        with torch.no_grad():
            for own, new in zip(teacher.parameters(), model.encoder.parameters(), strict=True):
                own.lerp_(new, 1 - AVERAGE)
        if step % 250 == 0 or step == STEPS - 1:
            spread = float(wanted.std(dim=(0, 1)).mean())
            print(f"V-JEPA step {step}: error {float(loss):.3f}, spread {spread:.2f}", flush=True)


def ranks(reward: VJEPA2Consistency, count: int = 128) -> dict[str, float]:
    """Share of fresh clips that stand above their broken twins, of each kind of break."""
    chance = torch.Generator().manual_seed(1)
    scene = passing_scenes(count, chance)
    scene = replace(scene, attributes=torch.cat([scene.attributes[:, :2], torch.arange(count)[:, None] % 4], dim=1))
    smooth = render(scene)[:, START : START + WINDOW]
    with torch.no_grad():
        own = reward.score(smooth, [""] * count)["consistency"]
        found = {}
        for kind in BREAKS:
            other = reward.score(broken(scene, smooth, kind), [""] * count)["consistency"]
            found[kind] = float((own > other).float().mean())
    return found


def broken(scene: Scene, smooth: Tensor, kind: str) -> Tensor:
    """The clips (B, 8, 3, 32, 32) of a scene in which shapes move, with another second half."""
    first, half = smooth[:, : WINDOW // 2], START + WINDOW // 2
    path = DIRECTIONS[scene.attributes[:, 2]]
    if kind == "stop":
        return torch.cat([first, first[:, -1:].expand(-1, WINDOW // 2, -1, -1, -1)], dim=1)
    if kind == "speed":  # twice as fast or half as fast from the joint on, from where it was
        factor = torch.where(torch.arange(len(smooth)) % 2 == 0, 2.0, 0.4)
        joint = (half - 1) / (NUM_FRAMES - 1) - 0.5
        centre = scene.centre + path * (scene.travel * (1 - factor) * joint)[:, None]
        other = replace(scene, travel=scene.travel * factor, centre=centre)
    elif kind == "place":
        other = replace(scene, centre=scene.centre + 3 * path.flip(1))
    else:
        colours = (scene.attributes[:, :1] + 1) % 6
        other = replace(scene, attributes=torch.cat([colours, scene.attributes[:, 1:]], dim=1))
    return torch.cat([first, render(other)[:, half : START + WINDOW]], dim=1)
