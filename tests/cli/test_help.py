"""What the command line says of itself, and how fast."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from cli.process import SCRIPT, reelign, script
from reelign.cli import COMMANDS

ATTEMPTS = 5
"""Other processes share the cores; one undisturbed attempt is enough to know what it costs."""


def test_help_lists_every_command(tmp_path: Path) -> None:
    result = script("--help", folder=tmp_path)
    assert result.code == 0
    for name in COMMANDS:
        assert re.search(rf"\b{name}\b", result.out), name


@pytest.mark.alone
def test_help_answers_within_0_3_s_of_cpu() -> None:
    spent = []
    for _ in range(ATTEMPTS):
        before = os.times()
        subprocess.run([str(SCRIPT), "--help"], check=True, capture_output=True)
        after = os.times()
        spent.append(after.children_user + after.children_system - before.children_user - before.children_system)
        if spent[-1] <= 0.3:
            return
    pytest.fail(f"reelign --help took {min(spent):.2f} s of CPU at best")


@pytest.mark.parametrize("name", COMMANDS)
def test_help_of_every_command_shows_an_example(name: str, tmp_path: Path) -> None:
    result = reelign(name, "--help", folder=tmp_path, COLUMNS="200")
    assert result.code == 0
    assert f"Example: reelign {name}" in re.sub(r"[`]|\x1b\[[\d;]*m", "", result.out)


def test_the_command_line_is_there_before_torch_is() -> None:
    code = "import sys, reelign, reelign.cli; assert not {'torch', 'diffusers', 'pydantic', 'av'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_of_bitsandbytes_warnings_only_the_one_of_its_own_kernels_is_left_out() -> None:
    code = """
import logging, sys, reelign.cli
sys.argv = ["reelign", "--help"]
try:
    reelign.cli.main()
except SystemExit:
    pass
import bitsandbytes
logging.getLogger("bitsandbytes.backends.cpu.ops").warning("something else")
"""
    found = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert "gemm_4bit_forward" not in found.stderr
    assert "something else" in found.stderr


def test_an_unknown_command_or_option_is_refused(tmp_path: Path) -> None:
    for words in (["aling"], ["align", "--pears", "x.csv"]):
        result = reelign(*words, folder=tmp_path)
        assert result.code == 2
        assert "Traceback" not in result.err
        assert words[-1 if len(words) == 1 else 1].lstrip("-")[:4] in result.err
