"""Half-downloaded models are recognised before anything is read, with what is missing."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from reelign.errors import ReelignError
from reelign.generators import load_generator
from reelign.generators.complete import check_complete
from reelign.generators.encoders import VAE, holding


@pytest.fixture
def copy(tiny_wan_folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_wan_folder, tmp_path / "copy"))


def in_shards(part: Path, stem: str) -> list[Path]:
    """Its weights in two files and an index, as large ones are published."""
    whole = next(part.glob("*.safetensors"))
    weights = load_file(whole)
    names = sorted(weights)
    whole.unlink()
    shards = [part / f"{stem}-0000{number}-of-00002.safetensors" for number in (1, 2)]
    for shard, own in zip(shards, (names[::2], names[1::2]), strict=True):
        save_file({name: weights[name] for name in own}, shard, metadata={"format": "pt"})
    where = {name: shards[place % 2].name for place, name in enumerate(names)}
    (part / f"{stem}.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": where}))
    return shards


def refusal(copy: Path) -> ReelignError:
    with pytest.raises(ReelignError) as caught:
        load_generator(str(copy))
    return caught.value


@pytest.mark.parametrize(
    ("part", "stem"), [("transformer", "diffusion_pytorch_model"), ("vae", "diffusion_pytorch_model")]
)
def test_a_shard_that_the_index_names_is_missed_by_its_name(copy: Path, part: str, stem: str) -> None:
    shards = in_shards(copy / part, stem)
    load_generator(str(copy))
    shards[1].unlink()
    error = refusal(copy)
    assert error.what.endswith(
        f"it lacks {part}/{stem}-00002-of-00002.safetensors, which the index of its weights names."
    )
    assert "hf download" in error.mend


def test_a_shard_of_a_text_encoder_is_missed_too(copy: Path) -> None:
    in_shards(copy / "text_encoder", "model")[0].unlink()
    assert "lacks text_encoder/model-00001-of-00002.safetensors" in refusal(copy).what


@pytest.mark.parametrize("part", ["transformer", "vae", "text_encoder", "tokenizer", "scheduler"])
def test_a_component_that_is_not_there_is_named(copy: Path, part: str) -> None:
    shutil.rmtree(copy / part)
    assert f"lacks the folder {part}, a " in refusal(copy).what


def test_a_tokenizer_without_words_is_named(copy: Path) -> None:
    (copy / "tokenizer" / "tokenizer.json").unlink()
    assert "lacks the vocabulary of its tokenizer" in refusal(copy).what


@pytest.mark.parametrize("part", ["transformer", "vae", "text_encoder"])
def test_weights_that_end_early_are_named_with_their_length(copy: Path, part: str) -> None:
    path = next((copy / part).glob("*.safetensors"))
    size = path.stat().st_size
    for kept in (size - 1, 100, 3):
        path.write_bytes(path.read_bytes()[:kept])
        error = refusal(copy)
        assert f"{path} is cut short: {kept:,} of at least " in error.what, kept
        assert kept != size - 1 or f"at least {size:,} bytes" in error.what


def test_what_git_keeps_in_the_place_of_a_file_is_recognised(copy: Path) -> None:
    path = next((copy / "transformer").glob("*.safetensors"))
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 5\n")
    assert "is what git keeps in the place of a large file" in refusal(copy).what


def test_an_index_and_a_header_that_cannot_be_read_are_named(copy: Path) -> None:
    path = next((copy / "vae").glob("*.safetensors"))
    path.write_bytes((4).to_bytes(8, "little") + b"{{{{" + bytes(9))
    assert f"{path} is damaged" in refusal(copy).what
    in_shards(copy / "transformer", "diffusion_pytorch_model")
    index = copy / "transformer" / "diffusion_pytorch_model.safetensors.index.json"
    index.write_text("{}")
    assert f"{index} is damaged" in refusal(copy).what


def test_encoders_that_are_not_read_may_be_away_until_they_are_needed(copy: Path) -> None:
    path = next((copy / "vae").glob("*.safetensors"))
    path.write_bytes(path.read_bytes()[:-1])
    lean = load_generator(str(copy), encoders=False)
    with pytest.raises(ReelignError, match="is cut short"), holding(lean, VAE):
        pass
    shutil.rmtree(copy / "scheduler")
    with pytest.raises(ReelignError, match="lacks the folder scheduler"):
        load_generator(str(copy), weights=False)


def test_what_is_no_folder_is_fetched_whole() -> None:
    check_complete("someone/model", {"transformer": ["diffusers", "WanTransformer3DModel"]})
