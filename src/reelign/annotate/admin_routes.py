"""What the admin's browser asks for."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Form, HTTPException, Request
from fastapi.responses import FileResponse, RedirectResponse, Response
from sqlalchemy import select
from starlette.background import BackgroundTask

from reelign.annotate import assignment, invitations
from reelign.annotate.answers import Name
from reelign.annotate.desk import Desk
from reelign.annotate.overview import overview
from reelign.annotate.pages import page
from reelign.annotate.site import CsrfForm, only_admin, site_of
from reelign.records import Invitation, Prompt, Showing, Video
from reelign.records.exchange.record_files import FOLDERS, RECORD_FORMATS, SUFFIXES, RecordFormat, export_record
from reelign.records.pages import of_pair, of_video

Action = Literal["pause", "resume", "exclude", "include"]
ADMIN = APIRouter(prefix="/admin", dependencies=[Depends(only_admin)])
Posted = Annotated[str, Form(max_length=200)]


@ADMIN.get("")
def admin(request: Request) -> Response:
    """The overview."""
    return _overview(request)


@ADMIN.get("/of/{one}")
@ADMIN.get("/of/{one}/{other}")
def said(request: Request, one: Name, other: Name | None = None) -> Response:
    """A video, or two, and what was said of them."""
    desk = site_of(request).desk
    ids = [one] if other is None else [one, other]
    with desk.workspace.reading() as session:
        rows = session.execute(select(Video, Prompt.text).join(Prompt).where(Video.id.in_(ids)))
        videos = {video.id: (video, prompt) for video, prompt in rows}
        if len(videos) != len(ids):
            raise HTTPException(404, "There is no such video in the record.")
        judgements = of_video(session, one) if other is None else of_pair(session, one, other)
    shown = [videos[each][0] for each in ids]
    return page(request, "said.html.j2", prompt=videos[one][1], videos=shown, said=judgements)


@ADMIN.post("/invite", dependencies=[CsrfForm])
def invite(request: Request, name: Posted) -> Response:
    """A new judge, or a new link for one who lost it."""
    with site_of(request).desk.writing() as session:
        token = invitations.invite(session, name)
    return _overview(request, link=(name, f"{request.base_url}join#{token}"))


@ADMIN.post("/judge", dependencies=[CsrfForm])
def judge(request: Request, name: Posted, action: Annotated[Action, Form()]) -> Response:
    """Pause or exclude a judge, or take that back."""
    change_judge(site_of(request).desk, name, action)
    return RedirectResponse("/admin#judges", 303)


@ADMIN.get("/export/{format}")
def export(request: Request, format: RecordFormat) -> Response:
    """The record as a file; a format that is a folder comes as its archive."""
    folder = Path(tempfile.mkdtemp(prefix="reelign-export-"))
    try:
        path = _exported(site_of(request).desk, folder, format)
    except BaseException:
        shutil.rmtree(folder)
        raise
    return FileResponse(path, filename=path.name, background=BackgroundTask(shutil.rmtree, folder))


def change_judge(desk: Desk, name: str, action: Action) -> None:
    """Pause or exclude a judge, or take that back. What the judge said stays in the record.

    What a paused judge holds goes to others; the questions of an excluded one are asked again of others.
    """
    if action in ("exclude", "include"):
        desk.workspace.set_judge(name, excluded=action == "exclude")
    with desk.writing() as session:
        invitation = session.get(Invitation, name)
        if invitation is None:
            return
        if action in ("pause", "resume"):
            invitation.paused = action == "pause"
        if action in ("pause", "exclude"):
            assignment.release(session, name)
        assignment.recount(session, list(session.scalars(select(Showing.task).where(Showing.judge == name))))


def _overview(request: Request, *, link: tuple[str, str] | None = None) -> Response:
    desk = site_of(request).desk
    shown = overview(desk.workspace, desk.settings, site_of(request).counting.figures())
    return page(request, "admin.html.j2", settings=desk.settings, shown=shown, formats=RECORD_FORMATS, link=link)


def _exported(desk: Desk, folder: Path, format: RecordFormat) -> Path:
    name = f"{desk.workspace.root.name}-{format}"
    path = folder / f"{name}{SUFFIXES.get(format, '')}"
    export_record(desk.workspace, path, format, name=desk.workspace.root.name)
    return Path(shutil.make_archive(str(path), "zip", path)) if format in FOLDERS else path
