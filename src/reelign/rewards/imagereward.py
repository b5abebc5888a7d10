"""ImageReward: BLIP with a head that was trained on how experts ranked images of one prompt (arXiv:2304.05977)."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from reelign.errors import ReelignError
from reelign.rewards.aesthetic import LinearHead
from reelign.rewards.base import RewardCard, Videos
from reelign.rewards.images import FrameReward, Reduction, counts, in_batches, look, tell_of_cut_texts
from reelign.rewards.loading import (
    device_and_dtype,
    fetch_file,
    fingerprint,
    load_part,
    load_strictly,
    read_weights,
    self_test,
    tolerance_of,
    version_of,
)
from reelign.rewards.preprocess import Preprocessing

MEAN, STD = 0.16717362830052426, 1.0333394966054072
"""Of the raw scores over the authors' set; a score is counted in these deviations."""
TOKENS = 35
HEAD_WIDTH = 64
"""Of an attention head in every ViT of BLIP."""

VISION = (
    ("cls_token", "embeddings.class_embedding"),
    ("pos_embed", "embeddings.position_embedding"),
    ("patch_embed.proj.", "embeddings.patch_embedding."),
    ("blocks.", "encoder.layers."),
    (".attn.proj.", ".self_attn.projection."),
    (".attn.", ".self_attn."),
    (".norm1.", ".layer_norm1."),
    (".norm2.", ".layer_norm2."),
)
"""Parts of the keys of BLIP's own vision tower (timm's) -> of transformers' BlipVisionModel, in this order."""


def split_blip(weights: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Tensor], dict[str, Tensor]]:
    """ImageReward's weights as those of BlipVisionModel, BlipTextModel and `LinearHead`.

    Unknown keys are kept, in the part of the head, for the strict load. Left out is what a score does not use: two
    projections of BLIP's contrastive loss, and counted positions.
    """
    vision, text, head = {}, {}, {}
    for key, value in weights.items():
        key = key.removeprefix("module.")
        if key.startswith(("blip.vision_proj.", "blip.text_proj.")) or key.endswith("embeddings.position_ids"):
            continue
        if key.startswith("blip.visual_encoder."):
            name = key.removeprefix("blip.visual_encoder.")
            for old, new in VISION:
                name = name.replace(old, new)
            vision[re.sub(r"^norm\.", "post_layernorm.", name)] = value
        elif key.startswith("blip.text_encoder."):
            text[key.removeprefix("blip.text_encoder.")] = value
        else:
            head[key.removeprefix("mlp.")] = value
    return vision, text, head


def blip_configs(vision: Mapping[str, Tensor], med: Mapping[str, Any]) -> tuple[Any, Any]:
    """The configs of both towers: the vision tower's sizes are read off its weights, the text's are in a file.

    Args:
        vision: weights by the keys of BlipVisionModel.
        med: what med_config.json holds.
    """
    from transformers import BlipTextConfig, BlipVisionConfig

    places, patches = vision["embeddings.position_embedding"], vision["embeddings.patch_embedding.weight"]
    width, patch = patches.shape[0], patches.shape[-1]
    depth = len({key.split(".")[2] for key in vision if key.startswith("encoder.layers.")})
    image = BlipVisionConfig(
        hidden_size=width,
        intermediate_size=vision["encoder.layers.0.mlp.fc1.weight"].shape[0],
        num_hidden_layers=depth,
        num_attention_heads=width // HEAD_WIDTH,
        image_size=round((places.shape[1] - 1) ** 0.5) * patch,
        patch_size=patch,
        layer_norm_eps=1e-6,
    )
    sizes = ("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads")
    same = (*sizes, "max_position_embeddings", "layer_norm_eps", "hidden_act")
    # Cross-attention stands where transformers expects a decoder; the model is asked as an encoder all the same.
    text = BlipTextConfig(**{name: med[name] for name in same}, encoder_hidden_size=width, is_decoder=True)
    return image, text


class ImageReward(FrameReward):
    """Preference for a frame given its prompt, about -2.3 to 2, in standard deviations of the authors' set.

    The first 35 tokens of a prompt are read.

    Args:
        model: hub id or folder with ImageReward.pt and med_config.json, or the .pt file beside it; '' is the card's.
        tokenizer: hub id or folder of BERT's tokenizer.
        frames, reduce, batch_size, device, dtype, expected_score: as for ClipReward.
    """

    card = RewardCard(
        what="Which image experts prefer for a prompt, frame by frame; BLIP trained on 137 k comparisons",
        dimensions=("overall",),
        differentiable=True,
        frames_needed=1,
        weights="THUDM/ImageReward",
        licence="Apache-2.0",
        size="446 M parameters, 1.8 GB in fp32",
    )
    name = "imagereward"
    dimensions = card.dimensions

    def __init__(
        self,
        *,
        model: str = "",
        tokenizer: str = "google-bert/bert-base-uncased",
        frames: int | None = None,
        reduce: Reduction = "mean",
        batch_size: int = 32,
        device: str = "auto",
        dtype: str = "auto",
        expected_score: float | None = None,
    ) -> None:
        super().__init__(frames=frames, reduce=reduce, batch_size=batch_size)
        from transformers import BertTokenizer

        self.device, self.dtype = device_and_dtype(device, dtype)
        source = model or self.card.weights
        self.vision, self.text, self.head = load_imagereward(source)
        for part in (self.vision, self.text, self.head):
            part.to(self.device, self.dtype).eval().requires_grad_(False)
        self.tokenizer: Any = load_part(BertTokenizer, tokenizer)
        # Rounded as torchvision rounds it, which the authors crop with.
        self.preprocess = Preprocessing(size=self.vision.config.image_size, crop="round")
        weights = fingerprint(self.vision, self.text, self.head)
        self.version = version_of(self.name, weights, self.preprocess, frames, reduce)
        self.self_test_scores = self_test(self, expected=expected_score, tolerance=tolerance_of(self.dtype))

    def score_frames(self, videos: Videos, prompts: Sequence[str]) -> list[Tensor]:
        taken = counts(videos, self.frames)
        rows = torch.tensor([row for row, count in enumerate(taken) for _ in range(count)], device=self.device)
        ids, mask = self._tokens(prompts)
        pixels = look(videos, self.frames, self.preprocess, self.device).to(self.dtype)
        return list(in_batches(self._scores, self.batch_size, pixels, ids[rows], mask[rows]).split(taken))

    def _tokens(self, prompts: Sequence[str]) -> tuple[Tensor, Tensor]:
        lengths = [len(ids) for ids in self.tokenizer(list(prompts), truncation=False, verbose=False).input_ids]
        tell_of_cut_texts(self.name, lengths, TOKENS)
        read = self.tokenizer(
            list(prompts), padding="max_length", truncation=True, max_length=TOKENS, return_tensors="pt"
        )
        return read.input_ids.to(self.device), read.attention_mask.to(self.device)

    def _scores(self, pixels: Tensor, ids: Tensor, mask: Tensor) -> Tensor:
        """(N,) of N frames, each with its text."""
        seen = self.vision(pixel_values=pixels).last_hidden_state
        fused: Tensor = self.text(
            input_ids=ids,
            attention_mask=mask,
            encoder_hidden_states=seen,
            encoder_attention_mask=torch.ones(seen.shape[:2], dtype=torch.long, device=seen.device),
        ).last_hidden_state
        scores: Tensor = self.head(fused[:, 0])
        return (scores.float() - MEAN) / STD


def load_imagereward(source: str) -> tuple[Any, Any, LinearHead]:
    """BlipVisionModel, BlipTextModel and head, strictly loaded, on the CPU in float32.

    Raises:
        ReelignError: a file is missing or damaged, or a weight does not fit.
    """
    from transformers.initialization import no_init_weights
    from transformers.models.blip.modeling_blip import BlipVisionModel
    from transformers.models.blip.modeling_blip_text import BlipTextModel

    path = fetch_file(source, ("ImageReward.pt", "ImageReward.safetensors"))
    beside = str(path.parent) if Path(source).is_file() else source
    med = json.loads(fetch_file(beside, ("med_config.json",)).read_text(encoding="utf-8"))
    weights_of_vision, weights_of_text, weights_of_head = split_blip(read_weights(path))
    needed = ("embeddings.position_embedding", "embeddings.patch_embedding.weight", "encoder.layers.0.mlp.fc1.weight")
    for key in needed:
        if key not in weights_of_vision:
            raise ReelignError(
                f"{path} holds no weight that becomes {key} of BLIP's vision tower.",
                "Name a checkpoint of ImageReward in its public layout (blip.visual_encoder.…).",
            )
    image_config, text_config = blip_configs(weights_of_vision, med)
    with no_init_weights():
        vision, text = BlipVisionModel(image_config), BlipTextModel(text_config, add_pooling_layer=False)
    load_strictly(vision, weights_of_vision, source)
    load_strictly(text, weights_of_text, source)
    head = LinearHead(text_config.hidden_size)
    load_strictly(head, weights_of_head, source)
    return vision, text, head
