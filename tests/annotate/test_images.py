"""The image that videos go on from stands beside their prompt, for judges and nobody else."""

from __future__ import annotations

import io
from pathlib import Path

from PIL import Image

from annotate.projects import PLAIN, film
from annotate.test_server import client_of, joined
from reelign.annotate import AnnotateSettings
from reelign.annotate.server import Server
from reelign.records import Prompt, Video, Workspace, image_prompt


def test_a_question_has_its_prompts_image(tmp_path: Path) -> None:
    workspace = Workspace.open(film(tmp_path / "w", prompts=2))
    Image.new("RGB", (6, 4), "red").save(tmp_path / "red.png")
    (prompt,) = workspace.add_prompts([image_prompt("a square moves", tmp_path / "red.png")], "train")
    with workspace.writing() as session:
        for video in session.query(Video).filter(Video.id.startswith("v1-")):
            video.prompt_id = prompt.id
        outside = session.get_one(Prompt, 2)
        outside.image = "../red.png"
    server = Server(workspace, AnnotateSettings(**PLAIN, port=0))
    try:
        client = joined(server, name="Ada")
        questions = client.post("/api/work").json()["questions"]
        assert {each["prompt"]: each["image"] for each in questions}["a square moves"] is True
        sent = client.get("/images/v1-0")
        assert (sent.status_code, sent.headers["content-type"]) == (200, "image/png")
        assert Image.open(io.BytesIO(sent.content)).getpixel((0, 0)) == (255, 0, 0)
        for path in ("/images/v2-0", "/images/nothing", "/images/..%2freelign.db"):
            assert client.get(path).status_code == 404
        assert 'id="image"' in client.get("/").text
    finally:
        server.close()
    closed = Server(workspace, AnnotateSettings(**PLAIN, port=0, tokens=True))
    try:
        assert client_of(closed).get("/images/v1-0").status_code == 403
    finally:
        closed.close()
