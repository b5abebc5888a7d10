"""Models with two denoisers: which of them train, what is saved of each, and that the other one is left alone."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from diffusers import WanPipeline, WanTransformer3DModel
from safetensors.torch import load_file
from torch import Tensor

from generators.pipelines import PROMPTS, assert_close, by_pipeline, by_reelign
from generators.tiny_wan22 import save_wan22
from reelign.errors import ReelignError
from reelign.generators import Generator, VideoSize, load_generator
from reelign.training import Draw, LoRA, Policy, TrainerSettings, load_adapter, velocity_errors
from reelign.training.adapter_files import start_from, weights_key
from reelign.training.adapters import ADAPTER_FILE, lora_files
from reelign.training.optimisers import make_optimiser
from reelign.training.ranks import Ranks
from training.processes import run_in_ranks
from training.sharded_run import assert_split_experts_are_whole

SIZE = VideoSize(5, 16, 16)
LORA = LoRA(rank=2, alpha=4)
HIGH, LOW = "transformer", "transformer_2"
LOW_FILE = "pytorch_lora_weights_transformer_2.safetensors"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "wan22"
    save_wan22(folder)
    return folder


@pytest.fixture
def generator(folder: Path) -> Generator:
    return load_generator(str(folder))


def moved(policy: Policy) -> Policy:
    """As after training: every weight of the adapter is elsewhere."""
    chance = torch.Generator().manual_seed(0)
    state = policy.state_dict()
    policy.load_state_dict(
        {name: each + 0.1 * torch.randn(each.shape, generator=chance) for name, each in state.items()}
    )
    return policy


def velocity(generator: Generator, sigma: float) -> Tensor:
    noisy = torch.randn(1, *generator.latent_shape(SIZE), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        return generator.velocity(noisy, torch.tensor([sigma]), generator.encode_prompts(PROMPTS[:1]))


def test_a_named_expert_trains_and_the_other_stays_the_base(generator: Generator, folder: Path) -> None:
    policy = moved(Policy(generator, LORA, experts=[LOW]))
    assert {name.partition(".")[0] for name in policy.parameters} == {LOW}
    base = load_generator(str(folder))
    assert velocity(generator, 0.95).equal(velocity(base, 0.95))
    assert not velocity(generator, 0.3).equal(velocity(base, 0.3))
    with policy.using("reference"):
        assert velocity(generator, 0.3).equal(velocity(base, 0.3))


def test_a_step_at_one_experts_levels_leaves_the_others_weights_and_optimiser_alone(generator: Generator) -> None:
    """The second step too: Adam's momentum of an expert moves no weight while the other one is trained."""
    policy = Policy(generator, LORA)
    optimiser = make_optimiser(policy.parameters.values(), TrainerSettings(learning_rate=1e-2))
    latents = torch.randn(2, *generator.latent_shape(SIZE), generator=torch.Generator().manual_seed(0))
    conditioning = generator.encode_prompts(PROMPTS)

    def step(level: float) -> dict[str, Tensor]:
        before = {name: each.clone() for name, each in policy.state_dict().items()}
        optimiser.zero_grad(set_to_none=True)
        draw = Draw(torch.full((2,), level), torch.randn(latents.shape, generator=torch.Generator().manual_seed(2)))
        velocity_errors(policy, latents, conditioning, draw, weights=("policy",))["policy"].mean().backward()
        optimiser.step()
        return {name: each for name, each in policy.state_dict().items() if not each.equal(before[name])}

    for level, own in ((0.95, HIGH), (0.3, LOW), (0.95, HIGH)):
        assert {name.partition(".")[0] for name in step(level)} == {own}
    steps = {name: int(optimiser.state[each]["step"]) for name, each in policy.parameters.items()}
    assert {count for name, count in steps.items() if name.startswith(f"{HIGH}.")} == {2}
    assert {count for name, count in steps.items() if name.startswith(f"{LOW}.")} == {1}


def test_both_experts_adapters_load_into_plain_diffusers_and_sample_the_same(
    generator: Generator, folder: Path, tmp_path: Path
) -> None:
    policy = moved(Policy(generator, LORA))
    size = VideoSize(9, 16, 16)
    ours = by_reelign(generator, size, 5.0)
    assert policy.save(tmp_path) == tmp_path / ADAPTER_FILE
    second = tmp_path / LOW_FILE
    assert lora_files(tmp_path) == [tmp_path / ADAPTER_FILE, second]
    assert all(name.startswith("transformer.") for file in lora_files(tmp_path) for name in load_file(file))

    plain = WanPipeline.from_pretrained(folder)
    plain.set_progress_bar_config(disable=True)
    plain.load_lora_weights(tmp_path)
    plain.load_lora_weights(tmp_path, weight_name=LOW_FILE, load_into_transformer_2=True)
    assert_close(ours, by_pipeline(plain, generator, size, 5.0))

    again = load_generator(str(folder))
    load_adapter(again, tmp_path)
    assert_close(by_reelign(again, size, 5.0), ours)
    before = weights_key(tmp_path)
    second.unlink()
    assert weights_key(tmp_path) != before


def test_the_second_experts_adapter_alone_is_saved_and_loaded(
    generator: Generator, folder: Path, tmp_path: Path
) -> None:
    policy = moved(Policy(generator, LORA, experts=[LOW]))
    assert policy.save(tmp_path) == tmp_path / LOW_FILE
    again, base = load_generator(str(folder)), load_generator(str(folder))
    load_adapter(again, tmp_path)
    torch.testing.assert_close(velocity(again, 0.3), velocity(generator, 0.3))
    assert velocity(again, 0.95).equal(velocity(base, 0.95))


def test_a_part_of_an_adapter_is_never_left_out_in_silence(
    generator: Generator, tiny_wan: Generator, tmp_path: Path
) -> None:
    Policy(generator, LORA).save(tmp_path)
    with pytest.raises(ReelignError, match="holds an adapter of transformer_2"):
        load_adapter(tiny_wan, tmp_path)


def test_a_policy_goes_on_from_both_experts_adapters(generator: Generator, folder: Path, tmp_path: Path) -> None:
    first = moved(Policy(generator, LORA))
    first.save(tmp_path)
    second = Policy(load_generator(str(folder)), LORA, seed=1, moving=True)
    start_from(second, tmp_path)
    for sigma in (0.3, 0.95):
        assert velocity(second.generator, sigma).equal(velocity(generator, sigma))
    one = Policy(load_generator(str(folder)), LORA, moving=True, experts=[HIGH])
    with pytest.raises(ReelignError, match=r"is no adapter of transformer of .*wan22"):
        start_from(one, tmp_path)


def test_full_fine_tuning_of_an_expert_saves_what_from_pretrained_loads(
    generator: Generator, folder: Path, tmp_path: Path
) -> None:
    policy = moved(Policy(generator, None, experts=[LOW], reference=True))
    base = load_generator(str(folder))
    with policy.using("reference"):
        torch.testing.assert_close(velocity(generator, 0.3), velocity(base, 0.3))
    assert (velocity(generator, 0.3) - velocity(base, 0.3)).abs().max() > 1e-2
    policy.save(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [LOW]
    model = WanTransformer3DModel.from_pretrained(tmp_path, subfolder=LOW)
    for name, each in generator.denoisers[LOW].state_dict().items():
        torch.testing.assert_close(model.state_dict()[name], each)
    load_adapter(base, tmp_path)
    torch.testing.assert_close(velocity(base, 0.3), velocity(generator, 0.3))


def test_names_that_the_model_does_not_have_are_refused(tiny_wan: Generator) -> None:
    with pytest.raises(ReelignError, match=r"experts names 'transformer_2', and .* has no such denoiser") as caught:
        Policy(tiny_wan, LORA, experts=[LOW])
    assert "transformer" in caught.value.mend


@pytest.mark.slow
def test_experts_split_over_ranks_whose_rows_are_each_anothers(folder: Path, tmp_path: Path) -> None:
    """Both train, or one and the other is split too."""
    run_in_ranks(assert_split_experts_are_whole, str(folder), tmp_path / "saved", folder=tmp_path)


def sum_of_two() -> None:
    """Rank 0 has gradients of the first and second weight, rank 1 of the second alone; of the third nobody has."""
    from accelerate import PartialState

    rank = PartialState(cpu=True).process_index
    weights = [torch.nn.Parameter(torch.zeros(2)) for _ in range(3)]
    weights[1].grad = torch.full((2,), 1.0 + rank)
    if rank == 0:
        weights[0].grad = torch.full((2,), 5.0)
    Ranks(rank, 2).sum_gradients(weights)
    found = [None if each.grad is None else each.grad.tolist() for each in weights]
    assert found == [[5.0, 5.0], [3.0, 3.0], None], found


@pytest.mark.slow
def test_ranks_add_up_gradients_of_experts_that_not_all_of_them_asked(tmp_path: Path) -> None:
    run_in_ranks(sum_of_two, folder=tmp_path)
