"""Rewards on CLIP towers, against their formulas over embeddings that are computed another way."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
import torch
from torch import Tensor
from transformers import CLIPModel
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from reelign.errors import ReelignError
from reelign.rewards.aesthetic import LaionAesthetic, LinearHead
from reelign.rewards.clip_towers import ClipReward
from reelign.rewards.clipscore import CLIPScore
from reelign.rewards.hpsv2 import HPSv2, HPSv21
from reelign.rewards.opening import open_reward
from reelign.rewards.pickscore import PickScore
from rewards.clips import clip, mp4
from rewards.tiny_clip import PROJECTED, clip_tokenizer, save_clip, save_open_clip

PROMPTS = ["a red disc moves left", "a blue square"]
HEAD_WIDTHS = {0: (PROJECTED, 1024), 2: (1024, 128), 4: (128, 64), 6: (64, 16), 7: (16, 1)}
"""Keys and shapes of LAION's head (simple_inference.py of improved-aesthetic-predictor); 768 wide at full size."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_clip(tmp_path_factory.mktemp("clip"))


@pytest.fixture(scope="module")
def head(tmp_path_factory: pytest.TempPathFactory) -> Path:
    generator = torch.Generator().manual_seed(3)
    weights = {}
    for index, (before, after) in HEAD_WIDTHS.items():
        weights[f"layers.{index}.weight"] = torch.randn(after, before, generator=generator) / before**0.5
        weights[f"layers.{index}.bias"] = torch.randn(after, generator=generator)
    path = tmp_path_factory.mktemp("head") / "sac+logos+ava1-l14-linearMSE.pth"
    torch.save(weights, path)
    return path


def cosines(folder: Path, video: Tensor, prompt: str) -> Tensor:
    """Of each frame with the prompt, through transformers' own processor, tokenizer and model."""
    model, tokenizer = CLIPModel.from_pretrained(folder).eval(), clip_tokenizer()
    sizes = {"size": {"shortest_edge": 32}, "crop_size": {"height": 32, "width": 32}}
    frames = [(frame * 255).round().byte() for frame in video]
    pixels = CLIPImageProcessorPil(**sizes)(frames, return_tensors="pt")["pixel_values"]
    ids = tokenizer([prompt], return_tensors="pt", truncation=True)
    with torch.no_grad():
        output = model(pixel_values=pixels, **ids)
    return (output.image_embeds @ output.text_embeds.T)[:, 0]


def test_pickscore_is_the_scaled_cosine_averaged_over_frames(folder: Path, tmp_path: Path) -> None:
    reward = open_reward("pickscore", model=str(folder), tokenizer=str(folder))
    video = mp4(tmp_path)
    scores = reward.score([video, clip(3, 60, 36)], PROMPTS)
    wanted = [
        100 * cosines(folder, video, PROMPTS[0]).mean(),
        100 * cosines(folder, clip(3, 60, 36), PROMPTS[1]).mean(),
    ]
    assert torch.allclose(scores["overall"], torch.stack(wanted), atol=2e-3)
    assert scores["overall"].dtype == torch.float32


@pytest.mark.parametrize(("scale", "weight"), [("clipscore", 2.5), ("percent", 100.0), ("cosine", 1.0)])
def test_clipscore_is_as_its_paper_or_its_relatives(folder: Path, scale: str, weight: float, tmp_path: Path) -> None:
    video = mp4(tmp_path)
    reward = CLIPScore(model=str(folder), scale=scale)  # type: ignore[arg-type]
    text = f"A photo depicts {PROMPTS[0]}" if scale == "clipscore" else PROMPTS[0]
    per_frame = cosines(folder, video, text)
    wanted = (per_frame if scale == "cosine" else per_frame.clamp(min=0)).mean() * weight
    assert torch.allclose(reward.score([video], PROMPTS[:1])["TA"], wanted, atol=1e-3)


def test_the_aesthetic_head_folds_into_one_vector(folder: Path, head: Path, tmp_path: Path) -> None:
    video = mp4(tmp_path)
    folded = LaionAesthetic(model=str(folder), head=str(head))
    layers = LaionAesthetic(model=str(folder), head=str(head), fold=False)
    scores = folded.score([video], ["the prompt is not looked at"])["VQ"]
    assert torch.allclose(scores, layers.score([video], [""])["VQ"], atol=1e-4)
    # One layer after the other, by hand, on the normalised embedding.
    weights, x = torch.load(head), torch.cat(folded.embed([video]))
    for index in HEAD_WIDTHS:
        x = x @ weights[f"layers.{index}.weight"].T + weights[f"layers.{index}.bias"]
    assert torch.allclose(scores, x.mean(), atol=1e-4)
    assert torch.allclose(x.new_tensor(1.0), torch.cat(folded.embed([video])).norm(dim=1))


@pytest.mark.parametrize(
    ("reward_class", "name", "antialias"),
    [(HPSv2, "HPS_v2_compressed.pt", True), (HPSv21, "HPS_v2.1_compressed.pt", False)],
)
def test_hps_is_open_clips_cosine(reward_class: type[HPSv2], name: str, antialias: bool, tmp_path: Path) -> None:
    original = save_open_clip(tmp_path, name)
    reward = reward_class(model=str(tmp_path), tokenizer=str(tmp_path), antialias=antialias)
    video = mp4(tmp_path, num_frames=4, height=24, width=40)
    # The original's ResizeMaxSize on floats (longest side 32, here 19 x 32), black above and below, then normalised.
    small = torch.nn.functional.interpolate(video, size=(19, 32), mode="bicubic", antialias=antialias)
    padded = torch.nn.functional.pad(small, (0, 0, 6, 7))
    mean, std = (torch.tensor(each).view(3, 1, 1) for each in (reward.preprocess.mean, reward.preprocess.std))
    ids = torch.zeros(1, 77, dtype=torch.long)  # open_clip pads with 0, transformers with the end token
    text = clip_tokenizer()(PROMPTS[0]).input_ids
    ids[0, : len(text)] = torch.tensor(text)
    with torch.no_grad():
        images, texts = original.visual((padded - mean) / std), original.encode_text(ids)
    wanted = torch.nn.functional.cosine_similarity(images, texts).mean()
    assert torch.allclose(reward.score([video], PROMPTS[:1])["overall"], wanted, atol=1e-5)


def test_a_batch_is_embedded_once_for_all_rewards_on_a_tower(folder: Path, head: Path) -> None:
    first = LaionAesthetic(model=str(folder), head=str(head))
    second = CLIPScore(model=str(folder))
    assert first.tower is second.tower
    before, videos = first.tower.num_embedded, torch.stack([clip(), clip(seed=1)])
    alone = second.score(videos, PROMPTS)
    first.score(videos, PROMPTS)
    assert first.tower.num_embedded - before == 12
    videos[0] = clip(seed=2)  # written to in place: what was kept is of another video
    assert not torch.equal(second.score(videos, PROMPTS)["TA"], alone["TA"])
    assert first.tower.num_embedded - before == 24
    LaionAesthetic(model=str(folder), head=str(head), frames=2).score(videos, PROMPTS)
    assert torch.allclose(second.score(list(videos.clone()), PROMPTS)["TA"], second.score(videos, PROMPTS)["TA"])


def test_a_composed_reward_embeds_a_batch_once(folder: Path, head: Path) -> None:
    parts = [
        {"reward": "aesthetic", "weights": {"VQ": 1.0}, "options": {"model": str(folder), "head": str(head)}},
        {"reward": "clipscore", "weights": {"TA": 2.0}, "options": {"model": str(folder)}},
    ]
    reward = open_reward("composed", parts=parts)
    tower = CLIPScore(model=str(folder)).tower
    before = tower.num_embedded
    scores = reward.score([clip(), clip(4, seed=1)], PROMPTS)
    assert tower.num_embedded - before == 10
    assert torch.allclose(scores["overall"], scores["aesthetic.VQ"] + 2 * scores["clipscore.TA"], atol=1e-5)


def test_gradients_reach_the_pixels_and_point_uphill(folder: Path, head: Path, tmp_path: Path) -> None:
    save_open_clip(tmp_path, "HPS_v2_compressed.pt")
    rewards: list[ClipReward] = [
        PickScore(model=str(folder), tokenizer=str(folder)),
        CLIPScore(model=str(folder), scale="cosine"),
        LaionAesthetic(model=str(folder), head=str(head)),
        HPSv2(model=str(tmp_path), tokenizer=str(tmp_path)),
    ]
    for reward in rewards:
        videos = (0.2 + 0.6 * clip()[None]).requires_grad_()
        score = reward.score(videos, PROMPTS[:1])[reward.dimensions[0]]
        assert reward.differentiable
        (gradient,) = torch.autograd.grad(score.sum(), videos)
        assert gradient.abs().amax(dim=(0, 2, 3, 4)).min() > 0
        step = 4 / 255 * gradient.sign()
        with torch.no_grad():
            assert reward.score(videos + step, PROMPTS[:1])[reward.dimensions[0]] > score


def test_frames_are_chosen_and_reduced_as_set(folder: Path) -> None:
    per_frame = 100 * cosines(folder, clip(9), PROMPTS[0])
    few = PickScore(model=str(folder), tokenizer=str(folder), frames=3, batch_size=2)
    worst = PickScore(model=str(folder), tokenizer=str(folder), reduce="min")
    assert torch.allclose(few.score([clip(9)], PROMPTS[:1])["overall"], per_frame[[0, 4, 8]].mean(), atol=2e-3)
    assert torch.allclose(worst.score([clip(9)], PROMPTS[:1])["overall"], per_frame.min(), atol=2e-3)
    assert few.frames_needed == 3
    assert len({few.version, worst.version, PickScore(model=str(folder), tokenizer=str(folder)).version}) == 3
    with pytest.raises(ReelignError, match="has 2 frames; the reward 'pickscore' needs 3"):
        few.score([clip(2)], PROMPTS[:1])
    with pytest.raises(ReelignError, match="reduce is 'median'"):
        PickScore(model=str(folder), tokenizer=str(folder), reduce="median")  # type: ignore[arg-type]


def test_a_long_prompt_is_cut_after_77_tokens_and_this_is_said(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    reward = PickScore(model=str(folder), tokenizer=str(folder))
    long = "red " * 40  # three tokens a word: 120, and two special ones
    with caplog.at_level(logging.WARNING):
        cut = reward.score([clip(1)], [long + "disc"])
    assert "reads 77 tokens of a prompt: the end of 1 of 1 prompts (up to 126 tokens) was left out" in caplog.text
    assert torch.equal(cut["overall"], reward.score([clip(1)], [long + "square on a table"])["overall"])


def test_checkpoints_that_do_not_fit_are_refused_by_the_weight(folder: Path, head: Path, tmp_path: Path) -> None:
    save_open_clip(tmp_path, "HPS_v2_compressed.pt")
    held = torch.load(tmp_path / "HPS_v2_compressed.pt")
    weights = dict(held["state_dict"])
    gone = weights.pop("visual.transformer.resblocks.1.mlp.c_fc.bias")
    torch.save(weights, tmp_path / "HPS_v2_compressed.pt")
    with pytest.raises(ReelignError, match=r"lacks the weight vision_model\.encoder\.layers\.1\.mlp\.fc1\.bias"):
        HPSv2(model=str(tmp_path), tokenizer=str(tmp_path))
    weights["visual.transformer.resblocks.1.mlp.c_fc.bias"] = gone
    weights["score_predictor.weight"] = gone
    torch.save(weights, tmp_path / "HPS_v2_compressed.pt")
    with pytest.raises(ReelignError, match=r"without a place for it, the weight score_predictor\.weight"):
        HPSv2(model=str(tmp_path), tokenizer=str(tmp_path))
    wide = save_clip(tmp_path / "wide", projected=40)
    with pytest.raises(ReelignError, match=r"in another shape the weight layers\.0\.weight"):
        LaionAesthetic(model=str(wide), head=str(head))
    with pytest.raises(ReelignError, match="holds none of"):
        HPSv21(model=str(tmp_path), tokenizer=str(tmp_path))
    (tmp_path / "HPS_v2_compressed.pt").write_bytes(b"not found")
    with pytest.raises(ReelignError, match="cannot be read as weights"):
        HPSv2(model=str(tmp_path), tokenizer=str(tmp_path))


def test_transformers_own_checkpoints_are_loaded_strictly_too(folder: Path, tmp_path: Path) -> None:
    model = CLIPModel.from_pretrained(folder)
    weights = {key: value for key, value in model.state_dict().items() if "post_layernorm" not in key}
    model.save_pretrained(tmp_path, state_dict=weights)
    clip_tokenizer().save_pretrained(tmp_path)
    with pytest.raises(ReelignError, match=r"lacks the weight vision_model\.post_layernorm\.bias and 1 more"):
        PickScore(model=str(tmp_path), tokenizer=str(tmp_path))
    with pytest.raises(ReelignError, match="could not be loaded as CLIPModel"):
        PickScore(model=str(tmp_path / "nothing"), tokenizer=str(tmp_path))


def test_the_self_test_knows_a_score_of_other_weights(folder: Path, tmp_path: Path) -> None:
    reward = PickScore(model=str(folder), tokenizer=str(folder))
    known = reward.self_test_scores["overall"]
    PickScore(model=str(folder), tokenizer=str(folder), expected_score=known)
    other = save_clip(tmp_path, seed=5)
    with pytest.raises(ReelignError, match="expected was"):
        PickScore(model=str(other), tokenizer=str(other), expected_score=known)
    broken = CLIPModel.from_pretrained(folder)
    broken.visual_projection.weight.data.fill_(float("nan"))
    broken.save_pretrained(tmp_path / "broken")
    clip_tokenizer().save_pretrained(tmp_path / "broken")
    with pytest.raises(ReelignError, match="gives its test clip nan for overall"):
        PickScore(model=str(tmp_path / "broken"), tokenizer=str(folder))


def test_a_frame_that_is_no_number_spoils_its_own_video_alone(folder: Path) -> None:
    reward = PickScore(model=str(folder), tokenizer=str(folder))
    broken = clip()
    broken[2, 0, 20, 28] = float("nan")
    scores = reward.score([clip(), broken], PROMPTS)["overall"]
    assert scores.isnan().tolist() == [False, True]


def test_the_head_has_the_public_keys() -> None:
    keys = {f"layers.{index}.{part}" for index in HEAD_WIDTHS for part in ("weight", "bias")}
    assert set(LinearHead(768).state_dict()) == keys
