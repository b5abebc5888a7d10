"""What leaves the workspace: the adapter in two formats, the lines of plain diffusers, the upload."""

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
from cli.workspaces import HELD_OUT, copy, finished
from reelign import publishing
from reelign.generators import load_generator, resolve_model
from reelign.opening import settings_of
from reelign.recipes.candidates import Candidates
from reelign.recipes.sampling import Sampling
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


def own_video(prompt: str, *, aligned: bool) -> torch.Tensor:
    """reelign's own sample with seed 0 and the workspace's settings."""
    generator = load_generator("spriteworld")
    if aligned:
        load_adapter(generator, finished() / ADAPTER)
    sampling = Sampling.resolve(settings_of(Workspace.open(finished()), "generate"), generator)
    with torch.no_grad():
        video: torch.Tensor = generator.decode(Candidates(generator, sampling, [prompt]).sample([prompt], [0]))[0]
    return video


def test_the_usage_lines_run_as_printed_and_give_reeligns_own_sample(tmp_path: Path) -> None:
    workspace = Workspace.open(finished())
    lines = publishing.usage_lines(workspace, "align", HELD_OUT[0])
    assert len(lines.splitlines()) == 3
    assert "reelign" not in lines.replace(str(finished()), "").replace(resolve_model("spriteworld"), "")
    proof = "\nimport sys; assert 'reelign' not in sys.modules; assert pipe.get_list_adapters()['transformer']"
    keep = "\ntorch.save(torch.as_tensor(frames[0]), 'frames.pt')"
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", lines + proof + keep], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    own = own_video(HELD_OUT[0], aligned=True)
    plain = torch.load(tmp_path / "frames.pt")
    assert plain.shape == own.shape
    assert (plain - own).abs().max() <= 1e-5
    assert (plain - own_video(HELD_OUT[0], aligned=False)).abs().max() > 1e-3


def test_a_pipeline_that_reads_no_prompt_is_called_without_one(tmp_path: Path) -> None:
    """As Stable Video Diffusion's, whose `pipeline_call` says so."""
    own = copy(tmp_path)
    path = own / "runs" / "align" / "evaluation.json"
    kept = json.loads(path.read_text())
    path.write_text(json.dumps({**kept, "call": {**kept["call"], "reads_prompts": False}}))
    lines = publishing.usage_lines(Workspace.open(own), "align", HELD_OUT[0])
    assert "frames = pipe(" in lines
    assert "pipe(prompt=" not in lines


def test_push_to_a_folder_leaves_adapter_config_card_and_videos(tmp_path: Path) -> None:
    assert succeed("push", "--to", "up/here", "-w", finished(), folder=tmp_path) == "up/here\n"
    up = tmp_path / "up" / "here"
    videos = sorted(up.glob("*.mp4"))
    assert (up / ADAPTER.name).read_bytes() == (finished() / ADAPTER).read_bytes()
    assert len(videos) == len(HELD_OUT)
    assert len(read_video(videos[0]).frames) == 5
    card = (up / "README.md").read_text()
    config = yaml.safe_load((up / "config.yaml").read_text())
    assert config["data"] in card
    for wanted in ("load_lora_weights('up/here'", "VQ", "MQ", "TA", *HELD_OUT, *(video.name for video in videos)):
        assert wanted in card
    assert "from_pretrained('path/to/spriteworld'" in card
    assert resolve_model("spriteworld") not in card
    header = yaml.safe_load(card.split("---")[1])
    assert "lora" in header["tags"]


@pytest.mark.parametrize("name", ["./up", "up", "/srv/up", "a/b/c", "up/", "me/..", "-x/y"])
def test_a_name_that_is_no_repository_is_refused_and_the_option_for_folders_named(name: str, tmp_path: Path) -> None:
    words = ["push", "-w", finished(), "--", name]
    assert f"reelign push --to {name}" in refusal(run_command(*words, folder=tmp_path))
    assert not (finished() / "runs" / "align" / "upload").exists()
    assert list(tmp_path.iterdir()) == []


def test_push_goes_to_one_place(tmp_path: Path) -> None:
    for words in ([], ["me/aligned", "--to", "up"]):
        message = refusal(run_command("push", *words, "-w", finished(), folder=tmp_path))
        assert "a hub repository or a local folder" in message
    (tmp_path / "file").touch()
    assert "file is a file" in refusal(run_command("push", "--to", "file", "-w", finished(), folder=tmp_path))


def test_push_to_a_hub_that_does_not_answer_says_so_and_keeps_the_upload(tmp_path: Path) -> None:
    workspace = copy(tmp_path)
    result = run_command("push", "me/aligned", "-w", workspace, folder=tmp_path, HTTPS_PROXY="http://127.0.0.1:9")
    assert "me/aligned could not be uploaded" in refusal(result)
    assert (workspace / "runs" / "align" / "upload" / "README.md").is_file()


def test_a_push_takes_the_videos_of_an_earlier_one_away_and_nothing_else(tmp_path: Path) -> None:
    workspace = copy(tmp_path)
    upload = workspace / "runs" / "align" / "upload"
    upload.mkdir()
    earlier = Workspace.open(workspace).videos("train")[0]
    for name in (f"{earlier.id}.mp4", "mine.mp4"):
        (upload / name).touch()
    refusal(run_command("push", "me/aligned", "-w", workspace, folder=tmp_path, HTTPS_PROXY="http://127.0.0.1:9"))
    assert not (upload / f"{earlier.id}.mp4").exists()
    assert (upload / "mine.mp4").exists()
    assert len(list(upload.glob("*.mp4"))) == len(HELD_OUT) + 1
