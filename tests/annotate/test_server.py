"""The server by its own application: doors, headers, ranges, limits; nothing of it tells more than it should."""

from __future__ import annotations

import io
import re
import socket
import sqlite3
import zipfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from annotate.projects import PLAIN, film
from reelign.annotate import AnnotateSettings, Example
from reelign.annotate.server import Server
from reelign.errors import ReelignError
from reelign.records import Judgement, Video, Workspace

HERE = "http://127.0.0.1"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return film(tmp_path_factory.mktemp("page") / "w", prompts=2)


@pytest.fixture
def server(folder: Path) -> Iterator[Server]:
    server = Server(Workspace.open(folder), AnnotateSettings(**PLAIN, port=0, examples=(EXAMPLE,)))
    yield server
    server.close()


@pytest.fixture
def closed(folder: Path) -> Iterator[Server]:
    """One that asks for tokens."""
    server = Server(Workspace.open(folder), AnnotateSettings(**PLAIN, port=0, tokens=True))
    yield server
    server.close()


EXAMPLE = Example(video="videos/1-0.mp4", caption="A good one")


def client_of(server: Server) -> TestClient:
    return TestClient(server.app, base_url=HERE, follow_redirects=False, raise_server_exceptions=False)


def csrf_of(client: TestClient) -> str:
    found = re.search(r'name="csrf" content="([^"]+)"', client.get("/join").text)
    assert found
    return found[1]


def joined(server: Server, **form: str) -> TestClient:
    client = client_of(server)
    csrf = csrf_of(client)
    assert client.post("/join", data={"csrf": csrf, **form}).status_code == 303
    client.headers["X-CSRF-Token"] = csrf
    return client


def test_a_judge_joins_by_name_on_loopback_and_answers(server: Server) -> None:
    client = joined(server, name="  Ada   L ")
    page = client.get("/").text
    assert "Ada L" in page
    assert "generator" not in page, "judges are not told what made a video"
    work = client.post("/api/work").json()
    question = work["questions"][0]
    assert set(question["videos"][0]) == {"id", "fps", "num_frames"}
    sent = {"showing": question["showing"], "revision": 0, "answers": {"VQ": "same"}, "duration_s": 2.5}
    done = client.post("/api/answer", json=sent)
    assert (done.status_code, done.json()["done"]) == (200, 1)
    assert (
        client.post("/api/undo", json=dict(zip(("showing", "revision"), done.json()["last"], strict=True))).json()[
            "done"
        ]
        == 0
    )


def test_every_answer_has_strict_headers_and_none_tells_what_went_wrong_inside(server: Server) -> None:
    client = joined(server, name="Ada")
    broken = "/videos/" + "x" * 150
    for answer in (client.get("/"), client.get(broken), client.post("/api/answer", json=[1]), client.get("/nowhere")):
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy and "unsafe" not in policy  # noqa: PT018
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert "Traceback" not in answer.text
        assert "server" not in answer.headers
    cookie = client_of(server).get("/join").headers["set-cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=lax" in cookie


def test_an_error_that_nobody_foresaw_tells_nothing(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    client = joined(server, name="Ada")
    # The same as a disk that goes away under a running server.
    monkeypatch.setattr(Workspace, "reading", lambda self: 1 / 0)
    answer = client.post("/api/work")
    assert (answer.status_code, set(answer.json())) == (500, {"error", "mend"})
    assert "division" not in answer.text
    assert answer.headers["x-frame-options"] == "DENY"


def test_a_database_in_trouble_is_no_fault_of_the_judges(server: Server, folder: Path) -> None:
    client = joined(server, name="Ada")
    with closing(sqlite3.connect(folder / "reelign.db")) as connection:
        connection.execute("ALTER TABLE showings RENAME TO lost")
        answer = client.post("/api/work")
        connection.execute("ALTER TABLE lost RENAME TO showings")
    assert answer.status_code == 500, "the page keeps what it sends until it is taken"
    assert "reelign.db" not in answer.text


def test_videos_come_in_ranges_and_only_those_of_the_record(server: Server, folder: Path) -> None:
    client = joined(server, name="Ada")
    whole = (folder / "videos" / "1-0.mp4").read_bytes()
    part = client.get("/videos/v1-0", headers={"Range": "bytes=100-199"})
    assert (part.status_code, part.content) == (206, whole[100:200])
    assert part.headers["content-type"] == "video/mp4"
    assert client.get("/examples/0").content == whole
    for path in (
        "/videos/1-0.mp4",
        "/videos/..%2freelign.db",
        "/videos/%2e%2e/reelign.db",
        "/examples/1",
        "/static/..%2fserver.py",
    ):
        assert client.get(path).status_code in (404, 422), path
    assert client_of(server).get("/static/judge.js").status_code == 200


def test_a_record_from_elsewhere_cannot_name_files_outside(server: Server, folder: Path) -> None:
    workspace = Workspace.open(folder)
    size = {"fps": 8.0, "num_frames": 1, "height": 2, "width": 2, "generator": "g", "seed": 0, "prompt_id": 1}
    outside = folder.parent / "secret.mp4"
    outside.write_bytes(b"secret")
    workspace.add_videos(
        Video(id=f"evil{number}", path=path, **size)
        for number, path in enumerate((str(outside), "../secret.mp4", "videos/../../secret.mp4", "reelign.db"))
    )
    client = joined(server, name="Ada")
    for number in range(4):
        assert client.get(f"/videos/evil{number}").status_code == 404


def test_requests_of_other_sites_names_and_sizes_are_refused(server: Server) -> None:
    client = joined(server, name="Ada")
    del client.headers["X-CSRF-Token"]
    assert client.post("/api/work").status_code == 403
    assert client.post("/api/work", headers={"X-CSRF-Token": "guessed"}).status_code == 403
    assert client.post("/leave", data={"csrf": "guessed"}).status_code == 403
    assert client.get("/join", headers={"Host": "evil.example"}).status_code == 421
    assert client.post("/join", content=b"x" * 300_000).status_code == 413
    assert client.post("/join", content=iter([b"x" * 10])).status_code == 413
    assert client_of(server).post("/api/work").status_code in (401, 403)


def test_where_tokens_are_asked_for_only_links_open(closed: Server, folder: Path) -> None:
    link = closed.invite("Ben")
    nobody = client_of(closed)
    csrf = csrf_of(nobody)
    assert nobody.post("/join", data={"csrf": csrf, "name": "Ben"}).status_code == 403
    for path in ("/admin", "/admin/export/csv", "/videos/v1-0", "/admin/of/v1-0/v1-1"):
        assert nobody.get(path).status_code == 403, path
    ben = joined(closed, token=link.partition("#")[2])
    assert ben.post("/api/work").status_code == 200
    assert ben.get("/videos/v1-0").status_code == 200
    assert ben.get("/admin").status_code == 403
    assert ben.post("/admin/judge", data={"csrf": "x", "name": "Ben", "action": "exclude"}).status_code == 403
    closed.invite("Ben")
    assert ben.post("/api/work").status_code == 401, "a new link ends the sessions of the old"
    admin = joined(closed, token=closed.admin_link.partition("#")[2])
    assert admin.get("/admin").status_code == 200
    database = (folder / "reelign.db").read_bytes() + (folder / "reelign.db-wal").read_bytes()
    assert link.partition(".")[2].encode() not in database


def test_guessing_is_slowed_down(closed: Server) -> None:
    client = client_of(closed)
    csrf = csrf_of(client)
    codes = [client.post("/join", data={"csrf": csrf, "token": f"{n}.x"}).status_code for n in range(12)]
    assert codes == [403] * 10 + [429] * 2


def test_the_overview_shows_numbers_and_changes_judges(server: Server, folder: Path) -> None:
    workspace = Workspace.open(folder)
    workspace.add_judgements(
        Judgement(
            video_a="v2-0",
            video_b="v2-1",
            dimension="VQ",
            verdict=verdict,
            judge=judge,
            judge_version="1",
            reason="<script>",
        )
        for judge, verdict in (("eva", "a"), ("fay", "b"), ("gus", "a"))
    )
    client = joined(server, name="Ada")
    page = client.get("/admin").text
    assert "Krippendorff" in page
    assert 'href="/admin/of/v2-0/v2-1"' in page
    assert "generator 0" in page
    assert "&lt;script&gt;" in client.get("/admin/of/v2-0/v2-1").text
    csrf = csrf_of(client)
    assert client.post("/admin/judge", data={"csrf": csrf, "name": "gus", "action": "exclude"}).status_code == 303
    assert {each.judge for each in workspace.judgements("VQ") if each.video_a == "v2-0"} >= {"eva", "fay"}
    assert "gus" not in {each.judge for each in workspace.judgements("VQ")}
    shown = client.post("/admin/invite", data={"csrf": csrf, "name": "Hal"}).text
    assert re.search(r"http://127.0.0.1/join#[0-9a-f]{16}\.[\w-]{43}", shown)


@pytest.mark.parametrize("format", ["parquet", "csv", "datasets", "label-studio", "videoreward"])
def test_exports_come_whole(server: Server, format: str) -> None:
    answer = joined(server, name="Ada").get(f"/admin/export/{format}")
    assert answer.status_code == 200
    assert "attachment" in answer.headers["content-disposition"]
    if answer.headers["content-type"] == "application/zip":
        names = zipfile.ZipFile(io.BytesIO(answer.content)).namelist()
        assert [name for name in names if "judgements." in name]
    else:
        assert b"videos/2-0.mp4" in answer.content


def test_a_link_for_a_team_leads_to_this_machine_from_elsewhere(folder: Path) -> None:
    server = Server(Workspace.open(folder), AnnotateSettings(**PLAIN, port=0, host="0.0.0.0"))
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as outward:
            if outward.connect_ex(("192.0.2.1", 9)):
                pytest.skip("this machine has no network")
        assert re.match(r"http://(?!localhost|127\.|0\.0\.0\.0)[\w.:-]+:\d+/join#", server.invite("Ada"))
    finally:
        server.close()


@pytest.mark.parametrize("name", ["missing.mp4", "reelign.db"])
def test_an_example_that_is_no_video_is_refused_before_anyone_is_asked(folder: Path, name: str) -> None:
    examples = (Example(video=name, caption="This is flicker."),)
    with pytest.raises(ReelignError, match=r"annotate\.examples names .* no video file\.\n.*relative to the workspace"):
        Server(Workspace.open(folder), AnnotateSettings(**PLAIN, port=0, examples=examples))
