"""Models behind endpoints: what the catalog or the environment says of where they are asked, and what must not be in it."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from emt_plugin.addresses import CONCURRENCY, carries_secret, checked_url, place_of
from emt_plugin.catalog.errors import CatalogError

PREFIX = "endpoint:"
URL = "EMT_MODEL_BASE_URL"
KEY = "EMT_MODEL_API_KEY"
JUDGES_KEY = "EMT_JUDGE_API_KEY"
IMAGES = ("png", "jpeg")
TEXTS = ("base_url", "model", "api_key_env", "revision", "served_as")
COUNTS = ("max_tokens", "concurrency", "tries")
NUMBERS = ("price_in", "price_out", "timeout")
KEYS = (*TEXTS, "image", *COUNTS, *NUMBERS)


@dataclass(frozen=True)
class EndpointSpec:
    """Where a model is asked, and how.

    Attributes:
        base_url: address of the endpoint, without any secret.
        model: name of the model there.
        api_key_env: environment variable that holds the key; None for an endpoint that wants none.
        served_as: the name that it answers under, where that is another one.
        image: format that images are sent in.
        max_tokens: longest answer.
        concurrency: images under way at once.
        timeout: seconds for one try.
        tries: how often an image is asked again.
        price_in: US dollars for a million tokens of questions; None where it is not known.
        price_out: the same of answers.
    """

    base_url: str
    model: str
    api_key_env: str | None = None
    served_as: str | None = None
    image: Literal["png", "jpeg"] = "png"
    max_tokens: int = 32
    concurrency: int = CONCURRENCY
    timeout: float = 60.0
    tries: int = 6
    price_in: float | None = None
    price_out: float | None = None

    @property
    def place(self) -> str:
        """The address as it is shown."""
        return place_of(self.base_url)

    @property
    def source(self) -> str:
        """The model by its name and its place."""
        return f"{PREFIX}{self.model} at {self.place}"


def endpoint_named(name: str, environment: Mapping[str, str] | None = None) -> EndpointSpec:
    """The model of ``endpoint:NAME`` at the address that the environment says.

    Raises:
        CatalogError: it says none, or it cannot be asked.
    """
    environment = os.environ if environment is None else environment
    model = name.removeprefix(PREFIX)
    if not model:
        raise CatalogError(f"'{PREFIX}' names no model; write --model {PREFIX}NAME")
    number = environment.get("EMT_MODEL_CONCURRENCY") or str(CONCURRENCY)
    if not re.fullmatch(r"[1-9]\d*", number):
        raise CatalogError("EMT_MODEL_CONCURRENCY must be a whole number of at least 1")
    return EndpointSpec(_from_environment(name, environment), model, KEY, concurrency=int(number))


def endpoint_of(name: str, entry: Mapping[str, Any], environment: Mapping[str, str] | None = None) -> EndpointSpec:
    """The endpoint of a catalog entry that was checked.

    A key is sent where its own variable is named, and never to another address than the one that it was set for.

    Raises:
        CatalogError: neither entry nor environment says where it is.
    """
    environment = os.environ if environment is None else environment
    own = entry.get("base_url")
    url = str(own) if own else _from_environment(name, environment)
    rest = {key: value for key, value in entry.items() if key not in {"base_url", "revision"}}
    return EndpointSpec(**{"base_url": url, "api_key_env": None if own else KEY, **rest})


def problem_of(entry: object) -> str | None:
    """What is wrong with the table ``endpoint`` of a catalog entry, without anything that might be a secret."""
    if not isinstance(entry, dict):
        return 'must be a table such as {base_url = "http://localhost:8000/v1", model = "NAME"}'
    stray = sorted(set(entry) - set(KEYS))
    if stray:
        secret = "; a key stays in the environment: name its variable with api_key_env" if "key" in stray[0].lower() else ""
        return f"has '{stray[0]}', which means nothing{secret}; keys: {', '.join(KEYS)}"
    if "model" not in entry:
        return 'has no model: add model = "NAME", as the endpoint calls it'
    for key, value in entry.items():
        wanted = _wanted(key, value)
        if wanted:
            return f"has {key}, which {wanted}"
    return _url_problem(entry["base_url"], "base_url") if "base_url" in entry else None


def _wanted(key: str, value: object) -> str | None:
    if key in TEXTS and not (isinstance(value, str) and value):
        return "must be a string"
    if key == "image" and value not in IMAGES:
        return 'must be "png" or "jpeg"'
    if key in COUNTS and not (type(value) is int and value >= (0 if key == "tries" else 1)):
        return "must be a whole number of at least 1" if key != "tries" else "must be a whole number"
    if key in NUMBERS and not (type(value) in (int, float) and 0 <= float(str(value)) < float("inf")):
        return "must be a number of at least 0"
    if key == "api_key_env" and value == JUDGES_KEY:
        return "is the judge's; name another variable"
    if key == "api_key_env" and not re.fullmatch(r"[A-Za-z_]\w*", str(value)):
        return "must be the name of an environment variable, not the key itself"
    return None


def _from_environment(name: str, environment: Mapping[str, str]) -> str:
    url = environment.get(URL)
    if not url:
        raise CatalogError(
            f"the model {name} is behind an endpoint: set {URL} to its address, such as http://localhost:8000/v1"
        )
    problem = _url_problem(url, URL)
    if problem:
        raise CatalogError(problem)
    return url


def _url_problem(url: str, name: str) -> str | None:
    """Why a URL is not asked; never with the URL, which may hold a key."""
    try:
        checked_url(url, name)
    except ValueError as error:
        return str(error)
    if carries_secret(url):
        return f"{name} carries a user, password or query, where a key would be seen: leave it out, and set the key as {KEY}"
    return None
