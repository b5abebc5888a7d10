"""Real ranks: processes of one gloo group, forked from a server that has imported the libraries once."""

from __future__ import annotations

import multiprocessing
import os
import socket
import sys
import traceback
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import torch

PROCESSES = multiprocessing.get_context("forkserver")
# No modules of the tests: the server looks for them where it was started.
PROCESSES.set_forkserver_preload(["reelign.recipes.online.align", "accelerate", "diffusers.pipelines.wan.pipeline_wan"])
WITHIN_S = 120
"""No test may hang: what is not done by then has failed."""


def start_in_ranks(target: Callable[..., None], *arguments: Any, folder: Path, count: int = 2) -> list[BaseProcess]:
    """Start `target(*arguments)` in each rank, its streams in `folder/rank-N.err`."""
    folder.mkdir(parents=True, exist_ok=True)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    ranks = [
        PROCESSES.Process(target=_as_rank, args=(rank, count, port, folder, target, arguments)) for rank in range(count)
    ]
    for rank in ranks:
        rank.start()
    return ranks


def end(ranks: list[BaseProcess]) -> list[int | None]:
    """Wait for all ranks and return their exit codes; one that still runs after `WITHIN_S` is killed and fails."""
    for rank in ranks:
        rank.join(WITHIN_S)
    late = [rank for rank in ranks if rank.is_alive()]
    for rank in late:
        rank.kill()
        rank.join()
    assert not late, "a rank hung"
    return [rank.exitcode for rank in ranks]


def run_in_ranks(target: Callable[..., None], *arguments: Any, folder: Path, count: int = 2) -> None:
    """Run it to its end; all ranks must succeed."""
    codes = end(start_in_ranks(target, *arguments, folder=folder, count=count))
    assert codes == [0] * count, "\n".join(errors(folder, count))


def errors(folder: Path, count: int = 2) -> list[str]:
    """What each rank printed."""
    return [(folder / f"rank-{rank}.err").read_text() for rank in range(count)]


def _as_rank(
    rank: int, count: int, port: int, folder: Path, target: Callable[..., None], arguments: tuple[Any, ...]
) -> None:
    stream = os.open(folder / f"rank-{rank}.err", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(stream, 1)
    os.dup2(stream, 2)
    names = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": count, "LOCAL_WORLD_SIZE": count, "MASTER_PORT": port}
    os.environ.update({name: str(value) for name, value in names.items()}, MASTER_ADDR="127.0.0.1", OMP_NUM_THREADS="1")
    torch.set_num_threads(1)
    try:
        target(*arguments)
    except SystemExit:
        raise
    except BaseException:
        traceback.print_exc()
        sys.stderr.flush()
        # As an interpreter that ends by an error: at once, with what it holds of the group.
        os._exit(1)
