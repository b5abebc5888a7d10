"""The web server of one workspace: put together here, and nothing more."""

from __future__ import annotations

import logging
import socket
from http import HTTPStatus

import uvicorn
from fastapi import FastAPI, HTTPException, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from sqlalchemy.exc import SQLAlchemyError
from starlette.exceptions import HTTPException as StarletteHTTPException
from starlette.middleware.sessions import SessionMiddleware
from starlette.types import ASGIApp

from reelign.annotate.access import SESSION_DAYS, Access, session_key
from reelign.annotate.admin_routes import ADMIN
from reelign.annotate.counting import Counting
from reelign.annotate.desk import Conflict, Desk
from reelign.annotate.hardening import Hardening
from reelign.annotate.invitations import invite
from reelign.annotate.judge_routes import API, PAGES
from reelign.annotate.media import Media
from reelign.annotate.pages import asset, page
from reelign.annotate.planning import plan
from reelign.annotate.settings import AnnotateSettings
from reelign.annotate.site import Site
from reelign.errors import ReelignError
from reelign.records import Workspace

log = logging.getLogger(__name__)

LOOPBACK_NAMES = ("localhost", "127.0.0.1", "[::1]")


class Server:
    """What `reelign annotate` runs."""

    def __init__(self, workspace: Workspace, settings: AnnotateSettings) -> None:
        """Plan what is asked, and put the application together.

        Raises:
            ReelignError: there is nothing to ask, or an example of the instructions is not there.
        """
        self.settings = settings
        media = Media(workspace, settings)
        self._socket = _listen(settings.host, settings.port)
        self.questions = plan(workspace, settings)
        """How many tasks are open, each to be judged by several."""
        self._desk = Desk(workspace, settings)
        self._access = Access(self._desk)
        self.app = _application(self._desk, self._access, media)

    @property
    def address(self) -> str:
        """Where a browser on this machine, or one that reaches it by its name, finds the page."""
        host = self.settings.host
        anywhere = host in ("0.0.0.0", "::")
        name = _own_name() if anywhere else f"[{host}]" if ":" in host else host
        return f"http://{name}:{self._socket.getsockname()[1]}"

    @property
    def admin_link(self) -> str:
        """Of the overview; with a token of this start of the server where tokens are asked for."""
        if self.settings.asks_tokens:
            return f"{self.address}/join#{self._access.admin_token}"
        return f"{self.address}/admin"

    def invite(self, judge: str) -> str:
        """A judge's personal link; one given before ends.

        Raises:
            ReelignError: a name that cannot be one.
        """
        with self._desk.writing() as session:
            return f"{self.address}/join#{invite(session, judge)}"

    def run(self) -> None:
        """Serve until a signal ends it; what was acknowledged is in the database by then."""
        config = uvicorn.Config(self.app, log_level="warning", access_log=False, server_header=False)
        try:
            uvicorn.Server(config).run(sockets=[self._socket])
        finally:
            self.close()

    def close(self) -> None:
        """Give back the port and the database."""
        self._socket.close()
        self._desk.close()


def _listen(host: str, port: int) -> socket.socket:
    try:
        return socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except OSError as error:
        raise ReelignError(
            f"The page cannot be served at {host}, port {port}: {error.strerror}.", "Give another: port=8400"
        ) from error


def _own_name() -> str:
    """By which others reach this machine: its name, or its address where it calls itself localhost alone."""
    name = socket.getfqdn()
    if not name.startswith("localhost"):
        return name
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as outward:
        try:
            outward.connect(("192.0.2.1", 9))  # of no one (RFC 5737), and nothing is sent: it only picks the route
        except OSError:
            return name
        return str(outward.getsockname()[0])


def _application(desk: Desk, access: Access, media: Media) -> ASGIApp:
    settings = desk.settings
    app = FastAPI(title="reelign", docs_url=None, redoc_url=None, openapi_url=None)
    app.add_middleware(
        SessionMiddleware,
        secret_key=session_key(desk.workspace.root),
        session_cookie="reelign",
        max_age=SESSION_DAYS * 86_400,
        same_site="lax",
        https_only=settings.secure_cookies,
    )
    app.state.site = Site(desk, access, media, Counting(desk.workspace, settings))
    for routes in (PAGES, API, ADMIN):
        app.include_router(routes)

    @app.get("/static/{name}")
    def static(name: str) -> Response:
        found = asset(name)
        if found is None:
            raise HTTPException(404, "There is no such page.")
        return found

    app.add_exception_handler(ReelignError, _refused)
    app.add_exception_handler(StarletteHTTPException, _failed)
    app.add_exception_handler(RequestValidationError, _unreadable)
    app.add_exception_handler(Exception, _broken)
    # Around all else: even the answer to an error that nobody foresaw has the strict headers.
    return Hardening(app, hosts=None if settings.asks_tokens else LOOPBACK_NAMES)


def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, ReelignError)
    if isinstance(error.__cause__, SQLAlchemyError):
        # Not the judge's fault, and the page will send it again; what the database says is for the log.
        return _broken(request, error)
    return _told(request, 409 if isinstance(error, Conflict) else 422, error.what, error.mend)


def _failed(request: Request, error: Exception) -> Response:
    assert isinstance(error, StarletteHTTPException)
    what = HTTPStatus(error.status_code).phrase
    known = isinstance(error, HTTPException)
    return _told(request, error.status_code, what, str(error.detail) if known else "Go back to the first page.")


def _unreadable(request: Request, error: Exception) -> Response:
    return _told(request, 422, "The request is not one that this page makes.", "Load the page again.")


def _broken(request: Request, error: Exception) -> Response:
    log.error("%s %s failed", request.method, request.url.path, exc_info=error)
    return JSONResponse({"error": "Something went wrong here.", "mend": "Try again; the log says more."}, 500)


def _told(request: Request, status: int, what: str, mend: str) -> Response:
    """A script gets JSON, a person a page."""
    if request.url.path.startswith("/api/"):
        return JSONResponse({"error": what, "mend": mend}, status)
    return page(request, "message.html.j2", status=status, what=what, mend=mend)
