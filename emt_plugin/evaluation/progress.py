"""How far long work is, for a person who waits: a bar on a terminal; in CI, under xdist and where none is, a line a minute."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

Advance = Callable[[int], None]
Progress = Callable[[str, int], AbstractContextManager[Advance]]
# Work that is over sooner shows no bar.
DELAY_SECONDS = 1.0
LINE_SECONDS = 60.0


@contextmanager
def no_progress(what: str, total: int) -> Iterator[Advance]:
    """Shows nothing."""
    yield lambda done: None


def terminal_progress(uncaptured: Callable[[], AbstractContextManager[object]]) -> Progress:
    """A bar with images per second and the time left; the same as a line a minute where nobody watches.

    Args:
        uncaptured: a context in which what is written reaches the terminal.
    """
    with uncaptured():
        quiet = "CI" in os.environ or "PYTEST_XDIST_WORKER" in os.environ or not sys.stderr.isatty()
    if quiet:

        def line(text: str) -> None:
            with uncaptured():
                print(text, file=sys.stderr, flush=True)

        return told_progress(line)

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


def told_progress(
    say: Callable[[str], None], every: float = LINE_SECONDS, clock: Callable[[], float] = time.monotonic
) -> Progress:
    """A line every so often with what is done of all, images per second and the time left.

    Args:
        say: told a line.
        every: seconds between two of them; shorter work says nothing.
        clock: seconds.
    """

    @contextmanager
    def told(what: str, total: int) -> Iterator[Advance]:
        started = said = clock()
        done = 0

        def advance(more: int) -> None:
            nonlocal said, done
            done += more
            now = clock()
            if now - said < every or done >= total:
                return
            said = now
            rate = done / (now - started)
            say(f"emt: {what}: {done} of {total} images, {rate:.3g} a second, about {_duration((total - done) / rate)} left")

        yield advance

    return told


def _duration(seconds: float) -> str:
    """A time as hours, minutes or seconds, whole ones."""
    if seconds >= 5400:
        return f"{seconds / 3600:.1f} h"
    return f"{seconds / 60:.0f} min" if seconds >= 90 else f"{seconds:.0f} s"
