"""A reward trained on tiny Qwen-VL backbones and real clips: gradients, what trains, resuming, what is kept."""

from __future__ import annotations

import json
import math
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from recipes.reward_worlds import bright_data, tiny_settings
from reelign.errors import ReelignError
from reelign.objectives.ranking import BradleyTerry, BradleyTerryTies, ScoreRegression
from reelign.recipes.reward.clips import ClipStore
from reelign.recipes.reward.data import RewardData
from reelign.recipes.reward.policy import RewardPolicy
from reelign.recipes.reward.settings import RewardSettings, WatchSettings
from reelign.recipes.reward.step import RewardStep
from reelign.recipes.reward.stream import RewardBatch, RewardStream
from reelign.recipes.reward.training import NUMBERS, make_model, make_optimisers, train_reward
from reelign.recipes.reward.watch import score_pairs
from reelign.rewards.videoreward import VideoReward
from reelign.training.settings import TrainerSettings
from reelign.video import read_video
from rewards import tiny_qwen


@pytest.fixture(scope="module")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_qwen.save(tiny_qwen.qwen2_vl(), tmp_path_factory.mktemp("models") / "qwen")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> RewardData:
    return bright_data(tmp_path_factory.mktemp("bright"))


def batch_of(data: RewardData, policy: RewardPolicy, size: int = 6) -> RewardBatch:
    with ClipStore(policy.model.preparer.look, budget_bytes=1e9, workers=1) as store:
        return RewardStream(data, store, batch_size=size, seed=0, mixing="groups").next_batch()


def gradients(policy: RewardPolicy, step: RewardStep, batch: RewardBatch) -> tuple[dict[str, Tensor], float]:
    for parameter in policy.parameters.values():
        parameter.grad = None
    loss = step.accumulate_gradients(policy, batch)["loss"]
    return {name: each.grad.clone() for name, each in policy.parameters.items() if each.grad is not None}, loss


@pytest.mark.parametrize("objective", [BradleyTerryTies(learn_theta=True), BradleyTerry(), ScoreRegression()])
def test_micro_batches_add_up_to_the_batch_whatever_is_missing(
    objective: Any, data: RewardData, backbone: Path
) -> None:
    settings = tiny_settings(backbone, train="head", objective=objective)
    policy = RewardPolicy(make_model(settings), settings)
    labels = data.labels.clone()
    labels[::3, 0] = math.nan
    whole = RewardData(**{**vars(data.with_win_scores()), "labels": labels})
    batch = batch_of(whole, policy)
    together, loss = gradients(policy, RewardStep(objective, micro_batch_size=6), batch)
    apart, same = gradients(policy, RewardStep(objective, micro_batch_size=1), batch)
    assert same == pytest.approx(loss, rel=1e-5)
    assert together.keys() == apart.keys()
    for name, gradient in together.items():
        torch.testing.assert_close(apart[name], gradient, rtol=1e-4, atol=1e-6)


def test_one_forward_holds_both_sides_of_all_pairs_and_each_video_once(data: RewardData, backbone: Path) -> None:
    settings = tiny_settings(backbone, train="head")
    policy = RewardPolicy(make_model(settings), settings)
    calls: list[int] = []
    policy.model.register_forward_hook(lambda module, inputs, output: calls.append(len(output)))
    batch = batch_of(data, policy)
    RewardStep(settings.objective, micro_batch_size=6).accumulate_gradients(policy, batch)
    assert len(batch.pairs) == 6
    assert calls == [4]


def test_what_trains_and_what_does_not(backbone: Path) -> None:
    def names(**changes: Any) -> set[str]:
        settings = tiny_settings(backbone, **changes)
        return set(RewardPolicy(make_model(settings), settings).parameters)

    head = {"head.weight", "reward_tokens"}
    assert names(train="head") == head
    assert names(train="head", pooling="last") == {"head.weight"}
    assert names(train="head", objective=BradleyTerryTies(learn_theta=True)) == {*head, "ties.raw"}
    lora = names(train_vision=False)
    assert head < lora
    assert all("lora_" in name for name in lora - head)
    assert any(name.startswith("backbone.visual.") for name in names())
    full = names(train="full")
    assert "backbone.language_model.layers.0.mlp.up_proj.weight" in full
    for each in (lora, full, names()):
        assert not [name for name in each if "embed_tokens" in name]


def test_activation_checkpointing_gives_the_same_gradients(data: RewardData, backbone: Path) -> None:
    settings = tiny_settings(backbone, train="full")
    plain, saving = (RewardPolicy(make_model(settings), settings) for _ in range(2))
    saving.enable_activation_checkpointing()
    batch = batch_of(data, plain, size=2)
    step = RewardStep(settings.objective, micro_batch_size=2)
    one, other = (gradients(policy, step, batch)[0] for policy in (plain, saving))
    for name, gradient in one.items():
        torch.testing.assert_close(other[name], gradient, rtol=1e-5, atol=1e-7)


def test_a_bf16_model_moves_by_its_fp32_masters(data: RewardData, backbone: Path) -> None:
    settings = tiny_settings(backbone, train="head", dtype="bfloat16")
    policy = RewardPolicy(make_model(settings), settings)
    RewardStep(settings.objective, micro_batch_size=6).accumulate_gradients(policy, batch_of(data, policy))
    master = policy.parameters["head.weight"]
    assert master.dtype == torch.float32
    assert policy.model.head.weight.dtype == torch.bfloat16
    assert master.grad is not None
    with torch.no_grad():
        master.add_(1.0)
    policy.refresh()
    torch.testing.assert_close(policy.model.head.weight.float(), master.detach(), rtol=1e-2, atol=1e-2)


def test_a_folded_adapter_scores_as_it_did_beside_the_weights(data: RewardData, backbone: Path) -> None:
    settings = tiny_settings(backbone)
    policy = RewardPolicy(make_model(settings), settings)
    with torch.no_grad():
        for name, parameter in policy.parameters.items():
            if "lora_B" in name:
                parameter.copy_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(0)) / 10)
    some = data.take(torch.arange(2))
    with ClipStore(policy.model.preparer.look, budget_bytes=1e9, workers=1) as store:
        beside = score_pairs(policy.model, some, store, batch_size=4).rewards
        folded = score_pairs(policy.fold(), some, store, batch_size=4).rewards
    torch.testing.assert_close(folded, beside, rtol=1e-4, atol=1e-5)
    assert not [name for name in policy.model.state_dict() if "lora" in name or "base_layer" in name]


@pytest.fixture(scope="module")
def trained(data: RewardData, backbone: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[RewardSettings, Path]:
    """A run of which everything below looks at something."""
    trainer = TrainerSettings(steps=40, learning_rate=3e-3, checkpoint_every=20)
    objective = BradleyTerryTies(learn_theta=True)
    settings = tiny_settings(backbone, train="full", trainer=trainer, objective=objective)
    folder = tmp_path_factory.mktemp("runs") / "reward"
    train_reward(data, replace(settings, watch=replace(settings.watch, every=20)), folder)
    return settings, folder


def test_a_trained_reward_opens_by_its_folder_and_orders_videos_as_the_labels_did(
    trained: tuple[RewardSettings, Path], data: RewardData
) -> None:
    reward = VideoReward(model=str(trained[1] / "reward"), device="cpu")
    assert reward.dimensions == ("VQ", "TA")
    videos = torch.stack([read_video(clip.path).frames for clip in data.clips])
    scores = reward.score(videos, [clip.prompt for clip in data.clips], fps=4)
    order = scores["VQ"].unflatten(0, (-1, 4))
    assert (order[:, 3] > order[:, 0]).all()
    assert (scores["TA"].unflatten(0, (-1, 4))[:, 3] < scores["TA"].unflatten(0, (-1, 4))[:, 0]).all()
    # Normalised over what it was trained on.
    assert scores["VQ"].mean().abs() < 1
    assert 0.4 < scores["VQ"].std() < 2.5


def test_a_dimension_before_the_prompt_is_blind_to_it(trained: tuple[RewardSettings, Path], data: RewardData) -> None:
    reward = VideoReward(model=str(trained[1] / "reward"), device="cpu")
    video = read_video(data.clips[0].path).frames[None]
    one, other = (reward.score(video, [prompt], fps=4) for prompt in ("a red square", "a blue ring moves left"))
    assert torch.equal(one["VQ"], other["VQ"])
    assert not torch.equal(one["TA"], other["TA"])


def test_the_numbers_and_the_card_say_what_was_measured(trained: tuple[RewardSettings, Path]) -> None:
    folder = trained[1] / "reward"
    numbers = json.loads((folder / NUMBERS).read_text())
    assert numbers["pairs"] == 24
    assert numbers["videos"] == 16
    assert numbers["held_out_pairs"] == 6
    assert numbers["without_ties"]["TA"] == 1.0
    assert numbers["theta"]["TA"] > numbers["theta"]["VQ"]  # half of TA's labels are ties, none of VQ's
    card = (folder / "README.md").read_text()
    assert "| TA | 1.000 |" in card
    assert "on 24\nlabelled pairs of 16 videos" in card
    looks = [json.loads(line) for line in (trained[1] / "metrics.jsonl").read_text().splitlines()]
    assert [look["step"] for look in looks if "held_out/loss" in look] == [20, 40]
    assert "overfit_gap" in looks[-1]


def test_a_killed_run_goes_on_as_if_it_had_never_stopped(
    trained: tuple[RewardSettings, Path], data: RewardData, tmp_path: Path
) -> None:
    settings, folder = trained
    copy = shutil.copytree(folder, tmp_path / "reward")
    shutil.rmtree(copy / "checkpoints" / "step-000040")
    shutil.rmtree(copy / "reward")
    again = train_reward(data, replace(settings, watch=replace(settings.watch, every=20)), copy)
    assert again.started_from == 20
    assert (copy / "reward" / "model.safetensors").read_bytes() == (
        folder / "reward" / "model.safetensors"
    ).read_bytes()
    assert (copy / "reward" / NUMBERS).read_text() == (folder / "reward" / NUMBERS).read_text()


def test_a_run_of_other_data_or_settings_is_refused(trained: tuple[RewardSettings, Path], data: RewardData) -> None:
    settings, folder = trained
    with pytest.raises(ReelignError, match="made with other settings or other data"):
        train_reward(data.take(torch.arange(len(data) - 1)), settings, folder)


def test_early_stopping_keeps_the_weights_of_the_lowest_held_out_loss(
    data: RewardData, backbone: Path, tmp_path: Path
) -> None:
    # Labels of held-out prompts are turned round: whatever is learnt makes their loss worse.
    held_out, *_ = data.split((0.2, 0.2), seed=0)
    turned = torch.tensor([prompt in held_out.prompts for prompt in data.prompts])
    labels = torch.where(turned[:, None], -data.labels, data.labels)
    wrong = RewardData(**{**vars(data), "labels": labels})
    watch = WatchSettings(held_out=0.2, calibration=0.2, every=2, patience=2, overfit_gap=0.3)
    trainer = TrainerSettings(steps=60, learning_rate=3e-3, checkpoint_every=60)
    settings = tiny_settings(backbone, train="full", watch=watch, trainer=trainer)
    done = train_reward(wrong, settings, tmp_path / "run")
    assert done.numbers.stopped is not None
    assert "has not fallen for 2 looks" in done.numbers.stopped
    assert done.numbers.steps < 60
    looks = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    losses = {look["step"]: look["held_out/loss"] for look in looks if "held_out/loss" in look}
    assert done.numbers.steps == min(losses, key=losses.__getitem__)
    assert done.numbers.alarm is not None or looks[-1]["overfit_gap"] <= 0.3


def test_training_goes_on_from_a_reward_of_ones_own(
    trained: tuple[RewardSettings, Path], data: RewardData, backbone: Path
) -> None:
    own = str(trained[1] / "reward")
    settings = tiny_settings(backbone, start_from=own)
    model = make_model(settings)
    assert model.settings.mean == ()
    kept = VideoReward(model=own, device="cpu").model
    assert torch.equal(model.head.weight, kept.head.weight)
    with pytest.raises(ReelignError, match="scores VQ, TA and not VQ, MQ, TA"):
        make_model(replace(settings, dimensions=("VQ", "MQ", "TA"), agnostic=("VQ", "MQ")))


def test_a_prompt_that_holds_a_reward_token_is_refused_before_training(
    data: RewardData, backbone: Path, tmp_path: Path
) -> None:
    clips = tuple(replace(clip, prompt=clip.prompt + " <|VQ_reward|>") for clip in data.clips)
    with pytest.raises(ReelignError, match="holds the special token"):
        train_reward(replace(data, clips=clips), tiny_settings(backbone), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_what_is_looked_at_and_saved_is_the_moving_average(data: RewardData, backbone: Path, tmp_path: Path) -> None:
    trainer = TrainerSettings(steps=2, learning_rate=1e-2, ema_decay=0.5)
    settings = tiny_settings(backbone, train="head", trainer=trainer, watch=WatchSettings(every=2))
    train_reward(data, settings, tmp_path / "run")
    average = load_file(tmp_path / "run" / "checkpoints" / "step-000002" / "ema.safetensors")
    saved = VideoReward(model=str(tmp_path / "run" / "reward"), device="cpu").model
    assert torch.equal(saved.head.weight, average["head.weight"])
    policy = RewardPolicy(make_model(settings), settings)
    own = policy.model.head.weight.clone()
    policy.average = average
    with policy.averaged():
        assert torch.equal(policy.model.head.weight, average["head.weight"])
    assert torch.equal(policy.model.head.weight, own)


def test_what_starts_from_nothing_may_learn_faster(backbone: Path) -> None:
    settings = tiny_settings(backbone, train_vision=False, head_rate=10.0)
    policy = RewardPolicy(make_model(settings), settings)
    new, rest = make_optimisers(policy, settings)
    rates = [one.param_groups[0]["lr"] for one in (new, rest)]
    assert rates == [pytest.approx(3e-2), pytest.approx(3e-3)]
    held = [each.shape for each in new.param_groups[0]["params"]]
    assert sorted(held) == sorted([policy.model.head.weight.shape, policy.parameters["reward_tokens"].shape])
    assert len(held) + len(rest.param_groups[0]["params"]) == len(policy.parameters)


def test_settings_without_meaning_are_refused() -> None:
    for trainer in ({"sharded": True}, {"activation_checkpointing": "selective"}):
        with pytest.raises(ValueError, match=next(iter(trainer))):
            RewardSettings(trainer=TrainerSettings(**trainer))  # type: ignore[arg-type]
    for changes in ({"batch_size": 0}, {"epochs": -1.0}, {"cache_gb": 0.0}, {"workers": 0}, {"head_rate": 0.0}):
        with pytest.raises(ValueError, match=next(iter(changes))):
            RewardSettings(**changes)  # type: ignore[arg-type]
    for wrong in ({"held_out": 1.0}, {"held_out": 0.6, "calibration": 0.5}, {"patience": 2, "held_out": 0.0}):
        with pytest.raises(ValueError, match="held_out"):
            WatchSettings(**wrong)  # type: ignore[arg-type]
