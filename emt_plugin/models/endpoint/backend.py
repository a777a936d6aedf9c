"""A model behind an OpenAI-compatible endpoint, asked image by image; every answer is kept when it arrives."""

from __future__ import annotations

import base64
import io
import json
import os
import re
import secrets
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from threading import Lock
from typing import Any

from PIL import Image

from emt_plugin.addresses import NO_KEY, Address
from emt_plugin.catalog import Question
from emt_plugin.catalog.endpoints import KEY, URL, EndpointSpec
from emt_plugin.data.pixels import pixel_hash
from emt_plugin.errors import CouldNotRun
from emt_plugin.models.backend import BATCH, Backend, BackendFacts, Request
from emt_plugin.models.endpoint.client import ChatClient, Reply, Words, each
from emt_plugin.models.endpoint.costs import Meter, purse_of
from emt_plugin.records import Cost
from emt_plugin.scoring import Observation, Want
from emt_plugin.store import Shelf, code_hash

# Rows beside the answers: the settings that they were asked with, and who gave them.
IN_FORCE = "settings"
SERVED = "served"
SYSTEMS = "systems"
# What makes answers of one run findable for its own workers and for nobody else.
SESSION = secrets.token_hex(8)
# One image request tells more than /health, which says 200 on servers that die at the first image.
PROBE_PROMPT = "What is in the image?"
PROBE_SIDE = 64
# What an endpoint may add to the name that it was asked for: a date, a version or a revision.
DATED = r"([-@:](\d{4}(-\d\d){1,2}|\d{3,8}|main|latest|[0-9a-f]{40}))?"
JPEG_QUALITY = 95
MOST_SYSTEMS = 20


class EndpointBackend(Backend):
    """See ``Backend``. Labels are not ranked: what endpoints report of probabilities are the most probable tokens alone.

    Raises:
        CouldNotRun: the catalog does not say where it is, or its key is not set.
    """

    def __init__(self, request: Request) -> None:
        spec = request.spec.endpoint
        if spec is None:
            raise CouldNotRun(
                f"the catalog does not say where {request.spec.name} is asked: "
                'give it endpoint = {base_url = "...", model = "..."} in the place of source'
            )
        self._request, self._spec = request, spec
        self._address = Address(spec.base_url, spec.model, _key(spec), spec.concurrency)
        self._wire = {"temperature": 0, "max_tokens": spec.max_tokens}
        self._meter, self._purse = Meter(spec), purse_of(request.store, request.compute.max_cost)
        self._lock = Lock()
        self._client: ChatClient | None = None
        self._anew = False
        self._about: Shelf = request.store.shelf("endpoint", dict(self.identity()), {"model": request.spec.id})
        self._served = self._kept(SERVED) or ""

    def identity(self) -> Mapping[str, Any]:
        """Where it is asked and how. Nobody vouches for its weights but a user who pins a revision.

        Without one, what it is found by is this run's alone.
        """
        revision = self._request.spec.revision
        pinned = f", taken to be those of {revision}" if revision else ""
        return {
            "weights": f"not verified: {self._spec.model} at {self._spec.place}{pinned}",
            "endpoint": self._spec.place,
            "model": self._spec.model,
            "revision": revision,
            "run": None if revision else os.environ.get("PYTEST_XDIST_TESTRUNUID", SESSION),
            "settings": dict(self._wire),
            "image": self._spec.image,
            "code": code_hash("models/endpoint", "data/pixels.py", "evaluation/observing.py"),
        }

    @property
    def capabilities(self) -> frozenset[Want]:
        """Answers, once it has given one."""
        self._started()
        return frozenset({"answer"})

    @property
    def batch_size(self) -> int:
        """Enough for the pool to be busy."""
        return max(BATCH, 4 * self._spec.concurrency)

    def facts(self) -> BackendFacts:
        """What is sent beside the question, and what was refused."""
        client = self._started()
        refused = client.not_taken
        sent = {**client.settings, "image": self._spec.image, **({"not taken": refused} if refused else {})}
        return BackendFacts(generation=sent)

    def render(self, prompt: str) -> str:
        """What is sent, with a word for the image: the endpoint's own template is not known."""
        return json.dumps([{"role": "user", "content": _parts(f"data:image/{self._spec.image};base64,...", prompt)}])

    def observe(self, images: Sequence[Image.Image], question: Question, want: Collection[Want]) -> list[Observation]:
        """Ask about each image that was not asked about before; of images with the same pixels about one.

        Raises:
            CouldNotRun: see ``ChatClient``.
        """
        self._started()
        shelf = self._request.store.shelf(
            "endpoint", {**self.identity(), "prompt": question.prompt}, {"model": self._request.spec.id}
        )
        rows = [pixel_hash(image) for image in images]
        known = {} if self._anew else {row: stored.value for row in rows if (stored := shelf.get(row))}
        missing = {row: image for row, image in zip(rows, images, strict=True) if row not in known}

        def ask(row: str) -> None:
            reply = self._ask(missing[row], question.prompt)
            known[row] = [reply.text or "", reply.tokens_out, reply.withheld]
            if not self._anew:
                with self._lock:
                    shelf.put({row: known[row]})

        each(missing, ask, self._spec.concurrency)
        return [
            Observation(answer=answer, new_tokens=tokens, withheld=withheld)
            for answer, tokens, withheld in (known[row] for row in rows)
        ]

    def in_force(self) -> Mapping[str, Any]:
        """Who answered, as far as the endpoint says."""
        client = self._client
        systems = self._kept(SYSTEMS) or []
        refused = client.not_taken if client else {}
        facts = {
            "weights": "not verified",
            "endpoint": self._spec.place,
            "served_as": self._served or "not reported",
            "system_fingerprint": ", ".join(systems) or "not reported",
        }
        return facts | ({"settings_not_taken": refused} if refused else {})

    def cost(self) -> Cost:
        """See ``Backend``."""
        return self._meter.total

    @contextmanager
    def anew(self) -> Iterator[None]:
        """Every image is asked about, and no answer is kept."""
        self._anew = True
        try:
            yield
        finally:
            self._anew = False

    def _started(self) -> ChatClient:
        """The client, which has shown that an image can be asked about.

        Raises:
            CouldNotRun: it cannot.
        """
        if self._client is None:
            key = f"set {self._spec.api_key_env}" if self._spec.api_key_env else "name its variable with api_key_env"
            words = Words(
                who="the endpoint",
                key=key,
                model="name one that it serves, at an address that ends in /v1",
                address=f"set {URL} or base_url to its address that ends in /v1",
                question="a question with an image",
            )
            settings, not_taken = self._kept(IN_FORCE) or (self._wire, {})
            self._client = ChatClient(
                self._address, words, settings, not_taken, self._spec.tries, self._spec.timeout,
                lambda *now: self._keep({IN_FORCE: now}),
            )  # fmt: skip
            try:
                self._show(self._client)
            except CouldNotRun:
                self._client = None
                raise
        return self._client

    def _show(self, client: ChatClient) -> None:
        """Ask about one image that is none of a set.

        Raises:
            CouldNotRun: no text comes back.
        """
        reply = self._ask(Image.new("RGB", (PROBE_SIDE, PROBE_SIDE), (200, 30, 30)), PROBE_PROMPT)
        if reply.withheld or reply.text:
            return
        if reply.finish == "length":
            raise client.could_not(
                f"says nothing within {self._spec.max_tokens} tokens, as models that reason first do; raise max_tokens of "
                f"its catalog entry"
            )
        if reply.text is None:
            raise client.could_not("takes an image and gives no text; name a model that answers in words")

    def _ask(self, image: Image.Image, prompt: str) -> Reply:
        client = self._client
        assert client is not None
        with self._purse.paying(self._spec) as replies:
            reply = client.ask(_parts(_url(image, self._spec.image), prompt))
            self._meter.add(reply)
            replies.append(reply)
        self._recognise(reply, client)
        return reply

    def _recognise(self, reply: Reply, client: ChatClient) -> None:
        """Take note of who answered.

        Raises:
            CouldNotRun: it is another model than the one that was asked, or than the one that answered before.
        """
        with self._lock:
            systems = self._kept(SYSTEMS) or []
            if reply.system and reply.system not in systems and len(systems) < MOST_SYSTEMS:
                self._about.put({SYSTEMS: [*systems, reply.system]})
            if not reply.model or reply.model == self._served:
                return
            if self._served:
                raise client.could_not(
                    f"answered as '{self._served}' before and as '{reply.model}' now: answers of two models are not one "
                    f"measurement; pin another revision"
                )
            if not _is_called(reply.model, self._spec.model) and reply.model != self._spec.served_as:
                raise client.could_not(
                    f"was asked for '{self._spec.model}' and answers as '{reply.model}'; name that one, or say "
                    f'served_as = "{reply.model}" in its catalog entry'
                )
            self._served = reply.model
            self._about.put({SERVED: reply.model})

    def _kept(self, row: str) -> Any:
        stored = self._about.get(row)
        return stored.value if stored else None

    def _keep(self, rows: Mapping[str, Any]) -> None:
        with self._lock:
            self._about.put(rows)


def _key(spec: EndpointSpec) -> str:
    if spec.api_key_env is None:
        return NO_KEY
    key = os.environ.get(spec.api_key_env, "").strip()
    if not key and spec.api_key_env != KEY:
        raise CouldNotRun(f"the key of {spec.model} at {spec.place} is not there; set {spec.api_key_env}")
    return key or NO_KEY


def _parts(url: str, prompt: str) -> list[dict[str, Any]]:
    return [{"type": "image_url", "image_url": {"url": url}}, {"type": "text", "text": prompt}]


def _url(image: Image.Image, kind: str) -> str:
    data = io.BytesIO()
    image.convert("RGB").save(data, kind, **({"quality": JPEG_QUALITY} if kind == "jpeg" else {}))
    return f"data:image/{kind};base64,{base64.b64encode(data.getvalue()).decode('ascii')}"


def _is_called(says: str, asked: str) -> bool:
    """Whether a name is the one that was asked for, but for folders before it and a date or revision behind it."""
    names = [name.rstrip("/").rpartition("/")[2] for name in (says, asked)]
    return says == asked or re.fullmatch(re.escape(names[1]) + DATED, names[0]) is not None
