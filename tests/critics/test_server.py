"""A critic behind a real server: what is sent, what is read, and what happens when the server fails."""

from __future__ import annotations

import base64
import gc
import time
from collections import Counter
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from critics.chat import ChatServer, Question, chatting, honest
from critics.clips import flat
from reelign.critics import Voted, Voting, asking, messages, open_critic
from reelign.critics.asking import AskingCritic
from reelign.critics.formats import Plain
from reelign.critics.judging import CriticJudge, together
from reelign.critics.messages import Send
from reelign.critics.server import ServerSettings, ServerWriter
from reelign.critics.writing import Refused, Sampling
from reelign.errors import ReelignError
from reelign.video import read_video

BRIGHT, DARK = flat(0.8), flat(0.2)
BUSY = (429, {"Retry-After": "1"}, "{}")
BROKEN = (500, {}, "Internal Server Error")


def critic_of(server: ChatServer, waits: list[float] | None = None, **settings: Any) -> AskingCritic:
    writer = ServerWriter(ServerSettings(url=server.url, **settings), sleep=([] if waits is None else waits).append)
    return AskingCritic("seer", Plain(), writer, sampling=Sampling())


def test_a_pair_is_asked_as_pictures_and_read_with_its_certainty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEER_KEY", "secret")
    with chatting(honest) as server:
        critic = critic_of(server, key_variable="SEER_KEY", prompt_price=2.0, completion_price=50.0)
        first, second = critic.compare(BRIGHT, DARK, "a lamp", "TA"), critic.compare(DARK, BRIGHT, "a lamp", "TA")
    assert (first.verdict, second.verdict) == ("a", "b")
    assert first.reason == "Video A is lit better."
    assert first.certainty == pytest.approx(0.75 / 0.95, abs=1e-4)
    asked = server.questions[0]
    assert asked.asked["model"] == "seer"
    assert '"a lamp"' in asked.text
    assert len(asked.images) == 8
    assert np.abs(asked.images[0].astype(int) - 204).max() <= 2
    assert server.headers[0]["Authorization"] == "Bearer secret"
    assert critic.tally.counts == Counter(asked=2, prompt_tokens=2000, completion_tokens=20)
    assert critic.tally.cost == pytest.approx((2000 * 2.0 + 20 * 50.0) / 1e6)


def test_a_video_may_travel_as_an_mp4_of_its_length(tmp_path: Path) -> None:
    with chatting(lambda question: "Dim.\nVerdict: bad") as server:
        critic = critic_of(server, send="video", extra={"seed": None, "top_p": 0.5})
        assert critic.rate(flat(0.6, frames=9, height=25, width=33), "", "VQ").grade == "bad"
    (url,) = server.questions[0].urls
    (tmp_path / "sent.mp4").write_bytes(base64.b64decode(url.removeprefix("data:video/mp4;base64,")))
    clip = read_video(tmp_path / "sent.mp4")
    assert (clip.frames.shape, clip.fps) == ((9, 3, 26, 34), 8.0)
    assert server.questions[0].asked["top_p"] == 0.5
    assert "seed" not in server.questions[0].asked


def test_passing_failures_are_waited_for() -> None:
    garbled = (200, {}, '{"choices": [')
    faults = [BUSY, BROKEN, garbled, (200, {}, "<html>busy</html>"), (503, {}, "")]
    waits: list[float] = []
    with chatting(honest, faults=faults) as server:
        critic = critic_of(server, waits)
        assert critic.compare(BRIGHT, DARK, "", "VQ").verdict == "a"
    assert waits == [1.0, 0.5, 1.0, 2.0, 4.0]
    assert critic.tally.counts["retries"] == 5
    assert len(server.questions) == 1


def test_a_server_that_never_answers_ends_the_run_by_name() -> None:
    with chatting(honest, faults=[0.5] * 3) as server:
        critic = critic_of(server, timeout_s=0.05, retries=1)
        with pytest.raises(ReelignError, match=r"gave no answer in 2 tries: TimeoutError"):
            critic.compare(BRIGHT, DARK, "", "VQ")
    with chatting(honest, faults=[BROKEN] * 9) as server, pytest.raises(ReelignError, match="2 tries: HTTP 500"):
        critic_of(server, retries=1).compare(BRIGHT, DARK, "", "VQ")


@pytest.mark.parametrize(
    "answer",
    ["I cannot tell.", "Verdict: A or B", "A is better", "", "Verdict: A\nNo, wait.\nVerdict: B", "The first is[CUT]"],
)
def test_an_unclear_answer_is_counted_and_never_a_verdict(answer: str) -> None:
    with chatting(lambda question: answer) as server:
        critic = critic_of(server)
        found = critic.compare(BRIGHT, DARK, "", "VQ")
    assert (found.verdict, found.left_out) == (None, "unparseable")
    assert found.answers == (answer.removesuffix("[CUT]"),)
    assert critic.tally.counts["unparseable"] == 1
    assert critic.tally.counts["cut_off"] == answer.endswith("[CUT]")


def test_one_question_that_is_refused_is_told_and_the_next_is_asked() -> None:
    fault = (400, {}, '{"error": {"message": "too many images"}}')
    filtered = (200, {}, '{"choices": [{"message": {"content": null}, "finish_reason": "content_filter"}]}')
    with chatting(honest, faults=[fault, filtered]) as server:
        critic = critic_of(server)
        found = [critic.compare(BRIGHT, DARK, "", "VQ") for _ in range(3)]
    assert [one.verdict for one in found] == [None, None, "a"]
    assert found[0].left_out.startswith("refused: The server")
    assert "too many images" in found[0].left_out
    assert critic.tally.counts["refused"] == 2


def test_a_wrong_key_or_model_ends_the_run() -> None:
    with chatting(honest, faults=[(401, {}, "no"), (404, {}, "no such model")]) as server:
        critic = critic_of(server)
        for said in ("Put the key into OPENAI_API_KEY", "HTTP 404: no such model"):
            with pytest.raises(ReelignError, match=said) as raised:
                critic.compare(BRIGHT, DARK, "", "VQ")
            assert not isinstance(raised.value, Refused)


def test_no_more_requests_are_under_way_than_may_be() -> None:
    def slow(question: Question) -> str:
        time.sleep(0.02)
        return honest(question)

    with chatting(slow) as server:
        server.crowd = 3
        critic = critic_of(server, concurrency=3)
        calls = [lambda level=level: critic.compare(flat(level), DARK, "", "VQ") for level in (0.5, 0.6, 0.7) * 4]
        found = together(critic.concurrency, calls)
        together(12, calls)
    assert [one.verdict for one in found] == ["a"] * 12
    assert server.most == 3
    assert critic.tally.counts["asked"] == 24


@pytest.mark.parametrize("send", ["images", "video"])
def test_a_clip_that_is_asked_about_often_is_sampled_and_encoded_once(
    send: Send, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three clips in three pairs, on two dimensions and in both orders: twelve questions, with 24 clips in them."""
    made: Counter[str] = Counter()

    def count(module: Any, name: str) -> None:
        own = getattr(module, name)

        def counted(*given: Any) -> Any:
            made[name] += 1
            return own(*given)

        monkeypatch.setattr(module, name, counted)

    for module, name in ((asking, "shown"), (messages, "_jpegs"), (messages, "_mp4")):
        count(module, name)
    encoded = {"images": "_jpegs", "video": "_mp4"}[send]
    with chatting(honest if send == "images" else lambda _: "Verdict: A") as server:
        critic = critic_of(server, send=send, concurrency=4)
        judge = CriticJudge(Voted(critic, Voting()), dimensions=("VQ", "TA"), fps=8.0)
        clips = [flat(level) for level in (0.2, 0.5, 0.8)]
        judge.asked([(a, b, "a lamp", name) for a, b in combinations(clips, 2) for name in judge.dimensions])
        assert len(server.questions) == 12
        assert made == {"shown": 3, encoded: 3}
        del clips
        gc.collect()
        # As tensors, a copy for each pair: sampled from each, and sent as one.
        videos = torch.stack([flat(level).frames for level in (0.2, 0.5, 0.8)])
        judge.compare(videos[[0, 0, 1]], videos[[1, 2, 2]], ["a lamp"] * 3, generator=torch.Generator())
        assert len(server.questions) == 24
        assert made == {"shown": 3 + 6, encoded: 3 + 3}


def test_the_only_model_is_found_and_of_several_one_must_be_named() -> None:
    with chatting(honest, models=["a", "b"]) as server:
        with pytest.raises(ReelignError, match="serves a, b"):
            open_critic(server.url)
        assert open_critic(server.url, server={"model": "b"}).name == "b"
    with pytest.raises(ReelignError, match="no address of a server"):
        open_critic("server", server={"url": "localhost:8000"})
    with pytest.raises(ReelignError, match="gave no answer in 1 tries: ConnectionRefusedError"):
        open_critic("http://127.0.0.1:9/v1", server={"retries": 0})


def test_probabilities_are_asked_for_only_where_wanted() -> None:
    with chatting(honest) as server:
        found = critic_of(server, logprobs=False).compare(BRIGHT, DARK, "", "VQ")
    assert (found.verdict, found.certainty) == ("a", None)
    assert "logprobs" not in server.questions[0].asked
