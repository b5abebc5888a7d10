"""How ranks start and how they end: as torchrun or `accelerate launch` made them, and all together."""

from __future__ import annotations

import atexit
import contextlib
import os
import warnings
from collections.abc import Iterator
from datetime import timedelta

import torch
import torch.distributed as dist

from reelign.errors import ReelignError
from reelign.training.ranks import AGAIN, Ranks, default_store

WORD_WITHIN = timedelta(seconds=2)
"""How long a rank that failed waits to hear that the main rank did too, which then speaks for both."""


def start_ranks() -> Ranks:
    """This process's rank, by the environment that torchrun and `accelerate launch` set; alone where neither did."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return Ranks()
    from accelerate import PartialState

    # Told nothing, accelerate makes two lone processes of two ranks on a machine without a GPU.
    state = PartialState(cpu=not torch.cuda.is_available())
    atexit.register(_leave)
    ranks = Ranks(state.process_index, state.num_processes, state.device)
    if not ranks.main:
        _hush()
    return ranks


@contextlib.contextmanager
def together(ranks: Ranks) -> Iterator[None]:
    """End all ranks when one does, and let the one speak that knows why: the main rank, or the only one that failed.

    Raises:
        ReelignError: on the main rank, where another rank failed or was killed.
        SystemExit: on other ranks, where somebody else says it.
    """
    try:
        yield
    except BaseException as error:
        if ranks.count > 1:
            with contextlib.suppress(RuntimeError):  # the store may be gone with the process that held it
                _end(ranks, error)
        raise


def _end(ranks: Ranks, error: BaseException) -> None:
    store = default_store()
    if _is_echo(error):
        if not ranks.main:
            raise SystemExit(1) from error
        failed = [rank for rank in range(1, ranks.count) if store.check([_failed(rank)])]
        what = f"Rank {failed[0]} failed; it says why itself." if failed else "Another rank ended without a word."
        raise ReelignError(what, AGAIN) from error
    store.set(_failed(ranks.index), "failed")
    if ranks.main:
        with contextlib.suppress(RuntimeError):  # the store ends with this process: who failed too reads it before
            store.wait([_heard(rank) for rank in range(1, ranks.count)], WORD_WITHIN)
        return
    with contextlib.suppress(RuntimeError):  # the main rank is well: this one has to say it
        store.wait([_failed(0)], WORD_WITHIN)
        store.set(_heard(ranks.index), "heard")
        raise SystemExit(1) from error


def _failed(rank: int) -> str:
    return f"reelign/failed/{rank}"


def _heard(rank: int) -> str:
    return f"reelign/heard/{rank}"


def _is_echo(error: BaseException) -> bool:
    """Whether an error only says that another rank is gone."""
    if isinstance(error, dist.DistError):
        return True
    return isinstance(error, RuntimeError) and any(word in str(error) for word in ("gloo", "Connection"))


def _hush() -> None:
    """No bars and warnings from this rank: the main one has the same."""
    import diffusers.utils.logging
    import transformers.utils.logging

    warnings.simplefilter("ignore")
    diffusers.utils.logging.disable_progress_bar()
    transformers.utils.logging.disable_progress_bar()


def _leave() -> None:
    if dist.is_initialized():
        dist.destroy_process_group()
