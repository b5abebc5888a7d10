"""Any reward behind HTTP, in an environment of its own: `reelign rewards serve`. docs/rewards.md describes the API."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import math
import secrets
import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from hmac import compare_digest
from ipaddress import ip_address
from typing import Any

import torch
import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response
from starlette.requests import ClientDisconnect

from reelign.errors import ReelignError
from reelign.rewards.base import Reward
from reelign.rewards.batching import Batcher, Busy, Closed, Item, Row
from reelign.rewards.judging import checked, refuse_relative
from reelign.rewards.wire import CONTENT_TYPE, Parcel, unpack, unpacked

log = logging.getLogger(__name__)

LOOPBACK_NAMES = ("localhost", "127.0.0.1", "[::1]")
MB = 1 << 20


@dataclass(frozen=True, kw_only=True, slots=True)
class ServeSettings:
    """Where a reward is served, and how much it takes on."""

    host: str = "127.0.0.1"
    """This machine alone; anywhere else a token is asked for."""
    port: int = 8500
    """0 takes any that is free."""
    token: str = ""
    """What clients must know; '' makes one up where one is needed."""
    batch_size: int = 8
    """Videos in one call of the reward."""
    wait_s: float = 0.02
    """How long a video waits for others to fill its batch."""
    queue: int = 64
    """Videos that may wait; a request that does not fit is answered with 429."""
    cache: int = 10_000
    """Videos whose scores are kept."""
    request_mb: int = 512
    """The largest request, MiB."""
    waiting_mb: int = 2048
    """What all requests together may hold in memory, MiB."""
    upload_s: float = 120.0
    """How long a request may take to arrive."""

    def __post_init__(self) -> None:
        for name in ("batch_size", "queue", "request_mb", "waiting_mb", "upload_s"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} must be above 0, got {getattr(self, name)}")
        for name in ("wait_s", "cache", "port"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must be at least 0, got {getattr(self, name)}")

    @property
    def asks_token(self) -> bool:
        return bool(self.token) or not is_loopback(self.host)


class Refused(Exception):
    """An answer that is no scores: a status, one sentence of what is wrong and one of the mend."""

    def __init__(self, status: int, what: str, mend: str, *, retry_after_s: int | None = None) -> None:
        super().__init__(what)
        self.status = status
        self.body = {"error": what, "mend": mend}
        self.headers = {} if retry_after_s is None else {"Retry-After": str(retry_after_s)}


class RewardServer:
    """What `reelign rewards serve` runs."""

    def __init__(self, reward: Reward, settings: ServeSettings) -> None:
        """Take the port and put the application together.

        Raises:
            ReelignError: the port is taken, or the reward's scores depend on their batch.
        """
        refuse_relative(reward)
        self.reward = reward
        self.settings = settings
        self.token = (settings.token or secrets.token_urlsafe(24)) if settings.asks_token else ""
        self._socket = _listen(settings.host, settings.port)
        self.address = _address(settings.host, self._socket.getsockname()[1])
        """Where a client on this machine, or one that reaches it by its name, finds the reward."""
        self.batcher = Batcher(
            self._score,
            batch_size=settings.batch_size,
            wait_s=settings.wait_s,
            queue=settings.queue,
            cache=settings.cache,
        )
        self._held = 0
        """Bytes of requests that are being read, or waiting for their scores."""
        self.app = self._application()
        self._server = uvicorn.Server(
            uvicorn.Config(self.app, log_level="warning", access_log=False, server_header=False)
        )

    def run(self) -> None:
        """Serve until a signal ends it; what is being scored then is still answered."""
        try:
            self._server.run(sockets=[self._socket])
        finally:
            self.close()

    def stop(self) -> None:
        """Have `run` return, from another thread."""
        self._server.should_exit = True

    def close(self) -> None:
        """Give back the port and end the scoring."""
        self._socket.close()
        self.batcher.close()

    def _score(self, items: Sequence[Item]) -> list[Row]:
        videos = [unpacked(item.video) for item in items]
        alike = len({video.shape for video in videos}) == 1
        found = checked(
            self.reward, torch.stack(videos) if alike else videos, [item.prompt for item in items], items[0].fps
        )
        return [{name: float(values[row]) for name, values in found.items()} for row in range(len(items))]

    def _application(self) -> FastAPI:
        app = FastAPI(title="reelign", docs_url=None, redoc_url=None, openapi_url=None)

        @app.get("/health")
        async def health() -> Response:
            alive = self.batcher.alive
            state = {"status": "ok" if alive else "ending", "waiting": self.batcher.waiting}
            return JSONResponse(state, 200 if alive else 503)

        @app.get("/reward")
        async def describe(request: Request) -> Response:
            self._check_door(request)
            return JSONResponse(self._description())

        @app.post("/score")
        async def score(request: Request) -> Response:
            self._check_door(request)
            async with self._room(request):
                return JSONResponse(await self._answer(request))

        app.add_exception_handler(Refused, lambda request, error: _told(error))
        app.add_exception_handler(Exception, _broken)
        return app

    def _description(self) -> dict[str, Any]:
        return {
            "name": self.reward.name,
            "version": self.reward.version,
            "dimensions": list(self.reward.dimensions),
            "frames_needed": self.reward.frames_needed,
            "batch_size": self.settings.batch_size,
            "max_videos": self.settings.queue,
            "max_bytes": self.settings.request_mb * MB,
            "batches": self.batcher.batches,
            "scored": self.batcher.scored,
            "from_cache": self.batcher.found,
        }

    def _check_door(self, request: Request) -> None:
        host = request.headers.get("host", "")
        name = host.rpartition("]")[0] + "]" if host.startswith("[") else host.partition(":")[0].lower()
        if not self.token and name not in LOOPBACK_NAMES:
            # A page in a browser here could have a name of its own point to this server, and ask it.
            raise Refused(421, "This server does not go by that name.", "Ask it as 127.0.0.1, or serve with a token.")
        given = request.headers.get("authorization", "").removeprefix("Bearer ")
        if self.token and not compare_digest(given.encode(), self.token.encode()):
            raise Refused(401, "The token is missing or wrong.", "Give the one that the server printed: token=...")

    @asynccontextmanager
    async def _room(self, request: Request) -> AsyncIterator[None]:
        """Room for a request's body, which counts as held until the block ends."""
        size = _announced(request)
        limit = self.settings.request_mb * MB
        if size > limit:
            raise Refused(413, f"The request holds {size} bytes; {limit} is the most.", "Send fewer videos at once.")
        if self._held + size > max(limit, self.settings.waiting_mb * MB):
            # Read and forgotten: who is cut off while sending may never see the answer.
            async for _ in request.stream():
                pass
            raise self._busy(self.batcher.retry_after_s)
        self._held += size
        try:
            yield
        finally:
            self._held -= size

    async def _parcel(self, request: Request) -> Parcel:
        try:
            body = await asyncio.wait_for(request.body(), self.settings.upload_s)
            return await asyncio.to_thread(unpack, body)
        except ClientDisconnect:
            raise Refused(400, "The client hung up.", "Send the request again.") from None
        except TimeoutError:
            raise Refused(408, "The request did not arrive in time.", "Send fewer videos at once.") from None
        except ReelignError as error:
            raise Refused(422, error.what, error.mend) from None

    async def _answer(self, request: Request) -> dict[str, Any]:
        parcel = await self._parcel(request)
        if len(parcel.videos) > self.settings.queue:
            raise Refused(
                413, f"The request holds {len(parcel.videos)} videos; {self.settings.queue} is the most.", "Send fewer."
            )
        items = await asyncio.to_thread(_items, parcel)
        try:
            answers = self.batcher.submit(items)
            # Shielded: another request may be waiting for the same video.
            rows = await asyncio.gather(*(asyncio.shield(asyncio.wrap_future(each)) for each in answers))
        except Busy as busy:
            raise self._busy(busy.retry_after_s) from None
        except Closed:
            raise Refused(503, "The server is ending.", "Start it again.", retry_after_s=10) from None
        except ReelignError as error:
            raise Refused(422, error.what, error.mend) from None
        scores = {name: [_number(row[name]) for row in rows] for name in self.reward.dimensions}
        return {"name": self.reward.name, "version": self.reward.version, "scores": scores}

    def _busy(self, retry_after_s: int) -> Refused:
        return Refused(
            429,
            f"The queue of the reward {self.reward.name!r} is full.",
            "Try again after the seconds of Retry-After.",
            retry_after_s=retry_after_s,
        )


def is_loopback(host: str) -> bool:
    """Whether a server that listens there is reached from its own machine alone."""
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def _address(host: str, port: int) -> str:
    name = socket.getfqdn() if host in ("0.0.0.0", "::") else f"[{host}]" if ":" in host else host
    return f"http://{name}:{port}"


def _items(parcel: Parcel) -> list[Item]:
    found = []
    for video, prompt in zip(parcel.videos, parcel.prompts, strict=True):
        about = f"{prompt!r} {tuple(video.shape)} {video.dtype} {parcel.fps}".encode()
        digest = hashlib.sha256(about + b"\0")
        digest.update(video.contiguous().numpy().data)
        found.append(Item(key=digest.hexdigest(), video=video, prompt=prompt, fps=parcel.fps))
    return found


def _announced(request: Request) -> int:
    kind = request.headers.get("content-type", "")
    if kind.partition(";")[0].strip() != CONTENT_TYPE:
        raise Refused(415, f"The request is {kind or 'of no type'}.", f"Send Content-Type: {CONTENT_TYPE}")
    length = request.headers.get("content-length", "")
    if not (length.isascii() and length.isdigit()):
        raise Refused(411, "The request does not say how long it is.", "Send Content-Length.")
    return int(length)


def _number(value: float) -> float | None:
    """JSON knows no NaN: null says that the video could not be scored."""
    return value if math.isfinite(value) else None


def _told(error: Exception) -> Response:
    assert isinstance(error, Refused)
    return JSONResponse(error.body, error.status, headers=error.headers)


def _broken(request: Request, error: Exception) -> Response:
    log.error("%s %s failed", request.method, request.url.path, exc_info=error)
    return JSONResponse({"error": "Something went wrong in the reward.", "mend": "The server's log says more."}, 500)


def _listen(host: str, port: int) -> socket.socket:
    try:
        return socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except OSError as error:
        raise ReelignError(
            f"The reward cannot be served at {host}, port {port}: {error.strerror}.", "Give another: --port 8501"
        ) from error
