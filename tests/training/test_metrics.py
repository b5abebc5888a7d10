"""The log of a run's metrics."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from reelign.training.metrics import MetricsLog


def test_a_run_goes_on_behind_the_step_it_starts_from(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").write_text('{"step": 1}\n{"step": 2}\n{"step": 3}\n{"st')
    log = MetricsLog(tmp_path, 2)
    log.write(3, {"loss": 0.5})
    log.close()
    lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == [{"step": 1}, {"step": 2}, {"step": 3, "loss": 0.5}]


def test_a_full_disk_on_the_way_loses_no_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1}\n{"step": 2}\n')
    write = Path.write_text

    def full(self: Path, text: str, **options: str) -> int:
        write(self, text[:5], **options)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(OSError, match="No space"):
        MetricsLog(tmp_path, 2)
    assert path.read_text() == '{"step": 1}\n{"step": 2}\n'
