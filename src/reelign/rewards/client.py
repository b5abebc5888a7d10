"""A reward that is served elsewhere (`reelign rewards serve`), as a reward here."""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Callable, Sequence
from typing import Any
from urllib.parse import urlsplit

import torch
from torch import Tensor

from reelign.errors import ReelignError
from reelign.rewards.base import Reward, RewardCard, Videos, check_input
from reelign.rewards.tries import NoAnswer, persist, sent
from reelign.rewards.wire import CONTENT_TYPE, Precision, pack

TOKEN_VARIABLE = "REELIGN_REWARDS_TOKEN"
"""Where the token is looked for that is not given."""


class RewardClient(Reward):
    """Scores by a server; what it cannot say is an error or NaN, never a number made up.

    No gradient comes back. A video with values beside whole 255ths travels as float32, so that nothing is lost.
    """

    card = RewardCard(
        what="A reward in an environment of its own, by its URL",
        dimensions=(),
        differentiable=False,
        frames_needed=1,
    )

    def __init__(
        self,
        *,
        url: str,
        token: str = "",
        timeout_s: float = 300.0,
        retries: int = 5,
        patience_s: float = 1800.0,
        precision: Precision = "exact",
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """Ask the server what it scores.

        Args:
            url: such as http://127.0.0.1:8500.
            token: '' takes the environment's REELIGN_REWARDS_TOKEN.
            timeout_s: how long one request may stay without an answer.
            retries: requests sent again after a failure, each after twice the time.
            patience_s: how long a full queue is asked again, which is no failure.
            precision: 'uint8' rounds videos to 255ths, for a quarter of the traffic.
            sleep: waits so many seconds.
        Raises:
            ReelignError: no reward's server there, or a token that it does not take.
        """
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ReelignError(f"{url!r} is no address of a reward.", "Give one such as http://127.0.0.1:8500")
        self.url = url.rstrip("/")
        self._parts = parts
        self._token = token or os.environ.get(TOKEN_VARIABLE, "")
        self._timeout_s, self._retries, self._patience_s = timeout_s, retries, patience_s
        self._precision: Precision = precision
        self._sleep = sleep
        self.name = self.url
        told = self._asked("GET", "/reward", b"")
        try:
            self.name, self.version = str(told["name"]), str(told["version"])
            self.dimensions = tuple(str(each) for each in told["dimensions"])
            self._frames_needed = int(told["frames_needed"])
            self._max_bytes = int(told["max_bytes"])
            self._batch = max(1, min(int(told["batch_size"]), int(told["max_videos"])))
        except (KeyError, TypeError, ValueError):
            raise self._no_reward(f"it says {str(told)[:200]}") from None

    @property
    def frames_needed(self) -> int:
        return self._frames_needed

    def score(self, videos: Videos, prompts: Sequence[str], *, fps: float | None = None) -> dict[str, Tensor]:
        """As `Reward.score`, in as many requests as the server's limits ask for."""
        check_input(self, videos, prompts, fps=fps)
        parts = [
            self._scored(videos[start : start + self._batch], prompts[start : start + self._batch], fps)
            for start in range(0, len(videos), self._batch)
        ]
        return {name: torch.cat([part[name] for part in parts]).to(videos[0].device) for name in self.dimensions}

    def _scored(self, videos: Videos, prompts: Sequence[str], fps: float | None) -> dict[str, Tensor]:
        body = pack(videos, prompts, fps=fps, precision=self._precision)
        if len(body) > self._max_bytes:
            if len(videos) == 1:
                raise ReelignError(
                    f"A video of {len(body)} bytes is more than the reward {self.name!r} at {self.url} takes, "
                    f"{self._max_bytes}.",
                    "Serve it with a larger request_mb, or send precision=uint8.",
                )
            half = len(videos) // 2
            first, second = (self._scored(videos[at], prompts[at], fps) for at in (slice(half), slice(half, None)))
            return {name: torch.cat([first[name], second[name]]) for name in self.dimensions}
        return self._read(self._asked("POST", "/score", body), len(videos))

    def _read(self, told: dict[str, Any], count: int) -> dict[str, Tensor]:
        """The scores of an answer, if they are scores of this reward for so many videos."""
        if told.get("version") != self.version:
            raise ReelignError(
                f"The reward {self.name!r} at {self.url} was version {self.version!r} and is now "
                f"{told.get('version')!r}.",
                "Open it again; scores of two versions do not compare.",
            )
        scores = told.get("scores")
        if not isinstance(scores, dict) or set(scores) != set(self.dimensions):
            raise self._no_reward(f"it scores {str(scores)[:200]} and not {', '.join(self.dimensions)}")
        for name, values in scores.items():
            if not isinstance(values, list) or len(values) != count or not all(_is_score(value) for value in values):
                raise self._no_reward(f"{name} of {count} videos is {str(values)[:200]}")
        return {
            name: torch.tensor([math.nan if value is None else float(value) for value in values])
            for name, values in scores.items()
        }

    def _asked(self, method: str, path: str, body: bytes) -> dict[str, Any]:
        """The server's answer, after as many tries as it takes.

        Raises:
            ReelignError: it never came, or it was a refusal.
        """
        try:
            answered = persist(
                lambda: sent(self._parts, method, path, body, self._headers(body), timeout_s=self._timeout_s),
                retries=self._retries,
                patience_s=self._patience_s,
                sleep=self._sleep,
            )
        except NoAnswer as error:
            raise ReelignError(
                f"The reward {self.name!r} at {self.url} gave {error}.",
                "See whether it runs: curl " + self.url + "/health",
            ) from None
        if answered.status == 200:
            return self._decoded(answered.data)
        raise self._refusal(answered.status, answered.data)

    def _headers(self, body: bytes) -> dict[str, str]:
        headers = {"Authorization": f"Bearer {self._token}"} if self._token else {}
        return headers | ({"Content-Type": CONTENT_TYPE} if body else {})

    def _decoded(self, data: bytes) -> dict[str, Any]:
        try:
            told = json.loads(data)
        except ValueError:
            told = None
        if not isinstance(told, dict):
            raise self._no_reward(f"it answers {data[:100]!r}")
        return told

    def _refusal(self, status: int, data: bytes) -> ReelignError:
        try:
            told = json.loads(data)
            what, mend = str(told["error"]), str(told["mend"])
        except (ValueError, TypeError, KeyError):
            return self._no_reward(f"it answers HTTP {status}: {data[:100].decode(errors='replace')}")
        return ReelignError(f"The reward {self.name!r} at {self.url} refuses: {what}", mend)

    def _no_reward(self, reason: str) -> ReelignError:
        return ReelignError(
            f"At {self.url} is no reward of reelign: {reason}.", "Start one: reelign rewards serve NAME"
        )


def _is_score(value: Any) -> bool:
    return value is None or (isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value))
