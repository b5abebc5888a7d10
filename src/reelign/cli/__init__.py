"""The command line: one command per file, each parses, calls a stage and prints."""

from __future__ import annotations

import functools
import logging
import sys
from collections.abc import Callable

import typer

from reelign.cli import (
    align,
    annotate,
    critic,
    critics,
    demo,
    evaluate,
    explore,
    export,
    generate,
    import_,
    init,
    iterate,
    judge,
    latent_reward,
    models,
    pairs,
    plan,
    prompts,
    push,
    report,
    reward,
    rewards,
    sample,
    schema,
)
from reelign.errors import ReelignError, disk_is_full

app = typer.Typer(
    help="Align video generators with human preferences: generate, judge, align, evaluate, report.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
)

COMMANDS: dict[str, Callable[..., None]] = {
    "demo": demo.demo,
    "models": models.models,
    "init": init.init,
    "prompts": prompts.prompts,
    "generate": generate.generate,
    "judge": judge.judge,
    "critics": critics.critics,
    "annotate": annotate.annotate,
    "pairs": pairs.pairs,
    "plan": plan.plan,
    "align": align.align,
    "iterate": iterate.iterate,
    "evaluate": evaluate.evaluate,
    "report": report.report,
    "sample": sample.sample,
    "explore": explore.explore,
    "export": export.export,
    "import": import_.import_,
    "push": push.push,
    "schema": schema.schema,
}
GROUPS = {"critic": critic, "reward": reward, "rewards": rewards, "latent-reward": latent_reward}
"""Commands of two words, `reelign reward train`: modules with an `app` and COMMANDS of their own."""


class Stopped(Exception):
    """Ctrl-C in a command. typer turns KeyboardInterrupt into a bare exit code and says nothing."""


def _stoppable(command: Callable[..., None]) -> Callable[..., None]:
    @functools.wraps(command)
    def run(*arguments: object, **options: object) -> None:
        try:
            command(*arguments, **options)
        except KeyboardInterrupt:
            raise Stopped from None

    return run


for _name, _command in COMMANDS.items():
    app.command(_name)(_stoppable(_command))
for _name, _group in GROUPS.items():
    for _second, _command in _group.COMMANDS.items():
        _group.app.command(_second)(_stoppable(_command))
    app.add_typer(_group.app, name=_name)


def main() -> None:
    """Run a command; errors a user can act on are two sentences and an exit code, not a traceback."""
    # diffusers imports bitsandbytes with any model, which then asks for a package that nothing here would use.
    logging.getLogger("bitsandbytes.backends.cpu.ops").addFilter(_matters)
    try:
        app()
    except ReelignError as error:
        fail(error.what, error.mend)
    except Stopped:
        fail("Stopped.", "Nothing already made is lost; the same command again goes on where it stopped.", code=130)
    except Exception as error:
        if not disk_is_full(error):
            raise
        named = getattr(error, "filename", None) or "a file"
        fail(
            f"The disk is full: {named} could not be written.",
            "Free some space and run the same command again; what was made before is kept.",
        )


def _matters(record: logging.LogRecord) -> bool:
    return not str(record.msg).startswith("Failed to load CPU gemm_4bit_forward")


def fail(what: str, mend: str, *, code: int = 2) -> None:
    print(f"\nreelign: {what}\n{mend}", file=sys.stderr)
    sys.exit(code)
