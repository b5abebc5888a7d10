"""The policy: one set of weights, a reference that stays, an adapter that plain diffusers takes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from diffusers import WanTransformer3DModel
from safetensors.torch import save_file
from torch import Tensor

from reelign.diffusion.samplers import initial_noise
from reelign.errors import ReelignError
from reelign.generators import Conditioning, Generator, Guidance, VideoSize, load_generator
from reelign.training import Draw, LoRA, Policy, load_adapter, velocity_errors

PLAIN_DIFFUSERS = """
import sys
import torch
from diffusers import WanPipeline
torch.set_num_threads(1)
folder, adapter, noise, out = sys.argv[1:]
pipe = WanPipeline.from_pretrained(folder)
def sample():
    return pipe(prompt="a red square", negative_prompt="", num_frames=9, height=16, width=16, num_inference_steps=3,
                guidance_scale=5.0, latents=torch.load(noise), max_sequence_length=8, output_type="latent").frames
base = sample()
pipe.load_lora_weights(adapter)
assert pipe.get_list_adapters() == {"transformer": ["default_0"]}, pipe.get_list_adapters()
torch.save({"base": base, "aligned": sample()}, out)
assert not [name for name in sys.modules if name.startswith("reelign")]
"""


def velocity(generator: Generator, conditioning: Conditioning) -> Tensor:
    noisy = torch.randn(2, 16, 3, 2, 2, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        return generator.velocity(noisy, torch.tensor([0.3, 0.8]), conditioning)


def move(policy: Policy, by: float = 0.5) -> None:
    """Change every trained weight, as training would."""
    chance = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in policy.parameters.values():
            parameter.add_(by * torch.randn(parameter.shape, generator=chance))


def sample(generator: Generator, size: VideoSize) -> Tensor:
    guidance = Guidance(5.0, generator.encode_prompts([""]))
    return generator.sample(generator.encode_prompts(["a red square"]), [0], size, steps=3, guidance=guidance)


def test_a_new_policy_and_its_reference_are_the_base(tiny_wan: Generator, conditioning: Conditioning) -> None:
    base = velocity(tiny_wan, conditioning)
    policy = Policy(tiny_wan, LoRA(rank=2))
    assert torch.equal(velocity(tiny_wan, conditioning), base)
    with policy.using("reference"):
        assert torch.equal(velocity(tiny_wan, conditioning), base)


def test_training_moves_the_policy_and_leaves_the_reference(tiny_wan: Generator, conditioning: Conditioning) -> None:
    base = velocity(tiny_wan, conditioning)
    policy = Policy(tiny_wan, LoRA(rank=2))
    move(policy)
    moved = velocity(tiny_wan, conditioning)
    assert (moved - base).abs().max() > 1e-3
    with policy.using("reference"):
        assert torch.equal(velocity(tiny_wan, conditioning), base)
    assert torch.equal(velocity(tiny_wan, conditioning), moved)


def test_the_adapter_comes_back_on_after_an_error(tiny_wan: Generator, conditioning: Conditioning) -> None:
    policy = Policy(tiny_wan, LoRA(rank=2))
    move(policy)
    moved = velocity(tiny_wan, conditioning)
    with pytest.raises(KeyError), policy.using("reference"):
        raise KeyError
    assert torch.equal(velocity(tiny_wan, conditioning), moved)


def test_there_is_no_second_copy_of_the_model(tiny_wan: Generator) -> None:
    transformer = tiny_wan.denoisers["transformer"]
    before = sum(parameter.numel() for parameter in transformer.parameters())
    policy = Policy(tiny_wan, LoRA(rank=2))
    trained = sum(parameter.numel() for parameter in policy.parameters.values())
    assert sum(parameter.numel() for parameter in transformer.parameters()) == before + trained
    assert trained < before / 4
    assert all("lora_" in name for name in policy.parameters)


def test_initial_weights_belong_to_their_seed_and_leave_the_global_chance_alone(tiny_wan_folder: Path) -> None:
    def state(seed: int) -> dict[str, Tensor]:
        return Policy(load_generator(str(tiny_wan_folder)), LoRA(rank=2), seed=seed).state_dict()

    generator = load_generator(str(tiny_wan_folder))
    before = torch.get_rng_state()
    Policy(generator, LoRA(rank=2))
    assert torch.equal(torch.get_rng_state(), before)
    first, same, other = state(0), state(0), state(1)
    assert all(torch.equal(first[name], same[name]) for name in first)
    assert not all(torch.equal(first[name], other[name]) for name in first)


def test_adapter_weights_are_fp32_over_a_bf16_base(tiny_wan_folder: Path) -> None:
    policy = Policy(load_generator(str(tiny_wan_folder), dtype=torch.bfloat16), LoRA(rank=2))
    assert {parameter.dtype for parameter in policy.parameters.values()} == {torch.float32}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("lora", [LoRA(rank=2), LoRA(rank=2, dora=True), None], ids=["lora", "dora", "full"])
def test_a_new_policy_errs_as_its_reference_in_every_mode(
    tiny_wan_folder: Path, conditioning: Conditioning, lora: LoRA | None, dtype: torch.dtype
) -> None:
    policy = Policy(load_generator(str(tiny_wan_folder), dtype=dtype), lora, reference=True)
    draw = Draw(torch.tensor([0.3, 0.8]), torch.randn(2, 16, 3, 2, 2, generator=torch.Generator().manual_seed(2)))
    errors = velocity_errors(policy, torch.ones(2, 16, 3, 2, 2), conditioning, draw)
    assert torch.equal(errors["policy"], errors["reference"])


def loss_of(policy: Policy, conditioning: Conditioning) -> Tensor:
    """Of two videos, by the model as it computes."""
    draw = Draw(torch.tensor([0.3, 0.8]), torch.randn(2, 16, 3, 2, 2, generator=torch.Generator().manual_seed(2)))
    return velocity_errors(policy, torch.ones(2, 16, 3, 2, 2), conditioning, draw, weights=("policy",))["policy"].mean()


def test_gradients_of_a_bf16_model_are_added_in_fp32(tiny_wan_folder: Path, conditioning: Conditioning) -> None:
    policy = Policy(load_generator(str(tiny_wan_folder), dtype=torch.bfloat16), LoRA(rank=2))
    move(policy)
    policy.refresh()
    name, master = next((name, each) for name, each in policy.parameters.items() if "lora_B" in name)
    own = dict(policy.generator.denoisers["transformer"].named_parameters())[name.removeprefix("transformer.")]
    assert own.dtype == torch.bfloat16
    loss_of(policy, conditioning).backward()
    assert master.grad is not None
    assert own.grad is None
    once = master.grad.clone()
    small = 2**-10 * once
    (own * small).sum().backward()  # a second micro-batch with a gradient that bf16 would lose beside the first
    torch.testing.assert_close(master.grad, once + small.to(torch.bfloat16).float(), rtol=1e-6, atol=0)


def test_updates_that_bf16_loses_add_up(tiny_wan_folder: Path, conditioning: Conditioning) -> None:
    policy = Policy(load_generator(str(tiny_wan_folder), dtype=torch.bfloat16), LoRA(rank=2))
    before = velocity(policy.generator, conditioning)
    name, master = next((name, each) for name, each in policy.parameters.items() if "lora_B" in name)
    own = dict(policy.generator.denoisers["transformer"].named_parameters())[name.removeprefix("transformer.")]
    with torch.no_grad():
        for parameter in policy.parameters.values():
            parameter.fill_(1.0)
    for _ in range(100):
        with torch.no_grad():
            for parameter in policy.parameters.values():
                parameter.add_(1e-4)
        policy.refresh()
    assert float(master.detach().flatten()[0]) == pytest.approx(1.01, abs=1e-4)
    assert float(own.detach().flatten()[0]) == pytest.approx(1.01, abs=4e-3)
    assert float(torch.ones((), dtype=torch.bfloat16) + 1e-4) == 1.0
    assert not torch.equal(velocity(policy.generator, conditioning), before)


def test_full_fine_tuning_trains_everything_and_keeps_a_reference_when_asked(
    tiny_wan_folder: Path, conditioning: Conditioning
) -> None:
    generator = load_generator(str(tiny_wan_folder))
    policy = Policy(generator, None)
    assert len(policy.parameters) == len(list(generator.denoisers["transformer"].parameters()))
    with pytest.raises(ReelignError, match="no reference"), policy.using("reference"):
        pass
    generator = load_generator(str(tiny_wan_folder))
    base = velocity(generator, conditioning)
    policy = Policy(generator, None, reference=True)
    move(policy, by=0.05)
    moved = velocity(generator, conditioning)
    with policy.using("reference"):
        assert torch.equal(velocity(generator, conditioning), base)
    assert torch.equal(velocity(generator, conditioning), moved)
    assert not torch.equal(moved, base)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_fully_trained_weights_are_what_from_pretrained_takes(
    tiny_wan_folder: Path, tiny_size: VideoSize, tmp_path: Path, dtype: torch.dtype
) -> None:
    policy = Policy(load_generator(str(tiny_wan_folder), dtype=dtype), None)
    move(policy, by=0.05)
    policy.refresh()
    policy.save(tmp_path)
    other = load_generator(str(tiny_wan_folder), dtype=dtype)
    load_adapter(other, tmp_path)
    assert torch.equal(sample(other, tiny_size), sample(policy.generator, tiny_size))
    plain = WanTransformer3DModel.from_pretrained(tmp_path / "transformer", torch_dtype=dtype)
    own = policy.generator.denoisers["transformer"].state_dict()
    assert all(torch.equal(tensor, own[name]) for name, tensor in plain.state_dict().items())


def test_a_dora_trains_magnitudes_and_comes_back(tiny_wan: Generator, tiny_wan_folder: Path, tmp_path: Path) -> None:
    conditioning = tiny_wan.encode_prompts(["a red square", "a disc"])
    base = velocity(tiny_wan, conditioning)
    policy = Policy(tiny_wan, LoRA(rank=2, dora=True))
    assert any("magnitude" in name for name in policy.parameters)
    torch.testing.assert_close(velocity(tiny_wan, conditioning), base, rtol=0, atol=1e-5)
    loss_of(policy, conditioning).backward()
    assert all(parameter.grad is not None for parameter in policy.parameters.values())
    move(policy, by=0.1)
    policy.save(tmp_path)
    other = load_generator(str(tiny_wan_folder))
    load_adapter(other, tmp_path)
    moved = velocity(other, conditioning)
    torch.testing.assert_close(moved, velocity(tiny_wan, conditioning), rtol=0, atol=1e-5)
    assert (moved - base).abs().max() > 1e-2


def test_extra_modules_train_with_the_adapter(tiny_wan: Generator) -> None:
    head = torch.nn.Linear(2, 1)
    policy = Policy(tiny_wan, LoRA(rank=2), extra={"head": head})
    assert policy.parameters["head.weight"] is head.weight


def test_states_load_strictly(tiny_wan: Generator) -> None:
    policy = Policy(tiny_wan, LoRA(rank=2))
    state = {name: tensor.clone() for name, tensor in policy.state_dict().items()}
    move(policy)
    policy.load_state_dict(state)
    assert all(torch.equal(tensor, state[name]) for name, tensor in policy.state_dict().items())
    state["stranger"] = state.pop(next(iter(state)))
    with pytest.raises(ReelignError, match=r"do not fit: missing .*unexpected .'stranger'"):
        policy.load_state_dict(state)


def test_a_saved_adapter_is_the_same_in_a_fresh_process_of_plain_diffusers(
    tiny_wan: Generator, tiny_wan_folder: Path, tiny_size: VideoSize, tmp_path: Path
) -> None:
    base = sample(tiny_wan, tiny_size)
    policy = Policy(tiny_wan, LoRA(rank=4, alpha=12))
    move(policy)
    file = policy.save(tmp_path / "adapter")
    assert file.is_file()
    torch.save(initial_noise((1, *tiny_wan.latent_shape(tiny_size)), [0], "cpu"), tmp_path / "noise.pt")
    arguments = [tiny_wan_folder, tmp_path / "adapter", tmp_path / "noise.pt", tmp_path / "out.pt"]
    done = subprocess.run(
        [sys.executable, "-c", PLAIN_DIFFUSERS, *map(str, arguments)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    out = torch.load(tmp_path / "out.pt")
    torch.testing.assert_close(out["base"], base, rtol=0, atol=1e-5)
    torch.testing.assert_close(out["aligned"], sample(tiny_wan, tiny_size), rtol=0, atol=1e-5)
    assert (out["aligned"] - out["base"]).abs().max() > 1e-2


def test_a_saved_adapter_loads_into_a_generator(
    tiny_wan: Generator, tiny_wan_folder: Path, tiny_size: VideoSize, tmp_path: Path
) -> None:
    policy = Policy(tiny_wan, LoRA(rank=4, alpha=12))
    move(policy)
    file = policy.save(tmp_path / "adapter")
    for path in (file, file.parent):
        other = load_generator(str(tiny_wan_folder))
        load_adapter(other, path)
        assert other.pipeline.get_list_adapters() == {"transformer": ["aligned"]}
        torch.testing.assert_close(sample(other, tiny_size), sample(tiny_wan, tiny_size), rtol=0, atol=1e-5)
        assert not any(parameter.requires_grad for parameter in other.denoisers["transformer"].parameters())


@pytest.mark.parametrize("prefix", ["", "unet.", "transformer.strangers."])
def test_an_adapter_none_of_whose_keys_fit_is_refused(tiny_wan: Generator, tmp_path: Path, prefix: str) -> None:
    layers = {
        f"{prefix}blocks.9.attn1.to_q.lora_A.weight": torch.ones(2, 24),
        f"{prefix}blocks.9.attn1.to_q.lora_B.weight": torch.ones(24, 2),
    }
    save_file(layers, tmp_path / "strange.safetensors")
    with pytest.raises(ReelignError, match="strange"):
        load_adapter(tiny_wan, tmp_path / "strange.safetensors")


def test_an_adapter_of_another_width_is_refused(tiny_wan: Generator, tmp_path: Path) -> None:
    layers = {
        "transformer.blocks.0.attn1.to_q.lora_A.weight": torch.ones(2, 48),
        "transformer.blocks.0.attn1.to_q.lora_B.weight": torch.ones(48, 2),
    }
    save_file(layers, tmp_path / "wide.safetensors")
    with pytest.raises(ReelignError, match="wide"):
        load_adapter(tiny_wan, tmp_path / "wide.safetensors")


@pytest.mark.parametrize("content", [b"", b"no tensors here"])
def test_a_file_that_is_no_adapter_is_refused(tiny_wan: Generator, tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "broken.safetensors"
    path.write_bytes(content)
    with pytest.raises(ReelignError, match="broken"):
        load_adapter(tiny_wan, path)


def test_a_missing_adapter_is_refused(tiny_wan: Generator, tmp_path: Path) -> None:
    with pytest.raises(ReelignError, match="nowhere"):
        load_adapter(tiny_wan, tmp_path / "nowhere")


def test_an_adapter_only_some_of_whose_keys_fit_is_refused(tiny_wan: Generator, tmp_path: Path) -> None:
    layers = {
        f"transformer.blocks.{block}.attn1.to_q.lora_{side}.weight": torch.ones(shape)
        for block in (0, 7)
        for side, shape in (("A", (2, 24)), ("B", (24, 2)))
    }
    save_file(layers, tmp_path / "deeper.safetensors")
    with pytest.raises(ReelignError, match=r"deeper.*blocks\.7\.attn1\.to_q"):
        load_adapter(tiny_wan, tmp_path / "deeper.safetensors")
