"""An OpenAI-compatible server around one function, ``answer(image, question) -> str``.

This one file needs Python 3.8 and nothing else, so that it can be copied into the environment of a model that will never
load anywhere newer:

    python serve.py MODULE:FUNCTION --name NAME --port 8000

The function is handed a PIL image in RGB where Pillow is there, else the bytes of the image file, and the text of the
question. It is called by one thread at a time.
"""

from __future__ import annotations

import argparse
import base64
import binascii
import importlib
import io
import json
import os
import sys
import threading
import time
import traceback
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

# A request of an image of many millions of pixels.
MOST_BYTES = 256 * 1024 * 1024
KEY = "EMT_SERVE_API_KEY"
COMPLETIONS = "/chat/completions"


class Refusal(Exception):
    """A request that is not answered: an HTTP status, and why."""

    def __init__(self, status: int, why: str) -> None:
        super().__init__(why)
        self.status = status


def question_of(body: Any, name: str) -> tuple[bytes, str]:
    """The image file's bytes and the text of a chat completion request's last message.

    Raises:
        Refusal: it is for another model, or not one question about one image.
    """
    if not isinstance(body, dict) or not isinstance(body.get("messages"), list) or not body["messages"]:
        raise Refusal(400, "a chat completion has messages")
    if body.get("model") != name:
        raise Refusal(404, f"the model here is called '{name}'")
    if body.get("stream"):
        raise Refusal(400, "stream is not supported here")
    message = body["messages"][-1]
    parts = message.get("content") if isinstance(message, dict) else None
    if not isinstance(parts, list) or not all(isinstance(part, dict) for part in parts):
        raise Refusal(400, "the last message has no image: its content must be a list of an image_url and a text")
    images = [part.get("image_url") for part in parts if part.get("type") == "image_url"]
    texts = [str(part.get("text", "")) for part in parts if part.get("type") == "text"]
    if len(images) != 1 or not texts:
        raise Refusal(400, "the last message must have one image_url and a text")
    return decoded(images[0]), "\n".join(texts)


def decoded(image: Any) -> bytes:
    """The bytes of a data URL.

    Raises:
        Refusal: it is none; nothing is fetched from anywhere.
    """
    url = image.get("url") if isinstance(image, dict) else image
    head, comma, data = str(url).partition(",")
    if not head.startswith("data:image/") or not head.endswith(";base64") or not comma:
        raise Refusal(400, "image_url must be a data URL such as data:image/png;base64,...")
    try:
        return base64.b64decode(data, validate=True)
    except (ValueError, binascii.Error):
        raise Refusal(400, "the image is not base64") from None


def opened(data: bytes) -> Any:
    """A PIL image in RGB where Pillow is there, else the bytes.

    Raises:
        Refusal: it is no image.
    """
    try:
        from PIL import Image
    except ImportError:
        return data
    try:
        return Image.open(io.BytesIO(data)).convert("RGB")
    except Exception as error:  # Pillow raises many kinds for what is no image.
        raise Refusal(400, f"the image cannot be read ({type(error).__name__})") from None


def handler_of(answer: Any, name: str, revision: str | None) -> type[BaseHTTPRequestHandler]:
    """The HTTP handler around a function."""
    turn = threading.Lock()
    key = os.environ.get(KEY)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            """What is served, and that it is."""
            path = self.path.rstrip("/")
            if path.endswith("/models"):
                self.say(200, {"object": "list", "data": [{"id": name, "object": "model", "created": 0, "owned_by": "emt"}]})
            elif path.endswith("/health"):
                self.say(200, {"status": "ok"})
            else:
                self.refuse(404, "there is nothing at this address; ask POST /v1" + COMPLETIONS)

        def do_POST(self) -> None:
            """A chat completion."""
            try:
                body = self.body()
                if key and self.headers.get("Authorization") != "Bearer " + key:
                    raise Refusal(401, "the key is wrong")
                if not self.path.rstrip("/").endswith(COMPLETIONS):
                    raise Refusal(404, "there is nothing at this address; ask POST /v1" + COMPLETIONS)
                data, question = question_of(parsed(body), name)
                image = opened(data)
                with turn:
                    said = answer(image, question)
                if not isinstance(said, str):
                    raise TypeError(f"the function gave {type(said).__name__} and not a string")
            except Refusal as refusal:
                self.refuse(refusal.status, str(refusal))
            except Exception as error:  # Whatever a stranger's function leads to.
                traceback.print_exc()
                self.refuse(500, f"the function failed ({type(error).__name__}: {error})")
            else:
                self.say(200, completion(said, name, revision))

        def body(self) -> bytes:
            """What was sent."""
            length = self.headers.get("Content-Length", "")
            if not length.isdigit() or int(length) > MOST_BYTES:
                # What is not read would be taken for the next request.
                self.close_connection = True
                raise Refusal(413 if length.isdigit() else 411, f"a request has a Content-Length of at most {MOST_BYTES}")
            return self.rfile.read(int(length))

        def refuse(self, status: int, why: str) -> None:
            """Answer with an error."""
            self.say(status, {"error": {"message": why, "type": "invalid_request_error", "param": None, "code": None}})

        def say(self, status: int, content: Any) -> None:
            """Answer with JSON."""
            data = json.dumps(content).encode("utf-8")
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, format: str, *arguments: Any) -> None:
            """Say nothing of each request."""

    return Handler


def parsed(body: bytes) -> Any:
    """The JSON of a request.

    Raises:
        Refusal: it is none.
    """
    try:
        return json.loads(body.decode("utf-8"))
    except (ValueError, RecursionError):
        raise Refusal(400, "the request is no JSON") from None


def completion(text: str, name: str, revision: str | None) -> dict[str, Any]:
    """A chat completion; tokens are not counted, so there is no usage."""
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
    return {
        "id": f"chatcmpl-{time.time_ns()}",
        "object": "chat.completion",
        "created": int(time.time()),
        "model": name,
        "system_fingerprint": revision,
        "choices": [choice],
    }


def function_of(named: str) -> Any:
    """The function of ``MODULE:FUNCTION``, whose module may lie in this folder.

    Raises:
        ValueError: there is none; the message says why.
    """
    module, _, path = named.partition(":")
    if not module or not path:
        raise ValueError(f"'{named}' names no function; write MODULE:FUNCTION")
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        found = importlib.import_module(module)
        for part in path.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError) as error:
        raise ValueError(f"{named} cannot be had ({type(error).__name__}: {error})") from None
    if not callable(found):
        raise ValueError(f"{named} is not a function; write MODULE:FUNCTION")
    return found


def serve(named: str, name: str | None = None, host: str = "127.0.0.1", port: int = 8000, revision: str | None = None) -> None:
    """Serve a function until it is stopped.

    Args:
        named: ``MODULE:FUNCTION``.
        name: of the model; the function's module where it is None.
        host: to listen at.
        port: to listen at; 0 for one that is free.
        revision: reported as the system fingerprint.

    Raises:
        ValueError: there is no such function.
        OSError: the port is taken.
    """
    answer = function_of(named)
    called = name or named.partition(":")[0]
    server = ThreadingHTTPServer((host, port), handler_of(answer, called, revision))
    server.daemon_threads = True
    print(f"serving {named} as '{called}' at http://{host}:{server.server_address[1]}/v1", flush=True)
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        pass
    finally:
        server.server_close()


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What ``emt serve`` and this file by itself take."""
    parser.add_argument("function", metavar="MODULE:FUNCTION", help="answer(image, question) -> str")
    parser.add_argument("--name", metavar="NAME", help="what the model is called [the module's name]")
    parser.add_argument("--host", default="127.0.0.1", metavar="HOST", help="where to listen [127.0.0.1]")
    parser.add_argument("--port", type=int, default=8000, metavar="PORT", help="0 for one that is free [8000]")
    parser.add_argument("--revision", metavar="TEXT", help="which weights these are, reported as system fingerprint")


def main(arguments: list[str] | None = None) -> int:
    """Serve; 1 if that cannot be done."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_arguments(parser)
    options = parser.parse_args(arguments)
    try:
        serve(options.function, options.name, options.host, options.port, options.revision)
    except (ValueError, OSError) as error:
        print(f"serve: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
