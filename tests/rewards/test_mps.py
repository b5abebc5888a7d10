"""MPS' fusion, worked out head by head, and its checkpoint in the layout of the hub."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import CLIPModel
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from reelign.errors import ReelignError
from reelign.rewards.mps import CONDITION, MPS
from reelign.rewards.mps_fusion import words_kept
from reelign.rewards.opening import open_reward
from rewards.clips import clip, mp4
from rewards.tiny_clip import PROJECTED, VOCABULARY, clip_config, clip_tokenizer

HEADS, HEAD = 16, 64
TO_TEXT = {
    "norm.weight": (PROJECTED,),
    "norm.bias": (PROJECTED,),
    "to_q.weight": (HEADS * HEAD, PROJECTED),
    "to_kv.weight": (2 * HEAD, PROJECTED),
    "to_out.weight": (PROJECTED, HEADS * HEAD),
    "ff.0.weight": (8 * PROJECTED, PROJECTED),
    "ff.2.weight": (PROJECTED, 4 * PROJECTED),
}
TO_IMAGE = {
    "norm.weight": (PROJECTED,),
    "norm.bias": (PROJECTED,),
    "rotary_emb.inv_freq": (HEAD // 2,),
    "fused_attn_ff_proj.weight": (HEADS * HEAD + 2 * HEAD + 8 * PROJECTED, PROJECTED),
    "attn_out.weight": (PROJECTED, HEADS * HEAD),
    "ff_out.1.weight": (PROJECTED, 4 * PROJECTED),
}
"""Keys and shapes of Kwai-Kolors/MPS, trainer/models/cross_modeling.py; PROJECTED is 1024 there."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As RE-N-Y/mpsv1: mps.model.… of an old CLIPModel and mps.cross_model.…"""
    folder = tmp_path_factory.mktemp("mps")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        clip_model = CLIPModel(clip_config())
        weights = {f"mps.model.{key}": value.contiguous() for key, value in clip_model.state_dict().items()}
        for layer in range(4):
            for part, shapes in enumerate((TO_TEXT, TO_IMAGE)):
                for key, shape in shapes.items():
                    weights[f"mps.cross_model.layers.{layer}.{part}.fn.{key}"] = torch.randn(shape) / shape[-1] ** 0.5
                zero, one = (f"mps.cross_model.layers.{layer}.{part}.fn.norm.{name}" for name in ("bias", "weight"))
                weights[zero], weights[one] = torch.zeros(PROJECTED), 1 + 0.1 * torch.randn(PROJECTED)
            frequencies = 1 / 10000 ** (torch.arange(0, HEAD, 2) / HEAD)
            weights[f"mps.cross_model.layers.{layer}.1.fn.rotary_emb.inv_freq"] = frequencies
    weights["mps.model.text_model.embeddings.position_ids"] = torch.arange(77)[None]
    save_file(weights, folder / "model.safetensors")
    clip_config().save_pretrained(folder)
    clip_tokenizer().save_pretrained(folder)
    return folder


def norm(x: Tensor, weights: dict[str, Tensor], name: str) -> Tensor:
    return F.layer_norm(x, (PROJECTED,), weights[f"{name}.norm.weight"])


def gated(x: Tensor) -> Tensor:
    half = x.shape[-1] // 2
    return x[..., :half] * x[..., half:] * torch.sigmoid(x[..., half:])


def turned(x: Tensor) -> Tensor:
    """Rotary positions as complex numbers: feature i with feature i + 32, token n by n · 10000^(-i/32)."""
    pairs = torch.complex(x[:, :32].double(), x[:, 32:].double())
    angle = torch.arange(len(x), dtype=torch.float64)[:, None] * 10000.0 ** (-torch.arange(32) / 32)
    product = pairs * torch.polar(torch.ones_like(angle), angle)
    return torch.cat([product.real, product.imag], dim=1).float()


def fused(image: Tensor, text: Tensor, kept: Tensor, weights: dict[str, Tensor]) -> Tensor:
    """(I, D) tokens of one image and (T, D) of one text, each head by itself."""
    for layer in range(4):
        name = f"mps.cross_model.layers.{layer}.0.fn"
        x = norm(image, weights, name)
        keys, values = (text[kept] @ weights[f"{name}.to_kv.weight"].T).chunk(2, dim=1)
        heads = (x @ weights[f"{name}.to_q.weight"].T).split(HEAD, dim=1)
        seen = torch.cat([(query @ keys.T / 8).softmax(1) @ values for query in heads], dim=1)
        beside = gated(x @ weights[f"{name}.ff.0.weight"].T) @ weights[f"{name}.ff.2.weight"].T
        image = image + seen @ weights[f"{name}.to_out.weight"].T + beside
        name = f"mps.cross_model.layers.{layer}.1.fn"
        x = norm(image, weights, name) @ weights[f"{name}.fused_attn_ff_proj.weight"].T
        *heads, keys, values = x[:, : (HEADS + 2) * HEAD].split(HEAD, dim=1)
        seen = torch.cat([(turned(query) @ turned(keys).T / 8).softmax(1) @ values for query in heads], dim=1)
        beside = gated(x[:, (HEADS + 2) * HEAD :]) @ weights[f"{name}.ff_out.1.weight"].T
        image = image + seen @ weights[f"{name}.attn_out.weight"].T + beside
    return image


def test_a_real_file_is_scored_as_by_the_evaluation_of_its_authors(folder: Path, tmp_path: Path) -> None:
    weights, prompt = load_file(folder / "model.safetensors"), "a red disc moves left"
    model = CLIPModel(clip_config()).eval()
    held = {key[10:]: value for key, value in weights.items() if key.startswith("mps.model.")}
    model.load_state_dict({key: value for key, value in held.items() if "position_ids" not in key})
    video = mp4(tmp_path)
    images = [Image.fromarray((frame.permute(1, 2, 0) * 255).round().byte().numpy()) for frame in video]
    sizes = {"size": {"shortest_edge": 32}, "crop_size": {"height": 32, "width": 32}}
    pixels = CLIPImageProcessorPil(**sizes)(images, return_tensors="pt")["pixel_values"]
    end = VOCABULARY - 1
    ids = [clip_tokenizer()(text, truncation=True).input_ids for text in (prompt, CONDITION)]
    ids = torch.tensor([row + [end] * (77 - len(row)) for row in ids])
    with torch.no_grad():
        states = model.text_model(input_ids=ids).last_hidden_state
        words, condition = model.text_projection(states)
        closeness = (words @ condition.T).max(dim=1).values
        kept = closeness / closeness.max() > 0.3
        tokens = model.visual_projection(model.vision_model(pixel_values=pixels).last_hidden_state)
        ends = words[ids[0].tolist().index(end)]
        cosines = [F.cosine_similarity(fused(image, words, kept, weights)[0], ends, dim=0) for image in tokens]
        wanted = model.logit_scale.exp() * torch.stack(cosines).mean()
    reward = open_reward("mps", model=str(folder), tokenizer=str(folder), batch_size=4)
    scores = reward.score([video, clip(2, 50, 40)], [prompt, "blue"])["overall"]
    assert torch.allclose(scores[0], wanted, atol=1e-3)


def test_words_are_kept_by_their_closeness_to_the_condition() -> None:
    text = torch.tensor([[[1.0, 0.0], [0.2, 0.0], [0.0, 0.5]]])
    condition = torch.tensor([[2.0, 0.0], [0.0, 1.0]])  # closeness 2, 0.4, 0.5
    assert words_kept(text, condition, 0.3).tolist() == [[True, False, False]]
    assert words_kept(text, condition, 0.22).tolist() == [[True, False, True]]


def test_gradients_reach_the_pixels(folder: Path) -> None:
    reward = MPS(model=str(folder / "model.safetensors"), tokenizer=str(folder))
    videos = clip(2)[None].requires_grad_()
    (gradient,) = torch.autograd.grad(reward.score(videos, ["a red disc"])["overall"].sum(), videos)
    assert gradient.abs().amax(dim=(0, 2, 3, 4)).min() > 0


def test_checkpoints_that_do_not_fit_are_refused(folder: Path, tmp_path: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    path = tmp_path / "MPS_overall.safetensors"
    lacking = {key: value for key, value in weights.items() if not key.endswith("layers.3.1.fn.attn_out.weight")}
    save_file(lacking, path)
    with pytest.raises(ReelignError, match=r"lacks the weight layers\.3\.1\.fn\.attn_out\.weight"):
        MPS(model=str(path), tokenizer=str(folder))
    # The official file is a pickled object and not a state dict.
    torch.save(torch.nn.Linear(2, 2), tmp_path / "MPS_overall_checkpoint.pth")
    with pytest.raises(ReelignError, match="cannot be read as weights") as caught:
        MPS(model=str(tmp_path / "MPS_overall_checkpoint.pth"), tokenizer=str(folder))
    assert "state_dict()" in str(caught.value)
