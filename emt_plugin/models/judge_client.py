"""A judge behind any OpenAI-compatible endpoint: asked concurrently, retried with backoff, every ruling kept."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256
from threading import Lock
from typing import Any

from emt_plugin.models.endpoint.client import ChatClient, Words, each
from emt_plugin.scoring import Ruling
from emt_plugin.scoring.judge_address import JudgeAddress
from emt_plugin.scoring.ruling import PROMPT, SETTINGS, question_to_judge, read_ruling
from emt_plugin.store import Store

TRIES = 6
TIMEOUT_SECONDS = 60.0
WORDS = Words(
    who="the judge",
    key="set EMT_JUDGE_API_KEY",
    model="set EMT_JUDGE_MODEL",
    address="set EMT_JUDGE_BASE_URL to its address that ends in /v1",
)
# The row beside the rulings that says with which settings they were made.
IN_FORCE = "settings"


class JudgeClient:
    """Asks one judge.

    Args:
        address: where.
        store: where rulings are kept, so that none is asked for twice.
    """

    def __init__(self, address: JudgeAddress, store: Store) -> None:
        self._address = address
        self._lock = Lock()
        key = {"endpoint": address.place, "model": address.model, "prompt": PROMPT, "settings": dict(SETTINGS)}
        self._shelf = store.shelf("rulings", key, {"model": address.model})
        known = self._shelf.get(IN_FORCE)
        settings, not_taken = known.value if known else (SETTINGS, {})
        self._client = ChatClient(
            address, WORDS, settings, not_taken, TRIES, TIMEOUT_SECONDS, lambda *now: self._keep({IN_FORCE: now})
        )

    def ask(self, questions: Sequence[tuple[str, str]]) -> list[Ruling]:
        """See ``Judge``.

        Raises:
            CouldNotRun: the endpoint cannot be reached, or refuses.
        """
        new = [asked for asked in dict.fromkeys(questions) if self._shelf.get(_row(asked)) is None]
        said: dict[tuple[str, str], str] = {}

        def ask(asked: tuple[str, str]) -> None:
            said[asked] = self._client.ask(question_to_judge(*asked)).text or ""
            # No ruling at all may be another one the next time.
            if said[asked]:
                self._keep({_row(asked): said[asked]})

        each(new, ask, self._address.concurrency)
        return [read_ruling(said[asked] if asked in said else self._kept(asked)) for asked in questions]

    def facts(self) -> dict[str, Any]:
        """See ``Judge``."""
        facts: dict[str, Any] = {
            "endpoint": self._address.place,
            "model": self._address.model,
            "settings": self._client.settings,
        }
        not_taken = self._client.not_taken
        return facts | ({"settings not taken": not_taken} if not_taken else {})

    def _keep(self, rows: dict[str, Any]) -> None:
        with self._lock:
            self._shelf.put(rows)

    def _kept(self, asked: tuple[str, str]) -> str:
        stored = self._shelf.get(_row(asked))
        assert stored is not None
        return str(stored.value)


def _row(asked: tuple[str, str]) -> str:
    return sha256("\0".join(asked).encode("utf-8", "surrogatepass")).hexdigest()
