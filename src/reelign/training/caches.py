"""What frozen encoders make of prompts and videos, encoded once and kept in shards that training reads.

A cache belongs to one model. An entry's name is a hash of its content and of the encoder's settings, never its place in
a list, so that an edited caption or video is encoded anew. Shards are safetensors files written whole: an encoding that
was killed goes on behind the last shard. With everything cached neither text encoder nor VAE is loaded at all.
"""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor
from tqdm import tqdm

from reelign.errors import ReelignError
from reelign.files import whole, write_text
from reelign.generators.base import Conditioning, Generator, VideoSize
from reelign.generators.encoders import VAE, encoders, holding, image_encoders, text_encoders
from reelign.generators.unknown_words import warn_of_unknown_words
from reelign.records import ImagePrompt
from reelign.records.schema import content_key
from reelign.training.asked import Sides, check_images, encode_image, encode_text
from reelign.video import probe_video, read_video

PER_SHARD = 16
"""Entries per shard: what a kill may cost."""
MANIFEST = "manifest.json"

Entry = dict[str, Tensor]


class TensorCache:
    """Named tensors by key, on disk.

    Args:
        folder: made where missing.
        model: whose encoders fill it (`Generator.identity`).
    Raises:
        ReelignError: the folder was filled by another model, or holds a damaged shard.
    """

    def __init__(self, folder: Path, model: str) -> None:
        self.folder = folder
        manifest = folder / MANIFEST
        if manifest.exists():
            maker = json.loads(manifest.read_text())["model"]
            if maker != model:
                raise ReelignError(
                    f"The cache {folder} was made by {maker}, and this model is {model}.",
                    "Remove that folder to encode again, or train with the model it was made by.",
                )
        else:
            write_text(manifest, json.dumps({"model": model}))
        self.shards: dict[str, Path] = {}
        for shard in sorted(folder.glob("shard-*.safetensors")):
            self._index(shard)

    def missing(self, keys: Iterable[str]) -> list[str]:
        return [key for key in dict.fromkeys(keys) if key not in self.shards]

    def fill(self, keys: Sequence[str], make: Callable[[str], Entry], *, title: str) -> None:
        """Make the entries that are missing; what an interruption finds done is kept."""
        made: dict[str, Entry] = {}
        try:
            for key in tqdm(self.missing(keys), desc=title, unit="item"):
                made[key] = {name: tensor.detach().cpu().contiguous() for name, tensor in make(key).items()}
                if len(made) == PER_SHARD:
                    self._write(made)
                    made = {}
        finally:
            if made:
                self._write(made)

    def load(self, keys: Iterable[str]) -> dict[str, Entry]:
        """Entries that are there, each shard opened once."""
        wanted = list(dict.fromkeys(keys))
        found: dict[str, Entry] = {}
        for shard in dict.fromkeys(self.shards[key] for key in wanted):
            own = {key for key in wanted if self.shards[key] == shard}
            with safe_open(shard, framework="pt") as file:
                for full in file.keys():  # noqa: SIM118 (no mapping)
                    key, _, name = full.partition("/")
                    if key in own:
                        found.setdefault(key, {})[name] = file.get_tensor(full)
        return found

    def _write(self, made: dict[str, Entry]) -> None:
        shard = self.folder / f"shard-{content_key(sorted(made))}.safetensors"
        with whole(shard) as beside:
            save_file(
                {f"{key}/{name}": tensor for key, entry in made.items() for name, tensor in entry.items()}, beside
            )
        self.shards.update(dict.fromkeys(made, shard))

    def _index(self, shard: Path) -> None:
        try:
            with safe_open(shard, framework="pt") as file:
                self.shards.update({name.partition("/")[0]: shard for name in file.keys()})  # noqa: SIM118
        except (SafetensorError, OSError) as error:
            raise ReelignError(f"{shard} cannot be read: {error}", "Remove it; it will be made again.") from error


def cached_prompts(
    prompts: Sequence[str], generator: Generator, folder: Path, *, size: VideoSize | None = None
) -> Conditioning:
    """Conditioning on texts, and images where prompts have them, a row per prompt, on the CPU; each is encoded once, by
    itself.

    Not on the generator's device, where those of some thousand prompts would take more than the model: a step moves its
    own rows.

    By itself, since its neighbours in a batch change the last bits, and a resumed run must see the very numbers.

    Args:
        prompts: texts, or `ImagePrompt`s.
        size: of the clips, as which images are encoded; prompts of text alone need none.
    Raises:
        ReelignError: prompts with images for a model of text alone, or without for one that goes on from them.
    """
    check_images(generator, prompts)
    texts = cached_texts(prompts, generator, folder)
    return _with_images(texts, prompts, generator, folder, size)


def cached_sides(
    prompts: Sequence[str], negative_prompt: str, generator: Generator, folder: Path, size: VideoSize
) -> Sides:
    """Both sides of guidance, as `cached_prompts`."""
    check_images(generator, prompts)
    # Together, so that the text encoder is loaded once; of what is read with images the two sides differ in length.
    *texts, negative = _text_rows([*prompts, negative_prompt], generator, folder)
    return Sides(_with_images(Conditioning.cat(texts), prompts, generator, folder, size), negative)


def cached_texts(texts: Sequence[str], generator: Generator, folder: Path) -> Conditioning:
    """As `cached_prompts`, of the texts alone, whatever the model needs beside; of texts that are read together with
    their images, of both."""
    return Conditioning.cat(_text_rows(texts, generator, folder))


def _text_rows(texts: Sequence[str], generator: Generator, folder: Path) -> list[Conditioning]:
    warn_of_unknown_words(generator, texts)
    readers = text_encoders(generator)
    keys = _prompt_keys(texts, generator)
    cache = TensorCache(folder, generator.identity)
    if cache.missing(keys):
        with holding(generator, *readers):
            cache.fill(list(keys), lambda key: encode_text(generator, keys[key]).tensors, title="encode prompts")
    entries = cache.load(keys)
    rows = {text: Conditioning(entries[key]) for key, text in keys.items()}
    return [rows[_as_read(text, generator)] for text in texts]


def _with_images(
    texts: Conditioning, prompts: Sequence[str], generator: Generator, folder: Path, size: VideoSize | None
) -> Conditioning:
    images = [prompt for prompt in prompts if isinstance(prompt, ImagePrompt)]
    if not images:
        return texts
    assert size is not None, "an image is encoded for clips of a size"
    return texts.joined(_cached_images(images, generator, folder, size))


def _cached_images(prompts: Sequence[ImagePrompt], generator: Generator, folder: Path, size: VideoSize) -> Conditioning:
    """Conditioning on the images alone, each content encoded once."""
    keys = _image_keys(prompts, generator, size)
    cache = TensorCache(folder, generator.identity)
    if cache.missing(keys):
        with holding(generator, *image_encoders(generator)):
            cache.fill(list(keys), lambda key: encode_image(generator, keys[key], size).tensors, title="encode images")
    entries = cache.load(keys)
    rows = {prompt.image_key: Conditioning(entries[key]) for key, prompt in keys.items()}
    return Conditioning.cat([rows[prompt.image_key] for prompt in prompts])


@torch.no_grad()
def cached_latents(paths: Sequence[Path], generator: Generator, folder: Path) -> dict[Path, Tensor]:
    """Normalised latents (C, F, H, W) fp32 of video files, each content through the VAE once.

    Raises:
        ReelignError: a file cannot be read, or is of a size that the model cannot make: of all of them, before the
            first is encoded.
    """
    keys = _latent_keys(paths, generator)
    cache = TensorCache(folder, generator.identity)
    files = {key: path for path, key in keys.items()}
    missing = cache.missing(files)
    for key in missing:
        _check_size(files[key], generator)
    if missing:
        with holding(generator, VAE):
            cache.fill(missing, lambda key: {"latents": _encoded(files[key], generator)}, title="encode videos")
    entries = cache.load(files)
    return {path: entries[key]["latents"] for path, key in keys.items()}


def uncached_prompts(prompts: Sequence[str], generator: Generator, folder: Path) -> int:
    """How many texts `cached_prompts` would have to encode; nothing is read but names."""
    return len(_missing(_prompt_keys(prompts, generator), generator, folder))


def uncached_images(prompts: Sequence[str], generator: Generator, folder: Path, size: VideoSize) -> int:
    """How many images of prompts `cached_prompts` would have to encode."""
    images = [prompt for prompt in prompts if isinstance(prompt, ImagePrompt)]
    return len(_missing(_image_keys(images, generator, size), generator, folder))


def uncached_latents(paths: Sequence[Path], generator: Generator, folder: Path) -> int:
    """How many videos `cached_latents` would have to encode.

    Raises:
        ReelignError: one of them is of a size that the model cannot make.
    """
    files = {key: path for path, key in _latent_keys(paths, generator).items()}
    missing = _missing(files, generator, folder)
    for key in missing:
        _check_size(files[key], generator)
    return len(missing)


def _missing(keys: Iterable[str], generator: Generator, folder: Path) -> list[str]:
    if not (folder / MANIFEST).exists():
        return list(keys)
    return TensorCache(folder, generator.identity).missing(keys)


def _prompt_keys(prompts: Sequence[str], generator: Generator) -> dict[str, str]:
    dtypes = {name: str(reader.dtype) for name, reader in text_encoders(generator).items()}
    settings = {"dtypes": dtypes, **generator.call_arguments}
    found = {}
    for prompt in prompts:
        read = _as_read(prompt, generator)
        seen = [read.image_key] if isinstance(read, ImagePrompt) else []
        found[content_key("prompt", str(read), settings, *seen)] = read
    return found


def _as_read(prompt: str, generator: Generator) -> str:
    """The prompt, without its image where the text encoder sees none."""
    return prompt if generator.reads_images else str(prompt)


def _image_keys(prompts: Sequence[ImagePrompt], generator: Generator, size: VideoSize) -> dict[str, ImagePrompt]:
    dtypes = {name: str(reader.dtype) for name, reader in image_encoders(generator).items()}
    return {content_key("image", prompt.image_key, str(size), dtypes): prompt for prompt in prompts}


def _latent_keys(paths: Sequence[Path], generator: Generator) -> dict[Path, str]:
    dtype = str(encoders(generator)[VAE].dtype)
    return {path: content_key("latents", file_hash(path), dtype) for path in dict.fromkeys(paths)}


def file_hash(path: Path) -> str:
    """sha256 of a file's content; a file that did not change since is not read again."""
    status = path.stat()
    return _hash(path, status.st_size, status.st_mtime_ns)


@functools.lru_cache(maxsize=100_000)
def _hash(path: Path, size: int, changed_ns: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _encoded(path: Path, generator: Generator) -> Tensor:
    return generator.encode(read_video(path).frames[None])[0]


def _check_size(path: Path, generator: Generator) -> None:
    probe = probe_video(path)
    try:
        generator.check(VideoSize(probe.num_frames, probe.height, probe.width))
    except ReelignError as error:
        raise ReelignError(f"{path}: {error.what}", f"{error.mend} Cut or resize the file.") from None
