"""Run `reelign` as a process of its own.

Importing torch and diffusers takes seconds, so most commands run in a fork of the tests' own process, which has them:
a real process with its own exit code, streams, limits and signals, through the console script's own entry point.
`script` starts the installed console script itself.
"""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import torch

SCRIPT = Path(sys.executable).parent / "reelign"


@dataclass(frozen=True)
class Result:
    """What a finished command left behind."""

    code: int
    out: str
    err: str


@dataclass
class Command:
    """A running command."""

    words: list[str]
    folder: Path
    environment: dict[str, str] = field(default_factory=dict)
    largest_file: int | None = None
    """Bytes that a file may hold before writing to it fails."""

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.out, self.err = (self.folder / f".{os.urandom(4).hex()}.{name}" for name in ("out", "err"))
        self.pid = os.fork()
        if self.pid == 0:
            self._child()

    def wait(self) -> Result:
        _, status = os.waitpid(self.pid, 0)
        code = os.waitstatus_to_exitcode(status)
        result = Result(code, self.out.read_text(), self.err.read_text())
        self.out.unlink()
        self.err.unlink()
        return result

    def interrupt(self, when: Callable[[], bool], *, within_s: float = 60.0) -> Result:
        """Send Ctrl-C's signal once something is there."""
        until = time.monotonic() + within_s
        while not when():
            assert time.monotonic() < until, "it never came so far"
            assert os.waitpid(self.pid, os.WNOHANG) == (0, 0), f"it ended before: {self.err.read_text()}"
            time.sleep(0.02)
        os.kill(self.pid, signal.SIGINT)
        return self.wait()

    def _child(self) -> None:
        code = 70
        try:
            for number, path in ((1, self.out), (2, self.err)):
                os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
            sys.stdout, sys.stderr = os.fdopen(1, "w", closefd=False), os.fdopen(2, "w", closefd=False)
            signal.signal(signal.SIGINT, signal.default_int_handler)
            os.environ.update(self.environment)
            sys.path[:0] = [path for path in self.environment.get("PYTHONPATH", "").split(":") if path]
            os.chdir(self.folder)
            # After a fork torch makes its pool of threads anew on first use, and two threads at once would trip.
            torch.set_num_threads(torch.get_num_threads())
            sys.argv = ["reelign", *self.words]
            if self.largest_file is not None:
                resource.setrlimit(resource.RLIMIT_FSIZE, (self.largest_file, resource.RLIM_INFINITY))
            code = self._main()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)

    def _main(self) -> int:
        from reelign.cli import main

        try:
            main()
        except SystemExit as end:
            return end.code if isinstance(end.code, int) else int(end.code is not None)
        except BaseException:
            traceback.print_exc()
            return 1
        return 0


def start(*words: object, folder: Path, largest_file: int | None = None, **environment: str) -> Command:
    """Start a command in a folder."""
    return Command([str(word) for word in words], folder, environment, largest_file)


def reelign(*words: object, folder: Path, largest_file: int | None = None, **environment: str) -> Result:
    """Run a command in a folder to its end."""
    return start(*words, folder=folder, largest_file=largest_file, **environment).wait()


def succeed(*words: object, folder: Path, **environment: str) -> str:
    """Run a command that must succeed; returns what it printed."""
    result = reelign(*words, folder=folder, **environment)
    assert result.code == 0, result.err
    return result.out


def script(*words: object, folder: Path) -> Result:
    """Run the installed console script."""
    done = subprocess.run(
        [str(SCRIPT), *(str(word) for word in words)],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    return Result(done.returncode, done.stdout, done.stderr)


def refusal(result: Result) -> str:
    """The message of a command that refused: one sentence of what is wrong, one of the mend, and no traceback."""
    assert result.code not in (0, 1, 70), result.err
    assert "Traceback" not in result.err + result.out
    _, start, message = result.err.rpartition("\nreelign: ")
    assert start, result.err
    what, _, mend = message.strip().partition("\n")
    assert what
    assert mend
    return message.strip()
