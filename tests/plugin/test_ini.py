"""Ini keys: set once for a project, parsed like the options, with errors that name the key."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.plugin.conftest import Run, in_a_process

Start = Callable[..., Run]


def set_ini(suite: Path, *lines: str) -> None:
    path = suite / "pytest.ini"
    path.write_text(path.read_text() + "".join(f"{line}\n" for line in lines))


def test_what_a_project_sets_holds_where_no_option_is_given(run: Start, suite: Path) -> None:
    (suite / "settings").mkdir()
    (suite / "settings" / "more.toml").write_text('[image_sets.birds]\nsource = "mnist-mini"\n')
    set_ini(
        suite, "emt = true", "emt_model = llava-mini", "emt_image_set = mnist-mini", "emt_limit = 40", "emt_tolerance = 0.4",
        "emt_encoder = clip-mini", "emt_batch_size = 7", "emt_dtype = float32", "emt_device = cpu", "emt_report = dir",
        "emt_history = nights/history.jsonl", "emt_scorer = answer,likelihood", "emt_label_score = mean",
        "emt_probe_images = 0",
    )  # fmt: skip
    (suite / "nights").mkdir()
    done = run()
    assert done.code == 0, done.output
    pair = done.pair("llava-mini/mnist-mini")
    assert (pair["n"], pair["comparisons"][pair["gate"]]["tolerance"]) == (40, 0.4)
    assert [score["scorer"] for score in pair["scores"]] == ["answer", "likelihood"]
    settings = done.record["settings"]
    assert settings["compute"]["batch_size"] == 7
    assert settings["likelihood"]["rule"] == "mean"
    assert settings["given"] == {}
    assert (done.place / "report-assets").is_dir()
    assert (suite / "nights" / "history.jsonl").read_text().count("\n") >= 1
    # What is given goes before.
    again = run("--emt-limit", "30", "--emt-tolerance", "0.5", "--emt-report", "single")
    pair = again.pair("llava-mini/mnist-mini")
    assert (pair["n"], pair["comparisons"][pair["gate"]]["tolerance"]) == (30, 0.5)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("emt_limit = ten", "emt_limit ten is not a number of images; write a whole number of at least 1 (ini emt_limit)"),
        ("emt_batch_size = 0", "emt_batch_size 0 is not a number of images"),
        ("emt_tolerance = 5", "tolerance 5 is not a fraction; write 0.05 for 5 points (ini emt_tolerance)"),
        ("emt_dtype = int8", "unknown dtype 'int8'; known: float32, bfloat16, float16 (ini emt_dtype)"),
        ("emt_device = tpu", "unknown device 'tpu'; write cpu, cuda, cuda:1 or mps (ini emt_device)"),
        ("emt_memory = lots", "emt_memory lots is not a size; write one such as 20GB or 24GiB (ini emt_memory)"),
        ("emt_store_size = 0", "emt_store_size 0 holds nothing"),
        ("emt_scorer = vibes", "unknown scorer 'vibes'"),
        ("emt_model = llavva", "(ini emt_model)"),
        ("emt_image_set = mnsit", "(ini emt_image_set)"),
        ("emt_reference = llava-mini", "emt_reference llava-mini is the model itself; name another (ini emt_reference)"),
        ("emt_catalog = none.toml", "(ini emt_catalog)"),
        ("emt_tolerances = none.toml", "(ini emt_tolerances)"),
        ("emt_report = pdf", "unknown emt_report 'pdf'; known: single, dir (ini emt_report)"),
        ("emt_store = maybe", "unknown emt_store 'maybe'; known: use, refresh, off (ini emt_store)"),
        ("emt_generation = wild", "unknown emt_generation 'wild'"),
        ("emt_label_score = mean", "emt_label_score and --emt-calibrate are for the scorer 'likelihood'"),
    ],
)  # fmt: skip
def test_an_error_names_the_key(run: Start, suite: Path, line: str, said: str) -> None:
    set_ini(suite, line)
    done = run("--emt-store-dir", str(suite / "store"))
    assert done.code == 4, done.output
    (error,) = [shown for shown in done.output.splitlines() if shown.startswith("ERROR: emt: ")]
    assert said in error
    assert not (suite / "reports").exists()


def test_a_number_without_quotes_in_toml_is_one_sentence(run: Start, suite: Path) -> None:
    (suite / "pytest.ini").unlink()
    (suite / "pyproject.toml").write_text("[tool.pytest]\nemt = true\nemt_limit = 40\n")
    done = run()
    assert done.code == 4, done.output
    (error,) = done.output.splitlines()
    assert error.startswith("ERROR: ")
    assert "'emt_limit' expects a string" in error


def test_a_projects_reference_and_early_stop_give_way_to_what_cannot_have_them(run: Start, suite: Path) -> None:
    set_ini(suite, "emt_reference = llava-mini", "emt_early_stop = true", "emt_limit = 30", "emt_image_set = mnist-mini")
    done = run("--emt-model", "llava-mini-forgot", "--emt-repeat", "2", "--emt-tolerance", "0.5")
    pair = done.pair("llava-mini-forgot/mnist-mini")
    assert pair["comparisons"][pair["gate"]]["reference"] == {"kind": "model", "id": "llava-mini"}
    assert pair["comparisons"][pair["gate"]]["sequential"] is None
    assert pair["repeat"]["passes"] == 2


CODE = "\x1b["


@pytest.mark.parametrize(
    ("options", "variables", "coloured"),
    [
        ((), {}, False),
        (("--color=yes",), {}, True),
        ((), {"FORCE_COLOR": "1"}, True),
        (("--color=no",), {"FORCE_COLOR": "1"}, False),
        ((), {"NO_COLOR": "1", "FORCE_COLOR": "1"}, False),
    ],
)
def test_the_verdict_has_colour_where_pytest_has(
    run: Start, suite: Path, options: tuple[str, ...], variables: dict[str, str], coloured: bool
) -> None:
    gate = ("--emt-image-set", "mnist-mini", "--emt-limit", "30", "--emt-tolerance", "0.5")
    unset = dict.fromkeys(("NO_COLOR", "FORCE_COLOR", "PY_COLORS"), "")
    done = in_a_process(suite, ("-p", "no:hypothesispytest", *gate, *options), {"TERM": "xterm", **unset, **variables})
    assert done.code == 0, done.output
    section = done.output.partition("forgetting ==")[2].partition("exit code: ")[0]
    assert section
    assert (CODE in section) == coloured
    for name in ("summary.md", "run.json", "report.html", "badge.json"):
        assert CODE not in (done.place / name).read_text(encoding="utf-8")
