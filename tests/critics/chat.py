"""A real HTTP server on a free port that speaks OpenAI's chat API, and what it saw of each request."""

from __future__ import annotations

import base64
import io
import json
import math
import re
import socketserver
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from typing import Any

import numpy as np
from PIL import Image

Answer = Callable[["Question"], str]


class Question:
    """One request as the server reads it."""

    def __init__(self, asked: dict[str, Any]) -> None:
        self.asked = asked
        parts = asked["messages"][0]["content"]
        self.text = "".join(part["text"] for part in parts if part["type"] == "text")
        self.urls = [part[part["type"]]["url"] for part in parts if part["type"] != "text"]
        self.images = [
            np.asarray(Image.open(io.BytesIO(base64.b64decode(url.split(",")[1]))))
            for url in self.urls
            if url.startswith("data:image/jpeg;base64,")
        ]

    @property
    def brighter(self) -> str:
        """Which half of the pictures is the brighter one: A or B."""
        half = len(self.images) // 2
        means = [float(np.mean([image.mean() for image in part])) for part in (self.images[:half], self.images[half:])]
        return "A" if means[0] > means[1] else "B"


class ChatServer(socketserver.ThreadingTCPServer):
    """Answers by a function; `faults` come first, one a request: (status, headers, body), or seconds to say nothing.

    An answer waits until `crowd` requests were under way at once: how busy the machine is decides nothing.
    """

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, answer: Answer, faults: list[Any], models: list[str]) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.answer, self.faults, self.models = answer, list(faults), models
        self.questions: list[Question] = []
        self.headers: list[dict[str, str]] = []
        self.lock = threading.Condition()
        self.now = self.most = 0
        self.crowd = 1

    @contextmanager
    def under_way(self) -> Iterator[None]:
        with self.lock:
            self.now += 1
            self.most = max(self.most, self.now)
            self.lock.notify_all()
            self.lock.wait_for(lambda: self.most >= self.crowd, timeout=10)
        try:
            yield
        finally:
            with self.lock:
                self.now -= 1

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1"


class Handler(BaseHTTPRequestHandler):
    """GET /v1/models and POST /v1/chat/completions."""

    server: ChatServer

    def do_GET(self) -> None:
        assert self.path == "/v1/models"
        self._say(200, {}, json.dumps({"object": "list", "data": [{"id": name} for name in self.server.models]}))

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        assert self.path == "/v1/chat/completions"
        server = self.server
        with server.lock:
            server.headers.append(dict(self.headers.items()))
            fault = server.faults.pop(0) if server.faults else None
        if isinstance(fault, float):
            time.sleep(fault)
        elif fault is not None:
            self._say(*fault)
        else:
            with server.under_way():
                answer = self._answer(Question(json.loads(body)))
            # Only now: who has an answer may ask again before this thread runs on.
            self._say(200, {}, answer)

    def _answer(self, question: Question) -> str:
        self.server.questions.append(question)
        text = self.server.answer(question)
        cut, text = text.endswith("[CUT]"), text.removesuffix("[CUT]")
        choice: dict[str, Any] = {
            "index": 0,
            "message": {"role": "assistant", "content": text},
            "finish_reason": "length" if cut else "stop",
        }
        if question.asked.get("logprobs"):
            choice["logprobs"] = {"content": [logprobs(piece) for piece in re.findall(r"\s?\w+|\W", text)]}
        usage = {"prompt_tokens": 1000, "completion_tokens": 10}
        return json.dumps({"model": "seer", "choices": [choice], "usage": usage})

    def _say(self, status: int, headers: dict[str, str], body: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body.encode())))
        self.end_headers()
        self.wfile.write(body.encode())

    def log_message(self, format: str, *args: Any) -> None:
        """Silence."""


def logprobs(piece: str) -> dict[str, Any]:
    """A token with its rivals: of the words of a verdict the written one has 0.75, the next 0.15, all else little."""
    rivals = [word for word in (" A", " B", " tie") if word != piece] if piece in (" A", " B", " tie") else []
    tops = [(piece, 0.75 if rivals else 1.0), *zip(rivals, (0.15, 0.05), strict=False)]
    told = [{"token": text, "logprob": math.log(chance), "bytes": None} for text, chance in tops]
    return {**told[0], "top_logprobs": told}


@contextmanager
def chatting(
    answer: Answer, *, faults: list[Any] | None = None, models: list[str] | None = None
) -> Iterator[ChatServer]:
    server = ChatServer(answer, faults or [], ["seer"] if models is None else models)
    thread = threading.Thread(target=lambda: server.serve_forever(poll_interval=0.02))
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join(10)


def honest(question: Question) -> str:
    """Prefers the brighter video."""
    return f"Video {question.brighter} is lit better.\nVerdict: {question.brighter}"
