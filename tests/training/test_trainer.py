"""The one loop: it learns, and a run that stopped ends where one that did not ends."""

from __future__ import annotations

import json
import math
import os
import shutil
import signal
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from reelign.diffusion.seeds import generator_from
from reelign.errors import ReelignError
from reelign.generators import Conditioning, Generator, load_generator
from reelign.objectives import DPO, SFT
from reelign.recipes.settings import AlignSettings
from reelign.recipes.steps.pair import DPOStep
from reelign.recipes.steps.video import SFTStep
from reelign.training import LoRA, PairBatch, Policy, ShuffledStream, Trainer, TrainerSettings, VideoBatch
from reelign.training.checkpoints import checkpoint_folders, load_checkpoint
from reelign.training.trainer import told

SETTINGS = TrainerSettings(steps=6, learning_rate=3e-3, checkpoint_every=2, ema_decay=0.9)


def dpo_trainer(generator: Generator, pairs: Tensor, settings: TrainerSettings, folder: Path) -> Trainer[PairBatch]:
    conditioning = generator.encode_prompts(["a red square", "a disc"])
    rows = torch.tensor([0, 0, 1, 1])
    stream = ShuffledStream(PairBatch, pairs, conditioning, rows, batch_size=3, seed=0)
    step = DPOStep(DPO(beta=10.0), AlignSettings())
    return Trainer(Policy(generator, LoRA(rank=4), seed=0), stream, step, settings, folder)


def metrics(folder: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def same(first: dict[str, Tensor] | None, second: dict[str, Tensor] | None) -> bool:
    assert first is not None
    assert second is not None
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


@dataclass
class Interrupting:
    """A step that interrupts its own process, as Ctrl-C would in the middle of it."""

    inner: DPOStep
    at: int
    count: int = 0

    def accumulate_gradients(self, policy: Policy, batch: PairBatch) -> dict[str, float]:
        self.count += 1
        if self.count == self.at:
            os.kill(os.getpid(), signal.SIGINT)
        return self.inner.accumulate_gradients(policy, batch)


class Diverging:
    """A step whose gradient or loss is not finite at the steps named."""

    def __init__(self, *at: int, loss: float = 0.0, gradient: float = math.nan) -> None:
        self.at = at
        self.loss = loss
        self.gradient = gradient
        self.count = 0

    def accumulate_gradients(self, policy: Policy, batch: PairBatch) -> dict[str, float]:
        self.count += 1
        bad = self.count in self.at
        for parameter in policy.parameters.values():
            parameter.grad = torch.full_like(parameter, self.gradient if bad else 1.0)
        return {"loss": self.loss if bad else 1.0, "margin": self.loss}

    def state_dict(self) -> dict[str, int]:
        return {"count": self.count}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.count = state["count"]


class Stopping:
    """A monitor that has seen enough after two looks."""

    def __init__(self) -> None:
        self.looks: list[int] = []

    def after_step(self, step: int, policy: Policy, metrics: dict[str, float]) -> dict[str, float]:
        self.looks.append(step)
        return {"looks": len(self.looks)}

    def verdict(self) -> str | None:
        return "enough" if len(self.looks) >= 2 else None

    def state_dict(self) -> dict[str, list[int]]:
        return {"looks": self.looks}

    def load_state_dict(self, state: dict[str, list[int]]) -> None:
        self.looks = state["looks"]


def test_dpo_loss_falls_and_the_policy_learns_to_rank(tiny_wan: Generator, pairs: Tensor, tmp_path: Path) -> None:
    dpo_trainer(tiny_wan, pairs, replace(SETTINGS, steps=40), tmp_path).train()
    rows = metrics(tmp_path)
    assert rows[0]["loss"] == pytest.approx(math.log(2), abs=1e-5)
    assert rows[0]["implicit_accuracy"] == 0.5
    assert sum(row["loss"] for row in rows[-5:]) / 5 < 0.5
    assert sum(row["implicit_accuracy"] for row in rows[-5:]) / 5 > 0.9


def test_sft_loss_falls(tiny_wan: Generator, pairs: Tensor, tmp_path: Path) -> None:
    conditioning = tiny_wan.encode_prompts(["a red square", "a disc"])
    rows = torch.tensor([0, 0, 1, 1])
    stream = ShuffledStream(VideoBatch, pairs[:, 0], conditioning, rows, batch_size=16, seed=0)
    settings = replace(SETTINGS, steps=40, learning_rate=1e-2)
    Trainer(Policy(tiny_wan, LoRA(rank=4)), stream, SFTStep(SFT(), AlignSettings()), settings, tmp_path).train()
    losses = [row["loss"] for row in metrics(tmp_path)]
    assert sum(losses[-5:]) < 0.9 * sum(losses[:5])


@pytest.mark.parametrize("micro_batch_size", [1, 2, 3])
@pytest.mark.parametrize("kind", ["dpo", "sft"])
def test_micro_batches_add_up_to_the_whole_batch(
    tiny_wan: Generator, pairs: Tensor, conditioning: Conditioning, kind: str, micro_batch_size: int
) -> None:
    policy = Policy(tiny_wan, LoRA(rank=4))
    with torch.no_grad():
        chance = generator_from("moved")
        for parameter in policy.parameters.values():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=chance))
    each = conditioning.take(torch.tensor([0, 0, 1, 1]))

    def gradients(size: int) -> tuple[dict[str, Tensor], dict[str, float]]:
        for parameter in policy.parameters.values():
            parameter.grad = None
        settings = AlignSettings(micro_batch_size=size)
        if kind == "dpo":
            found = DPOStep(DPO(beta=10.0), settings).accumulate_gradients(policy, PairBatch(pairs, each, 7))
        else:
            found = SFTStep(SFT(), settings).accumulate_gradients(policy, VideoBatch(pairs[:, 0], each, 7))
        return {name: parameter.grad.clone() for name, parameter in policy.parameters.items()}, found

    whole, logged = gradients(4)
    parts, logged_parts = gradients(micro_batch_size)
    assert logged_parts == pytest.approx(logged, abs=1e-5)
    for name in whole:
        torch.testing.assert_close(parts[name], whole[name], rtol=1e-5, atol=1e-6)
    assert max(float(gradient.abs().max()) for gradient in whole.values()) > 1e-3


@pytest.mark.parametrize("stop", [2, 4])
def test_a_resumed_run_is_the_run_never_stopped(
    tiny_wan_folder: Path, pairs: Tensor, tmp_path: Path, stop: int
) -> None:
    def trainer(folder: str) -> Trainer[PairBatch]:
        return dpo_trainer(load_generator(str(tiny_wan_folder)), pairs, SETTINGS, tmp_path / folder)

    whole = trainer("whole")
    assert whole.train() == 0
    shutil.copytree(tmp_path / "whole", tmp_path / "cut")
    for folder in checkpoint_folders(tmp_path / "cut" / "checkpoints"):
        if folder.name != f"step-{stop:06d}":
            shutil.rmtree(folder)
    if not checkpoint_folders(tmp_path / "cut" / "checkpoints"):
        cut = dpo_trainer(load_generator(str(tiny_wan_folder)), pairs, replace(SETTINGS, steps=stop), tmp_path / "cut")
        cut.train()
    resumed = trainer("cut")
    assert resumed.train() == stop
    assert same(resumed.policy.state_dict(), whole.policy.state_dict())
    assert same(resumed.ema, whole.ema)
    assert [row["step"] for row in metrics(tmp_path / "cut")] == [1, 2, 3, 4, 5, 6]
    losses = [[row["loss"] for row in metrics(tmp_path / name)] for name in ("whole", "cut")]
    assert losses[0] == losses[1]


def test_only_the_newest_checkpoints_are_kept(tiny_wan: Generator, pairs: Tensor, tmp_path: Path) -> None:
    trainer = dpo_trainer(tiny_wan, pairs, replace(SETTINGS, checkpoint_every=1), tmp_path)
    trainer.train()
    assert [folder.name for folder in checkpoint_folders(trainer.checkpoints)] == ["step-000005", "step-000006"]


def test_a_finished_run_is_left_as_it_is(tiny_wan_folder: Path, pairs: Tensor, tmp_path: Path) -> None:
    first = dpo_trainer(load_generator(str(tiny_wan_folder)), pairs, SETTINGS, tmp_path)
    first.train()
    again = dpo_trainer(load_generator(str(tiny_wan_folder)), pairs, SETTINGS, tmp_path)
    assert again.train() == SETTINGS.steps
    assert same(again.policy.state_dict(), first.policy.state_dict())
    assert len(metrics(tmp_path)) == SETTINGS.steps


def test_ctrl_c_finishes_the_step_and_keeps_it(tiny_wan_folder: Path, pairs: Tensor, tmp_path: Path) -> None:
    settings = replace(SETTINGS, checkpoint_every=100)
    whole = dpo_trainer(load_generator(str(tiny_wan_folder)), pairs, settings, tmp_path / "whole")
    whole.train()
    cut = dpo_trainer(load_generator(str(tiny_wan_folder)), pairs, settings, tmp_path / "cut")
    cut.step = Interrupting(DPOStep(DPO(beta=10.0), AlignSettings()), at=3)
    handler = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        cut.train()
    assert signal.getsignal(signal.SIGINT) is handler
    resumed = dpo_trainer(load_generator(str(tiny_wan_folder)), pairs, settings, tmp_path / "cut")
    assert resumed.train() == 3
    assert same(resumed.policy.state_dict(), whole.policy.state_dict())


def test_an_average_with_warm_up_forgets_the_first_weights_at_once(
    tiny_wan_folder: Path, pairs: Tensor, tmp_path: Path
) -> None:
    """Decays of 1/10, 2/11 and 3/12, and at last the setting's own."""
    settings = replace(SETTINGS, steps=4, ema_decay=0.24, ema_warmup=True, checkpoint_every=1, keep_checkpoints=4)
    assert [settings.decay(step) for step in range(4)] == [0.1, 2 / 11, 0.24, 0.24]
    trainer = dpo_trainer(load_generator(str(tiny_wan_folder)), pairs, settings, tmp_path)
    trainer.train()
    average: dict[str, Tensor] = {}
    for decay, folder in zip([0.0, 2 / 11, 0.24, 0.24], checkpoint_folders(tmp_path / "checkpoints"), strict=True):
        weights = load_file(folder / "weights.safetensors")
        average = {name: decay * average.get(name, 0 * each) + (1 - decay) * each for name, each in weights.items()}
    assert trainer.ema is not None
    for name, tensor in average.items():
        torch.testing.assert_close(trainer.ema[name], tensor)


@pytest.mark.parametrize("bad", [{"gradient": math.nan}, {"gradient": math.inf}, {"loss": math.nan, "gradient": 1.0}])
def test_a_step_that_is_not_finite_changes_nothing_and_is_counted(
    tiny_wan_folder: Path, pairs: Tensor, tmp_path: Path, bad: dict[str, float]
) -> None:
    """Six steps of which two are skipped end where four do."""
    settings = replace(SETTINGS, ema_decay=0.5)
    trainer = dpo_trainer(load_generator(str(tiny_wan_folder)), pairs, settings, tmp_path / "skipping")
    trainer.step = Diverging(2, 5, **bad)
    trainer.train()
    plain = dpo_trainer(load_generator(str(tiny_wan_folder)), pairs, replace(settings, steps=4), tmp_path / "plain")
    plain.step = Diverging()
    plain.train()
    assert same(trainer.policy.state_dict(), plain.policy.state_dict())
    assert same(trainer.ema, plain.ema)
    rows = metrics(tmp_path / "skipping")
    assert [row.get("skipped", 0) for row in rows] == [0, 1, 1, 1, 2, 2]
    assert all(math.isfinite(value) for row in rows for value in row.values())


def test_several_in_a_row_stop_the_run_and_name_the_videos(
    tiny_wan_folder: Path, pairs: Tensor, tmp_path: Path
) -> None:
    settings = replace(SETTINGS, stop_after_skips=2)
    trainer = dpo_trainer(load_generator(str(tiny_wan_folder)), pairs, settings, tmp_path)
    assert isinstance(trainer.stream, ShuffledStream)
    trainer.stream.names = [f"pair {number}" for number in range(4)]
    trainer.step = Diverging(1, 3, 4)
    with pytest.raises(ReelignError, match=r"in 2 steps in a row, the last of them step 4 on (pair \d(, )?){3};"):
        trainer.train()
    saved = load_checkpoint(trainer.checkpoints)
    assert saved is not None
    assert (saved.step, saved.extra["skipped"]) == (2, [1, 0])
    again = dpo_trainer(load_generator(str(tiny_wan_folder)), pairs, settings, tmp_path)
    again.step = Diverging()
    assert again.train() == 2
    assert again.step.count == 6
    assert again.skipped == 1


def test_a_monitor_adds_metrics_and_may_end_the_run_for_good(
    tiny_wan_folder: Path, pairs: Tensor, tmp_path: Path
) -> None:
    def trainer() -> Trainer[PairBatch]:
        made = dpo_trainer(load_generator(str(tiny_wan_folder)), pairs, SETTINGS, tmp_path)
        made.monitors = [Stopping()]
        return made

    first = trainer()
    first.train()
    assert first.verdict() == "enough"
    assert [row["looks"] for row in metrics(tmp_path)] == [1, 2]
    again = trainer()
    assert again.train() == 2
    assert again.verdict() == "enough"
    assert len(metrics(tmp_path)) == 2


def test_an_automatic_beta_resumes_with_the_run(tiny_wan_folder: Path, pairs: Tensor, tmp_path: Path) -> None:
    def trainer(folder: str, steps: int) -> Trainer[PairBatch]:
        made = dpo_trainer(
            load_generator(str(tiny_wan_folder)), pairs, replace(SETTINGS, steps=steps), tmp_path / folder
        )
        made.step = DPOStep(DPO(beta=10.0, target_factor=0.3), AlignSettings())
        return made

    whole = trainer("whole", 6)
    whole.train()
    trainer("cut", 2).train()
    resumed = trainer("cut", 6)
    assert resumed.train() == 2
    assert same(resumed.policy.state_dict(), whole.policy.state_dict())
    betas = [[row["beta"] for row in metrics(tmp_path / name)] for name in ("whole", "cut")]
    assert betas[0] == betas[1]
    assert betas[0][0] == pytest.approx(10.0)
    assert betas[0][1] > betas[0][0]


def test_the_bar_says_so_where_a_step_found_no_pair() -> None:
    assert told({"loss": 0.69312, "grad_norm": 1.0}) == "loss=0.6931"
    assert told({"online/empty_steps": 1.0}) == "no pair"


def test_learning_rate_warms_up_and_falls() -> None:
    settings = TrainerSettings(steps=10, learning_rate=1.0, warmup_steps=2, schedule="cosine")
    rates = [settings.rate(step) for step in range(10)]
    assert rates[:3] == [0.5, 1.0, 1.0]
    assert rates[6] == pytest.approx(0.5)
    assert 0 < rates[9] < 0.05
    assert TrainerSettings(learning_rate=0.3).rate(100) == 1.0


def test_a_linear_schedule_falls_evenly() -> None:
    settings = TrainerSettings(steps=10, learning_rate=1.0, warmup_steps=2, schedule="linear")
    assert [settings.rate(step) for step in (0, 1, 2, 6)] == [0.5, 1.0, 1.0, 0.5]


def test_checkpoints_by_the_clock_come_between_those_by_steps(
    tiny_wan_folder: Path, pairs: Tensor, tmp_path: Path
) -> None:
    settings = replace(SETTINGS, steps=3, checkpoint_every=100, checkpoint_minutes=1e-9, keep_checkpoints=9)
    trainer = dpo_trainer(load_generator(str(tiny_wan_folder)), pairs, settings, tmp_path)
    trainer.train()
    assert [folder.name[-1] for folder in checkpoint_folders(trainer.checkpoints)] == ["1", "2", "3"]
    settings = replace(settings, checkpoint_minutes=60.0)
    patient = dpo_trainer(load_generator(str(tiny_wan_folder)), pairs, settings, tmp_path / "patient")
    patient.train()
    assert [folder.name[-1] for folder in checkpoint_folders(patient.checkpoints)] == ["3"]


@pytest.mark.parametrize("kept", ["full", "selective"])
def test_a_run_with_checkpointed_activations_is_the_same_run(
    tiny_wan_folder: Path, pairs: Tensor, tmp_path: Path, kept: str
) -> None:
    plain = dpo_trainer(load_generator(str(tiny_wan_folder)), pairs, SETTINGS, tmp_path / "plain")
    plain.train()
    settings = replace(SETTINGS, activation_checkpointing=kept)
    again = dpo_trainer(load_generator(str(tiny_wan_folder)), pairs, settings, tmp_path / "again")
    again.train()
    for name, tensor in plain.policy.state_dict().items():
        torch.testing.assert_close(again.policy.state_dict()[name], tensor)


@pytest.mark.parametrize(
    "wrong",
    [
        {"steps": 0},
        {"checkpoint_every": 0},
        {"learning_rate": 0.0},
        {"max_grad_norm": 0.0},
        {"max_grad_norm": math.nan},
        {"warmup_steps": -1},
        {"weight_decay": -0.1},
        {"checkpoint_minutes": -1.0},
        {"ema_decay": 1.0},
        {"ema_warmup": True},
        {"ema_decay": -0.1},
        {"betas": (0.9, 1.0)},
    ],
)
def test_settings_that_train_nothing_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        TrainerSettings(**wrong)
