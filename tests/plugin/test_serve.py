"""A function of an old environment, served by the one file that is copied there, and gated as any other model."""

from __future__ import annotations

import base64
import io
import json
import shutil
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import emt_plugin.cli
from emt_plugin.cli import main
from tests.plugin.conftest import in_a_process

SERVE = Path(emt_plugin.cli.__file__).with_name("serve.py")
# Knows how bright an image is by the file's bytes or by Pillow, whichever it is handed.
LEGACY = """
import hashlib

def answer(image, question):
    assert question.startswith("What") or "in the image" in question, question
    if question == "break":
        raise RuntimeError("no such layer")
    if isinstance(image, bytes):
        assert image.startswith(b"\\x89PNG")
        return "7"
    assert image.mode == "RGB"
    return "The number is 7."

def number(image, question):
    return 7

def broken(image, question):
    raise RuntimeError("no such layer")

text = "no function"
"""


def oldest() -> str:
    """The oldest Python here that the file is written for."""
    names = [shutil.which(f"python3.{minor}") for minor in range(8, 12)]
    kept = [str(path) for minor in range(8, 12) for path in sorted(Path.home().glob(f".pyenv/versions/3.{minor}.*/bin/python"))]
    for python in (*kept, *filter(None, names)):
        if subprocess.run([python, "-c", ""], capture_output=True, check=False).returncode == 0:
            return python
    return sys.executable


@contextmanager
def served(folder: Path, python: str, function: str = "legacy:answer", **variables: str) -> Iterator[str]:
    """The copied file, run where nothing of this package can be imported; gives the base URL."""
    shutil.copy(SERVE, folder / "copied.py")
    (folder / "legacy.py").write_text(LEGACY)
    command = [python, "copied.py", function, "--name", "old", "--port", "0", "--revision", "2023"]
    bare = {"PATH": "/usr/bin:/bin", **variables}
    with subprocess.Popen(command, cwd=folder, env=bare, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as server:
        assert server.stdout is not None
        try:
            line = server.stdout.readline()
            assert "http://" in line, line
            yield line.split()[-1]
        finally:
            server.terminate()


def ask(url: str, body: Any, key: str | None = None) -> tuple[int, Any]:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    request = urllib.request.Request(f"{url}/chat/completions", data, {"Authorization": f"Bearer {key}"} if key else {})
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def question(**more: Any) -> dict[str, Any]:
    data = io.BytesIO()
    Image.new("RGB", (4, 4)).save(data, "png")
    url = f"data:image/png;base64,{base64.b64encode(data.getvalue()).decode()}"
    content = [{"type": "image_url", "image_url": {"url": more.pop("url", url)}}, {"type": "text", "text": "What is it?"}]
    return {"model": "old", "messages": [{"role": "user", "content": content}], **more}


@pytest.mark.thorough
@pytest.mark.own_store
def test_the_file_alone_in_the_oldest_python_is_gated(suite: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("legacy")
    with served(folder, oldest(), EMT_SERVE_API_KEY="sk-their-own-key") as url:
        common = (
            "--emt-model",
            "endpoint:old",
            "--emt-image-set",
            "mnist-mini",
            "--emt-encoder",
            "clip-mini",
            "--emt-limit",
            "30",
        )
        refused = in_a_process(suite, common, {"EMT_MODEL_BASE_URL": url})
        assert refused.code == 3
        assert "refuses the key; set EMT_MODEL_API_KEY" in refused.output
        done = in_a_process(suite, common, {"EMT_MODEL_BASE_URL": url, "EMT_MODEL_API_KEY": "sk-their-own-key"})
    assert done.code == 1, done.output
    pair = done.pair("old/mnist-mini")
    rows = [json.loads(line) for line in (done.place / "predictions" / "old__mnist-mini.jsonl").read_text().splitlines()]
    assert pair["scores"][0]["correct"] == sum(pair["labels"][row["label"]] == "7" for row in rows) > 0
    assert (pair["model_facts"]["served_as"], pair["model_facts"]["system_fingerprint"]) == ("old", "2023")


def test_with_pillow_the_function_is_handed_an_image(tmp_path: Path) -> None:
    with served(tmp_path, sys.executable) as url:
        status, answer = ask(url, question())
    assert (status, answer["choices"][0]["message"]["content"]) == (200, "The number is 7.")


def test_what_is_no_question_is_refused_and_the_next_is_answered(tmp_path: Path) -> None:
    with served(tmp_path, sys.executable) as url:
        for body, code, says in (
            (b"{", 400, "no JSON"),
            ([], 400, "has messages"),
            ({"model": "old", "messages": []}, 400, "has messages"),
            (question(model="new"), 404, "the model here is called 'old'"),
            (question(stream=True), 400, "stream"),
            ({"model": "old", "messages": [{"role": "user", "content": "What is it?"}]}, 400, "has no image"),
            (question(url="https://example.org/cat.png"), 400, "must be a data URL"),
            (question(url="data:image/png;base64,%%%"), 400, "is not base64"),
            (question(url="data:image/png;base64,QUJD"), 400, "cannot be read"),
        ):
            status, answer = ask(url, body)
            assert (status, says in answer["error"]["message"]) == (code, True), answer
            assert ask(url, question())[0] == 200
        with urllib.request.urlopen(f"{url}/models", timeout=30) as known:
            assert [model["id"] for model in json.load(known)["data"]] == ["old"]


@pytest.mark.parametrize(
    ("function", "says"), [("number", "gave int and not a string"), ("broken", "RuntimeError: no such layer")]
)
def test_a_function_that_fails_is_an_error_of_the_server(tmp_path: Path, function: str, says: str) -> None:
    with served(tmp_path, sys.executable, f"legacy:{function}") as url:
        status, answer = ask(url, question())
    assert status == 500
    assert says in answer["error"]["message"]


@pytest.mark.parametrize(
    ("function", "says"),
    [
        ("legacy", "'legacy' names no function; write MODULE:FUNCTION"),
        ("no_such_module:answer", "cannot be had (ModuleNotFoundError"),
        ("legacy:nothing", "cannot be had (AttributeError"),
        ("legacy:text", "is not a function"),
    ],
)
def test_no_function_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], function: str, says: str
) -> None:
    (tmp_path / "legacy.py").write_text(LEGACY)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    assert main(["serve", function]) == 1
    error = capsys.readouterr().err
    assert says in error
    assert error.startswith("emt: ")
    assert error.count("\n") == 1
