"""What a training step of a recipe file holds in memory: `python benchmarks/recipe_memory.py recipes/*.yaml`.

Of an online recipe it is the step that learns, at the size of its rollouts.

The published model at full size by fake tensors: the very code of a step runs on one micro-batch and every tensor's
bytes are counted, but nothing is computed. Adam's two fp32 numbers a trained parameter are added. An allocator and a
device's context come on top, 10 to 15 %.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from unittest import mock

import torch
from diffusers import AutoencoderKLCogVideoX, CogVideoXDDIMScheduler, CogVideoXPipeline, CogVideoXTransformer3DModel
from live_memory import LiveMemory
from pair_memory import GIB, wan
from torch._subclasses.fake_tensor import FakeTensorMode

from reelign.config import read_yaml
from reelign.generators import Generator
from reelign.generators.base import Conditioning
from reelign.generators.cogvideox import CogVideoX
from reelign.objectives import DPO
from reelign.opening import resolve_section
from reelign.recipes.online.settings import OnlineSettings
from reelign.recipes.sampling import GenerateSettings, Sampling
from reelign.recipes.settings import StepSettings
from reelign.recipes.steps.pair import DPOStep
from reelign.training import PairBatch, Policy
from reelign.training.reference_policy import Fixed

ADAM = 8
"""Bytes a parameter: two moments in fp32."""


def main(files: list[str]) -> None:
    for file in files:
        found = memory(Path(file))
        parts = ", ".join(f"{name} {value / GIB:.2f} GiB" for name, value in found.items())
        print(f"{file}: {sum(found.values()) / GIB:.1f} GiB: {parts}", flush=True)


def memory(file: Path) -> dict[str, int]:
    """Bytes of the weights, of the step's own peak over them, and of the optimiser."""
    recipe = read_yaml(file)
    settings: StepSettings = resolve_section("align", [(str(file), recipe["align"])])
    sampling: GenerateSettings = resolve_section("generate", [(str(file), recipe["generate"])])
    one = settings
    if isinstance(settings, OnlineSettings):
        sampling = settings.rollout.over(sampling)
    else:
        one = replace(settings, reference_slots=0)
    moving = isinstance(settings, OnlineSettings) and not isinstance(settings.reference, Fixed)
    kept = settings.trainer.activation_checkpointing
    assert isinstance(settings.objective, DPO)
    # A noise table keeps its values: which of them are drawn is looked up in it.
    mode = FakeTensorMode(allow_non_fake_inputs=True)
    generator = MODELS[file.stem.rpartition("-")[0]](mode)
    with mode, mock.patch.object(torch.utils, "swap_tensors", _take):
        policy = Policy(generator, settings.lora, moving=moving)
        if kept != "none":
            generator.enable_activation_checkpointing(keep_attention=kept == "selective")
        batch = _batch(generator, sampling, one.micro_batch_size)
        held = list(generator.pipeline.transformer.parameters())
        inputs = [batch.latents, *batch.conditioning.tensors.values()]
        weights = LiveMemory(held).now
        with LiveMemory([held, inputs], fake=True) as live:
            DPOStep(settings.objective, one).accumulate_gradients(policy, batch)
    trained = sum(each.numel() for each in policy.parameters.values())
    return {"weights": weights, "activations and gradients": live.peak - weights, "Adam": ADAM * trained}


def _take(old: torch.Tensor, new: torch.Tensor) -> None:
    """What converts a module's weights: torch's own exchange refuses fake tensors that its caches still know."""
    old.data = new.data


def _batch(generator: Generator, sampling: GenerateSettings, pairs: int) -> PairBatch:
    shape = generator.latent_shape(Sampling.resolve(sampling, generator).size)
    config = generator.pipeline.transformer.config
    length, width = (
        (512, config.text_dim) if "text_dim" in config else (config.max_text_seq_length, config.text_embed_dim)
    )
    embeds = torch.empty(pairs, length, width, dtype=torch.bfloat16)
    return PairBatch(torch.empty(pairs, 2, *shape), Conditioning({"prompt_embeds": embeds}), seed=0)


def cogvideox(mode: FakeTensorMode) -> CogVideoX:
    """CogVideoX-2B without values, whose configuration is the default of diffusers' class."""
    torch.set_default_dtype(torch.bfloat16)
    with mode:
        transformer = CogVideoXTransformer3DModel()
    torch.set_default_dtype(torch.float32)
    vae = AutoencoderKLCogVideoX(block_out_channels=(8, 8, 8, 8), norm_num_groups=2, layers_per_block=1)
    scheduler = CogVideoXDDIMScheduler(
        prediction_type="v_prediction",
        rescale_betas_zero_snr=True,
        snr_shift_scale=3.0,
        timestep_spacing="trailing",
        set_alpha_to_one=True,
    )
    pipeline = CogVideoXPipeline(
        tokenizer=None, text_encoder=None, transformer=transformer, vae=vae, scheduler=scheduler
    )
    return CogVideoX(pipeline, "CogVideoX-2b")


def wan_1_3b(mode: FakeTensorMode) -> Generator:
    with mode:
        return wan(30)


MODELS = {"wan2.1-1.3b": wan_1_3b, "cogvideox-2b": cogvideox}
"""By the first part of a recipe's name."""

if __name__ == "__main__":
    main(sys.argv[1:])
