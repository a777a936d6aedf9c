"""Whole runs on the bundled models: verdicts, exit codes, records; without xdist, with ``-n0`` and with ``-n2``."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.plugin.conftest import EVERY_WAY, SERIAL_AND_WORKERS, WORKERS_LATER, Run, in_a_process

Start = Callable[..., Run]


@EVERY_WAY
def test_a_model_that_holds_passes(run: Start, workers: tuple[str, ...]) -> None:
    done = run("--emt-image-set", "mnist-mini", "--emt-image-set", "digits-mini", "--emt-limit", "400", *workers)
    assert done.code == 0, done.output
    assert "PASS: 2 of 2 pairs" in done.output
    record = done.record
    assert (record["complete"], record["exit_code"]) == (True, 0)
    assert [pair["status"] for pair in record["pairs"]] == ["measured", "measured"]
    assert str(done.place.relative_to(done.folder) / "report.html") in done.output


@WORKERS_LATER
def test_a_model_that_forgot_fails_and_says_what(run: Start, workers: tuple[str, ...]) -> None:
    sets = ("--emt-image-set", "digits-mini", "--emt-image-set", "emoji-mini")
    done = run("--emt-model", "llava-mini-forgot", *sets, *workers, "--junitxml=junit.xml")
    assert done.code == 1, done.output
    assert "FAIL: 2 of 2 pairs are below their encoder by more than the tolerance" in done.output
    assert "FAIL llava-mini-forgot/emoji-mini: " in done.output
    assert "Traceback" not in done.output
    assert "emt_plugin/" not in done.output.replace(str(done.folder), "")
    assert done.record["exit_code"] == 1
    messages = [failure.get("message", "") for failure in ElementTree.parse(done.folder / "junit.xml").iter("failure")]
    assert len(messages) == 2
    assert all(message.split()[0] == "FAIL" for message in messages)


@WORKERS_LATER
def test_too_few_images_are_inconclusive_and_say_how_many_would_do(run: Start, workers: tuple[str, ...]) -> None:
    done = run("--emt-image-set", "emoji-mini", "--emt-limit", "30", *workers)
    assert done.code == 7, done.output
    assert "INCONCLUSIVE llava-mini/emoji-mini" in done.output
    assert "would settle it" in done.output


@SERIAL_AND_WORKERS
def test_a_typo_is_a_usage_error(run: Start, workers: tuple[str, ...]) -> None:
    done = run("--emt-model", "llvaa", *workers)
    assert done.code == 4
    assert "unknown model 'llvaa' (did you mean 'llava'?); known: aya-vision-8b, " in done.output
    assert " llava, llava-1.5-13b, llava-1.5-7b, " in done.output
    assert not (done.folder / "reports").exists()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--emt-image-set", "mnsit"), "unknown image set 'mnsit' (did you mean 'mnist'?)"),
        (("--emt-limit", "0"), "--emt-limit 0 is not a number of images"),
        (("--emt-limit", "ten"), "--emt-limit ten is not a number of images"),
        (("--emt-half", "3"), "--emt-half 3 is neither half; write 1 or 2"),
        (
            ("--emt-half", "1", "--emt-image", "abcdef"),
            "--emt-image names its images, whatever their half; leave --emt-half out",
        ),
        (("--emt-tolerance", "5"), "tolerance 5 is not a fraction; write 0.05 for 5 points"),
        (("--emt-batch-size", "-1"), "--emt-batch-size -1 is not a number of images"),
        (("--emt-dtype", "int8"), "unknown dtype 'int8'"),
        (("--emt-device", "tpu"), "unknown device 'tpu'"),
        (("--emt-memory", "lots"), "--emt-memory lots is not a size"),
        (("--emt-memory", "0"), "--emt-memory 0 holds nothing"),
        (("--emt-model", "~nobodyhere/m"), "no model at '~nobodyhere/m'"),
        (("--emt-scorer", "vibes"), "unknown scorer 'vibes'"),
        (("--emt-tolerances", "none.toml"), "no tolerances file at none.toml"),
        (("--emt-catalog", "none.toml"), "cannot read the catalog file none.toml"),
        (("--emt-reference", "llava-mini"), "is the model itself"),
        (("--emt-reports", "pytest.ini"), "cannot write to"),
        (("--emt-reference", ""), "--emt-reference is empty"),
        (("--emt-tolerance", ""), "--emt-tolerance is empty"),
    ],
)
def test_bad_options_are_one_sentence_and_nothing_is_written(run: Start, arguments: tuple[str, ...], says: str) -> None:
    done = run("--emt-model", "llava-mini", *arguments)
    assert done.code == 4, done.output
    assert says in done.output
    assert "Traceback" not in done.output
    assert not list(done.folder.glob("**/run.json"))


@pytest.mark.thorough
def test_rows_do_not_depend_on_workers_or_batch_size(run: Start) -> None:
    common = ("--emt-image-set", "fashion-mini", "--emt-image-set", "emoji-mini", "--emt-limit", "150", "--emt-store=off")
    rows = []
    for extra in ((), ("-n2",), ("--emt-batch-size", "1"), ("--emt-batch-size", "7")):
        place = run(*common, *extra).place
        rows.append({path.name: path.read_bytes() for path in sorted((place / "predictions").iterdir())})
    assert len(rows[0]) == 2
    assert all(other == rows[0] for other in rows[1:])


@pytest.mark.own_store
def test_what_is_recorded_is_what_can_be_counted(run: Start) -> None:
    done = run("--emt-image-set", "emoji-mini", "--emt-limit", "120")
    pair = done.pair("llava-mini/emoji-mini")
    rows = [json.loads(line) for line in (done.place / "predictions" / "llava-mini__emoji-mini.jsonl").read_text().splitlines()]
    assert len(rows) == pair["n"] == 120
    (score,), (comparison,) = pair["scores"], pair["comparisons"]
    model = [row["prediction"] == row["label"] for row in rows]
    encoder = [row["references"]["encoder:clip-mini"] == row["label"] for row in rows]
    assert [row["correct"] for row in rows] == model
    assert score["correct"] == sum(model)
    assert pair["encoder"]["correct"] == sum(encoder)
    counts = [
        sum(1 for m, e in zip(model, encoder, strict=True) if (m, e) == cell) for cell in ((1, 1), (1, 0), (0, 1), (0, 0))
    ]
    assert [comparison[name] for name in ("n11", "n10", "n01", "n00")] == counts
    assert comparison["gap"] == pytest.approx((sum(model) - sum(encoder)) / 120)
    assert score["no_class"] == sum(row["prediction"] is None for row in rows)
    assert pair["encoder"]["tower"] == "own encoder"
    assert pair["timing"]["new_tokens"] == sum(row["new_tokens"] for row in rows)


def test_only_what_was_selected_counts(run: Start) -> None:
    done = run("--emt-model", "llava-mini", "-k", "mnist-mini")
    assert done.code == 0, done.output
    assert [pair["image_set"] for pair in done.record["pairs"]] == ["mnist-mini"]


def test_nothing_selected_is_five(run: Start) -> None:
    done = run("--emt-model", "llava-mini", "-k", "nothing_of_that_name")
    assert done.code == 5
    assert not (done.folder / "reports").exists()


def test_collecting_only_leaves_no_trace(run: Start) -> None:
    done = run("--emt-model", "llava-mini", "--collect-only", "-q")
    assert done.code == 0
    assert "test_forgetting[llava-mini/fashion-mini]" in done.output
    assert not (done.folder / "reports").exists()


@WORKERS_LATER
def test_stopping_at_the_first_failure_is_two(run: Start, workers: tuple[str, ...]) -> None:
    sets = [
        name
        for image_set in ("emoji-mini", "digits-mini", "mnist-mini", "fashion-mini")
        for name in ("--emt-image-set", image_set)
    ]
    done = run("--emt-model", "llava-mini-forgot", *sets, "--emt-limit", "300", "-x", *workers)
    assert done.code == 2, done.output
    assert not done.record["complete"]
    assert "not-run" in {pair["status"] for pair in done.record["pairs"]}


@WORKERS_LATER
def test_a_failure_of_the_last_pair_stops_nothing(run: Start, workers: tuple[str, ...]) -> None:
    done = run("--emt-model", "llava-mini-forgot", "--emt-image-set", "emoji-mini", "-x", *workers)
    assert done.code == 1, done.output
    assert done.record["complete"]


@WORKERS_LATER
def test_weights_that_are_not_here_could_not_run(run: Start, workers: tuple[str, ...]) -> None:
    done = run("--emt-model", "llava", "--emt-image-set", "mnist-mini", *workers)
    assert done.code == 3, done.output
    assert "not on this machine and the hub cannot be reached" in done.output
    assert "emt fetch llava-1.5-7b" in done.output
    assert "Traceback" not in done.output
    assert "1 error" in done.output
    pair = done.pair("llava-1.5-7b/mnist-mini")
    assert pair["status"] == "could-not-run"
    assert pair["reason"] in done.output


def test_a_pair_that_could_not_run_spoils_those_that_did_not_fail(run: Start, suite: Path) -> None:
    (suite / "empty").mkdir()
    done = run("--emt-model", "llava-mini", "--emt-model", "./empty", "--emt-image-set", "mnist-mini")
    assert done.code == 3, done.output
    assert done.pair("llava-mini/mnist-mini")["comparisons"][0]["verdict"] == "PASS"
    assert "empty is no checkpoint" in done.output


def test_an_ordinary_failure_fails_the_run(run: Start, suite: Path) -> None:
    (suite / "test_other.py").write_text("def test_other():\n    assert 1 == 2\n")
    done = run("--emt-image-set", "mnist-mini")
    assert done.code == 1, done.output
    assert "assert 1 == 2" in done.output
    assert done.record["complete"]


@pytest.mark.parametrize("workers", [(), ("-n2",)])
def test_an_internal_error_never_passes(run: Start, suite: Path, workers: tuple[str, ...]) -> None:
    (suite / "conftest.py").write_text(
        "def pytest_runtest_logreport(report):\n    if report.when == 'teardown':\n        raise RuntimeError('inside')\n"
    )
    done = run("--emt-image-set", "mnist-mini", "--emt-limit", "100", *workers)
    assert done.code == 3, done.output
    assert "INTERNALERROR" in done.output


@pytest.mark.parametrize("workers", [(), ("-n2",)], ids=["serial", "n2"])
def test_a_file_that_cannot_be_collected_never_passes(run: Start, suite: Path, workers: tuple[str, ...]) -> None:
    (suite / "test_broken.py").write_text("import no_such_module\n")
    done = run("--emt-image-set", "mnist-mini", "--emt-limit", "300", *workers)
    assert done.code == 3, done.output


SKIPS = """\
import pytest

def pytest_collection_modifyitems(items):
    for item in items:
        if "emoji" in item.nodeid or "release" in item.nodeid:
            item.add_marker(pytest.mark.{mark})
"""


@pytest.mark.parametrize(
    ("mark", "workers"),
    [('skip(reason="later")', ()), ('skip(reason="later")', ("-n2",)), ('xfail(run=False, reason="later")', ())],
    ids=["skip", "skip-n2", "xfail"],
)
def test_a_skipped_pair_never_passes(run: Start, suite: Path, mark: str, workers: tuple[str, ...]) -> None:
    (suite / "conftest.py").write_text(SKIPS.format(mark=mark))
    done = run("--emt-image-set", "mnist-mini", "--emt-image-set", "emoji-mini", "--emt-limit", "300", *workers)
    assert done.code == 3, done.output
    assert "its test was skipped" in done.pair("llava-mini/emoji-mini")["reason"]


def test_a_skipped_check_never_passes(run: Start, suite: Path) -> None:
    (suite / "conftest.py").write_text(SKIPS.format(mark="skip"))
    (suite / "test_release.py").write_text("def test_release(emt):\n    emt.check('llava-mini', 'emoji-mini')\n")
    done = run("--emt-image-set", "mnist-mini", "--emt-limit", "300")
    assert done.code == 3, done.output


def test_an_expected_failure_is_still_a_verdict(run: Start, suite: Path) -> None:
    (suite / "conftest.py").write_text(SKIPS.format(mark="xfail"))
    done = run("--emt-model", "llava-mini-forgot", "--emt-image-set", "emoji-mini")
    assert done.code == 1, done.output


def test_stopping_before_ordinary_tests_is_stopping(run: Start, suite: Path) -> None:
    (suite / "test_z.py").write_text("def test_after():\n    assert False\n")
    done = run("--emt-image-set", "emoji-mini", "--emt-limit", "30", "-x")
    assert done.code == 2, done.output


def test_other_parameters_beside_the_pair(run: Start, suite: Path) -> None:
    (suite / "test_forgetting.py").write_text(
        "import pytest\n\n@pytest.mark.parametrize('seed', [0, 1])\n"
        "@pytest.mark.skip\ndef test_forgetting(emt_measurement, seed):\n    pass\n"
    )
    done = run("--emt-image-set", "mnist-mini", "--emt-limit", "40", "-n2")
    assert done.code == 3, done.output
    assert [pair["image_set"] for pair in done.record["pairs"]] == ["mnist-mini"]


def test_asking_for_the_gate_where_there_is_none_is_five(run: Start, suite: Path) -> None:
    (suite / "test_forgetting.py").write_text("def test_nothing():\n    pass\n")
    done = run("--emt-model", "llava-mini")
    assert done.code == 5, done.output
    assert "nothing was gated" in done.output


@pytest.mark.parametrize("option", ["--fixtures", "--setup-plan", "--markers"])
def test_options_that_only_tell_leave_no_trace(run: Start, option: str) -> None:
    done = run("--emt-model", "llava-mini", option)
    assert done.code == 0, done.output
    assert not (done.folder / "reports").exists()


def test_checks_of_models_that_share_a_name(run: Start, suite: Path) -> None:
    from emt_plugin.catalog import bundled_folder

    for parent, model in (("a", "llava-mini"), ("b", "llava-mini-forgot")):
        (suite / parent).mkdir()
        (suite / parent / "final").symlink_to(bundled_folder() / "models" / model)
    (suite / "test_forgetting.py").write_text(
        "import pytest\n\n@pytest.mark.parametrize('folder', ['./b/final', './a/final'])\n"
        "def test_release(emt, folder):\n    emt.check(folder, 'emoji-mini', 0.09)\n"
    )
    done = run("--emt-limit", "314")
    assert done.code == 1, done.output
    assert [pair["comparisons"][0]["verdict"] for pair in done.record["pairs"]] == ["FAIL", "PASS"]
    assert len({pair["model"] for pair in done.record["pairs"]}) == 2


def test_a_check_that_never_ran_never_passes(run: Start, suite: Path) -> None:
    (suite / "test_forgetting.py").write_text(
        "import pytest\n\ndef test_first(emt):\n    emt.check('llava-mini', 'mnist-mini', 0.3)\n\n"
        "def test_ends():\n    pytest.exit('bye', returncode=0)\n\n"
        "def test_last(emt):\n    emt.check('llava-mini-forgot', 'emoji-mini')\n"
    )
    done = run("--emt-limit", "30")
    assert done.code in (2, 3), done.output


@pytest.mark.parametrize("call", ["emt.check('llava-minnni', 'mnist-mini')", "emt.check('llava-mini', 'mnist-mini', 5)"])
def test_a_check_that_is_mistyped_is_incomplete(run: Start, suite: Path, call: str) -> None:
    (suite / "test_forgetting.py").write_text(f"def test_release(emt):\n    {call}\n")
    done = run("--emt-limit", "30", "--emt-model", "llava-mini")
    assert done.code == 3, done.output


@pytest.mark.parametrize("workers", [(), ("-n2",)], ids=["serial", "n2"])
def test_only_a_file_that_cannot_be_collected(run: Start, suite: Path, workers: tuple[str, ...]) -> None:
    (suite / "test_forgetting.py").write_text("import no_such_module\n")
    assert run("--emt-model", "llava-mini", *workers).code == 3


def test_a_device_that_is_not_here_could_not_run(run: Start) -> None:
    done = run("--emt-image-set", "mnist-mini", "--emt-device", "cuda:7")
    assert done.code == 3, done.output
    assert "there is no device cuda:7 here" in done.output


def test_a_record_that_cannot_be_written_does_not_count(run: Start, suite: Path) -> None:
    (suite / "conftest.py").write_text(
        "import emt_plugin.report\n\ndef full(folder, mode):\n    raise OSError(28, 'No space left on device')\n\n"
        "emt_plugin.report.write_all = full\n"
    )
    done = in_a_process(suite, ("--emt-image-set", "mnist-mini", "--emt-limit", "300", "-p", "no:hypothesispytest"))
    assert done.code == 3, done.output
    assert "No space left on device" in done.output
    assert (done.record["complete"], done.record["exit_code"]) == (False, 3)


def test_another_model_as_reference(run: Start) -> None:
    done = run("--emt-model", "llava-mini-forgot", "--emt-reference", "llava-mini", "--emt-image-set", "emoji-mini")
    assert done.code == 1, done.output
    assert "of model llava-mini, gap" in done.output
    comparisons = done.pair("llava-mini-forgot/emoji-mini")["comparisons"]
    assert [comparison["reference"]["kind"] for comparison in comparisons] == ["encoder", "model"]
    assert done.pair("llava-mini-forgot/emoji-mini")["gate"] == 1


def test_a_model_without_a_known_encoder_is_measured_without_verdict(run: Start, suite: Path) -> None:
    from tests.checkpoints import Recipe, save_llava

    save_llava(Recipe("unknown", image_size=21), suite / "mine")
    done = run("--emt-model", "./mine", "--emt-image-set", "emoji-mini", "--emt-limit", "30")
    assert done.code == 3, done.output
    assert "no encoder is known for mine" in done.output
    assert "--emt-encoder" in done.output
    pair = done.pair("mine/emoji-mini")
    assert (pair["status"], pair["n"], pair["gate"]) == ("measured", 30, None)
    assert pair["scores"][0]["scorer"] == "answer"


def test_a_path_finds_its_encoder_by_the_towers_shape(run: Start, suite: Path) -> None:
    from emt_plugin.catalog import bundled_folder

    (suite / "my-llava").symlink_to(bundled_folder() / "models" / "llava-mini")
    done = run("--emt-model", "./my-llava", "--emt-image-set", "mnist-mini")
    assert done.code == 0, done.output
    encoder = done.pair("my-llava/mnist-mini")["encoder"]
    assert (encoder["id"], encoder["found_by"], encoder["own"]) == ("clip-mini", "tower shape", True)


def test_a_wrong_encoder_is_prominent(run: Start, suite: Path) -> None:
    from tests.checkpoints import Recipe, save_encoder

    save_encoder(Recipe("other"), suite / "other-clip")
    done = run("--emt-image-set", "mnist-mini", "--emt-limit", "40", "--emt-encoder", "./other-clip")
    assert "attention: llava-mini: encoder other-clip: wrong encoder" in done.output
    assert "wrong encoder" in (done.place / "report.html").read_text()


def test_accepted_losses_are_written_and_then_pass(run: Start, suite: Path) -> None:
    (suite / "mine.toml").write_text("# ours\ntolerance = 0.01\n")
    common = ("--emt-image-set", "fashion-mini", "--emt-limit", "300", "--emt-tolerances", "mine.toml")
    first = run(*common, "--emt-update-tolerances")
    assert first.code in (1, 7)
    text = (suite / "mine.toml").read_text()
    assert text.startswith("# ours\ntolerance = 0.01\n")
    assert first.record["run_id"] in text
    second = run(*common)
    assert second.code == 0, second.output
    assert ", policy 0.01)" in second.output
    assert "PASS: 1 of 1 pairs, 1 of them by an accepted loss" in second.output
    assert "accepted on these same images" in second.output
    strict = run(*common, "--emt-tolerance", "0.01")
    assert strict.code == first.code


def test_the_packaged_tolerances_are_not_written_to(run: Start) -> None:
    done = run("--emt-image-set", "mnist-mini", "--emt-update-tolerances", "--emt-limit", "5")
    assert done.code == 4, done.output
    assert "needs a file of your own: name it with --emt-tolerances FILE" in done.output


def test_the_report_can_be_drawn_again_from_the_record(run: Start) -> None:
    from emt_plugin.cli import main

    done = run("--emt-image-set", "mnist-mini", "--emt-limit", "50")
    report = done.place / "report.html"
    drawn = report.read_text()
    report.unlink()
    assert main(["report", str(done.place)]) == 0
    assert report.read_text() == drawn
