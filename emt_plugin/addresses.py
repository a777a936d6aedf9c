"""Where an endpoint is asked: its address as it may be shown, and what must not be in one."""

from __future__ import annotations

from dataclasses import dataclass, field
from urllib.parse import urlsplit

CONCURRENCY = 8
# The client wants one, endpoints of one's own often do not.
NO_KEY = "none"
DEFAULT_URL = "https://api.openai.com/v1"
# What is shorter is no secret, and may be a word of an answer.
SHORTEST_KEY = 6


@dataclass(frozen=True)
class Address:
    """Where a model is asked.

    Attributes:
        url: base URL of the endpoint, which may carry a password; None for the client's default.
        model: name of the model there.
        key: secret; in no record, log or report.
        concurrency: questions under way at once.
    """

    url: str | None = field(repr=False)
    model: str
    key: str = field(repr=False)
    concurrency: int = CONCURRENCY

    @property
    def place(self) -> str:
        """The endpoint without anything secret that a URL may carry."""
        return place_of(self.url or DEFAULT_URL)

    def without_key(self, text: str) -> str:
        """A stranger's text without the key."""
        return text if len(self.key) < SHORTEST_KEY else text.replace(self.key, "***")


def place_of(url: str) -> str:
    """A URL without user, password, query and fragment."""
    parts = urlsplit(url)
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
    return f"{parts.scheme}://{host}{f':{parts.port}' if parts.port else ''}{parts.path.rstrip('/')}"


def checked_url(url: str, name: str) -> str:
    """A base URL that can be asked.

    Args:
        url: as somebody wrote it; it may hold a secret, and is never part of a message.
        name: what it is called where it was written.

    Raises:
        ValueError: it cannot; the message says what one looks like.
    """
    try:
        parts = urlsplit(url)
        usable = parts.scheme in {"http", "https"} and bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        usable = False
    if not usable:
        raise ValueError(f"{name} is no address of an endpoint; write one such as http://localhost:8000/v1")
    return url


def carries_secret(url: str) -> bool:
    """Whether a URL has a place where keys and passwords are put: a user, a password, a query or a fragment."""
    parts = urlsplit(url)
    return "@" in parts.netloc or bool(parts.query or parts.fragment)
