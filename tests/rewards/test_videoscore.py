"""VideoScore on Idefics2: the text and frames of its processor, the head at the last token, a strict load."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from tokenizers.decoders import ByteLevel as ByteLevelDecoder
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel
from tokenizers.processors import TemplateProcessing
from transformers import Idefics2Config, Idefics2Model, Idefics2Processor, PreTrainedTokenizerFast
from transformers.models.idefics2.image_processing_pil_idefics2 import Idefics2ImageProcessorPil

from reelign.errors import ReelignError
from reelign.rewards.opening import open_reward
from reelign.rewards.videoscore import VideoScore, VideoScoreV11, frame_size, frames_taken
from reelign.rewards.videoscore_qwen2_vl import QUESTION
from rewards.clips import clip, mp4

LATENTS = 2
SPECIAL = ["<unk>", "<s>", "</s>", "<fake_token_around_image>", "<image>", "<end_of_utterance>"]
PUBLIC_KEYS = {
    "model.vision_model.embeddings.patch_embedding.weight",
    "model.vision_model.encoder.layers.0.self_attn.out_proj.weight",
    "model.connector.modality_projection.gate_proj.weight",
    "model.connector.perceiver_resampler.latents",
    "model.connector.perceiver_resampler.layers.0.input_context_norm.weight",
    "model.text_model.layers.0.mlp.down_proj.weight",
    "score.weight",
    "score.bias",
}
"""Of TIGER-Lab/VideoScore, from modeling_idefics2.py of transformers 4.45 and Mantis' sequence classification."""


def tokenizer() -> PreTrainedTokenizerFast:
    letters = {letter: index + len(SPECIAL) for index, letter in enumerate(sorted(ByteLevel.alphabet()))}
    vocabulary = {token: index for index, token in enumerate(SPECIAL)} | letters
    made = Tokenizer(BPE(vocabulary, []))
    made.pre_tokenizer = ByteLevel(add_prefix_space=False)
    made.decoder = ByteLevelDecoder()
    made.post_processor = TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    names = {"unk_token": "<unk>", "bos_token": "<s>", "eos_token": "</s>", "pad_token": "<unk>"}
    return PreTrainedTokenizerFast(tokenizer_object=made, **names, additional_special_tokens=SPECIAL[3:])


def save_videoscore(folder: Path) -> Path:
    text = {"model_type": "mistral", "vocab_size": 300, "hidden_size": 32, "intermediate_size": 48}
    text |= {"num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "rms_norm_eps": 1e-5}
    vision = {"hidden_size": 24, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    perceiver = {"hidden_size": 32, "rms_norm_eps": 1e-5, "resampler_n_latents": LATENTS, "resampler_depth": 1}
    perceiver |= {"resampler_n_heads": 2, "resampler_head_dim": 8, "num_key_value_heads": 1}
    config = Idefics2Config(
        text_config={**text, "pad_token_id": 0},
        vision_config=vision | {"image_size": 980, "patch_size": 126},
        perceiver_config=perceiver,
        image_token_id=4,
        architectures=["Idefics2ForSequenceClassification"],
        problem_type="regression",
        num_labels=5,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = Idefics2Model(config)
        for weight in model.parameters():
            weight.data += 0.1 * torch.randn_like(weight)
        head = {"score.weight": torch.randn(5, 32), "score.bias": torch.randn(5)}
    weights = {f"model.{key}": value.contiguous() for key, value in model.state_dict().items()} | head
    assert weights.keys() >= PUBLIC_KEYS
    config.save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    # In two files, as the hub holds it.
    names = sorted(weights)
    files = {"model-00001-of-00002.safetensors": names[:40], "model-00002-of-00002.safetensors": names[40:]}
    for file, keys in files.items():
        save_file({key: weights[key] for key in keys}, folder / file, metadata={"format": "pt"})
    places = {key: file for file, keys in files.items() for key in keys}
    index = {"metadata": {"total_size": 0}, "weight_map": places}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_videoscore(tmp_path_factory.mktemp("videoscore"))


def reference(folder: Path, frames: torch.Tensor, prompt: str) -> torch.Tensor:
    """(5,) through Idefics2Processor and a head at the last token."""
    processor = Idefics2Processor(Idefics2ImageProcessorPil(), tokenizer(), image_seq_len=LATENTS)
    images = [Image.fromarray((frame.permute(1, 2, 0) * 255).round().byte().numpy()) for frame in frames]
    text = QUESTION.replace("{text_prompt}", prompt) + "<image> " * len(frames)
    inputs = processor(text=text, images=images, return_tensors="pt")
    weights = {}
    for file in folder.glob("*.safetensors"):
        weights |= load_file(file)
    model = Idefics2Model(Idefics2Config.from_pretrained(folder)).eval()
    model.load_state_dict({key[6:]: value for key, value in weights.items() if key.startswith("model.")})
    with torch.no_grad():
        last = model(**inputs).last_hidden_state[0, -1]
    return weights["score.weight"] @ last + weights["score.bias"]


def test_a_real_file_is_scored_as_by_its_processor_and_model(folder: Path, tmp_path: Path) -> None:
    reward = open_reward("videoscore", model=str(folder), batch_size=2)
    video, other = mp4(tmp_path, num_frames=3, height=40, width=56), clip(2, 400, 380)
    scores = reward.score([video, other], ["a red disc", "night over the sea, in colour"])
    got = torch.stack(list(scores.values()), dim=1)
    wanted = [reference(folder, video, "a red disc"), reference(folder, other, "night over the sea, in colour")]
    assert (
        list(scores)
        == list(reward.dimensions)
        == [
            "visual_quality",
            "temporal_consistency",
            "dynamic_degree",
            "text_to_video_alignment",
            "factual_consistency",
        ]
    )
    assert torch.allclose(got, torch.stack(wanted), atol=1e-4)


def test_gradients_reach_the_frames_looked_at(folder: Path) -> None:
    reward = VideoScore(model=str(folder), frames=2)
    videos = clip(5)[None].requires_grad_()
    (gradient,) = torch.autograd.grad(sum(reward.score(videos, ["x"]).values()).sum(), videos)  # type: ignore[union-attr]
    assert (gradient.abs().amax(dim=(0, 2, 3, 4)) > 0).tolist() == [True, False, True, False, False]
    assert reward.version != VideoScore(model=str(folder)).version


def test_frames_and_sizes_are_those_of_the_card() -> None:
    assert frames_taken(5, 16) == [0, 1, 2, 3, 4]
    assert frames_taken(49, 16)[:4] == [0, 3, 6, 9]
    assert len(frames_taken(49, 16)) == 16
    assert frames_taken(49, 16)[-1] == 45  # int(15 * 3.0625)
    assert frame_size(480, 720) == (480, 720)
    assert frame_size(240, 320) == (378, 378)
    assert frame_size(720, 1280) == (551, 980)
    assert VideoScoreV11.most_frames == 48


def test_what_does_not_fit_is_named(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ReelignError, match="holds the special token <image>"):
        VideoScore(model=str(folder)).score([clip()], ["a <image> of a cat"])
    for name in folder.iterdir():
        (tmp_path / name.name).write_bytes(name.read_bytes())
    last = tmp_path / "model-00002-of-00002.safetensors"
    weights = load_file(last)
    save_file({key: value for key, value in weights.items() if key != "score.bias"}, last, metadata={"format": "pt"})
    with pytest.raises(ReelignError, match="lacks the weight bias"):
        VideoScore(model=str(tmp_path))
    lacking = {key: value for key, value in weights.items() if key != "model.vision_model.post_layernorm.bias"}
    save_file(lacking, last, metadata={"format": "pt"})
    with pytest.raises(ReelignError, match=r"lacks the weight vision_model\.post_layernorm\.bias"):
        VideoScore(model=str(tmp_path))
