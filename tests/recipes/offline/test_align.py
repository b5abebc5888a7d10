"""Offline alignment from preferences to an adapter."""

from __future__ import annotations

import json
import math
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file
from torch import Tensor

from reelign.config import parse_overrides
from reelign.diffusion.paths import EDM
from reelign.errors import ReelignError
from reelign.generators import Generator, load_generator
from reelign.generators.encoders import encoders
from reelign.objectives import DPO, KTO, RWR, SFT
from reelign.recipes.data.files import file_preferences
from reelign.recipes.data.preferences import PreferenceData, workspace_preferences
from reelign.recipes.offline.align import AlignSettings, align
from reelign.recipes.offline.samples import drawn_clips, training_clips
from reelign.recipes.run_config import as_yaml, claim_run, run_content
from reelign.records import FilePair, Workspace, write_pairs
from reelign.stages import align as align_stage
from reelign.training import LoRA, MonitorSettings, TrainerSettings
from reelign.training.caches import TensorCache
from reelign.video import write_video

SETTINGS = AlignSettings(
    run="first",
    objective=DPO(beta=20.0),
    batch_size=6,
    micro_batch_size=4,
    lora=LoRA(rank=4, alpha=8),
    trainer=TrainerSettings(steps=12, learning_rate=1e-2, checkpoint_every=6),
)


def metrics(folder: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def adapter(folder: Path) -> dict[str, Tensor]:
    return load_file(folder / "adapter" / "pytorch_lora_weights.safetensors")


def test_dpo_on_the_workspaces_votes_gives_an_adapter(judged: Workspace, tiny_wan: Generator) -> None:
    done = align(judged, tiny_wan, SETTINGS)
    assert (done.samples, done.started_from) == (6, 0)
    assert done.folder == judged.root / "runs" / "first"
    assert any(bool(tensor.any()) for name, tensor in adapter(done.folder).items() if "lora_B" in name)
    rows = metrics(done.folder)
    assert rows[-1]["loss"] < rows[0]["loss"]
    config = yaml.safe_load((done.folder / "config.yaml").read_text())
    assert config["align"]["objective"]["beta"] == 20.0
    assert config["model"] == tiny_wan.identity


def test_swapped_preferences_train_the_other_way(judged: Workspace, tiny_wan_folder: Path) -> None:
    """The same run with chosen and rejected exchanged starts from the same errors with the other sign."""
    model, trainer = str(tiny_wan_folder), replace(SETTINGS.trainer, steps=2)
    straight = align(judged, load_generator(model), replace(SETTINGS, trainer=trainer))
    swapped = align(judged, load_generator(model), replace(SETTINGS, trainer=trainer, swap=True, run="swapped"))
    first, other = metrics(straight.folder), metrics(swapped.folder)
    assert first[0]["grad_norm"] == pytest.approx(other[0]["grad_norm"], rel=1e-4)
    # One step of Adam from the same place along the opposite gradient.
    assert first[1]["chosen_error_gap"] - first[1]["rejected_error_gap"] < 0
    assert other[1]["chosen_error_gap"] - other[1]["rejected_error_gap"] < 0
    one, two = adapter(straight.folder), adapter(swapped.folder)
    moved = [name for name in one if "lora_B" in name]
    opposite = sum(float((one[name] * two[name]).sum()) for name in moved)
    assert opposite < 0


def test_the_adapter_is_the_moving_average_where_one_is_kept(judged: Workspace, tiny_wan_folder: Path) -> None:
    model, two_steps = str(tiny_wan_folder), replace(SETTINGS.trainer, steps=2)
    weights = []
    for run, steps, decay in (("one", 1, 0.0), ("two", 2, 0.0), ("average", 2, 0.75)):
        trainer = replace(two_steps, steps=steps, ema_decay=decay)
        weights.append(
            adapter(align(judged, load_generator(model), replace(SETTINGS, trainer=trainer, run=run)).folder)
        )
    first, second, average = weights
    assert any(not torch.equal(first[name], second[name]) for name in first)
    for name, tensor in average.items():
        torch.testing.assert_close(tensor, 0.75 * first[name] + 0.25 * second[name])


@pytest.mark.parametrize("on", ["chosen", "random"])
def test_sft_trains_on_single_videos(judged: Workspace, tiny_wan: Generator, on: str) -> None:
    settings = replace(SETTINGS, objective=SFT(on=on), run=on)  # type: ignore[arg-type]
    done = align(judged, tiny_wan, settings)
    assert done.samples == 6
    assert metrics(done.folder)[-1]["loss"] < metrics(done.folder)[0]["loss"]


def test_pairs_as_files_in_a_fresh_workspace_align_as_well(
    judged: Workspace, tiny_wan: Generator, tiny_wan_folder: Path, tmp_path: Path
) -> None:
    own = workspace_preferences(judged, "all")
    pairs = [
        FilePair(prompt=own.prompts[row], chosen=chosen.path, rejected=rejected.path)
        for row, chosen, rejected in zip(own.rows, own.chosen, own.rejected, strict=True)
    ]
    write_pairs(tmp_path / "pairs.parquet", pairs)
    fresh = Workspace.create(tmp_path / "fresh", model=str(tiny_wan_folder))
    done = align(fresh, tiny_wan, SETTINGS, data=file_preferences(tmp_path / "pairs.parquet"))
    assert done.samples == 6
    rows = metrics(done.folder)
    assert rows[0]["implicit_accuracy"] == 0.5
    assert len(TensorCache(fresh.root / "cache" / "latents", tiny_wan.identity).shards) == 6
    assert adapter(done.folder)


def test_training_holds_neither_text_encoder_nor_vae(judged: Workspace, tiny_wan_folder: Path, tmp_path: Path) -> None:
    """Counted at every forward of the denoiser, while pairs of files are trained on."""
    own = workspace_preferences(judged, "all")
    pairs = [
        FilePair(prompt=own.prompts[row], chosen=chosen.path, rejected=rejected.path)
        for row, chosen, rejected in zip(own.rows, own.chosen, own.rejected, strict=True)
    ]
    write_pairs(tmp_path / "pairs.csv", pairs)
    lean = load_generator(str(tiny_wan_folder), encoders=False)
    held: list[int] = []

    def look(*_: object) -> None:
        weights = [weight for model in encoders(lean).values() for weight in model.parameters()]
        held.append(sum(weight.nbytes for weight in weights if weight.device.type != "meta"))

    lean.pipeline.transformer.register_forward_pre_hook(look)
    settings = replace(SETTINGS, run="lean", trainer=replace(SETTINGS.trainer, steps=2))
    align(judged, lean, settings, data=file_preferences(tmp_path / "pairs.csv"))
    assert held
    assert set(held) == {0}


def test_a_finished_run_called_again_is_left_as_it_is(judged: Workspace, tiny_wan_folder: Path) -> None:
    first = align(judged, load_generator(str(tiny_wan_folder)), SETTINGS)
    before = adapter(first.folder)
    again = align(judged, load_generator(str(tiny_wan_folder)), SETTINGS)
    assert again.started_from == 12
    after = adapter(first.folder)
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_a_run_begun_before_a_setting_was_added_goes_on(judged: Workspace, tiny_wan: Generator) -> None:
    config = run_content(tiny_wan, SETTINGS, workspace_preferences(judged, "all"))
    older = yaml.safe_load(as_yaml(config))
    del older["align"]["swap"], older["align"]["objective"]["target_factor"]
    folder = judged.root / "runs" / "older"
    folder.mkdir()
    (folder / "config.yaml").write_text(yaml.safe_dump(older))
    claim_run(folder, config)
    assert yaml.safe_load((folder / "config.yaml").read_text())["align"]["swap"] is False
    (folder / "config.yaml").write_text(yaml.safe_dump(older))
    took_a_step(folder)
    with pytest.raises(ReelignError, match="other settings"):
        claim_run(folder, run_content(tiny_wan, replace(SETTINGS, swap=True), workspace_preferences(judged, "all")))


def test_a_run_does_not_go_on_in_another_precision(
    judged: Workspace, tiny_wan: Generator, tiny_wan_folder: Path
) -> None:
    data, folder = workspace_preferences(judged, "all"), judged.root / "runs" / "precise"
    content = run_content(tiny_wan, SETTINGS, data)
    claim_run(folder, content)
    took_a_step(folder)
    rounded = run_content(load_generator(str(tiny_wan_folder), dtype=torch.bfloat16), SETTINGS, data)
    with pytest.raises(ReelignError, match="other settings"):
        claim_run(folder, rounded)
    older = {name: value for name, value in yaml.safe_load(as_yaml(content)).items() if name != "precision"}
    (folder / "config.yaml").write_text(yaml.safe_dump(older))
    claim_run(folder, rounded)


def test_a_run_does_not_go_on_with_other_standings_or_other_random_videos(
    judged: Workspace, tiny_wan: Generator, tmp_path: Path
) -> None:
    data = workspace_preferences(judged, "all")
    standings = [replace(each, score=each.score / 2) for each in data.standing()]
    weighed = replace(SETTINGS, histogram_alpha=0.5)
    claim_run(tmp_path / "weighed", run_content(tiny_wan, weighed, data))
    took_a_step(tmp_path / "weighed")
    with pytest.raises(ReelignError, match="other data"):
        claim_run(tmp_path / "weighed", run_content(tiny_wan, weighed, replace(data, candidates=standings)))
    random = replace(SETTINGS, objective=SFT(on="random"))
    drawn = drawn_clips(judged, random, data)
    one = run_content(tiny_wan, random, data, drawn)
    assert one["data"] == run_content(tiny_wan, SETTINGS, data)["data"]
    claim_run(tmp_path / "random", one)
    took_a_step(tmp_path / "random")
    with pytest.raises(ReelignError, match="other data"):
        claim_run(tmp_path / "random", run_content(tiny_wan, random, data, drawn[:-1]))


def test_rwr_leaves_out_who_has_nobody_to_be_weighed_against(judged: Workspace, tiny_wan: Generator) -> None:
    """A group of one would weigh 1 whatever it is worth, and one that stands together as well."""
    whole = workspace_preferences(judged, "all")
    alone = [each for each in whole.standing() if each.row == 0] + [each for each in whole.standing() if each.row][:1]
    rwr = replace(SETTINGS, objective=RWR(), trainer=replace(SETTINGS.trainer, steps=1))
    done = align(judged, tiny_wan, rwr, data=replace(whole, candidates=alone))
    assert done.samples == 3
    assert done.left_out["video with none of its group to weigh it against"] == 1
    for data, margin in ((replace(whole, candidates=alone[-1:]), 0.0), (whole, 1.5)):
        with pytest.raises(ReelignError, match="no group of two that stand apart"):
            align(judged, tiny_wan, replace(rwr, min_margin=margin), data=data)


def test_kto_counts_the_videos_it_can_say_nothing_of(judged: Workspace, tiny_wan: Generator) -> None:
    kto = replace(SETTINGS, objective=KTO(), trainer=replace(SETTINGS.trainer, steps=1))
    done = align(judged, tiny_wan, kto)
    assert (done.samples, done.left_out["video without a clear label"]) == (4, 2)


def test_a_runs_name_is_taken_by_its_settings_and_the_refusal_names_what_differs(tmp_path: Path) -> None:
    one = {"data": "abc", "align": {"beta": 1.0, "targets": ("a",), "trainer": {"steps": 2}, "samples": {"every": 1}}}
    claim_run(tmp_path / "r", one)
    took_a_step(tmp_path / "r")
    claim_run(tmp_path / "r", {**one, "align": {**one["align"], "samples": {"every": 2}}})
    kept = (tmp_path / "r" / "config.yaml").read_text()
    other = {**one["align"], "beta": 2.0, "trainer": {"steps": 4}, "targets": ["a" * 50]}
    with pytest.raises(ReelignError, match="other settings or other data") as caught:
        claim_run(tmp_path / "r", {"data": "def", "align": other})
    told = "data, align.beta was 1.0 and is 2.0, align.targets, align.trainer.steps was 2 and is 4."
    assert caught.value.what.endswith(told)
    assert "run=NAME" in caught.value.mend
    with pytest.raises(ReelignError, match=" and 3 more") as caught:
        claim_run(tmp_path / "r", {**one, "align": {**one["align"], **dict.fromkeys("abcdefgh", 1)}})
    assert caught.value.what.count(" was null and is 1") == 5
    assert (tmp_path / "r" / "config.yaml").read_text() == kept


@pytest.mark.parametrize("made", ["metrics.jsonl", "checkpoints/step-000001/state.json", "adapter/a.safetensors"])
def test_a_run_without_a_step_gives_its_name_to_other_settings(made: str, tmp_path: Path) -> None:
    folder = tmp_path / "r"
    claim_run(folder, {"align": {"beta": 1.0}})
    for left in ("watch/base.json", "tensorboard/events", "metrics.jsonl"):
        (folder / left).parent.mkdir(exist_ok=True)
        (folder / left).write_text("")
    claim_run(folder, {"align": {"beta": 1.0}})
    assert (folder / "watch" / "base.json").exists()
    claim_run(folder, {"align": {"beta": 2.0}})
    assert [path.name for path in folder.iterdir()] == ["config.yaml"]
    assert yaml.safe_load((folder / "config.yaml").read_text()) == {"align": {"beta": 2.0}}
    (folder / made).parent.mkdir(parents=True, exist_ok=True)
    (folder / made).write_text('{"step": 1}\n')
    with pytest.raises(ReelignError, match=r"align\.beta was 2\.0 and is 3\.0"):
        claim_run(folder, {"align": {"beta": 3.0}})


def took_a_step(folder: Path) -> None:
    """As if the run had trained: without a step its name is free."""
    (folder / "metrics.jsonl").write_text('{"step": 1}\n')


def test_settings_that_train_on_nothing_are_refused() -> None:
    with pytest.raises(ValueError, match="micro_batch_size must be at least 1"):
        AlignSettings(micro_batch_size=0)


QUICK = [
    "batch_size=4",
    "micro_batch_size=3",
    "lora.rank=4",
    "trainer.steps=3",
    "trainer.learning_rate=1e-2",
]


@pytest.fixture
def real_clips(judged: Workspace, tmp_path: Path) -> Path:
    """Clips of the first prompt, and one of a prompt that nobody generated."""
    path = tmp_path / "real.csv"
    rows = ["prompt,video"]
    for number, prompt in enumerate((judged.prompts()[0].text, judged.prompts()[0].text, "a disc")):
        write_video(tmp_path / f"real-{number}.mp4", torch.full((9, 3, 16, 16), 0.2 + 0.3 * number), 8)
        rows.append(f"{prompt},real-{number}.mp4")
    path.write_text("\n".join(rows))
    return path


@pytest.mark.parametrize(
    ("words", "samples", "logged"),
    [
        (["objective.name=sft"], 6, {"loss"}),
        (["objective.name=sft", "objective.on=rejected"], 6, {"loss"}),
        (["objective.name=rwr", "objective.temperature=0.5"], 6, {"loss"}),
        (["objective.name=kto"], 4, {"baseline", "implicit_accuracy", "desirable_error_gap"}),
        (["objective.name=kto", "objective.baseline=mismatched", "objective.utility=loss_averse"], 4, {"baseline"}),
        (["objective.beta=20"], 6, {"gradient_factor", "chosen_error", "rejected_error_gap"}),
        (["objective.beta=20", "objective.schedule=one_minus_sigma_squared"], 6, {"gradient_factor"}),
        (["objective.beta=0.1", "objective.reduction=sum"], 6, {"gradient_factor"}),
        (["objective.target_factor=0.3"], 6, {"beta"}),
        (["objective.beta=20", "histogram_alpha=0.7", "sigma_range=[0.2, 0.9]"], 6, {"gradient_factor"}),
        (["objective.beta=20", "histogram_alpha=0.7", "min_margin=0.5"], 6, {"gradient_factor"}),
        (["objective.beta=20", "pairs=agreed", "weights={VQ: 1}"], 6, {"gradient_factor"}),
        (["objective.beta=20", "pairs=per_dimension", "min_margin=0.5"], 6, {"gradient_factor"}),
        (["objective.beta=20", "anchors.chosen=0.2", "anchors.real=0.1", "real=REAL"], 6, {"real_error"}),
        (["objective.name=kto", "anchors.real=0.1", "real=REAL"], 4, {"real_error", "baseline"}),
        (["objective.name=rwr", "anchors.real=0.1", "real=REAL"], 6, {"real_error"}),
        (["objective.beta=20", "pairs=ground_truth", "real=REAL"], 6, {"gradient_factor"}),
        (["objective.beta=20", "monitor.held_out=0.5", "monitor.every=2"], 3, {"gradient_factor"}),
    ],
)
def test_every_objective_runs_from_the_command_lines_words(
    judged: Workspace, real_clips: Path, words: list[str], samples: int, logged: set[str]
) -> None:
    words = [word.replace("REAL", str(real_clips)) for word in words]
    done = align_stage(judged.root, layers=[parse_overrides([*QUICK, *words])])
    rows = metrics(done.folder)
    assert done.samples == samples
    assert len(rows) == 3
    for row in rows:
        assert logged <= row.keys()
        assert all(math.isfinite(value) for value in row.values())
    if "monitor.held_out=0.5" in words:
        assert [("held_out/accuracy_q4" in row) for row in rows] == [False, True, False]
    assert any(bool(tensor.any()) for name, tensor in adapter(done.folder).items() if "lora_B" in name)


@pytest.mark.parametrize(
    ("target", "told"), [("to_nothing", "no layer whose name ends in"), ("norm_q", "is no layer that takes an adapter")]
)
def test_targets_without_a_layer_are_refused_before_the_name_is_taken(
    judged: Workspace, tiny_wan: Generator, target: str, told: str
) -> None:
    settings = replace(SETTINGS, lora=LoRA(rank=4, targets=("to_q", target)))
    with pytest.raises(ReelignError, match=told):
        align(judged, tiny_wan, settings)
    assert not (judged.root / "runs" / SETTINGS.run).exists()


def test_half_precision_without_loss_scaling_is_refused(judged: Workspace, tiny_wan_folder: Path) -> None:
    half = load_generator(str(tiny_wan_folder), dtype=torch.float16)
    with pytest.raises(ReelignError, match="in float16, in which small gradients vanish") as caught:
        align(judged, half, SETTINGS)
    assert "model.dtype=bfloat16" in caught.value.mend


@pytest.mark.parametrize("name", ["kto", "rwr"])
def test_labels_turned_around_train_the_other_way(judged: Workspace, tiny_wan_folder: Path, name: str) -> None:
    moved = []
    for swap in ("false", "true"):
        words = [*QUICK, f"objective.name={name}", f"swap={swap}", f"run={name}-{swap}", "trainer.steps=1"]
        done = align_stage(judged.root, layers=[parse_overrides([*words, "batch_size=12"])])
        moved.append({key: value for key, value in adapter(done.folder).items() if "lora_B" in key})
    overlap = sum(float((moved[0][key] * moved[1][key]).sum()) for key in moved[0])
    length = sum(float(value.square().sum()) for value in moved[0].values())
    assert overlap < (-0.5 if name == "kto" else 0.999) * length


def test_a_kto_run_cut_in_two_ends_as_the_whole_one(judged: Workspace, real_clips: Path) -> None:
    words = [*QUICK, "objective.name=kto", "anchors.real=0.1", f"real={real_clips}", "trainer.checkpoint_every=2"]
    whole = align_stage(judged.root, layers=[parse_overrides([*words, "trainer.steps=4", "run=whole"])])
    cut = align_stage(judged.root, layers=[parse_overrides([*words, "trainer.steps=4", "run=cut"])])
    shutil.rmtree(cut.folder / "checkpoints" / "step-000004")
    again = align_stage(judged.root, layers=[parse_overrides([*words, "trainer.steps=4", "run=cut"])])
    assert again.started_from == 2
    one, two = adapter(whole.folder), adapter(again.folder)
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_labels_of_one_kind_are_refused(judged: Workspace, tiny_wan: Generator) -> None:
    data = workspace_preferences(judged, "all")
    assert data.candidates is not None
    liked = replace(data, candidates=[each for each in data.candidates if each.score > 0])
    with pytest.raises(ReelignError, match="of one kind alone"):
        align(judged, tiny_wan, replace(SETTINGS, objective=KTO()), data=liked)


def test_changed_real_clips_are_other_data(judged: Workspace, real_clips: Path) -> None:
    words = [*QUICK, "anchors.real=0.1", f"real={real_clips}"]
    align_stage(judged.root, layers=[parse_overrides(words)])
    write_video(real_clips.parent / "real-0.mp4", torch.zeros(9, 3, 16, 16), 8)
    with pytest.raises(ReelignError, match="other data"):
        align_stage(judged.root, layers=[parse_overrides(words)])


def test_a_chosen_error_that_rises_ends_the_run(judged: Workspace, tiny_wan: Generator) -> None:
    """Trained on losing videos alone and far too fast, the policy forgets the chosen ones."""
    settings = replace(
        SETTINGS,
        objective=SFT(on="rejected"),
        trainer=replace(SETTINGS.trainer, learning_rate=0.3, steps=40),
        monitor=MonitorSettings(held_out=0.5, every=1, max_chosen_rise=0.0, patience=2),
    )
    done = align(judged, tiny_wan, settings)
    assert done.stopped is not None
    assert "held-out chosen videos stood more than 0% above" in done.stopped
    rows = metrics(done.folder)
    assert len(rows) < 40
    assert all(row["held_out/chosen_error_gap"] > 0 for row in rows[-2:])


@pytest.mark.parametrize(
    "objective", [DPO(schedule="one_minus_sigma_squared"), KTO(schedule="one_minus_sigma_squared")]
)
def test_the_schedule_is_for_flow_models(judged: Workspace, tiny_wan: Generator, objective: DPO | KTO) -> None:
    tiny_wan.path = EDM()
    with pytest.raises(ReelignError, match="schedule=one_minus_sigma_squared is for flow models"):
        align(judged, tiny_wan, replace(SETTINGS, objective=objective))
    assert not (judged.root / "runs" / SETTINGS.run).exists()


def test_a_beta_given_for_the_other_reduction_is_warned_of(judged: Workspace, tiny_wan: Generator) -> None:
    settings = replace(SETTINGS, objective=DPO(beta=5000.0, reduction="sum"))
    with pytest.warns(UserWarning, match="over 192 elements is 960000 on the mean error"):
        align(judged, tiny_wan, replace(settings, trainer=replace(SETTINGS.trainer, steps=1)))


def test_kto_trains_on_labels_without_pairs(judged: Workspace, tiny_wan: Generator) -> None:
    own = workspace_preferences(judged, "all")
    labelled = [replace(each, score=1.0 if each.score > 0 else -1.0) for each in own.standing() if each.score]
    data = PreferenceData(own.prompts, [], [], [], "labels", candidates=labelled)
    for objective in (DPO(), SFT(on="random")):
        with pytest.raises(ReelignError, match="labels of single videos and no pairs"):
            align(judged, tiny_wan, replace(SETTINGS, objective=objective), data=data)
    watched = replace(SETTINGS, objective=KTO(), monitor=MonitorSettings(held_out=0.5))
    with pytest.raises(ReelignError, match="labels of single videos and no pairs"):
        align(judged, tiny_wan, watched, data=data)
    done = align(judged, tiny_wan, replace(SETTINGS, objective=KTO(beta=20.0)), data=data)
    assert done.samples == 4
    rows = metrics(done.folder)
    assert rows[-1]["loss"] < rows[0]["loss"]
    assert rows[-1]["desirable_error_gap"] < rows[-1]["undesirable_error_gap"]


def test_sft_trains_on_the_labelled_videos_of_one_side(judged: Workspace, tiny_wan: Generator) -> None:
    own = workspace_preferences(judged, "all")
    best = [replace(each, score=1.0) for each in own.standing() if each.score > 0]
    data = PreferenceData(own.prompts, [], [], [], "labels", candidates=best)
    settings = replace(SETTINGS, objective=SFT(), trainer=replace(SETTINGS.trainer, steps=1))
    assert training_clips(judged, settings, data) == [each.clip for each in best]
    assert align(judged, tiny_wan, settings, data=data).samples == len(best)
    with pytest.raises(ReelignError, match=r"objective\.on=rejected trains on undesirable videos, and no label is so"):
        align(judged, tiny_wan, replace(settings, objective=SFT(on="rejected")), data=data)
