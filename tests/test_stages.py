"""The stages as real processes on a small workspace of the shipped model: what each leaves, and leaves alone."""

from __future__ import annotations

import json
import re
import sqlite3
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file

import reelign
from cli.process import script, succeed
from cli.workspaces import HELD_OUT, SETTINGS, TRAIN, copy, finished, make, printed
from reelign.errors import ReelignError
from reelign.generators import resolve_model
from reelign.recipes.data.files import file_preferences
from reelign.recipes.data.preferences import workspace_preferences
from reelign.records import Workspace, read_pairs
from reelign.video import read_video

LATENTS = (48, 2, 4, 4)


def test_init_leaves_a_database_with_the_prompts_and_a_settings_file(tmp_path: Path) -> None:
    make(tmp_path)
    workspace = Workspace.open(tmp_path / "ws")
    assert [prompt.text for prompt in workspace.prompts("train")] == list(TRAIN)
    assert [prompt.text for prompt in workspace.prompts("held_out")] == list(HELD_OUT)
    assert workspace.model == "spriteworld"


def test_init_without_prompts_takes_those_that_the_model_brings(tmp_path: Path) -> None:
    workspace = reelign.init(tmp_path / "ws")
    assert len(workspace.prompts("train")) > len(workspace.prompts("held_out")) > 0
    own = yaml.safe_load((tmp_path / "ws" / "reelign.yaml").read_text())
    assert set(own) == {"model", "generate", "judge", "align", "iterate", "evaluate"}
    brought = Path(resolve_model("spriteworld")) / "settings.yaml"
    assert (tmp_path / "ws" / "reelign.yaml").read_text() == brought.read_text()


def test_prompts_are_lines_of_a_file_from_any_editor(tmp_path: Path) -> None:
    text = "a red ring\u2028moves left\r\n\r\na blue\u0085ring grows\r\n"
    (tmp_path / "train.txt").write_bytes(text.encode("utf-8-sig"))
    workspace = reelign.init(tmp_path / "ws", prompts=tmp_path / "train.txt")
    assert [each.text for each in workspace.prompts("train")] == [
        "a red ring\u2028moves left",
        "a blue\u0085ring grows",
    ]


def test_init_again_keeps_the_settings_and_adds_only_new_prompts(tmp_path: Path) -> None:
    workspace = make(tmp_path)
    (tmp_path / "more.txt").write_text(f"{TRAIN[0]}\na blue disc grows\n")
    printed = succeed("init", "ws", "--prompts", "more.txt", "--held-out", "held_out.txt", folder=tmp_path)
    assert "4 training and 2 held-out prompts" in printed
    assert (workspace / "reelign.yaml").read_text() == SETTINGS


def test_generate_leaves_videos_and_latents_and_says_how_many() -> None:
    assert "9 videos made, 0 were there, 0 failed" in printed()["generate"]
    workspace = Workspace.open(finished())
    videos = workspace.videos("train", "")
    assert len(videos) == 9
    assert len({video.seed for video in videos}) == 9
    for video in videos:
        assert read_video(workspace.video_path(video)).frames.shape == (5, 3, 32, 32)
        assert video.settings["num_inference_steps"] == 2
    latents = workspace_preferences(workspace, "all").chosen[0]
    assert latents.shard is not None
    assert latents.shard.is_file()


def test_judge_leaves_a_verdict_of_each_person_on_each_dimension() -> None:
    # 3 prompts x 3 pairs x 3 people x 3 dimensions
    assert "81 judgements made, 0 were there" in printed()["judge"]
    judgements = Workspace.open(finished()).judgements()
    assert len(judgements) == 81
    assert {row.dimension for row in judgements} == {"VQ", "MQ", "TA"}


def test_align_leaves_config_metrics_checkpoint_and_adapter() -> None:
    run = finished() / "runs" / "align"
    assert str(run / "adapter") in printed()["align"]
    config = yaml.safe_load((run / "config.yaml").read_text())
    assert config["align"]["lora"] == {"rank": 4, "alpha": 8, "targets": [], "dora": False}
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [1, 2]
    assert {"loss", "implicit_accuracy", "chosen_error_gap", "rejected_error_gap"} <= rows[0].keys()
    assert rows[0]["loss"] == pytest.approx(torch.tensor(2.0).log().item(), abs=1e-6)
    assert (run / "checkpoints" / "step-000002").is_dir()
    assert (run / "adapter" / "pytorch_lora_weights.safetensors").is_file()


def test_evaluate_compares_the_same_prompts_and_seeds() -> None:
    kept = json.loads((finished() / "runs" / "align" / "evaluation.json").read_text())
    assert re.search(r"[+-]\d\.\d+ \[[+-]\d\.\d+, [+-]\d\.\d+\]", printed()["evaluate"])
    assert len(kept["base"]) == len(kept["aligned"]) == 4
    workspace = Workspace.open(finished())
    seeds = {video.id: (video.prompt_id, video.seed) for video in workspace.videos("held_out")}
    assert [seeds[key] for key in kept["base"]] == [seeds[key] for key in kept["aligned"]]
    assert set(kept["base"]).isdisjoint(kept["aligned"])


def test_a_second_run_of_every_stage_makes_nothing_again(tmp_path: Path) -> None:
    workspace = copy(tmp_path)
    adapter = workspace / "runs" / "align" / "adapter" / "pytorch_lora_weights.safetensors"
    before, numbers = load_file(adapter), (workspace / "runs" / "align" / "evaluation.json").read_text()
    made = {path: path.stat().st_mtime_ns for path in workspace.glob("videos/*")}
    assert "0 videos made, 9 were there" in succeed("generate", "-w", workspace, folder=tmp_path)
    assert "0 judgements made, 81 were there" in succeed("judge", "-w", workspace, folder=tmp_path)
    succeed("align", "-w", workspace, folder=tmp_path)
    after = load_file(adapter)
    assert all(torch.equal(after[name], weight) for name, weight in before.items())
    assert succeed("evaluate", "-w", workspace, folder=tmp_path) == printed()["evaluate"]
    again = json.loads((workspace / "runs" / "align" / "evaluation.json").read_text())
    assert {**again, "finished": None} == {**json.loads(numbers), "finished": None}
    assert {path: path.stat().st_mtime_ns for path in workspace.glob("videos/*")} == made


def test_sample_makes_the_video_of_its_seed_with_base_and_aligned(tmp_path: Path) -> None:
    words = ["sample", TRAIN[0], "-w", finished(), "--seed", 3]
    assert "sample-base-3.mp4" in succeed(*words, folder=tmp_path)
    succeed(*words, "--out", "again.mp4", folder=tmp_path)
    succeed(*words, "--run", "align", "--out", "aligned.mp4", folder=tmp_path)
    base, again, aligned = (
        (tmp_path / name).read_bytes() for name in ("sample-base-3.mp4", "again.mp4", "aligned.mp4")
    )
    assert base == again
    assert base != aligned


def test_the_console_script_takes_overrides_and_a_settings_file(tmp_path: Path) -> None:
    (tmp_path / "small.yaml").write_text("num_inference_steps: 1\n")
    words = ["sample", TRAIN[0], "small.yaml", "num_frames=9", "-w", finished(), "--out", "small.mp4"]
    result = script(*words, folder=tmp_path)
    assert result.code == 0, result.err
    assert len(read_video(tmp_path / "small.mp4").frames) == 9


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_exported_pairs_are_the_preferences_of_the_workspace(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"pairs.{suffix}"
    count = reelign.export_pairs(finished(), path)
    workspace = Workspace.open(finished())
    data = workspace_preferences(workspace, "all")
    pairs = read_pairs(path)
    assert count == len(pairs) == len(data.rows) > 0
    assert [pair.chosen for pair in pairs] == [clip.path for clip in data.chosen]
    assert [pair.rejected for pair in pairs] == [clip.path for clip in data.rejected]
    assert [pair.prompt for pair in pairs] == [data.prompts[row] for row in data.rows]
    assert [pair.margin for pair in pairs] == data.margins
    assert len(set(data.margins)) > 1
    shown = reelign.pairs(workspace=finished(), out=tmp_path / f"shown.{suffix}")
    assert (tmp_path / f"shown.{suffix}").read_bytes() == path.read_bytes()
    assert [dict(pair.margins) for pair in pairs] == [dict(pair.margins) for pair in shown.pairs]


def test_exported_pairs_align_and_evaluate_in_a_fresh_workspace_and_are_encoded_once(tmp_path: Path) -> None:
    succeed("export", "pairs.csv", "-w", finished(), folder=tmp_path)
    succeed("export", "pairs.parquet", "-w", finished(), folder=tmp_path)
    make(tmp_path)
    printed = succeed("align", "-w", "ws", "--pairs", "pairs.csv", folder=tmp_path)
    data = file_preferences(tmp_path / "pairs.csv")
    assert f"trained on {len(data.rows)} samples" in printed
    shards = {path: path.stat().st_mtime_ns for path in (tmp_path / "ws" / "cache" / "latents").iterdir()}
    encoded = [name for path in shards if path.suffix == ".safetensors" for name in load_file(path)]
    assert len(encoded) == len({*data.chosen, *data.rejected})
    assert file_preferences(tmp_path / "pairs.parquet").key == data.key
    evaluated = succeed("evaluate", "-w", "ws", folder=tmp_path)
    assert re.search(r"[+-]\d\.\d+ \[[+-]\d\.\d+, [+-]\d\.\d+\]", evaluated)
    kept, own = (
        json.loads((root / "runs" / "align" / "evaluation.json").read_text()) for root in (tmp_path / "ws", finished())
    )
    assert kept["base"] == own["base"]
    assert kept["aligned"] != own["aligned"]
    assert "report.html" in succeed("report", "-w", "ws", folder=tmp_path)
    result = json.loads((tmp_path / "ws" / "runs" / "align" / "result.json").read_text())
    assert list(result["seconds"]) == ["init", "align", "evaluate"]
    succeed("align", "-w", "ws", "--pairs", "pairs.parquet", "run=again", "trainer.steps=1", folder=tmp_path)
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "ws" / "cache" / "latents").iterdir()} == shards


def test_videos_read_back_through_the_autoencoder_are_near_the_samplers_own_latents(tmp_path: Path) -> None:
    from reelign.generators import load_generator
    from reelign.recipes.data.preferences import load_latents

    workspace = Workspace.open(finished())
    reelign.export_pairs(finished(), tmp_path / "pairs.csv")
    generator = load_generator("spriteworld")
    own = load_latents(workspace_preferences(workspace, "all").chosen, generator, tmp_path)
    read = load_latents(file_preferences(tmp_path / "pairs.csv").chosen, generator, tmp_path)
    assert own.shape[1:] == LATENTS
    alike = torch.nn.functional.cosine_similarity(own.flatten(1), read.flatten(1))
    assert alike.min() > 0.5


def test_stages_are_python_calls_with_settings_as_keywords(tmp_path: Path) -> None:
    workspace = copy(tmp_path)
    done = reelign.generate(workspace, split="held_out", candidates=1)
    assert (done.made, done.already_there, done.failed) == (2, 0, ())
    with pytest.raises(ReelignError, match="the call: there is no key 'candidate'"):
        reelign.generate(workspace, candidate=1)


def test_the_swapped_control_and_sft_take_the_same_workspace(tmp_path: Path) -> None:
    workspace = copy(tmp_path)
    for words in (["run=swapped", "swap=true"], ["run=sft", "objective.name=sft", "objective.on=random"]):
        succeed("align", "-w", workspace, *words, "trainer.steps=1", folder=tmp_path)
    assert {path.name for path in (workspace / "runs").iterdir()} == {"align", "swapped", "sft"}


def test_the_settings_file_of_a_workspace_is_checked(tmp_path: Path) -> None:
    workspace = make(tmp_path)
    for text, message in (
        ("generat: {}", "there is no section 'generat'.\nDid you mean 'generate'?"),
        ("generate: {candidats: 2}", "reelign.yaml: there is no key 'candidats'"),
        ("generate: 4", "reelign.yaml: generate = 4 is not valid"),
        ("generate: [1", "is not valid YAML"),
    ):
        (workspace / "reelign.yaml").write_text(text)
        with pytest.raises(ReelignError) as error:
            reelign.generate(workspace)
        assert message in str(error.value)


def test_videos_of_several_runs_do_not_mix(tmp_path: Path) -> None:
    with sqlite3.connect(finished() / "reelign.db") as database:
        names = [name for (name,) in database.execute("select distinct adapter from videos order by adapter")]
    assert names[0] == ""
    assert re.fullmatch(r"align@[0-9a-f]{12}", names[1])
