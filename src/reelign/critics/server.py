"""Answers from any OpenAI-compatible server, such as vLLM: chat completions with frames as pictures or as a video."""

from __future__ import annotations

import json
import math
import os
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal
from urllib.parse import urlsplit

from reelign.critics.frames import Part, Shown
from reelign.critics.keeping import Kept
from reelign.critics.messages import Send, content
from reelign.critics.writing import CHOICES, Refused, Sampling, Token, Written, kept, within
from reelign.errors import ReelignError
from reelign.records.schema import content_key
from reelign.rewards.tries import PASSING, NoAnswer, Reply, persist, sent

UNFIT = (400, 413, 422)
"""Answers that say that this one question is not to be answered: too long, too many pictures, against a policy."""
MILLION = 1_000_000


@dataclass(frozen=True, kw_only=True, slots=True)
class ServerSettings:
    """How a server is asked."""

    url: str = ""
    """Such as http://127.0.0.1:8000/v1."""
    model: str = ""
    """As the server calls it; '' takes the only one that it serves."""
    key_variable: str = "OPENAI_API_KEY"
    """The environment's variable with the key; one that is not set sends none."""
    send: Send = "images"
    """`images`: each frame a JPEG, which every server takes. `video`: the frames as one mp4, as vLLM takes it."""
    concurrency: int = 8
    """Requests under way at the same time."""
    retries: int = 5
    """Tries after a failure, each after twice the time or what the server asks for."""
    timeout_s: float = 300.0
    """How long one request may stay without an answer."""
    patience_s: float = 1800.0
    """How long to wait for a full queue in all."""
    logprobs: bool = True
    """Ask for the probabilities of tokens, which certainty is read from; some providers refuse to give them."""
    prompt_price: float = 0.0
    """Of a million tokens read, in whatever currency."""
    completion_price: float = 0.0
    """Of a million tokens written."""
    extra: dict[str, Any] = field(default_factory=dict)
    """Further fields of the request, such as chat_template_kwargs; null leaves one of ours out."""

    def __post_init__(self) -> None:
        if self.concurrency < 1 or self.retries < 0:
            raise ValueError(f"concurrency must be at least 1 and retries 0, got {self.concurrency}, {self.retries}")
        for name in ("timeout_s", "patience_s", "prompt_price", "completion_price"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"{name} must be a number of at least 0, got {getattr(self, name)}")


class ServerWriter:
    """A writer (`writing.Writer`) behind HTTP; may be used from several threads."""

    def __init__(self, settings: ServerSettings, *, sleep: Callable[[float], None] = time.sleep) -> None:
        """Find out which model is served.

        Raises:
            ReelignError: no such server there, or the model is not served.
        """
        parts = urlsplit(settings.url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ReelignError(
                f"{settings.url!r} is no address of a server.", "Give one such as http://127.0.0.1:8000/v1"
            )
        self._parts = parts if parts.path.strip("/") else parts._replace(path="/v1")
        self.settings, self._sleep = settings, sleep
        self.concurrency = settings.concurrency
        self._free = threading.BoundedSemaphore(settings.concurrency)
        self._sent: Kept[Shown, list[str]] = Kept()
        self.model = settings.model or self._only_model()

    @property
    def identity(self) -> str:
        """Not the address: the same model elsewhere answers the same. What a server loads by a name, it alone knows."""
        return f"{self.model} {self.settings.send} {content_key(self.settings.extra)}"

    def write(self, parts: Sequence[Part], sampling: Sampling) -> Written:
        """As `Writer.write`."""
        with self._free:
            told, again = self._asked("POST", "/chat/completions", self._body(parts, sampling))
        return self._written(told, again)

    def _body(self, parts: Sequence[Part], sampling: Sampling) -> bytes:
        asked: dict[str, Any] = {
            "model": self.model,
            "messages": [{"role": "user", "content": content(parts, self.settings.send, self._sent)}],
            "max_tokens": sampling.max_tokens,
            "temperature": sampling.temperature,
            "seed": sampling.seed % 2**31,
        }
        if self.settings.logprobs:
            asked |= {"logprobs": True, "top_logprobs": CHOICES}
        asked |= self.settings.extra
        return json.dumps({name: value for name, value in asked.items() if value is not None}).encode()

    def _written(self, told: dict[str, Any], again: int) -> Written:
        choice = told["choices"][0]
        if choice.get("finish_reason") == "content_filter":
            raise Refused(f"{self.model} refuses by its policy.", "Change the prompt, or ask another model.")
        text = choice["message"]["content"]
        usage = told.get("usage") or {}
        read, written = (int(usage.get(name) or 0) for name in ("prompt_tokens", "completion_tokens"))
        cost = read * self.settings.prompt_price + written * self.settings.completion_price
        return Written(
            text=text,
            tokens=_tokens(choice, text),
            prompt_tokens=read,
            completion_tokens=written,
            whole=choice.get("finish_reason") != "length",
            again=again,
            cost=cost / MILLION,
        )

    def _only_model(self) -> str:
        told, _ = self._asked("GET", "/models", b"")
        names = [str(each.get("id")) for each in told.get("data") or [] if isinstance(each, dict)]
        if len(names) != 1:
            raise ReelignError(
                f"The server {self.settings.url} serves {', '.join(names) or 'no models'}.", "Name one as model."
            )
        return names[0]

    def _asked(self, method: Literal["GET", "POST"], path: str, body: bytes) -> tuple[dict[str, Any], int]:
        """The server's answer, after as many tries as it takes, and how many more than one."""
        key = os.environ.get(self.settings.key_variable, "")
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        headers |= {"Content-Type": "application/json"} if body else {}

        def once() -> Reply:
            status, told, data = sent(self._parts, method, path, body, headers, timeout_s=self.settings.timeout_s)
            if status == 200 and _read(path, data) is None:
                # Cut short on its way, or a proxy's page: not an answer, and another try may bring one.
                return 0, told, b"an answer that is none: " + data[:100]
            return status, told, data

        try:
            answered = persist(
                once,
                retries=self.settings.retries,
                patience_s=self.settings.patience_s,
                sleep=self._sleep,
                passing=(500, *PASSING),
            )
        except NoAnswer as error:
            raise ReelignError(
                f"The server {self.settings.url} gave {error}.",
                "See whether it runs and what it logs; what was answered before is kept.",
            ) from None
        if answered.status != 200:
            raise self._refusal(answered.status, answered.data)
        found = _read(path, answered.data)
        assert found is not None
        return found, answered.again

    def _refusal(self, status: int, data: bytes) -> ReelignError:
        what = f"The server {self.settings.url} answers HTTP {status}: {data[:300].decode(errors='replace').strip()}"
        if status in UNFIT:
            return Refused(what, "Show fewer or smaller frames, or set critic.server.logprobs=false where it says so.")
        variable = self.settings.key_variable
        hints = {401: f"Put the key into {variable}.", 403: f"Check the key in {variable}."}
        return ReelignError(what, hints.get(status, "Check the address, and the model's name."))


def _read(path: str, data: bytes) -> dict[str, Any] | None:
    """An answer as JSON, if it is one to this kind of request."""
    try:
        told = json.loads(data)
        if path == "/models":
            return told if isinstance(told["data"], list) else None
        message = told["choices"][0]["message"]
        filtered = told["choices"][0].get("finish_reason") == "content_filter"
        return told if filtered or isinstance(message["content"], str) else None
    except (ValueError, KeyError, IndexError, TypeError, AttributeError):
        return None


def _tokens(choice: dict[str, Any], text: str) -> tuple[Token, ...]:
    """The tokens of the text, where the server tells them all; a thought that it keeps apart is left out."""
    try:
        told = choice["logprobs"]["content"] or []
        tokens = [
            Token(
                text=str(each["token"]),
                chances=kept((str(top["token"]), math.exp(top["logprob"])) for top in each["top_logprobs"]),
            )
            for each in told
        ]
    except (KeyError, TypeError, ValueError, OverflowError):
        return ()
    return within(tokens, text)
