"""When the overview's figures are counted: at once while the record is small, else beside the server.

A million judgements take a minute and a gigabyte. Another process spends them, so that no judge waits meanwhile; the
page shows the latest figures there are, and says how old they are.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import threading
from multiprocessing.connection import Connection
from pathlib import Path

from reelign.annotate.figures import Figures, count_figures, mark_of
from reelign.annotate.settings import AnnotateSettings
from reelign.records import Workspace

log = logging.getLogger(__name__)

AT_ONCE = 2_000
"""Judgements that are counted while the page waits."""
NICE = 5
"""The counting process steps back behind the server."""


class Counting:
    """The figures of one workspace."""

    def __init__(self, workspace: Workspace, settings: AnnotateSettings, *, at_once: int = AT_ONCE) -> None:
        self._workspace, self._settings, self._at_once = workspace, settings, at_once
        self._latest: Figures | None = None
        self._running: Connection | None = None
        self._lock = threading.Lock()

    def figures(self) -> Figures | None:
        """The latest figures; None while a large record is counted for the first time.

        Of a large record they may be behind; then new ones are being counted when this returns.
        """
        mark = mark_of(self._workspace)
        if mark.last <= self._at_once:
            return count_figures(self._workspace, self._settings)
        with self._lock:
            self._collect()
            if self._running is None and (self._latest is None or self._latest.mark != mark):
                self._running = self._begin()
            return self._latest

    def _begin(self) -> Connection:
        # Not a fork: the server has threads. A daemon, so that it ends with the server.
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe(duplex=False)
        context.Process(target=_count, args=(self._workspace.root, self._settings, theirs), daemon=True).start()
        theirs.close()
        return ours

    def _collect(self) -> None:
        if self._running is None or not self._running.poll():
            return
        try:
            self._latest = self._running.recv()
        except EOFError:
            log.error("The overview's figures could not be counted; they will be when the page is asked for again.")
        self._running.close()
        self._running = None


def _count(root: Path, settings: AnnotateSettings, answer: Connection) -> None:
    os.nice(NICE)
    answer.send(count_figures(Workspace.open(root), settings))
