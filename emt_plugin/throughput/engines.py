"""The same pairs by workers of pytest-xdist and by actors of a Ray cluster, each as a run of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PAIRS = ("mnist-mini", "fashion-mini")
IMAGES = 1000
WAYS = {
    "workers": ("-n", "2"),
    "actors": ("--emt-engine", "ray", "--emt-actors", "2"),
}


@dataclass(frozen=True)
class Runs:
    """What two ways of running the same pairs took.

    Attributes:
        seconds: of the wall clock, by way, the start of processes and of the cluster included.
        measuring: of the wall clock from a pair's first image to its last, summed over pairs; workers measure theirs at once.
        verdicts: by way.
    """

    seconds: Mapping[str, float]
    measuring: Mapping[str, float]
    verdicts: Mapping[str, Sequence[Any]]

    def as_record(self) -> dict[str, Any]:
        """Plain data, for ``extra_info``."""
        return {
            "wall_seconds": dict(self.seconds),
            "measuring_wall_seconds": dict(self.measuring),
            "images": IMAGES * len(PAIRS),
            "pairs": len(PAIRS),
        }


def engines(folder: Path, benchmarks: Path) -> Runs:
    """Gate the bundled model in both ways, one after the other, nothing stored.

    Args:
        folder: where the runs write.
        benchmarks: the suite's own tests.
    """
    seconds, measuring, verdicts = {}, {}, {}
    for way, options in WAYS.items():
        before = time.perf_counter()
        record = _run(folder / way, benchmarks, options)
        seconds[way] = time.perf_counter() - before
        measuring[way] = sum(pair["timing"]["wall_seconds"] for pair in record["pairs"])
        verdicts[way] = [pair["comparisons"] for pair in record["pairs"]]
    return Runs(seconds, measuring, verdicts)


def _run(folder: Path, benchmarks: Path, options: Sequence[str]) -> Any:
    sets = [text for name in PAIRS for text in ("--emt-image-set", name)]
    common = ("--emt-model", "llava-mini", "--emt-limit", str(IMAGES), "--emt-batch-size", "16", "--emt-store", "off")
    # One core for each worker, as for each actor.
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    subprocess.run(
        [sys.executable, "-m", "pytest", str(benchmarks / "test_forgetting.py"), *common, *sets, *options,
         "--emt-reports", str(folder), "-q"],
        env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False,
    )  # fmt: skip
    (found,) = folder.glob("*/run.json")
    return json.loads(found.read_text(encoding="utf-8"))
