"""A real server, ``transformers serve``: what a model says behind it is what it says in this process."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from emt_plugin.catalog import Catalog
from tests.judges import served
from tests.plugin.conftest import Run, in_a_process

pytestmark = [pytest.mark.own_store, pytest.mark.thorough]
MODEL = "llava-mini"


def answers(done: Run, model: str) -> dict[str, str]:
    """What was said of each image."""
    lines = (done.place / "predictions" / f"{model}__mnist-mini.jsonl").read_text().splitlines()
    return {f"{row['image']}:{row['occurrence']}": row["answer"] for row in map(json.loads, lines)}


@pytest.mark.parametrize("n", [24, 1000])
def test_the_answers_are_those_of_the_same_model_in_this_process(
    suite: Path, tmp_path_factory: pytest.TempPathFactory, n: int
) -> None:
    folder = Path(Catalog.load().model(MODEL).source)
    common = ("--emt-image-set", "mnist-mini", "--emt-limit", str(n), "-p", "no:hypothesispytest")
    here = in_a_process(suite, ("--emt-model", MODEL, *common))
    inside = answers(here, MODEL)
    with served(folder, tmp_path_factory.mktemp("server") / "log") as url:
        variables = {"EMT_MODEL_BASE_URL": url, "EMT_MODEL_CONCURRENCY": "2"}
        asked = ("--emt-model", f"endpoint:{folder}", "--emt-encoder", "clip-mini", *common)
        there = in_a_process(suite, asked, variables)
    assert answers(there, MODEL) == inside
    assert len(inside) == n
    assert there.code == here.code in (0, 7), there.output
    comparison, same = (done.pair(f"{MODEL}/mnist-mini")["comparisons"][0] for done in (here, there))
    assert [comparison[name] for name in ("n11", "n10", "n01", "n00")] == [same[name] for name in ("n11", "n10", "n01", "n00")]
