"""Reference errors paid once: forwards counted at the denoiser, the same loss and gradients, kept over runs."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from reelign.errors import ReelignError
from reelign.generators import Generator, load_generator
from reelign.objectives import DPO, KTO
from reelign.recipes.offline.align import align
from reelign.recipes.offline.reference_cache import ReferenceCache, SlottedBatch, SlottedStream
from reelign.recipes.settings import AlignSettings
from reelign.recipes.steps.pair import DPOStep
from reelign.records import Workspace
from reelign.training import LoRA, Policy, TrainerSettings, velocity_errors

PAIRS = torch.randn(5, 2, 16, 3, 2, 2, generator=torch.Generator().manual_seed(1))
PROMPTS = ["a red square", "a disc", "a blue disc", "a square moves left", "a disc moves"]
SETTINGS = AlignSettings(objective=DPO(beta=20.0), batch_size=5, micro_batch_size=3, reference_slots=2)


@pytest.fixture
def policy(tiny_wan: Generator) -> Policy:
    policy = Policy(tiny_wan, LoRA(rank=4))
    with torch.no_grad():
        chance = torch.Generator().manual_seed(3)
        for parameter in policy.parameters.values():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=chance))
    return policy


def stream(policy: Policy, **changed: Any) -> SlottedStream:
    options = {"slots": 2, "batch_size": 5, "seed": 0, **changed}
    conditioning = policy.generator.encode_prompts(PROMPTS)
    return SlottedStream(PAIRS, conditioning, torch.arange(5), **options)


def cache_of(policy: Policy, folder: Path, settings: AlignSettings = SETTINGS) -> ReferenceCache:
    conditioning = policy.generator.encode_prompts(PROMPTS)
    return ReferenceCache(folder, policy.generator, settings, PAIRS, conditioning)


def count_forwards(policy: Policy) -> dict[str, int]:
    """Samples that go through the denoiser from now on, graded and ungraded."""
    seen = {"graded": 0, "ungraded": 0}

    def look(module: Any, arguments: Any, inputs: dict[str, Tensor]) -> None:
        seen["graded" if torch.is_grad_enabled() else "ungraded"] += len(inputs["hidden_states"])

    transformer: Any = policy.generator.denoisers["transformer"]
    transformer.register_forward_pre_hook(look, with_kwargs=True)
    return seen


def visit(step: DPOStep, policy: Policy, batch: SlottedBatch) -> tuple[dict[str, float], dict[str, Tensor]]:
    for parameter in policy.parameters.values():
        parameter.grad = None
    metrics = step.accumulate_gradients(policy, batch)
    return metrics, {
        name: parameter.grad for name, parameter in policy.parameters.items() if parameter.grad is not None
    }


def test_a_pair_costs_two_graded_and_two_ungraded_forwards_and_none_ungraded_when_known(
    policy: Policy, tmp_path: Path
) -> None:
    batches = stream(policy)
    step = DPOStep(SETTINGS.objective, SETTINGS, cache=cache_of(policy, tmp_path))  # type: ignore[arg-type]
    seen = count_forwards(policy)
    per_pair = []
    for _ in range(4):
        before = dict(seen)
        metrics, _ = visit(step, policy, batches.next_batch())
        graded, ungraded = ((seen[kind] - before[kind]) / 5 for kind in ("graded", "ungraded"))
        assert metrics["forwards_per_pair"] == graded + ungraded
        per_pair.append((graded, ungraded))
    assert per_pair == [(2, 2), (2, 2), (2, 0), (2, 0)]


def test_without_slots_every_step_asks_the_reference(policy: Policy) -> None:
    step = DPOStep(SETTINGS.objective, SETTINGS)  # type: ignore[arg-type]
    seen = count_forwards(policy)
    for _ in range(2):
        assert visit(step, policy, stream(policy).next_batch())[0]["forwards_per_pair"] == 4
    assert seen == {"graded": 20, "ungraded": 20}


def test_known_errors_give_the_very_loss_and_gradients(policy: Policy, tmp_path: Path) -> None:
    batch = stream(policy).next_batch()
    step = DPOStep(SETTINGS.objective, SETTINGS, cache=cache_of(policy, tmp_path))  # type: ignore[arg-type]
    first, known = visit(step, policy, batch), visit(step, policy, batch)
    restarted = DPOStep(SETTINGS.objective, SETTINGS, cache=cache_of(policy, tmp_path))  # type: ignore[arg-type]
    later = visit(restarted, policy, batch)
    for metrics, gradients in (known, later):
        assert metrics == {**first[0], "forwards_per_pair": 2}
        assert all(torch.equal(gradients[name], first[1][name]) for name in first[1])


def test_the_kept_numbers_are_the_references_errors_at_the_shared_draw(policy: Policy, tmp_path: Path) -> None:
    cache = cache_of(policy, tmp_path)
    visits, conditioning = ((3, 1), (0, 0)), policy.generator.encode_prompts([PROMPTS[3], PROMPTS[0]])
    draw = cache.draw(visits, PAIRS.shape[2:])
    pairs = PAIRS[[3, 0]]
    kept, asked = cache.reference(policy, visits, pairs, conditioning, draw)
    assert asked.tolist() == [True, True]
    for side in (0, 1):
        expected = velocity_errors(policy, pairs[:, side], conditioning, draw, weights=("reference",))["reference"]
        torch.testing.assert_close(kept[:, side], expected)
    again = cache.draw(visits, PAIRS.shape[2:])
    assert torch.equal(again.noise, draw.noise)
    other = cache.draw(((3, 0), (0, 1)), PAIRS.shape[2:])
    assert not torch.isclose(other.sigma, draw.sigma).any()


def test_slots_are_visited_in_turn(policy: Policy) -> None:
    batches = stream(policy, slots=3, batch_size=4)
    visits = [visit for _ in range(20) for visit in batches.next_batch().visits]
    for epoch in range(16):
        own = visits[5 * epoch : 5 * epoch + 5]
        assert sorted(row for row, _ in own) == list(range(5))
        assert {slot for _, slot in own} == {epoch % 3}


def test_an_edited_pair_is_asked_anew_and_the_others_are_known(policy: Policy, tmp_path: Path) -> None:
    batch = stream(policy).next_batch()
    step = DPOStep(SETTINGS.objective, SETTINGS, cache=cache_of(policy, tmp_path))  # type: ignore[arg-type]
    visit(step, policy, batch)
    edited = [*PROMPTS[:2], "a red disc", *PROMPTS[3:]]
    conditioning = policy.generator.encode_prompts(edited)
    cache = ReferenceCache(tmp_path, policy.generator, SETTINGS, PAIRS, conditioning)
    changed = replace(batch, conditioning=conditioning.take(torch.tensor([row for row, _ in batch.visits])))
    again = DPOStep(SETTINGS.objective, SETTINGS, cache=cache)  # type: ignore[arg-type]
    assert visit(again, policy, changed)[0]["forwards_per_pair"] == pytest.approx(2 + 2 / 5)


def test_other_draws_have_a_file_of_their_own_and_another_model_is_refused(policy: Policy, tmp_path: Path) -> None:
    first, other = cache_of(policy, tmp_path), cache_of(policy, tmp_path, replace(SETTINGS, shift=3.0))
    assert first.path != other.path
    assert cache_of(policy, tmp_path, replace(SETTINGS, objective=DPO(beta=1.0))).path == first.path
    other.path.write_text(first.path.read_text())
    with pytest.raises(ReelignError, match=r"The reference errors in .* were made by"):
        cache_of(policy, tmp_path, replace(SETTINGS, shift=3.0))


def test_another_precision_has_a_file_of_its_own(policy: Policy, tiny_wan_folder: Path, tmp_path: Path) -> None:
    """Of a Wan's weights the first stays fp32 in either."""
    rounded = load_generator(str(tiny_wan_folder), dtype=torch.bfloat16)
    assert next(rounded.denoisers["transformer"].parameters()).dtype == torch.float32
    conditioning = policy.generator.encode_prompts(PROMPTS)
    other = ReferenceCache(tmp_path, rounded, SETTINGS, PAIRS, conditioning)
    assert other.path != cache_of(policy, tmp_path).path


def test_half_a_line_left_by_a_kill_is_cut_off(policy: Policy, tmp_path: Path) -> None:
    step = DPOStep(SETTINGS.objective, SETTINGS, cache=cache_of(policy, tmp_path))  # type: ignore[arg-type]
    visit(step, policy, stream(policy).next_batch())
    path = cache_of(policy, tmp_path).path
    path.write_text(path.read_text()[:-10])
    assert len(cache_of(policy, tmp_path).errors) == 4
    assert len(cache_of(policy, tmp_path).errors) == 4


def test_a_sweep_over_beta_asks_the_reference_once(judged: Workspace, tiny_wan_folder: Path) -> None:
    settings = AlignSettings(
        run="first",
        objective=DPO(beta=20.0),
        batch_size=6,
        lora=LoRA(rank=4),
        reference_slots=2,
        trainer=TrainerSettings(steps=4, learning_rate=1e-2),
    )
    costs = {}
    for run, beta in (("first", 20.0), ("second", 50.0)):
        own = replace(settings, run=run, objective=DPO(beta=beta))
        done = align(judged, load_generator(str(tiny_wan_folder), encoders=False), own)
        lines = [json.loads(line) for line in (done.folder / "metrics.jsonl").read_text().splitlines()]
        costs[run] = [line["forwards_per_pair"] for line in lines]
    assert costs == {"first": [4, 4, 2, 2], "second": [2, 2, 2, 2]}


def test_slots_belong_to_pairs() -> None:
    with pytest.raises(ValueError, match="reference_slots belongs to pairs, and kto has none"):
        AlignSettings(objective=KTO(), reference_slots=2)
    with pytest.raises(ValueError, match="reference_slots must be at least 0"):
        AlignSettings(reference_slots=-1)
