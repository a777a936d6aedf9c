"""A run that is killed again and again: what it had computed is kept, and nothing of that is computed again."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from emt_plugin.store.store import read_rows
from tests.plugin.conftest import environment, in_a_process

pytestmark = [pytest.mark.thorough, pytest.mark.own_store]
BATCH = 4
ARGUMENTS = (
    "--emt-model", "llava-mini", "--emt-image-set", "emoji-mini", "--emt-image-set", "mnist-mini",
    "--emt-scorer", "answer,likelihood", "--emt-probe-images", "0", "--emt-limit", "1000", "--emt-batch-size", str(BATCH),
    "-p", "no:hypothesispytest", "-p", "no:cacheprovider",
)  # fmt: skip
# Writes down the images of each batch before it is computed.
LOGS = """\
import json, os
from emt_plugin.data.image_set import pixel_hash
from emt_plugin.models.transformers_backend import TransformersBackend

observe = TransformersBackend._observed

def logged(self, images, question, want):
    line = json.dumps([pixel_hash(image) + question.prompt[:20] for image in images]) + "\\n"
    with open(f"started.{os.getpid()}.jsonl", "a") as file:
        file.write(line)
    return observe(self, images, question, want)

TransformersBackend._observed = logged
"""


def batches(folder: Path) -> list[list[list[str]]]:
    """The batches that each process started, in order."""
    files = sorted(folder.glob("started.*.jsonl"))
    return [[json.loads(line) for line in file.read_text().splitlines()] for file in files]


def stored(folder: Path) -> set[str]:
    """Images whose answer and label scores are both in the store, with the beginning of what was asked."""
    found: list[set[str]] = []
    for kind in ("answer", "label_logprobs"):
        rows: set[str] = set()
        for key_file in folder.glob(f".emt_store/1/{kind}/*/key.json"):
            prompt = json.loads(key_file.read_text())["key"]["prompt"][:20]
            rows |= {name.partition(":")[0] + prompt for name in read_rows(key_file.parent)}
        found.append(rows)
    return found[0] & found[1]


def predictions(folder: Path) -> dict[str, bytes]:
    newest = max(folder.glob("reports/*/predictions"), key=lambda path: path.stat().st_mtime_ns)
    return {path.name: path.read_bytes() for path in sorted(newest.iterdir())}


def start_and_kill(folder: Path, workers: tuple[str, ...], moments: random.Random) -> bool:
    """Start a run and kill all its processes at a random moment; whether it was at work by then.

    One in four is killed before it has started to compute, the others some random time after that.
    """
    command = [sys.executable, "-m", "pytest", *ARGUMENTS, *workers]
    early = moments.random() < 0.25
    before = len(batches(folder))
    with (folder / "output").open("wb") as output:
        running = subprocess.Popen(command, cwd=folder, env=environment(), stdout=output, stderr=output, start_new_session=True)
        until = time.monotonic() + (moments.uniform(0, 4) if early else 120)
        while time.monotonic() < until and running.poll() is None and len(batches(folder)) == before:
            time.sleep(0.05)
        at_work = running.poll() is None and len(batches(folder)) > before
        if at_work:
            time.sleep(moments.uniform(0, 1.2))
        alive = running.poll() is None
        if alive:
            os.killpg(running.pid, signal.SIGKILL)
        running.wait()
    return at_work and alive


@pytest.mark.parametrize(("workers", "kills"), [((), 5), (("-n2",), 7)], ids=["serial", "n2"])
def test_killed_at_random_moments_then_finished(
    suite: Path, tmp_path_factory: pytest.TempPathFactory, workers: tuple[str, ...], kills: int
) -> None:
    kills = int(os.environ.get("EMT_TEST_KILLS", kills))
    (suite / "conftest.py").write_text(LOGS)
    clean = tmp_path_factory.mktemp("clean")
    for name in ("test_forgetting.py", "conftest.py", "pytest.ini"):
        (clean / name).write_text((suite / name).read_text())
    whole = in_a_process(clean, (*ARGUMENTS, *workers))
    assert whole.record["complete"], whole.output

    moments = random.Random(f"{workers}")
    at_work = 0
    redone: set[str] = set()
    for _ in range(kills):
        at_work += start_and_kill(suite, workers, moments)
        kept = stored(suite)
        for process in batches(suite):
            assert {image for batch in process[:-1] for image in batch} <= kept
            redone |= set(process[-1]) if process else set()
    assert at_work >= kills // 4

    finished = in_a_process(suite, (*ARGUMENTS, *workers))
    assert finished.code == whole.code, finished.output
    assert predictions(suite) == predictions(clean)
    computed = [image for process in batches(suite) for batch in process for image in batch]
    twice = {image for image, times in Counter(computed).items() if times > 1}
    assert twice <= redone
