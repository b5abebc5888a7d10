"""Personal tokens: made once, shown once, kept as a hash, and checked in the same time whoever asks."""

from __future__ import annotations

import secrets

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError
from sqlalchemy import select
from sqlalchemy.orm import Session

from reelign.errors import ReelignError
from reelign.records import Invitation

MAX_NAME = 80
_HASHER = PasswordHasher()
_NOBODYS = _HASHER.hash(secrets.token_urlsafe(32))
"""What a token of an unknown judge is compared with, so that the time does not tell who is known."""


def invite(session: Session, judge: str) -> str:
    """Invite a judge, anew where the judge is known already, and return the token; an older one ends.

    Raises:
        ReelignError: a name that cannot be one.
    """
    secret, token_id = secrets.token_urlsafe(32), secrets.token_hex(8)
    invitation = join(session, judge)
    invitation.token_id, invitation.token_hash = token_id, _HASHER.hash(secret)
    session.flush()
    return f"{token_id}.{secret}"


def join(session: Session, judge: str) -> Invitation:
    """The judge's entry, made where there is none.

    Raises:
        ReelignError: a name that cannot be one.
    """
    name = " ".join(judge.split())
    if not name or len(name) > MAX_NAME or not name.isprintable():
        raise ReelignError(f"{judge[:MAX_NAME]!r} is no name for a judge", f"Use 1 to {MAX_NAME} printable characters.")
    invitation = session.get(Invitation, name)
    if invitation is None:
        invitation = Invitation(judge=name, token_id=secrets.token_hex(8))
        session.add(invitation)
        session.flush()
    return invitation


def holder(session: Session, token: str) -> Invitation | None:
    """Whose token it is; None for one of nobody."""
    token_id, _, secret = token.partition(".")
    found = session.scalar(select(Invitation).where(Invitation.token_id == token_id))
    known = found is not None and found.token_hash is not None
    right = matches(found.token_hash if found is not None and found.token_hash else _NOBODYS, secret)
    return found if known and right else None


def hashed(secret: str) -> str:
    """What is kept of a secret."""
    return _HASHER.hash(secret)


def matches(hash: str, secret: str) -> bool:
    """Whether a secret is the one that was hashed."""
    try:
        return _HASHER.verify(hash, secret)
    except (VerificationError, InvalidHashError):
        return False
