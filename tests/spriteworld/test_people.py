"""Simulated people: noisy, sometimes undecided, right more often the larger the difference."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace

import pytest
import torch

from reelign.spriteworld.people import Person, people
from reelign.spriteworld.prompts import captions
from reelign.spriteworld.world import no_flaws, render, sample_scenes


def shares(person: Person, difference: float, count: int = 4000) -> Counter[str]:
    rows = person.decide(torch.full((count, 1), difference), torch.Generator().manual_seed(0))
    return Counter({verdict: number / count for verdict, number in Counter(row[0] for row in rows).items()})


def test_people_are_right_more_often_as_the_difference_grows() -> None:
    person = people(1)[0]
    right = [shares(person, difference)["a"] for difference in (0.0, 0.1, 0.2, 0.4, 0.8)]
    assert right == sorted(right)
    assert right[0] < 0.35
    assert right[-1] > 0.98


def test_the_noise_is_bradley_terry() -> None:
    person = Person(name="Ada", sharpness=4.0, tie_band=0.0)
    assert shares(person, 0.25)["a"] == pytest.approx(1 / (1 + math.exp(-1)), abs=0.02)
    assert shares(person, -0.25)["b"] == pytest.approx(1 / (1 + math.exp(-1)), abs=0.02)
    assert shares(person, 0.25)["tie"] == 0


def test_equal_videos_are_often_a_tie() -> None:
    found = shares(Person(name="Ada", tie_band=1.0), 0.0)
    assert found["tie"] == pytest.approx(math.tanh(0.5), abs=0.03)
    assert found["a"] == pytest.approx(found["b"], abs=0.05)


def test_people_see_what_is_wrong() -> None:
    scene = sample_scenes(24, torch.Generator().manual_seed(0))
    flaws = replace(no_flaws(scene), jitter=torch.ones(24), phase=torch.rand(24, 2))
    texts = captions(scene.attributes)
    answers = [
        person.compare(render(scene), render(scene, flaws=flaws), texts, generator=torch.Generator().manual_seed(i))
        for i, person in enumerate(people())
    ]
    motion = Counter(row["MQ"] for rows in answers for row in rows)
    assert motion["a"] > 0.95 * motion.total()
    visual = Counter(row["VQ"] for rows in answers for row in rows)
    assert visual["tie"] > 0
    assert set(answers[0][0]) == {"VQ", "MQ", "TA"}


def test_equal_seeds_give_equal_verdicts() -> None:
    scene = sample_scenes(8, torch.Generator().manual_seed(0))
    videos, texts, person = render(scene), captions(scene.attributes), people()[0]
    first, again, other = (
        person.compare(videos, videos.flip(0), texts, generator=torch.Generator().manual_seed(seed))
        for seed in (1, 1, 2)
    )
    assert first == again
    assert first != other


def test_a_panel_has_names_and_versions() -> None:
    panel = people()
    assert len({person.name for person in panel}) == 3
    assert all(person.dimensions == ("VQ", "MQ", "TA") for person in panel)
    assert Person(name="Ada").version != Person(name="Ada", sharpness=3.0).version
    with pytest.raises(ValueError, match="count"):
        people(0)
    with pytest.raises(ValueError, match="sharpness"):
        Person(name="Ada", sharpness=0.0)
