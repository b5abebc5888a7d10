"""VideoReward's released and training checkpoints: against the real PEFT model, at its real size, and damaged."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import Qwen2VLConfig, Qwen2VLForConditionalGeneration
from transformers.initialization import no_init_weights

from reelign.errors import ReelignError
from reelign.rewards.qwen_vision import normalise
from reelign.rewards.qwen_vl import ClipBatch
from reelign.rewards.videoreward import VideoReward
from reelign.rewards.videoreward_config import read_public_config
from reelign.rewards.videoreward_model import VideoRewardModel
from reelign.rewards.videoreward_public import fold_lora, from_videoreward, unwrapped
from rewards import tiny_qwen, videoreward_layout
from rewards.tiny_qwen import clip

PROMPTS = ["A red square moves left.", "A blue disc"]
CLIPS = [clip(20, seed=1), clip(28, 84, 56, seed=2)]
LAYERS = "base_model.model.model.layers.0"


@dataclass(frozen=True)
class Checkpoints:
    """A released and a training checkpoint of one model, and the model as PEFT runs it."""

    released: Path
    training: Path
    words: Any
    wrapped: Any

    def reference(self, batch: ClipBatch, of: VideoRewardModel) -> Tensor:
        pixels = normalise(batch.pixels, of.preparer.layout)
        tokens = self.words.convert_tokens_to_ids(videoreward_layout.TOKENS)
        with torch.no_grad():
            found: Tensor = self.wrapped(batch.input_ids, pixels, batch.grids, batch.attention_mask, tokens)
        return found


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], Checkpoints]:
    folder = tmp_path_factory.mktemp("videoreward")
    base = tiny_qwen.qwen2_vl()
    tiny_qwen.save(base, folder / "base")
    made = {}
    for width in (1, 3):
        words, wrapped = videoreward_layout.trained(base, width)
        places = [folder / f"{kind}-{width}" for kind in ("released", "training")]
        for place, write in zip(
            places, (videoreward_layout.write_full, videoreward_layout.write_training), strict=True
        ):
            videoreward_layout.write_config(place, videoreward_layout.config(str(folder / "base"), width))
            write(place, words, wrapped)
        made[width] = Checkpoints(*places, words, wrapped)
    return lambda width: made[width]


def batch(of: VideoRewardModel) -> ClipBatch:
    return of.preparer.batch([of.preparer.look(each, 8.0) for each in CLIPS], PROMPTS)


@pytest.mark.parametrize("head_width", [1, 3])
@pytest.mark.parametrize("kind", ["released", "training"])
def test_scores_are_those_of_the_authors_model(
    checkpoints: Callable[[int], Checkpoints], kind: str, head_width: int
) -> None:
    made = checkpoints(head_width)
    of = from_videoreward(str(getattr(made, kind)))
    prepared = batch(of)
    with torch.no_grad():
        found = of(prepared)
    torch.testing.assert_close(found, made.reference(prepared, of), rtol=1e-4, atol=1e-5)
    assert of.settings.positions == "sequential"
    assert of.settings.head_width == head_width


def test_scores_are_normalised_by_the_released_constants(checkpoints: Callable[[int], Checkpoints]) -> None:
    made = checkpoints(1)
    reward = VideoReward(model=str(made.released), overall=True)
    found = reward.score(CLIPS, PROMPTS, fps=8.0)
    raw = made.reference(batch(reward.model), reward.model)
    constants = videoreward_layout.STATISTICS
    total = torch.zeros(2)
    for index, name in enumerate(("VQ", "MQ", "TA")):
        expected = (raw[:, index] - constants[f"{name}_mean"]) / constants[f"{name}_std"]
        torch.testing.assert_close(found[name], expected, rtol=1e-4, atol=1e-5)
        total += expected
    torch.testing.assert_close(found["overall"], total, rtol=1e-4, atol=1e-5)
    unchanged = VideoReward(model=str(made.released), normalise=False, check=False)
    assert unchanged.dimensions == ("VQ", "MQ", "TA")
    torch.testing.assert_close(unchanged.score(CLIPS, PROMPTS, fps=8.0)["VQ"], raw[:, 0], rtol=1e-4, atol=1e-5)
    assert unchanged.version != reward.version


def test_every_key_of_the_release_has_its_place_at_real_size(tmp_path: Path) -> None:
    # Qwen/Qwen2-VL-2B-Instruct's config.json, and VideoReward's LoRA of rank 64, without the bytes.
    text = {
        "vocab_size": 151936,
        "hidden_size": 1536,
        "intermediate_size": 8960,
        "num_hidden_layers": 28,
        "num_attention_heads": 12,
        "num_key_value_heads": 2,
        "rope_parameters": {"rope_type": "default", "mrope_section": [16, 24, 24], "rope_theta": 1e6},
    }
    vision = {"depth": 32, "embed_dim": 1280, "hidden_size": 1536, "num_heads": 16, "mlp_ratio": 4}
    with torch.device("meta"), no_init_weights():
        base = Qwen2VLForConditionalGeneration(Qwen2VLConfig(text_config=text, vision_config=vision))
        base.resize_token_embeddings(151660, mean_resizing=False)
        # PEFT puts its layers into the base model itself.
        own = {key: weight.shape for key, weight in base.model.state_dict().items()}
        held = videoreward_layout.wrap(base, 1, rank=64).state_dict()
    assert len(held) == 1123
    assert sum(weight.numel() for weight in held.values()) * 2 == 5_030_744_064, "bytes in bf16"
    videoreward_layout.write_config(tmp_path, videoreward_layout.config("", 1, lora_r=64, lora_alpha=128))
    config = read_public_config(tmp_path / "model_config.json")
    assert config.lora_scale == 2.0
    folded = fold_lora(unwrapped(held), config, "model.pth")
    assert folded.pop("rm_head.weight").shape == (1, 1536)
    assert folded.pop("lm_head.weight").shape == (151660, 1536)
    assert {key: weight.shape for key, weight in folded.items()} == own


def test_the_last_checkpoint_is_taken_unless_a_step_is_named(
    checkpoints: Callable[[int], Checkpoints], tmp_path: Path
) -> None:
    made = checkpoints(1)
    shutil.copytree(made.released, tmp_path / "run")
    later = shutil.copytree(tmp_path / "run/checkpoint-30", tmp_path / "run/checkpoint-100")
    edit(later / "model.pth", lambda held: held["base_model.model.rm_head.weight"].mul_(2))
    last, named = from_videoreward(str(tmp_path / "run")), from_videoreward(str(tmp_path / "run"), step=30)
    torch.testing.assert_close(last.head.weight, 2 * named.head.weight)
    with pytest.raises(ReelignError, match=r"no checkpoint-5\.\nIt holds those of steps 30, 100"):
        from_videoreward(str(tmp_path / "run"), step=5)


def edit(path: Path, change: Callable[[dict[str, Tensor]], object]) -> None:
    if path.suffix == ".safetensors":
        held = load_file(path)
        change(held)
        save_file(held, path)
    else:
        held = torch.load(path)
        change(held)
        torch.save(held, path)


def put(key: str, *shape: int) -> Callable[[dict[str, Tensor]], None]:
    return lambda held: held.__setitem__(key, torch.zeros(shape))


DAMAGES: dict[str, tuple[Callable[[dict[str, Tensor]], object], str]] = {
    "missing": (
        lambda held: held.pop(f"{LAYERS}.mlp.up_proj.base_layer.weight"),
        r"holds language_model\.layers\.0\.mlp\.up_proj\.lora_A\.weight and lacks language_model\.layers\.0\.mlp",
    ),
    "missing in the tower": (
        lambda held: held.pop("base_model.model.visual.blocks.0.attn.qkv.weight"),
        r"lacks the weight visual\.blocks\.0\.attn\.qkv\.weight",
    ),
    "unexpected": (put("base_model.model.v_head.weight", 1, 16), r"without a place for it, the weight v_head\.weight"),
    "another shape": (
        put(f"{LAYERS}.input_layernorm.weight", 17),
        "in another shape the weight language_model.layers.0",
    ),
    "half a LoRA": (
        lambda held: held.pop(f"{LAYERS}.self_attn.q_proj.lora_B.default.weight"),
        r"lacks language_model\.layers\.0\.self_attn\.q_proj\.lora_B\.weight",
    ),
    "LoRA of another rank": (
        put(f"{LAYERS}.self_attn.q_proj.lora_A.default.weight", 8, 16),
        r"q_proj\.lora_A\.weight of rank 8; model_config\.json says 4",
    ),
    "LoRA on the table": (
        put("base_model.model.model.embed_tokens.lora_embedding_A.default", 4, 20),
        "without a place for it, the weight language_model.embed_tokens.lora_embedding_A",
    ),
    "head of another width": (
        put("base_model.model.rm_head.weight", 2, 16),
        r"rm_head\.weight of .* is 2 wide; .* says 1",
    ),
    "another layout": (
        lambda held: [held.pop(key) for key in list(held) if "visual" not in key],
        r"lacks language_model\.embed_tokens\.weight; its first key is visual\.patch_embed",
    ),
    "no reward tokens": (
        lambda held: [held.update({key: held[key][:-1]}) for key in list(held) if key.endswith("embed_tokens.weight")],
        "ids .* the table of .* ends at",
    ),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_release_that_does_not_fit_is_refused_by_the_keys_name(
    checkpoints: Callable[[int], Checkpoints], tmp_path: Path, damage: str
) -> None:
    change, message = DAMAGES[damage]
    folder = shutil.copytree(checkpoints(1).released, tmp_path / "run")
    edit(folder / "checkpoint-30/model.pth", change)
    with pytest.raises(ReelignError, match=message):
        from_videoreward(str(folder))


def test_a_training_checkpoint_that_does_not_fit_is_refused(
    checkpoints: Callable[[int], Checkpoints], tmp_path: Path
) -> None:
    place = shutil.copytree(checkpoints(1).training, tmp_path / "run") / "checkpoint-30"
    others = place / "non_lora_state_dict.pth"
    edit(others, put("base_model.model.visual.blocks.7.norm1.weight", 16))
    with pytest.raises(ReelignError, match=r"without a place for it, the weight visual\.blocks\.7\.norm1\.weight"):
        from_videoreward(str(tmp_path / "run"))
    edit(others, lambda held: held.pop("base_model.model.rm_head.weight"))
    with pytest.raises(ReelignError, match=r"non_lora_state_dict\.pth lacks rm_head\.weight"):
        from_videoreward(str(tmp_path / "run"))
    others.unlink()
    with pytest.raises(ReelignError, match=r"neither model\.pth nor both of adapter_model\.safetensors and non_lora"):
        from_videoreward(str(tmp_path / "run"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"eval_dim": ["VQ", "TA"]}, r"says eval_dim \('VQ', 'TA'\)"),
        ({"prompt_template_type": "video_score"}, "says prompt_template_type 'video_score'"),
        ({"sample_type": "multi_pts"}, "says sample_type 'multi_pts'"),
        ({"use_special_tokens": False}, "says use_special_tokens False"),
    ],
)
def test_a_way_of_training_that_is_read_otherwise_is_refused(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    videoreward_layout.write_config(tmp_path, videoreward_layout.config("base", 1, **changes))
    with pytest.raises(ReelignError, match=message):
        read_public_config(tmp_path / "model_config.json")


def test_what_is_read_of_model_config(tmp_path: Path) -> None:
    held = videoreward_layout.config("Qwen/Qwen2-VL-2B-Instruct", 3, fps=4.0, max_frame_pixels=313600, use_rslora=True)
    held["inference_config"] = None
    videoreward_layout.write_config(tmp_path, held)
    config = read_public_config(tmp_path / "model_config.json")
    # alpha / √r
    assert (config.base, config.lora_scale, config.mean, config.std) == ("Qwen/Qwen2-VL-2B-Instruct", 4.0, (), ())
    settings = config.settings()
    assert (settings.head_width, settings.clips.fps, settings.clips.max_pixels) == (3, 4.0, 313600)
    del held["model_config"]["output_dim"]
    videoreward_layout.write_config(tmp_path, held)
    with pytest.raises(ReelignError, match="says nothing of output_dim"):
        read_public_config(tmp_path / "model_config.json")


def test_folders_that_hold_no_checkpoint_say_so(tmp_path: Path) -> None:
    with pytest.raises(ReelignError, match=r"model_config\.json cannot be read"):
        VideoReward(model=str(tmp_path))
    videoreward_layout.write_config(tmp_path, videoreward_layout.config("base", 1))
    with pytest.raises(ReelignError, match="holds no checkpoint-N folder"):
        VideoReward(model=str(tmp_path))


def test_a_base_model_that_only_its_trainer_has_is_named_anew(
    checkpoints: Callable[[int], Checkpoints], tmp_path: Path
) -> None:
    folder = shutil.copytree(checkpoints(1).released, tmp_path / "run")
    base = str(checkpoints(1).released.parent / "base")
    videoreward_layout.write_config(folder, videoreward_layout.config(str(tmp_path / "elsewhere"), 1))
    with pytest.raises(
        ReelignError, match=r"base model of .* cannot be opened: .*elsewhere[\s\S]*the setting backbone"
    ):
        VideoReward(model=str(folder))
    assert VideoReward(model=str(folder), backbone=base, check=False).dimensions == ("VQ", "MQ", "TA")


def test_a_hub_id_that_cannot_be_reached_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(ReelignError, match="KlingTeam/VideoReward is no folder, and the hub gave nothing"):
        VideoReward()
