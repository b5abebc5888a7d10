"""Where preferences come from and where their latents lie: a workspace's own, or a user's files."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor
from tqdm import tqdm

from reelign.errors import ReelignError
from reelign.generators.base import Generator, VideoSize
from reelign.recipes.generation import write_tensors
from reelign.records import FilePair, Video, Workspace, content_key, majority, preferences, read_pairs
from reelign.video import read_video


@dataclass(frozen=True)
class Clip:
    """One video to train on: its latents in a shard, or only its file."""

    path: Path
    shard: Path | None = None
    key: str | None = None


@dataclass(frozen=True)
class PreferenceData:
    """Pairs to train on.

    `rows` gives each pair the index of its prompt; `left_out` counts what gave no pair, by reason; `key` changes
    with the data.
    """

    prompts: list[str]
    chosen: list[Clip]
    rejected: list[Clip]
    rows: list[int]
    key: str
    left_out: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.rows:
            reasons = ", ".join(f"{count} x {reason}" for reason, count in self.left_out.items())
            raise ReelignError(
                f"There is no preference to train on{f' ({reasons})' if reasons else ''}.",
                "Judge the candidates first, or generate more of them: reelign judge -w WORKSPACE",
            )

    def pairs(self, generator: Generator, cache: Path) -> tuple[Tensor, Tensor]:
        """Latents (pairs, 2, C, F, H, W), column 0 chosen, and (pairs,) rows of their prompts."""
        clips = [clip for pair in zip(self.chosen, self.rejected, strict=True) for clip in pair]
        latents = load_latents(clips, generator, cache)
        return latents.unflatten(0, (-1, 2)), torch.tensor(self.rows)


def workspace_preferences(
    workspace: Workspace,
    pairs: Literal["best_worst", "all"],
    weights: Mapping[str, float] | None = None,
    *,
    split: str = "train",
    adapter: str = "",
) -> PreferenceData:
    """The preferences that follow from the workspace's judgements by majority vote."""
    groups = workspace.groups(split, adapter)
    found = preferences(groups, majority(workspace.judgements()), weights=weights, pairs=pairs)
    clips = {video.id: _clip(workspace, video) for group in groups for video in group.videos}
    prompts = {group.prompt.id: row for row, group in enumerate(groups)}
    return PreferenceData(
        prompts=[group.prompt.text for group in groups],
        chosen=[clips[pair.chosen] for pair in found.pairs],
        rejected=[clips[pair.rejected] for pair in found.pairs],
        rows=[prompts[pair.prompt_id] for pair in found.pairs],
        key=content_key([[pair.chosen, pair.rejected] for pair in found.pairs]),
        left_out=found.left_out,
    )


def file_preferences(path: Path) -> PreferenceData:
    """The preferences in a CSV or Parquet file of (prompt, chosen, rejected); `records.read_pairs` says the columns."""
    pairs: Sequence[FilePair] = read_pairs(path)
    prompts = list(dict.fromkeys(pair.prompt for pair in pairs))
    row = {prompt: index for index, prompt in enumerate(prompts)}
    return PreferenceData(
        prompts=prompts,
        chosen=[Clip(pair.chosen) for pair in pairs],
        rejected=[Clip(pair.rejected) for pair in pairs],
        rows=[row[pair.prompt] for pair in pairs],
        key=content_key([[pair.prompt, file_hash(pair.chosen), file_hash(pair.rejected)] for pair in pairs]),
    )


def random_videos(workspace: Workspace, data: PreferenceData, chance: torch.Generator) -> tuple[Tensor, Tensor]:
    """As many of the workspace's own base samples as there are pairs, drawn without a look at any judgement."""
    groups = workspace.groups("train", "")
    row = {text: index for index, text in enumerate(data.prompts)}
    videos = [(video, row[group.prompt.text]) for group in groups if group.prompt.text in row for video in group.videos]
    if not videos:
        raise ReelignError(
            f"{workspace.root} holds no base sample of the prompts that the preferences are about.",
            "Generate candidates of these prompts first: reelign generate -w WORKSPACE",
        )
    drawn = [videos[index] for index in torch.randperm(len(videos), generator=chance)[: len(data.rows)].tolist()]
    latents = torch.stack([_stored(_clip(workspace, video)) for video, _ in drawn])
    return latents, torch.tensor([index for _, index in drawn])


def load_latents(clips: Sequence[Clip], generator: Generator, cache: Path) -> Tensor:
    """Latents (clips, C, F, H, W) fp32: the sampler's own where they were kept, else encoded once and cached."""
    shards: dict[Path, dict[str, Tensor]] = {}
    loaded: dict[Clip, Tensor] = {}
    unknown = [clip for clip in dict.fromkeys(clips) if clip.shard is None]
    encoded = encode_files([clip.path for clip in unknown], generator, cache) if unknown else {}
    for clip in dict.fromkeys(clips):
        if clip.shard is None:
            loaded[clip] = encoded[clip.path]
        else:
            if clip.shard not in shards:
                shards[clip.shard] = load_file(clip.shard)
            loaded[clip] = shards[clip.shard][str(clip.key)]
    shapes = {tuple(tensor.shape) for tensor in loaded.values()}
    if len(shapes) > 1:
        raise ReelignError(
            f"The videos differ in size: their latents are {sorted(shapes)}.", "Train on videos of one size at a time."
        )
    return torch.stack([loaded[clip].float() for clip in clips])


@torch.no_grad()
def encode_files(paths: Sequence[Path], generator: Generator, cache: Path) -> dict[Path, Tensor]:
    """Latents of video files through the VAE, each content encoded once and kept under the model's identity."""
    found: dict[Path, Tensor] = {}
    for path in tqdm(paths, desc="encode", unit="video"):
        kept = cache / "latents" / content_key(generator.identity, file_hash(path))
        shard = kept.with_suffix(".safetensors")
        if not shard.exists():
            frames = read_video(path).frames
            count, _, height, width = frames.shape
            try:
                generator.check(VideoSize(count, height, width))
            except ReelignError as error:
                raise ReelignError(f"{path}: {error.what}", f"{error.mend} Cut or resize the file.") from None
            write_tensors(shard, {"latents": generator.encode(frames[None])[0].cpu().contiguous()})
        found[path] = load_file(shard)["latents"]
    return found


def file_hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _clip(workspace: Workspace, video: Video) -> Clip:
    return Clip(workspace.video_path(video), workspace.latents_path(video), video.latents_key)


def _stored(clip: Clip) -> Tensor:
    if clip.shard is None:
        raise ReelignError(f"{clip.path} was recorded without latents.", "Generate it again in this workspace.")
    with safe_open(clip.shard, framework="pt") as file:
        tensor: Tensor = file.get_tensor(str(clip.key))
    return tensor.float()
