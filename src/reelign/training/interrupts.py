"""Ctrl-C between steps, not within one."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def interrupt_between_steps() -> Iterator[Any]:
    """Turn the first Ctrl-C into a flag, so that no step is torn; the second acts at once."""
    caught = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield caught.is_set
        return

    def handle(number: int, frame: Any) -> None:
        if caught.is_set():
            raise KeyboardInterrupt
        caught.set()

    before = signal.signal(signal.SIGINT, handle)
    try:
        yield caught.is_set
    finally:
        signal.signal(signal.SIGINT, before)
