"""A small image-to-video model of the small world, trained by `align` itself: clips go on from a given first frame.

The shipped pipeline (text-to-video) becomes one of Wan 2.2 TI2V's kind, whose first latent frame is given and stands at
timestep 0, and all its weights are trained (SFT) on clips that the world renders, each going on from its own first
frame. Segments are of nine frames at the world's own speeds, so that three of them, 25 frames, cross the picture once.
The speed is not to be seen in a first frame, nor is a flaw of motion, which two clips in three have: what the next
segment makes of the last frame of this one need not go on as it went.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from diffusers import WanPipeline
from PIL import Image
from torch import Tensor

from reelign import stages
from reelign.files import write_text
from reelign.generators import Guidance, VideoSize, load_generator, resolve_model
from reelign.records.tables import write_columns
from reelign.spriteworld.judges import attributes, scores, track
from reelign.spriteworld.prompts import captions, held_out_captions, parse, train_captions
from reelign.spriteworld.world import (
    DIRECTIONS,
    FPS,
    GROWTH,
    NUM_FRAMES,
    SIZE,
    Scene,
    render,
    sample_flaws,
    sample_scenes,
    uniform,
)
from reelign.training.asked import against
from reelign.training.long_rollouts import sample_videos
from reelign.video import contact_sheet, write_video

FRAMES = 9
"""Of a segment: three latent frames."""
SEGMENTS = 3
SPEED, RATE = (0.5, 0.9), (0.16, 0.3)
"""Of a shape that moves and of the radius of one that grows or shrinks, px a frame."""
CLIPS = 1440
FIRST = (NUM_FRAMES - FRAMES) // 2
"""Where a clip lies in what the world renders at a time."""
TRAINING: dict[str, Any] = {
    "lora": None,
    "objective": {"name": "sft"},
    "images": "first_frame",
    "shift": 3.0,
    "batch_size": 32,
    "micro_batch_size": 32,
    "empty_prompt_share": 0.1,
    "trackers": [],
    "trainer": {
        "steps": 700,
        "learning_rate": 1e-3,
        "warmup_steps": 20,
        "schedule": "cosine",
        "betas": [0.9, 0.98],
        "ema_decay": 0.99,
        "checkpoint_every": 100,
        "keep_checkpoints": 1,
    },
}


def passing_scenes(count: int, chance: torch.Generator) -> Scene:
    """Scenes whose middle nine frames show a shape anywhere on its way through the picture."""
    scene = sample_scenes(count, chance)
    return placed(scene, chance, uniform((count,), -1, 1, chance), uniform((count,), 4.3, 8.2, chance))


def placed(scene: Scene, chance: torch.Generator, along: Tensor, middle: Tensor) -> Scene:
    """The scene with a speed of its own, at a place on its path and of a size in mid-clip.

    Args:
        along: (B,) of a shape that moves: at -1 its nine frames begin at the border, at 1 they end there.
        middle: (B,) radius of a shape that grows or shrinks, px.
    """
    count, motion = len(along), scene.attributes[:, 2]
    grows = GROWTH[motion] != 0
    speed, rate = uniform((count,), *SPEED, chance), uniform((count,), *RATE, chance)
    radius = torch.where(grows, middle, uniform((count,), 4.5, 5.5, chance))
    room = (SIZE / 2 - 1 - radius - speed * (FRAMES - 1) / 2).clamp(min=0)
    across = uniform((count, 2), -1, 1, chance) * (SIZE / 2 - 1 - radius - 2).clamp(0, 4)[:, None]
    path = DIRECTIONS[motion]
    centre = SIZE / 2 + across * (path == 0) + path * (along * room)[:, None]
    span = NUM_FRAMES - 1
    return replace(scene, centre=centre, radius=radius, travel=speed * span, growth=rate * span / radius)


def clips(count: int, chance: torch.Generator, *, flawed: bool = True) -> tuple[Tensor, list[str]]:
    """Rendered clips (count, 9, 3, 32, 32) and their captions, all of them about equally often."""
    scene = passing_scenes(count, chance)
    flaws = sample_flaws(scene, chance) if flawed else None
    return render(scene, flaws=flaws)[:, FIRST : FIRST + FRAMES], captions(scene.attributes)


def write_clips(folder: Path) -> Path:
    """Clips to train on, as people have them: files, and a table of captions and labels."""
    table = folder / "clips.csv"
    if not table.exists():
        videos, texts = clips(CLIPS, torch.Generator().manual_seed(0))
        names = [f"{number}.mp4" for number in range(CLIPS)]
        for name, video in zip(names, videos, strict=True):
            write_video(folder / name, video, FPS)
        write_columns(table, {"prompt": texts, "video": names, "label": ["true"] * CLIPS})
    return table


def passages(texts: list[str], chance: torch.Generator) -> Tensor:
    """Rendered clips of three segments, shapes on their whole way, (B, 25, 3, 32, 32)."""
    attributes = parse(texts)
    scene = sample_scenes(len(texts), chance, attributes=attributes)
    shrinks = GROWTH[attributes[:, 2]] < 0
    middle = torch.where(shrinks, uniform((len(texts),), 7.8, 8.2, chance), uniform((len(texts),), 4.3, 4.7, chance))
    begun = placed(scene, chance, torch.full((len(texts),), -1.0), middle)
    path, signed = DIRECTIONS[attributes[:, 2]], GROWTH[attributes[:, 2]] * begun.growth
    further = replace(
        begun,
        centre=begun.centre + path * begun.travel[:, None],
        radius=begun.radius * (1 + signed),
        growth=begun.growth / (1 + signed),
    )
    count = SEGMENTS * (FRAMES - 1) + 1
    return torch.cat([render(begun), render(further)[:, 1:]], dim=1)[:, FIRST : FIRST + count]


def write_prompts(folder: Path, seed: int) -> tuple[Path, Path]:
    """Tables of the training and the held-out captions, each with an image to go on from."""
    tables = []
    for split, texts in (("train", list(train_captions())), ("held_out", list(held_out_captions()))):
        images = passages(texts, torch.Generator().manual_seed(1000 * seed + len(texts)))[:, 0]
        names = [f"{split}-{number}.png" for number in range(len(texts))]
        folder.mkdir(parents=True, exist_ok=True)
        for name, image in zip(names, images, strict=True):
            pixels = (image * 255).round().byte().permute(1, 2, 0).numpy()
            Image.fromarray(pixels).save(folder / name)
        tables.append(folder / f"{split}.csv")
        write_columns(tables[-1], {"text": texts, "image": names})
    return tables[0], tables[1]


def make_model(folder: Path) -> Path:
    """The image-to-video model's folder, trained where it is missing; a stopped training goes on."""
    model = folder / "model"
    if (model / "model_index.json").exists():
        return model.resolve()
    base, space = folder / "base", folder / "training"
    if not (base / "model_index.json").exists():
        pipeline = WanPipeline.from_pretrained(resolve_model("spriteworld"))
        pipeline.register_to_config(expand_timesteps=True)
        pipeline.save_pretrained(base)
        defaults = {"num_frames": FRAMES, "height": SIZE, "width": SIZE, "fps": FPS}
        write_text(base / "reelign.json", json.dumps({**defaults, "guidance_scale": 4.0, "num_inference_steps": 10}))
    train, held_out = write_prompts(folder / "prompts", 0)
    stages.init(space, model=str(base), prompts=train, held_out=held_out)
    done = stages.align(space, pairs=write_clips(folder / "clips"), run="i2v", **TRAINING)
    beside = folder / "model.partial"
    shutil.rmtree(beside, ignore_errors=True)
    shutil.copytree(base, beside)
    shutil.copytree(done.adapter / "transformer", beside / "transformer", dirs_exist_ok=True)
    beside.rename(model)
    return model.resolve()


@torch.no_grad()
def model_check(folder: Path) -> dict[str, float]:
    """Whether the model goes on from what it is given: a clip of each held-out caption from a rendered frame.

    Returns, and keeps in `check.json` beside a contact sheet: `first`, the mean absolute error of the first frame;
    `colour` and `ground`, the distance of the last frame's colours from the given ones; `place`, how far the shape is
    in the second frame from where it was given, px; the true judges' means, and of rendered clips, `rendered VQ` and so
    on; the shares of colours, shapes and motions that are right.
    """
    kept = folder / "check.json"
    if kept.exists():
        found: dict[str, float] = json.loads(kept.read_text())
        return found
    generator, texts = load_generator(str(make_model(folder))), list(held_out_captions())
    ideal = passages(texts, torch.Generator().manual_seed(77))[:, :FRAMES]
    given, size = ideal[:, 0], VideoSize(FRAMES, SIZE, SIZE)
    own = generator.encode_prompts(texts).joined(generator.encode_condition(given, size))
    guidance = Guidance(4.0, against(own, generator.encode_prompts([""])))
    made = sample_videos(generator, own, list(range(len(texts))), size, steps=10, guidance=guidance).videos
    seen, asked = track(made), track(given[:, None])
    right = (attributes(made) == parse(texts)).float().mean(dim=0).tolist()
    found = {
        "first": float((made[:, 0] - given).abs().mean()),
        "colour": float((seen.colour[:, -1] - asked.colour[:, 0]).norm(dim=-1).mean()),
        "ground": float((seen.ground[:, -1] - asked.ground[:, 0]).norm(dim=-1).mean()),
        "place": float((seen.centroid[:, 1] - asked.centroid[:, 0]).norm(dim=-1).mean()),
        **{name: float(value.mean()) for name, value in scores(made, texts).items()},
        **{f"rendered {name}": float(value.mean()) for name, value in scores(ideal, texts).items()},
        **dict(zip(("colours right", "shapes right", "motions right"), right, strict=True)),
    }
    contact_sheet(made[:12], texts[:12], frames=FRAMES).save(folder / "check.png")
    write_text(kept, json.dumps(found))
    print("image-to-video model:", found, flush=True)
    return found
