"""Q-Align (OneAlign): a language model that would say how good a video is, read as the mean of five words."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from reelign.errors import ReelignError
from reelign.rewards.base import Reward, RewardCard, Videos, check_input
from reelign.rewards.loading import (
    device_and_dtype,
    fingerprint,
    load_part,
    load_strictly,
    read_weights,
    self_test,
    tolerance_of,
    version_of,
)
from reelign.rewards.preprocess import CLIP_MEAN, CLIP_STD, levels, normalise, resize, spaced
from reelign.rewards.qalign_model import Owl
from reelign.rewards.qwen_vl_weights import fetch_folder

WORDS = ("excellent", "good", "fair", "poor", "bad")
"""Worth 5, 4, 3, 2 and 1."""
QUESTION = ("USER: How would you rate the {task} of this {shown}?\n", "\nASSISTANT: The {task} of the {shown} is")
"""The text on both sides of the frames."""

Task = Literal["quality", "aesthetics"]
Mode = Literal["video", "image"]


def one_per_second(num_frames: int, fps: float) -> list[int]:
    """Frame int(i · fps) of each whole second i, as the authors' loader; the first of a clip shorter than a second."""
    return [int(fps * second) for second in range(int(num_frames / fps))] or [0]


def to_square(values: Tensor) -> Tensor:
    """(F, 3, H, W) of 0 to 255 in the middle of a square of CLIP's mean colour, rounded down."""
    height, width = values.shape[-2:]
    side = max(height, width)
    top, left = (side - height) // 2, (side - width) // 2
    colour = torch.tensor([int(255 * mean) for mean in CLIP_MEAN], device=values.device, dtype=values.dtype)
    inside = F.pad(torch.ones_like(values[:, :1]), (left, side - width - left, top, side - height - top))
    padded = F.pad(values, (left, side - width - left, top, side - height - top))
    return torch.where(inside.bool(), padded, colour.view(3, 1, 1))


class QAlign(Reward):
    """Σ p(word) · (5, 4, 3, 2, 1) over excellent, good, fair, poor and bad, 1 to 5 (arXiv:2312.17090, eq. 2 and 3).

    The prompt is not looked at. The authors' code (S-Lab licence, non-commercial) needs transformers 4.36; here their
    weights are loaded into transformers' Llama and two modules that it lacks. Check the weights' licence before
    commercial use.

    Args:
        model: hub id or folder; '' is the card's.
        task: `quality` or `aesthetics`, which is the score's dimension too.
        mode: `video` shows all frames at once; `image` asks about each frame and takes the mean.
        frames: how many are looked at, evenly spread; None is one per second, and needs the frame rate.
        batch_size: frames (mode `image`) in one call.
        device: torch's name; 'auto' is cuda where there is one.
        dtype: 'auto' is bfloat16 off the CPU and float32 on it.
        expected_score: of the self-test's clip, from an earlier load; None is not compared.
    """

    card = RewardCard(
        what="Visual quality of a video, rated in words by mPLUG-Owl2-7B; trained on ratings of images and videos",
        dimensions=("quality",),
        differentiable=True,
        frames_needed=1,
        weights="q-future/one-align",
        licence="MIT by its hub card; the authors' code is non-commercial (S-Lab)",
        size="8.2 B parameters, 16.4 GB in bf16",
    )
    name = "q-align"

    def __init__(
        self,
        *,
        model: str = "",
        task: Task = "quality",
        mode: Mode = "video",
        frames: int | None = None,
        batch_size: int = 8,
        device: str = "auto",
        dtype: str = "auto",
        expected_score: float | None = None,
    ) -> None:
        if task not in ("quality", "aesthetics") or mode not in ("video", "image") or batch_size < 1:
            raise ReelignError(
                f"task is {task!r}, mode {mode!r} and batch_size {batch_size}.",
                "Give quality or aesthetics, video or image, and 1 or more.",
            )
        from transformers import LlamaTokenizer

        self.device, self.dtype = device_and_dtype(device, dtype, large=True)
        source = model or self.card.weights
        self.model, self.size = load_owl(source, self.device, self.dtype)
        # By its class: the automatic one would ask whether to run the code that lies beside the weights.
        tokenizer: Any = load_part(LlamaTokenizer, source)
        self.mode, self.frames, self.batch_size = mode, frames, batch_size
        self.dimensions = (task,)
        sides = [part.format(task=task, shown=mode) for part in QUESTION]
        # The authors tokenise both sides on their own; one start token stands before the first.
        before, behind = (tokenizer.encode(side, add_special_tokens=False) for side in sides)
        self.before = torch.tensor([tokenizer.bos_token_id, *before], device=self.device)
        self.behind = torch.tensor(behind, device=self.device)
        self.words = [tokenizer.encode(word, add_special_tokens=False)[0] for word in WORDS]
        if len(set(self.words)) < len(WORDS):
            raise ReelignError(f"The tokenizer of {source} begins two of the words alike.", "Use the checkpoint's own.")
        self.version = version_of(self.name, fingerprint(self.model), task, mode, frames)
        self.self_test_scores = self_test(self, expected=expected_score, tolerance=tolerance_of(self.dtype))

    @property
    def frames_needed(self) -> int:
        return self.frames or 1

    def score(self, videos: Videos, prompts: Sequence[str], *, fps: float | None = None) -> dict[str, Tensor]:
        check_input(self, videos, prompts, fps=fps)
        return {self.dimensions[0]: torch.stack([self._score(self._look(video, fps)) for video in videos])}

    def _look(self, video: Tensor, fps: float | None) -> Tensor:
        if self.frames is None and fps is None:
            raise ReelignError(
                "The reward 'q-align' looks at a frame per second, and no frame rate was given.",
                "Give fps, the frames per second of the videos, or set frames.",
            )
        taken = one_per_second(len(video), fps) if self.frames is None and fps else spaced(len(video), self.frames)
        values = to_square(levels(video[taken].to(self.device)))
        values = resize(values, self.size, self.size, filter="bicubic", resizer="pillow")
        return normalise(values, CLIP_MEAN, CLIP_STD).to(self.dtype)

    def _score(self, frames: Tensor) -> Tensor:
        """From (K, 3, H, W) to (), 1 to 5."""
        batches = frames[None].split(1) if self.mode == "video" else frames[:, None].split(self.batch_size)
        logits = torch.cat([self.model(self.before, each, self.behind) for each in batches])[:, self.words]
        worth = torch.arange(5.0, 0.0, -1.0, device=self.device)
        return (logits.float().softmax(dim=-1) @ worth).mean()


def load_owl(source: str, device: torch.device, dtype: torch.dtype) -> tuple[Owl, int]:
    """The model, strictly loaded and frozen, and the side of a frame in pixels.

    Raises:
        ReelignError: no such checkpoint, or weights that do not fit.
    """
    from transformers.initialization import no_init_weights

    folder = fetch_folder(source)
    path = folder / "config.json"
    if not path.is_file():
        raise ReelignError(f"{source} has no config.json.", "Copy the checkpoint whole.")
    config = json.loads(path.read_text(encoding="utf-8"))
    files = sorted(folder.glob("*.safetensors")) or sorted(folder.glob("pytorch_model*.bin"))
    weights: dict[str, Tensor] = {}
    for file in files:
        weights |= read_weights(file)
    # Frequencies that older versions of transformers kept in the checkpoint.
    weights = {key: value for key, value in weights.items() if not key.endswith("rotary_emb.inv_freq")}
    usual = torch.get_default_dtype()
    try:
        # Made in its precision and not cast to it, which would round the frequencies of the positions.
        torch.set_default_dtype(dtype)
        with no_init_weights():
            model = Owl(config)
    finally:
        torch.set_default_dtype(usual)
    load_strictly(model, weights, source)
    size: int = config["visual_config"]["visual_model"]["image_size"]
    return model.to(device).eval().requires_grad_(False), size
