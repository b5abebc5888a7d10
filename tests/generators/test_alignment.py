"""Every family learns: its native loss is the default error, SFT and DPO lower theirs, plain diffusers takes the
adapter. Each is trained once by either, for all tests that look at what came of it."""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch
from torch import Tensor

from generators.families import FAMILIES, images_of, sides
from generators.pipelines import (
    as_held,
    assert_close,
    by_pipeline,
    by_reelign,
    said_by,
    timesteps_at,
    training_pair,
)
from reelign.diffusion.paths import EDM, RectifiedFlow
from reelign.diffusion.seeds import generator_from
from reelign.errors import ReelignError
from reelign.generators import Conditioning, Generator, load_generator
from reelign.objectives.dpo import DPO
from reelign.objectives.sft import sft_loss
from reelign.training import (
    Draw,
    LoRA,
    PairBatch,
    Policy,
    ShuffledStream,
    Trainer,
    TrainerSettings,
    VideoBatch,
    load_adapter,
    make_draw,
    velocity_errors,
)
from reelign.training.adapters import expert_of, lora_files

STEPS = 8
OBJECTIVE = DPO(beta=20.0)


def pairs_for(family: Generator) -> Tensor:
    """(4, 2, C, F, H, W); chosen and rejected differ by their mean."""
    size = FAMILIES[Path(family.model).name].size
    latents = torch.randn(4, 2, *family.latent_shape(size), generator=torch.Generator().manual_seed(1))
    return latents + torch.tensor([1.0, -1.0])[:, None, None, None, None]


def draw_for(policy: Policy, latents: Tensor, seed: int = 0) -> Draw:
    return make_draw(
        latents.shape,
        path=policy.generator.path,
        distribution="uniform",
        shift=1.0,
        generator=generator_from("draw", seed),
        device=torch.device("cpu"),
    )


class Learn:
    """One micro-batch of SFT or DPO: fresh draws, the family's default weight."""

    def __init__(self, objective: DPO | None) -> None:
        self.objective = objective

    def accumulate_gradients(self, policy: Policy, batch: Any) -> dict[str, float]:
        pairs = self.objective is not None
        draw = draw_for(policy, batch.latents[:, 0] if pairs else batch.latents, batch.seed)
        conditioning = batch.conditioning
        if pairs:
            rows = torch.arange(len(batch.latents)).repeat_interleave(2)
            draw, conditioning = draw.repeat(2), conditioning.take(rows)
        latents = batch.latents.flatten(0, 1) if pairs else batch.latents
        errors = velocity_errors(policy, latents, conditioning, draw)
        loss = sft_loss(errors["policy"]).mean() if self.objective is None else dpo(self.objective, errors)
        loss.backward()
        return {"loss": float(loss.detach())}


def dpo(objective: DPO, errors: dict[Any, Tensor]) -> Tensor:
    return objective(errors["policy"].unflatten(0, (-1, 2)), errors["reference"].unflatten(0, (-1, 2))).mean()


@dataclass
class Trained:
    """A policy after its steps on pairs, what it was told, and the losses on one draw before and after."""

    policy: Policy
    pairs: Tensor
    told: tuple[Conditioning, Conditioning]
    folder: Path
    before: float = field(init=False)
    after: float = field(init=False)

    @property
    def rows(self) -> Tensor:
        return torch.tensor([0, 1, 0, 1])

    def train(self, objective: DPO | None) -> None:
        """SFT on the chosen videos, or DPO."""
        own, stream = self.told[0], None
        if objective is None:
            videos = self.pairs[:, 0]
            stream = ShuffledStream(VideoBatch, videos, own, self.rows, batch_size=4, seed=0)
        else:
            stream = ShuffledStream(PairBatch, self.pairs, own, self.rows, batch_size=4, seed=0)
        self.before = self.loss(objective)
        rate = FAMILIES[Path(self.policy.generator.model).name].rate
        settings = TrainerSettings(steps=STEPS, learning_rate=rate, checkpoint_every=STEPS)
        Trainer(self.policy, stream, Learn(objective), settings, self.folder / "run").train()  # type: ignore[arg-type]
        self.after = self.loss(objective)
        self.policy.save(self.folder / "adapter")

    def loss(self, objective: DPO | None) -> float:
        draw = draw_for(self.policy, self.pairs[:, 0])
        with torch.no_grad():
            if objective is None:
                errors = velocity_errors(self.policy, self.pairs[:, 0], self.told[0].take(self.rows), draw)
                return float(errors["policy"].mean() / errors["reference"].mean())
            both = self.told[0].take(self.rows.repeat_interleave(2))
            return float(dpo(objective, velocity_errors(self.policy, self.pairs.flatten(0, 1), both, draw.repeat(2))))


class Trainings(dict[str, Trained]):
    """Each family's, when a test first asks for it."""

    def __init__(self, folders: dict[str, Path], objective: DPO | None, root: Path) -> None:
        super().__init__()
        self.folders, self.objective, self.root = folders, objective, root

    def __missing__(self, name: str) -> Trained:
        family = load_generator(str(self.folders[name]))
        policy = Policy(family, LoRA(rank=4, alpha=4))
        self[name] = Trained(policy, pairs_for(family), sides(family), self.root / name)
        self[name].train(self.objective)
        return self[name]


@pytest.fixture(scope="module")
def fine_tunings(family_folders: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Trainings:
    return Trainings(family_folders, None, tmp_path_factory.mktemp("sft"))


@pytest.fixture(scope="module")
def preferences(family_folders: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Trainings:
    return Trainings(family_folders, OBJECTIVE, tmp_path_factory.mktemp("dpo"))


@pytest.fixture
def fine_tuned(family_folder: Path, fine_tunings: Trainings) -> Trained:
    """Shared by every test that looks at it: none may train it further."""
    return fine_tunings[family_folder.name]


def test_the_default_error_is_the_loss_that_the_family_was_pretrained_on(fine_tuned: Trained) -> None:
    """Mean squared error on the scheduler's own noisy latents and target, in the model's own layout, over what is not
    given."""
    policy, latents = fine_tuned.policy, fine_tuned.pairs[:, 0]
    family = policy.generator
    conditioning, draw = fine_tuned.told[0].take(fine_tuned.rows), draw_for(policy, latents)
    timesteps = timesteps_at(family, draw.sigma)
    if not isinstance(family.path, RectifiedFlow | EDM):
        assert torch.equal(family.path.sigmas[timesteps], draw.sigma)  # type: ignore[attr-defined]
    fed, target = training_pair(family, latents, draw.noise, draw.sigma)
    given = family.clean_mask(latents.shape, conditioning)
    made = slice(0 if given is None else 1, None)
    errors = velocity_errors(policy, latents, conditioning, draw)
    for name in ("reference", "policy"):
        with torch.no_grad(), policy.using(name):  # type: ignore[arg-type]
            said = said_by(family, fed, timesteps, conditioning)
        expected = (said - target)[:, :, made].square().flatten(1).mean(dim=1)
        torch.testing.assert_close(errors[name], expected, rtol=2e-4, atol=1e-5)  # type: ignore[index]
    assert (errors["reference"] - errors["policy"]).abs().min() > 1e-4


def test_a_perfect_model_has_no_error(fine_tuned: Trained, monkeypatch: pytest.MonkeyPatch) -> None:
    """Over all training levels, the family's scaling of input and output included; each expert answers for its own."""
    policy, latents = fine_tuned.policy, fine_tuned.pairs[:, 0]
    family, draw = policy.generator, draw_for(policy, latents)
    _, answer = training_pair(family, latents, draw.noise, draw.sigma)
    answer = as_held(family.pipeline, answer)
    for name, rows in family.expert_rows(draw.sigma).items():
        own = answer[rows]
        monkeypatch.setattr(family.denoisers[name], "forward", lambda *_, own=own, **__: (own,))
    for error in velocity_errors(policy, latents, fine_tuned.told[0].take(fine_tuned.rows), draw).values():
        assert error.max() < 1e-8


def test_sft_steps_lower_the_error(fine_tuned: Trained) -> None:
    assert fine_tuned.before == pytest.approx(1, abs=1e-6)
    assert fine_tuned.after < 0.95


def test_dpo_steps_lower_the_loss(family_folder: Path, preferences: Trainings) -> None:
    found = preferences[family_folder.name]
    assert found.before == pytest.approx(0.6931, abs=1e-4)
    assert found.after < 0.5


@contextlib.contextmanager
def as_they_were(pipeline: Any) -> Iterator[None]:
    """The pipeline's and its models' classes as they were after the block: the line before an adapter changes them."""
    kinds = [
        type(pipeline),
        *(type(each) for each in pipeline.components.values() if isinstance(each, torch.nn.Module)),
    ]
    bases = {kind: kind.__bases__ for kind in kinds}
    try:
        yield
    finally:
        for kind, own in bases.items():
            if kind.__bases__ != own:
                kind.__bases__ = own


def test_the_adapter_samples_the_same_in_plain_diffusers(fine_tuned: Trained, family_folder: Path) -> None:
    """Loaded as the printed script does it, into the class that it names."""
    policy, told = fine_tuned.policy, fine_tuned.told
    family, own = policy.generator, FAMILIES[family_folder.name]
    ours = by_reelign(family, own.size, 1.0, told)
    with policy.using("base"):
        base = by_reelign(family, own.size, 1.0, told)
    assert (ours - base).abs().max() > 1e-2

    call = family.pipeline_call({"guidance_scale": 1.0})
    plain: Any = getattr(importlib.import_module(call["module"]), call["pipeline"]).from_pretrained(
        family_folder, dtype=torch.float32
    )
    plain.set_progress_bar_config(disable=True)
    with as_they_were(plain):
        exec(call["adapter_line"], {"pipe": plain, "diffusers": diffusers})
        for file in lora_files(fine_tuned.folder / "adapter"):
            into = {f"load_into_{expert}": True} if (expert := expert_of(file)) else {}
            plain.load_lora_weights(fine_tuned.folder / "adapter", weight_name=file.name, **into)
        theirs = by_pipeline(plain, family, own.size, 1.0, images=images_of(family_folder))
    assert_close(ours, theirs, own.bound)

    again = load_generator(str(family_folder))
    load_adapter(again, fine_tuned.folder / "adapter")
    latents, sigma = fine_tuned.pairs[:2, 0], family.path.training_sigmas(torch.tensor([0.3, 0.9]))
    with torch.no_grad():
        assert_close(again.velocity(latents, sigma, told[0]), family.velocity(latents, sigma, told[0]))


def test_an_adapter_of_another_family_is_refused(family_folder: Path, fine_tunings: Trainings) -> None:
    """Of Wan's models the layers' names are the same, and only their widths tell them apart."""
    other = fine_tunings["wan22-ti2v" if family_folder.name in ("wan", "wan-i2v") else "wan"].folder / "adapter"
    family = load_generator(str(family_folder), encoders=False)
    with pytest.raises(ReelignError, match=r"does not fit|No weight|could not be loaded") as caught:
        load_adapter(family, other)
    alike = "size mismatch" in str(caught.value)
    assert alike == family_folder.name.startswith("wan")
    assert alike or next(iter(family.denoisers)) in caught.value.mend


def test_the_reference_is_the_base_bit_for_bit(
    fine_tuned: Trained, loaded: dict[str, Generator], family_folder: Path
) -> None:
    base, family = loaded[family_folder.name], fine_tuned.policy.generator
    noisy, sigma = fine_tuned.pairs[:, 0], family.path.training_sigmas(torch.tensor([0.1, 0.4, 0.6, 0.9]))
    conditioning = fine_tuned.told[0].take(fine_tuned.rows)
    with torch.no_grad():
        expected = base.velocity(noisy, sigma, conditioning)
        with fine_tuned.policy.using("reference"):
            assert torch.equal(family.velocity(noisy, sigma, conditioning), expected)
        assert not torch.equal(family.velocity(noisy, sigma, conditioning), expected)


def test_activation_checkpointing_keeps_gradients_and_saves_memory(family_folder: Path, preferences: Trainings) -> None:
    """Of every part of an adapter that has learnt."""
    found = preferences[family_folder.name]
    policy, family = found.policy, found.policy.generator
    latents, conditioning = found.pairs[:, 0], found.told[0].take(found.rows)
    # Levels of both experts, where there are two.
    draw = Draw(family.path.training_sigmas(torch.tensor([0.1, 0.4, 0.7, 0.97])), found.pairs[:, 1])

    def gradients_and_kept() -> tuple[dict[str, Tensor], int]:
        """Also the bytes that autograd itself holds for the backward pass; a rerun block's inputs come on top."""
        storages: dict[int, int] = {}

        def keep(tensor: Tensor) -> Tensor:
            storages[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        for parameter in policy.parameters.values():
            parameter.grad = None
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            loss = velocity_errors(policy, latents, conditioning, draw)["policy"].mean()
            kept = sum(storages.values())
        loss.backward()
        return {name: p.grad.clone() for name, p in policy.parameters.items() if p.grad is not None}, kept

    plain, kept = gradients_and_kept()
    family.enable_activation_checkpointing()
    family.enable_activation_checkpointing()  # twice is once
    again, kept_again = gradients_and_kept()
    assert plain.keys() == again.keys() == policy.parameters.keys()
    assert not [name for name, gradient in plain.items() if not gradient.any()]
    for name in plain:
        torch.testing.assert_close(again[name], plain[name])
    assert kept_again < 0.5 * kept
