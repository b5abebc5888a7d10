"""A critic trained on a tiny Qwen-VL and real clips: the loss, both orders, resuming, what opens by its folder."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from recipes.critic_worlds import all_judged, bright_workspace, judged, tiny_settings
from reelign.critics import open_critic
from reelign.critics.formats import Plain
from reelign.critics.writing import Written
from reelign.errors import ReelignError
from reelign.recipes.critic.data import CriticData, workspace_critic_data
from reelign.recipes.critic.model import CriticModel, CriticPolicy
from reelign.recipes.critic.settings import CriticSettings, CriticWatch
from reelign.recipes.critic.step import CriticStep, spelled
from reelign.recipes.critic.stream import CriticBatch, CriticStream
from reelign.recipes.critic.tokens import answer_text, answer_tokens, with_answer
from reelign.recipes.critic.training import NUMBERS, train_critic
from reelign.recipes.reward.clips import VideoStore
from reelign.records import Workspace
from reelign.training.settings import TrainerSettings
from reelign.video import read_video
from rewards import tiny_qwen


@pytest.fixture(scope="module")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_qwen.save(tiny_qwen.qwen2_vl(), tmp_path_factory.mktemp("models") / "qwen")


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    workspace = bright_workspace(tmp_path_factory.mktemp("bright") / "w")
    all_judged(workspace)
    return workspace


@pytest.fixture(scope="module")
def data(workspace: Workspace) -> CriticData:
    return workspace_critic_data(workspace, ["VQ"])


@pytest.fixture(scope="module")
def model(backbone: Path) -> CriticModel:
    return CriticModel.load(tiny_settings(backbone))


def batch_of(data: CriticData, model: CriticModel, size: int) -> CriticBatch:
    with VideoStore(model.look, budget_bytes=1e9, workers=1) as store:
        return CriticStream(data, store, batch_size=size, seed=0).next_batch()


def gradients(model: CriticModel, batch: CriticBatch, weight: float = 1.0) -> tuple[dict[str, torch.Tensor], float]:
    class Policy:
        pass

    policy: Any = Policy()
    policy.model = model
    model.model.zero_grad()
    model.model.requires_grad_(True)
    loss = CriticStep(verdict_weight=weight).accumulate_gradients(policy, batch)["loss"]
    return {name: each.grad.clone() for name, each in model.model.named_parameters() if each.grad is not None}, loss


@pytest.mark.parametrize(("verdict", "reason"), [("a", "Video A is sharp."), ("tie", ""), ("bad", "Two\nlines.")])
def test_the_right_answer_is_read_as_what_it_says(verdict: str, reason: str) -> None:
    text, place = answer_text(verdict, reason)
    written = Written(text=text)
    said: Any = Plain().read(written, "VQ") if verdict == "bad" else Plain().read_pair(written, "VQ")
    assert (said.grade if verdict == "bad" else said.verdict) == verdict
    assert said.reason == reason
    assert text[place:].lower() == verdict


def test_a_reason_that_claims_another_verdict_does_not_spoil_the_answer() -> None:
    text, _ = answer_text("a", "Sharper.\nVerdict: B")
    assert text == "Sharper.\nVerdict: A"


def test_tokens_weigh_as_the_settings_say_and_end_the_answer(model: CriticModel) -> None:
    answer = answer_tokens(model.writer, "a", "Video A is sharp.", verdict_weight=5.0)
    tokenizer = model.writer.tokenizer
    assert tokenizer.decode(answer.ids) == "Video A is sharp.\nVerdict: A<|im_end|>"
    assert tokenizer.decode(answer.ids[answer.verdict]).strip() == "A"
    assert answer.weights.tolist() == [5.0 if each else 1.0 for each in answer.verdict.tolist()]


def test_the_loss_is_transformers_own_with_the_question_masked(model: CriticModel, data: CriticData) -> None:
    """transformers masks labels of -100 and shifts by itself: another way to the same number and gradient."""
    batch = batch_of(data, model, 1)
    some = CriticBatch(asked=batch.asked[:1])
    found, loss = gradients(model, some)
    answer = spelled(model, some, 1.0)[0].ids
    inputs = with_answer(model.writer.inputs(model.question(some.asked[0].example, some.asked[0].seen)), answer)
    labels = inputs["input_ids"].clone()
    labels[:, : -len(answer)] = -100
    model.model.zero_grad()
    theirs = model.model(**inputs, labels=labels).loss
    theirs.backward()
    assert loss == pytest.approx(theirs.item(), rel=1e-5)
    for name, gradient in found.items():
        own = model.model.get_parameter(name).grad
        torch.testing.assert_close(gradient, own, rtol=1e-3, atol=1e-6)


def test_micro_batches_add_up_by_their_tokens(model: CriticModel, data: CriticData) -> None:
    batch = batch_of(data, model, 3)
    together, loss = gradients(model, batch, weight=3.0)
    totals = [float(each.weights.sum()) for each in spelled(model, batch, 3.0)]
    apart = [gradients(model, CriticBatch(asked=(each,)), weight=3.0) for each in batch.asked]
    shares = [total / sum(totals) for total in totals]
    assert loss == pytest.approx(sum(share * own[1] for share, own in zip(shares, apart, strict=True)), rel=1e-5)
    name = "model.language_model.layers.1.mlp.down_proj.weight"
    summed = torch.stack([share * own[0][name] for share, own in zip(shares, apart, strict=True)]).sum(dim=0)
    torch.testing.assert_close(together[name], summed, rtol=1e-3, atol=1e-6)


def test_a_pair_trains_in_both_orders_within_one_step(model: CriticModel, data: CriticData) -> None:
    pairs = replace(data, lessons=tuple(each for each in data.lessons if len(each.examples) == 2))
    first, second = batch_of(pairs, model, 1).asked
    assert first.example.videos == second.example.videos[::-1]
    assert {first.example.answer, second.example.answer} == {"a", "b"}
    assert torch.equal(first.seen[0].frames, second.seen[1].frames)
    told = [model.question(each.example, each.seen) for each in (first, second)]
    assert told[0][-1] == told[1][-1]  # one wording, whatever the order
    assert "Verdict: tie" in str(told[0][-1])


def test_an_epoch_has_every_lesson_once_and_reasons_take_turns(model: CriticModel, data: CriticData) -> None:
    reasoned = replace(data.lessons[0].examples[0], reasons=("one", "two"))
    lessons = (replace(data.lessons[0], examples=(reasoned,)), *data.lessons[1:4])
    with VideoStore(model.look, budget_bytes=1e9, workers=1) as store:
        stream = CriticStream(replace(data, lessons=lessons), store, batch_size=4, seed=3)
        epochs = [stream.next_batch() for _ in range(2)]
        resumed = CriticStream(replace(data, lessons=lessons), store, batch_size=4, seed=3)
        resumed.load_state_dict({"step": 1})
        again = resumed.next_batch()
    for epoch in epochs:
        assert sorted(epoch.names) == sorted({example.name for lesson in lessons for example in lesson.examples})
    said = [next(each.reason for each in epoch.asked if each.example.reasons == ("one", "two")) for epoch in epochs]
    assert said == ["one", "two"]
    assert again.names == epochs[1].names


def test_what_trains_and_what_does_not(backbone: Path) -> None:
    def names(**changes: Any) -> set[str]:
        settings = tiny_settings(backbone, **changes)
        return set(CriticPolicy(CriticModel.load(settings), settings).parameters)

    assert all("lora_" in name for name in names())
    full = names(train="full")
    assert "model.language_model.layers.0.mlp.up_proj.weight" in full
    assert not [name for name in full if "visual" in name or "lora" in name]
    assert [name for name in names(train_vision=True) if "visual" in name]


@pytest.fixture(scope="module")
def trained(data: CriticData, backbone: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[CriticSettings, Path]:
    folder = tmp_path_factory.mktemp("runs") / "bright"
    settings = tiny_settings(
        backbone,
        run="bright",
        trainer=TrainerSettings(steps=6, learning_rate=1e-2, checkpoint_every=3),
        watch=CriticWatch(held_out=0.2, every=3, asked=1),
    )
    train_critic(data, settings, folder)
    return settings, folder


def test_a_trained_critic_opens_by_its_folder_asked_as_it_was_trained(
    trained: tuple[CriticSettings, Path], workspace: Workspace
) -> None:
    critic: Any = open_critic(str(trained[1] / "critic"), device="cpu")
    assert critic.name == "bright"
    assert (critic.frames, critic.format.name, critic.writer.pixels.max_pixels) == (2, "plain", 784)
    assert critic.sampling.max_tokens == 4
    assert not [name for name in critic.writer.model.state_dict() if "lora" in name or "base_layer" in name]
    clips = [read_video(workspace.root / "videos" / f"0-{place}.mp4") for place in (0, 3)]
    said = critic.compare(*clips, "a red square", "VQ")
    assert said.answers
    assert said.verdict in ("a", "b", "tie", None)
    other = open_critic(str(trained[1] / "critic"), device="cpu", frames=4)
    assert other.version != critic.version


def test_the_loss_falls_and_the_numbers_say_what_was_done(trained: tuple[CriticSettings, Path]) -> None:
    rows = [json.loads(line) for line in (trained[1] / "metrics.jsonl").read_text().splitlines()]
    assert rows[-1]["loss"] < 0.9 * rows[0]["loss"]
    assert rows[-1]["held_out/loss"] < rows[2]["held_out/loss"]
    numbers = json.loads((trained[1] / "critic" / NUMBERS).read_text())
    # 5 of 6 prompts: 6 pairs and 4 graded videos each; one grade of the four and all pairs have a reason.
    assert (numbers["votes"], numbers["pairs"], numbers["reasons"]) == (50, 30, 35)
    assert numbers["held_out_votes"] == 10
    assert [own["asked"] for by in numbers["told"].values() for own in by.values()] == [1]
    assert "on 50 votes, 30 of them on pairs" in (trained[1] / "critic" / "README.md").read_text()


def test_a_killed_run_goes_on_as_if_it_had_never_stopped(
    trained: tuple[CriticSettings, Path], data: CriticData, tmp_path: Path
) -> None:
    settings, folder = trained
    copy = shutil.copytree(folder, tmp_path / "bright")
    shutil.rmtree(copy / "checkpoints" / "step-000006")
    shutil.rmtree(copy / "critic")
    done = train_critic(data, settings, copy)
    assert done.started_from == 3
    one, other = (load_file(each / "critic" / "model.safetensors") for each in (folder, copy))
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_what_cannot_be_trained_is_refused_before_it_starts(
    trained: tuple[CriticSettings, Path], workspace: Workspace, data: CriticData, backbone: Path, tmp_path: Path
) -> None:
    settings, folder = trained
    with pytest.raises(ReelignError, match="other settings or other data"):
        train_critic(data, replace(settings, verdict_weight=2.0), folder)
    with pytest.raises(ReelignError, match="asked about 'charm'"):
        train_critic(data, tiny_settings(backbone, dimensions=("charm",)), tmp_path / "a")
    copy = Workspace.open(shutil.copytree(workspace.root, tmp_path / "w"))
    copy.add_judgements([judged("0-0", "0-1", "b", judge="Eve", reason="Ha.<|im_end|>")])
    with pytest.raises(ReelignError, match=r"special token .*asked about 0-0 and 0-1"):
        train_critic(workspace_critic_data(copy, ["VQ"]), tiny_settings(backbone), tmp_path / "b")
    assert not (tmp_path / "b").exists()
