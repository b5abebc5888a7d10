"""Words of prompts: those that come with reelign are whole, and what is no such table is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from reelign.errors import ReelignError
from reelign.recipes.prompts.drafts import combinations, drawn
from reelign.recipes.prompts.words import WORDS, load_words, read_words
from reelign.spriteworld.prompts import all_captions

CATS = {"template": "a {colour} cat", "categories": {"cats": {"colour": ["red", "blue", "red"]}}}


@pytest.mark.parametrize("name", WORDS)
def test_the_words_that_come_along_make_sentences(name: str) -> None:
    for category in load_words(name):
        text = drawn(category, torch.Generator().manual_seed(0)).text
        assert "{" not in text
        assert all(len(set(words)) == len(words) for words in category.words.values())


def test_the_small_worlds_words_are_its_captions() -> None:
    found = set()
    for category in load_words("spriteworld"):
        generator = torch.Generator().manual_seed(0)
        found |= {drawn(category, generator).text for _ in range(1500)}
    assert found == set(all_captions())


def test_words_are_drawn_evenly_and_by_the_generator_alone() -> None:
    (cats,) = read_words({**CATS, "categories": {"cats": {"colour": ["red", "blue"]}}}, "here")
    texts = [drawn(cats, generator).text for generator in [torch.Generator().manual_seed(3)] for _ in range(400)]
    assert 160 < texts.count("a red cat") < 240
    assert drawn(cats, torch.Generator().manual_seed(3)).text == texts[0]
    assert combinations(read_words(CATS, "here")[0]) == 2


def test_a_category_may_have_its_own_template_and_replace_words(tmp_path: Path) -> None:
    path = tmp_path / "words.yaml"
    path.write_text(
        "template: '{who} {place}'\nattributes: {place: [outside], who: [nobody]}\n"
        "categories:\n  cats: {who: [a cat]}\n  places: {template: 'only {place}'}\n  nobody: {}\n"
    )
    texts = [drawn(each, torch.Generator()).text for each in load_words(str(path))]
    assert texts == ["a cat outside", "only outside", "nobody outside"]


@pytest.mark.parametrize(
    ("held", "message"),
    [
        (None, "have no categories"),
        ({"categories": {}}, "have no categories"),
        ({**CATS, "category": {}}, "unknown key 'category'"),
        ({**CATS, "template": "a cat"}, "no template with places"),
        ({**CATS, "template": "a {size} cat"}, r"no words for \{size\}"),
        ({**CATS, "template": "a {colour cat"}, "is not valid"),
        ({**CATS, "categories": {"cats": {"colour": "red"}}}, "Give a list of texts"),
        ({**CATS, "categories": {"cats": ["red"]}}, "category cats are"),
    ],
)
def test_what_is_no_table_of_words_is_refused(held: Any, message: str) -> None:
    with pytest.raises(ReelignError, match=message):
        read_words(held, "here")


def test_unknown_words_are_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(ReelignError, match="no words called 'everyday2'"):
        load_words("everyday2")
    with pytest.raises(ReelignError, match="cannot be read"):
        load_words(str(tmp_path / "none.yaml"))
