"""Tiny CLIPs with random weights: transformers' CLIPModel, and open_clip's layout of the same architecture."""

from __future__ import annotations

from pathlib import Path

import torch
from tokenizers.pre_tokenizers import ByteLevel
from torch import Tensor, nn
from transformers import CLIPConfig, CLIPModel, CLIPTokenizer

WIDTH, PROJECTED, HEADS, LAYERS, SIZE, PATCH = 32, 24, 4, 2, 32, 16
VOCABULARY = 514


def clip_tokenizer() -> CLIPTokenizer:
    """Every byte is a token, alone and at a word's end, with CLIP's two special tokens last."""
    letters = sorted(ByteLevel.alphabet())
    tokens = [*letters, *(f"{letter}</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    return CLIPTokenizer(vocab={token: index for index, token in enumerate(tokens)}, merges=[], model_max_length=77)


def clip_config(act: str = "gelu", projected: int = PROJECTED) -> CLIPConfig:
    common = {"hidden_size": WIDTH, "intermediate_size": 4 * WIDTH, "num_hidden_layers": LAYERS, "hidden_act": act}
    common |= {"num_attention_heads": HEADS, "projection_dim": projected}
    text = {"vocab_size": VOCABULARY, "bos_token_id": VOCABULARY - 2, "eos_token_id": VOCABULARY - 1}
    vision = {"image_size": SIZE, "patch_size": PATCH}
    return CLIPConfig(text_config=common | text, vision_config=common | vision, projection_dim=projected)


def save_clip(folder: Path, *, seed: int = 0, projected: int = PROJECTED) -> Path:
    """As the hub holds openai/clip-vit-large-patch14 and yuvalkirstain/PickScore_v1: CLIPModel's own layout."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = CLIPModel(clip_config("quick_gelu", projected))
        for weight in model.parameters():  # livelier than the initial weights, under which all scores are alike
            weight.data += 0.1 * torch.randn_like(weight)
    model.logit_scale.data.fill_(4.6052)
    # Saved by transformers before 4.31, which counted positions in a buffer that it saved.
    counted = {"text_model.embeddings.position_ids": torch.arange(77)[None]}
    counted["vision_model.embeddings.position_ids"] = torch.arange((SIZE // PATCH) ** 2 + 1)[None]
    model.save_pretrained(folder, state_dict=model.state_dict() | counted)
    clip_tokenizer().save_pretrained(folder)
    return folder


class Block(nn.Module):
    """A residual block as open_clip/transformer.py names it: ln_1, attn, ln_2, mlp.c_fc, mlp.c_proj."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.ln_1, self.ln_2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attn = nn.MultiheadAttention(width, HEADS, batch_first=True)
        self.mlp = nn.Sequential()
        self.mlp.add_module("c_fc", nn.Linear(width, 4 * width))
        self.mlp.add_module("gelu", nn.GELU())
        self.mlp.add_module("c_proj", nn.Linear(4 * width, width))

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        seen = self.ln_1(x)
        x = x + self.attn(seen, seen, seen, need_weights=False, attn_mask=mask)[0]
        return x + self.mlp(self.ln_2(x))


class Blocks(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.resblocks = nn.ModuleList([Block(width) for _ in range(LAYERS)])

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        for block in self.resblocks:
            x = block(x, mask)
        return x


class Visual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.class_embedding = nn.Parameter(torch.randn(WIDTH))
        self.positional_embedding = nn.Parameter(torch.randn((SIZE // PATCH) ** 2 + 1, WIDTH))
        self.proj = nn.Parameter(torch.randn(WIDTH, PROJECTED) / 5)
        self.conv1 = nn.Conv2d(3, WIDTH, PATCH, PATCH, bias=False)
        self.ln_pre, self.ln_post = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.transformer = Blocks(WIDTH)

    def forward(self, pixels: Tensor) -> Tensor:
        patches = self.conv1(pixels).flatten(2).transpose(1, 2)
        x = torch.cat([self.class_embedding.expand(len(pixels), 1, -1), patches], dim=1) + self.positional_embedding
        return self.ln_post(self.transformer(self.ln_pre(x))[:, 0]) @ self.proj


class OpenClip(nn.Module):
    """open_clip's CLIP (model.py, transformer.py; the layout of HPS_v2_compressed.pt, 686 keys at ViT-H-14), tiny."""

    def __init__(self) -> None:
        super().__init__()
        self.positional_embedding = nn.Parameter(torch.randn(77, WIDTH) / 5)
        self.text_projection = nn.Parameter(torch.randn(WIDTH, PROJECTED) / 5)
        self.logit_scale = nn.Parameter(torch.tensor(4.6052))
        self.visual = Visual()
        self.transformer = Blocks(WIDTH)
        self.token_embedding = nn.Embedding(VOCABULARY, WIDTH)
        self.ln_final = nn.LayerNorm(WIDTH)

    def encode_text(self, ids: Tensor) -> Tensor:
        mask = torch.full((77, 77), float("-inf")).triu(1)
        x = self.ln_final(self.transformer(self.token_embedding(ids) + self.positional_embedding, mask))
        return x[torch.arange(len(ids)), ids.argmax(dim=-1)] @ self.text_projection


def save_open_clip(folder: Path, name: str) -> OpenClip:
    """`name` as xswu/HPSv2 holds it ({"state_dict": ...}), with the config and tokenizer of CLIP-H's repository."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        model = OpenClip().eval()
    folder.mkdir(parents=True, exist_ok=True)
    torch.save({"epoch": 5, "name": "HPS", "state_dict": model.state_dict()}, folder / name)
    clip_config().save_pretrained(folder)
    clip_tokenizer().save_pretrained(folder)
    return model
