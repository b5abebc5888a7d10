"""What diffusers itself does with a family's pipeline: the other side of every comparison."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from diffusers import ClassifierFreeGuidance, WanImageToVideoPipeline
from torch import Tensor

from generators.families import PROMPTS
from generators.opensora_reference import published_latents, published_pixels, published_sample
from reelign.diffusion.paths import EDM, RectifiedFlow
from reelign.diffusion.samplers import initial_noise
from reelign.generators import Conditioning, Generator, Guidance, VideoSize
from reelign.generators.decoding.ltx import DECODE_SEED
from reelign.generators.pictures import as_pictures
from reelign.generators.svd import NOISE_SEED

SEEDS = [3, 4]
STEPS = 4
STANDARD = {"latents_mean": 0.0, "latents_std": 1.0}


def frames_first(pipeline: Any) -> bool:
    """Whether the pipeline holds latents as (B, F, C, H, W)."""
    return type(pipeline).__name__.startswith(("CogVideoX", "StableVideoDiffusion"))


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
    if type(pipeline).__name__.startswith("LTX") and held.ndim == 3:
        return held.transpose(1, 2).reshape(-1, *shape)
    return held.transpose(1, 2) if frames_first(pipeline) else held


def by_pipeline(
    pipeline: Any,
    generator: Generator,
    size: VideoSize,
    scale: float,
    output: str = "latent",
    *,
    images: Tensor | None = None,
    further: dict[str, Any] | None = None,
) -> Tensor:
    """Two videos, or their latents (B, C, F, H, W), by the pipeline's own call; with an image for each, one by one."""
    shape = generator.latent_shape(size)
    noise = initial_noise((len(SEEDS), *shape), SEEDS, "cpu")
    one_by_one(pipeline.vae)
    for length in ("tokenizer_max_length", "tokenizer_2_max_length"):
        if hasattr(pipeline, length):  # of text that is masked past its own; a miniature's has fewer tokens
            setattr(pipeline, length, getattr(generator.pipeline, length))
    if is_opensora(pipeline):
        given = None if images is None else opensora_first(pipeline, images, size)
        latents = published_sample(pipeline, PROMPTS, noise, size, STEPS, scale, given)
        pixels = latents if output == "latent" else published_pixels(pipeline, latents)
        return latents if output == "latent" else (pixels / 2 + 0.5).clamp(0, 1).transpose(1, 2)
    place = {"num_frames": size.num_frames, "height": size.height, "width": size.width, "num_inference_steps": STEPS}
    shared = {**place, **guided_at(pipeline, scale), "output_type": output, **generator.call_arguments}
    rows = [slice(0, 2)] if images is None else [slice(0, 1), slice(1, 2)]
    found = []
    for row in rows:
        call = {**shared, "prompt": PROMPTS[row], "negative_prompt": [""] * len(PROMPTS[row])}
        call |= {"latents": as_held(pipeline, noise[row]), **(further or {})}
        if images is not None:
            called, call = going_on(pipeline, generator, size, images[row], SEEDS[row][0], call)
        else:
            called = pipeline
        frames = called(**call).frames
        found.append(as_latents(pipeline, frames, shape) if output == "latent" else frames)
    return torch.cat(found)


def going_on(
    pipeline: Any, generator: Generator, size: VideoSize, image: Tensor, seed: int, call: dict[str, Any]
) -> tuple[Any, dict[str, Any]]:
    """The pipeline that makes a clip of an image (1, 3, H, W), and how it is called."""
    name = type(pipeline).__name__
    call = {**call, "image": as_pictures(image)[0]}
    if name == "WanPipeline":  # TI2V-5B's parts under the class for images
        shared = {part: each for part, each in pipeline.components.items() if not part.startswith("image_")}
        pipeline = WanImageToVideoPipeline(**shared, expand_timesteps=True)
        pipeline.set_progress_bar_config(disable=True)
    elif name == "StableVideoDiffusionPipeline":
        del call["prompt"], call["negative_prompt"]
        call["max_guidance_scale"] = call.pop("guidance_scale")
        call["generator"] = torch.Generator().manual_seed(NOISE_SEED)
    elif name == "HunyuanVideo15ImageToVideoPipeline":  # it goes by the image's own shape
        del call["height"], call["width"]
        call["image"] = as_pictures(image)[0]
    elif name == "LTXImageToVideoPipeline":  # where noise is handed in, the frame is taken to be in it
        start = initial_noise((1, *generator.latent_shape(size)), [seed], "cpu")
        start[:, :, :1] = generator.encode_condition(image, size)["first_latents"]
        call["latents"] = as_held(pipeline, start)
    elif name == "LTXConditionPipeline":  # it draws its noise itself: a video's from its own seed, as here
        del call["latents"]
        call["generator"] = [torch.Generator().manual_seed(seed)]
    return pipeline, call


def opensora_first(pipeline: Any, images: Tensor, size: VideoSize) -> Tensor:
    """The latents of first frames (B, 3, H, W), cut to the clips' shape by the pipeline's processor."""
    place = {"height": size.height, "width": size.width, "resize_mode": "crop"}
    pixels = pipeline.video_processor.preprocess(as_pictures(images), **place)
    return published_latents(pipeline, pixels[:, :, None])


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


def by_reelign(
    generator: Generator, size: VideoSize, scale: float, told: tuple[Conditioning, Conditioning] | None = None
) -> Tensor:
    """The latents of the same two videos by our own loop, of text alone where both sides are not given."""
    own, negative = told or (generator.encode_prompts(PROMPTS), generator.encode_prompts([""] * len(PROMPTS)))
    return generator.sample(own, SEEDS, size, steps=STEPS, guidance=Guidance(scale, negative))


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
        if not pipeline.vae.config.get("timestep_conditioning"):
            return pipeline.vae.decode(raw).sample  # type: ignore[no-any-return]
        noise = torch.randn(raw.shape[1:], generator=torch.Generator().manual_seed(DECODE_SEED)).to(raw)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(DECODE_SEED)
            told = raw.new_full((len(raw),), 0.05)
            return pipeline.vae.decode(0.975 * raw + 0.025 * noise, told).sample  # type: ignore[no-any-return]
    held = as_held(pipeline, latents[:, :, padding(pipeline) :])
    if type(pipeline).__name__ == "StableVideoDiffusionPipeline":
        frames = held.shape[1]  # at a time as many as a clip has, as in its call: more would be taken for one clip's
        return pipeline.decode_latents(held, frames, frames)  # type: ignore[no-any-return]
    return pipeline.decode_latents(held)  # type: ignore[no-any-return]


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
    if isinstance(generator.path, EDM):
        return 0.25 * (sigma / (1 - sigma)).log()
    return generator.path.timestep(sigma)  # type: ignore[attr-defined,no-any-return]


def training_pair(generator: Generator, latents: Tensor, noise: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
    """What the family's pretraining feeds, (B, C, F, H, W), and what it asks for."""
    level = sigma[:, None, None, None, None]
    if isinstance(generator.path, EDM):  # of unit variance; its network says v
        ratio = level / (1 - level)
        norm = (1 + ratio**2).sqrt()
        return (latents + ratio * noise) / norm, (noise - ratio * latents) / norm
    if isinstance(generator.path, RectifiedFlow):
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
    pipeline = generator.pipeline
    ask = next(each for start, each in ASKED.items() if type(pipeline).__name__.startswith(start))
    return ask(generator, pipeline, fed, timesteps, conditioning)


def put_first(fed: Tensor, first: Tensor) -> Tensor:
    """With a given first latent frame (B, C, 1, H, W)."""
    return torch.cat([first, fed[:, :, 1:]], dim=2)


def alone(first: Tensor, like: Tensor) -> tuple[Tensor, Tensor]:
    """A first latent frame before zeros, as (B, C, F, H, W) of its own channels, and where it is, (B, 1, F, H, W)."""
    clip = torch.zeros(len(like), first.shape[1], *like.shape[2:])
    clip[:, :, :1] = first
    where = torch.zeros_like(clip[:, :1])
    where[:, :, 0] = 1
    return clip, where


def asked_cogvideox(generator: Any, pipeline: Any, fed: Tensor, timesteps: Tensor, given: Conditioning) -> Tensor:
    rotary, offset = generator._rotary_embeddings(fed), None
    if "image_latents" in given.tensors:
        fed = torch.cat([fed, alone(given["image_latents"], fed)[0]], dim=1)
        offset = torch.tensor([2.0]) if pipeline.transformer.config.ofs_embed_dim else None
    said: Tensor = pipeline.transformer(
        fed.transpose(1, 2), given["prompt_embeds"], timesteps, ofs=offset, image_rotary_emb=rotary, return_dict=False
    )[0]
    return said.transpose(1, 2)


def asked_hunyuan(generator: Any, pipeline: Any, fed: Tensor, timesteps: Tensor, given: Conditioning) -> Tensor:
    mask, pooled = given["prompt_attention_mask"], given["pooled_prompt_embeds"]
    guidance = torch.full_like(timesteps, 1000.0)
    if "first_latents" in given.tensors:  # whose tokens the transformer itself tells time 0
        fed = put_first(fed, given["first_latents"])
    return pipeline.transformer(  # type: ignore[no-any-return]
        fed, timesteps, given["prompt_embeds"], mask, pooled, guidance, return_dict=False
    )[0]


def asked_hunyuan15(generator: Any, pipeline: Any, fed: Tensor, timesteps: Tensor, given: Conditioning) -> Tensor:
    names = ("prompt_embeds", "prompt_embeds_mask", "prompt_embeds_2", "prompt_embeds_mask_2")
    embeds, mask, embeds_2, mask_2 = (given[each] for each in names)
    beside = torch.zeros_like(torch.cat([fed, fed[:, :1]], dim=1))
    seen = given.tensors.get("image_embeds", torch.zeros(len(fed), 729, 8))
    if "first_latents" in given.tensors:
        beside = torch.cat(alone(given["first_latents"], fed), dim=1)
    return pipeline.transformer(  # type: ignore[no-any-return]
        torch.cat([fed, beside], dim=1), timesteps, embeds, mask, None, embeds_2, mask_2, seen, return_dict=False
    )[0]


def asked_ltx(generator: Any, pipeline: Any, fed: Tensor, timesteps: Tensor, given: Conditioning) -> Tensor:
    mask, (frames, height, width) = given["prompt_attention_mask"], fed.shape[2:]
    place = {"num_frames": frames, "height": height, "width": width, "rope_interpolation_scale": (8 / 25, 32, 32)}
    if type(pipeline).__name__ == "LTXConditionPipeline":
        place = generator.positions(fed.shape, fed.device)
    if "first_latents" in given.tensors:
        fed = put_first(fed, given["first_latents"])
        timesteps = timesteps[:, None] * (torch.arange(frames * height * width) >= height * width)
    tokens = pipeline.transformer(
        as_held(pipeline, fed), given["prompt_embeds"], timesteps, mask, **place, return_dict=False
    )[0]
    return as_latents(pipeline, tokens, fed.shape[1:])


def asked_opensora(generator: Any, pipeline: Any, fed: Tensor, timesteps: Tensor, given: Conditioning) -> Tensor:
    mask, fps = given["prompt_attention_mask"], torch.full((len(fed),), 24.0)
    height, width = (2 * side for side in fed.shape[3:])
    noisy = None
    if "first_latents" in given.tensors:
        fed = put_first(fed, given["first_latents"])
        noisy = (torch.arange(fed.shape[2]) > 0).expand(len(fed), -1)
    said = pipeline.transformer(fed, timesteps, given["prompt_embeds"], mask, fps, height, width, noisy)[0]
    return said[:, :4]  # type: ignore[no-any-return]


def asked_wan(generator: Any, pipeline: Any, fed: Tensor, timesteps: Tensor, given: Conditioning) -> Tensor:
    further, boundary = {}, pipeline.config.boundary_ratio
    if "image_latents" in given.tensors:
        where = alone(given["image_latents"][:, :, :1], fed)[1].expand(-1, 4, -1, -1, -1)
        fed = torch.cat([fed, where, given["image_latents"]], dim=1)
        further = {"encoder_hidden_states_image": given.tensors.get("image_embeds")}
    each_token = timesteps
    if "first_latents" in given.tensors:
        fed = put_first(fed, given["first_latents"])
        tokens = fed.shape[2:].numel() // 4
        each_token = timesteps[:, None] * (torch.arange(tokens) >= tokens // fed.shape[2])
    said = [
        denoiser(fed, each_token, given["prompt_embeds"], return_dict=False, **further)[0]
        for denoiser in generator.denoisers.values()
    ]
    high = timesteps >= 1000 * (boundary or 0)
    return torch.where(high[:, None, None, None, None], said[0], said[-1])


def asked_mochi(generator: Any, pipeline: Any, fed: Tensor, timesteps: Tensor, given: Conditioning) -> Tensor:
    mask = given["prompt_attention_mask"]
    return pipeline.transformer(  # type: ignore[no-any-return]
        fed, given["prompt_embeds"], timesteps, mask, return_dict=False
    )[0]


def asked_svd(generator: Any, pipeline: Any, fed: Tensor, timesteps: Tensor, given: Conditioning) -> Tensor:
    image = given["image_latents"][:, :, None].expand_as(fed)
    told = torch.tensor([[6, 127, 0.02]] * len(fed))
    said: Tensor = pipeline.unet(
        torch.cat([fed, image], dim=1).transpose(1, 2), timesteps, given["image_embeds"], told, return_dict=False
    )[0]
    return said.transpose(1, 2)


def asked_frames(generator: Any, pipeline: Any, fed: Tensor, timesteps: Tensor, given: Conditioning) -> Tensor:
    embeds = given["prompt_embeds"]
    if type(pipeline).__name__ == "AnimateDiffPipeline":
        embeds = embeds.repeat_interleave(fed.shape[2], dim=0)
    return pipeline.unet(fed, timesteps, embeds, return_dict=False)[0]  # type: ignore[no-any-return]


ASKED: dict[str, Callable[[Any, Any, Tensor, Tensor, Conditioning], Tensor]] = {
    "CogVideoX": asked_cogvideox,
    "HunyuanVideo15": asked_hunyuan15,
    "HunyuanVideo": asked_hunyuan,
    "LTX": asked_ltx,
    "OpenSora": asked_opensora,
    "Wan": asked_wan,
    "Mochi": asked_mochi,
    "StableVideoDiffusion": asked_svd,
    "": asked_frames,
}
"""By how the pipeline's class name begins."""
