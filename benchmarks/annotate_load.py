"""How the judging page bears many judges at once: real HTTP clients against a real server, every answer accounted for.

    python benchmarks/annotate_load.py --judges 50 --answers 10000

Each judge is a client with a session of its own that answers as fast as the server does, after a pause for thought
(`--think`, a mean in seconds; 0 for none at all). `--kill` ends the server with `kill -9` in the middle and starts it
again: clients send again what was not acknowledged, as the page does.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import platform
import random
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

import numpy as np
from sqlalchemy import select

from reelign.records import Showing, Video, Workspace

SETTINGS = "annotate: {dimensions: [{name: VQ}], judges_per_item: 5, gold_rate: 0, repeat_rate: 0}\n"
JUDGES_PER_ITEM = 5
START_S = 120
AGAIN_S = 0.2


@dataclass
class Tally:
    """What the clients saw."""

    acknowledged: set[tuple[str, int]] = field(default_factory=set)
    seconds: list[float] = field(default_factory=list)
    errors: Counter[str] = field(default_factory=Counter)
    server_cpu_s: float = 0.0
    """Of the server, from its first page to the last answer."""
    lock: threading.Lock = field(default_factory=threading.Lock)


class Client:
    """One judge's browser, without the pictures."""

    def __init__(self, address: str, name: str) -> None:
        self.address = address
        self.cookie = self.csrf = ""
        self._open()
        page = self._ask("GET", "/join")
        found = re.search(rb'name="csrf" content="([^"]+)"', page)
        assert found, page
        self.csrf = found[1].decode()
        self._ask("POST", "/join", urlencode({"csrf": self.csrf, "name": name}), "application/x-www-form-urlencoded")

    def call(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """A call as the page's script makes it, again after every lost connection."""
        while True:
            try:
                found: dict[str, Any] = json.loads(self._ask("POST", path, json.dumps(body), "application/json"))
                return found
            except (OSError, http.client.HTTPException):
                time.sleep(AGAIN_S)
                self._open()

    def _open(self) -> None:
        where = urlsplit(self.address)
        assert where.hostname
        self.connection = http.client.HTTPConnection(where.hostname, where.port, timeout=60)

    def _ask(self, method: str, path: str, body: str | None = None, kind: str = "") -> bytes:
        headers = {"Cookie": self.cookie, "X-CSRF-Token": self.csrf, **({"Content-Type": kind} if kind else {})}
        self.connection.request(method, path, body, headers)
        answer = self.connection.getresponse()
        content = answer.read()
        if answer.status >= 400:
            raise RuntimeError(f"{answer.status} {content[:200]!r}")
        if given := answer.headers.get("set-cookie"):
            self.cookie = given.partition(";")[0]
        return content


class ServerProcess:
    """`reelign annotate` as users start it."""

    def __init__(self, workspace: Path, port: int = 0) -> None:
        words = [str(Path(sys.executable).parent / "reelign"), "annotate", "-w", str(workspace), f"port={port}"]
        self.process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout
        lines = iter(self.process.stdout.readline, "")
        self.address = next(line.split()[-1] for line in lines if line.startswith("judge at"))
        self.port = urlsplit(self.address).port or 0
        self._wait()
        self._cpu_before = self._cpu_s()

    @property
    def cpu_s(self) -> float:
        """Seconds of CPU since the server was ready."""
        return self._cpu_s() - self._cpu_before

    def kill(self) -> None:
        """As a power cut would, but for the disk."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(timeout=60)

    def _cpu_s(self) -> float:
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def _wait(self) -> None:
        until = time.monotonic() + START_S
        while True:
            try:
                connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
                connection.request("GET", "/join")
                connection.getresponse().read()
                return
            except OSError:
                if time.monotonic() > until or self.process.poll() is not None:
                    raise
                time.sleep(0.1)


def make_workspace(folder: Path, answers: int) -> Workspace:
    """Pairs enough for so many answers and for what judges hold beside; no answer needs the files of videos."""
    workspace = Workspace.create(folder, model="tiny/wan")
    count = -(-answers * 6 // (5 * JUDGES_PER_ITEM))
    prompts = workspace.add_prompts([f"prompt {number}" for number in range(count)], "train")
    size = {"fps": 8.0, "num_frames": 17, "height": 64, "width": 64, "generator": "g"}
    workspace.add_videos(
        Video(id=f"{p.id}-{i}", prompt_id=p.id, seed=i, index=i, path=f"videos/{p.id}-{i}.mp4", **size)
        for p in prompts
        for i in range(2)
    )
    (folder / "reelign.yaml").write_text(SETTINGS)
    return workspace


def judge(address: str, number: int, answers: int, think_s: float, tally: Tally) -> None:
    """One judge's sitting."""
    chance = random.Random(number)
    try:
        client = Client(address, f"judge {number}")
        work = client.call("/api/work", {})
        for _ in range(answers):
            if not work["questions"]:
                return
            time.sleep(chance.expovariate(1 / think_s) if think_s else 0)
            question = work["questions"][0]
            answer = chance.choice(("left_clearly", "left_slightly", "same", "right_slightly", "right_clearly"))
            sent = {"showing": question["showing"], "revision": question["revision"], "answers": {"VQ": answer}}
            start = time.perf_counter()
            work = client.call("/api/answer", sent)
            with tally.lock:
                tally.seconds.append(time.perf_counter() - start)
                tally.acknowledged.add((question["showing"], question["revision"]))
    except Exception as error:
        with tally.lock:
            tally.errors[f"{type(error).__name__}: {error}"] += 1


def drive(workspace: Workspace, *, judges: int, answers: int, think_s: float, kill: bool) -> tuple[Tally, float]:
    """All judges at once; what they saw, and the seconds it took."""
    server, tally = ServerProcess(workspace.root), Tally()
    each = -(-answers // judges)
    threads = [
        threading.Thread(target=judge, args=(server.address, number, each, think_s, tally)) for number in range(judges)
    ]
    start = time.perf_counter()
    for thread in threads:
        thread.start()
    if kill:
        while len(tally.acknowledged) < answers // 2 and any(thread.is_alive() for thread in threads):
            time.sleep(0.02)
        server.kill()
        server = ServerProcess(workspace.root, server.port)
    for thread in threads:
        thread.join()
    took = time.perf_counter() - start
    tally.server_cpu_s = server.cpu_s
    server.stop()
    return tally, took


def faults(workspace: Workspace, tally: Tally) -> list[str]:
    """What is lost, doubled or wrong in the record after a drive; empty where all is well."""
    made = workspace.judgements(history=True)
    with workspace.reading() as session:
        answered = set(session.scalars(select(Showing.id).where(Showing.state == "answered")))
    lost = {showing for showing, _ in tally.acknowledged} - answered
    twice = [key for key, count in Counter((each.judge, each.task) for each in made).items() if count > 1]
    over = [task for task, count in Counter(each.task for each in made).items() if count > JUDGES_PER_ITEM]
    found = [f"{count} x {error}" for error, count in tally.errors.items()]
    found += [f"{len(lost)} acknowledged answers are lost"] if lost else []
    found += [f"{len(twice)} judgements are doubled"] if twice else []
    found += [f"{len(over)} items have too many judges"] if over else []
    found += [f"{len(made)} judgements of {len(answered)} answers"] if len(made) != len(answered) else []
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--judges", type=int, default=50)
    parser.add_argument("--answers", type=int, default=10_000)
    parser.add_argument("--think", type=float, default=1.0)
    parser.add_argument("--kill", action="store_true")
    wanted = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        workspace = make_workspace(Path(folder) / "w", wanted.answers)
        tally, took = drive(
            workspace, judges=wanted.judges, answers=wanted.answers, think_s=wanted.think, kill=wanted.kill
        )
        wrong = faults(workspace, tally)
    middle, late, worst = np.quantile(tally.seconds, (0.5, 0.95, 1)) * 1000
    print(f"{platform.platform()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
    print(
        f"{wanted.judges} judges, {len(tally.acknowledged)} answers in {took:.1f} s, {wanted.think} s of thought each"
    )
    print(f"an answer takes {middle:.0f} ms (median), {late:.0f} ms (p95), {worst:.0f} ms (worst)")
    if not wanted.kill:
        print(f"the server spends {1000 * tally.server_cpu_s / len(tally.seconds):.1f} ms of CPU on an answer")
    print("\n".join(wrong) or "no error, none lost, none doubled")
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
