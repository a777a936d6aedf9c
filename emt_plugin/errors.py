"""What can go wrong for a user, as one sentence that says what to do next."""

from __future__ import annotations


class CouldNotRun(Exception):
    """A pair has no measurement, for a reason that the user can act on; the message is one sentence."""


class ForgettingError(AssertionError):
    """A comparison that gates is FAIL or INCONCLUSIVE; the message's first word is the verdict."""
