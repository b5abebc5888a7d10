"""What was made of an object, kept as long as the object itself: pictures of a video that is asked about often."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable
from concurrent.futures import Future
from typing import Any, Generic, TypeVar
from weakref import WeakKeyDictionary

K = TypeVar("K")
V = TypeVar("V")


class Kept(Generic[K, V]):
    """Makes each thing of an object once, whichever threads ask for it; with the object goes what was made of it."""

    def __init__(self) -> None:
        self._made: WeakKeyDictionary[K, dict[Hashable, Future[Any]]] = WeakKeyDictionary()
        self._lock = threading.Lock()

    def of(self, owner: K, how: Hashable, make: Callable[[], V]) -> V:
        """What `make` gives, of the first call with this owner and `how`; an error is not kept, and raised to all."""
        with self._lock:
            made = self._made.setdefault(owner, {})
            found, first = made.get(how), how not in made
            if found is None:
                found = made[how] = Future()
        if first:
            try:
                found.set_result(make())
            except BaseException as error:
                with self._lock:
                    del made[how]
                found.set_exception(error)
        result: V = found.result()
        return result
