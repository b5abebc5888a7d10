"""Open-Sora 1.2's own ways: published weights and what they compute, chunks of 17 frames, no text, first frames."""

from __future__ import annotations

import copy
import json
import math
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor

from generators.opensora_reference import published_sample
from generators.pipelines import PROMPTS, SEEDS, by_reelign
from generators.tiny_opensora import PIPELINE_DEPTH, SPATIAL, STDIT, TEMPORAL, save_public, stdit_weights, vae_weights
from reelign.diffusion.samplers import initial_noise, sample_euler
from reelign.errors import ReelignError
from reelign.generators import Conditioning, Generator, Guidance, VideoSize, family_of, load_generator
from reelign.generators.opensora.convert import convert
from reelign.generators.opensora.family import OpenSora
from reelign.generators.opensora.stdit import STDiT3
from reelign.generators.opensora.text import cleaned, with_score
from reelign.generators.opensora.vae import OpenSoraVAE
from reelign.generators.published import shapes_of
from reelign.generators.trunk import features, make_trunk
from reelign.training import LoRA, Policy


@pytest.fixture
def opensora(loaded: dict[str, Generator]) -> Generator:
    return loaded["opensora"]


@pytest.fixture(scope="module")
def stdit() -> STDiT3:
    model = STDiT3(**STDIT).eval()
    model.load_state_dict(stdit_weights())
    return model


def drawn(shape: tuple[int, ...], seed: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


LATENTS = drawn((2, 4, 6, 3, 4), 0)
"""An odd side, which patches of 2 fill up."""
TEXT = drawn((2, 8, 32), 1)
MASK = torch.tensor([[1] * 5 + [0] * 3, [1] * 8])
TIMES, FPS = torch.tensor([312.5, 987.0]), torch.tensor([24.0, 24.0])


@torch.no_grad()
def said(model: STDiT3, latents: Tensor = LATENTS, fps: Tensor = FPS, noisy: Tensor | None = None) -> Tensor:
    found: Tensor = model(latents, TIMES, TEXT, MASK, fps, 24, 32, noisy)[0]
    return found


# Numbers of the published code, tag v1.2.0, run on the same weights and inputs; in it xformers' attention of blocks was
# replaced by torch's with a mask. They stand at latent frame 3, row 1, column 2, first two channels of both videos.


def test_the_published_weights_compute_what_the_published_code_computes(stdit: STDiT3) -> None:
    """The published code's numbers in float64 throughout: in fp32 its waves of time differ by machine, up to 2.8e-5."""
    exact = copy.deepcopy(stdit).double()
    text, times, fps = TEXT.double(), TIMES.double(), FPS.double()

    def says(latents: Tensor, fps: Tensor, noisy: Tensor | None = None) -> Tensor:
        with torch.no_grad():
            found: Tensor = exact(latents.double(), times, text, MASK, fps, 24, 32, noisy)[0]
        return found[:, :2, :, 1, 2].float()

    expected = torch.tensor([[1.986755, -1.352661], [-1.873323, 1.776175]])
    torch.testing.assert_close(says(LATENTS, fps)[:, :, 3], expected, rtol=0, atol=1e-5)
    given = torch.tensor([[False] + [True] * 5] * 2)
    expected = torch.tensor([[2.147750, -1.412715], [-1.938111, 1.717451]])
    torch.testing.assert_close(says(LATENTS, fps, given)[:, :, 3], expected, rtol=0, atol=1e-5)
    expected = torch.tensor([[0.034696, -2.848831], [-1.508405, -0.079873]])
    picture = says(LATENTS[:, :, :1], torch.tensor([120.0, 120.0]).double())
    torch.testing.assert_close(picture[:, :, 0], expected, rtol=0, atol=1e-5)


def test_in_bf16_times_and_places_are_rounded_as_the_published_code_rounds_them() -> None:
    """In fp32 the same numbers are up to 0.5 away: timestep 987 is 988 in bf16, where 4 lie between neighbours."""
    model = STDiT3(**STDIT).eval()
    model.load_state_dict(stdit_weights())
    expected = torch.tensor([[1.929688, -1.476562], [-2.203125, 1.289062]])
    torch.testing.assert_close(said(model.bfloat16())[:, :2, 3, 1, 2].float(), expected, rtol=0, atol=0.06)


def test_the_published_sampler_ends_where_ours_does(opensora: Generator, stdit: STDiT3) -> None:
    """Four steps with guidance 7 over 34 frames of 24 x 32. The published VAE has 8 x 8 pixels for a latent and the
    tiny one 2 x 2, so the shift is put in: √(24·32 / 512² · 10)."""
    shift = math.sqrt(24 * 32 / 512**2 * 10)
    even = torch.tensor([1.0, 0.75, 0.5, 0.25, 0.0])
    no_text = stdit.y_embedder.y_embedding.expand_as(TEXT)

    def guided(latents: Tensor, sigma: Tensor) -> Tensor:
        sides = [stdit(latents, sigma * 1000, text, MASK, FPS, 24, 32)[0][:, :4] for text in (TEXT, no_text)]
        return -(sides[1] + 7 * (sides[0] - sides[1]))

    with torch.no_grad():
        end = sample_euler(guided, drawn((2, 4, 10, 3, 4), 2), shift * even / (1 + (shift - 1) * even))
    expected = torch.tensor([[-1.722454, 1.108254], [-3.496561, -0.079914]])
    torch.testing.assert_close(end[:, :2, 3, 1, 2], expected, rtol=0, atol=2e-4)


def test_the_published_vae_encodes_and_decodes_as_ours() -> None:
    """The last latent frame at row 1, column 2, and the last frame's pixel at row 3, column 4."""
    vae = OpenSoraVAE(**SPATIAL, **TEMPORAL).eval()
    vae.load_state_dict(vae_weights())
    for frames, latent, pixel in (
        (34, [0.096193, -0.119094, -0.209045, -0.254084], [0.232153, -0.599761, -0.902108]),
        (1, [0.080509, -0.117278, -0.129551, -0.271299], [1.588426, -0.577290, 0.420296]),
    ):
        video = torch.rand((1, 3, frames, 6, 8), generator=torch.Generator().manual_seed(3)) * 2 - 1
        with torch.no_grad():
            raw = vae.encode(video).latent_dist.mode()
            decoded = vae.decode(raw).sample
        latents = (raw - vae.shift) / vae.scale
        assert decoded.shape == video.shape
        torch.testing.assert_close(latents[0, :, -1, 1, 2], torch.tensor(latent), rtol=0, atol=2e-6)
        torch.testing.assert_close(decoded[0, :, -1, 3, 4], torch.tensor(pixel), rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("asked", "nearest", "latents"),
    [
        ((51, 240, 424), (51, 240, 424), (15, 120, 212)),
        ((16, 241, 7), (17, 240, 8), (5, 120, 4)),
        ((8, 1, 1), (1, 2, 2), (1, 1, 1)),
        ((400, 16, 16), (408, 16, 16), (120, 8, 8)),
    ],
)
def test_a_picture_or_whole_chunks(
    opensora: Generator, asked: tuple[int, int, int], nearest: tuple[int, int, int], latents: tuple[int, int, int]
) -> None:
    assert opensora.legal(VideoSize(*asked)) == VideoSize(*nearest)
    assert opensora.latent_shape(VideoSize(*nearest)) == (4, *latents)


def test_larger_and_longer_clips_are_sampled_at_higher_noise(opensora: Generator) -> None:
    """512 x 512 pixels in one frame are not shifted; 4 times the pixels or 5 latent frames by 2 and √5."""
    for shape, shift in (((4, 1, 256, 256), 1), ((4, 1, 512, 512), 2), ((4, 5, 256, 256), 5**0.5)):
        expected = torch.tensor([1, shift / (1 + shift), 0])  # 1/2 becomes shift/2 over 1 + (shift - 1)/2
        torch.testing.assert_close(opensora.sigmas(2, shape), expected, rtol=0, atol=1e-6)


def test_a_picture_samples_as_published(opensora: Generator) -> None:
    size = VideoSize(1, 16, 24)
    noise = initial_noise((2, *opensora.latent_shape(size)), SEEDS, "cpu")
    expected = published_sample(opensora.pipeline, PROMPTS, noise, size, 4, 5.0)
    torch.testing.assert_close(by_reelign(opensora, size, 5.0), expected, rtol=0, atol=1e-4)


def test_no_text_is_learned_features_cut_to_the_prompts_length(opensora: Generator) -> None:
    found = opensora.encode_prompts(["", "a disc aesthetic score: 5.0."])
    nothing = opensora.pipeline.transformer.y_embedder.y_embedding
    assert torch.equal(found["prompt_embeds"][0], nothing)
    assert found["unconditional"].tolist() == [True, False]
    assert found["prompt_attention_mask"][0].all()
    noisy, sigma, row = drawn((1, 4, 5, 4, 4), 0), torch.tensor([0.5]), torch.tensor([1])
    prompt = Conditioning(
        {**found.take(row).tensors, "prompt_attention_mask": torch.tensor([[True] * 3 + [False] * 5])}
    )
    with torch.no_grad():
        guided = opensora.guided_velocity(noisy, sigma, prompt, Guidance(3.0, found.take(torch.tensor([0]))))
        short = found.take(torch.tensor([0])).joined(
            Conditioning({"prompt_attention_mask": prompt["prompt_attention_mask"]})
        )
        positive, negative = opensora.velocity(noisy, sigma, prompt), opensora.velocity(noisy, sigma, short)
    torch.testing.assert_close(guided, negative + 3 * (positive - negative))
    assert (negative - opensora.velocity(noisy, sigma, found.take(torch.tensor([0])))).abs().max() > 1e-3


def test_the_frame_rate_that_the_model_is_told_stands_beside_the_weights(
    family_folders: dict[str, Path], opensora: Generator, tmp_path: Path
) -> None:
    copy = Path(shutil.copytree(family_folders["opensora"], tmp_path / "copy"))
    (copy / "reelign.json").write_text(json.dumps({"told": {"fps": 8.0}}))
    other = load_generator(str(copy))
    noisy, sigma, text = drawn((1, 4, 5, 4, 4), 0), torch.tensor([0.5]), opensora.encode_prompts(PROMPTS[:1])
    with torch.no_grad():
        assert (other.velocity(noisy, sigma, text) - opensora.velocity(noisy, sigma, text)).abs().max() > 1e-3


def test_a_clip_goes_on_from_a_first_frame(opensora: Generator) -> None:
    """The sampler ends on the picture's latents, and of them there is no error; without an image all is made."""
    size = VideoSize(17, 16, 16)
    assert opensora.takes_images
    assert not opensora.needs_images
    text = opensora.encode_prompts(PROMPTS)
    images = torch.rand((2, 3, 20, 32), generator=torch.Generator().manual_seed(0))
    image = opensora.encode_condition(images, size)
    both = text.joined(image)
    guidance = Guidance(5.0, opensora.encode_prompts(["", ""]).joined(image))
    made = opensora.sample(both, SEEDS, size, steps=3, guidance=guidance)
    torch.testing.assert_close(made[:, :, :1], image["first_latents"], rtol=0, atol=1e-5)
    assert (made[:, :, 1:] - by_reelign(opensora, size, 5.0)[:, :, 1:]).abs().max() > 1e-2
    assert opensora.clean_mask(made.shape, text) is None
    # Of 32 columns for 20 rows the middle 20 are kept, and what borders on them when they are scaled.
    for column, seen in ((0, False), (31, False), (16, True)):
        changed = images.clone()
        changed[..., column] = 1 - changed[..., column]
        other = opensora.encode_condition(changed, size)["first_latents"]
        assert torch.equal(other, image["first_latents"]) is not seen


@pytest.fixture
def own(family_folders: dict[str, Path]) -> Generator:
    return load_generator(str(family_folders["opensora"]))


def test_lora_takes_attention_and_not_the_layer_that_cuts_patches(own: Generator) -> None:
    layers = {name.partition(".lora_")[0].removeprefix("transformer.") for name in Policy(own, LoRA(rank=2)).parameters}
    blocks = [f"{kind}_blocks.{index}" for kind in ("spatial", "temporal") for index in range(PIPELINE_DEPTH)]
    parts = ("attn.qkv", "attn.proj", "cross_attn.q_linear", "cross_attn.kv_linear", "cross_attn.proj")
    assert layers == {f"{block}.{part}" for block in blocks for part in parts}


def test_full_fine_tuning_leaves_what_was_never_trained_and_saves_it(own: Generator, tmp_path: Path) -> None:
    """Frequencies of places and the features of no text, which the published layout has among its weights."""
    policy = Policy(own, None)
    assert not any("freqs" in name or "y_embedding" in name for name in policy.parameters)
    saved = load_file(str(policy.save(tmp_path)))
    published = stdit_weights(PIPELINE_DEPTH)
    assert saved.keys() == published.keys()
    assert all(torch.equal(saved[name], each) for name, each in published.items())


def test_captions_are_read_as_they_were_in_training() -> None:
    assert with_score("A cat") == "A cat aesthetic score: 6.5."
    assert with_score("a cat. aesthetic score: 5.0.") == "a cat. aesthetic score: 5.0."
    assert (
        cleaned(with_score("A Cat,on a mat…  \u201csleeping\u201d "))
        == 'a cat, on a mat… "sleeping" aesthetic score: 6.5.'
    )
    assert cleaned("wide &amp; well-lit -- 3-4 red-and-blue kites...") == "wide well lit 3 4 red and blue kites"
    assert cleaned("'quoted'") == "quoted"


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("published")
    save_public(folder)
    return folder


def parts(published: Path, **others: Path) -> tuple[Path, Path, Path]:
    named = {name: published / name for name in ("stdit", "vae", "t5")} | others
    return named["stdit"], named["vae"], named["t5"]


def test_a_folder_made_of_the_published_parts_holds_their_weights(family_folders: dict[str, Path]) -> None:
    folder = family_folders["opensora"]
    for part, weights in (("transformer", stdit_weights(PIPELINE_DEPTH)), ("vae", vae_weights())):
        saved = load_file(next((folder / part).glob("*.safetensors")))
        assert saved.keys() == weights.keys()
        assert all(torch.equal(saved[name], each) for name, each in weights.items())
    index = json.loads((folder / "model_index.json").read_text())
    assert index["_class_name"] == "OpenSoraPipeline"
    assert index["transformer"] == ["reelign.generators.opensora.stdit", "STDiT3"]


@pytest.mark.parametrize(
    ("part", "change", "what"),
    [
        ("stdit", {"lost": "rope.freqs"}, r"lacks the weight rope\.freqs\."),
        ("stdit", {"strange": "pos_embed"}, "without a place for it, the weight pos_embed"),
        ("vae", {"lost": "scale"}, "is no OpenSoraVAE of Open-Sora 1.2: it lacks the weight scale"),
        ("vae", {"lost": "shift", "strange": "shift"}, "another shape of the weight shift"),
        ("stdit", {"model_type": "STDiT2"}, "is a STDiT2, and Open-Sora 1.2 has a STDiT3 there"),
        ("vae", {"half": True}, "could not be read as a part of Open-Sora 1.2"),
    ],
)
def test_parts_of_another_model_or_half_downloaded_are_refused(
    published: Path, tmp_path: Path, part: str, change: dict[str, Any], what: str
) -> None:
    copy = Path(shutil.copytree(published / part, tmp_path / part))
    weights = load_file(copy / "model.safetensors")
    if "model_type" in change:
        (copy / "config.json").write_text(json.dumps(change))
    if "half" in change:
        (copy / "model.safetensors").write_bytes((copy / "model.safetensors").read_bytes()[:1000])
    else:
        weights.pop(change.get("lost", ""), None)
        weights |= {change["strange"]: torch.zeros(1)} if "strange" in change else {}
        save_file(weights, copy / "model.safetensors")
    with pytest.raises(ReelignError, match=what):
        convert(*parts(published, **{part: copy}), tmp_path / "made", vae_sizes={**SPATIAL, **TEMPORAL})
    assert not (tmp_path / "made").exists()


def test_a_folder_with_a_model_and_a_missing_text_encoder_are_refused(
    family_folders: dict[str, Path], published: Path, tmp_path: Path
) -> None:
    with pytest.raises(ReelignError, match="holds a model already"):
        convert(*parts(published), family_folders["opensora"])
    with pytest.raises(ReelignError, match="could not be loaded as a T5 encoder"):
        convert(*parts(published, t5=tmp_path), tmp_path / "made", vae_sizes={**SPATIAL, **TEMPORAL})


def test_the_released_size_is_known_without_weights() -> None:
    """28 pairs of blocks of width 1,152; 240p and two seconds are 15 x 15 x 27 tokens, the last column filled up."""
    published = shapes_of("hpcai-tech/OpenSora-STDiT-v3")
    width = 1152
    attention, cross = 4 * width**2 + 4 * width + 2 * 72, 4 * width**2 + 4 * width
    block = attention + cross + 8 * width**2 + 5 * width + 6 * width
    levels = 2 * ((256 + 1 + width + 1) * width) + 6 * width**2 + 6 * width
    text, ends = (4096 + 1 + width + 1) * width, 17 * width + 32 * width + 32 + 2 * width
    found = sum(each.numel() for each in published.pipeline.transformer.parameters())
    assert found == 56 * block + levels + text + ends == 1_207_643_936
    assert published.defaults.size == published.legal(published.defaults.size)
    shape = published.latent_shape(published.defaults.size)
    assert shape == (4, 15, 30, 53)
    assert published.tokens(shape) == 15 * 15 * 27


def test_a_published_part_is_no_pipeline_and_the_command_for_one_is_named() -> None:
    with pytest.raises(ReelignError, match="is a part of a model and no pipeline") as caught:
        family_of("hpcai-tech/OpenSora-STDiT-v3")
    assert "opensora.convert" in caught.value.mend


@torch.no_grad()
def test_a_trunk_ends_behind_a_pair_of_blocks(own: Generator, stdit: STDiT3) -> None:
    """As many of the blocks in space and of those over time; the last one's output is what the trunk says."""
    own.pipeline.register_modules(transformer=stdit)
    noisy, sigma, text = drawn((2, 4, 5, 4, 4), 0), torch.tensor([0.3, 0.7]), own.encode_prompts(PROMPTS)
    seen: list[Tensor] = []
    handle = stdit.temporal_blocks[0].register_forward_hook(lambda module, given, output: seen.append(output))
    own.velocity(noisy, sigma, text)
    handle.remove()
    trunk = make_trunk(own, 1, weights="copied")
    assert not [name for name, _ in trunk.named_parameters() if "blocks.1" in name or "final_layer" in name]
    torch.testing.assert_close(features(own, trunk, noisy, sigma, text), seen[0].flatten(1, 2))


def test_the_pipeline_called_plainly_makes_the_same_video(own: Generator) -> None:
    assert isinstance(own, OpenSora)
    chance = torch.Generator().manual_seed(SEEDS[0])
    settings: dict[str, Any] = {"num_frames": 17, "height": 16, "width": 16, "num_inference_steps": 4}
    plain = own.pipeline(PROMPTS[0], **settings, guidance_scale=5.0, generator=chance)
    ours = own.sample(
        own.encode_prompts(PROMPTS[:1]),
        SEEDS[:1],
        VideoSize(17, 16, 16),
        steps=4,
        guidance=Guidance(5.0, own.encode_prompts([""])),
    )
    torch.testing.assert_close(plain.frames, own.decode(ours))
    with pytest.raises(ReelignError, match="cannot make 16 frames"):
        own.pipeline(PROMPTS[0], **{**settings, "num_frames": 16})
    picture = Image.new("RGB", (16, 16), (255, 128, 0))
    onward = own.pipeline(PROMPTS[0], **settings, image=picture, output_type="latent").frames
    pixels = torch.tensor([255, 128, 0]).view(1, 3, 1, 1).expand(1, 3, 16, 16) / 255
    first = own.encode_condition(pixels, VideoSize(17, 16, 16))["first_latents"]
    torch.testing.assert_close(onward[:, :, :1], first, rtol=0, atol=1e-5)


def test_lora_is_loaded_into_the_model_class_alone(own: Generator, tmp_path: Path) -> None:
    """Without a generator: the transformer's own loader, from the file that a run leaves."""
    policy = Policy(own, LoRA(rank=2))
    with torch.no_grad():
        for parameter in policy.parameters.values():
            parameter.fill_(0.05)
    policy.refresh()
    policy.save(tmp_path)
    plain: Any = STDiT3.from_pretrained(Path(own.model) / "transformer")
    plain.load_lora_adapter(tmp_path, weight_name="pytorch_lora_weights.safetensors")
    plain.eval()
    latents = drawn((2, 4, 5, 4, 4), 0)
    with torch.no_grad():
        ours, theirs = (
            model(latents, TIMES, TEXT, MASK, FPS, 8, 8)[0] for model in (policy.generator.pipeline.transformer, plain)
        )
    torch.testing.assert_close(theirs, ours)
