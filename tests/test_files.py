"""Files appear whole or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest

from reelign.files import whole, write_text


def test_a_file_takes_its_place_at_the_end_of_the_block(tmp_path: Path) -> None:
    path = tmp_path / "new" / "file.txt"
    with whole(path) as beside:
        beside.write_text("one")
        assert not path.exists()
        assert beside.parent == path.parent
    assert path.read_text() == "one"
    assert list(path.parent.iterdir()) == [path]


def test_an_error_leaves_what_was_there_before_and_nothing_beside(tmp_path: Path) -> None:
    path = tmp_path / "file.txt"
    write_text(path, "before")

    def cut_short() -> None:
        with whole(path) as beside:
            beside.write_text("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        cut_short()
    assert path.read_text() == "before"
    assert list(tmp_path.iterdir()) == [path]
