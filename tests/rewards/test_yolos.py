"""YOLOS' absence of an object, against its formulas on logits and a model of real classes."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from transformers import YolosConfig, YolosForObjectDetection

from reelign.errors import ReelignError
from reelign.rewards.opening import open_reward
from reelign.rewards.yolos import YolosRemoval, mean_of_detected, most_confident
from rewards.clips import clip, mp4

LABELS = {0: "N/A", 1: "person", 2: "book"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As the hub holds hustvl/yolos-base: transformers' own layout, with COCO's id2label."""
    folder = tmp_path_factory.mktemp("yolos")
    sizes = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 48}
    config = YolosConfig(image_size=[32, 48], patch_size=16, num_detection_tokens=5, id2label=LABELS, **sizes)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = YolosForObjectDetection(config)
        for weight in model.parameters():
            weight.data += 0.2 * torch.randn_like(weight)
    model.save_pretrained(folder)
    return folder


def logits_of(*detections: dict[int, float]) -> torch.Tensor:
    """One frame; a detection's probabilities by class, the rest on nothing (class 3)."""
    probabilities = torch.full((1, len(detections), 4), 1e-9)
    for row, detection in enumerate(detections):
        for label, share in detection.items():
            probabilities[0, row, label] = share
        probabilities[0, row, 3] = 1 - sum(detection.values())
    return probabilities.log()


def test_confidences_are_those_worked_out_by_hand() -> None:
    logits = logits_of({2: 0.6, 1: 0.3}, {2: 0.4, 1: 0.5}, {2: 0.3, 1: 0.1}, {2: 0.15})
    assert most_confident(logits, 2).item() == pytest.approx(0.6)
    # The second is a person, the fourth too faint: (0.6 + 0.3) / 2.
    assert mean_of_detected(logits, 2, 0.2).item() == pytest.approx(0.45)
    assert mean_of_detected(logits, 0, 0.2).item() == 0


def test_a_videos_score_is_that_of_its_frames_at_the_height_asked_for(folder: Path, tmp_path: Path) -> None:
    reward = open_reward("yolos", target="book", model=str(folder), height=48)
    video = mp4(tmp_path)  # 40 x 56 becomes 48 x 67
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    pixels = F.interpolate(video, size=(48, 67), mode="bilinear", align_corners=False)
    pixels = (pixels - mean.view(3, 1, 1)) / std.view(3, 1, 1)
    with torch.no_grad():
        logits = YolosForObjectDetection.from_pretrained(folder).eval()(pixels).logits
    wanted = 1 - logits.softmax(-1)[:, :, 2].amax(1).mean()
    scores = reward.score([video, clip(2, 30, 30)], ["", ""])["removal"]
    assert torch.allclose(scores[0], wanted, atol=1e-5)


def test_gradients_reach_the_pixels_even_of_what_is_hardly_seen(folder: Path) -> None:
    videos = clip(2)[None].requires_grad_()
    smooth = YolosRemoval(target="book", model=str(folder), height=32)
    (gradient,) = torch.autograd.grad(smooth.score(videos, [""])["removal"].sum(), videos)
    assert gradient.abs().amax(dim=(0, 2, 3, 4)).min() > 0
    thresholded = YolosRemoval(target="book", model=str(folder), height=32, threshold=0.99)
    assert thresholded.score(videos, [""])["removal"].item() == 1
    assert thresholded.version != smooth.version


def test_an_unknown_class_names_the_nearest(folder: Path) -> None:
    with pytest.raises(ReelignError, match="knows no class 'books'") as caught:
        YolosRemoval(target="books", model=str(folder))
    assert "Did you mean 'book'?" in str(caught.value)
    with pytest.raises(ReelignError, match=r"threshold is 1\.5"):
        YolosRemoval(target="book", model=str(folder), threshold=1.5)
    with pytest.raises(ReelignError, match="missing a required"):
        open_reward("yolos", model=str(folder))
