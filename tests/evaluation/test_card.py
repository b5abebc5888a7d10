from __future__ import annotations

import pytest
from huggingface_hub import ModelCard

from reelign.errors import ReelignError
from reelign.evaluation import CardSample, write_card

USAGE = "pipe = WanPipeline.from_pretrained('base')\npipe.load_lora_weights('.')"


def card(folder, comparison, base_model, **extra):
    return write_card(
        folder,
        base_model=base_model,
        comparison=comparison,
        config={"objective": {"beta": 500.0}, "folder": folder},
        data_hash="sha256:abc",
        usage=USAGE,
        **extra,
    )


def test_card_is_read_back_by_the_hub_library(tmp_path, comparison):
    (tmp_path / "samples").mkdir()
    (tmp_path / "samples" / "0.mp4").write_bytes(b"mp4")
    samples = [CardSample(prompt='a <b>: "red" square', file="samples/0.mp4")]
    path = card(tmp_path, comparison, "Wan-AI/Wan2.1-T2V-1.3B-Diffusers", samples=samples, license="apache-2.0")
    assert path == tmp_path / "README.md"
    loaded = ModelCard.load(path)
    data = loaded.data.to_dict()
    assert data["base_model"] == "Wan-AI/Wan2.1-T2V-1.3B-Diffusers"
    assert data["library_name"] == "diffusers"
    assert data["pipeline_tag"] == "text-to-video"
    assert "lora" in data["tags"]
    assert data["widget"] == [{"text": 'a <b>: "red" square', "output": {"url": "samples/0.mp4"}}]
    assert USAGE in loaded.text
    assert "sha256:abc" in loaded.text
    assert "beta: 500.0" in loaded.text
    assert f"{comparison.gain:+.3f}" in loaded.text
    assert f"{comparison.low:+.3f}" in loaded.text
    assert "a &lt;b&gt;" in loaded.text
    assert "**Significantly down:** TA." in loaded.text
    # A Markdown table ends at the first line that is none of its own.
    lines = loaded.text.splitlines()
    head = next(index for index, line in enumerate(lines) if line.startswith("| | base |"))
    assert [line.split("|")[1].strip() for line in lines[head + 1 : head + 6]] == ["---", "mean", "VQ", "MQ", "TA"]


def test_a_local_base_model_stays_out_of_the_metadata(tmp_path, comparison):
    base = tmp_path / "pipeline"
    base.mkdir()
    loaded = ModelCard.load(card(tmp_path, comparison, str(base)))
    assert "base_model" not in loaded.data.to_dict()
    assert str(base) in loaded.text


def test_a_missing_sample_video_is_named(tmp_path, comparison):
    with pytest.raises(ReelignError, match=r"samples/1\.mp4"):
        card(tmp_path, comparison, "a/b", samples=[CardSample(prompt="p", file="samples/1.mp4")])
