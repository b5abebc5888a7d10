"""What diffusers itself does with a family's pipeline: the other side of every comparison."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from diffusers import ClassifierFreeGuidance
from torch import Tensor

from generators.opensora_reference import published_latents, published_pixels, published_sample
from reelign.diffusion.paths import RectifiedFlow
from reelign.diffusion.samplers import initial_noise
from reelign.generators import Conditioning, Generator, Guidance, VideoSize

PROMPTS = ["a red square moves left", "a disc"]
SEEDS = [3, 4]
STEPS = 4
STANDARD = {"latents_mean": 0.0, "latents_std": 1.0}


def frames_first(pipeline: Any) -> bool:
    """Whether the pipeline holds latents as (B, F, C, H, W)."""
    return type(pipeline).__name__ == "CogVideoXPipeline"


def is_opensora(pipeline: Any) -> bool:
    """Whether the other side is no pipeline of diffusers but what was published, written out."""
    return type(pipeline).__name__ == "OpenSoraPipeline"


def as_held(pipeline: Any, latents: Tensor) -> Tensor:
    """Latents (B, C, F, H, W) as the pipeline holds them; in tokens in LTX's."""
    if type(pipeline).__name__.startswith("LTX"):
        return latents.flatten(2).transpose(1, 2)
    return latents.transpose(1, 2) if frames_first(pipeline) else latents


def as_latents(pipeline: Any, held: Tensor, shape: Sequence[int]) -> Tensor:
    """The other way, to (B, *shape)."""
    if type(pipeline).__name__.startswith("LTX"):
        return held.transpose(1, 2).reshape(-1, *shape)
    return held.transpose(1, 2) if frames_first(pipeline) else held


def by_pipeline(
    pipeline: Any,
    generator: Generator,
    size: VideoSize,
    scale: float,
    output: str = "latent",
    *,
    further: dict[str, Any] | None = None,
) -> Tensor:
    """Two videos, or their latents (B, C, F, H, W), by the pipeline's own call."""
    noise = initial_noise((len(SEEDS), *generator.latent_shape(size)), SEEDS, "cpu")
    one_by_one(pipeline.vae)
    for length in ("tokenizer_max_length", "tokenizer_2_max_length"):
        if hasattr(pipeline, length):  # of text that is masked past its own; a miniature's has fewer tokens
            setattr(pipeline, length, getattr(generator.pipeline, length))
    if is_opensora(pipeline):
        latents = published_sample(pipeline, PROMPTS, noise, size, STEPS, scale)
        pixels = latents if output == "latent" else published_pixels(pipeline, latents)
        return latents if output == "latent" else (pixels / 2 + 0.5).clamp(0, 1).transpose(1, 2)
    frames: Tensor = pipeline(
        prompt=PROMPTS,
        negative_prompt=[""] * len(PROMPTS),
        num_frames=size.num_frames,
        height=size.height,
        width=size.width,
        num_inference_steps=STEPS,
        **guided_at(pipeline, scale),
        latents=as_held(pipeline, noise),
        output_type=output,
        **generator.call_arguments,
        **(further or {}),
    ).frames
    return as_latents(pipeline, frames, generator.latent_shape(size)) if output == "latent" else frames


def guided_at(pipeline: Any, scale: float) -> dict[str, float]:
    """What a call says of the scale; a pipeline with a guider has it there."""
    if not hasattr(pipeline, "guider"):
        return {"guidance_scale": scale}
    pipeline.guider = ClassifierFreeGuidance(guidance_scale=scale)
    return {}


def one_by_one(vae: Any) -> None:
    """Take apart a batch that diffusers' VAE of HunyuanVideo 1.5 fails on: its attention's mask fits a single clip."""
    if type(vae).__name__ == "AutoencoderKLHunyuanVideo15":
        vae.enable_slicing()


def by_reelign(generator: Generator, size: VideoSize, scale: float) -> Tensor:
    """The latents of the same two videos by our own loop."""
    guidance = Guidance(scale, generator.encode_prompts([""] * len(PROMPTS)))
    return generator.sample(generator.encode_prompts(PROMPTS), SEEDS, size, steps=STEPS, guidance=guidance)


def assert_close(ours: Tensor, theirs: Tensor, bound: float = 2e-6) -> None:
    """Equal to fp32's rounding over a few steps, relative to the largest value: tiny random models overshoot."""
    torch.testing.assert_close(ours, theirs, rtol=0, atol=bound * max(1.0, float(theirs.abs().max())))


def own_latents(pipeline: Any, pixels: Tensor) -> Tensor:
    """Latents (B, C, F, H, W) of pixels (B, 3, F, H, W) in [-1, 1], by the pipeline's own VAE and statistics."""
    vae = pipeline.vae
    if is_opensora(pipeline):
        return published_latents(pipeline, pixels)
    one_by_one(vae)
    mean, std = statistics(vae)
    if "3d" in type(vae.encoder).__name__.lower():
        clip = (vae.encode(pixels).latent_dist.mode() - mean) * vae.config.get("scaling_factor", 1) / std
        return torch.cat([clip[:, :, : padding(pipeline)], clip], dim=2)
    frames = vae.encode(pixels.transpose(1, 2).flatten(0, 1)).latent_dist.mode() * vae.config.scaling_factor
    return frames.unflatten(0, (len(pixels), -1)).transpose(1, 2)  # type: ignore[no-any-return]


def own_pixels(pipeline: Any, latents: Tensor) -> Tensor:
    """Pixels of latents, by the pipeline's own `decode_latents` where it has one."""
    if is_opensora(pipeline):
        return published_pixels(pipeline, latents)
    if not hasattr(pipeline, "decode_latents"):
        one_by_one(pipeline.vae)
        mean, std = statistics(pipeline.vae)
        raw = latents * std / pipeline.vae.config.get("scaling_factor", 1) + mean
        return pipeline.vae.decode(raw).sample  # type: ignore[no-any-return]
    return pipeline.decode_latents(as_held(pipeline, latents[:, :, padding(pipeline) :]))  # type: ignore[no-any-return]


def padding(pipeline: Any) -> int:
    """Latent frames in front that CogVideoX 1.5 makes and cuts off."""
    return int("CogVideoX" in type(pipeline).__name__ and pipeline.transformer.config.patch_size_t is not None)


def statistics(vae: Any) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of each channel, which LTX's VAE has among its weights and Mochi's in its config."""
    buffers = dict(vae.named_buffers())
    if "latents_mean" in buffers:
        mean, std = buffers["latents_mean"], buffers["latents_std"]
    else:
        mean, std = (torch.tensor(vae.config.get(name) or [each]) for name, each in STANDARD.items())
    return mean.view(1, -1, 1, 1, 1), std.view(1, -1, 1, 1, 1)


def runs_from_noise(generator: Generator) -> bool:
    """Whether the model's time is 0 at noise, as Mochi's."""
    return not is_opensora(generator.pipeline) and bool(generator.pipeline.scheduler.config.get("invert_sigmas"))


def timesteps_at(generator: Generator, sigma: Tensor) -> Tensor:
    """A model's own timesteps (B,) of noise levels."""
    if isinstance(generator.path, RectifiedFlow):
        sigma = 1 - sigma if runs_from_noise(generator) else sigma
        if is_opensora(generator.pipeline):
            return sigma * 1000
        return sigma * generator.pipeline.scheduler.config.num_train_timesteps
    return generator.path.timestep(sigma)  # type: ignore[attr-defined,no-any-return]


def training_pair(generator: Generator, latents: Tensor, noise: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
    """What the family's pretraining feeds, (B, C, F, H, W), and what it asks for."""
    if isinstance(generator.path, RectifiedFlow):
        level = sigma[:, None, None, None, None]
        # Mochi's output, and Open-Sora's, point from noise to video.
        forward = runs_from_noise(generator) or is_opensora(generator.pipeline)
        target = latents - noise if forward else noise - latents
        return (1 - level) * latents + level * noise, target
    scheduler, timesteps = generator.pipeline.scheduler, timesteps_at(generator, sigma)
    v = scheduler.config.prediction_type == "v_prediction"
    target = scheduler.get_velocity(latents, noise, timesteps) if v else noise
    return scheduler.add_noise(latents, noise, timesteps), target


def said_by(generator: Generator, fed: Tensor, timesteps: Tensor, conditioning: Conditioning) -> Tensor:
    """What the family's denoiser says, (B, C, F, H, W), asked as its pipeline asks it."""
    pipeline, embeds = generator.pipeline, conditioning["prompt_embeds"]
    name = type(pipeline).__name__
    if name == "CogVideoXPipeline":
        rotary = generator._rotary_embeddings(fed)  # type: ignore[attr-defined]
        said: Tensor = pipeline.transformer(
            fed.transpose(1, 2), embeds, timesteps, image_rotary_emb=rotary, return_dict=False
        )[0].transpose(1, 2)
    elif name == "HunyuanVideoPipeline":
        mask, pooled = conditioning["prompt_attention_mask"], conditioning["pooled_prompt_embeds"]
        guidance = torch.full_like(timesteps, 1000.0)
        said = pipeline.transformer(fed, timesteps, embeds, mask, pooled, guidance, return_dict=False)[0]
    elif name == "HunyuanVideo15Pipeline":
        names = ("prompt_embeds_mask", "prompt_embeds_2", "prompt_embeds_mask_2")
        mask, embeds_2, mask_2 = (conditioning[each] for each in names)
        fed = torch.cat([fed, torch.zeros_like(fed), torch.zeros_like(fed[:, :1])], dim=1)
        said = pipeline.transformer(
            *(fed, timesteps, embeds, mask, None, embeds_2, mask_2, torch.zeros(len(fed), 729, 8)), return_dict=False
        )[0]
    elif name == "LTXPipeline":
        mask, (frames, height, width) = conditioning["prompt_attention_mask"], fed.shape[2:]
        place = {"num_frames": frames, "height": height, "width": width, "rope_interpolation_scale": (8 / 25, 32, 32)}
        tokens = pipeline.transformer(as_held(pipeline, fed), embeds, timesteps, mask, **place, return_dict=False)[0]
        said = as_latents(pipeline, tokens, fed.shape[1:])
    elif is_opensora(pipeline):
        mask, fps = conditioning["prompt_attention_mask"], torch.full((len(fed),), 24.0)
        height, width = (2 * side for side in fed.shape[3:])
        said = pipeline.transformer(fed, timesteps, embeds, mask, fps, height, width)[0][:, :4]
    elif name == "WanPipeline":
        said = pipeline.transformer(fed, timesteps, embeds, return_dict=False)[0]
    elif name == "MochiPipeline":
        mask = conditioning["prompt_attention_mask"]
        said = pipeline.transformer(fed, embeds, timesteps, mask, return_dict=False)[0]
    else:
        if name == "AnimateDiffPipeline":
            embeds = embeds.repeat_interleave(fed.shape[2], dim=0)
        said = pipeline.unet(fed, timesteps, embeds, return_dict=False)[0]
    return said
