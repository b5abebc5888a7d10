"""VideoReward: visual quality, motion quality and text alignment of a video in one forward of a small Qwen-VL."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from torch import Tensor

from reelign.errors import ReelignError
from reelign.rewards.base import Reward, RewardCard, Videos
from reelign.rewards.loading import device_and_dtype, fingerprint, self_test, version_of
from reelign.rewards.qwen_vl_scoring import score_in_batches
from reelign.rewards.qwen_vl_weights import fetch_folder
from reelign.rewards.videoreward_model import VideoRewardModel
from reelign.rewards.videoreward_public import HUB_ID, from_videoreward
from reelign.rewards.videoreward_saved import SETTINGS, SavedScores, load_model, save_model

OVERALL = "overall"


class VideoReward(Reward):
    """VideoReward as released, or one that `reelign reward train` made (Liu et al. 2025, arXiv:2501.13918).

    Scores are normalised by the constants kept with the weights: mean 0 and deviation 1 over the authors' videos.

    Args:
        model: hub id or folder in the layout of the authors' code or of `reelign reward train`, or a model that is
            loaded already.
        backbone: base model whose config is read with the authors' layout; '' takes the one that it names.
        normalise: False gives the head's raw outputs.
        overall: adds the sum of all dimensions as `overall`.
        batch_size: most videos in one forward.
        device, dtype: 'auto' is bfloat16 on a GPU, float32 on the CPU.
        expected_scores: of the self-test's clip by dimension, where known; a model of one's own brings them with it.
        check: False leaves the self-test out, which takes two forwards.
    Raises:
        ReelignError: weights that do not fit or fail the self-test.
    """

    card = RewardCard(
        what="VQ, MQ and TA by Qwen2-VL-2B, trained on 182 k human comparisons of 12 generators' videos",
        dimensions=("VQ", "MQ", "TA"),
        differentiable=True,
        frames_needed=2,
        weights=HUB_ID,
        licence="Apache-2.0 (code MIT)",
        size="2.2 B parameters, 5.0 GB in bf16",
    )
    name = "videoreward"

    def __init__(
        self,
        *,
        model: str | VideoRewardModel = HUB_ID,
        backbone: str = "",
        normalise: bool = True,
        overall: bool = False,
        batch_size: int = 8,
        device: str = "auto",
        dtype: str = "auto",
        expected_scores: Mapping[str, float] | None = None,
        check: bool = True,
    ) -> None:
        if batch_size < 1:
            raise ReelignError(f"batch_size is {batch_size}.", "Give 1 or more.")
        known = SavedScores(scores=dict(expected_scores), dtype="") if expected_scores else None
        if isinstance(model, VideoRewardModel):
            self.model = model
        else:
            self.model, saved = _load(model, backbone, device, dtype)
            known = known or saved
        self.normalise = normalise and bool(self.model.settings.mean)
        self.overall, self.batch_size = overall, batch_size
        self.dimensions = (*self.model.settings.dimensions, *([OVERALL] if overall else []))
        self.version = version_of(fingerprint(self.model), self.model.settings, self.normalise)
        if check:
            self._check(known)

    @property
    def frames_needed(self) -> int:
        return max(self.card.frames_needed, self.model.settings.clips.frames_needed)

    def _check(self, known: SavedScores | None) -> None:
        """The self-test; saved scores are normalised where the model can be."""
        if self.model.settings.mean and not self.normalise:
            known = None
        half = [
            dtype for dtype in (str(self.model.head.weight.dtype), known.dtype if known else "") if "float16" in dtype
        ]
        scores = dict(known.scores) if known else None
        if scores and self.overall:
            scores[OVERALL] = sum(scores[name] for name in self.model.settings.dimensions)
        self_test(self, expected=scores, tolerance=0.1 if half else 1e-3)

    def score(self, videos: Videos, prompts: Sequence[str], *, fps: float | None = None) -> dict[str, Tensor]:
        raw = score_in_batches(
            self,
            videos,
            prompts,
            fps,
            look=self.model.preparer.look,
            batch=self.model.preparer.batch,
            forward=self.model,
            device=self.model.device,
            batch_size=self.batch_size,
        )
        if self.normalise:
            raw = (raw - raw.new_tensor(self.model.settings.mean)) / raw.new_tensor(self.model.settings.std)
        scores = dict(zip(self.model.settings.dimensions, raw.unbind(1), strict=True))
        return {**scores, OVERALL: raw.sum(1)} if self.overall else scores


def save_reward(model: VideoRewardModel, folder: str | Path) -> None:
    """Keep a trained model as `VideoReward(model=folder)` takes it, with its scores of the self-test's clip.

    Raises:
        ReelignError: LoRA is still beside the weights, or a score is no number.
    """
    training = model.training
    model.eval()
    scores = self_test(VideoReward(model=model, check=False))
    model.train(training)
    save_model(model, folder, scores=scores)


def _load(source: str, backbone: str, device: str, dtype: str) -> tuple[VideoRewardModel, SavedScores | None]:
    """A model in either layout, frozen, and what its self-test is to give."""
    place, precision = device_and_dtype(device, dtype, large=True)
    folder = fetch_folder(source)
    known = None
    if (folder / SETTINGS).is_file():
        if backbone:
            raise ReelignError(f"{source} holds its backbone itself.", "Leave out the setting backbone.")
        model, known = load_model(folder, device=place, dtype=precision)
    else:
        model = from_videoreward(str(folder), backbone=backbone, device=place, dtype=precision)
    return model.requires_grad_(False), known
