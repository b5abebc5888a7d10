"""Whether a model's folder is whole: checked before gigabytes are read, by names, sizes and headers alone."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from reelign.errors import ReelignError
from reelign.generators.weights import loads_as_diffusers

AGAIN = "Download it again, which goes on where it stopped (hf download MODEL --local-dir FOLDER), or save it anew."
LFS = b"version https://git-lfs"
"""What the file that git keeps in the place of a large one begins with."""
WORDS = ("tokenizer.json", "tokenizer.model", "spiece.model", "vocab.json", "vocab.txt", "sentencepiece.bpe.model")
"""Where tokenizers have their vocabulary; one of them is enough."""


def check_complete(source: str, index: Mapping[str, Any], *, unread: Collection[str] = ()) -> None:
    """Refuse a folder that its `model_index.json` promises more of than is there; a hub id is fetched whole.

    Args:
        source: the folder.
        index: its `model_index.json`.
        unread: components of which no weights are going to be read.
    Raises:
        ReelignError: a component, a shard that an index of weights names, or a vocabulary is missing, or weights are
            cut short.
    """
    root = Path(source)
    if not root.is_dir():
        return
    for name, entry in index.items():
        if not isinstance(entry, list) or len(entry) != 2 or entry[0] is None:
            continue
        library, kind = entry
        folder = root / name
        if not folder.is_dir() or not any(folder.iterdir()):
            raise _lacks(source, f"the folder {name}, a {kind}")
        if name.startswith("tokenizer") and "ByT5" not in kind:  # whose words are bytes
            if not any((folder / file).is_file() for file in WORDS):
                raise _lacks(source, f"the vocabulary of its {name}")
        elif (folder / "config.json").is_file() and name not in unread:
            for file in _weight_files(source, folder, diffusers=loads_as_diffusers(library)):
                _check_length(file)


def _weight_files(source: str, folder: Path, *, diffusers: bool) -> Iterator[Path]:
    """The files that a model's weights are read from."""
    stems = ("diffusion_pytorch_model",) * 2 if diffusers else ("model", "pytorch_model")
    for name in (f"{stems[0]}.safetensors", f"{stems[1]}.bin"):
        if (folder / name).is_file():
            yield folder / name
            return
        listed = folder / f"{name}.index.json"
        if not listed.is_file():
            continue
        try:
            shards = sorted(set(json.loads(listed.read_text())["weight_map"].values()))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ReelignError(f"{listed} is damaged: it does not name the files of the weights.", AGAIN) from error
        for shard in shards:
            if not (folder / shard).is_file():
                raise _lacks(source, f"{folder.name}/{shard}, which the index of its weights names")
            yield folder / shard
        return
    raise _lacks(source, f"the weights of its {folder.name}")


def _check_length(path: Path) -> None:
    """Refuse a file that ends before what its header says, or that stands in the place of another."""
    size = path.stat().st_size
    with path.open("rb") as file:
        begin = file.read(len(LFS))
        if begin == LFS:
            raise ReelignError(
                f"{path} is what git keeps in the place of a large file, not the file.",
                "Fetch it: git lfs pull in that folder, or hf download MODEL --local-dir FOLDER.",
            )
        if path.suffix != ".safetensors":
            return
        length = int.from_bytes(begin[:8], "little")
        whole = 8 + length
        if whole <= size:
            file.seek(8)
            try:
                header = json.loads(file.read(length))
                tensors = (each for name, each in header.items() if name != "__metadata__")
                whole += max((each["data_offsets"][1] for each in tensors), default=0)
            except (ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
                raise ReelignError(f"{path} is damaged: its header cannot be read.", AGAIN) from error
    if size < whole:
        raise ReelignError(f"{path} is cut short: {size:,} of at least {whole:,} bytes are there.", AGAIN)


def _lacks(source: str, what: str) -> ReelignError:
    return ReelignError(f"{source} is not whole: it lacks {what}.", AGAIN)
