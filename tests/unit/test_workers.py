"""Devices, leases and groups of tests, without any worker."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from emt_plugin.errors import CouldNotRun
from emt_plugin.evaluation import leases
from emt_plugin.pytest_plugin.workers.scheduler import groups
from emt_plugin.session.devices import cores, visible_gpus, worker_environment


def test_gpus_are_dealt_in_turn_from_the_users_own_list() -> None:
    gpus = visible_gpus({"CUDA_VISIBLE_DEVICES": "2, 5"})
    dealt = [worker_environment(index, 3, gpus, {})["CUDA_VISIBLE_DEVICES"] for index in range(3)]
    assert dealt == ["2", "5", "2"]


def test_no_gpu_is_dealt_where_the_user_hides_them() -> None:
    assert visible_gpus({"CUDA_VISIBLE_DEVICES": ""}) == []
    assert visible_gpus({"CUDA_VISIBLE_DEVICES": "-1"}) == []


def test_cores_are_shared_out_unless_the_user_did() -> None:
    assert worker_environment(0, 1, [], {}) == {"OMP_NUM_THREADS": str(cores())}
    assert worker_environment(0, 1000, [], {}) == {"OMP_NUM_THREADS": "1"}
    assert worker_environment(0, 2, [], {"OMP_NUM_THREADS": "7"}) == {}


def ids(*pairs: str) -> list[str]:
    return [f"benchmarks/test_forgetting.py::test_forgetting[{pair}]" for pair in pairs]


FOUR = [f"m{model}/s{image_set}" for model in range(4) for image_set in range(4)]


def test_as_many_models_as_workers_keep_their_pairs_together() -> None:
    models = {pair: pair.partition("/")[0] for pair in FOUR}
    found = groups(ids(*FOUR), models, 2)
    assert len(set(found.values())) == 4
    assert all(found[nodeid].startswith(nodeid.partition("[")[2][:2]) for nodeid in found)


@pytest.mark.parametrize(("workers", "sizes"), [(4, [1, 1, 1, 1]), (3, [2, 1, 1]), (2, [2, 2]), (8, [1, 1, 1, 1]), (1, [4])])
def test_one_model_is_dealt_to_all_workers(workers: int, sizes: list[int]) -> None:
    pairs = FOUR[:4]
    found = list(groups(ids(*pairs), dict.fromkeys(pairs, "m0"), workers).values())
    assert sorted((found.count(group) for group in set(found)), reverse=True) == sizes


def test_tests_without_a_pair_are_left_alone() -> None:
    assert groups(["tests/test_a.py::test_a", "tests/test_a.py::test_b[x]"], {"m/s": "m"}, 2) == {}


def take(folder: Path, size: int, budget: int, said: list[str], wait: float = 20) -> leases.Lease:
    return leases.take("cpu", size, budget, "model", said.append, folder, wait)


def test_a_model_that_never_fits_says_needed_and_free(tmp_path: Path) -> None:
    with pytest.raises(CouldNotRun, match=r"needs 1\.2 kB, and cpu has 1 kB for models; use a larger device"):
        take(tmp_path, 1000, 1000, [])


def test_a_second_model_waits_says_so_once_and_goes_on(tmp_path: Path) -> None:
    first = take(tmp_path, 500, 1000, [])
    said: list[str] = []
    got: list[leases.Lease] = []
    waiting = threading.Thread(target=lambda: got.append(take(tmp_path, 500, 1000, said)))
    waiting.start()
    time.sleep(3 * leases.POLL_SECONDS)
    assert not got
    first.release()
    waiting.join(timeout=20)
    assert got
    assert len(said) == 1
    assert "waits for memory" in said[0]


def test_two_that_fit_do_not_wait(tmp_path: Path) -> None:
    said: list[str] = []
    take(tmp_path, 400, 1000, said)
    take(tmp_path, 400, 1000, said)
    assert not said


def test_waiting_ends(tmp_path: Path) -> None:
    take(tmp_path, 800, 1000, [])
    with pytest.raises(CouldNotRun, match="waited"):
        take(tmp_path, 800, 1000, [], wait=0)


def test_a_dead_process_leaves_no_lease(tmp_path: Path) -> None:
    code = (
        "import os, sys; from pathlib import Path; from emt_plugin.evaluation import leases; "
        f"leases.take('cpu', 800, 1000, 'm', print, Path({str(tmp_path)!r})); os._exit(0)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    assert json.loads(leases.ledger_path("cpu", tmp_path).read_text())
    said: list[str] = []
    take(tmp_path, 800, 1000, said)
    assert not said


def test_releasing_twice_gives_back_once(tmp_path: Path) -> None:
    first = take(tmp_path, 400, 1000, [])
    second = take(tmp_path, 400, 1000, [])
    first.release()
    first.release()
    assert sum(json.loads(leases.ledger_path("cpu", tmp_path).read_text()).values()) == second.size
