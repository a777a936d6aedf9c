"""A judge behind any OpenAI-compatible endpoint: asked concurrently, retried with backoff, every ruling kept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from hashlib import sha256
from threading import Lock
from typing import Any

from emt_plugin.errors import CouldNotRun, one_line
from emt_plugin.scoring import Ruling
from emt_plugin.scoring.judge_address import NO_KEY, JudgeAddress
from emt_plugin.scoring.ruling import PROMPT, SETTINGS, question_to_judge, read_ruling
from emt_plugin.store import Store

TRIES = 6
TIMEOUT_SECONDS = 60.0
# Newer endpoints call it otherwise.
RENAMED = {"max_tokens": "max_completion_tokens"}
# The row beside the rulings that says with which settings they were made.
IN_FORCE = "settings"


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
