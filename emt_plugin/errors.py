"""What can go wrong for a user, as one sentence that says what to do next."""

from __future__ import annotations


def one_line(text: str) -> str:
    """Text on one line without control characters: a stranger's data must not write to the terminal."""
    return " ".join("".join(sign if sign.isprintable() else " " for sign in text).split())


class UsageError(ValueError):
    """Something was asked for that means nothing; the message says what to write instead."""


class CouldNotRun(Exception):
    """Something could not run, for a reason that the user can act on; the message is one sentence."""

    def __init__(self, message: str) -> None:
        super().__init__(one_line(message))


class Crashed(CouldNotRun):
    """What measured a pair died of it, more than once."""


class ForgettingError(AssertionError):
    """A comparison that gates is FAIL or INCONCLUSIVE; the message's first word is the verdict."""

    @property
    def verdict(self) -> str:
        """FAIL or INCONCLUSIVE."""
        return str(self).partition(" ")[0]
