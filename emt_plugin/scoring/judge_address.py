"""Where a judge is asked, as the environment says."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from urllib.parse import urlsplit

from emt_plugin.scoring.ruling import MODEL

CONCURRENCY = 8
# The client wants one, endpoints of one's own often do not.
NO_KEY = "none"
DEFAULT_URL = "https://api.openai.com/v1"


@dataclass(frozen=True)
class JudgeAddress:
    """Where a judge is asked, from the environment.

    Attributes:
        url: base URL of the endpoint, which may carry a password; None for the client's default.
        model: name of the judge there.
        key: secret; in no record, log or report.
        concurrency: questions under way at once.
    """

    url: str | None = field(repr=False)
    model: str
    key: str = field(repr=False)
    concurrency: int = CONCURRENCY

    @classmethod
    def of_environment(cls, environment: Mapping[str, str] = os.environ) -> JudgeAddress:
        """``EMT_JUDGE_BASE_URL``, ``_MODEL``, ``_API_KEY`` and ``_CONCURRENCY``, else OpenAI's own variables.

        Raises:
            ValueError: something is missing; the message says what to set or to install.
        """
        if find_spec("openai") is None:
            raise ValueError(
                "the scorer 'judge' needs the client of OpenAI-compatible endpoints: pip install 'pytest-emt[judge]'"
            )
        url = environment.get("EMT_JUDGE_BASE_URL") or environment.get("OPENAI_BASE_URL")
        key = environment.get("EMT_JUDGE_API_KEY") or environment.get("OPENAI_API_KEY")
        if not url and not key:
            raise ValueError(
                "the scorer 'judge' needs an endpoint: set EMT_JUDGE_BASE_URL and EMT_JUDGE_MODEL, and EMT_JUDGE_API_KEY "
                "where it asks for a key"
            )
        number = environment.get("EMT_JUDGE_CONCURRENCY", str(CONCURRENCY))
        if not number.isdigit() or int(number) < 1:
            raise ValueError(f"EMT_JUDGE_CONCURRENCY is '{number}'; set it to a whole number of at least 1")
        return cls(checked_url(url) if url else None, environment.get("EMT_JUDGE_MODEL") or MODEL, key or NO_KEY, int(number))

    @property
    def place(self) -> str:
        """The endpoint without anything secret that a URL may carry."""
        parts = urlsplit(self.url or DEFAULT_URL)
        return f"{parts.scheme}://{parts.hostname}{f':{parts.port}' if parts.port else ''}{parts.path.rstrip('/')}"


def checked_url(url: str) -> str:
    """A base URL that can be asked.

    Raises:
        ValueError: it cannot; the message says what one looks like.
    """
    try:
        parts = urlsplit(url)
        usable = parts.scheme in {"http", "https"} and bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        usable = False
    if not usable:
        raise ValueError("EMT_JUDGE_BASE_URL is no address of an endpoint; write one such as http://localhost:8000/v1")
    return url
