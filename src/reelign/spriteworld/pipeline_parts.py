"""The tiny Wan pipeline's parts, untrained: tokenizer, text encoder, transformer, scheduler."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from diffusers import AutoencoderKLWan, FlowMatchEulerDiscreteScheduler, WanPipeline, WanTransformer3DModel
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from tokenizers.processors import TemplateProcessing
from transformers import PreTrainedTokenizerFast, UMT5Config, UMT5EncoderModel

from reelign.generators.defaults import DEFAULTS_FILE
from reelign.spriteworld.prompts import all_captions, held_out_captions, train_captions
from reelign.spriteworld.world import FPS, NUM_FRAMES, SIZE

MAX_SEQUENCE_LENGTH = 8
"""A caption has five words and an end."""
PLACE = 2.0
"""Standard deviation of the initial biases of queries and keys, which normalisation then takes to about 1."""
GUIDANCE_SCALE = 4.0
NUM_INFERENCE_STEPS = 10


def build_tokenizer() -> PreTrainedTokenizerFast:
    """One token a word. It appends `</s>`, so that the empty prompt is one real token and not an all-zero mask."""
    words = sorted({word for caption in all_captions() for word in caption.split()})
    vocabulary = {token: index for index, token in enumerate(["<pad>", "</s>", "<unk>", *words])}
    tokenizer = Tokenizer(WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = Whitespace()
    tokenizer.post_processor = TemplateProcessing(single="$A </s>", special_tokens=[("</s>", vocabulary["</s>"])])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        eos_token="</s>",
        unk_token="<unk>",
        model_max_length=MAX_SEQUENCE_LENGTH,
    )


def build_pipeline(
    vae: AutoencoderKLWan, *, seed: int, width: int, layers: int, patch: tuple[int, int, int]
) -> WanPipeline:
    """An untrained `WanPipeline` over the given autoencoder.

    Args:
        seed: of the initial weights.
        width: of the transformer, a multiple of 32.
        layers: blocks of the transformer.
        patch: latent frames, rows and columns that make a token.
    """
    tokenizer = build_tokenizer()
    channels = vae.config.z_dim
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        text_encoder = UMT5EncoderModel(
            UMT5Config(
                vocab_size=len(tokenizer),
                d_model=64,
                d_kv=16,
                d_ff=128,
                num_layers=1,
                num_heads=4,
                dropout_rate=0.0,
                relative_attention_num_buckets=8,
            )
        )
        transformer = WanTransformer3DModel(
            patch_size=patch,
            num_attention_heads=width // 32,
            attention_head_dim=32,
            in_channels=channels,
            out_channels=channels,
            text_dim=64,
            freq_dim=64,
            ffn_dim=4 * width,
            num_layers=layers,
            rope_max_seq_len=64,
        )
        give_sense_of_place(transformer)
    scheduler = FlowMatchEulerDiscreteScheduler(shift=1.0)
    return WanPipeline(
        tokenizer=tokenizer,
        text_encoder=text_encoder.eval(),
        transformer=transformer.eval(),
        vae=vae.eval(),
        scheduler=scheduler,
    )


def give_sense_of_place(transformer: WanTransformer3DModel) -> None:
    """Give queries and keys random biases, under which rotary embeddings make every head look to offsets of its own.

    Wan has no other sense of place. torch's initial biases are near zero, attention is then blind to offsets on a noisy
    grid, and thousands of steps pass before heads learn where a token stands.
    """
    with torch.no_grad():
        for block in transformer.blocks:
            for projection in (block.attn1.to_q, block.attn1.to_k):
                projection.bias.copy_(PLACE * torch.randn(projection.bias.shape))


def save_pipeline(pipeline: WanPipeline, folder: Path) -> None:
    """Write the complete diffusers folder, and beside it how it is sampled by default and its prompts.

    The two large parts are stored in fp16 and upcast on loading; the text encoder stays fp32, since transformers would
    load it in the precision of its file and leave the pipeline mixed.
    """
    for module in (pipeline.transformer, pipeline.vae):
        torch.nn.Module.half(module)
    # Where a part was loaded from is nobody's business but the machine's that trained it.
    pipeline.vae.register_to_config(_name_or_path="")
    pipeline.save_pretrained(folder)
    for module in (pipeline.transformer, pipeline.vae):
        torch.nn.Module.float(module)
    defaults = {
        "num_frames": NUM_FRAMES,
        "height": SIZE,
        "width": SIZE,
        "fps": FPS,
        "guidance_scale": GUIDANCE_SCALE,
        "num_inference_steps": NUM_INFERENCE_STEPS,
    }
    (folder / DEFAULTS_FILE).write_text(json.dumps(defaults, indent=2) + "\n")
    (folder / "prompts").mkdir(exist_ok=True)
    (folder / "prompts" / "train.txt").write_text("\n".join(train_captions()) + "\n")
    (folder / "prompts" / "held_out.txt").write_text("\n".join(held_out_captions()) + "\n")
