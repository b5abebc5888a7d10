"""Image-to-video from end to end: each prompt's own image reaches candidates, training and rollouts, and no other's."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor

from generators.tiny_wan_i2v import save_wan_i2v
from recipes import online_worlds
from recipes.judges import Brightness
from recipes.pixel_rewards import ByHeart
from recipes.reward_gradient.test_align import SETTINGS as GRADIENT
from reelign.errors import ReelignError
from reelign.generators import Generator, Guidance, VideoSize, load_generator
from reelign.generators.encoders import encoders, is_away
from reelign.generators.wan_i2v import WanImageToVideo
from reelign.objectives import DPO, SFT
from reelign.objectives.anchors import Anchors
from reelign.objectives.reward_gradient import RewardGradient
from reelign.recipes.candidates import Candidates
from reelign.recipes.data.real_clips import load_real
from reelign.recipes.dry_run import dry_run, dry_run_on_prompts
from reelign.recipes.generation import generate
from reelign.recipes.judging import JudgeSettings, judge
from reelign.recipes.offline.align import AlignSettings, align
from reelign.recipes.offline.data import training_data
from reelign.recipes.online.align import align_online
from reelign.recipes.reward_gradient.align import align_by_reward_gradient
from reelign.recipes.reward_gradient.frames import FrameChoice
from reelign.recipes.reward_gradient.scoring import PixelLoss
from reelign.recipes.samples import SampleSettings
from reelign.recipes.sampling import GenerateSettings, Sampling
from reelign.records import ImagePrompt, Workspace, image_prompt
from reelign.rewards.judging import checked
from reelign.training import LoRA, TrainerSettings
from reelign.training.caches import cached_prompts, cached_sides
from reelign.video import read_image, read_video, write_video

TEXT = "a red square"
SIZE = VideoSize(9, 16, 16)
SMALL = GenerateSettings(
    candidates=2, num_inference_steps=2, guidance_scale=3.0, num_frames=9, height=16, width=16, fps=8, batch_size=3
)
OFFLINE = AlignSettings(
    run="offline",
    objective=DPO(beta=20.0),
    batch_size=2,
    empty_prompt_share=0.5,
    lora=LoRA(rank=2),
    samples=SampleSettings(every=2, count=1),
    trainer=TrainerSettings(steps=2, learning_rate=1e-2, checkpoint_every=2),
    trackers=(),
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("models") / "wan-i2v"
    save_wan_i2v(place)
    return place


@pytest.fixture(scope="module")
def prompts(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The same text of two images, of two sizes."""
    pictures = tmp_path_factory.mktemp("pictures")
    found: list[str] = []
    for name, side in (("one", 20), ("other", 12)):
        chance = torch.Generator().manual_seed(side)
        pixels = torch.randint(0, 256, (side, 16, 3), generator=chance, dtype=torch.uint8)
        Image.fromarray(pixels.numpy()).save(pictures / f"{name}.png")
        found.append(image_prompt(TEXT, pictures / f"{name}.png"))
    return found


@pytest.fixture(scope="module")
def workspace(folder: Path, prompts: list[str], tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """Two candidates of each prompt, judged."""
    made = Workspace.create(tmp_path_factory.mktemp("workspaces") / "images", model=str(folder))
    made.add_prompts(prompts, "train")
    generate(made, load_generator(str(folder)), SMALL)
    judge(made, [Brightness()], JudgeSettings())
    return made


@pytest.fixture
def encoded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many images each call of the encoder gets."""
    seen: list[int] = []
    own = WanImageToVideo.encode_condition

    def counted(self: WanImageToVideo, images: Tensor, size: VideoSize) -> object:
        seen.append(len(images))
        return own(self, images, size)

    monkeypatch.setattr(WanImageToVideo, "encode_condition", counted)
    return seen


def test_each_candidate_goes_on_from_its_prompts_image(workspace: Workspace, folder: Path, prompts: list[str]) -> None:
    model = load_generator(str(folder))
    videos = workspace.videos("train")
    assert len({video.id for video in videos}) == 4
    negative = model.encode_prompts([""])
    for group, prompt in zip(workspace.groups("train"), prompts, strict=True):
        assert isinstance(prompt, ImagePrompt)
        image = model.encode_condition(read_image(prompt.image)[None], SIZE)
        own = model.encode_prompts([TEXT]).joined(image)
        for video in group.videos:
            guidance = Guidance(3.0, negative.joined(image))
            expected = model.sample(own, [video.seed], SIZE, steps=2, guidance=guidance)[0]
            shard = workspace.latents_path(video)
            assert shard is not None
            torch.testing.assert_close(load_file(shard)[video.id], expected, rtol=1e-4, atol=1e-4)
    assert generate(workspace, model, SMALL).made == 0


def test_conditioning_is_cached_by_text_and_by_image(
    folder: Path, prompts: list[str], encoded: list[int], tmp_path: Path
) -> None:
    lean = load_generator(str(folder), encoders=False)
    found = cached_sides(prompts, "", lean, tmp_path, SIZE)
    assert encoded == [1, 1]
    assert all(is_away(each) for each in encoders(lean).values())
    again = cached_prompts([prompts[1], prompts[0], prompts[1]], lean, tmp_path, size=SIZE)
    assert encoded == [1, 1]
    for name, tensor in again.tensors.items():
        assert torch.equal(tensor, found.own[name][[1, 0, 1]])
    own, negative = found.take(torch.tensor([1, 0]))
    assert torch.equal(negative["image_latents"], own["image_latents"])
    assert torch.equal(own["image_latents"], found.own["image_latents"][[1, 0]])
    assert not torch.equal(own["image_latents"][0], own["image_latents"][1])
    assert torch.equal(negative["prompt_embeds"][0], negative["prompt_embeds"][1])
    assert not torch.equal(negative["prompt_embeds"], own["prompt_embeds"])
    # For clips of another size an image is encoded anew, and its text is not.
    cached_prompts(prompts[:1], lean, tmp_path, size=VideoSize(5, 16, 16))
    assert encoded == [1, 1, 1]


def test_preferences_train_with_their_images_encoded_once(
    workspace: Workspace, folder: Path, encoded: list[int]
) -> None:
    outline = load_generator(str(folder), weights=False)
    data = training_data(workspace, OFFLINE)
    planned = dry_run(workspace, outline, OFFLINE, data, sampling=SMALL)
    assert planned.prompts_to_encode == 4  # the text, the empty one, and two images
    assert {part.name: part.used for part in planned.components}["image_encoder"] == "at times"
    done = align(workspace, load_generator(str(folder), encoders=False), OFFLINE, sampling=SMALL)
    assert encoded == [1, 1]
    weights = load_file(done.adapter / "pytorch_lora_weights.safetensors")
    assert any(bool(tensor.any()) for name, tensor in weights.items() if "lora_B" in name)
    assert (done.folder / "samples" / "step-000002.png").exists()
    outline = load_generator(str(folder), weights=False)
    assert dry_run(workspace, outline, OFFLINE, data, sampling=SMALL, anew=True).prompts_to_encode == 0


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two clips, of different content from the first frame on, and an image that begins neither."""
    folder = tmp_path_factory.mktemp("clips")
    chance = torch.Generator().manual_seed(3)
    for name in "ab":
        write_video(folder / f"{name}.mp4", torch.rand(9, 3, 16, 16, generator=chance), 8)
    Image.new("RGB", (16, 16), (0, 200, 0)).save(folder / "green.png")
    (folder / "real.csv").write_text(f"prompt,video\n{TEXT},a.mp4\n{TEXT},b.mp4\n")
    (folder / "named.csv").write_text(f"prompt,video,image\n{TEXT},a.mp4,green.png\n")
    (folder / "labels.csv").write_text(f"prompt,video,label\n{TEXT},a.mp4,1\n{TEXT},b.mp4,1\n")
    (folder / "pairs.csv").write_text(f"prompt,chosen,rejected,image\n{TEXT},a.mp4,b.mp4,green.png\n")
    return folder


def test_real_clips_go_on_from_their_first_frames_or_the_named_image(folder: Path, clips: Path, tmp_path: Path) -> None:
    model = load_generator(str(folder))
    found = load_real(clips / "real.csv", "first_frame", model, tmp_path)
    assert (len(found.prompts), found.rows, found.size) == (2, [0, 1], SIZE)
    own = found.conditioning(model, tmp_path)
    for row, name in enumerate("ab"):
        first = read_video(clips / f"{name}.mp4").frames[:1]
        assert torch.equal(own["image_latents"][row], model.encode_condition(first, SIZE)["image_latents"][0])
    named = load_real(clips / "named.csv", "column", model, tmp_path).conditioning(model, tmp_path)
    green = read_image(clips / "green.png")[None]
    assert torch.equal(named["image_latents"], model.encode_condition(green, SIZE)["image_latents"])
    with pytest.raises(ReelignError, match=r"names the image .*green\.png for .*a\.mp4, and images=first_frame takes"):
        load_real(clips / "named.csv", "first_frame", model, tmp_path)


def test_files_with_images_train_offline(workspace: Workspace, folder: Path, clips: Path, encoded: list[int]) -> None:
    once = replace(
        OFFLINE,
        samples=SampleSettings(),
        empty_prompt_share=0.0,
        images="first_frame",
        trainer=replace(OFFLINE.trainer, steps=1),
    )
    anchored = replace(once, run="pairs", anchors=Anchors(real=1.0), real=str(clips / "real.csv"))
    data = training_data(workspace, anchored, clips / "pairs.csv")
    planned = dry_run(workspace, load_generator(str(folder), weights=False), anchored, data)
    assert planned.prompts_to_encode == 3  # the named image and two first frames; the text is cached
    assert align(workspace, load_generator(str(folder)), anchored, data=data).samples == 1
    assert encoded == [1, 1, 1]
    labelled = replace(once, run="labels", objective=SFT())
    data = training_data(workspace, labelled, clips / "labels.csv")
    assert align(workspace, load_generator(str(folder)), labelled, data=data).samples == 2
    assert encoded == [1, 1, 1]


def test_files_whose_images_do_not_suit_the_model_are_refused(
    workspace: Workspace, folder: Path, clips: Path, tiny_wan: Generator
) -> None:
    model, none = load_generator(str(folder), weights=False), replace(OFFLINE, run="refused")
    real = replace(none, anchors=Anchors(real=1.0), real=str(clips / "real.csv"))
    cases = (
        (model, replace(none, objective=SFT()), "labels.csv", "goes on from an image, and 1 of 1 prompts have none"),
        (model, real, "pairs.csv", "goes on from an image, and 2 of 2 prompts have none"),
        (tiny_wan, none, "pairs.csv", "makes videos of text alone, and 1 of 1 prompts have an image"),
    )
    for generator, settings, file, told in cases:
        with pytest.raises(ReelignError, match=told) as caught:
            dry_run(workspace, generator, settings, training_data(workspace, settings, clips / file))
        assert generator is tiny_wan or ("column image" in caught.value.mend and "first_frame" in caught.value.mend)
    gradient = replace(GRADIENT, data_anchor=1.0, real=str(clips / "real.csv"))
    with pytest.raises(ReelignError, match="and 2 of 2 prompts have none"):
        align_by_reward_gradient(workspace, model, gradient, sampling=SMALL)
    online = replace(online_worlds.settings(), anchors=Anchors(real=1.0), real=str(clips / "real.csv"))
    with pytest.raises(ReelignError, match="and 2 of 2 prompts have none"):
        align_online(workspace, model, online, sampling=SMALL)
    with pytest.raises(ValueError, match="images=first_frame does not go with pairs=ground_truth"):
        replace(real, images="first_frame", pairs="ground_truth")


def test_rewards_are_asked_with_texts(prompts: list[str]) -> None:
    videos, reward = torch.rand(2, 5, 3, 16, 16, requires_grad=True), ByHeart()
    loss = PixelLoss(reward, RewardGradient(), {"light": 1.0}, FrameChoice(), 8.0)
    _, told = loss(videos, prompts, None, 5, 1.0)
    assert torch.allclose(told["light"], videos.flatten(1).mean(dim=1))
    assert torch.equal(checked(reward, videos, prompts, 8.0)["light"], told["light"].detach())


def test_online_rollouts_and_reward_gradients_go_on_from_images(workspace: Workspace, folder: Path) -> None:
    online = online_worlds.settings(steps=1, run="online-images")
    done = align_online(workspace, load_generator(str(folder)), online, sampling=SMALL)
    assert done.samples > 0
    gradient = replace(GRADIENT, run="gradient-images", trainer=replace(GRADIENT.trainer, steps=1))
    reached = align_by_reward_gradient(workspace, load_generator(str(folder)), gradient, sampling=SMALL)
    weights = load_file(reached.adapter / "pytorch_lora_weights.safetensors")
    assert any(bool(tensor.any()) for name, tensor in weights.items() if "lora_B" in name)


def test_prompts_that_the_model_does_not_take_are_refused_before_anything_is_encoded(
    tiny_wan: Generator, folder: Path, prompts: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def encode(*_: object, **__: object) -> object:
        raise AssertionError("nothing is to be encoded")

    model = load_generator(str(folder))
    for each in (model, tiny_wan):
        monkeypatch.setattr(type(each), "encode_prompts", encode)
    sampling = Sampling.resolve(SMALL, model)
    cases = (
        (tiny_wan, prompts, "makes videos of text alone, and 2 of 2 prompts have an image"),
        (model, [*prompts, "a disc"], "goes on from an image, and 1 of 3 prompts have none, such as 'a disc'"),
    )
    for number, (generator, asked, told) in enumerate(cases):
        with pytest.raises(ReelignError, match=told):
            Candidates(generator, sampling, asked)
        made = Workspace.create(tmp_path / str(number), model=generator.model)
        made.add_prompts(asked, "train")
        with pytest.raises(ReelignError, match=told):
            align_online(made, generator, online_worlds.settings(), sampling=SMALL)
        with pytest.raises(ReelignError, match=told):
            align_by_reward_gradient(made, generator, GRADIENT, sampling=SMALL)
        with pytest.raises(ReelignError, match=told):
            dry_run_on_prompts(made, generator, online_worlds.settings(), sampling=SMALL)
        assert not list((made.root / "runs").iterdir())
