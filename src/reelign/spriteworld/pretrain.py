"""Reproduce the shipped base pipeline from nothing: `python -m reelign.spriteworld.pretrain`.

One more stream and the SFT objective in the same Trainer: videos of the imperfect mix, their latents under the
closed-form autoencoder, flow matching on transformer and text encoder together, a moving average of the weights.
Interrupt it at will; the same command goes on where it stopped.
"""

from __future__ import annotations

import argparse
import json
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKLWan
from safetensors.torch import load_file, save_file
from torch import Tensor
from tqdm import trange

from reelign.diffusion.flow import add_noise, velocity_target
from reelign.diffusion.noise_levels import sample_sigmas
from reelign.diffusion.seeds import generator_from, seed_from
from reelign.generators.base import Conditioning, Guidance
from reelign.generators.wan import Wan
from reelign.objectives.sft import sft_loss
from reelign.spriteworld.autoencoder import build_autoencoder
from reelign.spriteworld.judges import attributes, scores
from reelign.spriteworld.pipeline_parts import build_pipeline, build_tokenizer, save_pipeline
from reelign.spriteworld.prompts import all_captions, parse
from reelign.spriteworld.world import Mix, sample_mix
from reelign.training.checkpoints import load_checkpoint
from reelign.training.policy import Policy
from reelign.training.settings import TrainerSettings
from reelign.training.streams import ShuffledStream
from reelign.training.trainer import Trainer

SHIPPED = Path(__file__).parent / "pipeline"


@dataclass(frozen=True, kw_only=True, slots=True)
class Pretraining:
    """Settings of the base model's training."""

    videos: int = 24_000
    cycles: tuple[int, ...] = (10_000, 10_000)
    """Optimiser steps of each cosine cycle; a cycle starts from the averaged weights of the one before it."""
    mixes: tuple[Mix, ...] = (Mix(vq=0.4, mq=0.4), Mix())
    """What each cycle learns from: shapes and motions first, and then how often the web spoils them."""
    restart: float = 0.5
    """Learning rates of a cycle, as a share of those of the cycle before."""
    batch_size: int = 32
    learning_rate: float = 1.5e-3
    """AdamW's, for embeddings, norms, biases, the last projection and the text encoder."""
    matrix_learning_rate: float = 8e-3
    """Muon's, for the matrices of the transformer's blocks, in units of AdamW's (its update matched in RMS)."""
    warmup_steps: int = 200
    ema_decay: float = 0.999
    caption_dropout: float = 0.1
    """Share of samples trained on the empty prompt, for classifier-free guidance."""
    width: int = 128
    layers: int = 4
    patch: tuple[int, int, int] = (1, 1, 1)
    """Larger tokens are fewer and cheaper, but a token's noise must fit through `width` with room to spare."""
    compile: bool = True
    """Compile the transformer where there is a C++ compiler: a fifth less time."""
    seed: int = 0

    def __post_init__(self) -> None:
        if len(self.cycles) != len(self.mixes):
            raise ValueError(f"cycles must be {len(self.mixes)} numbers, one a mix, got {len(self.cycles)}")


@dataclass(frozen=True)
class CaptionedBatch:
    """Latents (B, C, F, H, W), token ids and their mask (B, length), and the seed of the batch's draws."""

    latents: Tensor
    tokens: Conditioning
    seed: int


class PretrainStep:
    """Flow matching with text dropout, gradients through the text encoder too."""

    def __init__(self, settings: Pretraining) -> None:
        self.settings = settings

    def accumulate_gradients(self, policy: Policy, batch: CaptionedBatch) -> dict[str, float]:
        generator = generator_from(batch.seed)
        count = len(batch.latents)
        latents = batch.latents.float()
        # A fifth uniform, the rest logit-normal: the middle of the path matters most, its ends must not be unseen.
        middle = sample_sigmas(count, "logit_normal", shift=1.0, generator=generator)
        everywhere = sample_sigmas(count, "uniform", shift=1.0, generator=generator)
        sigma = torch.where(torch.rand(count, generator=generator) < 0.2, everywhere, middle)
        noise = torch.randn(latents.shape, generator=generator)
        text_encoder = policy.generator.pipeline.text_encoder
        mask = batch.tokens["mask"]
        embeds = text_encoder(batch.tokens["ids"], mask).last_hidden_state * mask.unsqueeze(-1)
        predicted = policy.generator.velocity(
            add_noise(latents, noise, sigma), sigma, Conditioning({"prompt_embeds": embeds})
        )
        error = (predicted - velocity_target(latents, noise)).square().flatten(1).mean(dim=1)
        loss = sft_loss(error).mean()
        loss.backward()
        return {"loss": float(loss.detach())}


def pretrain(folder: Path, settings: Pretraining) -> Wan:
    """Train in `folder`, going on from what is there, and return the generator with its averaged weights."""
    folder.mkdir(parents=True, exist_ok=True)
    vae = _autoencoder(folder, settings)
    pipeline = build_pipeline(
        vae, seed=settings.seed, width=settings.width, layers=settings.layers, patch=settings.patch
    )
    if settings.compile and shutil.which("g++"):
        pipeline.transformer.compile(dynamic=False)
    generator = Wan(pipeline, str(folder))
    policy = Policy(generator, None, extra={"text_encoder": pipeline.text_encoder})
    for cycle, mix in enumerate(settings.mixes):
        data = _dataset(folder, vae, settings, mix)
        _train_cycle(folder / f"cycle-{cycle}", policy, data, settings, cycle)
    return generator


def _train_cycle(folder: Path, policy: Policy, data: dict[str, Tensor], settings: Pretraining, cycle: int) -> None:
    """One cosine of the learning rate, after which the policy has the moving average of its weights."""
    share = settings.restart**cycle
    stream = ShuffledStream(
        _captioned_batch(settings),
        data["latents"],
        _tokens([*all_captions(), ""]),
        data["captions"].long(),
        batch_size=settings.batch_size,
        seed=seed_from(settings.seed, "cycle", cycle) if cycle else settings.seed,
    )
    trainer = Trainer(
        policy,
        stream,
        PretrainStep(settings),
        TrainerSettings(
            steps=settings.cycles[cycle],
            learning_rate=share * settings.learning_rate,
            warmup_steps=settings.warmup_steps,
            schedule="cosine",
            ema_decay=settings.ema_decay,
            checkpoint_every=250,
        ),
        folder,
        title=f"pretrain, cycle {cycle + 1} of {len(settings.cycles)}",
        optimisers=_optimisers(policy, settings, share),
    )
    trainer.train()
    finished = load_checkpoint(trainer.checkpoints)
    if finished is not None and finished.ema is not None:
        policy.load_state_dict(finished.ema)


def _optimisers(policy: Policy, settings: Pretraining, share: float) -> list[torch.optim.Optimizer]:
    """Muon for the transformer's matrices, AdamW for the rest: several times fewer steps than AdamW for all."""
    matrices: list[torch.nn.Parameter] = []
    rest: list[torch.nn.Parameter] = []
    for name, parameter in policy.parameters.items():
        within = name.startswith("transformer.blocks.")
        (matrices if within and parameter.ndim == 2 else rest).append(parameter)
    return [
        torch.optim.AdamW(rest, lr=share * settings.learning_rate, betas=(0.9, 0.98), weight_decay=0.0),
        torch.optim.Muon(
            matrices, lr=share * settings.matrix_learning_rate, weight_decay=0.0, adjust_lr_fn="match_rms_adamw"
        ),
    ]


def gates(generator: Wan, *, samples: int, seed: int, guidance_scale: float | None = None) -> dict[str, Any]:
    """How well the base does what it was trained for: attribute accuracy and true scores of its samples.

    Every caption equally often; the standard error of an accuracy over n samples is at most 0.5/√n.
    """
    defaults = generator.defaults
    texts = all_captions()
    prompts = [texts[index % len(texts)] for index in range(samples)]
    scale = defaults.guidance_scale if guidance_scale is None else guidance_scale
    videos = []
    for start in range(0, samples, 48):
        chunk = prompts[start : start + 48]
        latents = generator.sample(
            generator.encode_prompts(chunk),
            [seed_from(seed, "gate", start + offset) for offset in range(len(chunk))],
            defaults.size,
            steps=defaults.num_inference_steps,
            guidance=Guidance(scale, generator.encode_prompts([""] * len(chunk))),
        )
        videos.append(generator.decode(latents))
    clips = torch.cat(videos)
    right = (attributes(clips) == parse(prompts)).float().mean(dim=0)
    accuracy = dict(zip(("colour", "shape", "motion"), right.tolist(), strict=True))
    return {
        "samples": samples,
        "guidance_scale": scale,
        **{name: round(value, 4) for name, value in accuracy.items()},
        **{name: round(float(value.mean()), 4) for name, value in scores(clips, prompts).items()},
    }


def _mix_videos(start: int, count: int, seed: int, mix: Mix) -> tuple[Tensor, list[str]]:
    videos, texts, *_ = sample_mix(count, generator_from(seed, "mix", start), mix=mix)
    return videos, texts


def _autoencoder(folder: Path, settings: Pretraining) -> AutoencoderKLWan:
    """Built once and kept, since the transformer is trained on its very latents."""
    path = folder / "vae"
    if not path.exists():
        beside = folder / "vae.tmp"
        build_autoencoder(_mix_videos(0, 1500, settings.seed, settings.mixes[0])[0]).save_pretrained(beside)
        beside.rename(path)
    vae: AutoencoderKLWan = AutoencoderKLWan.from_pretrained(path)
    return vae


@torch.no_grad()
def _dataset(folder: Path, vae: AutoencoderKLWan, settings: Pretraining, mix: Mix) -> dict[str, Tensor]:
    """Latents (fp16) and caption indices of a training mix, encoded once and kept."""
    shares = f"{mix.vq:g}-{mix.mq:g}-{mix.caption:g}-{mix.weakest:g}"
    path = folder / f"mix-{shares}-{settings.videos}-{settings.seed}.safetensors"
    if path.exists():
        return load_file(path)
    encoder = Wan(
        build_pipeline(vae, seed=settings.seed, width=settings.width, layers=1, patch=settings.patch), str(folder)
    )
    row = {text: index for index, text in enumerate(all_captions())}
    latents, captions = [], []
    for start in trange(0, settings.videos, 500, desc="encode the mix"):
        videos, texts = _mix_videos(start, 500, settings.seed, mix)
        latents.append(encoder.encode(videos).half())
        captions.append(torch.tensor([row[text] for text in texts], dtype=torch.int32))
    data = {"latents": torch.cat(latents), "captions": torch.cat(captions)}
    save_file(data, path.with_suffix(".tmp"))
    path.with_suffix(".tmp").rename(path)
    return data


def _tokens(texts: list[str]) -> Conditioning:
    encoded = build_tokenizer()(texts, padding="max_length", truncation=True, return_tensors="pt")
    return Conditioning({"ids": encoded.input_ids, "mask": encoded.attention_mask})


def _captioned_batch(settings: Pretraining) -> Any:
    """A batch maker that swaps a share of the captions for the empty prompt."""
    empty = _tokens([""])

    def make(latents: Tensor, tokens: Conditioning, seed: int) -> CaptionedBatch:
        dropped = torch.rand(len(latents), generator=generator_from(seed, "drop")) < settings.caption_dropout
        mixed = {name: torch.where(dropped[:, None], empty[name], tokens[name]) for name in ("ids", "mask")}
        return CaptionedBatch(latents, Conditioning(mixed), seed)

    return make


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, default=Path("pretrain"), help="where checkpoints go")
    parser.add_argument("--out", type=Path, default=SHIPPED, help="where the pipeline folder is written")
    parser.add_argument(
        "--cycles",
        type=int,
        nargs=len(Pretraining().mixes),
        default=Pretraining().cycles,
        help="optimiser steps of each cycle",
    )
    parser.add_argument("--samples", type=int, default=576, help="samples the gates are measured on")
    arguments = parser.parse_args()
    settings = Pretraining(cycles=tuple(arguments.cycles))
    generator = pretrain(arguments.work, settings)
    save_pipeline(generator.pipeline, arguments.out)
    measured: dict[str, Any] = {"settings": asdict(settings)}
    shipped = Wan(type(generator.pipeline).from_pretrained(arguments.out, dtype=torch.float32), str(arguments.out))
    shipped.pipeline.set_progress_bar_config(disable=True)
    measured["gates"] = gates(shipped, samples=arguments.samples, seed=1)
    (arguments.out / "gates.json").write_text(json.dumps(measured, indent=2) + "\n")
    print(json.dumps(measured, indent=2))


if __name__ == "__main__":
    main()
