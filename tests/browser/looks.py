"""Ways to look at a report, and the page as it is then, with all that it complains of."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext, Page

# How Chromium says that a policy kept a page's own script from running; nothing else may be kept out.
SCRIPT_BLOCKED = re.compile(r"Blocked script execution in|(Loading the|Executing inline) script .*violates")
TALLEST_PICTURE = 12_000
# Milliseconds.
MISSING_AFTER = 15_000
STUCK_AFTER = 120_000


@dataclass(frozen=True)
class Look:
    """A way to look at a page.

    Attributes:
        media: on screen in a light or dark colour scheme, or in print.
        width: of the window, CSS pixels.
        scripts: whether JavaScript is on.
    """

    media: Literal["light", "dark", "print"] = "light"
    width: int = 1440
    scripts: bool = True

    @property
    def name(self) -> str:
        """As part of a test's id and of a picture's name."""
        return f"{self.media}-{self.width}-{'js' if self.scripts else 'nojs'}"


PLAIN = Look()


@dataclass(frozen=True)
class Opened:
    """A page that is open.

    Attributes:
        page: playwright's.
        folder: address of the folder that it may load from.
        scripts: whether its own scripts run.
        complaints: what it did that no report should, and what of it did not work.
    """

    page: Page
    folder: str
    scripts: bool
    complaints: list[str] = field(default_factory=list)

    def ask(self, script: str, argument: object = None) -> Any:
        """Evaluate a function in the page, which works where its own scripts do not."""
        return self.page.evaluate(script, argument)

    def open_everything(self) -> None:
        """Open all details."""
        self.ask("() => document.querySelectorAll('details').forEach(details => { details.open = true })")

    def picture(self, path: Path) -> None:
        """Take a picture of the whole page, or of as much as one can look at."""
        path.parent.mkdir(parents=True, exist_ok=True)
        width, height = self.ask("() => [innerWidth, document.documentElement.scrollHeight]")
        area = {"x": 0, "y": 0, "width": width, "height": min(height, TALLEST_PICTURE)}
        self.page.screenshot(path=path, full_page=True, clip=area, timeout=STUCK_AFTER)

    def _listen(self, context: BrowserContext) -> None:
        add = self.complaints.append
        context.on("console", lambda message: None if self._is_expected(message) else add(f"{message.type}: {message.text}"))
        context.on("weberror", lambda error: add(f"exception: {error.error}"))
        context.on("dialog", lambda dialog: (add(f"dialog: {dialog.message}"), dialog.dismiss()))
        # Of what a policy blocks the console says more.
        context.on("requestfailed", lambda failed: None if failed.failure == "csp" else add(f"{failed.failure}: {failed.url}"))
        context.on("request", lambda request: None if request.url.startswith(self.folder) else add(f"request: {request.url}"))

    def _is_expected(self, message: Any) -> bool:
        if message.type not in ("error", "warning"):
            return True
        return not self.scripts and SCRIPT_BLOCKED.search(message.text) is not None


@contextmanager
def opened(
    browser: Browser, address: str, look: Look = PLAIN, scripts_run: bool | None = None, fragment: str = ""
) -> Iterator[Opened]:
    """A report's page in a browser of its own, which must have had nothing to complain of by the end.

    Args:
        browser: a running browser.
        address: of the page, in the folder that it may load from.
        look: how to look at it.
        scripts_run: whether its scripts run, where a header decides that and not the look.
        fragment: what to go to in the page.
    """
    context = browser.new_context(
        color_scheme="dark" if look.media == "dark" else "light",
        viewport={"width": look.width, "height": 900},
        java_script_enabled=look.scripts,
        reduced_motion="reduce",
    )
    try:
        page = context.new_page()
        # All that is asked for is there once the page is loaded: only what is missing is waited for.
        page.set_default_timeout(MISSING_AFTER)
        page.set_default_navigation_timeout(STUCK_AFTER)
        found = Opened(page, address[: address.rindex("/") + 1], look.scripts if scripts_run is None else scripts_run)
        found._listen(context)
        if look.media == "print":
            page.emulate_media(media="print")
        page.goto(f"{address}#{fragment}" if fragment else address)
        yield found
        assert not found.complaints, "\n".join(found.complaints)
    finally:
        context.close()
