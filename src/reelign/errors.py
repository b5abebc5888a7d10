"""What users see when something is wrong: one sentence of what it is and one of the mend."""

from __future__ import annotations

import errno
import os


class ReelignError(ValueError):
    """An error a user can act on.

    Args:
        what: one sentence that says what is wrong, with the offending value and where it stands.
        mend: one sentence that says what to do about it.
    """

    def __init__(self, what: str, mend: str) -> None:
        super().__init__(f"{what}\n{mend}")
        self.what = what
        self.mend = mend


FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""A full disk, a quota, or a limit on a file's size: they end a run the same way."""


def disk_is_full(error: BaseException | None) -> bool:
    """Whether an error, or one that it came from, says that no more can be written."""
    # safetensors wraps the system's error in its own, where the number survives only in the text; torch raises
    # another error while it handles the system's; SQLite has words of its own.
    if error is None:
        return False
    if isinstance(error, OSError) and error.errno in FULL:
        return True
    text = str(error)
    words = ["database or disk is full"]
    words += [word for number in FULL for word in (os.strerror(number), f"os error {number}")]
    return any(word in text for word in words) or disk_is_full(error.__cause__ or error.__context__)
