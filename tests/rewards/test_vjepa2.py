"""V-JEPA 2's masked prediction: the context must not have seen the target."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from transformers import VJEPA2Model

from reelign.errors import ReelignError
from reelign.rewards.opening import open_reward
from reelign.rewards.vjepa2 import VJEPA2Consistency, block_mask, prediction_error, tube_masks
from rewards.clips import clip, mp4
from rewards.tiny_vjepa2 import save_vjepa2


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_vjepa2(tmp_path_factory.mktemp("vjepa2"))


def test_masks_are_tubes_that_split_all_patches() -> None:
    masks = tube_masks(16, 4, 2, seed=0)
    assert len(masks) == 4
    for context, target in masks:
        assert torch.equal(torch.cat([context, target]).sort().values, torch.arange(4 * 256))
        frames = target.view(4, -1) - torch.arange(4)[:, None] * 256
        assert (frames == frames[0]).all()
    assert torch.equal(masks[0][0], tube_masks(16, 4, 2, seed=0)[0][0])


def test_a_block_covers_the_share_asked_for() -> None:
    generator = torch.Generator().manual_seed(0)
    shares = [block_mask(16, 1, 0.15, generator).float().mean().item() for _ in range(50)]
    assert 0.12 < min(shares) <= max(shares) < 0.18


def test_seeing_everything_is_the_stock_model(folder: Path) -> None:
    """With context and target both of all patches, the error is that of transformers' own forward."""
    model = VJEPA2Model.from_pretrained(folder).eval()
    pixels = torch.randn(2, 4, 3, 48, 48, generator=torch.Generator().manual_seed(1))
    everything = torch.arange(18)
    with torch.no_grad():
        output = model(pixels)
        wanted = F.layer_norm(output.last_hidden_state, (48,))
        stock = (output.predictor_output.last_hidden_state - wanted).abs().mean(dim=(1, 2))
        own = prediction_error(model, pixels, [(everything, everything)])
    assert torch.allclose(own, stock, atol=1e-5)


def test_the_prediction_has_not_seen_what_it_predicts(folder: Path) -> None:
    """Changing the pixels of a target patch moves what is wanted but not what is predicted."""
    model = VJEPA2Model.from_pretrained(folder).eval()
    seen: list[torch.Tensor] = []
    model.predictor.register_forward_hook(lambda module, args, output: seen.append(output.last_hidden_state))
    pixels = torch.randn(1, 4, 3, 48, 48, generator=torch.Generator().manual_seed(1))
    changed = pixels.clone()
    changed[..., :16, :16] += 1.0  # the first patch of every frame: numbers 0 and 9
    target = torch.tensor([0, 9])
    context = torch.tensor([index for index in range(18) if index not in (0, 9)])
    with torch.no_grad():
        before = prediction_error(model, pixels, [(context, target)])
        after = prediction_error(model, changed, [(context, target)])
        model(changed, context_mask=[context[None]], target_mask=[target[None]])
        model(pixels, context_mask=[context[None]], target_mask=[target[None]])
    assert torch.equal(seen[0], seen[1])
    assert not torch.equal(before, after)
    assert not torch.allclose(seen[2], seen[3])  # the model's own masking leaks


def test_a_real_file_is_scored_and_gradients_reach_it(folder: Path, tmp_path: Path) -> None:
    reward = open_reward("vjepa2", model=str(folder), frames=4)
    videos = mp4(tmp_path)[None].requires_grad_()
    score = reward.score(videos, [""])["consistency"]
    assert score.item() < 0
    (gradient,) = torch.autograd.grad(score.sum(), videos)
    assert (gradient.abs().amax(dim=(0, 2, 3, 4)) > 0).tolist() == [True, False, True, True, False, True]
    with torch.no_grad():
        assert reward.score(videos + gradient.sign() / 255, [""])["consistency"] > score
        again = reward.score([clip(5, 60, 50), videos[0]], ["", ""])["consistency"]
    assert torch.allclose(again[1], score[0], atol=1e-5)


def test_settings_that_cannot_be_are_refused(folder: Path) -> None:
    with pytest.raises(ReelignError, match="frames is 5 and num_masks 1"):
        VJEPA2Consistency(model=str(folder), frames=5)
    reward = VJEPA2Consistency(model=str(folder), frames=4, num_masks=2)
    assert len(reward.masks) == 4
    with pytest.raises(ReelignError, match="has 3 frames; the reward 'vjepa2' needs 4"):
        reward.score([clip(3)], [""])
