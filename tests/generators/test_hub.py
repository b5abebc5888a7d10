"""Hub ids: what lies beside the weights there is read as it is from a folder, from a real server of two models."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from reelign.errors import ReelignError
from reelign.generators import family_of
from reelign.generators.defaults import file_beside, values_beside
from reelign.generators.ltx import LTX, LTXImageToVideo
from reelign.opening import known_model

INDEX = json.dumps({"_class_name": "LTXPipeline"})
FILES = {
    "/me/plain/resolve/main/model_index.json": INDEX,
    "/me/onward/resolve/main/model_index.json": INDEX,
    "/me/onward/resolve/main/reelign.json": json.dumps(
        {"generator": "reelign.generators.ltx:LTXImageToVideo", "fps": 24}
    ),
    "/me/strange/resolve/main/model_index.json": INDEX,
    "/me/strange/resolve/main/reelign.json": json.dumps({"generator": "nowhere.at_all:Family"}),
}


class Hub(BaseHTTPRequestHandler):
    """The hub's answers to `hf_hub_download`: a file's commit, mark and length, or that there is none."""

    def do_HEAD(self) -> None:
        self.answer(body=False)

    def do_GET(self) -> None:
        self.answer(body=True)

    def answer(self, *, body: bool) -> None:
        text = FILES.get(self.path, "").encode()
        self.send_response(200 if text else 404)
        self.send_header("X-Repo-Commit", "c0ffee")
        self.send_header("Content-Length", str(len(text)))
        if text:
            self.send_header("ETag", f'"{hash(text):x}"')
        else:
            self.send_header("X-Error-Code", "EntryNotFound")
        self.end_headers()
        if body:
            self.wfile.write(text)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ThreadingHTTPServer]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    address = f"http://127.0.0.1:{server.server_port}"
    constants = "huggingface_hub.constants."
    monkeypatch.setattr(constants + "HUGGINGFACE_CO_URL_TEMPLATE", address + "/{repo_id}/resolve/{revision}/{filename}")
    monkeypatch.setattr(constants + "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants + "HF_HUB_OFFLINE", False)
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def test_a_hub_id_names_its_family_and_its_defaults(hub: ThreadingHTTPServer, monkeypatch: pytest.MonkeyPatch) -> None:
    assert family_of("me/plain") is LTX
    assert file_beside("me/plain") is None
    assert family_of("me/onward") is LTXImageToVideo
    assert values_beside("me/onward")["fps"] == 24
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert family_of("me/onward") is LTXImageToVideo
    assert family_of("me/plain") is LTX


def test_a_hub_id_that_names_no_family_is_refused(hub: ThreadingHTTPServer) -> None:
    for look in (family_of, known_model):  # known_model by the copy that the first has brought
        with pytest.raises(ReelignError, match=r"nowhere\.at_all.* cannot be imported"):
            look("me/strange")
