"""Caches: encoded once, keyed by content, resumable, of one model, and nothing of the encoders left in training."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch

from reelign.errors import ReelignError
from reelign.generators import Generator, load_generator
from reelign.generators.encoders import encoders, is_away
from reelign.training.caches import PER_SHARD, Entry, TensorCache, cached_latents, cached_prompts
from reelign.video import read_video, write_video

PROMPTS = ["a red square", "a blue disc moves", "a red square"]


def videos(folder: Path, count: int) -> list[Path]:
    chance = torch.Generator().manual_seed(0)
    paths = [folder / f"{number}.mp4" for number in range(count)]
    for path in paths:
        write_video(path, torch.rand(9, 3, 16, 16, generator=chance), 8)
    return paths


def entry(key: str) -> Entry:
    return {"one": torch.full((2, 3), float(len(key))), "half": torch.ones(1, dtype=torch.bfloat16)}


def test_entries_come_back_as_they_were_made(tmp_path: Path) -> None:
    keys = [f"{number:03d}" for number in range(2 * PER_SHARD + 3)]
    TensorCache(tmp_path, "m@1").fill(keys, entry, title="t")
    again = TensorCache(tmp_path, "m@1")
    assert again.missing([*keys, "new"]) == ["new"]
    assert len(list(tmp_path.glob("shard-*"))) == 3
    found = again.load([keys[-1], keys[0], keys[0]])
    assert set(found) == {keys[0], keys[-1]}
    assert found[keys[0]]["half"].dtype == torch.bfloat16
    assert torch.equal(found[keys[0]]["one"], entry(keys[0])["one"])


def test_an_interrupted_encoding_goes_on_where_it_stopped(tmp_path: Path) -> None:
    keys = [str(number) for number in range(PER_SHARD + 5)]
    made: list[str] = []

    def make(key: str) -> Entry:
        made.append(key)
        if len(made) == PER_SHARD + 3:
            raise KeyboardInterrupt
        return entry(key)

    with pytest.raises(KeyboardInterrupt):
        TensorCache(tmp_path, "m@1").fill(keys, make, title="t")
    TensorCache(tmp_path, "m@1").fill(keys, make, title="t")
    assert sorted(made) == sorted([*keys, keys[PER_SHARD + 2]])  # the one in hand was made twice
    assert not TensorCache(tmp_path, "m@1").missing(keys)


def test_a_cache_of_another_model_is_refused_by_name(tmp_path: Path) -> None:
    TensorCache(tmp_path / "latents", "wan@aaaa")
    with pytest.raises(ReelignError, match=r"latents was made by wan@aaaa, and this model is wan@bbbb"):
        TensorCache(tmp_path / "latents", "wan@bbbb")


def test_a_damaged_shard_is_named(tmp_path: Path) -> None:
    TensorCache(tmp_path, "m").fill(["a"], entry, title="t")
    (shard,) = tmp_path.glob("shard-*")
    shard.write_bytes(shard.read_bytes()[:20])
    with pytest.raises(ReelignError, match=rf"{shard.name} cannot be read"):
        TensorCache(tmp_path, "m")


def test_prompts_are_encoded_once_and_alike(tiny_wan_folder: Path, tmp_path: Path) -> None:
    generator = load_generator(str(tiny_wan_folder), encoders=False)
    calls: list[int] = []
    first = cached_prompts(PROMPTS, generator, tmp_path)
    whole = load_generator(str(tiny_wan_folder))
    for row, prompt in enumerate(PROMPTS):
        assert torch.equal(first["prompt_embeds"][row], whole.encode_prompts([prompt])["prompt_embeds"][0])
    whole.pipeline.text_encoder.register_forward_pre_hook(lambda *_: calls.append(1))
    again = cached_prompts(PROMPTS[:2], whole, tmp_path)
    assert torch.equal(again["prompt_embeds"], first["prompt_embeds"][:2])
    assert calls == []
    cached_prompts([*PROMPTS, "a disc"], whole, tmp_path)
    assert calls == [1]


def test_prompts_wait_on_the_cpu_wherever_the_model_is(tiny_wan_folder: Path, tmp_path: Path) -> None:
    """A model without values stands for one on a GPU."""
    made = cached_prompts(PROMPTS, load_generator(str(tiny_wan_folder)), tmp_path)
    away = load_generator(str(tiny_wan_folder), weights=False)
    found = cached_prompts(PROMPTS, away, tmp_path)
    assert away.device.type == "meta"
    for name, tensor in made.tensors.items():
        assert torch.equal(found[name], tensor)


def test_videos_are_encoded_once_by_their_content(tiny_wan_folder: Path, tmp_path: Path) -> None:
    generator = load_generator(str(tiny_wan_folder), encoders=False)
    paths = videos(tmp_path, 3)
    found = cached_latents(paths, generator, tmp_path / "cache")
    whole = load_generator(str(tiny_wan_folder))
    with torch.no_grad():
        assert torch.equal(found[paths[1]], whole.encode(read_video(paths[1]).frames[None])[0])
    moved = Path(shutil.move(paths[0], tmp_path / "moved.mp4"))
    calls: list[int] = []
    whole.pipeline.vae.encoder.register_forward_pre_hook(lambda *_: calls.append(1))
    again = cached_latents([moved, paths[2]], whole, tmp_path / "cache")
    assert torch.equal(again[moved], found[paths[0]])
    assert calls == []
    write_video(moved, torch.zeros(9, 3, 16, 16), 8)
    assert not torch.equal(cached_latents([moved], whole, tmp_path / "cache")[moved], found[paths[0]])


def test_a_size_that_the_model_cannot_make_is_refused_before_anything_is_encoded(
    tiny_wan: Generator, tmp_path: Path
) -> None:
    paths = videos(tmp_path, 2)
    write_video(paths[1], torch.zeros(10, 3, 16, 16), 8)
    with pytest.raises(ReelignError, match=r"1\.mp4: .*10 frames"):
        cached_latents(paths, tiny_wan, tmp_path / "cache")
    assert not list((tmp_path / "cache").glob("shard-*"))


def test_everything_cached_loads_no_encoder(tiny_wan_folder: Path, tmp_path: Path) -> None:
    """With their weights gone from the disk, embeddings and latents are still there."""
    folder = shutil.copytree(tiny_wan_folder, tmp_path / "model")
    paths = videos(tmp_path, 2)
    generator = load_generator(str(folder), encoders=False)
    identity = generator.identity
    caches = tmp_path / "cache"
    before = cached_prompts(PROMPTS, generator, caches / "text"), cached_latents(paths, generator, caches / "latents")
    (folder / "text_encoder" / "model.safetensors").unlink()
    (folder / "vae" / "diffusion_pytorch_model.safetensors").unlink()
    lean = load_generator(str(folder), encoders=False)
    lean.__dict__["identity"] = identity
    after = cached_prompts(PROMPTS, lean, caches / "text"), cached_latents(paths, lean, caches / "latents")
    assert torch.equal(before[0]["prompt_embeds"], after[0]["prompt_embeds"])
    assert all(torch.equal(before[1][path], after[1][path]) for path in paths)
    assert all(is_away(model) for model in encoders(lean).values())
