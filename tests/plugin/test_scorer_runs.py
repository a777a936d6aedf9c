"""Whole runs with several scorers: what the record says is what can be counted again from the predictions."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import subprocess
import sys
import termios
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from emt_plugin.stats import PairedCounts, tango_interval, wilson_interval
from tests.checkpoints import Recipe, save_llava
from tests.judges import answered, completion
from tests.plugin.conftest import Run, environment, in_a_process, install

Start = Callable[..., Run]
KEY = "sk-very-secret-0123456789"


def rows_of(done: Run, pair: str) -> list[dict[str, Any]]:
    path = done.place / "predictions" / f"{pair.replace('/', '__')}.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.mark.parametrize("workers", [(), pytest.param(("-n2",), marks=pytest.mark.thorough)], ids=["serial", "n2"])
def test_three_scorers_and_the_steps_between(run: Start, workers: tuple[str, ...]) -> None:
    done = run(
        "--emt-model", "llava-mini-forgot", "--emt-image-set", "emoji-mini", "--emt-limit", "200",
        "--emt-scorer", "answer,likelihood", "--emt-scorer", "text-embedding", *workers,
    )  # fmt: skip
    assert done.code == 1, done.output
    pair = done.pair("llava-mini-forgot/emoji-mini")
    rows = rows_of(done, "llava-mini-forgot/emoji-mini")
    assert [score["scorer"] for score in pair["scores"]] == ["answer", "likelihood", "text-embedding"]
    assert len(rows) == pair["n"] == 200

    encoder = [row["references"]["encoder:clip-mini"] == row["label"] for row in rows]
    assert {comparison["reference"]["kind"] for comparison in pair["comparisons"]} == {"encoder"}
    for comparison in pair["comparisons"]:
        right = [row["scores"][comparison["scorer"]]["prediction"] == row["label"] for row in rows]
        assert comparison["gap"] == pytest.approx((sum(right) - sum(encoder)) / 200)
        assert comparison["n10"] == sum(a and not b for a, b in zip(right, encoder, strict=True))
    assert pair["comparisons"][pair["gate"]]["scorer"] == "answer"

    clean = [row["correct"] and row["well_formed"] for row in rows]
    chain = {
        "encoder": encoder,
        "vision probe": [row["probes"]["vision probe"] == row["label"] for row in rows],
        "projector probe": [row["probes"]["projector probe"] == row["label"] for row in rows],
        "likelihood": [row["scores"]["likelihood"]["prediction"] == row["label"] for row in rows],
        "answer": [row["prediction"] == row["label"] for row in rows],
        "clean answer": clean,
    }
    assert [step["name"] for step in pair["steps"]] == list(chain)
    before = None
    for step, right in zip(pair["steps"], chain.values(), strict=True):
        assert step["correct"] == sum(right)
        if before is not None:
            counts = PairedCounts(
                *(sum((a, b) == cell for a, b in zip(right, before, strict=True)) for cell in ((1, 1), (1, 0), (0, 1), (0, 0)))
            )
            assert (step["low"], step["high"]) == pytest.approx(tango_interval(counts, 0.9))
        before = right

    kinds: dict[str, int] = {}
    for row in rows:
        if row["kind"]:
            kinds[row["kind"]] = kinds.get(row["kind"], 0) + 1
    assert {rate["kind"]: rate["count"] for rate in pair["scores"][0]["kinds"]} == kinds
    for rate in pair["scores"][0]["kinds"]:
        assert (rate["low"], rate["high"]) == pytest.approx(wilson_interval(rate["count"], 200, 0.9))
        assert rate["rate"] == rate["count"] / 200

    report = (done.place / "report.html").read_text()
    for said in ("Where accuracy falls", "projector probe", "text-embedding", "90% interval (Wilson)"):
        assert said in report
    assert "accuracy from the encoder to the answer" in done.output
    assert re.search(r"emoji-mini: (Most of the fall is|The fall is in several places)", done.output)


def test_likelihood_alone_gates_and_generates_nothing(run: Start) -> None:
    done = run("--emt-image-set", "mnist-mini", "--emt-limit", "300", "--emt-scorer", "likelihood", "--emt-probe-images", "0")
    assert done.code == 0, done.output
    pair = done.pair("llava-mini/mnist-mini")
    assert pair["timing"]["new_tokens"] == 0
    assert all(row["answer"] is None for row in rows_of(done, "llava-mini/mnist-mini"))
    assert pair["comparisons"][pair["gate"]]["scorer"] == "likelihood"
    assert [step["name"] for step in pair["steps"]] == ["encoder", "likelihood"]


@pytest.mark.own_store
def test_mean_and_calibration_are_what_they_say(run: Start) -> None:
    common = ("--emt-image-set", "emoji-mini", "--emt-limit", "60", "--emt-scorer", "likelihood", "--emt-probe-images", "0")
    plain = run(*common)
    assert plain.pair("llava-mini/emoji-mini")["scores"][0]["version"] == "1"
    plain_rows = rows_of(plain, "llava-mini/emoji-mini")
    changed = run(*common, "--emt-label-score", "mean", "--emt-calibrate")
    assert changed.pair("llava-mini/emoji-mini")["scores"][0]["version"] == "1+mean+calibrated"
    (shelf,) = (plain.folder / ".emt_store" / "1" / "label_logprobs").iterdir()
    stored: dict[str, Any] = {}
    for file in shelf.glob("*.jsonl"):
        for line in file.read_text().splitlines():
            stored |= json.loads(line)["rows"]
    tokens = stored.pop("tokens")
    rows = {f"{row['image']}:{row['occurrence']}": row for row in rows_of(changed, "llava-mini/emoji-mini")}
    (neutral,) = (values for name, values in stored.items() if name not in rows)
    for name, row in rows.items():
        scores = [(value - grey) / count for value, grey, count in zip(stored[name], neutral, tokens, strict=True)]
        assert row["prediction"] == scores.index(max(scores))
    for row in plain_rows:
        values = stored[f"{row['image']}:{row['occurrence']}"]
        assert row["prediction"] == values.index(max(values))
    # Nothing but the grey image was computed for the second run.
    assert changed.pair("llava-mini/emoji-mini")["replay"]["computed"] == 0


@pytest.mark.own_store
def test_a_judge_gates_and_its_key_is_nowhere(suite: Path) -> None:
    def says(body: dict[str, Any], _: int) -> tuple[int, dict[str, Any]]:
        label, prediction = re.findall(r"Label: (.*); Prediction: (.*)\.$", body["messages"][0]["content"])[0]
        if label == "7":
            return completion("Hard to say.")
        return completion("Yes." if label in prediction else "No.")

    common = (
        "--emt-image-set",
        "mnist-mini",
        "--emt-limit",
        "100",
        "--emt-scorer",
        "judge,answer",
        "-p",
        "no:hypothesispytest",
    )
    with answered(says) as (url, seen):
        variables = {"EMT_JUDGE_BASE_URL": url, "EMT_JUDGE_MODEL": "a-judge", "EMT_JUDGE_API_KEY": KEY}
        done = in_a_process(suite, common, variables)
        asked = len(seen)
        again = in_a_process(suite, common, variables)
        assert len(seen) == asked > 0
    pair = done.pair("llava-mini/mnist-mini")
    rows = rows_of(done, "llava-mini/mnist-mini")
    judged, answers = pair["scores"]
    sevens = sum(row["label"] == 7 for row in rows)
    assert {rate["kind"]: rate["count"] for rate in judged["kinds"]} == {"unparseable ruling": sevens}
    assert judged["correct"] == sum(row["scores"]["answer"]["correct"] for row in rows if row["label"] != 7)
    assert judged["no_class"] is None
    assert answers["no_class"] is not None
    assert judged["facts"]["model"] == "a-judge"
    assert judged["facts"]["settings"]["temperature"] == 0.2
    assert {row["scores"]["judge"]["detail"] for row in rows} <= {"Yes.", "No.", "Hard to say."}
    assert "names no class by design" in (done.place / "report.html").read_text()
    assert rows == rows_of(again, "llava-mini/mnist-mini")
    for path in suite.rglob("*"):
        if path.is_file():
            assert KEY.encode() not in path.read_bytes(), path
    assert KEY not in done.output


@pytest.mark.thorough
@pytest.mark.own_store
def test_a_judge_that_fails_is_an_incomplete_run(suite: Path) -> None:
    variables = {"EMT_JUDGE_BASE_URL": "http://127.0.0.1:9/v1", "EMT_JUDGE_API_KEY": KEY, "OPENAI_MAX_RETRIES": "0"}
    (suite / "conftest.py").write_text("import emt_plugin.models.judge_client as client\nclient.TRIES = 0\n")
    done = in_a_process(
        suite, ("--emt-image-set", "mnist-mini", "--emt-limit", "20", "--emt-scorer", "answer,judge"), variables
    )
    assert done.code == 3, done.output
    assert "the judge at http://127.0.0.1:9/v1 cannot be reached after 1 try" in done.output
    assert "Traceback" not in done.output


THIRD_PARTY = '''\
from emt_plugin.scoring import Score

class FirstWord:
    """Right if the last word of the answer is the label."""

    name = "last-word"
    version = "1"
    wants = frozenset({"answer"})

    def __init__(self, context):
        pass

    def score(self, observation, label, labels):
        words = observation.answer.strip(".").split()
        found = labels.index(words[-1]) if words and words[-1] in labels else None
        return Score(prediction=found, correct=found == label, kind=None if found == label else "wrong class")
'''


@pytest.mark.thorough
def test_a_third_party_adds_a_scorer_by_entry_point(suite: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    site = tmp_path_factory.mktemp("site")
    points = {"last-word": "their_scorers:FirstWord", "broken": "no_such_module:Scorer"}
    install(site, "their_scorers", THIRD_PARTY, "pytest_emt.scorers", points)
    common = ("--emt-image-set", "mnist-mini", "--emt-limit", "100", "-p", "no:hypothesispytest")
    done = in_a_process(suite, (*common, "--emt-scorer", "last-word,answer"), {"PYTHONPATH": str(site)})
    pair = done.pair("llava-mini/mnist-mini")
    assert [score["scorer"] for score in pair["scores"]] == ["last-word", "answer"]
    assert pair["scores"][0]["correct"] == pair["scores"][1]["correct"] > 80
    assert "by last-word" in (done.place / "report.html").read_text()
    broken = in_a_process(suite, (*common, "--emt-scorer", "broken"), {"PYTHONPATH": str(site)})
    assert broken.code == 4
    assert "the scorer 'broken' (no_such_module:Scorer) cannot be imported" in broken.output
    unknown = in_a_process(suite, (*common, "--emt-scorer", "lastword"), {"PYTHONPATH": str(site)})
    assert unknown.code == 4
    assert "known: answer, likelihood, text-embedding, judge, last-word, broken" in unknown.output


def test_a_probe_as_reference_where_there_is_no_encoder(run: Start, suite: Path) -> None:
    save_llava(Recipe("unknown", image_size=21), suite / "mine")
    done = run("--emt-model", "./mine", "--emt-image-set", "mnist-mini", "--emt-limit", "60", "--emt-reference", "probe")
    assert done.code in (1, 7), done.output
    pair = done.pair("mine/mnist-mini")
    comparison = pair["comparisons"][pair["gate"]]
    assert comparison["reference"] == {"kind": "probe", "id": "vision probe"}
    assert "of supervised vision probe, gap" in done.output
    assert "supervised vision probe" in (done.place / "report.html").read_text()
    rows = rows_of(done, "mine/mnist-mini")
    right = sum(row["probes"]["vision probe"] == row["label"] for row in rows)
    assert comparison["n11"] + comparison["n01"] == right


def test_an_encoder_that_cannot_classify_does_not_stop_a_probe(run: Start, suite: Path) -> None:
    from emt_plugin.catalog import bundled_folder

    # With a blank, pytest takes the path for one of tests, and its project for the root.
    encoder = f"--emt-encoder={bundled_folder() / 'models' / 'llava-mini'}"
    common = ("--emt-image-set", "mnist-mini", "--emt-limit", "60", encoder)
    stopped = run(*common)
    assert stopped.code == 3, stopped.output
    assert "the encoder llava-mini has no text tower to classify with" in stopped.output
    done = run(*common, "--emt-reference", "probe")
    assert done.code in (0, 1, 7), done.output
    pair = done.pair("llava-mini/mnist-mini")
    assert "has no text tower" in pair["model_facts"]["encoder"]
    assert pair["encoder"] is None
    assert "Verdicts are by the scorer answer, against the supervised vision probe." in done.output
    assert "against the supervised vision probe" in (done.place / "report.html").read_text()
    assert "against the supervised vision probe" in (done.place / "summary.md").read_text()


def test_another_model_as_reference_is_read_by_the_same_scorers(run: Start) -> None:
    common = ("--emt-image-set", "emoji-mini", "--emt-limit", "100", "--emt-probe-images", "0",
              "--emt-scorer", "likelihood,text-embedding")  # fmt: skip
    done = run("--emt-model", "llava-mini-forgot", "--emt-reference", "llava-mini", *common)
    pair = done.pair("llava-mini-forgot/emoji-mini")
    assert pair["status"] == "measured", done.output
    base = run("--emt-model", "llava-mini", *common).pair("llava-mini/emoji-mini")
    correct = {score["scorer"]: score["correct"] for score in base["scores"]}
    for comparison in pair["comparisons"]:
        if comparison["reference"]["kind"] == "model":
            assert comparison["n11"] + comparison["n01"] == correct[comparison["scorer"]]


def test_a_scorer_that_calls_itself_by_anothers_name_is_refused(suite: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    site = tmp_path_factory.mktemp("site")
    code = THIRD_PARTY.replace('name = "last-word"', 'name = "answer"')
    install(site, "their_scorers", code, "pytest_emt.scorers", {"mine": "their_scorers:FirstWord"})
    arguments = ("--emt-image-set", "mnist-mini", "--emt-limit", "20", "--emt-scorer", "answer,mine")
    done = in_a_process(suite, arguments, {"PYTHONPATH": str(site)})
    assert done.code == 3, done.output
    assert "the scorer 'mine' calls itself 'answer'" in done.output


@pytest.mark.thorough
def test_probes_without_a_training_split_are_marked(run: Start, suite: Path) -> None:
    import datasets

    from emt_plugin.catalog import Catalog

    source = Catalog.load().image_set("emoji-mini").source
    test = datasets.load_dataset("parquet", data_files=f"{source}/test.parquet", split="train")
    test.to_parquet(suite / "glyphs.parquet")
    done = run("--emt-image-set", "./glyphs.parquet", "--emt-limit", "80", "--emt-scorer", "answer,likelihood")
    steps = {step["name"]: step for step in done.pair("llava-mini/glyphs")["steps"]}
    assert steps["vision probe"]["note"] == "5-fold, out of fold: no training split"
    assert "5-fold, out of fold" in (done.place / "report.html").read_text()


REPLAY = """\
import sys, pytest
code = pytest.main({arguments!r})
heavy = [name for name in ("torch", "transformers", "datasets") if name in sys.modules]
print("LOADED", int(code), heavy)
"""


@pytest.mark.own_store
def test_a_second_run_imports_no_torch_and_says_what_it_replayed(run: Start, suite: Path) -> None:
    sets = ["--emt-image-set", "mnist-mini", "--emt-image-set", "emoji-mini", "--emt-limit", "80"]
    arguments = [*sets, "--emt-scorer", "answer,likelihood,text-embedding", "-p", "no:hypothesispytest"]
    first = in_a_process(suite, arguments)
    place = first.place
    predictions = {path.name: path.read_bytes() for path in (place / "predictions").iterdir()}
    thumbs = {path.name: path.read_bytes() for path in (place / "thumbs").iterdir()}
    again = subprocess.run(
        [sys.executable, "-c", REPLAY.format(arguments=arguments)],
        cwd=suite, env=environment(), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert f"LOADED {first.code} []" in again.stdout, again.stdout + again.stderr
    assert "160 of 160 images were replayed from the store, the oldest computed 20" in again.stdout
    second = Run(first.code, again.stdout, suite)
    assert second.place != place
    assert {path.name: path.read_bytes() for path in (second.place / "predictions").iterdir()} == predictions
    assert {path.name: path.read_bytes() for path in (second.place / "thumbs").iterdir()} == thumbs
    assert "160 of 160 images were replayed" in (second.place / "report.html").read_text()
    assert second.pair("llava-mini/mnist-mini")["replay"]["computed"] == 0


@pytest.mark.own_store
def test_refresh_and_off(run: Start) -> None:
    common = ("--emt-image-set", "mnist-mini", "--emt-limit", "40")
    assert run(*common, "--emt-store=off").pair("llava-mini/mnist-mini")["replay"]["replayed"] == 0
    done = run(*common, "--emt-store-dir", "elsewhere")
    assert done.pair("llava-mini/mnist-mini")["replay"]["computed"] == 40
    assert not (done.folder / ".emt_store").exists()
    refreshed = run(*common, "--emt-store-dir", "elsewhere", "--emt-store=refresh")
    assert refreshed.pair("llava-mini/mnist-mini")["replay"] == {"replayed": 0, "computed": 40, "since": None}
    assert "replayed from the store" not in refreshed.output
    assert run(*common, "--emt-store-dir", "elsewhere").pair("llava-mini/mnist-mini")["replay"]["replayed"] == 40


@pytest.mark.own_store
def test_a_store_that_is_full_does_not_stop_a_run(run: Start, suite: Path) -> None:
    (suite / "store").write_text("a file in its place")
    done = run("--emt-image-set", "mnist-mini", "--emt-limit", "40", "--emt-store-dir", "store")
    assert done.pair("llava-mini/mnist-mini")["n"] == 40
    assert done.record["complete"]


@pytest.mark.own_store
def test_features_take_no_more_than_they_may(run: Start, suite: Path) -> None:
    features = suite / ".emt_store" / "1" / "features"
    common = ("--emt-limit", "40", "--emt-batch-size", "8", "--emt-store-size", "100KB")
    done = run("--emt-image-set", "mnist-mini", *common)
    # A batch of 8 has about 70 kB: the second fills it, and what follows is not kept.
    assert len(list(features.glob("*/*.safetensors"))) == 2
    assert "vision features fill the 100 kB that they may take" in done.output
    assert len(list((suite / ".emt_store" / "1" / "answer").glob("*/*.jsonl"))) == 1
    # Another tower's features make room.
    save_llava(Recipe("other"), suite / "other")
    old = next(features.iterdir())
    done = run("--emt-model", "./other", "--emt-image-set", "mnist-mini", *common)
    assert not old.exists()
    assert list(features.glob("*/*.safetensors"))


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--emt-scorer", "answer,vibes"), "unknown scorer 'vibes'; known: answer, likelihood, text-embedding, judge"),
        (("--emt-scorer", "judge"), "needs an endpoint: set EMT_JUDGE_BASE_URL"),
        (("--emt-label-score", "mean"), "are for the scorer 'likelihood'; add it to --emt-scorer"),
        (("--emt-calibrate",), "are for the scorer 'likelihood'; add it to --emt-scorer"),
        (("--emt-scorer", "likelihood", "--emt-label-score", "median"), "unknown --emt-label-score 'median'; known: sum, mean"),
        (("--emt-scorer", "likelihood", "--emt-update-tolerances"), "accepts losses of the scorer 'answer' alone"),
        (("--emt-probe-images", "few"), "--emt-probe-images few is not a number of images"),
        (("--emt-reference", "probe", "--emt-probe-images", "0"), "--emt-reference probe needs probes"),
        (("--emt-store", "maybe"), "unknown --emt-store 'maybe'; known: use, refresh, off"),
        (("--emt-store-size", "lots"), "--emt-store-size lots is not a size"),
        (("--emt-throughput", "-n2"), "--emt-throughput needs the machine for itself; leave -n out"),
        (("--emt-throughput", "-p", "no:benchmark"), "pip install 'pytest-emt[throughput]'"),
    ],
)
def test_bad_options_are_one_sentence(suite: Path, arguments: tuple[str, ...], says: str) -> None:
    done = in_a_process(suite, ("--emt-model", "llava-mini", "-p", "no:hypothesispytest", *arguments))
    assert done.code == 4, done.output
    assert says in done.output
    assert "Traceback" not in done.output
    assert not (suite / "reports").exists()


@pytest.mark.parametrize(("option", "tests"), [((), 4), (("--emt-throughput",), 9)], ids=["gate", "throughput"])
def test_timings_and_pairs_do_not_mix_and_nothing_is_skipped(suite: Path, option: tuple[str, ...], tests: int) -> None:
    source = Path(__file__).parents[2] / "benchmarks" / "test_throughput.py"
    (suite / "test_throughput.py").write_text(source.read_text())
    done = in_a_process(suite, ("--emt-model", "llava-mini", "--co", "-q", "-p", "no:hypothesispytest", *option))
    assert done.code == 0, done.output
    assert f"{tests} tests collected" in done.output
    assert "skip" not in done.output
    assert "deselected" not in done.output


def on_a_terminal(suite: Path, *arguments: str, **variables: str) -> str:
    """What a person sees who runs pytest on a terminal."""
    reader, writer = pty.openpty()
    termios.tcsetwinsize(writer, (40, 120))
    kept = {key: value for key, value in environment().items() if key != "CI"}
    command = [sys.executable, "-m", "pytest", *arguments, "-p", "no:hypothesispytest"]
    running = subprocess.Popen(command, cwd=suite, env={**kept, **variables}, stdout=writer, stderr=writer, stdin=writer)
    os.close(writer)
    seen = b""
    while True:
        ready, _, _ = select.select([reader], [], [], 120)
        try:
            part = os.read(reader, 65536) if ready else b""
        except OSError:
            part = b""
        if not part:
            break
        seen += part
    running.wait(60)
    os.close(reader)
    return seen.decode(errors="replace")


@pytest.mark.thorough
@pytest.mark.own_store
@pytest.mark.parametrize(("variables", "shown"), [({}, True), ({"CI": "1"}, False)], ids=["terminal", "ci"])
def test_long_work_shows_how_far_it_is(suite: Path, variables: dict[str, str], shown: bool) -> None:
    (suite / "conftest.py").write_text("import emt_plugin.evaluation.progress as p\np.DELAY_SECONDS = 0\n")
    seen = on_a_terminal(suite, "--emt-image-set", "mnist-mini", "--emt-limit", "200", "--emt-batch-size", "8", **variables)
    assert ("image/s" in seen) is shown, seen
    assert ("llava-mini/mnist-mini:" in seen) is shown
    assert "1 passed" in seen or "1 failed" in seen


@pytest.mark.thorough
@pytest.mark.own_store
def test_workers_show_no_bar(suite: Path) -> None:
    assert "image/s" not in on_a_terminal(suite, "--emt-image-set", "mnist-mini", "--emt-limit", "40", "-n2")
