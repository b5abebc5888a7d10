"""VideoMAE's action probability, through a checkpoint in the layout of the hub."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from transformers import VideoMAEConfig, VideoMAEForVideoClassification
from transformers.models.videomae.image_processing_pil_videomae import VideoMAEImageProcessorPil

from reelign.errors import ReelignError
from reelign.rewards.opening import open_reward
from reelign.rewards.preprocess import IMAGENET_MEAN, IMAGENET_STD
from reelign.rewards.videomae import VideoMAEAction, action_in
from rewards.clips import clip, mp4

LABELS = {0: "archery", 1: "playing guitar", 2: "playing bass guitar"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As MCG-NJU/videomae-base-finetuned-kinetics: attention's biases are q_bias and v_bias (modeling_videomae 4.x)."""
    folder = tmp_path_factory.mktemp("videomae")
    sizes = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 48}
    config = VideoMAEConfig(image_size=32, patch_size=16, num_frames=4, id2label=LABELS, use_mean_pooling=True, **sizes)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = VideoMAEForVideoClassification(config)
        for weight in model.parameters():
            weight.data += 0.2 * torch.randn_like(weight)
    model.save_pretrained(folder)
    weights = load_file(folder / "model.safetensors")
    for key in list(weights):
        old = key.replace("attention.query.bias", "attention.q_bias").replace(
            "attention.value.bias", "attention.v_bias"
        )
        weights[old] = weights.pop(key)
    assert "videomae.encoder.layer.0.attention.attention.q_bias" in weights
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def test_the_probability_is_that_of_transformers_processor_and_model(folder: Path, tmp_path: Path) -> None:
    video = mp4(tmp_path)
    sizes = {"size": {"shortest_edge": 32}, "crop_size": {"height": 32, "width": 32}}
    processor = VideoMAEImageProcessorPil(**sizes, image_mean=IMAGENET_MEAN, image_std=IMAGENET_STD)
    images = [Image.fromarray((frame.permute(1, 2, 0) * 255).round().byte().numpy()) for frame in video[[0, 2, 3, 5]]]
    with torch.no_grad():
        logits = VideoMAEForVideoClassification.from_pretrained(folder).eval()(
            **processor([images], return_tensors="pt")
        )
    wanted = logits.logits.softmax(-1)[0]
    reward = open_reward("videomae", model=str(folder))
    scores = reward.score([video, video], ["a man playing guitar", "Archery at dawn"])["action"]
    assert torch.allclose(scores, wanted[[1, 0]], atol=1e-5)
    logarithm = VideoMAEAction(model=str(folder), action="playing bass guitar", log=True)
    assert torch.allclose(logarithm.score([video], ["a dog"])["action"], wanted[[2]].log(), atol=1e-4)


def test_other_lengths_and_gradients(folder: Path) -> None:
    reward = VideoMAEAction(model=str(folder), action="archery", frames=2)
    videos = clip(3)[None].requires_grad_()
    (gradient,) = torch.autograd.grad(reward.score(videos, [""])["action"].sum(), videos)
    assert (gradient.abs().amax(dim=(0, 2, 3, 4)) > 0).tolist() == [True, False, True]
    with pytest.raises(ReelignError, match="has 3 frames; the reward 'videomae' needs 4"):
        VideoMAEAction(model=str(folder), action="archery").score([clip(3)], [""])


def test_the_longest_action_that_a_prompt_names_is_taken() -> None:
    names = list(LABELS.values())
    assert action_in("A woman is playing bass guitar.", names) == "playing bass guitar"
    assert action_in("disarchery", names) is None


def test_unknown_actions_are_refused(folder: Path) -> None:
    with pytest.raises(ReelignError, match="knows no class 'archry'") as caught:
        VideoMAEAction(model=str(folder), action="archry")
    assert "Did you mean 'archery'?" in str(caught.value)
    with pytest.raises(ReelignError, match="names no action"):
        VideoMAEAction(model=str(folder)).score([clip(4)], ["a red square"])
    with pytest.raises(ReelignError, match=r"frames is 3"):
        VideoMAEAction(model=str(folder), action="archery", frames=3)
