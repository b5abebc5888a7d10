"""MPS: a CLIP-H whose image tokens look at what a condition asks about in the prompt (Zhang et al., CVPR 2024)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from reelign.rewards.base import RewardCard, Videos
from reelign.rewards.clip_towers import VIT_H, ClipReward, ClipTower
from reelign.rewards.images import counts, in_batches, look
from reelign.rewards.loading import fetch_file, fingerprint, load_part, load_strictly, read_weights
from reelign.rewards.mps_fusion import Fusion, words_kept

CONDITION = (
    "light, color, clarity, tone, style, ambiance, artistry, shape, face, hair, hands, limbs, structure, instance, "
    "texture, quantity, attributes, position, number, location, word, things."
)
"""Of the overall score, as the authors' evaluation has it; the weights of the three aspects were not released."""
THRESHOLD = 0.3
"""Of the authors' evaluation (eval_overall_mps_on_hpdv2.py); their training step has 0.01."""
FILES = ("model.safetensors", "MPS_overall.safetensors", "MPS_overall_checkpoint.pth")


class MPS(ClipReward):
    """exp(logit scale) · cos(text, image after the fusion), for the overall condition (arXiv:2405.14705, eq. 3 to 5).

    The authors released their model as a whole pickled object, which is not opened: it could run any code. The
    default is its state dict as a copy on the hub holds it. Padding counts as words of the prompt, as in the original.

    Args:
        model: hub id, folder or file of a state dict, with the keys model.… and cross_model.…, or mps. before them.
        tokenizer: hub id or folder of the tokenizer and the config of the CLIPModel; '' is CLIP-H's.
        The rest is as for ClipReward.
    """

    card = RewardCard(
        what="Which image people prefer overall for a prompt, frame by frame; trained on MHP",
        dimensions=("overall",),
        differentiable=True,
        frames_needed=1,
        weights="RE-N-Y/mpsv1",
        licence="MIT (code of the original)",
        size="1.1 B parameters, 4.4 GB in fp32",
    )
    name = "mps"
    dimensions = card.dimensions
    tokenizer = VIT_H

    def open(self, model: str, tokenizer: str, device: torch.device, dtype: torch.dtype) -> ClipTower:
        from transformers import CLIPConfig, CLIPModel, CLIPTokenizer
        from transformers.initialization import no_init_weights

        geometry = tokenizer or self.tokenizer
        weights = read_weights(fetch_file(model, FILES))
        weights = {key.removeprefix("mps."): value for key, value in weights.items()}
        of_clip = {key: value for key, value in weights.items() if key.startswith("model.")}
        # Older versions of transformers kept counted positions in the checkpoint.
        of_clip = {key[6:]: value for key, value in of_clip.items() if not key.endswith("position_ids")}
        rest = {key.removeprefix("cross_model."): weights[key] for key in weights if not key.startswith("model.")}
        config = load_part(CLIPConfig, geometry)
        with no_init_weights():
            clip = CLIPModel(config).to(dtype)
        load_strictly(clip, of_clip, model)
        self.fusion = Fusion(config.projection_dim)
        load_strictly(self.fusion, rest, model)
        for part in (clip, self.fusion):
            part.to(device, dtype).eval().requires_grad_(False)
        return ClipTower(clip, load_part(CLIPTokenizer, geometry), self.name)

    def finish(self, expected_score: float | None, *parts: object) -> None:
        super().finish(expected_score, fingerprint(self.fusion), CONDITION, THRESHOLD)

    def score_frames(self, videos: Videos, prompts: Sequence[str]) -> list[Tensor]:
        taken = counts(videos, self.frames)
        rows = torch.tensor([row for row, count in enumerate(taken) for _ in range(count)], device=self.tower.device)
        words, ends = self._read([*prompts, CONDITION])
        kept = words_kept(words[:-1].float(), words[-1].float(), THRESHOLD)
        pixels = look(videos, self.frames, self.preprocess, self.tower.device).to(self.tower.dtype)
        fused = in_batches(self._fuse, self.batch_size, pixels, words[rows], kept[rows])
        cosines = torch.cosine_similarity(fused.float(), ends[rows].float(), dim=-1)
        return list((self.tower.model.logit_scale.float().exp() * cosines).split(taken))

    def _read(self, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """The projected tokens (B, 77, D) of texts, and those at their end (B, D)."""
        model = self.tower.model
        read = model.text_model(input_ids=self.tower.tokens(texts))
        return model.text_projection(read.last_hidden_state), model.text_projection(read.pooler_output)

    def _fuse(self, pixels: Tensor, words: Tensor, kept: Tensor) -> Tensor:
        """(N, D): the image's class token after it has looked at the words."""
        model = self.tower.model
        image = model.visual_projection(model.vision_model(pixel_values=pixels).last_hidden_state)
        fused: Tensor = self.fusion(image, words, kept)
        return fused[:, 0]
