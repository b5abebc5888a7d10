"""What users see when something is wrong: one sentence of what it is and one of the mend."""

from __future__ import annotations


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
