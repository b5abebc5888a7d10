"""What a judge's browser asks for."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Form, Request
from fastapi.responses import FileResponse, RedirectResponse, Response
from pydantic import BaseModel, ConfigDict, Field

from reelign.annotate.answers import Answer, Name, options
from reelign.annotate.media import IMAGE_TYPES, MEDIA_TYPES
from reelign.annotate.pages import page
from reelign.annotate.site import CsrfForm, JudgeName, from_own_script, site_of

KEPT = {"Cache-Control": "private, max-age=86400"}
PAGES = APIRouter()
API = APIRouter(prefix="/api", dependencies=[Depends(from_own_script)])


class Skip(BaseModel):
    """A question put aside."""

    model_config = ConfigDict(extra="forbid")

    showing: Name
    note: str = Field(default="", max_length=500)


class Undo(BaseModel):
    """An answer taken back."""

    model_config = ConfigDict(extra="forbid")

    showing: Name
    revision: int = Field(ge=0)


@PAGES.get("/")
def judging(request: Request) -> Response:
    """The judging page."""
    site = site_of(request)
    if "judge" not in request.session:
        return RedirectResponse("/join", 303)
    judge, settings = site.access.judge(request), site.desk.settings
    return page(request, "judge.html.j2", settings=settings, judge=judge, options=options(settings))


@PAGES.get("/join")
def joining(request: Request) -> Response:
    """Where an invitation link leads."""
    return page(request, "join.html.j2", settings=site_of(request).desk.settings)


@PAGES.post("/join", dependencies=[CsrfForm])
def join(
    request: Request,
    token: Annotated[str, Form(max_length=200)] = "",
    name: Annotated[str, Form(max_length=200)] = "",
) -> Response:
    """Begin a session."""
    access = site_of(request).access
    return RedirectResponse(access.enter(request, token) if token else access.enter_by_name(request, name), 303)


@PAGES.post("/leave", dependencies=[CsrfForm])
def leave(request: Request) -> Response:
    """End a session."""
    request.session.clear()
    return RedirectResponse("/join", 303)


@PAGES.get("/videos/{video_id}")
def video(request: Request, video_id: Name) -> Response:
    """The bytes of a video, or a range of them."""
    site = site_of(request)
    site.access.viewer(request)
    return _clip(site.media.video(video_id))


@PAGES.get("/images/{video_id}")
def image(request: Request, video_id: Name) -> Response:
    """The bytes of the image that a video goes on from."""
    site = site_of(request)
    site.access.viewer(request)
    path = site.media.image(video_id)
    return FileResponse(path, media_type=IMAGE_TYPES[path.suffix.lower()], headers=KEPT)


@PAGES.get("/examples/{number}")
def example(request: Request, number: int) -> Response:
    """The bytes of an example of the instructions."""
    site = site_of(request)
    site.access.viewer(request)
    return _clip(site.media.example(number))


def _clip(path: Path) -> Response:
    return FileResponse(path, media_type=MEDIA_TYPES[path.suffix.lower()], headers=KEPT)


@API.post("/work")
def work(request: Request, judge: JudgeName) -> dict[str, Any]:
    """What is on the judge's desk."""
    return asdict(site_of(request).desk.work(judge))


@API.post("/answer")
def answer(request: Request, judge: JudgeName, answer: Answer) -> dict[str, Any]:
    """An answer handed in."""
    return asdict(site_of(request).desk.answer(judge, answer))


@API.post("/skip")
def skip(request: Request, judge: JudgeName, skip: Skip) -> dict[str, Any]:
    """A question put aside."""
    return asdict(site_of(request).desk.skip(judge, skip.showing, skip.note))


@API.post("/undo")
def undo(request: Request, judge: JudgeName, undo: Undo) -> dict[str, Any]:
    """An answer taken back."""
    return asdict(site_of(request).desk.undo(judge, undo.showing, undo.revision))
