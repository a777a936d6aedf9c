"""A judge behind any OpenAI-compatible endpoint: asked concurrently, retried with backoff, every ruling kept."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from hashlib import sha256
from importlib.util import find_spec
from threading import Lock
from typing import Any
from urllib.parse import urlsplit

from emt_plugin.errors import CouldNotRun, one_line
from emt_plugin.scoring import Ruling
from emt_plugin.scoring.ruling import MODEL, PROMPT, SETTINGS, question_to_judge, read_ruling
from emt_plugin.store import Store

TRIES = 6
TIMEOUT_SECONDS = 60.0
CONCURRENCY = 8
# The client wants one, endpoints of one's own often do not.
NO_KEY = "none"
# Newer endpoints call it otherwise.
RENAMED = {"max_tokens": "max_completion_tokens"}
DEFAULT_URL = "https://api.openai.com/v1"
# The row beside the rulings that says with which settings they were made.
IN_FORCE = "settings"


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


class JudgeClient:
    """Asks one judge.

    Args:
        address: where.
        store: where rulings are kept, so that none is asked for twice.
    """

    def __init__(self, address: JudgeAddress, store: Store) -> None:
        from openai import OpenAI

        self._address = address
        self._client = OpenAI(base_url=address.url, api_key=address.key, max_retries=TRIES, timeout=TIMEOUT_SECONDS)
        self._settings: dict[str, Any] = dict(SETTINGS)
        self._not_taken: dict[str, str] = {}
        self._lock = Lock()
        key = {"endpoint": address.place, "model": address.model, "prompt": PROMPT, "settings": dict(SETTINGS)}
        self._shelf = store.shelf("rulings", key, {"model": address.model})
        known = self._shelf.get(IN_FORCE)
        if known:
            self._settings, self._not_taken = (dict(part) for part in known.value)

    def ask(self, questions: Sequence[tuple[str, str]]) -> list[Ruling]:
        """See ``Judge``.

        Raises:
            CouldNotRun: the endpoint cannot be reached, or refuses.
        """
        new = [asked for asked in dict.fromkeys(questions) if self._shelf.get(_row(asked)) is None]
        said: dict[tuple[str, str], str] = {}
        with ThreadPoolExecutor(self._address.concurrency) as pool:
            under_way = {pool.submit(self._text, question_to_judge(*asked)): asked for asked in new}
            try:
                for done in as_completed(under_way):
                    asked = under_way[done]
                    said[asked] = done.result()
                    # No ruling at all may be another one the next time.
                    if said[asked]:
                        self._shelf.put({_row(asked): said[asked]})
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise
        return [read_ruling(said[asked] if asked in said else self._kept(asked)) for asked in questions]

    def _kept(self, asked: tuple[str, str]) -> str:
        stored = self._shelf.get(_row(asked))
        assert stored is not None
        return str(stored.value)

    def facts(self) -> dict[str, Any]:
        """See ``Judge``."""
        facts: dict[str, Any] = {
            "endpoint": self._address.place,
            "model": self._address.model,
            "settings": dict(self._settings),
        }
        return facts | ({"settings not taken": dict(self._not_taken)} if self._not_taken else {})

    def _text(self, question: str) -> str:
        """One question, asked again without a setting that the endpoint does not take."""
        import openai

        while True:
            with self._lock:
                settings = dict(self._settings)
            try:
                answer = self._client.chat.completions.create(
                    model=self._address.model, messages=[{"role": "user", "content": question}], **settings
                )
            except (openai.BadRequestError, openai.UnprocessableEntityError) as error:
                if not self._leave_out(self._clean(error), settings):
                    raise self._could_not(f"refuses the question ({self._clean(error)[:160]})") from None
            except (openai.AuthenticationError, openai.PermissionDeniedError):
                raise self._could_not("refuses the key; set EMT_JUDGE_API_KEY") from None
            except openai.NotFoundError:
                raise self._could_not(f"has no model '{self._address.model}'; set EMT_JUDGE_MODEL") from None
            except openai.APIConnectionError as error:
                raise self._could_not(f"cannot be reached after {TRIES + 1} tries ({type(error).__name__})") from None
            except openai.APIStatusError as error:
                raise self._could_not(f"answers {error.status_code} after {TRIES + 1} tries") from None
            except (openai.OpenAIError, ValueError) as error:
                raise self._could_not(f"gives no chat completion ({type(error).__name__})") from None
            else:
                choices = getattr(answer, "choices", None)
                if not choices or getattr(choices[0], "message", None) is None:
                    raise self._could_not("gives no chat completion: set EMT_JUDGE_BASE_URL to its address that ends in /v1")
                return choices[0].message.content or ""

    def _leave_out(self, said: str, tried: Mapping[str, Any]) -> bool:
        """Take the setting that a refusal names out of all further questions; whether it named one."""
        with self._lock:
            named = next((name for name in tried if name in said), None)
            if named is None:
                return False
            if named in self._settings:
                value = self._settings.pop(named)
                self._not_taken[named] = one_line(said)[:200]
                if named in RENAMED:
                    self._settings[RENAMED[named]] = value
                self._shelf.put({IN_FORCE: [self._settings, self._not_taken]})
            return True

    def _clean(self, error: Exception) -> str:
        """What the endpoint says, without the key."""
        text = one_line(str(error))
        return text if self._address.key == NO_KEY else text.replace(self._address.key, "***")

    def _could_not(self, why: str) -> CouldNotRun:
        return CouldNotRun(f"the judge at {self._address.place} {why}")


def _row(asked: tuple[str, str]) -> str:
    return sha256("\0".join(asked).encode("utf-8", "surrogatepass")).hexdigest()
