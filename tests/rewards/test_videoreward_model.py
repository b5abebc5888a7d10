"""The model that a trainer builds on: who sees the prompt, what trains, what a batch costs."""

from __future__ import annotations

import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from reelign.errors import ReelignError
from reelign.rewards.qwen_vl import ClipBatch
from reelign.rewards.videoreward_clips import VideoRewardSettings
from reelign.rewards.videoreward_model import VideoRewardModel, from_backbone
from reelign.rewards.videoreward_template import DETAILED_SPECIAL, sees_prompt, short_template
from rewards import tiny_qwen
from rewards.tiny_qwen import SMALL, clip, tokenizer

NAMES = ("VQ", "MQ", "TA")
SETTINGS = VideoRewardSettings(template=short_template(NAMES), clips=SMALL)
PROMPTS = ["A red square moves left.", "A blue disc moves right, and a red square left."]


def model(settings: VideoRewardSettings = SETTINGS, family: str = "qwen2_vl") -> VideoRewardModel:
    return VideoRewardModel(tiny_qwen.FAMILIES[family]().model, tokenizer(), settings).eval()


def batch(of: VideoRewardModel, prompts: list[str] = PROMPTS) -> ClipBatch:
    seen = [of.preparer.look(clip(8 + 6 * index, seed=index), 8.0) for index in range(len(prompts))]
    return of.preparer.batch(seen, prompts)


def scores(of: VideoRewardModel, prompts: list[str]) -> Tensor:
    with torch.no_grad():
        found: Tensor = of(batch(of, prompts))
    return found


@pytest.mark.parametrize("template", [DETAILED_SPECIAL, short_template(NAMES), short_template(NAMES, agnostic=("TA",))])
@pytest.mark.parametrize("positions", ["sequential", "multimodal"])
def test_agnostic_dimensions_cannot_see_the_prompt(template: str, positions: Any) -> None:
    of = model(replace(SETTINGS, template=template, positions=positions))
    # Not only do these prompts leave them as they are: no gradient reaches them from any word behind their token.
    held: list[Tensor] = []
    table = of.backbone.get_input_embeddings()
    hook = table.register_forward_hook(lambda _, __, found: held.append(found.requires_grad_()) or found)
    prepared = batch(of, PROMPTS[:1])
    found = of(prepared)[0]
    hook.remove()
    words = of.preparer.tokenizer.convert_ids_to_tokens(prepared.input_ids[0].tolist())
    for index, name in enumerate(NAMES):
        (reached,) = torch.autograd.grad(found[index], held[0], retain_graph=True)
        behind = words.index(f"<|{name}_reward|>") + 1
        assert reached[0, behind:].abs().max() == 0
        assert reached[0, :behind].abs().max() > 0
    one, other = scores(of, PROMPTS[:1])[0], scores(of, ["A red square moves right."])[0]
    for index, name in enumerate(NAMES):
        change = (one[index] - other[index]).abs()
        assert change > 1e-4 if sees_prompt(template, name) else change < 1e-5


@pytest.mark.parametrize("head_width", [1, 3])
def test_a_score_is_the_head_at_its_own_token(head_width: int) -> None:
    of = model(replace(SETTINGS, head_width=head_width))
    prepared = batch(of)
    states: list[Tensor] = []
    of.backbone.language_model.register_forward_hook(lambda _, __, found: states.append(found.last_hidden_state))
    with torch.no_grad():
        found = of(prepared)
    for row, ids in enumerate(prepared.input_ids.tolist()):
        for index, token in enumerate(of.preparer.reward_ids):
            weight = of.head.weight[index if head_width == 3 else 0]
            expected = states[0][row, ids.index(token)] @ weight
            torch.testing.assert_close(found[row, index], expected)


def test_the_last_token_reads_every_dimension_in_batches_of_any_lengths() -> None:
    settings = replace(SETTINGS, template=short_template(()), pooling="last", head_width=3)
    of = model(settings)
    assert of.reward_tokens is None
    assert of.preparer.reward_ids == ()
    together = scores(of, PROMPTS)
    alone = of(of.preparer.batch([of.preparer.look(clip(8), 8.0)], PROMPTS[:1])).detach()
    torch.testing.assert_close(together[:1], alone, rtol=1e-4, atol=1e-5)
    assert (scores(of, PROMPTS[:1]) - scores(of, ["A blue disc"])).abs().min() > 1e-4


def test_reward_tokens_train_without_the_embedding_table() -> None:
    of = model()
    of.backbone.requires_grad_(False)
    trainable = {name: weight.shape for name, weight in of.named_parameters() if weight.requires_grad}
    assert trainable == {"reward_tokens": (3, tiny_qwen.HIDDEN), "head.weight": (1, tiny_qwen.HIDDEN)}
    of(batch(of)).sum().backward()
    assert of.reward_tokens is not None
    assert of.reward_tokens.grad is not None
    assert of.reward_tokens.grad.abs().sum(1).gt(0).all()
    assert of.backbone.get_input_embeddings().weight.grad is None


def test_reward_tokens_may_lie_behind_the_tables_end() -> None:
    base = tiny_qwen.qwen2_vl()
    words = tokenizer()
    base.resize_token_embeddings(len(words), mean_resizing=False)
    of = VideoRewardModel(base.model, words, SETTINGS)
    assert min(of.preparer.reward_ids) == len(words) - 3 == len(base.model.get_input_embeddings().weight)
    assert scores(of, PROMPTS).isfinite().all()


def test_gradients_reach_the_video() -> None:
    of = model()
    video = clip(8).mul(0.9).add(0.05).requires_grad_()
    found = of(of.preparer.batch([of.preparer.look(video, 8.0)], PROMPTS[:1]))
    with torch.no_grad():
        plain = of(of.preparer.batch([of.preparer.look(video.detach(), 8.0)], PROMPTS[:1]))
    torch.testing.assert_close(found.detach(), plain)
    found[0, 0].backward()
    assert video.grad is not None
    assert video.grad.abs().sum() > 0


def test_a_batch_is_one_call_of_tower_and_language_model() -> None:
    of = model()
    calls = []
    for part in (of.backbone.visual, of.backbone.language_model):
        part.register_forward_hook(lambda module, _, __: calls.append(type(module).__name__))
    scores(of, PROMPTS * 4)
    assert len(calls) == 2


@pytest.mark.parametrize("family", tiny_qwen.FAMILIES)
def test_training_begins_from_any_familys_checkpoint(tmp_path: Path, family: str) -> None:
    folder = str(tiny_qwen.save(tiny_qwen.FAMILIES[family](), tmp_path))
    of = from_backbone(folder, replace(SETTINGS, positions="multimodal"))
    again, other = from_backbone(folder, replace(SETTINGS, positions="multimodal")), from_backbone(folder, seed=1)
    assert other.settings == VideoRewardSettings(positions="multimodal"), "its own positions unless asked otherwise"
    assert torch.equal(of.head.weight, again.head.weight)
    assert not torch.equal(of.head.weight, other.head.weight)
    assert all(weight.requires_grad for weight in of.parameters())
    found = of(batch(of))
    assert found.shape == (2, 3)
    assert found.isfinite().all()
    found.sum().backward()
    assert of.backbone.visual.patch_embed.proj.weight.grad.abs().sum() > 0


def test_data_workers_carry_no_weights() -> None:
    of = model()
    carried = pickle.loads(pickle.dumps(of.preparer))
    seen = carried.look(clip(8), 8.0)
    assert seen.pixels.dtype == torch.uint8
    assert carried.read(seen, PROMPTS[0]) == of.preparer.read(seen, PROMPTS[0])
    assert not any(isinstance(value, Tensor | torch.nn.Module) for value in vars(of.preparer).values())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"dimensions": ()}, "The dimensions are none"),
        ({"dimensions": ("VQ", "VQ")}, "The dimensions are 'VQ', 'VQ'"),
        ({"dimensions": ("VQ", "a b")}, "'a b'"),
        ({"head_width": 2}, "The head is 2 wide for the 3 dimensions VQ, MQ, TA, read at their tokens"),
        ({"template": short_template(()), "pooling": "last"}, "The head is 1 wide .* read at the last token"),
        ({"mean": (0.0,) * 3}, "The normalisation"),
        ({"mean": (0.0,) * 3, "std": (1.0, 1.0, 0.0)}, "The normalisation"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ReelignError, match=message):
        replace(SETTINGS, **changes)


def test_a_prompt_that_holds_a_reward_token_is_refused() -> None:
    of = model()
    with pytest.raises(ReelignError, match=r"holds the special token <\|TA_reward\|>"):
        batch(of, ["A cat. <|TA_reward|>"])
