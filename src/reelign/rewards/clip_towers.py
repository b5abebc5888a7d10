"""CLIP towers that several rewards stand on: opened once, and a batch of frames embedded once for all of them."""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from reelign.rewards.base import Videos
from reelign.rewards.images import FrameReward, Reduction, counts, in_batches, look, tell_of_cut_texts
from reelign.rewards.loading import (
    device_and_dtype,
    fingerprint,
    load_part,
    load_pretrained,
    self_test,
    tolerance_of,
    version_of,
)
from reelign.rewards.preprocess import Fit, Preprocessing

VIT_H = "laion/CLIP-ViT-H-14-laion2B-s32B-b79K"
"""Whose tokenizer and geometry PickScore, HPSv2 and MPS were fine-tuned from."""


class ClipTower:
    """A transformers CLIPModel with its tokenizer; frozen.

    Args:
        model: the CLIPModel.
        tokenizer: its tokenizer.
        name: what its messages call it.
    """

    def __init__(self, model: Any, tokenizer: Any, name: str) -> None:
        self.model = model
        self.tokenizer = tokenizer
        self.name = name
        self.fingerprint = fingerprint(model)
        self.num_embedded = 0
        """Frames that went through the vision tower since it was opened."""
        self._last: tuple[list[weakref.ref[Tensor]], tuple[object, ...], list[Tensor]] | None = None

    @property
    def device(self) -> torch.device:
        device: torch.device = self.model.logit_scale.device
        return device

    @property
    def dtype(self) -> torch.dtype:
        dtype: torch.dtype = self.model.logit_scale.dtype
        return dtype

    @property
    def image_size(self) -> int:
        size: int = self.model.config.vision_config.image_size
        return size

    def embed_frames(
        self, videos: Videos, *, frames: int | None, preprocess: Preprocessing, batch_size: int
    ) -> list[Tensor]:
        """The projected embedding of each frame looked at, L2-normalised.

        The last call's are kept while its videos live, and given again for the same tensors, unchanged, looked at in
        the same way. With gradients they are made anew: a graph that two rewards share could be run backwards once.

        Args:
            videos, frames, preprocess: as for `images.look`.
            batch_size: frames in one call.
        Returns:
            A (K, D) float32 tensor per video.
        """
        tensors = [videos] if isinstance(videos, Tensor) else list(videos)
        tracked = torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors)
        if tracked or any(tensor.is_inference() for tensor in tensors):
            return self._embed_frames(videos, frames, preprocess, batch_size)
        key = (frames, preprocess, *(tensor._version for tensor in tensors))
        if self._last is not None and key == self._last[1] and len(tensors) == len(self._last[0]):
            held, _, embeddings = self._last
            if all(ref() is tensor for ref, tensor in zip(held, tensors, strict=True)):
                return embeddings
        embeddings = self._embed_frames(videos, frames, preprocess, batch_size)
        self._last = ([weakref.ref(tensor) for tensor in tensors], key, embeddings)
        return embeddings

    def _embed_frames(
        self, videos: Videos, frames: int | None, preprocess: Preprocessing, batch_size: int
    ) -> list[Tensor]:
        pixels = look(videos, frames, preprocess, self.device)
        self.num_embedded += len(pixels)
        embeddings = in_batches(self._project_frames, batch_size, pixels.to(self.dtype))
        return list(_unit(embeddings).split(counts(videos, frames)))

    def _project_frames(self, pixels: Tensor) -> Tensor:
        projected: Tensor = self.model.visual_projection(self.model.vision_model(pixel_values=pixels).pooler_output)
        return projected

    def tokens(self, texts: Sequence[str]) -> Tensor:
        """(B, 77) token ids; a longer text keeps its first 76 and the end token, and a warning says so."""
        limit: int = self.model.config.text_config.max_position_embeddings
        lengths = [len(ids) for ids in self.tokenizer(list(texts), truncation=False, verbose=False).input_ids]
        tell_of_cut_texts(self.name, lengths, limit)
        cut = self.tokenizer(list(texts), padding="max_length", max_length=limit, truncation=True, return_tensors="pt")
        ids: Tensor = cut.input_ids
        return ids.to(self.device)

    def embed_texts(self, texts: Sequence[str]) -> Tensor:
        """The projected embedding of each text at its end token, (B, D) float32, L2-normalised; repeats are free."""
        unique = list(dict.fromkeys(texts))
        # No attention mask: the text tower is causal, so that what follows the end token is never seen.
        pooled = self.model.text_model(input_ids=self.tokens(unique)).pooler_output
        embeddings = _unit(self.model.text_projection(pooled))
        return embeddings[[unique.index(text) for text in texts]]


def _unit(embeddings: Tensor) -> Tensor:
    embeddings = embeddings.float()
    unit: Tensor = embeddings / embeddings.norm(dim=-1, keepdim=True)
    return unit


_open: weakref.WeakValueDictionary[tuple[object, ...], ClipTower] = weakref.WeakValueDictionary()


def open_tower(model: str, tokenizer: str, device: torch.device, dtype: torch.dtype) -> ClipTower:
    """The tower of a hub id or folder; the one that is open already where some reward holds it.

    Args:
        model: of a CLIPModel in the layout of transformers.
        tokenizer: where its tokenizer is.
    Raises:
        ReelignError: no such model, or weights that do not fit.
    """
    key = (model, tokenizer, device, dtype)
    tower = _open.get(key)
    if tower is None:
        from transformers import CLIPModel, CLIPTokenizer

        loaded = load_pretrained(CLIPModel, model, device=device, dtype=dtype)
        tower = _open[key] = ClipTower(loaded, load_part(CLIPTokenizer, tokenizer), model)
    return tower


class ClipReward(FrameReward):
    """A reward on a CLIP tower; subclasses say how embeddings become a score.

    Args:
        model: hub id or folder; '' is the card's.
        tokenizer: hub id or folder; '' is the class's.
        fit: `crop` to the centre, `stretch` to a square, or `pad`; '' is the class's.
        frames, reduce, batch_size: as for FrameReward.
        device: torch's name; 'auto' is cuda where there is one.
        dtype: 'float32', 'float16' or 'bfloat16'; 'auto' is float32.
        expected_score: of the self-test's clip, from `self_test_scores` of an earlier load; None is not compared.
    """

    tokenizer: str = ""
    fit: Fit = "crop"

    def __init__(
        self,
        *,
        model: str = "",
        tokenizer: str = "",
        fit: Fit | Literal[""] = "",
        frames: int | None = None,
        reduce: Reduction = "mean",
        batch_size: int = 32,
        device: str = "auto",
        dtype: str = "auto",
        expected_score: float | None = None,
    ) -> None:
        super().__init__(frames=frames, reduce=reduce, batch_size=batch_size)
        self.tower = self.open(model or self.card.weights, tokenizer, *device_and_dtype(device, dtype))
        self.preprocess = self.preprocessing(fit or self.fit)
        self.finish(expected_score)

    def finish(self, expected_score: float | None, *parts: object) -> None:
        """Set the version, of the tower, the preprocessing and `parts`, and run the self-test."""
        self.version = version_of(self.name, self.tower.fingerprint, self.preprocess, self.frames, self.reduce, *parts)
        self.self_test_scores = self_test(self, expected=expected_score, tolerance=tolerance_of(self.tower.dtype))

    def open(self, model: str, tokenizer: str, device: torch.device, dtype: torch.dtype) -> ClipTower:
        return open_tower(model, tokenizer or self.tokenizer or model, device, dtype)

    def preprocessing(self, fit: Fit) -> Preprocessing:
        return Preprocessing(size=self.tower.image_size, fit=fit)

    def embed(self, videos: Videos) -> list[Tensor]:
        """(K, D) unit embeddings of the frames looked at, per video."""
        return self.tower.embed_frames(
            videos, frames=self.frames, preprocess=self.preprocess, batch_size=self.batch_size
        )

    def cosines(self, videos: Videos, texts: Sequence[str]) -> list[Tensor]:
        """Cosine of each frame looked at with its video's text, (K,) per video."""
        return [frames @ text for frames, text in zip(self.embed(videos), self.tower.embed_texts(texts), strict=True)]
