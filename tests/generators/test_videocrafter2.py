"""VideoCrafter2's own ways: its released layout, numbers of its published code, its shrinking video, its fps."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from generators.pipelines import PROMPTS, by_reelign
from generators.tiny_videocrafter2 import PUBLISHED, TEXT, WIDTH, draw, few, filled, released_weights, save_checkpoint
from reelign.diffusion.samplers import initial_noise
from reelign.errors import ReelignError
from reelign.generators import Generator, Guidance, VideoSize, load_generator
from reelign.generators.defaults import DEFAULTS_FILE
from reelign.generators.videocrafter2.checkpoint import build_pipeline, pipeline_folder

SIZE = VideoSize(4, 16, 16)


@pytest.fixture
def videocrafter2(loaded: dict[str, Generator]) -> Generator:
    return loaded["videocrafter2"]


def test_the_u_net_says_what_the_published_code_does(videocrafter2: Generator) -> None:
    """Two rows of different timesteps and fps; the numbers are those of lvdm's own class for the same weights."""
    noisy, text = draw(1, 2, 4, 3, 4, 4), draw(2, 2, 5, 64)
    with torch.no_grad():
        said = videocrafter2.pipeline.unet(
            noisy, torch.tensor([11, 801]), text, timestep_cond=torch.tensor([28, 8]), return_dict=False
        )[0]
    torch.testing.assert_close(few(said), torch.tensor(PUBLISHED["unet_output"]), rtol=0, atol=5e-6)


def test_the_vae_says_what_the_published_code_does(videocrafter2: Generator) -> None:
    vae = videocrafter2.pipeline.vae
    with torch.no_grad():
        mean, image = vae.encode(draw(3, 1, 3, 8, 8)).latent_dist.mode(), vae.decode(draw(4, 1, 4, 4, 4)).sample
    torch.testing.assert_close(few(mean), torch.tensor(PUBLISHED["vae_mean"]), rtol=0, atol=5e-6)
    torch.testing.assert_close(few(image), torch.tensor(PUBLISHED["vae_image"]), rtol=0, atol=5e-6)
    assert vae.config.scaling_factor == 0.18215


def test_text_is_openclips_up_to_its_last_layer_but_one(videocrafter2: Generator) -> None:
    """Worked out here from the released weights: causal attention of one head, then the last norm."""
    weights = filled(TEXT)
    ids = videocrafter2.pipeline.tokenizer(PROMPTS[0], padding="max_length").input_ids
    length = len(PROMPTS[0].replace(" ", "")) + 2
    assert ids[length:] == [0] * (len(ids) - length)
    assert ids[length - 1] == weights["token_embedding.weight"].shape[0] - 1

    def norm(x: Tensor, name: str) -> Tensor:
        return F.layer_norm(x, (WIDTH,), weights[f"{name}.weight"], weights[f"{name}.bias"])

    x = weights["token_embedding.weight"][ids] + weights["positional_embedding"]
    for layer in ("transformer.resblocks.0", "transformer.resblocks.1"):
        q, k, v = F.linear(
            norm(x, f"{layer}.ln_1"), weights[f"{layer}.attn.in_proj_weight"], weights[f"{layer}.attn.in_proj_bias"]
        ).chunk(3, dim=-1)
        scores = (q @ k.T / math.sqrt(WIDTH)).masked_fill(torch.ones(len(ids), len(ids)).triu(1).bool(), -math.inf)
        seen = scores.softmax(dim=-1) @ v
        x = x + F.linear(seen, weights[f"{layer}.attn.out_proj.weight"], weights[f"{layer}.attn.out_proj.bias"])
        inner = F.linear(
            norm(x, f"{layer}.ln_2"), weights[f"{layer}.mlp.c_fc.weight"], weights[f"{layer}.mlp.c_fc.bias"]
        )
        x = x + F.linear(F.gelu(inner), weights[f"{layer}.mlp.c_proj.weight"], weights[f"{layer}.mlp.c_proj.bias"])
    own = videocrafter2.encode_prompts(PROMPTS[:1])["prompt_embeds"][0]
    torch.testing.assert_close(own, norm(x, "ln_final"), rtol=0, atol=2e-5)


def test_sampling_is_ddim_on_the_path_of_the_shrinking_video(videocrafter2: Generator) -> None:
    """Its own formula, x' = s'·√ᾱ'·latents + √(1 - ᾱ')·noise, step by step beside our loop."""
    beta = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64).square()
    bar = (1 - beta).cumprod(dim=0)
    shrunk = torch.cat([torch.linspace(1, 0.7, 400, dtype=torch.float64), torch.full((600,), 0.7, dtype=torch.float64)])
    x = initial_noise((2, *videocrafter2.latent_shape(SIZE)), [3, 4], "cpu")
    text, none = (videocrafter2.encode_prompts(each)["prompt_embeds"] for each in (PROMPTS, ["", ""]))
    with torch.no_grad():
        for step, before in ((751, 501), (501, 251), (251, 1), (1, 0)):
            said = [videocrafter2.pipeline.unet(x, step, each).sample for each in (none, text)]
            noise = said[0] + 5 * (said[1] - said[0])
            clean = (x - (1 - bar[step]).sqrt().float() * noise) / (shrunk[step] * bar[step].sqrt()).float()
            x = (shrunk[before] * bar[before].sqrt()).float() * clean + (1 - bar[before]).sqrt().float() * noise
    ours = by_reelign(videocrafter2, SIZE, 5.0)
    torch.testing.assert_close(ours, x, rtol=0, atol=2e-5 * float(x.abs().max()))
    sigmas = videocrafter2.sigmas(4)
    assert float(sigmas[0]) == pytest.approx(
        float((1 - bar[751]).sqrt() / ((1 - bar[751]).sqrt() + 0.7 * bar[751].sqrt())), abs=1e-6
    )


def test_the_model_is_told_what_stands_beside_its_weights(
    videocrafter2: Generator, family_folders: dict[str, Path], tmp_path: Path
) -> None:
    assert videocrafter2.call_arguments == {"fps": 28}
    copy = tmp_path / "copy"
    copy.mkdir()
    for part in family_folders["videocrafter2"].iterdir():
        (copy / part.name).symlink_to(part)
    (copy / DEFAULTS_FILE).write_text(json.dumps({"fps": 8, "told": {"fps": 12}}))
    slower = load_generator(str(copy))
    assert (slower.call_arguments, slower.defaults.fps) == ({"fps": 12}, 8)
    conditioning, noise = slower.encode_prompts(PROMPTS), initial_noise((2, *slower.latent_shape(SIZE)), [3, 4], "cpu")
    sigma = slower.sigmas(4)[:1].expand(2)
    assert (
        slower.velocity(noise, sigma, conditioning) - videocrafter2.velocity(noise, sigma, conditioning)
    ).abs().max() > 1e-3
    (copy / DEFAULTS_FILE).write_text(json.dumps({"told": {"motion": 1}}))
    with pytest.raises(ReelignError, match="'motion'") as caught:
        _ = load_generator(str(copy)).told
    assert "fps" in caught.value.mend


def test_a_checkpoint_is_made_into_a_folder_once_and_loads(videocrafter2: Generator, tmp_path: Path) -> None:
    checkpoint = save_checkpoint(tmp_path / "vc2")
    generator = load_generator(str(checkpoint))
    assert Path(generator.model) == tmp_path / "vc2" / "model-diffusers"
    guidance = Guidance(1.0)
    ours, theirs = (
        each.sample(each.encode_prompts(PROMPTS[:1]), [3], SIZE, steps=1, guidance=guidance)
        for each in (generator, videocrafter2)
    )
    assert torch.equal(ours, theirs)
    made = Path(generator.model) / "model_index.json"
    before = made.stat().st_mtime_ns
    assert pipeline_folder(checkpoint) == Path(generator.model)
    assert made.stat().st_mtime_ns == before
    assert [path.name for path in checkpoint.parent.iterdir() if path.name.startswith(".")] == []
    os.utime(checkpoint, (made.stat().st_mtime + 10,) * 2)
    with pytest.raises(ReelignError, match="is newer than"):
        load_generator(str(checkpoint.parent))


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        ("missing", r"U-Net .* lacks the weight time_embedding\.fps\.linear_1\.weight"),
        ("unknown", r"U-Net .* without a place for it, the weight input_blocks\.0\.9\.weight"),
        ("unknown vae", r"VAE .* without a place for it, the weight encoder\.strange"),
        ("shape", r"another shape of the weight conv_out\.weight"),
        ("other model", r"no part of it"),
        ("other table", "shrinks its videos otherwise"),
    ],
)
def test_a_checkpoint_of_another_model_is_refused(edit: str, said: str, tmp_path: Path) -> None:
    weights = released_weights()
    unet = "model.diffusion_model."
    if edit == "missing":
        del weights[f"{unet}fps_embedding.0.weight"]
    elif edit == "unknown":
        weights[f"{unet}input_blocks.0.9.weight"] = torch.zeros(1)
    elif edit == "unknown vae":
        weights["first_stage_model.encoder.strange.weight"] = torch.zeros(1)
    elif edit == "shape":
        weights[f"{unet}out.2.weight"] = torch.zeros(4, 32, 3, 3)
    elif edit == "other model":
        weights["model.transformer.x.weight"] = torch.zeros(1)
    else:
        weights["scale_arr"] = torch.cat([torch.linspace(1, 0.3, 400), torch.full((600,), 0.3)])
    with pytest.raises(ReelignError, match=said) as caught:
        build_pipeline(save_checkpoint(tmp_path, weights))
    assert "VideoCrafter/VideoCrafter2" in caught.value.mend


def test_half_a_checkpoint_is_refused(tmp_path: Path) -> None:
    checkpoint = save_checkpoint(tmp_path)
    whole = checkpoint.read_bytes()
    checkpoint.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ReelignError, match="could not be read") as caught:
        load_generator(str(checkpoint))
    assert caught.value.mend == "Download it again."
    assert not (tmp_path / "model-diffusers").exists()


def test_sizes_that_its_levels_halve(videocrafter2: Generator) -> None:
    """At full size multiples of 64; here VAE and levels ask for 4, the pipeline for 8."""
    assert videocrafter2.legal(VideoSize(5, 21, 3)) == VideoSize(5, 24, 8)
