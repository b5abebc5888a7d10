"""The scripts of `benchmarks/` as modules: they import their neighbours by bare names, as they do when they are run."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@contextmanager
def benchmark(*names: str) -> Iterator[tuple[ModuleType, ...]]:
    """The scripts of these names; what they name by `module:object` is found until the end of the block."""
    sys.path.insert(0, str(BENCHMARKS))
    try:
        yield tuple(importlib.import_module(name) for name in names)
    finally:
        sys.path.remove(str(BENCHMARKS))
