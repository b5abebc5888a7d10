"""The whole demo as a newcomer runs it."""

from __future__ import annotations

import json
import os
import re
import subprocess
import time
from pathlib import Path

import pytest

from cli.process import SCRIPT

MINUTES = 6
GIB = 4


@pytest.mark.slow
def test_the_demo_ends_in_time_and_memory_with_a_result_and_a_report(tmp_path: Path) -> None:
    began = time.monotonic()
    with (tmp_path / "out").open("w") as out, (tmp_path / "err").open("w") as err:
        process = subprocess.Popen([str(SCRIPT), "demo"], cwd=tmp_path, stdout=out, stderr=err)
        _, status, usage = os.wait4(process.pid, 0)
    seconds = time.monotonic() - began
    assert os.waitstatus_to_exitcode(status) == 0, (tmp_path / "err").read_text()
    run = tmp_path / "demo" / "runs" / "align"
    result = json.loads((run / "result.json").read_text())
    assert result["low"] <= result["gain"] <= result["high"]
    assert set(result["dimensions"]) == {"VQ", "MQ", "TA"}
    assert set(result["seconds"]) == {"init", "generate", "judge", "align", "evaluate"}
    assert 0 < result["peak_memory_bytes"] <= GIB << 30
    assert usage.ru_maxrss * 1024 <= GIB << 30
    assert (run / "report.html").stat().st_size > 100_000
    printed = (tmp_path / "out").read_text()
    assert re.search(r"[+-]\d\.\d+ \[[+-]\d\.\d+, [+-]\d\.\d+\]", printed)
    assert str(run / "report.html") in printed
    assert "load_lora_weights" in printed
    assert seconds <= MINUTES * 60
