"""What is said and drawn of a trajectory, from a small one by hand."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from emt_plugin.analysis import paired_change
from emt_plugin.analysis.trajectory import Moment, StateOutcomes, Trajectory, trajectory
from emt_plugin.cli import main
from emt_plugin.records import RunRecord
from emt_plugin.report import render, write_summary
from emt_plugin.report.drawings.curves import curves, heat_map
from emt_plugin.report.words import trajectory as trajectory_words
from tests.unit.test_records import make_pair, make_run

TUNED, OTHER = "tuned<b>", "other"


def seen(image_set: str, right: int, verdict: str = "PASS", named: dict[str, int] | None = None) -> StateOutcomes:
    correct = [row < right for row in range(100)]
    gap = paired_change([row < 90 for row in range(100)], correct)
    return StateOutcomes(image_set, ["a", "b"], [row % 2 for row in range(100)], correct, verdict, 90, gap, named or {})


def moments() -> list[Moment]:
    return [
        Moment(None, 0, 0.0, [seen(TUNED, 50), seen(OTHER, 80)]),
        Moment("checkpoint-1", 1, 0.125, [seen(TUNED, 80), seen(OTHER, 78)]),
        Moment("checkpoint-4", 4, 1.0, [seen(TUNED, 90), seen(OTHER, 40, "FAIL", {TUNED: 55, "other = third": 45})]),
        Moment("checkpoint-8", 8, 2.0, [seen(TUNED, 85), seen(OTHER, 79)]),
    ]


def made(trained_on: tuple[str, ...] = (TUNED,), states: int = 4) -> Trajectory:
    return trajectory("run-1", "base-model", "lora", trained_on, moments()[:states])


def test_the_checkpoint_to_keep_and_its_price_in_words() -> None:
    assert trajectory_words.to_keep(made()) == (
        "Stop at epoch 0.12 (checkpoint-1): +30.0 in domain, −2.0 elsewhere. "
        "At epoch 1 (checkpoint-4) (+40.0 in domain, −40.0 elsewhere): other FAIL (−40.0). "
        "The last, epoch 2 (checkpoint-8): +35.0 in domain, −1.0 elsewhere. "
        "Later all pass again (epoch 2): shown, not recommended."
    )
    assert trajectory_words.to_keep(made(states=2)) == (
        "Keep the last, epoch 0.12 (checkpoint-1): +30.0 in domain, −2.0 elsewhere; no image set outside the domain lost more "
        "than its tolerance. It is the only checkpoint: between it and the base nothing was saved."
    )
    assert trajectory_words.to_keep(made(states=1)).startswith("Only the base was measured")


def test_a_domain_that_nobody_named_is_said() -> None:
    unknown = made(())
    assert "every image set counts; --emt-trained-on names it" in trajectory_words.domain(unknown)
    assert "in domain" not in trajectory_words.to_keep(unknown)
    assert trajectory_words.domain(made()) == "Trained on tuned<b> (lora)."


def test_answers_in_the_labels_of_another_set() -> None:
    run = made()
    assert trajectory_words.foreign(run.states[2].cells[1]) == "tuned<b> 55.0%"
    assert trajectory_words.foreign(run.states[1].cells[1]) == ""
    assert trajectory_words.gone(run.states[2]) == ["other: a 40 to 20 of 50, b 40 to 20 of 50"]


def test_the_table_marks_verdicts_and_the_domain() -> None:
    head, *rows = trajectory_words.table(made())
    assert head[:3] == ("state", "tuned<b> *", "other")
    assert [row[0] for row in rows] == ["base", "epoch 0.12 <- keep", "epoch 1", "epoch 2"]
    assert rows[2][2] == "40.0% ✗"
    assert rows[0][3:5] == ("–", "–")
    # (50 + 80) / 2 - 90, and (90 + 40) / 2 - 90.
    assert [row[5].split()[0] for row in rows[:3:2]] == ["−25.0", "−25.0"]


def test_points_lie_where_steps_and_accuracies_say() -> None:
    drawn = curves(made())
    (tuned, other) = drawn.panels
    first, early, middle, last = other.points
    assert first.x == drawn.left
    assert last.x == drawn.right
    # Step 4 of 8 is half way; the axis is of steps, not of checkpoints.
    assert middle.x == pytest.approx((drawn.left + drawn.right) / 2)
    assert early.x == pytest.approx(drawn.left + (drawn.right - drawn.left) / 8, abs=0.1)
    assert other.base == first.y
    assert middle.y > early.y > first.y
    assert middle.low > middle.y > middle.high
    assert (tuned.trained_on, other.trained_on) == (True, False)
    heat = heat_map([made()])
    assert [cell.text for cell in heat.cells] == ["+30.0", "−2.0", "+40.0", "−40.0", "+35.0", "−1.0"]
    assert [cell.lost for cell in heat.cells][:2] == [False, True]


def test_the_report_and_the_record_carry_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = make_run(make_pair())
    run = RunRecord(**{**vars(run), "trajectories": (made(),)})
    run.write(tmp_path)
    assert RunRecord.read(tmp_path) == run
    page = render(tmp_path).read_text()
    assert "Along the training" in page
    assert "tuned&lt;b&gt;" in page
    assert "tuned<b>" not in page
    assert page.index("Stop at epoch 0.12") < page.index("Verdicts of all 1 pairs")
    assert re.search(r"other: a 40 to 20 of 50", page)
    assert "Stop at epoch 0.12" in write_summary(tmp_path).read_text()
    assert main(["study", str(tmp_path)]) == 0
    assert "| tuned<b> | lora | −2.0 | −40.0 | −1.0 | +35.0 | epoch 0.12 |" in capsys.readouterr().out
    make_run(make_pair()).write(tmp_path)
    assert main(["study", str(tmp_path)]) == 1
    assert "has no trajectory: make one with pytest benchmarks --checkpoint GLOB" in capsys.readouterr().err


def test_a_model_on_the_papers_image_sets_stands_beside_the_paper(tmp_path: Path) -> None:
    pair = make_pair()
    on_cifar = type(pair)(**{**vars(pair), "key": type(pair.key)("my-llava", "cifar10"), "image_set_facts": {"split": "test"}})
    make_run(on_cifar).write(tmp_path)
    page = render(tmp_path).read_text()
    assert "Beside the paper" in page
    for words in ("paper: LLaVA-7b (table 2)", "56.7%", "paper: CLIP ViT-L-14 (table 2)", "95.4%", "this run: my-llava"):
        assert words in page
    assert "The protocols differ" in page
    assert "of the split test, the paper a random 20 % of the training data" in page
    make_run(pair).write(tmp_path)
    assert "Beside the paper" not in render(tmp_path).read_text()


def test_only_answers_without_a_label_of_their_own_set_are_foreign() -> None:
    from emt_plugin.runs.trajectories import _named
    from emt_plugin.scoring.reader import Reader

    readers = {"pets": Reader(["dog", "cat"]), "cifar10 = other": Reader(["dog", "ship"]), "digits": Reader(["7", "8"])}
    answers = ["The object is a dog.", "a ship", "The object is an 8.", "dog or ship", None, "", "a cat and a dog"]
    assert _named(answers, "pets", readers) == {"pets": 2, "cifar10 = other": 2, "digits": 1}


def test_a_base_at_the_ceiling_is_drawn_too() -> None:
    top = trajectory(
        "run", "base", None, [], [Moment(None, 0, 0.0, [StateOutcomes("all", ["a"], [0] * 4, [True] * 4, "PASS", 4)])]
    )
    assert curves(top).panels[0].points[0].y == curves(top).top
