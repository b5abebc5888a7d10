"""VideoCrafter2's released weights under diffusers' names, and the sizes that they say.

The released names are those of lvdm (github.com/AILab-CVC/VideoCrafter, lvdm/modules/networks/openaimodel3d.py, its
misspelling "temopral" included) and of OpenCLIP. Everything is a table of prefixes, so that a name without a place is
seen: nothing is dropped but what is named here.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

Weights = dict[str, Tensor]

HEAD = 64
"""Width of every attention head, in U-Net and text encoder."""
RESIDUAL = {
    "in_layers.0": "norm1",
    "in_layers.2": "conv1",
    "emb_layers.1": "time_emb_proj",
    "out_layers.0": "norm2",
    "out_layers.3": "conv2",
    "skip_connection": "conv_shortcut",
}
UNET_ENDS = {
    "time_embed.0": "time_embedding.linear_1",
    "time_embed.2": "time_embedding.linear_2",
    "fps_embedding.0": "time_embedding.fps.linear_1",
    "fps_embedding.2": "time_embedding.fps.linear_2",
    "input_blocks.0.0": "conv_in",
    "init_attn.0": "transformer_in",
    "out.0": "conv_norm_out",
    "out.2": "conv_out",
}
TEXT_ENDS = {
    "positional_embedding": "embeddings.position_embedding.weight",
    "token_embedding": "embeddings.token_embedding",
    "ln_final": "final_layer_norm",
}
TEXT_LAYER = {
    "ln_1": "layer_norm1",
    "ln_2": "layer_norm2",
    "mlp.c_fc": "mlp.fc1",
    "mlp.c_proj": "mlp.fc2",
    "attn.out_proj": "self_attn.out_proj",
}
TEXT_UNUSED = ("text_projection", "logit_scale", "attn_mask")
"""Of OpenCLIP's contrastive head, and its causal mask."""


def renamed(weights: Weights, places: dict[str, str]) -> Weights:
    """The weights under new names, by the longest prefix of whole parts that a table has; others keep theirs."""
    found = {}
    for name, tensor in weights.items():
        prefix, rest = name, ""
        while prefix and prefix not in places:
            prefix, _, part = prefix.rpartition(".")
            rest = f".{part}{rest}"
        found[places[prefix] + rest if prefix else name] = tensor
    return found


def unet_config(weights: Weights) -> dict[str, Any]:
    """Settings of the U-Net from its released weights: levels, layers of each, which of them attend.

    Raises:
        KeyError: a part that says them is not there.
    """
    channels, attends, layers = [weights["input_blocks.0.0.weight"].shape[0]], [False], [0]
    index = 1
    while any(name.startswith(f"input_blocks.{index}.") for name in weights):
        if f"input_blocks.{index}.0.op.weight" in weights:
            channels, attends, layers = [*channels, channels[-1]], [*attends, False], [*layers, 0]
        else:
            channels[-1] = weights[f"input_blocks.{index}.0.in_layers.2.weight"].shape[0]
            attends[-1] = f"input_blocks.{index}.1.norm.weight" in weights
            layers[-1] += 1
        index += 1
    down = tuple("CrossAttnDownBlock3D" if each else "DownBlock3D" for each in attends)
    return {
        "in_channels": weights["input_blocks.0.0.weight"].shape[1],
        "out_channels": weights["out.2.weight"].shape[0],
        "down_block_types": down,
        "up_block_types": tuple(each.replace("Down", "Up") for each in reversed(down)),
        "block_out_channels": tuple(channels),
        "layers_per_block": layers[0],
        "cross_attention_dim": weights["middle_block.1.transformer_blocks.0.attn2.to_k.weight"].shape[1],
        "attention_head_dim": HEAD,
    }


def unet_weights(weights: Weights, config: dict[str, Any]) -> Weights:
    """The released U-Net's weights by the names of `VideoCrafter2UNet`."""
    places = dict(UNET_ENDS)
    layers, levels = config["layers_per_block"], len(config["block_out_channels"])
    for level, kind in enumerate(config["down_block_types"]):
        for layer in range(layers):
            block = f"input_blocks.{1 + level * (layers + 1) + layer}"
            places |= _block(block, f"down_blocks.{level}", layer, attends="Cross" in kind)
        places[f"input_blocks.{(level + 1) * (layers + 1)}.0.op"] = f"down_blocks.{level}.downsamplers.0.conv"
    places |= _block("middle_block", "mid_block", 0, attends=True)
    places |= _residual("middle_block.3", "mid_block", 1)
    for level, kind in enumerate(config["up_block_types"]):
        attends = "Cross" in kind
        for layer in range(layers + 1):
            block = f"output_blocks.{level * (layers + 1) + layer}"
            places |= _block(block, f"up_blocks.{level}", layer, attends=attends)
        if level < levels - 1:
            places[f"{block}.{3 if attends else 1}.conv"] = f"up_blocks.{level}.upsamplers.0.conv"
    found = renamed(weights, places)
    # Convolutions of one frame in the first temporal layer, which are linear layers in all others.
    return {name: each.squeeze(-1) if ".proj_" in name and each.ndim == 3 else each for name, each in found.items()}


def _block(released: str, ours: str, layer: int, *, attends: bool) -> dict[str, str]:
    """A residual block, and where it attends the layers over space and over time behind it."""
    places = _residual(f"{released}.0", ours, layer)
    if attends:
        places[f"{released}.1"] = f"{ours}.attentions.{layer}"
        places[f"{released}.2"] = f"{ours}.temp_attentions.{layer}"
    return places


def _residual(released: str, ours: str, layer: int) -> dict[str, str]:
    places = {f"{released}.{old}": f"{ours}.resnets.{layer}.{new}" for old, new in RESIDUAL.items()}
    return {**places, f"{released}.temopral_conv": f"{ours}.temp_convs.{layer}"}


def text_config(weights: Weights) -> dict[str, Any]:
    """Settings of the text encoder: OpenCLIP's up to its last layer but one.

    Raises:
        KeyError: a part that says them is not there.
    """
    words, width = weights["token_embedding.weight"].shape
    return {
        "vocab_size": words,
        "hidden_size": width,
        "intermediate_size": weights["transformer.resblocks.0.mlp.c_fc.weight"].shape[0],
        "num_attention_heads": width // HEAD,
        "num_hidden_layers": _text_layers(weights) - 1,
        "max_position_embeddings": weights["positional_embedding"].shape[0],
        "hidden_act": "gelu",
        "projection_dim": 512,
        # Special tokens of CLIP's vocabulary; text is padded by "!", its first word, as OpenCLIP does.
        "pad_token_id": 0,
        "bos_token_id": words - 2,
        "eos_token_id": words - 1,
    }


def text_weights(weights: Weights) -> Weights:
    """The released text encoder's weights by the names of transformers' `CLIPTextModel`."""
    last = _text_layers(weights) - 1
    places = dict(TEXT_ENDS)
    found: Weights = {}
    for layer in range(last):
        there, here = f"transformer.resblocks.{layer}", f"encoder.layers.{layer}"
        places |= {f"{there}.{old}": f"{here}.{new}" for old, new in TEXT_LAYER.items()}
    for name, tensor in weights.items():
        if name in TEXT_UNUSED or name.startswith(f"transformer.resblocks.{last}."):
            continue
        block, packed, kind = name.partition(".attn.in_proj_")
        if packed:
            here = block.replace("transformer.resblocks", "encoder.layers")
            thirds = zip("qkv", tensor.chunk(3), strict=True)
            found |= {f"{here}.self_attn.{each}_proj.{kind}": third for each, third in thirds}
        else:
            found |= renamed({name: tensor}, places)
    return {name: tensor.contiguous() for name, tensor in found.items()}


def _text_layers(weights: Weights) -> int:
    return len({name.split(".")[2] for name in weights if name.startswith("transformer.resblocks.")})


def vae_config(weights: Weights) -> dict[str, Any]:
    """Settings of Stable Diffusion's VAE of single frames.

    Raises:
        KeyError: a part that says them is not there.
    """
    levels = len({name.split(".")[2] for name in weights if name.startswith("encoder.down.")})
    layers = len({name.split(".")[4] for name in weights if name.startswith("encoder.down.0.block.")})
    return {
        "block_out_channels": tuple(
            weights[f"encoder.down.{level}.block.0.conv1.weight"].shape[0] for level in range(levels)
        ),
        "down_block_types": ("DownEncoderBlock2D",) * levels,
        "up_block_types": ("UpDecoderBlock2D",) * levels,
        "layers_per_block": layers,
        "latent_channels": weights["post_quant_conv.weight"].shape[1],
        "scaling_factor": 0.18215,
        "sample_size": 512,
    }


def vae_weights(weights: Weights, config: dict[str, Any]) -> Weights:
    """The released VAE's weights by the names of diffusers' `AutoencoderKL`; what has no place keeps its name."""
    from diffusers.loaders.single_file_utils import convert_ldm_vae_checkpoint

    found: Weights = convert_ldm_vae_checkpoint(dict(weights), config)
    known = {_memory(each) for each in found.values()}
    strange = {name: each for name, each in weights.items() if _memory(each) not in known}
    return {**{name: each.contiguous() for name, each in found.items()}, **strange}


def _memory(tensor: Tensor) -> tuple[int, int]:
    return tensor.untyped_storage().data_ptr(), int(tensor.storage_offset())


def part(weights: Weights, prefix: str) -> Weights:
    """One module's weights, by its own names."""
    return {name.removeprefix(prefix): each for name, each in weights.items() if name.startswith(prefix)}
