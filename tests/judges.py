"""Judges for the tests: a tiny language model that was overfitted on a few rulings, and a server that fails on purpose."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from emt_plugin.scoring.ruling import question_to_judge

TEMPLATE = (
    "{% for m in messages %}<|{{ m['role'] }}|>{% if m['content'] is string %}{{ m['content'] }}"
    "{% else %}{% for part in m['content'] %}{{ part['text'] }}{% endfor %}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
RULINGS = {
    ("dog", "The object is a dog."): "yes",
    ("dog", "The object is a cat."): "no",
    ("aquarium fish", "a picture of a fish in a tank"): "no",
    ("8", "The number in the image is 8:"): "yes",
    ("0", "The number in the image is 8:"): "no",
    ("airplane", "The airplane is 8."): "Maybe it is.",
}
SECONDS = 120


def save_judge(folder: Path, rulings: Mapping[tuple[str, str], str] = RULINGS) -> Path:
    """Save a language model that answers these questions as given, by being trained on nothing else."""
    texts = {question_to_judge(*asked): said for asked, said in rulings.items()}
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    special = ["<pad>", "<|end|>", "<|user|>", "<|assistant|>", "<|system|>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    core.train_from_iterator(
        [*texts, *texts.values()],
        trainers.BpeTrainer(vocab_size=500, special_tokens=special, initial_alphabet=alphabet, show_progress=False),
    )
    words = PreTrainedTokenizerFast(
        tokenizer_object=core, pad_token="<pad>", eos_token="<|end|>", chat_template=TEMPLATE, padding_side="left"
    )
    torch.manual_seed(0)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(words),
            hidden_size=64,
            intermediate_size=128,
            num_hidden_layers=2,
            num_attention_heads=4,
            max_position_embeddings=512,
            pad_token_id=0,
            bos_token_id=1,
            eos_token_id=1,
        )
    )
    sequences = []
    for asked, said in texts.items():
        prompt = words.apply_chat_template([{"role": "user", "content": asked}], add_generation_prompt=True, tokenize=False)
        before = words(prompt)["input_ids"]
        full = [*before, *words(said)["input_ids"], 1]
        sequences.append((full, [-100] * len(before) + full[len(before) :]))
    longest = max(len(full) for full, _ in sequences)
    ids = torch.tensor([full + [0] * (longest - len(full)) for full, _ in sequences])
    labels = torch.tensor([targets + [-100] * (longest - len(targets)) for _, targets in sequences])
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    loss = torch.tensor(1.0)
    while loss.item() > 1e-3:
        loss = model(input_ids=ids, attention_mask=(ids != 0).long(), labels=labels).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    model.eval().save_pretrained(folder)
    words.save_pretrained(folder)
    return folder


@contextmanager
def served(folder: Path, log: Path) -> Iterator[str]:
    """A checkpoint behind ``transformers serve``; gives the base URL."""
    port = free_port()
    command = [sys.executable, "-c", "from transformers.cli.transformers import main; main()", "serve", str(folder)]
    with log.open("w") as output:
        server = subprocess.Popen(
            [*command, "--host", "127.0.0.1", "--port", str(port), "--device", "cpu"], stdout=output, stderr=output
        )
    try:
        wait_for(f"http://127.0.0.1:{port}/health", server, log)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        server.terminate()
        server.wait(30)


def wait_for(url: str, server: subprocess.Popen[bytes], log: Path) -> None:
    """Wait until a server answers."""
    until = time.monotonic() + SECONDS
    while time.monotonic() < until and server.poll() is None:
        try:
            urllib.request.urlopen(url, timeout=5).close()
            return
        except OSError:
            time.sleep(0.3)
    raise AssertionError(log.read_text())


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


Answer = tuple[int, dict[str, Any]]


@contextmanager
def answered(answer: Callable[[dict[str, Any], int], Answer]) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """A server that answers each chat completion with what a function gives: its base URL, and the requests so far.

    Args:
        answer: from the request's body and how many came before it, a status and a body.
    """
    seen: list[dict[str, Any]] = []
    lock = threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            with lock:
                position = len(seen)
                seen.append({**body, "authorization": self.headers.get("Authorization")})
            status, content = answer(body, position)
            data = json.dumps(content).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            if status == 429:
                self.send_header("Retry-After", "0")
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, format: str, *arguments: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/v1", seen
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def completion(text: str | None) -> Answer:
    """A chat completion as OpenAI's endpoint gives it."""
    message = {"role": "assistant", "content": text}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    return 200, {"id": "x", "object": "chat.completion", "created": 0, "model": "judge", "choices": [choice]}


def refusal(status: int, message: str) -> Answer:
    """An error as OpenAI's endpoint gives it."""
    return status, {"error": {"message": message, "type": "invalid_request_error", "param": None, "code": None}}
