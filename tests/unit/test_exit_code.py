"""Every row of the contract's list, and that the first match wins."""

from __future__ import annotations

import pytest

from emt_plugin.gate.exit_code import Outcome, exit_code


def outcome(code: int = 0, stopped: bool = False, incomplete: bool = False, failed: bool = False, *verdicts: str) -> int:
    return exit_code(Outcome(code, stopped, incomplete, failed, verdicts))


@pytest.mark.parametrize(
    ("expected", "arguments"),
    [
        (0, (0, False, False, False, "PASS", "PASS")),
        (1, (1, False, False, False, "PASS", "FAIL")),
        (1, (1, False, False, False, "INCONCLUSIVE", "FAIL")),
        (7, (1, False, False, False, "PASS", "INCONCLUSIVE")),
        (1, (1, False, False, True, "PASS", "INCONCLUSIVE")),
        (3, (1, False, True, True, "FAIL")),
        (3, (0, False, True, False, "PASS")),
        (3, (3, False, False, False, "PASS")),
        (2, (2, True, True, False, "FAIL")),
        (2, (1, True, True, False, "FAIL")),
        (4, (4, True, True, True, "FAIL")),
        (5, (5, False, False, False)),
        (6, (6, False, False, False, "PASS")),
    ],
)
def test_exit_code(expected: int, arguments: tuple[int, bool, bool, bool]) -> None:
    assert outcome(*arguments) == expected
