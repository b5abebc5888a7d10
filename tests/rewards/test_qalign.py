"""Q-Align from parts, each against another implementation, and its checkpoint in the public layout."""

from __future__ import annotations

import json
import string
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import CLIPVisionConfig, CLIPVisionModel, LlamaConfig, LlamaForCausalLM, LlamaTokenizer
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from reelign.errors import ReelignError
from reelign.rewards.opening import open_reward
from reelign.rewards.qalign import QAlign, one_per_second
from reelign.rewards.qalign_model import Multiway, Owl, Ways
from reelign.rewards.qalign_vision import Abstractor, VisionTower
from rewards.clips import clip, mp4

VISION = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
VISION |= {"image_size": 56, "patch_size": 14, "layer_norm_eps": 1e-6}
ABSTRACTOR = {"num_learnable_queries": 3, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
ABSTRACTOR |= {"intermediate_size": 40, "layer_norm_eps": 1e-6, "encoder_hidden_size": 32, "grid_size": 4}
CONFIG = {"model_type": "mplug_owl2", "vocab_size": 400, "hidden_size": 24, "intermediate_size": 40}
CONFIG |= {"num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 2, "rms_norm_eps": 1e-5}
CONFIG |= {"max_position_embeddings": 512, "rope_scaling": None}
CONFIG["auto_map"] = {"AutoConfig": "configuration_mplug_owl2.MPLUGOwl2Config"}  # code that is not run
CONFIG |= {"visual_config": {"visual_model": VISION, "visual_abstractor": ABSTRACTOR}}
PUBLIC_KEYS = {
    "model.embed_tokens.weight",
    "model.layers.0.self_attn.q_proj.weight",
    "model.layers.0.self_attn.k_proj.multiway.0.weight",
    "model.layers.0.self_attn.v_proj.multiway.1.weight",
    "model.layers.0.input_layernorm.multiway.1.weight",
    "model.layers.0.post_attention_layernorm.multiway.0.weight",
    "model.layers.0.mlp.gate_proj.weight",
    "model.norm.weight",
    "model.vision_model.embeddings.cls_token",
    "model.vision_model.embeddings.patch_embed.weight",
    "model.vision_model.embeddings.position_embedding",
    "model.vision_model.embeddings.pre_layernorm.bias",
    "model.vision_model.encoder.layers.0.self_attn.query_key_value.weight",
    "model.vision_model.encoder.layers.0.self_attn.dense.bias",
    "model.vision_model.encoder.layers.0.mlp.fc1.weight",
    "model.vision_model.post_layernorm.weight",
    "model.visual_abstractor.query_embeds",
    "model.visual_abstractor.vit_eos",
    "model.visual_abstractor.visual_fc.weight",
    "model.visual_abstractor.encoder.layers.0.crossattention.attention.q_pos_embed",
    "model.visual_abstractor.encoder.layers.0.crossattention.attention.key.weight",
    "model.visual_abstractor.encoder.layers.0.crossattention.output.mlp.ffn_ln.weight",
    "model.visual_abstractor.encoder.layers.0.crossattention.output.out_proj.weight",
    "model.visual_abstractor.encoder.layers.0.crossattention.normk.weight",
    "lm_head.weight",
}
"""Of q-future/one-align, after its modeling_llama2.py, modeling_mplug_owl2.py and visual_encoder.py."""


def lively(module: nn.Module, seed: int = 0) -> nn.Module:
    generator = torch.Generator().manual_seed(seed)
    for value in module.state_dict().values():  # what a checkpoint holds, so not the frequencies of positions
        value += 0.2 * torch.randn(value.shape, generator=generator)
    return module.eval().requires_grad_(False)


def tokenizer() -> LlamaTokenizer:
    """Llama's, in small: letters, bytes for the rest, and merges that make each of the five words one token."""
    vocabulary = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), "▁"]
    vocabulary += [letter for letter in string.printable if not letter.isspace()]
    merges = []
    for word in ("excellent", "good", "fair", "poor", "bad"):
        made = "▁"
        for letter in word:
            merges.append((made, letter))
            made += letter
            vocabulary.append(made)
    return LlamaTokenizer(vocab={token: index for index, token in enumerate(dict.fromkeys(vocabulary))}, merges=merges)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("qalign")
    weights = {key: value.contiguous() for key, value in lively(Owl(CONFIG)).state_dict().items()}
    assert weights.keys() >= PUBLIC_KEYS
    weights["model.layers.0.self_attn.rotary_emb.inv_freq"] = torch.ones(6)
    save_file(weights, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(CONFIG))
    tokenizer().save_pretrained(folder)
    return folder


def test_the_tower_is_clips_with_its_projections_packed_by_head() -> None:
    tower = lively(VisionTower(VISION))
    stock = CLIPVisionModel(CLIPVisionConfig(**VISION, hidden_act="quick_gelu")).eval()
    own, theirs = tower.state_dict(), stock.state_dict()
    names = {
        "embeddings.class_embedding": own["embeddings.cls_token"][0, 0],
        "embeddings.patch_embedding.weight": own["embeddings.patch_embed.weight"],
        "embeddings.position_embedding.weight": own["embeddings.position_embedding"][0],
    }
    prefix = "vision_model." if any(key.startswith("vision_model.") for key in theirs) else ""
    for part in ("weight", "bias"):
        names[f"pre_layrnorm.{part}"] = own[f"embeddings.pre_layernorm.{part}"]
        names[f"post_layernorm.{part}"] = own[f"post_layernorm.{part}"]
        for layer in range(2):
            old, new = f"encoder.layers.{layer}", f"encoder.layers.{layer}"
            packed = own[f"{old}.self_attn.query_key_value.{part}"].unflatten(0, (4, 3, 8))
            for index, name in enumerate("qkv"):
                names[f"{new}.self_attn.{name}_proj.{part}"] = packed[:, index].flatten(0, 1)
            pairs = {"self_attn.dense": "self_attn.out_proj", "mlp.fc1": "mlp.fc1", "mlp.fc2": "mlp.fc2"}
            pairs |= {"input_layernorm": "layer_norm1", "post_attention_layernorm": "layer_norm2"}
            for before, after in pairs.items():
                names[f"{new}.{after}.{part}"] = own[f"{old}.{before}.{part}"]
    stock.load_state_dict({prefix + key: value for key, value in names.items()}, strict=False)
    inner = stock.vision_model if prefix else stock
    for layer in [*inner.encoder.layers, inner]:
        for module in layer.children():
            if isinstance(module, nn.LayerNorm):
                module.eps = 1e-6
    pixels = torch.randn(2, 3, 56, 56, generator=torch.Generator().manual_seed(1))
    wanted = inner.post_layernorm(stock(pixels).last_hidden_state)
    assert torch.allclose(tower(pixels), wanted, atol=1e-4)


def test_the_abstractor_is_attention_of_queries_to_themselves_and_the_frame() -> None:
    abstractor = lively(Abstractor(ABSTRACTOR, 24))
    frame = torch.randn(1, 17, 32, generator=torch.Generator().manual_seed(1))
    queries = abstractor.query_embeds
    for layer in abstractor.encoder.layers:
        part = layer.crossattention
        queries = part.norm1(queries)
        everything = torch.cat([queries, part.normk(frame)], dim=1)
        heads, out = part.attention, part.output
        stock = nn.MultiheadAttention(32, 4, batch_first=True)
        stock.in_proj_weight.data = torch.cat([heads.query.weight, heads.key.weight, heads.value.weight])
        stock.in_proj_bias.data = torch.cat([heads.query.bias, heads.key.bias, heads.value.bias])
        stock.out_proj.weight.data, stock.out_proj.bias.data = out.out_proj.weight, out.out_proj.bias
        places = torch.cat([heads.q_pos_embed, heads.k_pos_embed])
        queries = queries + stock(queries + heads.q_pos_embed, everything + places, everything)[0]
        inner = out.norm2(queries)
        inner = out.mlp.ffn_ln(F.silu(out.mlp.w1(inner)) * out.mlp.w3(inner))
        queries = queries + out.mlp.w2(inner)
    wanted = torch.cat([abstractor.visual_fc(queries), abstractor.vit_eos], dim=1)
    assert torch.allclose(abstractor(frame), wanted, atol=1e-5)


def test_each_token_takes_the_way_of_its_kind() -> None:
    ways = Ways()
    both = Multiway(lambda: nn.Linear(2, 2), ways)
    states = torch.randn(1, 3, 2)
    ways.image = torch.tensor([[False, True, False]])
    mixed = both(states)[0]
    assert torch.equal(mixed[1], both.multiway[1](states)[0, 1])
    assert torch.equal(mixed[::2], both.multiway[0](states)[0, ::2])


@pytest.mark.parametrize("way", [0, 1])
def test_tokens_of_one_kind_see_a_plain_llama(way: int) -> None:
    owl = lively(Owl(CONFIG))
    rope = {"rope_type": "default", "rope_theta": 10000.0}
    sizes = {
        key: CONFIG[key] for key in CONFIG if key not in ("model_type", "visual_config", "rope_scaling", "auto_map")
    }
    llama = LlamaForCausalLM(LlamaConfig(**sizes, rope_parameters=rope)).eval()
    weights = {key.replace(f"multiway.{way}.", ""): value for key, value in owl.state_dict().items()}
    skipped = ("vision_model", "visual_abstractor", "multiway")
    llama.load_state_dict({key: value for key, value in weights.items() if not any(name in key for name in skipped)})
    ids = torch.tensor([[5, 7, 9, 11]])
    owl.ways.image = torch.full((1, 4), bool(way))
    states = owl.model(input_ids=ids, use_cache=False).last_hidden_state
    assert torch.allclose(owl.lm_head(states), llama(ids).logits, atol=1e-5)


def squares(frames: Tensor) -> Tensor:
    """Frames in the middle of squares of CLIP's mean colour, through CLIP's processor at 56 pixels."""
    images = []
    for frame in frames:
        image = Image.fromarray((frame.permute(1, 2, 0) * 255).round().byte().numpy())
        side = max(image.size)
        square = Image.new("RGB", (side, side), (122, 116, 104))
        square.paste(image, ((side - image.width) // 2, (side - image.height) // 2))
        images.append(square)
    sizes = {"size": {"shortest_edge": 56}, "crop_size": {"height": 56, "width": 56}}
    return CLIPImageProcessorPil(**sizes)(images, return_tensors="pt")["pixel_values"]


def answer(folder: Path, frames: Tensor, shown: str) -> float:
    """1 to 5 for frames that share one place in the text."""
    owl = Owl(CONFIG).eval()
    weights = load_file(folder / "model.safetensors")
    owl.load_state_dict({key: value for key, value in weights.items() if "inv_freq" not in key})
    read = tokenizer()
    before = [1, *read.encode(f"USER: How would you rate the quality of this {shown}?\n", add_special_tokens=False)]
    behind = read.encode(f"\nASSISTANT: The quality of the {shown} is", add_special_tokens=False)
    with torch.no_grad():
        logits = owl(torch.tensor(before), squares(frames)[None], torch.tensor(behind))[0]
    words = read.convert_tokens_to_ids(["▁excellent", "▁good", "▁fair", "▁poor", "▁bad"])
    return float(logits[words].softmax(0) @ torch.tensor([5.0, 4, 3, 2, 1]))


def test_a_real_file_is_scored_as_a_video_and_by_its_frames(folder: Path, tmp_path: Path) -> None:
    video = mp4(tmp_path, num_frames=6, height=40, width=56)
    reward = open_reward("q-align", model=str(folder))
    scores = reward.score([video, clip(9, 60, 50)], ["", ""], fps=2.0)["quality"]
    assert torch.allclose(scores[0], torch.tensor(answer(folder, video[[0, 2, 4]], "video")), atol=1e-4)
    by_frame = QAlign(model=str(folder), mode="image", frames=2)
    wanted = [answer(folder, video[[index]], "image") for index in (0, 5)]
    assert torch.allclose(by_frame.score([video], [""])["quality"], torch.tensor([sum(wanted) / 2]), atol=1e-4)
    assert 1 < scores.min() <= scores.max() < 5


def test_gradients_reach_the_frames_looked_at(folder: Path) -> None:
    reward = QAlign(model=str(folder), task="aesthetics")
    assert reward.dimensions == ("aesthetics",)
    videos = clip(5)[None].requires_grad_()
    (gradient,) = torch.autograd.grad(reward.score(videos, [""], fps=2.5)["aesthetics"].sum(), videos)
    assert (gradient.abs().amax(dim=(0, 2, 3, 4)) > 0).tolist() == [True, False, True, False, False]


def test_frames_are_taken_once_a_second() -> None:
    assert one_per_second(49, 16.0) == [0, 16, 32]
    assert one_per_second(60, 29.97) == [0, 29]
    assert one_per_second(9, 16.0) == [0]


def test_what_does_not_fit_is_named(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ReelignError, match="no frame rate"):
        QAlign(model=str(folder)).score([clip()], [""])
    with pytest.raises(ReelignError, match="task is 'beauty'"):
        QAlign(model=str(folder), task="beauty")  # type: ignore[arg-type]
    weights = load_file(folder / "model.safetensors")
    del weights["model.layers.1.self_attn.v_proj.multiway.1.weight"]
    save_file(weights, tmp_path / "model.safetensors")
    tokenizer().save_pretrained(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    with pytest.raises(
        ReelignError, match=r"lacks the weight model\.layers\.1\.self_attn\.v_proj\.multiway\.1\.weight"
    ):
        QAlign(model=str(tmp_path))
    (tmp_path / "config.json").write_text(json.dumps({**CONFIG, "rope_scaling": {"type": "linear"}}))
    with pytest.raises(ReelignError, match="scales the rotary positions"):
        QAlign(model=str(tmp_path))
