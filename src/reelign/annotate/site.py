"""What every route needs: the parts of one server, and who asks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Form, Header, Request

from reelign.annotate.access import CSRF_FIELD, CSRF_HEADER, Access, check_csrf
from reelign.annotate.counting import Counting
from reelign.annotate.desk import Desk
from reelign.annotate.media import Media


@dataclass(frozen=True, slots=True)
class Site:
    """The parts of one server."""

    desk: Desk
    access: Access
    media: Media
    counting: Counting


def site_of(request: Request) -> Site:
    """The server that was asked."""
    site: Site = request.app.state.site
    return site


def judge_of(request: Request) -> str:
    """The judge whose session it is."""
    return site_of(request).access.judge(request)


def only_admin(request: Request) -> None:
    """Let the admin in."""
    site_of(request).access.admin(request)


def from_own_script(request: Request, csrf: Annotated[str | None, Header(alias=CSRF_HEADER)] = None) -> None:
    """Refuse a call that a page of another site had the browser make."""
    check_csrf(request, csrf)


def from_own_form(request: Request, csrf: Annotated[str, Form(alias=CSRF_FIELD, max_length=200)]) -> None:
    """Refuse a form of another site."""
    check_csrf(request, csrf)


JudgeName = Annotated[str, Depends(judge_of)]
CsrfForm = Depends(from_own_form)
