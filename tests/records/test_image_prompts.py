"""Prompts with images: read from files, kept by content, told apart, copied, and refused."""

from __future__ import annotations

import copy
import json
import pickle
from pathlib import Path

import pytest
from PIL import Image
from sqlalchemy import text

from reelign.errors import ReelignError
from reelign.records import ImagePrompt, Workspace, image_prompt, prompt_content, read_prompts
from reelign.records.database import open_engine
from reelign.records.exchange.bundle import add_bundle, bundle_of
from reelign.records.schema import Video, content_key


@pytest.fixture
def pictures(tmp_path: Path) -> list[Path]:
    """Two images, and the first one again under another name."""
    paths = [tmp_path / name for name in ("red.png", "blue.png", "again.png")]
    for path, colour in zip(paths, ("red", "blue", "red"), strict=True):
        Image.new("RGB", (6, 4), colour).save(path)
    return paths


def test_a_prompt_is_its_text_and_its_image(pictures: list[Path]) -> None:
    red, blue, again = (image_prompt("a square", path) for path in pictures)
    assert red == again
    assert hash(red) == hash(again)
    assert red != blue
    assert red != "a square"
    assert red != "a square"
    assert list(dict.fromkeys([red, blue, again, "a square"])) == [red, blue, "a square"]
    assert red.upper() == "A SQUARE"
    assert f"{red}" == "a square"
    assert json.loads(json.dumps(red)) == "a square"
    assert prompt_content("a square") == "a square"
    assert prompt_content(red) != prompt_content(blue)
    for copied in (copy.deepcopy(red), pickle.loads(pickle.dumps(red))):
        assert copied == red
        assert copied.image == pictures[0]


@pytest.mark.parametrize("name", ["prompts.jsonl", "prompts.csv"])
def test_a_table_gives_texts_and_images_beside_it(pictures: list[Path], tmp_path: Path, name: str) -> None:
    rows = [("a square", "red.png"), ("a disc", ""), ("a square", str(pictures[1]))]
    file = tmp_path / name
    if name.endswith("csv"):
        file.write_text("text,image\n" + "".join(f"{prompt},{image}\n" for prompt, image in rows))
    else:
        file.write_text("".join(json.dumps({"text": prompt, "image": image}) + "\n" for prompt, image in rows))
    expected = [image_prompt("a square", pictures[0]), "a disc", image_prompt("a square", pictures[1])]
    assert read_prompts(file) == expected


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"prompt": "a"}', "has no column 'text'"),
        ('{"text": " "}', "row 1: text must be a text"),
        ('{"text": "a", "image": 3}', "row 1: image must be a path"),
        ('{"text": "a", "image": "gone.png"}', r"row 1: .*gone\.png cannot be read as an image"),
        ('{"text": "a", "image": "prompts.jsonl"}', r"row 1: .*prompts\.jsonl cannot be read as an image"),
    ],
)
def test_what_is_no_prompt_is_refused(tmp_path: Path, content: str, message: str) -> None:
    file = tmp_path / "prompts.jsonl"
    file.write_text(content)
    with pytest.raises(ReelignError, match=message):
        read_prompts(file)


def test_the_workspace_keeps_each_image_once_by_its_content(workspace: Workspace, pictures: list[Path]) -> None:
    given = [image_prompt("a square", pictures[0]), image_prompt("a square", pictures[1]), "a square"]
    first = workspace.add_prompts([*given, image_prompt("a square", pictures[2])], "train")
    assert len({prompt.id for prompt in first}) == 3
    for path in pictures:
        path.unlink()
    again = Workspace.open(workspace.root)
    asked = [again.asked(prompt) for prompt in again.prompts("train")]
    assert asked == given
    assert len(list((workspace.root / "images").iterdir())) == 2
    assert isinstance(asked[0], ImagePrompt)
    assert Image.open(asked[0].image).getpixel((0, 0)) == (255, 0, 0)
    # As they stand in the workspace they are known again.
    assert [prompt.id for prompt in again.add_prompts(asked, "train")] == [prompt.id for prompt in first]


def test_the_key_of_a_text_alone_is_what_it_was(workspace: Workspace) -> None:
    (prompt,) = workspace.add_prompts(["a square"], "train")
    assert prompt.key == content_key("a square", "train")
    with open_engine(workspace.url).connect() as connection:
        assert connection.execute(text("SELECT image FROM prompts")).all() == [(None,)]


def test_an_image_that_changed_since_it_was_read_is_refused(workspace: Workspace, pictures: list[Path]) -> None:
    prompt = image_prompt("a square", pictures[0])
    Image.new("RGB", (6, 5), "green").save(pictures[0])
    with pytest.raises(ReelignError, match="was changed since it was read"):
        workspace.add_prompts([prompt], "train")
    assert not workspace.prompts()


def test_a_record_carries_the_images_of_its_prompts(workspace: Workspace, pictures: list[Path], tmp_path: Path) -> None:
    red, blue = workspace.add_prompts([image_prompt("a square", path) for path in pictures[:2]], "train")
    for prompt in (red, blue):
        workspace.add_videos(
            [
                Video(
                    id=f"v{prompt.id}",
                    prompt_id=prompt.id,
                    generator="",
                    seed=1,
                    path=f"videos/{prompt.id}.mp4",
                    fps=8,
                    num_frames=9,
                    height=16,
                    width=16,
                )
            ]
        )
    there = Workspace.create(tmp_path / "there", model="tiny/wan")
    add_bundle(there, bundle_of(workspace))
    assert [(each.text, each.image) for each in there.prompts()] == [(p.text, p.image) for p in (red, blue)]
    assert len({video.prompt_id for video in there.videos()}) == 2
