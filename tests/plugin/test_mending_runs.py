"""Mending bundled fine-tuning runs: what is written is what was promised, measured anew on images that did not choose it."""

from __future__ import annotations

import json
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import peft  # noqa: F401  # before any in-process run, which would forget it, and torch's compiler loads only once
import pytest
import torch
from safetensors.torch import load_file, save_file

from emt_plugin.catalog import bundled_folder
from emt_plugin.cli import main
from emt_plugin.stats import PairedCounts, tango_interval
from tests.plugin.conftest import Run, environment

Start = Callable[..., Run]
ADAPTERS = bundled_folder() / "adapters"
LLAVA = bundled_folder() / "models" / "llava-mini"
SETS = ("mnist-mini", "fashion-mini", "digits-mini", "emoji-mini")
TOLERANCE = 0.05
pytestmark = pytest.mark.usefixtures("_imported")


def last(run: str) -> Path:
    return max((ADAPTERS / run).iterdir(), key=lambda path: int(path.name.rpartition("-")[2]))


def mend(*arguments: str) -> int:
    return main(["mend", "--model", "llava-mini", "--store-dir", "store", *arguments])


def record(folder: Path = Path("reports")) -> dict[str, Any]:
    (path,) = folder.glob("*/run.json")
    return json.loads(path.read_text())


def verdict_of(rows: list[dict[str, Any]], reference: str) -> tuple[PairedCounts, float, float, str]:
    """By the plainest count: model and reference right or wrong on the same images."""
    cells = [0, 0, 0, 0]
    for row in rows:
        mine, theirs = row["prediction"] == row["label"], row["references"][reference] == row["label"]
        cells[2 * (not mine) + (not theirs)] += 1
    counts = PairedCounts(*cells)
    low, high = tango_interval(counts, 0.9)
    return counts, low, high, "PASS" if low > -TOLERANCE else "FAIL" if high < -TOLERANCE else "INCONCLUSIVE"


def halves(rows: list[dict[str, Any]]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Different images in the order of the predictions, dealt in turn."""
    order: list[str] = []
    for row in rows:
        if row["image"] not in order:
            order.append(row["image"])
    return tuple([row for row in rows if order.index(row["image"]) % 2 == place] for place in (0, 1))  # type: ignore[return-value]


@pytest.mark.thorough
@pytest.mark.own_store
@pytest.mark.parametrize(("tuned", "domain", "alphas"), [("lora-fashion", "fashion-mini", "0.05,0.1,0.6,1"),
                                                         ("lora-emoji", "emoji-mini", "0.02,0.1,0.5")])  # fmt: skip
def test_a_mended_adapter_keeps_its_promise_on_images_that_did_not_choose_it(
    run: Start, suite: Path, monkeypatch: pytest.MonkeyPatch, tuned: str, domain: str, alphas: str
) -> None:
    from emt_plugin.models.vision.tower import VisionTower

    monkeypatch.chdir(suite)
    seen: list[int] = []
    forward = VisionTower._forward
    monkeypatch.setattr(VisionTower, "_forward", lambda self, images: (seen.append(len(images)), forward(self, images))[1])
    code = mend("--checkpoint", f"{ADAPTERS}/{tuned}/*", "--out", "mended", "--limit", "300", "--alphas", alphas)
    assert code in (0, 7)
    told = json.loads((suite / "mended" / "emt.json").read_text())["mended"]
    made = record()
    (line,) = made["trajectories"]
    images = sum(pair["n"] for pair in made["pairs"] if pair["checkpoint"] is None)
    # Each image of both halves was seen once for the base and all states.
    assert sum(seen) <= 4 * 300
    assert images < sum(seen) <= 2 * images + 2
    shutil.rmtree(suite / "reports")

    gate = ["--emt-model=mended", "--emt-reference", "llava-mini", "--emt-limit", "300", "--emt-store-dir", "fresh"]
    gate += [part for name in SETS for part in ("--emt-image-set", name)]
    again = run(*gate, "--emt-half", "2")
    promised = {promise["image_set"]: promise for promise in told["promise"]}
    assert set(promised) == set(SETS)
    for name in SETS:
        pair, promise = again.pair(f"mended/{name}"), promised[name]
        found = next(one for one in pair["comparisons"] if one["reference"] == {"kind": "model", "id": "llava-mini"})
        assert pair["image_set_facts"]["fingerprint"] == promise["images"]
        assert [found[key] for key in ("gap", "low", "high", "level", "verdict")] == [
            promise[key] for key in ("gap", "low", "high", "level", "verdict")
        ]
        assert promise["trained_on"] == (name == domain)
    assert told["trained_on"] == [domain]
    assert "mended is mended" not in again.output
    outside = {promise["verdict"] for name, promise in promised.items() if name != domain}
    assert code == (0 if outside == {"PASS"} else 7)

    shutil.rmtree(suite / "reports")
    whole = run(*gate)
    assert "mended is mended: images of half 1 may have chosen it, and --emt-half 2 leaves them out" in whole.output
    decided = {(one["alpha"], one["image_set"]): one for one in line["mending"]["decided"]}
    for name in SETS:
        path = whole.place / "predictions" / f"mended__{name}.jsonl"
        first, second = halves([json.loads(row) for row in path.read_text().splitlines()])
        counts, low, high, verdict = verdict_of(second, "model:llava-mini")
        promise = promised[name]
        assert (promise["n"], promise["gap"], promise["low"], promise["high"]) == (counts.n, counts.gap, low, high)
        assert promise["verdict"] == verdict
        counts, low, high, verdict = verdict_of(first, "model:llava-mini")
        choice = decided[told["alpha"], name]
        assert (choice["n"], choice["change"]["value"], choice["change"]["low"]) == (counts.n, counts.gap, low)
        assert choice["verdict"] == verdict
        assert not {row["image"] for row in first} & {row["image"] for row in second}

    # The walk, again: up to the chosen alpha all pass outside the domain, and at the one behind it something does not.
    passing = []
    for alpha in map(float, alphas.split(",")):
        if any(decided[alpha, name]["verdict"] != "PASS" for name in SETS if name != domain):
            break
        passing.append(alpha)
    assert told["alpha"] == passing[-1] == line["mending"]["alpha"]
    assert line["states"][line["keep"]["kept"]]["alpha"] == told["alpha"]


@pytest.mark.own_store
def test_where_no_alpha_helps_nothing_is_written(
    suite: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(suite)
    code = mend("--checkpoint", str(last("lora-fashion")), "--out", "deep/mended", "--limit", "60", "--alphas", "0.9,1",
                "--image-set", "mnist-mini")  # fmt: skip
    assert code == 1
    said = capsys.readouterr().out
    assert "No alpha helps: already at the smallest, 0.9, mnist-mini is FAIL" in said
    assert "exit code: 1" in said
    assert not (suite / "deep").exists()
    (line,) = record()["trajectories"]
    assert (line["mending"]["alpha"], line["mending"]["written"], line["keep"]["kept"]) == (None, False, 0)
    (page,) = suite.glob("reports/*/report.html")
    text = page.read_text()
    assert "alpha 0.9" in text
    assert "no state between the base and lora-fashion/checkpoint-564 passes" in (page.parent / "summary.md").read_text()
    assert record()["exit_code"] == 1


@pytest.fixture(scope="module")
def whole_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole tuned model: another projector, stored in float32, without a word of how it was trained."""
    folder = tmp_path_factory.mktemp("whole") / "model"
    shutil.copytree(LLAVA, folder)
    torch.manual_seed(3)
    found = {name: tensor.float() for name, tensor in load_file(LLAVA / "model.safetensors").items()}
    found |= {name: tensor + 0.05 * torch.randn_like(tensor) for name, tensor in found.items() if "projector" in name}
    save_file(found, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


SMALL = ("--limit", "60", "--alphas", "0.001,0.002", "--image-set", "digits-mini", "--trained-on", "fashion-mini")


@pytest.mark.thorough
@pytest.mark.own_store
def test_a_whole_model_is_mended_and_gated_as_one(
    run: Start, suite: Path, monkeypatch: pytest.MonkeyPatch, whole_model: Path
) -> None:
    monkeypatch.chdir(suite)
    (suite / "mended").mkdir()
    assert mend("--checkpoint", str(whole_model), "--out", "mended", *SMALL, "--tolerance", "0.1") in (0, 7)
    told = json.loads((suite / "mended" / "emt.json").read_text())["mended"]
    base, tuned, made = (load_file(folder / "model.safetensors") for folder in (LLAVA, whole_model, suite / "mended"))
    for name, here in base.items():
        expected = here.float() + told["alpha"] * (tuned[name] - here.float())
        assert torch.allclose(made[name], expected, rtol=1e-6, atol=1e-8)
    shutil.rmtree(suite / "reports")
    card = (suite / "mended" / "README.md").read_text()
    (command,) = (line for line in card.splitlines() if line.startswith("    pytest benchmarks "))
    again = run(*command.replace("DIR", "mended").split()[2:], "--emt-store-dir=fresh")
    assert command.split()[3:] == ["--emt-reference=llava-mini", "--emt-limit=60", "--emt-image-set=digits-mini",
                                   "--emt-image-set=fashion-mini", "--emt-tolerance=0.1", "--emt-half=2"]  # fmt: skip
    (promise,) = (promise for promise in told["promise"] if promise["image_set"] == "digits-mini")
    found = again.pair("mended/digits-mini")["comparisons"][-1]
    assert (found["gap"], found["low"], found["verdict"]) == (promise["gap"], promise["low"], promise["verdict"])


@pytest.mark.thorough
def test_a_full_disk_leaves_nothing(suite: Path, whole_model: Path) -> None:
    most = 4_000_000
    done = subprocess.run(
        [sys.executable, "-m", "emt_plugin.cli", "mend", "--model", "llava-mini", "--checkpoint", str(whole_model), "--out",
         "deep/mended", "--store-dir", "store", *SMALL],
        cwd=suite, env=environment(), capture_output=True, text=True, check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (most, most)),
    )  # fmt: skip
    assert done.returncode == 3, done.stdout + done.stderr
    assert done.stderr.startswith("emt: deep/mended cannot be written (")
    assert "nothing is left of it: make room, or name another place with --out" in done.stderr
    assert "Traceback" not in done.stderr
    assert {path.name for path in suite.iterdir()} <= {"store", "test_forgetting.py", "pytest.ini", ".cache"}


def foreign(folder: Path) -> Path:
    """An adapter that does not say what it was trained on."""
    shutil.copytree(last("lora-emoji"), folder)
    (folder / "emt.json").unlink()
    return folder


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("--checkpoint", "{fashion}", "--alphas", "0.5,0.2"), 4, "is no list of ascending numbers in (0, 1]"),
        (("--checkpoint", "{fashion}", "--alphas", "0,1"), 4, "is no list of ascending numbers in (0, 1]"),
        (("--checkpoint", "{fashion}", "--alphas", "0.5,1.5"), 4, "is no list of ascending numbers in (0, 1]"),
        (("--checkpoint", "{fashion}", "--alphas", "half"), 4, "is no list of ascending numbers in (0, 1]"),
        (("--checkpoint", "{fashion}", "--alphas", "nan"), 4, "is no list of ascending numbers in (0, 1]"),
        (("--checkpoint", "{fashion}", "--alphas", ""), 4, "is no list of ascending numbers in (0, 1]"),
        (("--checkpoint", "{fashion}", "--limit", "0"), 4, "--limit 0 is not a number of images"),
        (("--checkpoint", "{fashion}", "--tolerance", "5"), 4, "write 0.05 for 5 points"),
        (("--checkpoint", "{fashion}", "--image-set", "fashion-mini"), 4, "no image set outside the domain (fashion-mini)"),
        (("--checkpoint", "{fashion}", "--image-set", "fasion"), 4, "unknown image set 'fasion'"),
        (("--checkpoint", "{fashion}", "--out", "{fashion}"), 4, "is there already; name another folder with --out"),
        (("--checkpoint", "nowhere/*"), 4, "--checkpoint 'nowhere/*' matches nothing"),
        (("--checkpoint", "{adapters}/*/*"), 4, "matches checkpoints of 6 runs; name those of one run"),
        (("--checkpoint", "{foreign}"), 4, "does not say what it was trained on"),
        (("--checkpoint", "{fashion}", "--model", "{fashion}"), 4, "is an adapter, between which and a checkpoint"),
        (("--checkpoint", "{fashion}", "--model", "llava-mini-forgot"), 3, "was trained on other weights than those of"),
        (("--checkpoint", "{clip}", "--trained-on", "fashion-mini"), 3, "is no checkpoint of llava-mini: its architectures is"),
        (("--checkpoint", "{fashion}", "--model", "endpoint:x"), 4, "is behind an endpoint"),
    ],
)
def test_mistakes_are_one_sentence_and_nothing_is_written(
    suite: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: Any, code: int, said: str
) -> None:
    monkeypatch.chdir(suite)
    before = {path.name for path in suite.iterdir()}
    places = {
        "fashion": last("lora-fashion"), "adapters": ADAPTERS, "clip": bundled_folder() / "models" / "clip-mini",
        "foreign": foreign(suite.parent / "foreign") if "{foreign}" in arguments else "",
    }  # fmt: skip
    assert mend(*(part.format(**places) for part in arguments)) == code
    told = capsys.readouterr().err
    assert said in told
    assert told.count("\n") == 1
    assert {path.name for path in suite.iterdir()} == before
