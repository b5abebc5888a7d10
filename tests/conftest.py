"""A real Wan pipeline, tiny and with random weights, for every test that needs a generator."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKLWan, FlowMatchEulerDiscreteScheduler, WanPipeline, WanTransformer3DModel
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from tokenizers.processors import TemplateProcessing
from transformers import PreTrainedTokenizerFast, UMT5Config, UMT5EncoderModel

from reelign.generators import Generator, VideoSize, load_generator

torch.set_num_threads(1)

WORDS = ("a", "red", "blue", "square", "disc", "moves", "left", "right")


@pytest.fixture(scope="session")
def tiny_wan_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A complete diffusers folder: VAE of spatial stride 8 and temporal stride 4, transformer of two blocks."""
    folder = tmp_path_factory.mktemp("models") / "tiny-wan"
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        pipeline = WanPipeline(
            tokenizer=_tokenizer(),
            text_encoder=_text_encoder(),
            transformer=_transformer(),
            vae=_vae(),
            scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
        )
    pipeline.save_pretrained(folder)
    return folder


@pytest.fixture
def tiny_wan(tiny_wan_folder: Path) -> Generator:
    """Loaded anew for each test, so that a test may train it."""
    return load_generator(str(tiny_wan_folder))


@pytest.fixture(scope="session")
def tiny_size() -> VideoSize:
    return VideoSize(num_frames=9, height=16, width=16)


def _tokenizer() -> PreTrainedTokenizerFast:
    vocabulary = {token: index for index, token in enumerate(["<pad>", "</s>", "<unk>", *WORDS])}
    tokenizer = Tokenizer(WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = Whitespace()
    tokenizer.post_processor = TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    special = {"pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>"}
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_max_length=8, **special)


def _text_encoder() -> UMT5EncoderModel:
    sizes = {"d_model": 32, "d_kv": 8, "d_ff": 37, "num_layers": 2, "num_heads": 4}
    return UMT5EncoderModel(UMT5Config(vocab_size=len(WORDS) + 3, dropout_rate=0.0, **sizes)).eval()


def _transformer() -> WanTransformer3DModel:
    return WanTransformer3DModel(
        patch_size=(1, 2, 2),
        num_attention_heads=2,
        attention_head_dim=12,
        in_channels=16,
        out_channels=16,
        text_dim=32,
        freq_dim=256,
        ffn_dim=32,
        num_layers=2,
        cross_attn_norm=True,
        qk_norm="rms_norm_across_heads",
        rope_max_seq_len=32,
    ).eval()


def _vae() -> AutoencoderKLWan:
    return AutoencoderKLWan(
        base_dim=3, z_dim=16, dim_mult=[1] * 4, num_res_blocks=1, temperal_downsample=[False, True, True]
    ).eval()
