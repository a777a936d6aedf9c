"""One chat completion of an OpenAI-compatible endpoint: retried with backoff, without the settings that are refused.

The library in use repeats time-outs, connections that break, and the statuses 408, 409, 429 and 5xx, and waits as long
as ``Retry-After`` says.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from threading import Event, Lock
from typing import Any, TypeVar

from emt_plugin.addresses import Address
from emt_plugin.errors import CouldNotRun, one_line

# Newer endpoints call it otherwise.
RENAMED = {"max_tokens": "max_completion_tokens"}
# No answer of the few tokens that are asked for has as many characters.
MOST_CHARACTERS = 100_000
SHOWN = 160
TOO_LONG = re.compile(r"context[_ ](length|window|size)|maximum context|too many tokens|(prompt|input) is too long", re.I)
FILTERED = re.compile(r"content[_ ](filter|policy|management)|ResponsibleAI", re.I)
Item = TypeVar("Item")


@dataclass(frozen=True)
class Words:
    """How an endpoint is spoken of, and what to do where it refuses.

    Attributes:
        who: such as ``the judge``.
        key: what to do where the key is refused.
        model: what to do where there is no such model.
        address: what to do where it is no such endpoint.
        question: what it is asked.
    """

    who: str
    key: str
    model: str
    address: str
    question: str = "the question"


@dataclass(frozen=True)
class Reply:
    """What an endpoint said.

    Attributes:
        text: of the first choice; None where there is none.
        withheld: a content filter stood between the model and its answer.
        finish: why the text ends; empty where that is not said.
        model: which model says that it answered; empty where none does.
        system: fingerprint of what it ran on; empty where that is not reported.
        tokens_in: of the question; None where they are not reported.
        tokens_out: of the answer; None where they are not reported.
        retries: how often it was asked again.
    """

    text: str | None
    withheld: bool = False
    finish: str = ""
    model: str = ""
    system: str = ""
    tokens_in: int | None = None
    tokens_out: int | None = None
    retries: int = 0


class ChatClient:
    """Asks one model; may be asked by several threads at once.

    Args:
        address: where.
        words: how failures are told.
        settings: what is sent beside the question, as far as it is taken.
        not_taken: settings that were refused before, with what was said.
        tries: how often a question is asked again.
        timeout: seconds for one try.
        on_refused: told the settings in force and those not taken, whenever one more is refused.
    """

    def __init__(
        self,
        address: Address,
        words: Words,
        settings: Mapping[str, Any],
        not_taken: Mapping[str, str],
        tries: int,
        timeout: float,
        on_refused: Callable[[Mapping[str, Any], Mapping[str, str]], None] = lambda *_: None,
    ) -> None:
        from openai import OpenAI

        self._address = address
        self._words = words
        self._client = OpenAI(base_url=address.url, api_key=address.key, max_retries=tries, timeout=timeout)
        self._settings = dict(settings)
        self._not_taken = dict(not_taken)
        self._on_refused = on_refused
        self._lock = Lock()

    @property
    def settings(self) -> dict[str, Any]:
        """The settings in force."""
        with self._lock:
            return dict(self._settings)

    @property
    def not_taken(self) -> dict[str, str]:
        """The settings that were refused, with what was said."""
        with self._lock:
            return dict(self._not_taken)

    def ask(self, content: Any) -> Reply:
        """The reply to one message.

        Args:
            content: text, or parts as the chat completions API has them.

        Raises:
            CouldNotRun: the endpoint cannot be reached, refuses, or answers with something else.
        """
        import openai

        while True:
            settings = self.settings
            try:
                answer = self._client.chat.completions.with_raw_response.create(
                    model=self._address.model, messages=[{"role": "user", "content": content}], **settings
                )
            except (openai.BadRequestError, openai.UnprocessableEntityError) as error:
                said = self._clean(error)
                if FILTERED.search(said):
                    return Reply("", withheld=True, retries=_tries(error) - 1)
                if TOO_LONG.search(said):
                    raise self.could_not(f"has no room for {self._words.question} ({said[:SHOWN]})") from None
                if not self._leave_out(said, settings):
                    raise self.could_not(f"refuses {self._words.question} ({said[:SHOWN]})") from None
            except (openai.AuthenticationError, openai.PermissionDeniedError):
                raise self.could_not(f"refuses the key; {self._words.key}") from None
            except openai.NotFoundError:
                raise self.could_not(f"has no model '{self._address.model}'; {self._words.model}") from None
            except openai.APIConnectionError as error:
                raise self.could_not(f"cannot be reached after {_times(error)} ({type(error).__name__})") from None
            except openai.APIStatusError as error:
                raise self.could_not(f"answers {error.status_code} after {_times(error)}") from None
            except (openai.OpenAIError, ValueError) as error:
                raise self.could_not(f"gives no chat completion ({type(error).__name__})") from None
            else:
                return self._read(answer.http_response.content, answer.retries_taken)

    def could_not(self, why: str) -> CouldNotRun:
        """The sentence of a failure."""
        return CouldNotRun(f"{self._words.who} at {self._address.place} {why}")

    def _read(self, body: bytes, retries: int) -> Reply:
        try:
            found = json.loads(body)
        except (ValueError, RecursionError):
            raise self.could_not(f"gives no chat completion but {_kind(body)}; {self._words.address}") from None
        found = found if isinstance(found, dict) else {}
        choices = found.get("choices")
        choice = choices[0] if isinstance(choices, list) and choices and isinstance(choices[0], dict) else {}
        message = choice.get("message")
        if not isinstance(message, dict):
            error = found.get("error")
            said = error.get("message") if isinstance(error, dict) else error
            why = f"({self._said(said)})" if said else f"but something else; {self._words.address}"
            raise self.could_not(f"gives no chat completion {why}")
        text, finish, refusal = (
            _text(part) for part in (message.get("content"), choice.get("finish_reason"), message.get("refusal"))
        )
        if len(text or "") > MOST_CHARACTERS:
            raise self.could_not(f"answers with {len(text or ''):,} characters, where a few words were asked for")
        usage = found.get("usage")
        tokens = usage if isinstance(usage, dict) else {}
        without = self._address.without_key
        return Reply(
            text=None if text is None and not refusal else without(text or refusal or ""),
            withheld=finish == "content_filter" or bool(refusal),
            finish=without(finish or ""),
            model=without(one_line(_text(found.get("model")) or ""))[:SHOWN],
            system=without(one_line(_text(found.get("system_fingerprint")) or ""))[:SHOWN],
            tokens_in=_count(tokens.get("prompt_tokens")),
            tokens_out=_count(tokens.get("completion_tokens")),
            retries=retries,
        )

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
                self._on_refused(dict(self._settings), dict(self._not_taken))
            return True

    def _clean(self, error: Exception) -> str:
        """What the endpoint says, without the key."""
        return self._address.without_key(one_line(str(error)))

    def _said(self, text: Any) -> str:
        return self._address.without_key(one_line(str(text)))[:SHOWN]


def each(items: Iterable[Item], do: Callable[[Item], None], concurrency: int) -> None:
    """Do something with each item, so many at once; after the first failure nothing more is begun.

    What is under way then is finished first, so ``do`` keeps what it is told itself.

    Raises:
        Exception: the first that ``do`` raised.
    """
    failed = Event()

    def do_unless_failed(item: Item) -> None:
        if failed.is_set():
            return
        try:
            do(item)
        except BaseException:
            failed.set()
            raise

    with ThreadPoolExecutor(concurrency) as pool:
        under_way = [pool.submit(do_unless_failed, item) for item in items]
        try:
            for done in as_completed(under_way):
                done.result()
        except BaseException:
            # The user may have stopped the wait.
            failed.set()
            pool.shutdown(cancel_futures=True)
            raise


def _times(error: Exception) -> str:
    tries = _tries(error)
    return f"{tries} {'try' if tries == 1 else 'tries'}"


def _tries(error: Exception) -> int:
    """How often was asked in all: the library counts in a header of its requests."""
    request = getattr(error, "request", None)
    counted = request.headers.get("x-stainless-retry-count", "0") if request is not None else "0"
    return int(counted) + 1 if counted.isdigit() else 1


def _kind(body: bytes) -> str:
    return "a web page" if body.lstrip()[:1] == b"<" else "text that is no whole JSON" if body else "nothing"


def _text(value: Any) -> str | None:
    """A string that can be written; JSON has halves of signs that cannot."""
    return value.encode("utf-8", "replace").decode("utf-8") if isinstance(value, str) else None


def _count(value: Any) -> int | None:
    return value if type(value) is int and value >= 0 else None
