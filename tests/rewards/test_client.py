"""The client against servers that fail: it tries again, gives up by name, and never makes a number up."""

from __future__ import annotations

import json
import socket
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from typing import Any

import pytest
import torch

from reelign.errors import ReelignError
from reelign.rewards import open_reward
from reelign.rewards.client import RewardClient

DESCRIPTION = {
    "name": "far",
    "version": "1",
    "dimensions": ["VQ"],
    "frames_needed": 1,
    "batch_size": 8,
    "max_videos": 8,
    "max_bytes": 1 << 20,
}
VIDEO = torch.full((1, 2, 3, 16, 16), 0.5)


class Server(socketserver.ThreadingTCPServer):
    """Gives the answers of a list, one a request; the last again and again."""

    daemon_threads = True

    def __init__(self, answers: list[tuple[int, Any]]) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.answers = answers
        self.asked = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class Handler(BaseHTTPRequestHandler):
    """GET describes the reward; a POST's answer is (status, JSON or text), and 0 hangs up."""

    def do_GET(self) -> None:
        self._say(200, json.dumps(DESCRIPTION))

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        server = self.server
        assert isinstance(server, Server)
        status, told = server.answers[min(server.asked, len(server.answers) - 1)]
        server.asked += 1
        if status:
            self._say(status, told if isinstance(told, str) else json.dumps(told))

    def _say(self, status: int, text: str) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(text.encode())))
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *arguments: Any) -> None:
        pass


@contextmanager
def answering(*answers: tuple[int, Any]) -> Iterator[tuple[Server, RewardClient, list[float]]]:
    pauses: list[float] = []
    with Server(list(answers)) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        try:
            client = open_reward(server.url, sleep=pauses.append, retries=3)
            assert isinstance(client, RewardClient)
            yield server, client, pauses
        finally:
            server.shutdown()


GOOD = (200, {"name": "far", "version": "1", "scores": {"VQ": [0.25]}})


def test_passing_failures_are_tried_again_after_twice_the_time() -> None:
    with answering((0, ""), (503, ""), (502, "<html>"), GOOD) as (server, client, pauses):
        assert client.score(VIDEO, ["p"])["VQ"].tolist() == [0.25]
        assert (server.asked, pauses) == (4, [0.5, 1.0, 2.0])


def test_after_its_tries_it_gives_up_by_name() -> None:
    for answer, reason in (((504, ""), "HTTP 504"), ((0, ""), "RemoteDisconnected")):
        with (
            answering(answer) as (server, client, pauses),
            pytest.raises(ReelignError, match=f"'far' at {server.url} gave no answer in 4 tries: {reason}"),
        ):
            client.score(VIDEO, ["p"])
        assert len(pauses) == 3


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ((500, {"error": "It broke.", "mend": "Look."}), r"refuses: It broke\.\nLook"),
        ((404, "not here"), "answers HTTP 404: not here"),
        ((301, ""), "answers HTTP 301"),
        ((200, "<html>"), "it answers b'<html>"),
        ((200, "[1]"), "it answers"),
        ((200, {"version": "1", "scores": {"MQ": [1.0]}}), "it scores {'MQ'"),
        ((200, {"version": "1"}), "it scores None"),
        ((200, {"version": "1", "scores": {"VQ": []}}), "VQ of 1 videos is"),
        ((200, {"version": "1", "scores": {"VQ": [1.0, 2.0]}}), "VQ of 1 videos is"),
        ((200, {"version": "1", "scores": {"VQ": ["1"]}}), "VQ of 1 videos is"),
        ((200, {"version": "1", "scores": {"VQ": [True]}}), "VQ of 1 videos is"),
        ((200, '{"version": "1", "scores": {"VQ": [NaN]}}'), "VQ of 1 videos is"),
        ((200, {"version": "2", "scores": {"VQ": [1.0]}}), "was version '1' and is now '2'"),
    ],
)
def test_an_answer_that_is_none_is_an_error_at_once(answer: tuple[int, Any], message: str) -> None:
    with answering(answer) as (server, client, pauses):
        with pytest.raises(ReelignError, match=message):
            client.score(VIDEO, ["p"])
        assert (server.asked, pauses) == (1, [])


def test_null_is_a_sample_that_could_not_be_scored() -> None:
    with answering((200, {"version": "1", "scores": {"VQ": [None]}})) as (_, client, _pauses):
        assert client.score(VIDEO, ["p"])["VQ"].isnan().all()


def test_no_server_there_is_told_when_it_is_opened() -> None:
    pauses: list[float] = []
    with pytest.raises(ReelignError, match=r"127\.0\.0\.1:9 gave no answer in 3 tries: ConnectionRefusedError"):
        open_reward("http://127.0.0.1:9", retries=2, sleep=pauses.append)
    assert pauses == [0.5, 1.0]


@pytest.mark.parametrize("url", ["http://", "https:///path"])
def test_an_address_that_is_none(url: str) -> None:
    with pytest.raises(ReelignError, match="is no address of a reward"):
        open_reward(url)


def test_a_server_that_stays_silent_times_out() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent, pytest.raises(ReelignError, match="TimeoutError"):
        open_reward(f"http://127.0.0.1:{silent.getsockname()[1]}", timeout_s=0.1, retries=0)
