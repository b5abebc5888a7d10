"""References that move: when, to what, and that a checkpoint holds them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from reelign.errors import ReelignError
from reelign.generators import Generator, VideoSize, load_generator
from reelign.training import LoRA, Policy, make_draw, velocity_errors
from reelign.training.policy import Weights
from reelign.training.reference_policy import EMA, Curriculum, Fixed, Gated, ReferenceMoves, References, got_better

PROMPTS = torch.tensor([0, 0, 1, 1, 2, 2])


def policy_of(generator: Generator) -> Policy:
    return Policy(generator, LoRA(rank=2), moving=True)


def train(policy: Policy, by: float) -> None:
    """What an optimiser does to the weights, worked by hand."""
    with torch.no_grad():
        for parameter in policy.parameters.values():
            parameter.add_(by)
    policy.refresh()


@pytest.fixture
def policy(tiny_wan: Generator) -> Policy:
    return policy_of(tiny_wan)


def errors(policy: Policy, size: VideoSize, *weights: Weights) -> dict[Weights, Tensor]:
    generator = policy.generator
    shape = (1, *generator.latent_shape(size))
    chance = torch.Generator().manual_seed(0)
    draw = make_draw(
        shape, path=generator.path, distribution="uniform", shift=1, generator=chance, device=generator.device
    )
    latents, text = torch.randn(shape, generator=chance), generator.encode_prompts(["a red square"])
    return velocity_errors(policy, latents, text, draw, weights=weights)


def test_the_reference_is_the_base_until_it_moves_and_then_the_policy_as_it_was(
    policy: Policy, tiny_size: VideoSize
) -> None:
    train(policy, 0.05)
    before = errors(policy, tiny_size, "policy", "reference", "base")
    assert torch.equal(before["reference"], before["base"])
    assert not torch.equal(before["policy"], before["base"])
    policy.move_reference()
    train(policy, 0.05)
    after = errors(policy, tiny_size, "policy", "reference", "base")
    assert torch.equal(after["reference"], before["policy"])
    assert torch.equal(after["base"], before["base"])
    assert not torch.equal(after["policy"], before["policy"])


def test_gradients_are_those_of_a_policy_whose_reference_was_not_asked(policy: Policy, tiny_size: VideoSize) -> None:
    """Asking another adapter between the policy's forward and its backward leaves graph and leaves as they are."""
    train(policy, 0.05)
    found = []
    for weights in (("policy",), ("policy", "reference", "base")):
        errors(policy, tiny_size, *weights)["policy"].sum().backward()
        found.append([parameter.grad.clone() for parameter in policy.parameters.values() if parameter.grad is not None])
        for parameter in policy.parameters.values():
            parameter.grad = None
    assert len(found[0]) == len(policy.parameters)
    assert all(torch.equal(one, other) for one, other in zip(*found, strict=True))
    moved = [name for name, each in policy.generator.denoisers["transformer"].named_parameters() if each.requires_grad]
    assert moved == [name.removeprefix("transformer.") for name in policy.parameters]


def test_a_policy_without_a_second_adapter_saves_what_one_with_it_saves(tiny_wan_folder: Path, tmp_path: Path) -> None:
    saved = []
    for moving in (False, True):
        policy = Policy(load_generator(str(tiny_wan_folder)), LoRA(rank=2), moving=moving)
        path = policy.save(tmp_path / str(moving))
        assert path is not None
        saved.append(path.read_bytes())
    assert len(saved[0]) == len(saved[1])


@pytest.mark.parametrize(
    ("how", "moves", "held"),
    [
        (Fixed(), 0, 0.0),
        (Curriculum(every=2), 2, 4.0),
        # 0, then half of the way at every step: r <- (r + s) / 2 for s = 1 … 5
        (EMA(decay=0.5), 5, 4.03125),
    ],
)
def test_how_far_the_reference_follows(policy: Policy, how: References, moves: int, held: float) -> None:
    """A policy that is one unit further on after every step."""
    assert policy.reference is not None
    name = next(iter(policy.parameters))
    start = policy.reference[name].clone()
    keeper = ReferenceMoves(how)
    for step in range(1, 6):
        train(policy, 1.0)
        metrics = keeper.after_step(step, policy, {})
    assert keeper.moves == moves
    assert torch.allclose(policy.reference[name] - start, torch.tensor(held), atol=1e-5)
    if moves:
        assert metrics == {"reference/moves": moves, "reference/age": {2: 1, 5: 0}[moves]}


def test_the_gate_opens_where_every_judge_saw_the_policy_rise(policy: Policy) -> None:
    """From look to look: one judge alone rises, then both do."""
    looks = iter([(0.0, 0.0), (1.0, -1.0), (1.0, 1.0)])

    def look(_: Policy) -> tuple[dict[str, Tensor], Tensor]:
        one, other = next(looks)
        return {"one": torch.full((6,), one), "other": torch.full((6,), other)}, PROMPTS

    keeper = ReferenceMoves(Gated(every=1, level=0.9), look=look)
    keeper.begin(policy)
    assert [keeper.after_step(step, policy, {})["reference/moves"] for step in (1, 2)] == [0, 1]
    again = ReferenceMoves(Gated(), look=look)
    again.load_state_dict(keeper.state_dict())
    assert again.moves == 1
    assert again.before["other"].tolist() == [1.0] * 6


def test_a_rise_within_the_noise_between_prompts_is_none() -> None:
    nothing = {"judge": torch.zeros(6)}
    # Means of the three prompts: 3, 0 and -1.5, so that their mean of 0.5 may well be chance.
    assert not got_better(nothing, {"judge": torch.tensor([3.0, 3, 0, 0, -1.5, -1.5])}, PROMPTS, level=0.9)
    assert got_better(nothing, {"judge": torch.tensor([3.0, 3, 0, 0, -1.5, -1.5])}, PROMPTS, level=0.5)
    assert got_better(nothing, {"judge": torch.tensor([0.5, 0.5, 0.4, 0.4, 0.6, 0.6])}, PROMPTS, level=0.9)
    unscored = torch.tensor([5.0, 5, torch.nan, torch.nan, torch.nan, torch.nan])
    assert not got_better(nothing, {"judge": unscored}, PROMPTS, level=0.5)


def test_a_reference_survives_through_its_state(policy: Policy, tiny_wan_folder: Path, tiny_size: VideoSize) -> None:
    train(policy, 0.05)
    policy.move_reference(0.3)
    assert policy.reference is not None
    again = policy_of(load_generator(str(tiny_wan_folder)))
    again.load_reference({name: tensor.clone() for name, tensor in policy.reference.items()})
    assert torch.equal(
        errors(again, tiny_size, "reference")["reference"], errors(policy, tiny_size, "reference")["reference"]
    )


def test_what_is_refused(policy: Policy, tiny_wan_folder: Path) -> None:
    with pytest.raises(ReelignError, match="full fine-tuning has none"):
        Policy(load_generator(str(tiny_wan_folder)), None, reference=True, moving=True)
    with pytest.raises(ReelignError, match="does not fit"):
        policy.load_reference({})
    with pytest.raises(ReelignError, match="none are named"):
        ReferenceMoves(Gated())
    with pytest.raises(ReelignError, match="the same held-out judges"):
        got_better({"one": torch.zeros(6)}, {"two": torch.zeros(6)}, PROMPTS, level=0.9)
    for wrong in (lambda: Curriculum(every=0), lambda: EMA(decay=1), lambda: Gated(level=0.4), lambda: Gated(every=0)):
        with pytest.raises(ValueError, match="must be"):
            wrong()
