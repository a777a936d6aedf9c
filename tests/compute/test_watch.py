"""`emt finetune --watch`: the same checkpoints as without, stopped where it forgets, and losses that are logged."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from emt_plugin.catalog import Catalog
from emt_plugin.cli import main
from emt_plugin.finetune import FinetuneSettings, Watch, finetune
from tests.compute.test_callback import curves

pytestmark = pytest.mark.usefixtures("one_thread")
SMALL = ("--model", "llava-mini", "--image-set", "fashion-mini", "--device", "cpu", "--limit", "4", "--epochs", "2",
         "--rank", "4", "--batch-size", "8")  # fmt: skip
WATCHED = ("--watch", "mnist-mini", "fashion-mini", "--watch-images", "16", "--watch-every", "1/2")


def run(out: Path, *more: str) -> int:
    return main(["finetune", *SMALL, "--out", str(out), *more])


def weights(out: Path) -> dict[str, dict[str, torch.Tensor]]:
    return {path.name: load_file(path / "adapter_model.safetensors") for path in sorted(out.glob("checkpoint-*"))}


def history(checkpoint: Path) -> list[dict[str, Any]]:
    return list(json.loads((checkpoint / "trainer_state.json").read_text())["log_history"])


@pytest.mark.thorough
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_checkpoints_are_the_same_and_losses_are_logged(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(tmp_path / "plain", "--logging-steps", "2") == 0
    assert run(tmp_path / "watched", "--logging-steps", "2", "--report-to", "tensorboard", *WATCHED) == 0
    plain, watched = weights(tmp_path / "plain"), weights(tmp_path / "watched")
    assert plain.keys() == watched.keys() == {"checkpoint-5", "checkpoint-10"}
    for name, tensors in plain.items():
        assert all(torch.equal(tensor, watched[name][key]) for key, tensor in tensors.items())
        assert (tmp_path / "plain" / name / "emt.json").read_text() == (tmp_path / "watched" / name / "emt.json").read_text()
    losses = [(entry["step"], entry["loss"]) for entry in history(tmp_path / "plain" / "checkpoint-10") if "loss" in entry]
    assert [step for step, _ in losses] == [2, 4, 6, 8, 10]
    drawn = curves(tmp_path / "watched")
    assert drawn["train/loss"] == [(step, pytest.approx(loss, abs=1e-6)) for step, loss in losses]
    # Half of an epoch of five steps ends in the third.
    assert [step for step, _ in drawn["train/emt/mnist-mini/gap"]] == [0, 3, 5, 8, 10]
    assert re.search(r"after 8 steps, points since step 0: mnist-mini [-+]\d+\.\d, fashion-mini ", capsys.readouterr().out)
    looks = json.loads((tmp_path / "watched" / "emt-looks.json").read_text())
    assert looks["watched"]["outside"] == ["mnist-mini"]


@pytest.mark.thorough
def test_a_run_that_forgets_is_stopped_and_may_be_gone_on_with(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    forgetful = ("--learning-rate", "0.05", "--watch-stop", *WATCHED)
    assert run(tmp_path / "run", *forgetful) == 0
    said = capsys.readouterr().out
    (step,) = map(int, re.findall(r"training stops after (\d+) steps: mnist-mini lost more than 0.05", said))
    assert step < 10
    assert max(weights(tmp_path / "run"), key=lambda name: int(name.partition("-")[2])) == f"checkpoint-{step}"
    assert run(tmp_path / "run", *forgetful) == 0
    assert (
        f"is complete: training was stopped after {step} steps; go on from there without --watch-stop"
        in capsys.readouterr().out
    )
    assert run(tmp_path / "run", "--learning-rate", "0.05", *WATCHED) == 0
    assert f"going on from checkpoint-{step}" in capsys.readouterr().out
    assert run(tmp_path / "straight", "--learning-rate", "0.05") == 0
    straight, gone_on = (weights(tmp_path / name)["checkpoint-10"] for name in ("straight", "run"))
    assert all(torch.equal(tensor, gone_on[key]) for key, tensor in straight.items())
    looks = json.loads((tmp_path / "run" / "emt-looks.json").read_text())
    assert [look["step"] for look in looks["looks"]] == [3, 5, 8, 10]
    assert looks["stopped"] is None


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (("--watch-stop",), "--watch-stop needs image sets to look at: name them with --watch"),
        (("--watch", "mnst-mini"), "mnst-mini"),
        (("--watch", "mnist-mini", "--watch-every", "0"), "every=0 never looks"),
        (("--watch", "mnist-mini", "--watch-tolerance", "5"), "write 0.05"),
        (("--watch", "fashion-mini", "--watch-stop"), "stop=True needs an image set outside the domain"),
        (("--report-to", "tensorbord"), "--report-to tensorbord cannot be had: tensorbord is not supported, only "),
        (("--logging-steps", "0"), "batch sizes, limits and steps are whole numbers of at least 1"),
    ],
)
def test_what_means_nothing_is_one_sentence(
    given: Sequence[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(tmp_path / "out", *given) == 1
    error = capsys.readouterr().err
    assert said in error
    assert error.startswith("emt: ")
    assert error.count("\n") == 1
    assert not list((tmp_path / "out").glob("checkpoint-*"))


@pytest.mark.thorough
def test_in_half_precision_it_is_watched_too(tmp_path: Path) -> None:
    catalog = Catalog.load()
    said: list[str] = []
    finetune(
        catalog.model("llava-mini"), catalog.image_set("fashion-mini"), tmp_path,
        FinetuneSettings(limit=4, epochs=1, batch_size=20, rank=2), "bfloat16", "cpu", said.append,
        Watch((catalog.image_set("mnist-mini"),), every=1, images=16),
    )  # fmt: skip
    assert sum("points since step 0" in line for line in said) == 2
