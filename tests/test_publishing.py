"""What leaves the workspace: the adapter in two formats, the lines of plain diffusers, the upload, the report."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from diffusers import WanPipeline
from safetensors.torch import load_file

import reelign
from cli.process import reelign as run_command
from cli.process import refusal, succeed
from cli.workspaces import HELD_OUT, TRAIN, copy, finished
from reelign import publishing
from reelign.generators import Generator, load_generator, resolve_model
from reelign.recipes.generation import Candidates, GenerateSettings, Sampling
from reelign.records import Workspace
from reelign.training import load_adapter
from reelign.video import read_video

ADAPTER = Path("runs") / "align" / "adapter" / "pytorch_lora_weights.safetensors"


def denoised(adapter: Path | None) -> torch.Tensor:
    """What the shipped transformer predicts with an adapter loaded by diffusers alone."""
    pipeline = WanPipeline.from_pretrained(resolve_model("spriteworld"), dtype=torch.float32)
    if adapter is not None:
        pipeline.load_lora_weights(str(adapter), adapter_name="aligned")
        assert pipeline.get_list_adapters() == {"transformer": ["aligned"]}
    chance = torch.Generator().manual_seed(0)
    with torch.no_grad():
        predicted: torch.Tensor = pipeline.transformer(
            hidden_states=torch.randn(1, 48, 2, 4, 4, generator=chance),
            timestep=torch.tensor([500.0]),
            encoder_hidden_states=torch.randn(1, 12, 64, generator=chance),
            return_dict=False,
        )[0]
    return predicted


def test_the_comfyui_file_has_the_original_key_names_with_an_alpha_a_layer(tmp_path: Path) -> None:
    succeed("export", "out/comfy.safetensors", "-w", finished(), "--format", "comfyui", folder=tmp_path)
    weights = load_file(tmp_path / "out" / "comfy.safetensors")
    ends = ("lora_A.weight", "lora_B.weight", "alpha")
    layers = {name.removesuffix(end).rstrip(".") for name in weights for end in ends if name.endswith(end)}
    assert set(weights) == {f"{layer}.{end}" for layer in layers for end in ends}
    assert {"diffusion_model.blocks.0.self_attn.q", "diffusion_model.blocks.0.cross_attn.k"} <= layers
    for layer in layers:
        # rank 4, alpha 8: the two must not be taken for each other
        assert weights[f"{layer}.lora_A.weight"].shape[0] == 4
        assert weights[f"{layer}.alpha"].item() == 8


def test_both_formats_load_in_plain_diffusers_and_give_the_same_output(tmp_path: Path) -> None:
    files = [
        reelign.export_adapter(finished(), tmp_path / f"{f}.safetensors", format=f) for f in ("comfyui", "diffusers")
    ]
    comfyui, diffusers = (denoised(file) for file in files)
    assert torch.allclose(comfyui, diffusers, atol=1e-5)
    assert not torch.allclose(diffusers, denoised(None), atol=1e-3)


def test_an_unknown_format_is_refused(tmp_path: Path) -> None:
    result = run_command("export", "x.safetensors", "-w", finished(), "--format", "kohya", folder=tmp_path)
    assert "Formats: diffusers, comfyui" in refusal(result)


def aligned_video(generator: Generator, prompt: str) -> torch.Tensor:
    """reelign's own sample with seed 0 and the model's defaults."""
    load_adapter(generator, finished() / ADAPTER)
    sampling = Sampling.resolve(GenerateSettings(), generator)
    with torch.no_grad():
        video: torch.Tensor = generator.decode(Candidates(generator, sampling, [prompt]).sample([prompt], [0]))[0]
    return video


def test_the_usage_lines_run_as_printed_and_give_reeligns_own_sample(tmp_path: Path) -> None:
    workspace = Workspace.open(finished())
    lines = publishing.usage_lines(workspace, workspace.root / ADAPTER, HELD_OUT[0])
    assert len(lines.splitlines()) == 3
    assert "reelign" not in lines.replace(str(finished()), "").replace(resolve_model("spriteworld"), "")
    proof = "\nimport sys; assert 'reelign' not in sys.modules; assert pipe.get_list_adapters()['transformer']"
    keep = "\ntorch.save(torch.as_tensor(frames[0]), 'frames.pt')"
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", lines + proof + keep], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    own = aligned_video(load_generator("spriteworld"), HELD_OUT[0])
    plain = torch.load(tmp_path / "frames.pt")
    assert plain.shape == own.shape
    assert (plain - own).abs().max() <= 1e-5
    base = load_generator("spriteworld")
    sampling = Sampling.resolve(GenerateSettings(), base)
    unaligned = Candidates(base, sampling, [HELD_OUT[0]]).sample([HELD_OUT[0]], [0])
    with torch.no_grad():
        assert (plain - base.decode(unaligned)[0]).abs().max() > 1e-3


def test_push_to_a_folder_leaves_adapter_config_card_and_videos(tmp_path: Path) -> None:
    assert str(tmp_path / "up") in succeed("push", "./up", "-w", finished(), folder=tmp_path).replace(
        "up\n", str(tmp_path / "up")
    )
    up = tmp_path / "up"
    videos = sorted(up.glob("*.mp4"))
    assert (up / ADAPTER.name).read_bytes() == (finished() / ADAPTER).read_bytes()
    assert len(videos) == 4
    assert len(read_video(videos[0]).frames) == 5
    card = (up / "README.md").read_text()
    config = yaml.safe_load((up / "config.yaml").read_text())
    assert config["data"] in card
    for wanted in ("load_lora_weights", "VQ", "MQ", "TA", *HELD_OUT, *(video.name for video in videos)):
        assert wanted in card
    header = yaml.safe_load(card.split("---")[1])
    assert "lora" in header["tags"]


def test_push_to_a_hub_that_does_not_answer_says_so_and_keeps_the_upload(tmp_path: Path) -> None:
    workspace = copy(tmp_path)
    result = run_command("push", "me/aligned", "-w", workspace, folder=tmp_path, HTTPS_PROXY="http://127.0.0.1:9")
    assert "me/aligned could not be uploaded" in refusal(result)
    assert (workspace / "runs" / "align" / "upload" / "README.md").is_file()


def test_the_result_holds_every_number_of_the_comparison() -> None:
    result = json.loads((finished() / "runs" / "align" / "result.json").read_text())
    assert {"gain", "low", "high", "win_rate", "dimensions", "seconds", "peak_memory_bytes"} <= result.keys()
    assert result["low"] <= result["gain"] <= result["high"]
    assert 0 <= result["win_rate"] <= 1
    assert set(result["dimensions"]) == {"VQ", "MQ", "TA"}
    for each in result["dimensions"].values():
        assert {"base", "aligned", "gain", "low", "high"} <= each.keys()
        assert each["gain"] == pytest.approx(each["aligned"] - each["base"], abs=1e-6)
    assert result["gain"] == pytest.approx(sum(each["gain"] for each in result["dimensions"].values()) / 3, abs=1e-6)
    assert result["failed"] == []


def test_the_report_is_one_file_with_videos_prompts_and_config() -> None:
    page = (finished() / "runs" / "align" / "report.html").read_text()
    assert page.count("data:video/mp4;base64,") >= 2
    for wanted in (*HELD_OUT, "learning_rate", "implicit", "diffusers"):
        assert wanted in page
    assert TRAIN[0] not in page
    for loaded in ('src="http', 'href="http', "src='http", "@import"):
        assert loaded not in page


def test_a_report_takes_times_and_memory_where_they_were_measured(tmp_path: Path) -> None:
    workspace = copy(tmp_path)
    page = reelign.report(workspace, stages={"align": 61.5}, peak_memory_bytes=3 << 30)
    result = json.loads((page.parent / "result.json").read_text())
    assert result["seconds"] == {"align": 61.5}
    assert result["peak_memory_bytes"] == 3 << 30
