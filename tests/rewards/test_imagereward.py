"""ImageReward in transformers' BLIP, against the original's vision tower and a BERT with cross-attention."""

from __future__ import annotations

import json
import logging
import string
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from transformers import BertConfig, BertModel, BertTokenizer
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from reelign.errors import ReelignError
from reelign.rewards.imagereward import ImageReward
from reelign.rewards.opening import open_reward
from rewards.clips import clip, mp4

WIDTH, HEADS, LAYERS = 128, 2, 2
MED = {"vocab_size": 60, "hidden_size": WIDTH, "intermediate_size": 64, "num_hidden_layers": LAYERS}
MED |= {"num_attention_heads": 4, "max_position_embeddings": 40, "layer_norm_eps": 1e-12, "hidden_act": "gelu"}
MED |= {"encoder_width": 768, "add_cross_attention": True, "model_type": "bert", "type_vocab_size": 2}


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.qkv, self.proj = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        queries, keys, values = self.qkv(x).unflatten(-1, (3, HEADS, -1)).permute(2, 0, 3, 1, 4)
        weights = (queries @ keys.transpose(-1, -2) * (WIDTH // HEADS) ** -0.5).softmax(-1)
        return self.proj((weights @ values).transpose(1, 2).flatten(2))


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(WIDTH, eps=1e-6), nn.LayerNorm(WIDTH, eps=1e-6)
        self.attn, self.mlp = Attention(), nn.ModuleDict({"fc1": nn.Linear(WIDTH, 96), "fc2": nn.Linear(96, WIDTH)})

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.norm1(x))
        return x + self.mlp["fc2"](nn.functional.gelu(self.mlp["fc1"](self.norm2(x))))


class VisualEncoder(nn.Module):
    """BLIP's models/vit.py (timm's names) for frames of 32 pixels and patches of 16."""

    def __init__(self) -> None:
        super().__init__()
        self.cls_token = nn.Parameter(torch.randn(1, 1, WIDTH))
        self.pos_embed = nn.Parameter(torch.randn(1, 5, WIDTH))
        self.patch_embed = nn.ModuleDict({"proj": nn.Conv2d(3, WIDTH, 16, 16)})
        self.blocks = nn.ModuleList([Block() for _ in range(LAYERS)])
        self.norm = nn.LayerNorm(WIDTH, eps=1e-6)

    def forward(self, pixels: Tensor) -> Tensor:
        x = self.patch_embed["proj"](pixels).flatten(2).transpose(1, 2)
        x = torch.cat([self.cls_token.expand(len(x), 1, -1), x], dim=1) + self.pos_embed
        for block in self.blocks:
            x = block(x)
        return self.norm(x)


class Original(nn.Module):
    """ImageReward.pt: blip.visual_encoder, blip.text_encoder (med.py's BertModel), two projections, and mlp."""

    def __init__(self) -> None:
        super().__init__()
        known = {key: value for key, value in MED.items() if key not in ("encoder_width", "add_cross_attention")}
        bert = BertModel(BertConfig(**known, is_decoder=True, add_cross_attention=True), add_pooling_layer=False)
        bert.embeddings.token_type_embeddings.weight.data.zero_()  # med.py has none
        bert.config.is_decoder = False  # asked as an encoder, so without the causal mask
        for module in bert.modules():
            if hasattr(module, "is_causal"):
                module.is_causal = False
        parts = {"visual_encoder": VisualEncoder(), "text_encoder": bert}
        parts |= {"vision_proj": nn.Linear(WIDTH, 8), "text_proj": nn.Linear(WIDTH, 8)}
        self.blip = nn.ModuleDict(parts)
        widths = (WIDTH, 1024, 128, 64, 16, 1)
        linears = [nn.Linear(widths[index], widths[index + 1]) for index in range(5)]
        drop = nn.Dropout(0.2)
        layers = nn.Sequential(linears[0], drop, linears[1], drop, linears[2], drop, linears[3], linears[4])
        self.mlp = nn.ModuleDict({"layers": layers})

    def forward(self, pixels: Tensor, ids: Tensor, mask: Tensor) -> Tensor:
        seen = self.blip["visual_encoder"](pixels)
        fused = self.blip["text_encoder"](ids, mask, encoder_hidden_states=seen).last_hidden_state
        return (self.mlp["layers"](fused[:, 0])[:, 0] - 0.16717362830052426) / 1.0333394966054072


def save_tokenizer(folder: Path) -> BertTokenizer:
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *string.ascii_lowercase]
    pieces += [f"##{letter}" for letter in string.ascii_lowercase]
    made = BertTokenizer(vocab={piece: index for index, piece in enumerate(pieces)})
    made.save_pretrained(folder)
    return made


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Original, BertTokenizer]:
    folder = tmp_path_factory.mktemp("imagereward")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        original = Original().eval()
        for weight in original.parameters():
            weight.data += 0.1 * torch.randn_like(weight)
        original.blip["text_encoder"].embeddings.token_type_embeddings.weight.data.zero_()
    weights = {key: value for key, value in original.state_dict().items() if "token_type" not in key}
    weights["blip.text_encoder.embeddings.position_ids"] = torch.arange(40)[None]
    torch.save(weights, folder / "ImageReward.pt")
    (folder / "med_config.json").write_text(json.dumps(MED))
    return folder, original, save_tokenizer(folder)


def test_a_real_file_is_scored_as_by_the_original(saved: tuple[Path, Original, BertTokenizer], tmp_path: Path) -> None:
    folder, original, tokenizer = saved
    reward = open_reward("imagereward", model=str(folder), tokenizer=str(folder))
    video, prompts = mp4(tmp_path), ["a red disc", "blue"]
    images = [Image.fromarray((frame.permute(1, 2, 0) * 255).round().byte().numpy()) for frame in video]
    sizes = {"size": {"shortest_edge": 32}, "crop_size": {"height": 32, "width": 32}}
    pixels = CLIPImageProcessorPil(**sizes)(images, return_tensors="pt")["pixel_values"]
    read = tokenizer(prompts[0], return_tensors="pt")
    with torch.no_grad():
        wanted = original(pixels, read.input_ids.expand(6, -1), read.attention_mask.expand(6, -1)).mean()
    scores = reward.score([video, clip(2, 50, 40)], prompts)["overall"]
    assert torch.allclose(scores[0], wanted, atol=1e-4)
    assert not torch.allclose(scores[0], reward.score([video], prompts[1:])["overall"])


def test_gradients_reach_the_pixels(saved: tuple[Path, Original, BertTokenizer]) -> None:
    reward = ImageReward(model=str(saved[0] / "ImageReward.pt"), tokenizer=str(saved[0]), frames=2)
    videos = clip(3)[None].requires_grad_()
    score = reward.score(videos, ["a red disc"])["overall"]
    (gradient,) = torch.autograd.grad(score.sum(), videos)
    assert (gradient.abs().amax(dim=(0, 2, 3, 4)) > 0).tolist() == [True, False, True]
    with torch.no_grad():
        assert reward.score(videos + gradient.sign() / 255, ["a red disc"])["overall"] > score


def test_the_35_tokens_that_are_read_are_told(
    saved: tuple[Path, Original, BertTokenizer], caplog: pytest.LogCaptureFixture
) -> None:
    reward = ImageReward(model=str(saved[0]), tokenizer=str(saved[0]))
    with caplog.at_level(logging.WARNING):
        cut = reward.score([clip(1)], ["a " * 40 + "disc"])["overall"]
    assert "imagereward reads 35 tokens of a prompt" in caplog.text
    assert torch.equal(cut, reward.score([clip(1)], ["a " * 40 + "square"])["overall"])


def test_checkpoints_that_do_not_fit_are_refused(saved: tuple[Path, Original, BertTokenizer], tmp_path: Path) -> None:
    weights = torch.load(saved[0] / "ImageReward.pt")
    (tmp_path / "med_config.json").write_text(json.dumps(MED))

    def refused(changed: dict[str, Tensor], words: str) -> None:
        torch.save(changed, tmp_path / "ImageReward.pt")
        with pytest.raises(ReelignError, match=words):
            ImageReward(model=str(tmp_path), tokenizer=str(saved[0]))

    gone = "blip.text_encoder.encoder.layer.1.crossattention.self.key.weight"
    words = r"lacks the weight encoder\.layer\.1\.crossattention\.self\.key\.weight"
    refused({key: value for key, value in weights.items() if key != gone}, words)
    refused(weights | {"itm_head.weight": torch.zeros(2)}, r"without a place for it, the weight itm_head\.weight")
    refused({key.removeprefix("blip."): value for key, value in weights.items()}, "vision tower")
