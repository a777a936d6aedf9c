"""Whole runs along a fine-tuning run: verdicts, the checkpoint to keep and the metrics, counted again from the predictions."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from emt_plugin.catalog import bundled_folder
from emt_plugin.cli import main
from emt_plugin.stats import PairedCounts, tango_interval
from tests.plugin.conftest import REPOSITORY, Run

Start = Callable[..., Run]
ADAPTERS = bundled_folder() / "adapters"
LORA = ADAPTERS / "lora-fashion"
SETS = ("mnist-mini", "fashion-mini", "digits-mini", "emoji-mini")


@pytest.fixture(autouse=True)
def _with_trajectories(suite: Path) -> None:
    shutil.copy(REPOSITORY / "benchmarks" / "test_trajectory.py", suite)


def rows_of(done: Run, model: str, image_set: str) -> list[dict[str, Any]]:
    path = done.place / "predictions" / f"{model}__{image_set}.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()]


def steps_of(folder: Path) -> list[int]:
    return sorted(json.loads((path / "emt.json").read_text())["step"] for path in folder.iterdir())


@pytest.mark.thorough
@pytest.mark.parametrize("workers", [(), ("-n2",)], ids=["serial", "n2"])
def test_each_checkpoint_has_the_verdict_of_an_independent_recount(run: Start, workers: tuple[str, ...]) -> None:
    done = run(f"--emt-checkpoint={LORA}/*", "--emt-limit", "150", *workers)
    assert done.code in (0, 1, 7), done.output
    record = done.record
    assert record["complete"]
    names = ["llava-mini", *(f"llava-mini@checkpoint-{step}" for step in steps_of(LORA))]
    assert [f"{pair['model']}@{pair['checkpoint']}" if pair["checkpoint"] else pair["model"] for pair in record["pairs"]] == [
        name for name in names for _ in SETS
    ]
    assert "test_forgetting.py" not in done.output

    tolerance, verdicts = 0.05, {}
    base = {image_set: {row["image"]: row["correct"] for row in rows_of(done, "llava-mini", image_set)} for image_set in SETS}
    for pair in record["pairs"]:
        name = f"{pair['model']}@{pair['checkpoint']}" if pair["checkpoint"] else pair["model"]
        rows = rows_of(done, name, pair["image_set"])
        right = [row["prediction"] == row["label"] for row in rows]
        before = [base[pair["image_set"]][row["image"]] for row in rows]
        counts = PairedCounts(
            sum(a and b for a, b in zip(right, before, strict=True)),
            sum(a and not b for a, b in zip(right, before, strict=True)),
            sum(b and not a for a, b in zip(right, before, strict=True)),
            sum(not a and not b for a, b in zip(right, before, strict=True)),
        )
        low, high = tango_interval(counts, 0.9)
        verdict = "PASS" if low > -tolerance else "FAIL" if high < -tolerance else "INCONCLUSIVE"
        gate = pair["comparisons"][pair["gate"]]
        assert gate["reference"] == {"kind": "checkpoint", "id": "llava-mini"}
        assert (gate["n11"], gate["n10"], gate["n01"], gate["n00"]) == (counts.both, counts.only_model, counts.only_reference,
                                                                        counts.neither)  # fmt: skip
        assert gate["verdict"] == verdict
        assert {comparison["reference"]["kind"] for comparison in pair["comparisons"]} == {"encoder", "checkpoint"}
        verdicts.setdefault(pair["checkpoint"], {})[pair["image_set"]] = verdict

    kept = 0
    for index, state in enumerate(verdicts.values()):
        if index and any(verdict != "PASS" for name, verdict in state.items() if name != "fashion-mini"):
            break
        kept = index
    (found,) = record["trajectories"]
    assert (found["keep"]["kept"], found["trained_on"], found["method"]) == (kept, ["fashion-mini"], "lora")
    assert [state["step"] for state in found["states"]] == [0, *steps_of(LORA)]
    for state in found["states"]:
        for cell in state["cells"]:
            name = f"llava-mini@{state['checkpoint']}" if state["checkpoint"] else "llava-mini"
            rows = rows_of(done, name, cell["image_set"])
            assert cell["correct"] == sum(row["prediction"] == row["label"] for row in rows)
    last = found["states"][-1]
    elsewhere = [cell["correct"] / cell["n"] - base_cell["correct"] / base_cell["n"]
                 for cell, base_cell in zip(last["cells"], found["states"][0]["cells"], strict=True)
                 if cell["image_set"] != "fashion-mini"]  # fmt: skip
    assert last["elsewhere"]["value"] == pytest.approx(sum(elsewhere) / 3)
    assert "Keep " in done.output or "Stop at " in done.output
    page = (done.place / "report.html").read_text()
    assert "Along the training" in page
    assert page.count("<polyline") == 4
    assert "lora-fashion" in (done.place / "summary.md").read_text()


@pytest.mark.thorough
def test_two_runs_at_once_have_names_that_tell_them_apart(run: Start, tmp_path: Path) -> None:
    done = run(
        f"--emt-checkpoint={LORA}/*", f"--emt-checkpoint={ADAPTERS}/linear-emoji/*",
        "--emt-limit", "20", "--emt-image-set", "emoji-mini", "--emt-image-set", "mnist-mini",
    )  # fmt: skip
    assert [found["name"] for found in done.record["trajectories"]] == ["linear-emoji", "lora-fashion"]
    # The domain of one is elsewhere for the other; what was not evaluated is in no domain.
    assert [found["trained_on"] for found in done.record["trajectories"]] == [["emoji-mini"], []]
    assert any(pair["checkpoint"] == f"lora-fashion.checkpoint-{steps_of(LORA)[0]}" for pair in done.record["pairs"])
    document = tmp_path / "study.md"
    in_full = "<!-- study in full: written by `emt study` -->\nold\n<!-- /study in full -->\n"
    document.write_text(f"before\n<!-- study: written by `emt study` -->\nold\n<!-- /study -->\nafter\n{in_full}")
    assert main(["study", str(done.place), "--write", str(document)]) == 0
    text = document.read_text()
    assert text.startswith("before\n<!-- study")
    assert "| emoji-mini | linear |" in text.split("<!-- study in full")[0]
    assert "### linear-emoji" in text.split("<!-- study in full")[1]
    assert "old" not in text


@pytest.mark.thorough
def test_the_tower_sees_each_image_once_for_all_checkpoints(run: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    from emt_plugin.models.vision.tower import VisionTower

    seen: list[int] = []
    forward = VisionTower._forward
    monkeypatch.setattr(VisionTower, "_forward", lambda self, images: (seen.append(len(images)), forward(self, images))[1])
    done = run(f"--emt-checkpoint={LORA}/*", "--emt-limit", "30", "--emt-image-set", "emoji-mini", "--emt-store-dir", "fresh")
    assert len(done.record["pairs"]) == 6
    assert sum(seen) == 30


def test_one_adapter_is_a_model(run: Start) -> None:
    last = LORA / f"checkpoint-{steps_of(LORA)[-1]}"
    done = run(f"--emt-model={last}", "--emt-image-set", "fashion-mini", "--emt-limit", "60")
    (pair,) = done.record["pairs"]
    assert (pair["model"], pair["checkpoint"], pair["status"]) == (last.name, None, "measured")
    assert pair["encoder"]["own"]
    along = run(f"--emt-checkpoint={last}", "--emt-image-set", "fashion-mini", "--emt-limit", "60")
    assert along.record["pairs"][1]["scores"][0]["correct"] == pair["scores"][0]["correct"]
    assert along.record["trajectories"][0]["states"][1]["checkpoint"] == last.name


def test_a_checkpoint_of_another_base_could_not_run(run: Start) -> None:
    done = run(
        f"--emt-checkpoint={LORA}/*", "--emt-model", "llava-mini-forgot", "--emt-image-set", "emoji-mini", "--emt-limit", "20"
    )
    assert done.code == 3, done.output
    assert "was trained on other weights than those of" in done.output
    assert [pair["status"] for pair in done.record["pairs"]] == ["measured", *["could-not-run"] * 5]
    # What follows a checkpoint that was not measured is no trajectory.
    assert len(done.record["trajectories"][0]["states"]) == 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--emt-checkpoint=nothing/*",), "--checkpoint 'nothing/*' matches nothing"),
        (("--emt-checkpoint", f"{LORA}/*", "--emt-model", "llava-mini", "--emt-model", "llava-mini-forgot"), "name one model"),
        (("--emt-checkpoint", f"{LORA}/*", "--emt-reference", "llava-mini-forgot"), "leave --emt-reference out"),
        (("--emt-trained-on", "fashion-mini"), "name those with --emt-checkpoint"),
        (("--emt-checkpoint", f"{LORA}/*", "--emt-trained-on", "fashoin-mini"), "did you mean 'fashion-mini'"),
    ],
)
def test_a_question_that_means_nothing_is_a_usage_error(run: Start, arguments: tuple[str, ...], said: str) -> None:
    done = run(*arguments)
    assert done.code == 4, done.output
    assert said in done.output


def test_what_is_trained_on_can_be_said(run: Start, suite: Path) -> None:
    copied = suite / "mine" / "checkpoint-9"
    shutil.copytree(LORA / f"checkpoint-{steps_of(LORA)[0]}", copied)
    (copied / "emt.json").unlink()
    common = ("--emt-checkpoint=mine/*", "--emt-image-set", "emoji-mini", "--emt-image-set", "mnist-mini", "--emt-limit", "20")
    unsaid = run(*common)
    assert "every image set counts; --emt-trained-on names it" in unsaid.output
    said = run(*common, "--emt-trained-on", "emoji-mini")
    assert said.record["trajectories"][0]["trained_on"] == ["emoji-mini"]
    (copied / "trainer_state.json").unlink()
    stepless = run(*common)
    assert stepless.code == 4
    assert "does not say after which step it was saved" in stepless.output


def copied(to: Path, *steps: int) -> Path:
    """Some checkpoints of a bundled run, in a folder of one's own."""
    for step in steps:
        shutil.copytree(ADAPTERS / "linear-mnist" / f"checkpoint-{step}", to / f"checkpoint-{step}")
    return to


@pytest.mark.thorough
def test_a_torn_checkpoint_ends_what_is_recommended_and_hides_nothing(run: Start, suite: Path) -> None:
    steps = steps_of(ADAPTERS / "linear-mnist")
    mine = copied(suite / "mine", *steps[:3])
    (mine / f"checkpoint-{steps[1]}" / "adapter_model.safetensors").write_bytes(b"torn")
    done = run("--emt-checkpoint=mine/*", "--emt-image-set", "digits-mini", "--emt-limit", "200")
    assert done.code == 3, done.output
    assert f"llava-mini@checkpoint-{steps[1]}: the adapter in" in done.output
    (found,) = done.record["trajectories"]
    # The third was measured and is shown; only the first may be kept.
    assert [state["step"] for state in found["states"]] == [0, steps[0], steps[2]]
    assert found["unmeasured"] == [f"checkpoint-{steps[1]}"]
    assert (found["keep"]["kept"], found["keep"]["stopped_at"]) == (1, None)
    assert f"Keep no later one than epoch 0.13 (checkpoint-{steps[0]})" in done.output
    assert f"checkpoint-{steps[1]} was not measured on all image sets" in done.output
    assert "the only checkpoint" not in done.output


def test_without_its_base_there_is_no_trajectory_and_a_word_about_it(run: Start) -> None:
    step = steps_of(ADAPTERS / "linear-mnist")[0]
    common = (
        f"--emt-checkpoint={ADAPTERS}/linear-mnist/checkpoint-{step}",
        "--emt-image-set",
        "digits-mini",
        "--emt-limit",
        "60",
    )
    done = run(*common, "-k", f"checkpoint-{step}")
    assert done.record["trajectories"] == []
    assert "no trajectory is drawn: the base was not measured" in done.output
    assert f"llava-mini@checkpoint-{step}/digits-mini" in done.output


def test_the_base_against_itself_passes_on_any_number_of_images(run: Start) -> None:
    step = steps_of(ADAPTERS / "linear-emoji")[0]
    done = run(
        f"--emt-checkpoint={ADAPTERS}/linear-emoji/checkpoint-{step}", "--emt-image-set", "digits-mini", "--emt-limit", "10"
    )
    base, tuned = (pair["comparisons"][pair["gate"]] for pair in done.record["pairs"])
    assert (base["verdict"], base["low"], base["high"], base["p_holm"]) == ("PASS", 0, 0, None)
    # Holm's family is the one checkpoint alone.
    assert tuned["p_holm"] == pytest.approx(tuned["p"])


def test_where_nothing_outside_the_domain_is_evaluated_nothing_is_recommended(run: Start) -> None:
    done = run(f"--emt-checkpoint={LORA}/*", "--emt-image-set", "fashion-mini", "--emt-limit", "30")
    assert done.record["trajectories"][0]["keep"] is None
    assert "No image set outside the domain was evaluated, so none is recommended." in done.output
    assert "<- keep" not in done.output


def test_a_model_of_another_architecture_is_no_checkpoint(run: Start, suite: Path) -> None:
    from tests.checkpoints import Recipe, save_llava

    save_llava(Recipe("other"), suite / "run" / "checkpoint-5")
    (suite / "run" / "checkpoint-5" / "trainer_state.json").write_text('{"global_step": 5, "epoch": 1.0}')
    done = run("--emt-checkpoint=run/*", "--emt-image-set", "digits-mini", "--emt-limit", "20")
    assert done.code == 3, done.output
    assert "llava-mini@checkpoint-5 is no checkpoint of llava-mini: its text_config." in done.output


def test_accepted_losses_do_not_move_the_checkpoint_to_keep(run: Start, suite: Path) -> None:
    step = steps_of(LORA)[0]
    (suite / "mine.toml").write_text(
        "[reference.checkpoint]\ntolerance = 0.05\n"
        f'[reference.checkpoint.pair."llava-mini@checkpoint-{step}/emoji-mini"]\naccepted_loss = 0.6\n'
    )
    common = (f"--emt-checkpoint={LORA}/checkpoint-{step}", "--emt-image-set", "emoji-mini", "--emt-limit", "150")
    done = run(*common, "--emt-tolerances", "mine.toml")
    assert done.code == 0, done.output
    assert "PASS (accepted 0.6, policy 0.05)" in done.output
    assert done.record["trajectories"][0]["keep"]["kept"] == 0
    refused = run(*common, "--emt-tolerances", "mine.toml", "--emt-update-tolerances")
    assert refused.code == 4
    assert "accepts no loss of a checkpoint" in refused.output
