"""Where a judge is asked, as the environment says."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec

from emt_plugin.addresses import CONCURRENCY, NO_KEY, Address, checked_url
from emt_plugin.scoring.ruling import MODEL


@dataclass(frozen=True)
class JudgeAddress(Address):
    """Where a judge is asked, from the environment."""

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
        checked = checked_url(url, "EMT_JUDGE_BASE_URL") if url else None
        return cls(checked, environment.get("EMT_JUDGE_MODEL") or MODEL, key or NO_KEY, int(number))
