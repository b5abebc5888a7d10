"""Generating: what is there is not made again, and a seed always gives the same latents."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from reelign.config import resolve
from reelign.errors import ReelignError
from reelign.generators import Conditioning, Generator, load_generator
from reelign.recipes.candidates import Candidates
from reelign.recipes.generation import generate
from reelign.recipes.sampling import GenerateSettings, Sampling
from reelign.records import Video, Workspace
from reelign.spriteworld.prompts import all_captions
from reelign.video import read_video


def latents(workspace: Workspace) -> dict[str, Tensor]:
    found = {}
    for video in workspace.videos():
        path = workspace.latents_path(video)
        assert path is not None
        found[video.id] = load_file(path)[str(video.latents_key)]
    return found


def test_every_candidate_is_kept_as_video_and_latents(
    empty: Workspace, tiny_wan: Generator, small: GenerateSettings
) -> None:
    done = generate(empty, tiny_wan, small)
    assert (done.made, done.already_there, done.failed) == (6, 0, ())
    assert [len(group.videos) for group in empty.groups("train", "")] == [3, 3]
    assert len({video.seed for video in done.videos}) == 6
    for video in done.videos:
        clip = read_video(empty.video_path(video))
        assert clip.frames.shape == (9, 3, 16, 16)
        assert clip.fps == 8
        own = latents(empty)[video.id]
        with torch.no_grad():
            decoded = tiny_wan.decode(own[None])[0]
        assert (decoded - clip.frames).abs().mean() < 0.1


def test_a_second_call_makes_only_what_is_missing(
    empty: Workspace, tiny_wan: Generator, small: GenerateSettings
) -> None:
    generate(empty, tiny_wan, replace(small, candidates=1))
    first = {video.id: video.created for video in empty.videos()}
    again = generate(empty, tiny_wan, small)
    assert (again.made, again.already_there) == (4, 2)
    assert len(again.videos) == 6
    assert {video.id: video.created for video in empty.videos() if video.id in first} == first
    assert generate(empty, tiny_wan, small).made == 0


def test_a_video_whose_file_is_gone_or_damaged_is_made_again(
    empty: Workspace, tiny_wan: Generator, small: GenerateSettings
) -> None:
    done = generate(empty, tiny_wan, small)
    paths = [empty.video_path(video) for video in done.videos[:4]]
    clips = [read_video(path).frames for path in paths]
    content = paths[3].read_bytes()
    paths[0].unlink()
    paths[1].write_bytes(b"")
    paths[2].write_bytes(paths[2].read_bytes()[:-9])
    paths[3].write_bytes(content[:-9] + bytes(9))  # of the old length
    again = generate(empty, tiny_wan, small)
    assert (again.made, again.already_there) == (4, 2)
    assert [video.id for video in again.videos] == [video.id for video in done.videos]
    for path, clip in zip(paths, clips, strict=True):
        torch.testing.assert_close(read_video(path).frames, clip, rtol=0, atol=0.1)
    assert latents(empty).keys() == {video.id for video in done.videos}
    assert generate(empty, tiny_wan, small).made == 0


def test_a_video_that_comes_out_otherwise_here_is_made_once(
    empty: Workspace, tiny_wan: Generator, small: GenerateSettings
) -> None:
    # Another build of x264 writes other bytes than those that another machine recorded.
    video = generate(empty, tiny_wan, small).videos[0]
    with empty.writing() as session:
        session.get_one(Video, video.id).content_hash = "of another machine"
    empty.video_path(video).touch()
    assert [generate(empty, tiny_wan, small).made for _ in range(2)] == [1, 0]


def test_the_same_seeds_give_the_same_latents_whatever_the_batch(
    empty: Workspace, tiny_wan: Generator, tiny_wan_folder: Path, tmp_path: Path, small: GenerateSettings
) -> None:
    generate(empty, tiny_wan, small)
    other = Workspace.create(tmp_path / "other", model=str(tiny_wan_folder))
    other.add_prompts([prompt.text for prompt in reversed(empty.prompts("train"))], "train")
    generate(other, tiny_wan, replace(small, batch_size=1))
    first, second = latents(empty), latents(other)
    assert first.keys() == second.keys()
    for name in first:
        torch.testing.assert_close(first[name], second[name], rtol=0, atol=1e-5)


def test_base_and_adapter_are_sampled_at_the_same_seeds(
    empty: Workspace, tiny_wan: Generator, small: GenerateSettings
) -> None:
    generate(empty, tiny_wan, small)
    generate(empty, tiny_wan, small, adapter="aligned")
    base, aligned = (empty.videos("train", adapter) for adapter in ("", "aligned"))
    assert [video.seed for video in base] == [video.seed for video in aligned]
    assert not {video.id for video in base} & {video.id for video in aligned}


def test_a_split_without_prompts_is_refused(empty: Workspace, tiny_wan: Generator, small: GenerateSettings) -> None:
    with pytest.raises(ReelignError, match="no prompts in split 'held_out'"):
        generate(empty, tiny_wan, replace(small, split="held_out"))


def test_a_size_the_model_cannot_make_is_refused_before_anything_is_made(
    empty: Workspace, tiny_wan: Generator, small: GenerateSettings
) -> None:
    with pytest.raises(ReelignError, match="nearest size it can make is 9 frames"):
        generate(empty, tiny_wan, replace(small, num_frames=10))
    assert empty.videos() == []


@pytest.mark.parametrize("name", ["fps", "guidance_scale"])
def test_numbers_that_are_none_are_refused(name: str) -> None:
    for value in (float("nan"), float("inf")):
        with pytest.raises(ReelignError, match=f"{name} must be .*, got {value}"):
            resolve(GenerateSettings, [("the call", {name: value})])


@pytest.mark.parametrize("model", ["spriteworld", "tiny_wan"])
def test_prompts_are_encoded_a_few_at_a_time_once_and_to_the_same_embeddings(
    tiny_wan_folder: Path, small: GenerateSettings, model: str
) -> None:
    generator = load_generator("spriteworld" if model == "spriteworld" else str(tiny_wan_folder))
    prompts = list(all_captions())[:40]
    whole, asked = generator.encode_prompts(prompts), []
    encode = generator.encode_prompts

    def counted(texts: list[str]) -> Conditioning:
        asked.append(len(texts))
        return encode(texts)

    generator.encode_prompts = counted  # type: ignore[method-assign]
    candidates = Candidates(generator, Sampling.resolve(small, generator), prompts)
    twice = [text for text in prompts for _ in range(2)]
    found = [candidates.encoded(twice[start : start + 6]) for start in range(0, len(twice), 6)]
    assert asked == [1, 16, 16, 8]  # the negative prompt first
    together = Conditioning.cat(found)
    for name, tensor in whole.tensors.items():
        assert torch.equal(together[name], tensor.repeat_interleave(2, dim=0))
