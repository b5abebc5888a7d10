"""Who may do what: sessions, the tokens that begin them, forged requests refused, guessing slowed down."""

from __future__ import annotations

import os
import secrets
import threading
from hmac import compare_digest
from pathlib import Path

from fastapi import HTTPException, Request
from limits import parse
from limits.storage import MemoryStorage
from limits.strategies import MovingWindowRateLimiter
from sqlalchemy import select

from reelign.annotate import invitations
from reelign.annotate.desk import Desk
from reelign.records import Invitation

SESSION_KEY_FILE = "annotate.key"
SESSION_DAYS = 14
FAILURES_EACH = parse("10/minute")
"""Wrong tokens from one address."""
FAILURES_ALL = parse("200/minute")
CSRF_HEADER, CSRF_FIELD = "x-csrf-token", "csrf"


class Access:
    """The doors of one server."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._asks_tokens = desk.settings.asks_tokens
        self._admin_id, secret = secrets.token_hex(8), secrets.token_urlsafe(32)
        self._admin_hash = invitations.hashed(secret)
        self.admin_token = f"admin.{secret}"
        """Opens the admin page; of this start of the server alone."""
        self._failures = MovingWindowRateLimiter(MemoryStorage())
        # Hashing takes 64 MiB and many milliseconds on purpose: one at a time, or guesses could fill the memory.
        self._hashing = threading.Lock()

    def judge(self, request: Request) -> str:
        """The judge whose session it is.

        Raises:
            HTTPException: 401, nobody's, or one whose token was replaced.
        """
        name, token_id = request.session.get("judge"), request.session.get("token")
        with self._desk.workspace.reading() as session:
            current = session.scalar(select(Invitation.token_id).where(Invitation.judge == name))
        if name is None or current is None or not compare_digest(current, str(token_id)):
            raise HTTPException(401, "Open your invitation link to begin.")
        return str(name)

    def admin(self, request: Request) -> None:
        """Let the admin in; on loopback without tokens that is everyone.

        Raises:
            HTTPException: 403.
        """
        known = compare_digest(str(request.session.get("admin", "")), self._admin_id)
        if self._asks_tokens and not known:
            raise HTTPException(403, "Open the admin link that the server printed when it started.")

    def viewer(self, request: Request) -> None:
        """Let in whoever may see videos: judges and the admin.

        Raises:
            HTTPException: 403.
        """
        try:
            self.judge(request)
        except HTTPException:
            self.admin(request)

    def enter(self, request: Request, token: str) -> str:
        """Begin a session with a token; returns where it leads.

        Raises:
            HTTPException: 403, a wrong token; 429, too many of them.
        """
        address = request.client.host if request.client else "?"
        with self._hashing:
            self._slow_down(address)
            if token.startswith("admin."):
                if invitations.matches(self._admin_hash, token.removeprefix("admin.")):
                    request.session["admin"] = self._admin_id
                    return "/admin"
            else:
                with self._desk.workspace.reading() as session:
                    invitation = invitations.holder(session, token)
                if invitation is not None:
                    self._begin(request, invitation)
                    return "/"
            self._failures.hit(FAILURES_EACH, address)
            self._failures.hit(FAILURES_ALL)
        raise HTTPException(403, "This link is not valid, or it was replaced by a newer one. Ask for a new one.")

    def enter_by_name(self, request: Request, name: str) -> str:
        """Begin a session by a name alone, where no token is asked for."""
        if self._asks_tokens:
            raise HTTPException(403, "Open your invitation link to begin.")
        with self._desk.writing() as session:
            self._begin(request, invitations.join(session, name))
        return "/"

    def _begin(self, request: Request, invitation: Invitation) -> None:
        request.session["judge"], request.session["token"] = invitation.judge, invitation.token_id

    def _slow_down(self, address: str) -> None:
        if not self._failures.test(FAILURES_EACH, address) or not self._failures.test(FAILURES_ALL):
            raise HTTPException(429, "Too many wrong links. Wait a minute and try again.")


def csrf_of(request: Request) -> str:
    """The session's own secret, which every form and script sends back."""
    if "csrf" not in request.session:
        request.session["csrf"] = secrets.token_urlsafe(24)
    return str(request.session["csrf"])


def check_csrf(request: Request, given: str | None) -> None:
    """Refuse what another site had the browser send.

    Raises:
        HTTPException: 403.
    """
    known = str(request.session.get("csrf", ""))
    if not known or not compare_digest(known.encode(), (given or "").encode()):
        raise HTTPException(403, "This page is out of date. Load it again.")


def session_key(folder: Path) -> str:
    """The key that signs sessions, made at the first start and kept, so that a restart ends none."""
    path = folder / SESSION_KEY_FILE
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return path.read_text(encoding="ascii")
    with os.fdopen(handle, "w", encoding="ascii") as file:
        key = secrets.token_hex(32)
        file.write(key)
    return key
