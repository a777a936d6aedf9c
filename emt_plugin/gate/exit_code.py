"""What a run exits with. First match wins."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

PASSED, FAILED, STOPPED, INCOMPLETE, USAGE, NOTHING, INCONCLUSIVE = 0, 1, 2, 3, 4, 5, 7


@dataclass(frozen=True)
class Outcome:
    """What is known when a session ends.

    Attributes:
        pytest_code: what pytest would exit with.
        stopped: the user stopped it, by Ctrl-C, ``-x`` or ``--maxfail``, before every selected test had run.
        incomplete: a selected pair has no measurement or no verdict, a test crashed, or something went wrong inside.
        test_failed: something failed that is no verdict: an ordinary test, or what another plugin counts as failed.
        verdicts: of the comparisons that gate, and of tests that failed by one.
    """

    pytest_code: int
    stopped: bool
    incomplete: bool
    test_failed: bool
    verdicts: Collection[str]


def exit_code(outcome: Outcome) -> int:
    """4 usage error, 5 nothing selected, 2 stopped, 3 incomplete, 1 a pair or a test failed, 7 inconclusive, else 0."""
    if outcome.pytest_code in (USAGE, NOTHING):
        return outcome.pytest_code
    if outcome.stopped:
        return STOPPED
    if outcome.incomplete or outcome.pytest_code == INCOMPLETE:
        return INCOMPLETE
    if outcome.test_failed or "FAIL" in outcome.verdicts:
        return FAILED
    if "INCONCLUSIVE" in outcome.verdicts:
        return INCONCLUSIVE
    # What is left of pytest's own: 0, 6 (too many warnings), or a plugin's. A 1 has been accounted for above.
    return PASSED if outcome.pytest_code in (PASSED, FAILED) else outcome.pytest_code
