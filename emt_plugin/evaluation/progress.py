"""How far long work is, for a person who waits: nothing in CI, under xdist or where no terminal is."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

Advance = Callable[[int], None]
Progress = Callable[[str, int], AbstractContextManager[Advance]]
# Work that is over sooner shows no bar.
DELAY_SECONDS = 1.0


@contextmanager
def no_progress(what: str, total: int) -> Iterator[Advance]:
    """Shows nothing."""
    yield lambda done: None


def terminal_progress(uncaptured: Callable[[], AbstractContextManager[object]]) -> Progress:
    """A bar with images per second and the time left.

    Args:
        uncaptured: a context in which what is written reaches the terminal.
    """
    with uncaptured():
        quiet = "CI" in os.environ or "PYTEST_XDIST_WORKER" in os.environ or not sys.stderr.isatty()
    if quiet:
        return no_progress

    @contextmanager
    def bar(what: str, total: int) -> Iterator[Advance]:
        from tqdm import tqdm

        # Its thread would write at times when pytest holds the terminal back.
        tqdm.monitor_interval = 0
        with uncaptured():
            shown = tqdm(total=total, desc=what, unit="image", leave=False, delay=DELAY_SECONDS, file=sys.stderr)

        def advance(done: int) -> None:
            with uncaptured():
                shown.update(done)

        try:
            yield advance
        finally:
            with uncaptured():
                shown.close()

    return bar
