"""The command line: one command per file, each parses, calls a stage and prints."""

from __future__ import annotations

import errno
import sys
from collections.abc import Callable

import typer

from reelign.cli import align, demo, evaluate, export, generate, init, judge, push, report, sample, schema
from reelign.errors import ReelignError

app = typer.Typer(
    help="Align video generators with human preferences: generate, judge, align, evaluate, report.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
)

COMMANDS: dict[str, Callable[..., None]] = {
    "demo": demo.demo,
    "init": init.init,
    "generate": generate.generate,
    "judge": judge.judge,
    "align": align.align,
    "evaluate": evaluate.evaluate,
    "report": report.report,
    "sample": sample.sample,
    "export": export.export,
    "push": push.push,
    "schema": schema.schema,
}
for _name, _command in COMMANDS.items():
    app.command(_name)(_command)


def main() -> None:
    """Run a command; errors a user can act on are two sentences and an exit code, not a traceback."""
    try:
        app()
    except ReelignError as error:
        fail(error.what, error.mend)
    except KeyboardInterrupt:
        fail("Stopped.", "Nothing already made is lost; the same command again goes on where it stopped.", code=130)
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        fail(
            f"The disk is full: {error.filename or 'a file'} could not be written.", "Free some space and run it again."
        )


def fail(what: str, mend: str, *, code: int = 2) -> None:
    print(f"\nreelign: {what}\n{mend}", file=sys.stderr)
    sys.exit(code)
