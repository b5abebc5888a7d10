"""What is wrong is said in one message with its mend; the exit code is not 0 and there is no traceback."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path
from typing import get_type_hints

import pytest

from cli.process import reelign, refusal, succeed
from cli.workspaces import TRAIN, copy, finished, make
from reelign.cli.schema import schema
from reelign.opening import SECTIONS
from reelign.records.schema import SCHEMA_VERSION


def refused(*words: object, folder: Path) -> str:
    return refusal(reelign(*words, folder=folder))


def test_a_missing_model_folder(tmp_path: Path) -> None:
    message = refused("generate", "-w", "ws", "--model", "./no-such-model", folder=tmp_path)
    assert "There is no model folder ./no-such-model" in message
    assert "diffusers folder" in message


def test_a_misspelt_shipped_model_is_guessed(tmp_path: Path) -> None:
    assert "Did you mean 'spriteworld'?" in refused("init", "ws", "--model", "sprite-world", folder=tmp_path)


def test_a_refused_model_leaves_no_workspace_behind(tmp_path: Path) -> None:
    refused("init", "ws", "--model", "./no-such-model", folder=tmp_path)
    assert "1 training" in succeed("init", "ws", "--prompts", one_prompt(tmp_path), folder=tmp_path)


def one_prompt(folder: Path) -> Path:
    path = folder / "one.txt"
    path.write_text(TRAIN[0])
    return path


def test_an_unsupported_pipeline_class_lists_the_supported(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "model_index.json").write_text(json.dumps({"_class_name": "FluxPipeline"}))
    words = ["init", "ws", "--model", "./model", "--prompts", one_prompt(tmp_path)]
    message = refused(*words, folder=tmp_path)
    assert "FluxPipeline" in message
    assert "Supported pipeline classes: " in message
    assert "WanPipeline" in message


def test_a_number_of_frames_that_the_model_cannot_make_names_the_nearest(tmp_path: Path) -> None:
    message = refused("generate", "-w", finished(), "num_frames=10", folder=tmp_path)
    assert "cannot make 10 frames" in message
    assert "nearest size it can make is 9 frames" in message


def test_a_workspace_of_a_newer_version(tmp_path: Path) -> None:
    workspace = make(tmp_path)
    with sqlite3.connect(workspace / "reelign.db") as database:
        database.execute("update alembic_version set version_num = ?", [str(SCHEMA_VERSION + 1)])
    message = refused("judge", "-w", workspace, folder=tmp_path)
    assert "newer" in message


@pytest.mark.parametrize("command", ["generate", "judge", "align", "evaluate", "report"])
def test_a_missing_workspace(command: str, tmp_path: Path) -> None:
    message = refused(command, "-w", "nowhere", folder=tmp_path)
    assert "nowhere" in message
    assert "reelign init nowhere" in message


def test_a_folder_that_is_no_workspace(tmp_path: Path) -> None:
    assert "is no workspace" in refused("generate", "-w", ".", folder=tmp_path)


def test_prompt_files_that_are_missing_empty_or_no_text(tmp_path: Path) -> None:
    (tmp_path / "empty.txt").write_text("\n\n")
    (tmp_path / "binary.txt").write_bytes(b"\xff\xfe\x81")
    for name, message in (
        ("no.txt", "There is no prompt file no.txt"),
        ("empty.txt", "empty.txt holds no prompt"),
        ("binary.txt", "binary.txt is no text"),
    ):
        assert message in refused("init", name[:2], "--prompts", name, folder=tmp_path)


def pairs_file(folder: Path) -> Path:
    succeed("export", "pairs.csv", "-w", finished(), folder=folder)
    return folder / "pairs.csv"


def test_a_corrupt_mp4_in_a_file_of_pairs_is_named(tmp_path: Path) -> None:
    workspace = copy(tmp_path)
    succeed("export", "pairs.csv", "-w", workspace, folder=tmp_path)
    for number, damage in enumerate((lambda whole: whole[: len(whole) // 2], lambda _: b"no video at all")):
        video = sorted((workspace / "videos").iterdir())[0]
        for path in (workspace / "videos").iterdir():
            path.write_bytes(damage(path.read_bytes()))
        message = refused("align", "-w", workspace, "--pairs", "pairs.csv", f"run=damaged-{number}", folder=tmp_path)
        assert "cannot be read as a video" in message
        assert str(video.parent) in message


def test_a_file_of_pairs_without_a_column_a_video_or_itself(tmp_path: Path) -> None:
    path = pairs_file(tmp_path)
    text = path.read_text()
    words = ["align", "-w", finished(), "--pairs", "pairs.csv", "run=bad-pairs"]
    path.write_text(text.replace("chosen", "choosen", 1))
    message = refused(*words, folder=tmp_path)
    assert "has no column 'chosen'" in message
    assert "Rename 'choosen' to 'chosen'" in message
    path.write_text(text.replace(".mp4", ".avi", 1))
    assert "does not exist" in refused(*words, folder=tmp_path)
    path.unlink()
    assert "no file of pairs" in refused(*words, folder=tmp_path)
    assert not (finished() / "runs" / "bad-pairs").exists()


def test_an_unknown_judge_and_a_judge_that_is_none(tmp_path: Path) -> None:
    words = ["judge", "-w", finished()]
    assert "Did you mean 'spriteworld-people'?" in refused(*words, "judge=spriteworld-peopel", folder=tmp_path)
    assert "cannot be imported" in refused(*words, "judge=no_such_module:judge", folder=tmp_path)
    assert "is no judge" in refused(*words, "judge=json:JSONDecoder", folder=tmp_path)


def test_an_unknown_scorer_is_refused_before_any_video_is_made(tmp_path: Path) -> None:
    workspace = copy(tmp_path)
    before = sorted((workspace / "videos").iterdir())
    message = refused("evaluate", "-w", workspace, "scorer=spriteworld-thruth", "seed=77", folder=tmp_path)
    assert "There is no scorer 'spriteworld-thruth'" in message
    assert "spriteworld-truth" in message
    assert sorted((workspace / "videos").iterdir()) == before


def test_prompts_that_the_scorer_does_not_know_are_refused_before_any_video_is_made(tmp_path: Path) -> None:
    workspace = copy(tmp_path)
    (tmp_path / "more.txt").write_text("a cat on a sofa")
    succeed("init", "ws", "--held-out", "more.txt", folder=tmp_path)
    before = sorted((workspace / "videos").iterdir())
    message = refused("evaluate", "-w", workspace, folder=tmp_path)
    assert "The scorer spriteworld-truth does not fit" in message
    assert "'a cat on a sofa'" in message
    assert "scorer=my_package.rewards:score" in message
    assert sorted((workspace / "videos").iterdir()) == before


def test_a_scorer_in_the_current_folder_needs_a_path(tmp_path: Path) -> None:
    (tmp_path / "own_scorer.py").write_text("def score(videos, prompts): ...")
    assert "PYTHONPATH=." in refused("evaluate", "-w", finished(), "scorer=own_scorer:score", folder=tmp_path)


def test_a_run_name_that_is_taken_by_other_settings(tmp_path: Path) -> None:
    workspace = copy(tmp_path)
    adapter = workspace / "runs" / "align" / "adapter" / "pytorch_lora_weights.safetensors"
    before = adapter.read_bytes()
    message = refused("align", "-w", workspace, "objective.beta=9", folder=tmp_path)
    assert "align" in message
    assert "run=NAME" in message
    assert adapter.read_bytes() == before


def test_a_run_name_that_leaves_the_folder_of_runs(tmp_path: Path) -> None:
    workspace = copy(tmp_path)
    for name in ("../outside", "a/b", "''", ".."):
        assert "run" in refused("align", "-w", workspace, f"run={name}", folder=tmp_path)
    assert not (workspace / "outside").exists()


def test_report_and_push_before_evaluate_and_evaluate_before_align(tmp_path: Path) -> None:
    workspace = copy(tmp_path)
    (workspace / "runs" / "align" / "evaluation.json").unlink()
    for words in (["report"], ["push", "--to", "up"]):
        message = refused(*words, "-w", workspace, folder=tmp_path)
        assert "was not evaluated yet" in message
        assert "reelign evaluate -w WORKSPACE run=align" in message
    for words in (["evaluate", "run=other"], ["report", "--run", "other"], ["sample", "x", "--run", "other"]):
        message = refused(*words, "-w", workspace, folder=tmp_path)
        assert "no finished run 'other'" in message
        assert "Finished runs: align" in message


def test_stages_out_of_order_say_which_comes_first(tmp_path: Path) -> None:
    make(tmp_path)
    assert "reelign generate" in refused("judge", "-w", "ws", folder=tmp_path)
    assert "reelign judge" in refused("align", "-w", "ws", folder=tmp_path)


def test_a_wrong_key_on_the_command_line_and_in_a_file(tmp_path: Path) -> None:
    (tmp_path / "dpo.yaml").write_text("objective: {betta: 4}\n")
    words = ["align", "-w", finished()]
    assert "the command line: there is no key 'trainer.step'" in refused(*words, "trainer.step=4", folder=tmp_path)
    message = refused(*words, "dpo.yaml", folder=tmp_path)
    assert "dpo.yaml: there is no key 'objective.betta'.\nDid you mean 'beta'?" in message
    assert "There is no config file no.yaml" in refused(*words, "no.yaml", folder=tmp_path)
    apart = refused(*words, "model.vae_dtype=bfloat16", folder=tmp_path)
    assert "there is no key 'model' among the settings of align: it is a section of its own.\nWrite" in apart
    assert "under `model:` in reelign.yaml" in apart
    assert "there is no key 'model'" in refused("generate", "-w", finished(), "model.dtype=float32", folder=tmp_path)


def test_a_device_that_is_not_there(tmp_path: Path) -> None:
    workspace = make(tmp_path)
    for device in ("cuda:99", "abacus"):
        (workspace / "reelign.yaml").write_text(f"model: {{device: '{device}'}}\n")
        message = refused("generate", "-w", "ws", folder=tmp_path)
        assert f"device {device!r} cannot be used" in message


def test_an_export_of_another_kind_is_refused(tmp_path: Path) -> None:
    assert "neither CSV nor Parquet" in refused("export", "pairs.xlsx", "-w", finished(), folder=tmp_path)


def test_the_schema_of_no_command(tmp_path: Path) -> None:
    assert "There are: model, generate" in refused("schema", "aling", folder=tmp_path)
    (argument,) = get_type_hints(schema, include_extras=True)["command"].__metadata__
    assert not [name for name in SECTIONS if name not in argument.help]
    assert json.loads(succeed("schema", "judge", folder=tmp_path))["additionalProperties"] is False
    found = json.loads(succeed("schema", "align", folder=tmp_path))
    streams = [found["$defs"][each["$ref"].rpartition("/")[2]] for each in found["anyOf"]]
    assert len(streams) == 3
    assert all(each["additionalProperties"] is False for each in streams)


def test_a_sample_with_a_seed_or_a_place_that_cannot_be(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    words = ["sample", TRAIN[0], "-w", finished()]
    assert "is no seed" in refused(*words, "--seed", "99999999999999999999", folder=tmp_path)
    assert "is no seed" in refused(*words, "--seed", "-1", folder=tmp_path)
    for place in ("file/a.mp4", "/proc/none/a.mp4"):
        assert f"{place} cannot be written" in refused(*words, "--out", place, folder=tmp_path)
    assert "is a folder" in refused(*words, "--out", tmp_path, folder=tmp_path)


def test_an_export_of_a_run_whose_adapter_is_gone(tmp_path: Path) -> None:
    workspace = copy(tmp_path)
    (workspace / "runs" / "align" / "adapter" / "pytorch_lora_weights.safetensors").unlink()
    for words in (["export", "a.safetensors"], ["push", "--to", "up"]):
        assert "has lost its adapter" in refused(*words, "-w", workspace, folder=tmp_path)
