"""What an endpoint may say: whatever it is, a reply or one sentence comes of it, and never the key."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emt_plugin.addresses import Address, carries_secret, place_of
from emt_plugin.catalog import Catalog, CatalogError
from emt_plugin.catalog.endpoints import endpoint_named
from emt_plugin.errors import CouldNotRun
from emt_plugin.models.endpoint.backend import _is_called
from emt_plugin.models.endpoint.client import ChatClient, Words, each
from tests.judges import answered

KEY = "sk-very-secret-0123456789"
WORDS = Words("the endpoint", "set KEY", "set MODEL", "set URL")
TEXTS = st.text() | st.sampled_from([KEY, f"a {KEY} b", "7", "\ud800", "content_filter", "\0\x1b[31m"])
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=8,
)
# Shaped as a completion, with anything in each place.
MESSAGES = st.fixed_dictionaries({}, optional={"content": JSON, "refusal": JSON})
CHOICES = st.lists(st.fixed_dictionaries({}, optional={"message": MESSAGES | JSON, "finish_reason": JSON}) | JSON, max_size=2)
USAGE = st.fixed_dictionaries({}, optional={"prompt_tokens": JSON, "completion_tokens": JSON})
BODIES = st.fixed_dictionaries(
    {}, optional={"choices": CHOICES | JSON, "usage": USAGE | JSON, "model": JSON, "system_fingerprint": JSON, "error": JSON}
)


@pytest.fixture(scope="module")
def says() -> Iterator[tuple[ChatClient, list[Any]]]:
    """A client, and the status and body that its endpoint says next."""
    following: list[Any] = [None]
    with answered(lambda *_: following[0]) as (url, _):
        yield ChatClient(Address(url, "tiny", KEY), WORDS, {}, {}, 0, 10.0), following


@settings(max_examples=150)
@given(body=BODIES | JSON, status=st.sampled_from([200, 200, 200, 400, 401, 404, 422, 429, 500]))
def test_whatever_is_said_is_a_reply_or_one_sentence(says: tuple[ChatClient, list[Any]], body: Any, status: int) -> None:
    client, following = says
    following[0] = (status, body)
    try:
        reply = client.ask("What is it?")
    except CouldNotRun as error:
        sentence = str(error)
    else:
        sentence = ""
    if sentence:
        assert KEY not in sentence
        assert sentence.startswith("the endpoint at http://127.0.0.1:")
        assert sentence.isprintable()
        return
    texts = [reply.text or "", reply.finish, reply.model, reply.system]
    assert not [text for text in texts if KEY in text]
    json.dumps(texts, ensure_ascii=False).encode()
    assert all(tokens is None or tokens >= 0 for tokens in (reply.tokens_in, reply.tokens_out))
    if status == 200:
        assert isinstance(body["choices"][0]["message"], dict)


@pytest.mark.parametrize(
    ("says", "asked", "same"),
    [
        ("gpt-4o", "gpt-4o", True),
        ("gpt-4o-2024-08-06", "gpt-4o", True),
        ("gpt-4o-mini", "gpt-4o", False),
        ("gpt-4o-mini-2024-07-18", "gpt-4o", False),
        ("gpt-4-0613", "gpt-4", True),
        ("gpt-4o", "openai/gpt-4o", True),
        ("openai/gpt-4o", "gpt-4o", True),
        ("/models/llava-mini@main", "/models/llava-mini", True),
        ("llava-mini", "/models/llava-mini/", True),
        ("llama-3-8b", "llama-3", False),
        ("other", "gpt-4o", False),
    ],
)
def test_which_names_are_one(says: str, asked: str, same: bool) -> None:
    assert _is_called(says, asked) is same


@pytest.mark.parametrize(
    ("url", "place", "secret"),
    [
        ("http://localhost:8000/v1/", "http://localhost:8000/v1", False),
        ("https://a:b@host/v1", "https://host/v1", True),
        ("https://a@host/v1", "https://host/v1", True),
        ("https://host/v1?key=b", "https://host/v1", True),
        ("https://host/v1#b", "https://host/v1", True),
        ("http://[::1]:8000/v1", "http://[::1]:8000/v1", False),
    ],
)
def test_what_is_shown_of_an_address(url: str, place: str, secret: bool) -> None:
    assert (place_of(url), carries_secret(url)) == (place, secret)


def test_a_short_key_is_no_secret_and_is_left_in_answers() -> None:
    assert Address(None, "tiny", "EMPTY").without_key("The glass is EMPTY.") == "The glass is EMPTY."
    assert Address(None, "tiny", KEY).without_key(f"{KEY}!") == "***!"
    assert KEY not in repr(Address(f"http://{KEY}@host", "tiny", KEY))


@pytest.mark.parametrize(
    ("name", "environment", "sentence"),
    [
        ("endpoint:", {"EMT_MODEL_BASE_URL": "http://x/v1"}, "names no model"),
        ("endpoint:x", {}, "set EMT_MODEL_BASE_URL"),
        ("endpoint:x", {"EMT_MODEL_BASE_URL": "http://x/v1", "EMT_MODEL_CONCURRENCY": "0"}, "EMT_MODEL_CONCURRENCY must be"),
    ],
)
def test_what_the_environment_lacks(name: str, environment: dict[str, str], sentence: str) -> None:
    with pytest.raises(CatalogError, match=sentence):
        endpoint_named(name, environment)


def test_names_that_would_clash_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EMT_MODEL_BASE_URL", "http://x/v1")
    one, other = Catalog.load().models_named(["endpoint:a/tiny", "endpoint:b/tiny"], None, None)
    assert one.id.startswith("tiny-")
    assert one.id != other.id


def test_after_a_failure_nothing_more_is_begun() -> None:
    begun: list[int] = []

    def do(item: int) -> None:
        begun.append(item)
        if item == 3:
            raise CouldNotRun("no")

    with pytest.raises(CouldNotRun):
        each(range(100), do, 1)
    assert begun == [0, 1, 2, 3]
