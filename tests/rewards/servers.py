"""A served reward on a free port of this machine, by the real server in a thread."""

from __future__ import annotations

import http.client
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from reelign.rewards import Reward
from reelign.rewards.serving import RewardServer, ServeSettings
from reelign.rewards.wire import CONTENT_TYPE


@contextmanager
def serving(reward: Reward, **settings: Any) -> Iterator[RewardServer]:
    server = RewardServer(reward, ServeSettings(port=0, **settings))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        yield server
    finally:
        server.stop()
        thread.join(20)
        assert not thread.is_alive()


def ask(
    server: RewardServer, method: str, path: str, body: bytes | None = None, **headers: str
) -> tuple[int, dict[str, Any], dict[str, str]]:
    """Status, JSON and headers of a plain request; `content_type` gives Content-Type."""
    connection = http.client.HTTPConnection("127.0.0.1", int(server.address.rpartition(":")[2]), timeout=20)
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    if body is not None:
        names = {"Content-Type": CONTENT_TYPE, **names}
    try:
        connection.request(method, path, body=body, headers=names)
        answer = connection.getresponse()
        told = {name.lower(): value for name, value in answer.getheaders()}
        return answer.status, json.loads(answer.read() or b"null"), told
    finally:
        connection.close()
