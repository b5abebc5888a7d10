"""HTTP requests that are sent again while another try may do better."""

from __future__ import annotations

import http.client
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from urllib.parse import SplitResult

PASSING = (429, 502, 503, 504)
"""Answers after which the same request may do better."""
Reply = tuple[int, dict[str, str], bytes]
"""Status (0 where none came), headers by their names in lower case, body (the reason where none came)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Answered:
    """The first reply that another try would not better."""

    status: int
    data: bytes
    again: int
    """How often the request was sent again."""


class NoAnswer(Exception):
    """None came in as many tries as there were."""

    def __init__(self, tries: int, reason: str) -> None:
        super().__init__(f"no answer in {tries or 'many'} tries: {reason}")


def sent(
    parts: SplitResult, method: str, path: str, body: bytes, headers: Mapping[str, str], *, timeout_s: float
) -> Reply:
    """One request, by a connection of its own, from any thread; what fails below HTTP has status 0 and its reason."""
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    connection = kind(str(parts.hostname), parts.port, timeout=timeout_s)
    try:
        connection.request(method, parts.path.rstrip("/") + path, body=body or None, headers=dict(headers))
        answer = connection.getresponse()
        return answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()
    except (OSError, http.client.HTTPException) as error:
        return 0, {}, f"{type(error).__name__}: {error}".encode()
    finally:
        connection.close()


def persist(
    send: Callable[[], Reply],
    *,
    retries: int,
    patience_s: float,
    sleep: Callable[[float], None],
    passing: Collection[int] = PASSING,
) -> Answered:
    """Send until an answer comes that is not a passing one.

    Args:
        send: one try.
        retries: tries after failures, each after twice the time or what the server asks for.
        patience_s: how long to wait in all. A full queue (429) is waited for and is no failure.
        sleep: waits so many seconds.
        passing: statuses after which it is tried again, as after none.
    Raises:
        NoAnswer: none came.
    """
    failed, again, waited_s = 0, 0, 0.0
    while True:
        status, headers, data = send()
        if status and status not in passing:
            return Answered(status=status, data=data, again=again)
        wait_s = pause_s(headers, failed)
        failed += status != 429
        if failed > retries or waited_s + wait_s > patience_s:
            raise NoAnswer(failed, f"HTTP {status}" if status else data.decode(errors="replace"))
        sleep(wait_s)
        waited_s += wait_s
        again += 1


def pause_s(headers: Mapping[str, str], failed: int) -> float:
    """What the server asks for, else 0.5 s, 1 s, 2 s ... up to 30 s."""
    asked = headers.get("retry-after", "")
    return min(60.0, float(asked)) if asked.isascii() and asked.isdigit() else min(30.0, 0.5 * 2**failed)
