"""Which settings and which function stand behind `align.stream`."""

from __future__ import annotations

from dataclasses import fields

import pytest

from reelign.recipes.settings import RunSettings
from reelign.recipes.streams import STREAMS, stream_settings


def test_offline_is_what_nothing_said_means() -> None:
    assert next(iter(STREAMS)) == "offline"
    assert [name for name, each in STREAMS.items() if each.stored] == ["offline"]


@pytest.mark.parametrize("name", STREAMS)
def test_the_settings_of_a_stream_name_it_and_are_a_runs(name: str) -> None:
    kind = stream_settings()[name]
    assert issubclass(kind, RunSettings)
    assert {field.name: field.default for field in fields(kind)}["stream"] == name
    assert kind().__class__ is kind
