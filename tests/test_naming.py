"""Objects named as package.module:object."""

from __future__ import annotations

import math
import os.path

import pytest

from reelign.errors import ReelignError
from reelign.naming import is_object_name, named_object


def test_an_object_and_its_attribute_are_found() -> None:
    assert named_object("math:tau", "number") is math.tau
    assert named_object("os:path.join", "function") is os.path.join


@pytest.mark.parametrize("name", ["math", "math:", ":tau", ""])
def test_other_forms_name_nothing(name: str) -> None:
    assert not is_object_name(name)
    assert is_object_name("math:tau")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("no_such_module:one", r"the judge's module 'no_such_module' cannot be imported: .*\n.*PYTHONPATH=\."),
        ("math:sqr", r"module 'math' has no 'sqr'\nDid you mean 'sqrt'\?"),
        ("os:path.jion", r"module 'os' has no 'path.jion'\nDid you mean 'join'\?"),
        ("math:xyzzyx", r"module 'math' has no 'xyzzyx'\nCheck the spelling after the colon"),
    ],
)
def test_what_is_not_there_is_said_with_the_nearest_name(name: str, message: str) -> None:
    with pytest.raises(ReelignError, match=message):
        named_object(name, "judge")
