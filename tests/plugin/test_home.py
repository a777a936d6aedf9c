"""Where a run's files go and whose settings it reads, where a path among the options leads pytest elsewhere."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest

from emt_plugin.catalog import bundled_folder
from tests.plugin.conftest import GATE, Run, in_a_process

LLAVA = bundled_folder() / "models" / "llava-mini"
FEW = ("--emt-image-set", "mnist-mini", "--emt-limit", "4", "--emt-store", "off")


def started(folder: Path, *arguments: str) -> Run:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "test_forgetting.py").write_text(GATE, encoding="utf-8")
    return in_a_process(folder, ["-p", "no:cacheprovider", *arguments, *FEW])


@pytest.mark.thorough
@pytest.mark.parametrize("settings", ["none", "theirs", "mine"])
def test_a_run_writes_where_it_was_started(tmp_path: Path, settings: str) -> None:
    mine, other = tmp_path / "mine", tmp_path / "other"
    model = Path(shutil.copytree(LLAVA, other / "models" / "it"))
    mine.mkdir()
    said = ""
    if settings != "none":
        path = {"theirs": other, "mine": mine}[settings] / "pytest.ini"
        path.write_text("[pytest]\n")
        said = f"its settings from {path}" if settings == "theirs" else f"no settings, not those in {path}"
    run = started(mine, "--emt-model", str(model))
    assert run.code == 7, run.output
    assert run.record["pairs"]
    assert [folder.parent for folder in tmp_path.rglob("reports")] == [mine]
    assert ("for a path stands alone among the options" in run.output) == bool(said)
    assert said in run.output


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--emt-model", str(LLAVA / "config.json")), "it is a file; name the folder that it lies in"),
        (("--emt-model=llava-mini", "--emt-revision", "v2"), "--emt-revision v2 is of a hub's repository"),
    ],
)
def test_what_means_nothing_is_refused(tmp_path: Path, arguments: Sequence[str], says: str) -> None:
    run = started(tmp_path / "mine", *arguments)
    assert run.code == 4
    assert says in run.output
    assert not (run.folder / "reports").exists()
