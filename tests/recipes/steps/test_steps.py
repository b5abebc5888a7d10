"""Steps: micro-batches add up to the whole batch, and each composition is the sum of its parts."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from reelign.diffusion.seeds import generator_from
from reelign.errors import ReelignError
from reelign.generators import Conditioning, Generator
from reelign.objectives import (
    DPO,
    KTO,
    RWR,
    SFT,
    Anchors,
    dpo_loss,
    kto_baseline,
    kto_loss,
    segment_dpo_loss,
    temporal_segments,
)
from reelign.recipes.data.preferences import Candidate, Clip
from reelign.recipes.offline.samples import check_other_prompts
from reelign.recipes.settings import AlignSettings
from reelign.recipes.steps.draws import check_sigma_range, draw_for
from reelign.recipes.steps.kto import KTOStep, under_other_prompts
from reelign.recipes.steps.pair import DPOStep
from reelign.recipes.steps.pair_errors import goes_apart
from reelign.recipes.steps.video import AnchoredBatch, DataAnchorStep, SFTStep
from reelign.training import LoRA, PairBatch, Policy, VideoBatch, velocity_errors

PAIRS = torch.randn(4, 2, 16, 3, 2, 2, generator=torch.Generator().manual_seed(1))
VIDEOS = PAIRS[:, 0]
DESIRABLE = torch.tensor([True, False, True, True])
WEIGHTS = torch.tensor([0.5, 1.5, 0.0, 2.0])
SEED = 7


@pytest.fixture
def policy(tiny_wan: Generator) -> Policy:
    """Moved away from its reference, so that no gain is 0."""
    policy = Policy(tiny_wan, LoRA(rank=4))
    with torch.no_grad():
        chance = generator_from("moved")
        for parameter in policy.parameters.values():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=chance))
    return policy


@pytest.fixture
def conditioning(tiny_wan: Generator) -> Conditioning:
    return tiny_wan.encode_prompts(["a red square", "a disc", "a blue disc", "a square moves left"])


def gradients(step: Any, policy: Policy, batch: Any) -> tuple[dict[str, Tensor], dict[str, float]]:
    for parameter in policy.parameters.values():
        parameter.grad = None
    found = step.accumulate_gradients(policy, batch)
    return {name: parameter.grad.clone() for name, parameter in policy.parameters.items()}, found  # type: ignore[union-attr]


def assert_same(one: dict[str, Tensor], other: dict[str, Tensor], scale: float = 1.0) -> None:
    largest = max(float(gradient.abs().max()) for gradient in one.values())
    assert largest > 1e-4
    for name in one:
        torch.testing.assert_close(scale * one[name], other[name], rtol=1e-4, atol=1e-5 * largest)


def made(kind: str, settings: AlignSettings, conditioning: Conditioning) -> tuple[Any, Any]:
    videos = VideoBatch(VIDEOS, conditioning, SEED)
    if kind == "sft":
        return SFTStep(SFT(), settings), videos
    if kind == "rwr":
        return SFTStep(RWR(), settings), VideoBatch(VIDEOS, conditioning, SEED, values=WEIGHTS)
    if kind.startswith("kto"):
        baseline: Any = "mismatched" if "mismatched" in kind else "matched"
        schedule: Any = "one_minus_sigma_squared" if "scheduled" in kind else "constant"
        objective = KTO(beta=20.0, baseline=baseline, schedule=schedule, undesirable_weight=2.0)
        return KTOStep(objective, settings), VideoBatch(VIDEOS, conditioning, SEED, values=DESIRABLE)
    if kind == "ipo":
        real = VideoBatch(PAIRS[:, 1].flip(0), conditioning, SEED + 1)
        step: DataAnchorStep[PairBatch] = DataAnchorStep(DPOStep(DPO(beta=10.0), settings), settings)
        return step, AnchoredBatch(PairBatch(PAIRS, conditioning, SEED), real)
    scheduled: Any = "one_minus_sigma_squared" if kind == "dpo scheduled" else "constant"
    weights = WEIGHTS if kind == "dpo weighted" else None
    target = 0.2 if kind == "dpo automatic" else None
    objective_ = DPO(beta=10.0, schedule=scheduled, target_factor=target)
    return DPOStep(objective_, settings), PairBatch(PAIRS, conditioning, SEED, values=weights)


KINDS = ["sft", "rwr", "kto", "kto mismatched", "kto scheduled", "dpo", "dpo scheduled", "dpo weighted"]
ANCHORS = Anchors(chosen=0.2, real=0.1)


@pytest.mark.parametrize("micro_batch_size", [1, 3])
@pytest.mark.parametrize("kind", [*KINDS, "dpo automatic", "ipo"])
def test_micro_batches_add_up_to_the_whole_batch(
    policy: Policy, conditioning: Conditioning, kind: str, micro_batch_size: int
) -> None:
    anchors: dict[str, Any] = {"anchors": ANCHORS, "real": "clips.csv"} if kind == "ipo" else {}

    def run(size: int) -> tuple[dict[str, Tensor], dict[str, float]]:
        settings = AlignSettings(micro_batch_size=size, **anchors)
        step, batch = made(kind, settings, conditioning)
        return gradients(step, policy, batch)

    whole, logged = run(4)
    parts, logged_parts = run(micro_batch_size)
    assert logged_parts == pytest.approx(logged, abs=1e-5)
    assert_same(whole, parts)


@pytest.mark.parametrize("how", [{"two_pass": True}, {"pairing": "apart"}, {"two_pass": True, "pairing": "apart"}])
@pytest.mark.parametrize("kind", ["dpo weighted", "dpo scheduled", "ipo"])
def test_one_video_after_the_other_gives_the_same_gradients(
    policy: Policy, conditioning: Conditioning, kind: str, how: dict[str, Any]
) -> None:
    anchors: dict[str, Any] = {"anchors": ANCHORS, "real": "clips.csv"} if kind == "ipo" else {}
    step, batch = made(kind, AlignSettings(**anchors), conditioning)
    whole, logged = gradients(step, policy, batch)
    settings = AlignSettings(micro_batch_size=3, **anchors, **how)
    step, batch = made(kind, settings, conditioning)
    again, logged_again = gradients(step, policy, batch)
    forwards = 2.0 if "two_pass" in how else 0.0
    assert logged_again.pop("forwards_per_pair") == logged.pop("forwards_per_pair") + forwards
    assert logged_again == pytest.approx(logged, abs=1e-5)
    assert_same(whole, again)


def test_pairs_of_long_clips_go_one_after_the_other(tiny_wan: Generator) -> None:
    assert tiny_wan.tokens((16, 21, 60, 104)) == 32_760
    for shape, apart in (((16, 5, 20, 38), False), ((16, 5, 30, 52), False), ((16, 5, 40, 52), True)):
        assert goes_apart(AlignSettings(), tiny_wan, shape) == apart
        assert goes_apart(AlignSettings(pairing="apart"), tiny_wan, shape)
        assert not goes_apart(AlignSettings(pairing="together"), tiny_wan, shape)


def errors_of(policy: Policy, conditioning: Conditioning) -> tuple[Tensor, Tensor, Tensor]:
    draw = draw_for(VIDEOS.shape, AlignSettings(), policy.generator, SEED)
    found = velocity_errors(policy, VIDEOS, conditioning, draw)
    return found["policy"], found["reference"], draw.sigma


def by_autograd(policy: Policy, loss: Tensor) -> dict[str, Tensor]:
    for parameter in policy.parameters.values():
        parameter.grad = None
    loss.backward()
    return {name: parameter.grad.clone() for name, parameter in policy.parameters.items()}  # type: ignore[union-attr]


def test_kto_takes_its_baseline_over_the_whole_batch_and_without_gradient(
    policy: Policy, conditioning: Conditioning
) -> None:
    error, reference, _ = errors_of(policy, conditioning)
    baseline = kto_baseline(error, reference)
    loss = kto_loss(error, reference, DESIRABLE, beta=20.0, baseline=baseline.detach())
    expected = by_autograd(policy, loss.mean())
    step = KTOStep(KTO(beta=20.0), AlignSettings(micro_batch_size=2))
    found, logged = gradients(step, policy, VideoBatch(VIDEOS, conditioning, SEED, values=DESIRABLE))
    assert_same(expected, found)
    assert logged["loss"] == pytest.approx(float(loss.detach().mean()), abs=1e-5)
    assert logged["baseline"] == pytest.approx(float(baseline), abs=1e-6)
    gap = (error - reference).detach()
    assert logged["undesirable_error_gap"] == pytest.approx(float(gap[1]), abs=1e-6)


def test_a_mismatched_baseline_is_measured_under_other_prompts(policy: Policy, conditioning: Conditioning) -> None:
    rolled = conditioning.take(torch.tensor([3, 0, 1, 2]))
    error, reference, _ = errors_of(policy, rolled)
    step, batch = made("kto mismatched", AlignSettings(micro_batch_size=3), conditioning)
    assert gradients(step, policy, batch)[1]["baseline"] == pytest.approx(
        float(kto_baseline(error, reference)), abs=1e-6
    )


def test_no_video_is_measured_under_its_own_prompt(conditioning: Conditioning) -> None:
    """Videos 0, 1 and 3 share a prompt, also around the end; a roll by one would leave two of them where they are."""
    shared = conditioning.take(torch.tensor([0, 0, 1, 0]))
    other = under_other_prompts(shared)
    expected = conditioning.take(torch.tensor([1, 1, 0, 1]))
    assert torch.equal(other["prompt_embeds"], expected["prompt_embeds"])
    with pytest.raises(ReelignError, match="All 3 videos of a batch have one prompt"):
        under_other_prompts(conditioning.take(torch.tensor([2, 2, 2])))


def test_a_batch_that_may_hold_one_prompt_alone_is_refused_before_the_run() -> None:
    judged = [Candidate(Clip(Path(f"{number}.mp4")), row, 1.0) for number, row in enumerate([0, 0, 0, 1, 2])]
    check_other_prompts(judged, 4)
    with pytest.raises(ReelignError, match=r"A batch of 3 may hold .* has 3 of 5.*\n.*batch_size=4 or more"):
        check_other_prompts(judged, 3)
    with pytest.raises(ReelignError, match="All 3 labelled videos of a size have one prompt"):
        check_other_prompts(judged[:3], 3)


def test_a_batch_of_one_class_is_warned_of(policy: Policy, conditioning: Conditioning) -> None:
    batch = VideoBatch(VIDEOS, conditioning, SEED, values=torch.ones(4).bool())
    with pytest.warns(UserWarning, match="holds desirable videos alone"):
        KTOStep(KTO(), AlignSettings()).accumulate_gradients(policy, batch)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        step, mixed = made("kto", AlignSettings(), conditioning)
        step.accumulate_gradients(policy, mixed)


def test_rwr_is_the_weighted_error(policy: Policy, conditioning: Conditioning) -> None:
    error, _, _ = errors_of(policy, conditioning)
    expected = by_autograd(policy, (WEIGHTS * error).mean())
    step, batch = made("rwr", AlignSettings(), conditioning)
    assert_same(expected, gradients(step, policy, batch)[0])


def test_ipo_is_the_sum_of_its_parts(policy: Policy, conditioning: Conditioning) -> None:
    settings = AlignSettings(anchors=ANCHORS, real="clips.csv")
    step, batch = made("ipo", settings, conditioning)
    whole, logged = gradients(step, policy, batch)
    parts: list[tuple[float, Any, Any]] = [
        (1.0, DPOStep(DPO(beta=10.0), AlignSettings()), batch.batch),
        (0.2, SFTStep(SFT(), AlignSettings()), VideoBatch(VIDEOS, conditioning, SEED)),
        (0.1, SFTStep(SFT(), AlignSettings()), batch.real),
    ]
    total, loss = {name: torch.zeros_like(value) for name, value in whole.items()}, 0.0
    for weight, each, own in parts:
        found, metrics = gradients(each, policy, own)
        loss += weight * metrics["loss"]
        total = {name: total[name] + weight * found[name] for name in total}
    assert_same(total, whole)
    assert logged["loss"] == pytest.approx(loss, abs=1e-4)
    assert logged["real_error"] > 0


def test_an_automatic_beta_moves_after_the_step_and_multiplies_it(policy: Policy, conditioning: Conditioning) -> None:
    step, batch = made("dpo automatic", AlignSettings(), conditioning)
    first, logged = gradients(step, policy, batch)
    assert logged["beta"] == pytest.approx(10.0)
    expected = 10.0 * torch.tensor(0.1 * (logged["gradient_factor"] - 0.2)).exp()
    second, again = gradients(step, policy, batch)
    assert again["beta"] == pytest.approx(float(expected), rel=1e-6)
    fixed, _ = gradients(DPOStep(DPO(beta=again["beta"]), AlignSettings()), policy, batch)
    assert_same(fixed, second)
    assert any(not torch.equal(first[name], second[name]) for name in first)


def test_a_region_is_dpo_on_masked_errors(policy: Policy, conditioning: Conditioning) -> None:
    """LocalDPO: what lies outside the mask has no part in loss or gradient."""
    mask = torch.zeros(1, 1, 3, 2, 2)
    mask[:, :, 1:, :1] = 1
    draw = draw_for(VIDEOS.shape, AlignSettings(), policy.generator, SEED)

    def loss(pairs: Tensor) -> Tensor:
        repeated = conditioning.take(torch.arange(4).repeat_interleave(2))
        found = velocity_errors(policy, pairs.flatten(0, 1), repeated, draw.repeat(2), mask=mask)
        return dpo_loss(found["policy"].unflatten(0, (-1, 2)), found["reference"].unflatten(0, (-1, 2)), beta=10.0)

    whole = velocity_errors(policy, VIDEOS, conditioning, draw)["policy"]
    masked = velocity_errors(policy, VIDEOS, conditioning, draw, mask=mask)["policy"]
    assert not torch.allclose(whole, masked)
    found = by_autograd(policy, loss(PAIRS).mean())
    swapped = by_autograd(policy, loss(PAIRS.flip(1)).mean())
    assert max(float(value.abs().max()) for value in found.values()) > 1e-4
    assert sum(float((found[name] * swapped[name]).sum()) for name in found) < 0


def test_a_sigma_range_keeps_the_proportions_within_it(tiny_wan: Generator) -> None:
    shape = (4000, 1, 1, 1, 1)
    for distribution in ("uniform", "logit_normal"):
        settings: dict[str, Any] = {"noise_levels": distribution, "shift": 3.0}
        free = draw_for(shape, AlignSettings(**settings), tiny_wan, 3).sigma
        held = draw_for(shape, AlignSettings(**settings, sigma_range=(0.3, 0.8)), tiny_wan, 3).sigma
        within = free[(free >= 0.3) & (free <= 0.8)]
        assert 0.3 <= float(held.min()) < float(held.max()) <= 0.8
        assert float(held.mean()) == pytest.approx(float(within.mean()), abs=0.02)
        again = draw_for(shape, AlignSettings(**settings, sigma_range=(0.3, 0.8)), tiny_wan, 3).sigma
        assert torch.equal(held, again)


def test_a_range_that_is_hardly_ever_drawn_is_refused_before_a_run(tiny_wan: Generator) -> None:
    with pytest.raises(ReelignError, match="next to no noise level"):
        check_sigma_range(AlignSettings(sigma_range=(0.99999, 1.0)), tiny_wan)


def test_a_narrow_range_that_a_run_begins_with_never_ends_it(tiny_wan: Generator) -> None:
    """Two hundred attempts find no level for some sample of nearly every batch."""
    settings = AlignSettings(sigma_range=(0.5, 0.502))
    check_sigma_range(settings, tiny_wan)
    for seed in range(5):
        sigma = draw_for((16, 1, 1, 1, 1), settings, tiny_wan, seed).sigma
        assert bool(((sigma >= 0.5) & (sigma <= 0.502)).all())


def test_steps_refuse_a_beta_of_sums_and_missing_values(policy: Policy, conditioning: Conditioning) -> None:
    for step, objective in ((DPOStep, DPO(reduction="sum")), (KTOStep, KTO(reduction="sum"))):
        with pytest.raises(ValueError, match="under the mean reduction"):
            step(objective, AlignSettings())  # type: ignore[operator]
    for video_step in (KTOStep(KTO(), AlignSettings()), SFTStep(RWR(), AlignSettings())):
        with pytest.raises(ValueError, match="as values"):
            video_step.accumulate_gradients(policy, VideoBatch(VIDEOS, conditioning, SEED))


@pytest.mark.parametrize(
    "wrong",
    [
        {"sigma_range": (0.8, 0.2)},
        {"sigma_range": (0.0, 1.5)},
        {"objective": KTO(), "anchors": Anchors(chosen=0.2)},
        {"objective": SFT(), "histogram_alpha": 1.0},
        {"anchors": Anchors(real=0.1)},
        {"pairs": "ground_truth"},
        {"real": "real.csv"},
        {"objective": SFT(), "swap": True},
        {"objective": KTO(), "two_pass": True},
        {"objective": RWR(), "pairing": "apart"},
        {"shift": 0.0},
        {"min_margin": -0.1},
        {"histogram_alpha": -1.0},
    ],
)
def test_settings_that_contradict_each_other_are_refused(wrong: dict[str, Any]) -> None:
    told = r"must be|set it to|real must name a file|real=real.csv does nothing|set objective.on=rejected"
    with pytest.raises(ValueError, match=told):
        AlignSettings(**wrong)


def test_dpo_on_segments_of_time_takes_each_segments_side(policy: Policy, conditioning: Conditioning) -> None:
    """DenseDPO: where the second half's label is turned, its part of the gradient is."""
    draw = draw_for(VIDEOS.shape, AlignSettings(), policy.generator, SEED)
    repeated = conditioning.take(torch.arange(4).repeat_interleave(2))

    def loss(*label: int) -> Tensor:
        found = velocity_errors(
            policy, PAIRS.flatten(0, 1), repeated, draw.repeat(2), mask=temporal_segments(3, len(label))
        )
        error, reference = (found[name].unflatten(0, (-1, 2)).transpose(1, 2) for name in ("policy", "reference"))
        return segment_dpo_loss(error, reference, torch.tensor([label] * 4), beta=10.0).mean()

    whole = by_autograd(policy, loss(1))
    step, batch = made("dpo", AlignSettings(), conditioning)
    assert_same(gradients(step, policy, batch)[0], whole)
    first, second = by_autograd(policy, loss(1, 0)), by_autograd(policy, loss(0, -1))
    both = by_autograd(policy, loss(1, -1))
    assert_same({name: 0.5 * (first[name] + second[name]) for name in first}, both)


@pytest.mark.parametrize(
    ("kind", "size", "ungraded", "graded"),
    [
        ("dpo", 4, 1, 1),
        ("kto", 4, 1, 1),
        ("kto", 2, 4, 2),
        ("kto mismatched", 4, 3, 1),
        ("kto mismatched", 2, 8, 2),
        ("rwr", 4, 0, 1),
    ],
)
def test_a_step_takes_no_more_forwards_than_it_says(
    policy: Policy, conditioning: Conditioning, kind: str, size: int, ungraded: int, graded: int
) -> None:
    """A DPO batch holds both sides of every pair. KTO in one piece asks the policy once."""
    calls: list[bool] = []
    velocity = policy.generator.velocity

    def counted(*inputs: Any) -> Tensor:
        calls.append(torch.is_grad_enabled())
        return velocity(*inputs)

    policy.generator.velocity = counted  # type: ignore[method-assign]
    step, batch = made(kind, AlignSettings(micro_batch_size=size), conditioning)
    step.accumulate_gradients(policy, batch)
    assert (calls.count(False), calls.count(True)) == (ungraded, graded)
