"""A reward over HTTP scores as it does at home; limits, doors and failures answer as documented."""

from __future__ import annotations

import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from reelign.errors import ReelignError
from reelign.rewards import open_reward
from reelign.rewards.compose import Composed, Part
from reelign.rewards.serving import RewardServer, ServeSettings
from reelign.rewards.wire import CONTENT_TYPE, pack
from rewards.rewards import Broken, Light, Slow
from rewards.servers import ask, serving


def grey(*levels: float) -> torch.Tensor:
    return torch.tensor(levels).view(-1, 1, 1, 1, 1).expand(-1, 4, 3, 16, 16).contiguous()


def test_the_same_scores_as_at_home() -> None:
    videos = torch.rand(5, 4, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    prompts = ["a", "bb", "ccc", "a", "bb"]
    videos[1] = 0
    with serving(Light(), batch_size=2) as server:
        client = open_reward(server.address)
        found = client.score(videos, prompts, fps=8)
        assert (client.name, client.version, client.dimensions) == ("light", "1", ("VQ", "TA"))
        assert not client.differentiable
    expected = Light().score(videos, prompts, fps=8)
    for name in ("VQ", "TA"):
        torch.testing.assert_close(found[name], expected[name], atol=0, rtol=0, equal_nan=True)
    assert found["VQ"].isnan().tolist() == [False, True, False, False, False], "NaN comes through, and is not 0"


def test_videos_of_several_sizes_travel_together() -> None:
    with serving(Light()) as server:
        found = open_reward(server.address).score([grey(0.5)[0], torch.full((2, 3, 8, 24), 0.25)], ["a", "bb"])
    assert found["VQ"].tolist() == [0.5, 0.25]


def test_clients_that_ask_together_are_scored_together_and_equal_videos_once() -> None:
    reward = Slow()
    with serving(reward, batch_size=8) as server, ThreadPoolExecutor(17) as pool:
        client = open_reward(server.address)
        first = pool.submit(client.score, grey(0.9), ["first"], fps=8)
        assert reward.entered.wait(10)
        levels = [number / 64 for number in range(1, 17)]
        answers = [pool.submit(client.score, grey(level), ["p"], fps=8) for level in levels]
        wait_for(lambda: server.batcher.waiting == 16)
        reward.gate.set()
        assert [answer.result(20)["VQ"].item() for answer in answers] == levels
        assert reward.calls == [1, 8, 8]
        assert first.result(20)["VQ"].item() == pytest.approx(0.9)
        client.score(grey(*levels), ["p"] * 16, fps=8)
        assert sum(reward.calls) == 17, "all of them are known"
        client.score(grey(levels[0]), ["another prompt"], fps=8)
        client.score(grey(levels[0]), ["p"], fps=16)
        assert reward.calls[3:] == [1, 1]
        status, told, _ = ask(server, "GET", "/reward")
        assert (status, told["scored"], told["from_cache"], told["batches"]) == (200, 19, 16, 5)


def wait_for(condition: object, *, within_s: float = 10) -> None:
    assert callable(condition)
    until = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < until, "it never came so far"
        time.sleep(0.005)


def test_a_full_queue_pushes_back_and_the_client_waits_it_out() -> None:
    reward = Slow()
    pauses: list[float] = []

    def pause(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 3:
            reward.gate.set()
            wait_for(lambda: server.batcher.waiting == 0)

    with serving(reward, batch_size=1, queue=2) as server, ThreadPoolExecutor(2) as pool:
        client = open_reward(server.address)
        held = pool.submit(client.score, grey(0.1), ["p"])
        assert reward.entered.wait(10)
        waiting = pool.submit(ask, server, "POST", "/score", pack(grey(0.2, 0.3), ["p", "p"], fps=None))
        wait_for(lambda: server.batcher.waiting == 2)
        status, told, headers = ask(server, "POST", "/score", pack(grey(0.4), ["p"], fps=None))
        assert (status, told["error"]) == (429, "The queue of the reward 'slow' is full.")
        assert 1 <= int(headers["retry-after"]) <= 60
        assert ask(server, "GET", "/health")[:2] == (200, {"status": "ok", "waiting": 2})
        patient = open_reward(server.address, sleep=pause)
        assert patient.score(grey(0.4), ["p"])["VQ"].item() == pytest.approx(0.4)
        assert pauses == [float(headers["retry-after"])] * 3
        assert waiting.result(20)[0] == held.result(20)["VQ"].ndim * 200
    with serving(Slow(), batch_size=1, queue=1) as server:
        server.batcher.submit = full  # type: ignore[method-assign]
        with pytest.raises(ReelignError, match="gave no answer in many tries: HTTP 429"):
            open_reward(server.address, patience_s=3, sleep=lambda seconds: None).score(grey(0.4), ["p"])


def full(items: object) -> None:
    from reelign.rewards.batching import Busy

    raise Busy(1)


def test_requests_beyond_the_memory_push_back() -> None:
    video = torch.zeros(4, 3, 256, 256)
    reward = Slow()
    with serving(reward, request_mb=1, waiting_mb=1, batch_size=1) as server, ThreadPoolExecutor(1) as pool:
        first = pool.submit(ask, server, "POST", "/score", pack(video[None], ["p"], fps=None))
        assert reward.entered.wait(10)
        assert ask(server, "POST", "/score", pack(video[None], ["q"], fps=None))[0] == 429
        reward.gate.set()
        assert first.result(20)[0] == 200
        assert ask(server, "POST", "/score", pack(video[None], ["q"], fps=None))[0] == 200


def test_a_large_batch_is_cut_to_the_servers_limit_and_one_large_video_is_refused_here() -> None:
    reward = Light()
    with serving(reward, request_mb=1) as server:
        client = open_reward(server.address)
        found = client.score(torch.rand(5, 2, 3, 128, 128), ["p"] * 5)
        assert found["VQ"].isfinite().all()
        assert sum(reward.calls) == 5
        assert max(reward.calls) <= 2, "two are all that a megabyte holds"
        with pytest.raises(ReelignError, match="is more than the reward 'light'"):
            client.score(torch.rand(1, 8, 3, 128, 128), ["p"])
        small = open_reward(server.address, precision="uint8")
        assert small.score(torch.rand(1, 8, 3, 128, 128), ["p"])["VQ"].isfinite().all()


def test_what_the_reward_refuses_is_told_in_its_own_words() -> None:
    with serving(open_reward("flicker")) as server:
        assert open_reward(server.address).frames_needed == 3
        status, told, _ = ask(server, "POST", "/score", pack(grey(0.5)[:, :2], ["p"], fps=8))
        assert (status, told["error"]) == (422, "Video 0 has 2 frames; the reward 'flicker' needs 3.")
        small = torch.rand(1, 4, 3, 8, 8)
        with pytest.raises(ReelignError, match=r"'flicker' at http.* refuses: .*needs frames of 16 px"):
            open_reward(server.address).score(small, ["p"])


def test_a_reward_that_breaks_tells_nothing_of_its_inside_and_fails_loudly() -> None:
    with serving(Broken()) as server, pytest.raises(ReelignError, match="refuses: Something went wrong") as refused:
        open_reward(server.address).score(grey(0.5), ["p"])
    assert "secret" not in str(refused.value)


def test_requests_that_are_none_are_refused() -> None:
    with serving(Light(), request_mb=1, queue=2) as server:
        assert ask(server, "POST", "/score", b"no file")[0] == 422
        assert ask(server, "POST", "/score", b"{}", Content_Type="application/json")[0] == 415
        assert ask(server, "POST", "/score", pack(grey(0.1, 0.2, 0.3), ["p"] * 3, fps=None))[0] == 413
        assert ask(server, "GET", "/score")[0] == 405
        assert ask(server, "GET", "/docs")[0] == 404
        assert ask(server, "GET", "/reward", Host="elsewhere.example")[0] == 421
        assert announced(server, 2 << 20).startswith(b"HTTP/1.1 413")
        assert announced(server, None).startswith(b"HTTP/1.1 411")


def announced(server: RewardServer, length: int | None) -> bytes:
    """The answer to a request that only says how long it is."""
    size = "Transfer-Encoding: chunked" if length is None else f"Content-Length: {length}"
    with socket.create_connection(("127.0.0.1", int(server.address.rpartition(":")[2])), timeout=10) as line:
        line.sendall(
            f"POST /score HTTP/1.1\r\nHost: localhost\r\nContent-Type: {CONTENT_TYPE}\r\n{size}\r\n\r\n".encode()
        )
        return line.recv(100)


def test_an_upload_that_never_ends_is_given_up() -> None:
    with serving(Light(), upload_s=0.2) as server:
        assert announced(server, 1000).startswith(b"HTTP/1.1 408")


def test_a_client_that_hangs_up_holds_nothing(caplog: pytest.LogCaptureFixture) -> None:
    with serving(Light()) as server:
        with socket.create_connection(("127.0.0.1", int(server.address.rpartition(":")[2])), timeout=10) as line:
            line.sendall(
                f"POST /score HTTP/1.1\r\nHost: localhost\r\nContent-Type: {CONTENT_TYPE}\r\n"
                "Content-Length: 1000\r\n\r\nhalf".encode()
            )
            wait_for(lambda: server._held == 1000)
        wait_for(lambda: server._held == 0)
        assert open_reward(server.address).score(grey(0.5), ["p"])["VQ"].item() == 0.5
    assert not caplog.records


def test_elsewhere_a_token_is_asked_for() -> None:
    with serving(Light(), token="secret") as server:
        assert ask(server, "GET", "/health")[0] == 200
        assert ask(server, "GET", "/reward")[0] == 401
        assert ask(server, "POST", "/score", pack(grey(0.5), ["p"], fps=None), Authorization="Bearer wrong")[0] == 401
        with pytest.raises(ReelignError, match="refuses: The token is missing or wrong"):
            open_reward(server.address)
        assert open_reward(server.address, token="secret").score(grey(0.5), ["p"])["VQ"].item() == 0.5
    assert ServeSettings(host="0.0.0.0").asks_token
    assert not ServeSettings(host="127.0.0.1").asks_token
    anywhere = RewardServer(Light(), ServeSettings(host="0.0.0.0", port=0))
    assert len(anywhere.token) > 20
    anywhere.close()


def test_the_token_may_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REELIGN_REWARDS_TOKEN", "secret")
    with serving(Light(), token="secret") as server:
        assert open_reward(server.address).name == "light"


def test_a_taken_port_and_a_relative_reward_are_refused() -> None:
    with serving(Light()) as server:
        port = int(server.address.rpartition(":")[2])
        with pytest.raises(ReelignError, match=f"cannot be served at 127.0.0.1, port {port}"):
            RewardServer(Light(), ServeSettings(port=port))
    relative = Composed(parts=[Part(reward=Light(), weights={"VQ": 1}, normalise="group")])
    with pytest.raises(ReelignError, match="depend on the other videos"):
        RewardServer(relative, ServeSettings(port=0))


@pytest.mark.parametrize("wrong", [{"queue": 0}, {"batch_size": -1}, {"wait_s": -0.1}, {"request_mb": 0}])
def test_limits_that_mean_nothing_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="must be"):
        ServeSettings(**wrong)  # type: ignore[arg-type]


def test_a_server_that_ends_finishes_what_it_has() -> None:
    reward = Slow()
    with ThreadPoolExecutor(1) as pool:
        with serving(reward) as server:
            client = open_reward(server.address)
            answer = pool.submit(client.score, grey(0.5), ["p"])
            assert reward.entered.wait(10)
            threading.Timer(0.2, reward.gate.set).start()
        assert answer.result(10)["VQ"].item() == 0.5
    with pytest.raises(OSError, match="refused"):
        ask(server, "GET", "/health")
