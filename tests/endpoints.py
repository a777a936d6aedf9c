"""Endpoints for the tests: a server that answers chat completions with what a function says, or fails as it says."""

from __future__ import annotations

import base64
import io
import json
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from PIL import Image

from emt_plugin.data.pixels import pixel_hash

KEY = "sk-very-secret-0123456789"
MODEL = "tiny-vlm"
PROBE_SIZE = (64, 64)


@dataclass(frozen=True)
class Asked:
    """A request: its body, its key, the image as it arrived, and the hash of its pixels."""

    body: dict[str, Any]
    authorization: str | None
    image: Image.Image
    pixels: str

    @property
    def is_probe(self) -> bool:
        """Whether it is the one that shows at the start that images are taken."""
        return self.image.size == PROBE_SIZE


@dataclass(frozen=True)
class Said:
    """What a server says: a status and a body, or what it does instead."""

    body: bytes
    status: int = 200
    kind: str = "application/json"
    headers: dict[str, str] = field(default_factory=dict)
    hang: float = 0.0
    reset: bool = False
    torn: bool = False


Answer = Callable[[Asked, int], Said]


@contextmanager
def serving(answer: Answer) -> Iterator[tuple[str, list[Asked]]]:
    """A server; gives its base URL, and the requests so far.

    Args:
        answer: from a request and how many came before it, what is said.
    """
    seen: list[Asked] = []
    lock = threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            asked = _asked(body, self.headers.get("Authorization"))
            with lock:
                position = len(seen)
                seen.append(asked)
            said = answer(asked, position)
            time.sleep(said.hang)
            if said.reset:
                # With no time to linger the connection is reset.
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                self.close_connection = True
                return
            self.send_response(said.status)
            for name, value in {"Content-Type": said.kind, "retry-after-ms": "1", **said.headers}.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(said.body) + (10 if said.torn else 0)))
            self.end_headers()
            self.wfile.write(said.body)
            self.close_connection = self.close_connection or said.torn

        def log_message(self, format: str, *arguments: Any) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_: Any) -> None:
            """Clients that were killed or gave up have hung up."""

    server = Server(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/v1", seen
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def completion(text: str | None, **more: Any) -> Said:
    """A chat completion as OpenAI's endpoint gives it; ``more`` stands beside or in the place of its fields."""
    message = {"role": "assistant", "content": text, **more.pop("message", {})}
    choice = {"index": 0, "message": message, "finish_reason": more.pop("finish", "stop")}
    usage = {"prompt_tokens": 100, "completion_tokens": 5, "total_tokens": 105}
    found = {"id": "x", "object": "chat.completion", "created": 0, "model": MODEL, "choices": [choice], "usage": usage}
    return Said(json.dumps(found | more).encode())


def refusal(status: int, message: str, code: str | None = None) -> Said:
    """An error as OpenAI's endpoint gives it."""
    error = {"message": message, "type": "invalid_request_error", "param": None, "code": code}
    return Said(json.dumps({"error": error}).encode(), status)


def _asked(body: dict[str, Any], authorization: str | None) -> Asked:
    (message,) = body["messages"]
    picture, words = message["content"]
    head, _, data = picture["image_url"]["url"].partition(",")
    image = Image.open(io.BytesIO(base64.b64decode(data)))
    image.load()
    assert head == f"data:image/{str(image.format).lower()};base64"
    assert words["type"] == "text"
    return Asked(body, authorization, image, pixel_hash(image.convert("RGB")))
