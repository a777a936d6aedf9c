"""Models on a Ray cluster: the same predictions as in one process, whatever dies meanwhile."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from tests.plugin.conftest import REPOSITORY, Run, environment, in_a_process, install

pytestmark = [pytest.mark.thorough, pytest.mark.own_store]
SETS = ("mnist-mini", "fashion-mini", "digits-mini", "emoji-mini")
ALIKE = ("--emt-batch-size", "16", "-p", "no:hypothesispytest")
# One thread everywhere: sums over several threads round otherwise.
ONE_THREAD = {"OMP_NUM_THREADS": "1"}


class Machines:
    """A cluster of three nodes; see ``tests/machines.py``."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, str(Path(__file__).parents[1] / "machines.py")],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        )  # fmt: skip
        assert self._process.stdin
        assert self._process.stdout
        self._asked, self._said = self._process.stdin, self._process.stdout
        self.variables = {"RAY_ADDRESS": self._said.readline().strip(), "HOME": os.environ["HOME"], **ONE_THREAD}

    def remove_one(self) -> None:
        """A node goes without a word."""
        self._asked.write("remove\n")
        self._asked.flush()
        assert self._said.readline() == "removed\n"

    def close(self) -> None:
        """End all."""
        self._asked.close()
        self._process.wait()
        self._said.close()


@pytest.fixture(scope="module")
def home() -> Iterator[Path]:
    """A home of Ray's own: it writes a token there. Its sockets' paths must be short."""
    folder = Path(tempfile.mkdtemp(prefix="ray-"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOME", str(folder))
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("RAY_TMPDIR", str(folder))
        for name in [name for name in os.environ if name.startswith(("PYTEST_", "COV_"))]:
            patch.delenv(name)
        yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def machines(home: Path) -> Iterator[Machines]:
    """Three nodes with a CPU each."""
    found = Machines()
    yield found
    found.close()


def test_the_rest_of_a_killed_run_is_computed_and_nothing_twice(suite: Path, machines: Machines) -> None:
    asked = (*ALIKE, "--emt-image-set", "mnist-mini", "--emt-engine", "ray", "--emt-store-dir", "kept", "--emt-limit", "600")
    started = begun(suite, asked, machines.variables)
    until(started, lambda: measured(suite, "mnist-mini") >= 48)
    started.kill()
    started.communicate()
    kept = len(stored_rows(suite / "kept", "answer"))
    assert 48 <= kept < 600
    done = in_a_process(suite, asked, machines.variables)
    assert done.code == 0, done.output
    assert done.pair("llava-mini/mnist-mini")["replay"]["replayed"] == kept
    nowhere = {**machines.variables, "RAY_ADDRESS": "127.0.0.1:1"}
    again = in_a_process(suite, (*asked, "--emt-device", "cpu"), nowhere)
    assert again.code == 0, "what is stored needs no cluster: " + again.output


@pytest.mark.parametrize(
    "more",
    [
        ("--emt-scorer", "text-embedding,likelihood", "--emt-calibrate", "--emt-repeat", "2"),
        ("--emt-reference", "probe"),
        ("--emt-reference", "llava-mini-forgot"),
        ("--emt-checkpoint", "{adapters}/lora-fashion/checkpoint-*"),
        ("--emt-early-stop",),
    ],
    ids=["text-embedding", "probe", "reference", "checkpoints", "early"],
)
def test_whatever_is_asked_equals_one_process(suite: Path, machines: Machines, more: Sequence[str]) -> None:
    shutil.copy(REPOSITORY / "benchmarks" / "test_trajectory.py", suite)
    adapters = REPOSITORY / "fixtures" / "mini" / "adapters"
    asked = (*ALIKE, "--emt-image-set", "fashion-mini", "--emt-limit", "100", "--emt-store", "off", *more)
    asked = tuple(text.format(adapters=adapters) for text in asked)
    here = in_a_process(suite, asked, ONE_THREAD)
    here_pairs = here.record["pairs"]
    there = in_a_process(suite, (*asked, "--emt-engine", "ray"), machines.variables)
    assert there.code == here.code, there.output + here.output
    assert here_pairs
    for one, other in zip(here_pairs, there.record["pairs"], strict=True):
        own = {"timing", "measurement", "model_facts", "run_id"}
        assert {key: value for key, value in one.items() if key not in own} == {
            key: value for key, value in other.items() if key not in own
        }


def test_there_may_be_no_room(suite: Path, machines: Machines) -> None:
    asked = (
        "--emt-image-set",
        "mnist-mini",
        "--emt-limit",
        "10",
        "--emt-engine",
        "ray",
        "--emt-actor-cpus",
        "64",
        "--emt-actor-wait",
        "3",
    )
    done = in_a_process(suite, (*ALIKE, *asked), machines.variables)
    assert done.code == 3, done.output
    assert "the Ray cluster had no room for an actor with 64 cpus in 3 s; ask for less with" in done.output
    assert done.pair("llava-mini/mnist-mini")["status"] == "could-not-run"


def test_a_node_and_an_actor_may_go(suite: Path, machines: Machines, tmp_path_factory: pytest.TempPathFactory) -> None:
    here = tmp_path_factory.mktemp("here")
    asked = (
        *ALIKE,
        *(text for name in SETS for text in ("--emt-image-set", name)),
        "--emt-limit",
        "300",
        "--emt-scorer",
        "answer,likelihood",
    )
    shutil.copy(suite / "test_forgetting.py", here)
    (here / "pytest.ini").write_text("[pytest]\n")
    serial = in_a_process(here, (*asked, "--emt-store", "off"), ONE_THREAD)
    assert serial.code == 7, serial.output
    started = begun(suite, (*asked, "--emt-engine", "ray", "--emt-store-dir", "kept"), machines.variables)
    until(started, lambda: measured(suite, "mnist-mini") >= 32)
    machines.remove_one()
    until(started, lambda: measured(suite, "fashion-mini") >= 32)
    os.kill(actors()[-1], signal.SIGKILL)
    output, _ = started.communicate(timeout=280)
    away = Run(started.returncode, output, suite)
    assert away.code == serial.code, output
    assert output.count("an actor on") >= 2, output
    for pair in serial.record["pairs"]:
        name = f"llava-mini__{pair['image_set']}.jsonl"
        assert (away.place / "predictions" / name).read_text() == (serial.place / "predictions" / name).read_text()
        mine = away.pair(f"llava-mini/{pair['image_set']}")
        assert mine["comparisons"] == pair["comparisons"]
        assert mine["steps"] == pair["steps"]
        assert mine["replay"]["computed"] == 300
        assert mine["model_facts"]["engine"] == "ray"
    rows = stored_rows(suite / "kept", "answer")
    assert len(rows) == len(set(rows)) == 4 * 300


KILLER = """
import os, signal
from pathlib import Path
from emt_plugin.errors import CouldNotRun
from emt_plugin.models.backend import Backend
from emt_plugin.scoring import Observation

class Killer(Backend):
    def __init__(self, request):
        self.word = request.spec.source.rpartition("/")[2]

    def identity(self):
        return {"weights": self.word}

    @property
    def capabilities(self):
        return frozenset({"answer"})

    def render(self, prompt):
        return prompt

    def observe(self, images, question, want):
        assert self.word != "away" or "raylet" in Path("/proc/%d/cmdline" % os.getppid()).read_text()
        if self.word == "broken":
            raise CouldNotRun("it is broken: mend it")
        if self.word == "deadly" and any(image.tobytes()[:1] for image in images):
            os.kill(os.getpid(), signal.SIGKILL)
        return [Observation(answer="7", new_tokens=1) for _ in images]
"""
CATALOG = "".join(
    f'[models.{name}]\nsource = "{{folder}}/{name}"\nbackend = "killer"\nencoder = "clip-mini"\nimage_sets = ["mnist-mini"]\n'
    for name in ("deadly", "broken", "away")
)


@pytest.fixture
def theirs(suite: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A package with a backend that kills its process, and a catalog with models for it."""
    site = tmp_path_factory.mktemp("site")
    install(site, "killing", KILLER, "pytest_emt.backends", {"killer": "killing:Killer"})
    (suite / "emt.toml").write_text(CATALOG.format(folder=site))
    return site


def test_images_that_kill_two_actors_make_the_pair_crashed(suite: Path, home: Path, theirs: Path) -> None:
    path = os.pathsep.join(filter(None, (str(theirs), os.environ.get("PYTHONPATH"))))
    asked = (
        "--emt-catalog",
        "emt.toml",
        "--emt-model",
        "deadly",
        "--emt-model",
        "broken",
        "--emt-model",
        "away",
        "--emt-limit",
        "40",
    )
    done = in_a_process(
        suite,
        (*ALIKE, *asked, "--emt-engine", "ray", "--emt-actors", "2"),
        {"PYTHONPATH": path, "HOME": str(home), **ONE_THREAD},
    )
    assert done.code == 3, done.output
    deadly, away = done.pair("deadly/mnist-mini"), done.pair("away/mnist-mini")
    assert deadly["status"] == "crashed"
    assert deadly["reason"].startswith("2 actors died while they worked on the same images of deadly")
    broken = done.pair("broken/mnist-mini")
    assert (broken["status"], broken["reason"]) == ("could-not-run", "it is broken: mend it (0 images were measured)")
    assert away["status"] == "measured"
    assert away["n"] == 40
    assert "Traceback" not in done.output


@pytest.mark.parametrize(
    ("arguments", "variables", "code", "sentence"),
    [
        (("-n2",), {}, 4, "--emt-engine ray has its own actors, beside which workers of -n would only wait; leave -n out"),
        (("--emt-actor-gpus", "2"), {}, 4, "a model runs on one GPU; write 1 or a share such as 0.5"),
        (("--emt-actor-cpus", "none"), {}, 4, "--emt-actor-cpus none is not a number of CPUs; write such as 1 or 0.5"),
        (("--emt-device", "cuda:1"), {}, 4, "with --emt-engine ray it is Ray that chooses a GPU; write --emt-device cuda"),
        (
            ("--emt-device", "cpu", "--emt-actor-gpus", "1"),
            {},
            3,
            "--emt-actor-gpus gives actors a GPU and --emt-device cpu none",
        ),
        (
            (),
            {"RAY_ADDRESS": "127.0.0.1:1"},
            3,
            "there is no Ray cluster at 127.0.0.1:1 (Connection refused); start it, or unset",
        ),
        (
            (),
            {"RAY_ADDRESS": "ray://me:secret@127.0.0.1:1"},
            3,
            "there is no Ray cluster at ray://127.0.0.1:1 (Connection refused)",
        ),
        ((), {"RAY_ADDRESS": "nowhere"}, 3, "the Ray address nowhere is none; set RAY_ADDRESS to such as 10.0.0.1:6379"),
    ],
)
def test_what_cannot_be_is_said_in_a_sentence(
    suite: Path, home: Path, arguments: tuple[str, ...], variables: dict[str, str], code: int, sentence: str
) -> None:
    asked = (*ALIKE, "--emt-image-set", "mnist-mini", "--emt-limit", "10", "--emt-engine", "ray", "--emt-store-dir", "kept")
    done = in_a_process(suite, (*asked, *arguments), {"HOME": str(home), **variables})
    assert done.code == code, done.output
    assert sentence in done.output
    assert "Traceback" not in done.output
    assert "secret" not in done.output


def test_actor_options_need_the_engine(suite: Path) -> None:
    done = in_a_process(suite, ("--emt-actors", "2"))
    assert done.code == 4, done.output
    assert "--emt-actors is for --emt-engine ray; add that or leave it out" in done.output


def begun(folder: Path, arguments: Sequence[str], variables: dict[str, str]) -> subprocess.Popen[str]:
    """A run that goes on while the test does."""
    return subprocess.Popen(
        [sys.executable, "-m", "pytest", *arguments],
        cwd=folder, env={**environment(), **variables}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip


def until(started: subprocess.Popen[str], happened: Callable[[], bool], seconds: float = 60) -> None:
    """Wait for something that a run that was begun does."""
    end = time.monotonic() + seconds
    while not happened():
        if time.monotonic() > end:
            started.kill()
        assert started.poll() is None, started.communicate()[0]
        time.sleep(0.05)


def measured(folder: Path, image_set: str) -> int:
    """Images of a set that the newest run's journal has."""
    runs = sorted((folder / "reports").glob("*/journal/*.jsonl"), key=lambda path: path.stat().st_mtime_ns)
    lines = runs[-1].read_text().splitlines() if runs else []
    return sum(line.count('"occurrence"') for line in lines if line.startswith(f'{{"pair": "llava-mini/{image_set}"'))


def actors() -> list[int]:
    """Processes of actors."""
    found = subprocess.run(["pgrep", "-f", "^ray::Holder"], capture_output=True, text=True, check=False)
    return [int(line) for line in found.stdout.split()]


def stored_rows(folder: Path, kind: str) -> list[tuple[str, str]]:
    """Names of all rows of a kind in a store, with their shelf."""
    files = folder.glob(f"1/{kind}/*/*.jsonl")
    return [(file.parent.name, name) for file in files for line in file.read_text().splitlines() for name in names(line)]


def names(line: str) -> list[str]:
    return list(json.loads(line)["rows"])
