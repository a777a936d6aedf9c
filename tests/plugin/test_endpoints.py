"""Models behind endpoints, gated: against a server that answers, and against one that fails in every way there is."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from emt_plugin.catalog import Catalog
from emt_plugin.cli import main
from emt_plugin.data import load_image_set
from tests.endpoints import KEY, MODEL, Asked, Said, completion, refusal, serving
from tests.plugin.conftest import Run, environment, in_a_process

pytestmark = pytest.mark.own_store
N = 24
ENTRY = """
[models.served]
encoder = "clip-mini"
image_sets = ["mnist-mini"]
[models.served.endpoint]
base_url = "{url}"
model = "{model}"
api_key_env = "THEIR_KEY"
concurrency = 4
tries = 2
{more}
"""


def catalog(suite: Path, url: str, more: str = "", model: str = MODEL) -> None:
    (suite / "emt.toml").write_text(ENTRY.format(url=url, more=more, model=model))


ARGUMENTS = ("--emt-catalog", "emt.toml", "--emt-model", "served", "-p", "no:hypothesispytest")
Gate = Callable[..., Run]


@pytest.fixture
def gate(run: Gate, monkeypatch: pytest.MonkeyPatch) -> Gate:
    """Gate the model of the catalog with ``N`` images, or as it is said."""
    monkeypatch.setenv("THEIR_KEY", KEY)
    return lambda *more: run(*ARGUMENTS, "--emt-limit", str(N), *more)


def images_asked(seen: list[Asked]) -> Counter[str]:
    return Counter(asked.pixels for asked in seen if not asked.is_probe)


def rows(done: Run) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (done.place / "predictions" / "served__mnist-mini.jsonl").read_text().splitlines()]


def no_key(folder: Path, output: str = "") -> bool:
    """Whether no file of a run, or of anything beside it, holds the key."""
    written = [path for path in folder.rglob("*") if path.is_file()]
    assert written
    return KEY not in output and not [path for path in written if KEY.encode() in path.read_bytes()]


def truth() -> dict[str, str]:
    """The right answer by the hash of an image's pixels."""
    found = load_image_set(Catalog.load().image_set("mnist-mini"), N)
    return {item.hash: found.labels[item.label] for item in found.items}


def test_a_model_behind_an_endpoint_is_gated(suite: Path, gate: Gate) -> None:
    right = truth()
    wrong = sorted(right)[0]

    def answer(asked: Asked, _: int) -> Said:
        says = "a square" if asked.is_probe else "none" if asked.pixels == wrong else f"The number is {right[asked.pixels]}."
        return completion(says, model=f"{MODEL}-2026-11-01", system_fingerprint="fp_1")

    with serving(answer) as (url, seen):
        catalog(suite, url, "price_in = 2.0\nprice_out = 10.0")
        done = gate()
    pair = done.pair("served/mnist-mini")
    assert done.code in (0, 7), done.output
    assert pair["scores"][0]["correct"] == len(rows(done)) - sum(row["image"] == wrong for row in rows(done)) == N - 1
    # Every image arrives as it was, once, with the paper's question, and what is not random.
    assert images_asked(seen) == Counter(right.keys())
    (probe,) = [asked for asked in seen if asked.is_probe]
    assert seen[0] is probe
    for asked in seen[1:]:
        assert asked.authorization == f"Bearer {KEY}"
        assert asked.image.format == "PNG"
        assert asked.body["messages"][0]["content"][1]["text"] == pair["prompt"]
        assert {name: asked.body[name] for name in asked.body if name != "messages"} == {
            "model": MODEL, "temperature": 0, "max_tokens": 32,
        }  # fmt: skip
    facts = pair["model_facts"]
    assert facts["weights"] == "not verified"
    assert facts["fingerprint"] == f"not verified: {MODEL} at {url}"
    assert (facts["served_as"], facts["system_fingerprint"], facts["device"]) == (f"{MODEL}-2026-11-01", "fp_1", "elsewhere")
    assert facts["generation"] == {"temperature": 0, "max_tokens": 32, "image": "png"}
    assert "taken on trust" in pair["encoder"]["tower"]
    requests = N + 1
    money = (requests * 100 * 2 + requests * 5 * 10) / 1e6
    assert pair["cost"] == {
        "requests": requests, "retries": 0, "tokens_in": 100 * requests, "tokens_out": 5 * requests,
        "money": pytest.approx(money),
    }  # fmt: skip
    assert f"{requests} requests, 2,500 tokens in, 125 out, ${money:.4f}" in done.output
    assert "not verified" in (done.place / "report.html").read_text()
    assert no_key(suite, done.output)


@pytest.mark.thorough
def test_a_name_on_the_command_line_is_asked_where_the_environment_says_and_never_with_the_judges_key(suite: Path) -> None:
    with serving(lambda *_: completion("7")) as (url, seen):
        common = ("--emt-encoder", "clip-mini", "--emt-image-set", "mnist-mini", "--emt-limit", "4")
        model = ("--emt-model", f"endpoint:them/{MODEL}")
        others = {"EMT_JUDGE_API_KEY": "sk-of-the-judge", "OPENAI_API_KEY": "sk-of-somebody"}
        none = in_a_process(suite, (*model, *common), {"EMT_MODEL_BASE_URL": "", **others})
        assert none.code == 4, none.output
        assert "set EMT_MODEL_BASE_URL" in none.output
        done = in_a_process(suite, (*model, *common), {"EMT_MODEL_BASE_URL": url, **others})
        assert done.code in (1, 7), done.output
        assert done.record["pairs"][0]["model"] == MODEL
        assert {asked.body["model"] for asked in seen} == {f"them/{MODEL}"}
        assert not [asked for asked in seen if "sk-of" in str(asked.authorization)]
        again = in_a_process(suite, (*model, *common), {"EMT_MODEL_BASE_URL": url, "EMT_MODEL_API_KEY": KEY, **others})
        assert again.code == done.code
        # Nobody says that it is the same model still: all is asked again.
        assert len(seen) == 10
        assert {asked.authorization for asked in seen[5:]} == {f"Bearer {KEY}"}
        assert no_key(suite, again.output)
        # A hub id is a hub id, whatever is set.
        hub = in_a_process(suite, ("--emt-model", f"them/{MODEL}", *common), {"EMT_MODEL_BASE_URL": url})
        assert hub.code == 3
        assert len(seen) == 10


def test_a_pinned_revision_is_replayed_and_another_is_not(suite: Path, gate: Gate) -> None:
    with serving(lambda *_: completion("7")) as (url, seen):
        catalog(suite, url, 'revision = "2026-11-01"')
        assert gate().code == 1
        assert len(seen) == N + 1
        again = gate()
        assert again.pair("served/mnist-mini")["replay"]["replayed"] == N
        assert "whose weights nobody verified: nothing in this run" in again.output
        assert len(seen) == N + 1
        assert "taken to be those of 2026-11-01" in again.pair("served/mnist-mini")["model_facts"]["fingerprint"]
        catalog(suite, url, 'revision = "2026-12-01"')
        gate()
        assert len(seen) == 2 * (N + 1)


@pytest.mark.thorough
@pytest.mark.parametrize("workers", [(), pytest.param(("-n2",), marks=pytest.mark.thorough)], ids=["serial", "n2"])
def test_a_killed_run_goes_on_and_asks_nothing_twice(suite: Path, workers: tuple[str, ...], gate: Gate) -> None:
    slow = 0.05

    def answer(asked: Asked, _: int) -> Said:
        time.sleep(slow)
        return completion("7")

    with serving(answer) as (url, seen):
        catalog(suite, url, 'revision = "1"')
        killed = subprocess.Popen(
            [sys.executable, "-m", "pytest", *ARGUMENTS, "--emt-limit", "200", *workers],
            cwd=suite, env={**environment(), "THEIR_KEY": KEY}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            start_new_session=True,
        )  # fmt: skip
        until = time.monotonic() + 120
        while len(images_asked(seen)) < 60 and time.monotonic() < until:
            time.sleep(0.01)
        os.killpg(killed.pid, signal.SIGKILL)
        killed.wait()
        time.sleep(5 * slow)
        before = images_asked(seen)
        assert 60 <= len(before) < 150
        done = gate(*workers, "--emt-limit", "200")
        assert done.pair("served/mnist-mini")["n"] == 200
        twice = [pixels for pixels, count in images_asked(seen).items() if count > 1]
        # What was under way when it was killed had no answer.
        assert len(twice) <= 4
        assert set(twice) <= set(before)
    assert no_key(suite)


HTML = b"<!DOCTYPE html><html><body>502 Bad Gateway</body></html>"
TRIES = 3
FAULTS: dict[str, tuple[Said, str, int]] = {
    "429 for ever": (refusal(429, "slow down"), f"answers 429 after {TRIES} tries", TRIES),
    "500 for ever": (refusal(500, "oops"), f"answers 500 after {TRIES} tries", TRIES),
    "503 for ever": (refusal(503, "busy"), f"answers 503 after {TRIES} tries", TRIES),
    "resets": (Said(b"", reset=True), f"cannot be reached after {TRIES} tries", TRIES),
    "torn bodies": (Said(completion("7").body, torn=True), f"cannot be reached after {TRIES} tries", TRIES),
    "time-outs": (Said(completion("7").body, hang=1.5), f"cannot be reached after {TRIES} tries (APITimeoutError)", TRIES),
    "401": (refusal(401, f"Incorrect API key provided: {KEY}"), "refuses the key; set THEIR_KEY", 1),
    "403": (refusal(403, f"not for {KEY}"), "refuses the key; set THEIR_KEY", 1),
    "404": (refusal(404, "no such model"), f"has no model '{MODEL}'; name one that it serves", 1),
    "no images": (refusal(400, f"image input is not supported, {KEY}"), "refuses a question with an image (", 1),
    "too long": (
        refusal(400, "This model's maximum context length is 512 tokens, you asked for max_tokens of 32"),
        "has no room for a question with an image (", 1,
    ),
    "a web page": (Said(HTML, kind="text/html"), "gives no chat completion but a web page", 1),
    "half a JSON": (Said(completion("7").body[:60]), "gives no chat completion but text that is no whole JSON", 1),
    "nothing": (Said(b""), "gives no chat completion but nothing", 1),
    "200 with an error inside": (
        Said(json.dumps({"error": {"message": f"upstream is down for {KEY}", "code": 502}}).encode()),
        "gives no chat completion (upstream is down for ***)", 1,
    ),
    "200 with something else": (Said(b'["no"]'), "gives no chat completion but something else", 1),
    "1 MB answers": (completion("7" * 1_000_000), "answers with 1,000,000 characters, where a few words were asked for", 1),
    "another model": (
        completion("7", model="tiny-vlm-mini"), f"was asked for '{MODEL}' and answers as 'tiny-vlm-mini'", 1,
    ),
    "no text": (completion(None), "takes an image and gives no text", 1),
    "only reasoning": (completion(None, finish="length"), "says nothing within 32 tokens", 1),
}  # fmt: skip


# An answer of nothing is an answer, once others were given.
LATER = [name for name in FAULTS if name not in {"no text", "only reasoning"}]
# Where time is short some stand for the others.
QUICK = {"429 for ever", "a web page", "another model"}
AFTER_NINE = [pytest.param(name, 9, marks=() if name in QUICK else pytest.mark.thorough) for name in LATER]
AT_ONCE = [pytest.param(name, 0, marks=pytest.mark.thorough) for name in LATER]


@pytest.mark.parametrize(("name", "healthy"), [*AFTER_NINE, *AT_ONCE, ("no text", 0), ("only reasoning", 0)])
def test_what_fails_is_one_sentence_and_what_was_answered_is_kept(suite: Path, name: str, healthy: int, gate: Gate) -> None:
    fault, sentence, tries = FAULTS[name]
    answered: set[str] = set()
    failed: Counter[str] = Counter()
    mended = False

    def answer(asked: Asked, position: int) -> Said:
        if position >= healthy and not mended:
            failed[asked.pixels] += 1
            return fault
        answered.add(asked.pixels)
        return completion("7")

    with serving(answer) as (url, seen):
        catalog(suite, url, 'revision = "1"\ntimeout = 1.0')
        done = gate()
        assert done.code == 3, done.output
        pair = done.pair("served/mnist-mini")
        assert pair["status"] == "could-not-run"
        reason = pair["reason"]
        if name == "another model" and healthy:
            sentence = f"answered as '{MODEL}' before and as 'tiny-vlm-mini' now"
        assert sentence in reason
        assert reason.startswith(f"the endpoint at {url} ")
        assert "\n" not in reason
        assert "Traceback" not in done.output
        # How often each image was asked: as often as is worth it, and no more.
        assert max(failed.values()) == tries
        assert no_key(suite, done.output)
        kept = set(answered)
        before = len(seen)
        mended = True
        rest = gate()
        assert rest.pair("served/mnist-mini")["n"] == N
        again = images_asked(seen[before:])
        assert not set(again) & kept
        assert not [pixels for pixels, count in again.items() if count > 1]


def test_what_passes_is_asked_again_and_counted(suite: Path, gate: Gate) -> None:
    flaky = [refusal(429, "busy"), refusal(503, "busy"), Said(b"", reset=True), Said(completion("4").body, torn=True)]
    first: set[str] = set()

    def answer(asked: Asked, position: int) -> Said:
        if asked.is_probe or asked.pixels in first or len(first) >= len(flaky):
            return completion("7")
        first.add(asked.pixels)
        return flaky[len(first) - 1]

    with serving(answer) as (url, seen):
        catalog(suite, url)
        done = gate()
    assert {row["answer"] for row in rows(done)} == {"7"}
    cost = done.pair("served/mnist-mini")["cost"]
    assert (cost["requests"], cost["retries"], len(seen)) == (N + 1 + 4, 4, N + 1 + 4)


def test_a_server_that_is_not_there(suite: Path, gate: Gate) -> None:
    with serving(lambda *_: completion("7")) as (url, _):
        pass
    catalog(suite, url)
    done = gate()
    assert done.code == 3
    reason = done.pair("served/mnist-mini")["reason"]
    assert reason == f"the endpoint at {url} cannot be reached after {TRIES} tries (APIConnectionError)"


def test_what_a_filter_withholds_is_a_kind_of_its_own_and_not_asked_again(suite: Path, gate: Gate) -> None:
    ways = [
        completion("", finish="content_filter"),
        completion(None, message={"refusal": "I cannot help with this 7."}),
        refusal(400, "The response was filtered due to the prompt triggering content management policy", "content_filter"),
    ]
    first: dict[str, Said] = {}

    def answer(asked: Asked, _: int) -> Said:
        if asked.is_probe:
            return completion("a square")
        if asked.pixels not in first:
            first[asked.pixels] = ways[len(first)] if len(first) < len(ways) else completion("7")
        return first[asked.pixels]

    with serving(answer) as (url, seen):
        catalog(suite, url, 'revision = "1"')
        for _ in range(2):
            done = gate()
            kinds = {kind["kind"]: kind["count"] for kind in done.pair("served/mnist-mini")["scores"][0]["kinds"]}
            assert kinds["withheld by a filter"] == 3
            withheld = [row for row in rows(done) if row["kind"] == "withheld by a filter"]
            assert [(row["prediction"], row["correct"], row["well_formed"]) for row in withheld] == [(None, False, False)] * 3
            assert {row["answer"] for row in withheld} == {"", "I cannot help with this 7."}
        assert len(seen) == N + 1


def test_settings_that_are_not_taken_are_left_out_and_recorded(suite: Path, gate: Gate) -> None:
    def answer(asked: Asked, _: int) -> Said:
        if "max_tokens" in asked.body:
            return refusal(400, "Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead.")
        if "temperature" in asked.body:
            return refusal(422, f"temperature must be 1 for {KEY}")
        return completion("7")

    with serving(answer) as (url, seen):
        catalog(suite, url, 'revision = "1"')
        facts = gate().pair("served/mnist-mini")["model_facts"]
    assert {name: facts["generation"][name] for name in ("max_completion_tokens", "image")} == {
        "max_completion_tokens": 32, "image": "png",
    }  # fmt: skip
    assert set(facts["settings_not_taken"]) == set(facts["generation"]["not taken"]) == {"max_tokens", "temperature"}
    # Each was tried once, at the start.
    assert len(seen) == N + 1 + 2
    assert no_key(suite)


def test_jpeg_is_an_option_that_is_recorded_and_no_answer_to_png(suite: Path, gate: Gate) -> None:
    with serving(lambda *_: completion("7")) as (url, seen):
        catalog(suite, url, 'revision = "1"')
        gate()
        catalog(suite, url, 'revision = "1"\nimage = "jpeg"')
        done = gate()
    assert Counter(asked.image.format for asked in seen) == {"PNG": N + 1, "JPEG": N + 1}
    assert done.pair("served/mnist-mini")["model_facts"]["generation"]["image"] == "jpeg"


def test_a_repeat_asks_anew_and_keeps_nothing_of_it(suite: Path, gate: Gate) -> None:
    said: Counter[str] = Counter()

    def answer(asked: Asked, _: int) -> Said:
        said[asked.pixels] += 1
        return completion("7" if said[asked.pixels] == 1 else "4")

    with serving(answer) as (url, seen):
        catalog(suite, url, 'revision = "1"')
        repeat = gate("--emt-repeat", "2").pair("served/mnist-mini")["repeat"]
        assert repeat["answers"] == repeat["n"] == N
        assert len(seen) == 2 * N + 1
        assert {row["answer"] for row in rows(gate())} == {"7"}
        assert len(seen) == 2 * N + 1


def test_no_more_is_asked_than_may_be_spent(suite: Path, gate: Gate) -> None:
    # A request is 100 tokens in and 5 out: $0.001.
    with serving(lambda *_: completion("7")) as (url, seen):
        catalog(suite, url, 'price_in = 9.5\nprice_out = 10.0\nrevision = "1"')
        done = gate("--emt-max-cost", "0.0105")
        assert done.code == 3, done.output
        reason = done.pair("served/mnist-mini")["reason"]
        assert re.match(r"the answers so far cost \$0\.0\d+, and another may exceed what --emt-max-cost", reason)
        assert len(seen) == 10
        # What was paid for is kept.
        rest = gate("--emt-max-cost", "1")
        assert rest.pair("served/mnist-mini")["n"] == N
        assert sum(images_asked(seen).values()) == N
        catalog(suite, url)
        refused = gate("--emt-max-cost", "1")
        assert refused.code == 4
        assert "needs price_in and price_out" in refused.output


def test_labels_are_not_ranked(suite: Path, gate: Gate) -> None:
    with serving(lambda *_: completion("7")) as (url, seen):
        catalog(suite, url)
        done = gate("--emt-scorer", "answer,likelihood")
    assert done.code == 3
    assert "the scorer 'likelihood' wants the probabilities of labels, which a model of the backend 'endpoint'" in done.output
    assert len(seen) == 1


def test_two_models_behind_endpoints_are_compared(suite: Path, gate: Gate) -> None:
    def answer(asked: Asked, _: int) -> Said:
        return completion("7" if asked.body["model"] == "tuned" else "4", model=asked.body["model"])

    with serving(answer) as (url, seen):
        catalog(suite, url, model="tuned")
        base = f'\n[models.base.endpoint]\nbase_url = "{url}"\nmodel = "base"\n'
        with (suite / "emt.toml").open("a") as file:
            file.write(base)
        done = gate("--emt-reference", "base")
    pair = done.pair("served/mnist-mini")
    assert pair["comparisons"][pair["gate"]]["reference"] == {"kind": "model", "id": "base"}
    assert Counter(asked.body["model"] for asked in seen) == {"tuned": N + 1, "base": N + 1}
    # The key is the tuned one's alone.
    assert {asked.authorization for asked in seen if asked.body["model"] == "base"} == {"Bearer none"}
    assert pair["cost"]["requests"] == 2 * (N + 1)


@pytest.mark.parametrize(
    ("more", "url", "variables", "code", "sentence"),
    [
        ("", f"http://user:{KEY}@localhost:1/v1", {}, 4, "base_url carries a user, password or query"),
        ("", f"http://localhost:1/v1?key={KEY}", {}, 4, "base_url carries a user, password or query"),
        ("", "localhost:1", {}, 4, "base_url is no address of an endpoint"),
        (f'api_key = "{KEY}"', "http://localhost:1", {}, 4, "a key stays in the environment"),
        ('image = "gif"', "http://localhost:1", {}, 4, 'image, which must be "png" or "jpeg"'),
        ("price_in = -1", "http://localhost:1", {}, 4, "price_in, which must be a number of at least 0"),
        (
            "",
            "http://localhost:1",
            {"THEIR_KEY": ""},
            3,
            "the key of tiny-vlm at http://localhost:1 is not there; set THEIR_KEY",
        ),
    ],
)
def test_what_is_no_endpoint_is_said_without_the_key(
    suite: Path, gate: Gate, monkeypatch: pytest.MonkeyPatch,
    more: str, url: str, variables: dict[str, str], code: int, sentence: str,
) -> None:  # fmt: skip
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    catalog(suite, url, more)
    done = gate()
    assert done.code == code, done.output
    assert sentence in done.output
    assert KEY not in done.output
    assert not [path for path in (suite / "reports").rglob("*") if path.is_file() and KEY.encode() in path.read_bytes()]


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        (("--emt-checkpoint", "runs/*"), "endpoint:x is behind an endpoint, which serves no checkpoints"),
        (("--emt-reference", "endpoint:x"), "--emt-reference endpoint:x is the model itself"),
        (("--emt-max-cost", "1"), "--emt-max-cost needs price_in and price_out"),
        (("--emt-max-cost", "0"), "--emt-max-cost 0 is no amount of US dollars"),
        (("--emt-max-cost", "much"), "--emt-max-cost much is no amount of US dollars"),
    ],
)
def test_what_means_nothing_of_an_endpoint_is_a_usage_error(
    run: Gate, monkeypatch: pytest.MonkeyPatch, more: tuple[str, ...], sentence: str
) -> None:
    monkeypatch.setenv("EMT_MODEL_BASE_URL", "http://localhost:1/v1")
    done = run("--emt-model", "endpoint:x", "--emt-image-set", "mnist-mini", *more)
    assert done.code == 4, done.output
    assert sentence in done.output


def test_a_limit_of_costs_needs_a_model_that_costs(run: Gate) -> None:
    done = run("--emt-max-cost", "1")
    assert done.code == 4
    assert "--emt-max-cost is for models behind endpoints, and there is none" in done.output


def test_a_revision_may_be_pinned_on_the_command_line(run: Gate, monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(lambda *_: completion("7")) as (url, seen):
        monkeypatch.setenv("EMT_MODEL_BASE_URL", url)
        for revision, requests in (("1", 5), ("1", 5), ("2", 10)):
            run("--emt-model", f"endpoint:{MODEL}", "--emt-revision", revision, "--emt-image-set", "mnist-mini",
                "--emt-encoder", "clip-mini", "--emt-limit", "4")  # fmt: skip
            assert len(seen) == requests


def test_the_commands_know_of_endpoints(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "emt.toml").write_text('[models.x.endpoint]\nmodel = "a/b"\n')
    assert main(["models", "--catalog", str(tmp_path / "emt.toml")]) == 0
    assert "x: endpoint:a/b, encoder unknown" in capsys.readouterr().out
    (tmp_path / "emt.toml").write_text(ENTRY.format(url="http://localhost:1/v1", more="", model=MODEL))
    assert main(["finetune", "--model", "served", "--image-set", "mnist-mini", "--catalog", str(tmp_path / "emt.toml")]) == 1
    assert "is behind an endpoint, where nothing is fine-tuned" in capsys.readouterr().err


@pytest.mark.parametrize("url", [f"https://user:{KEY}@host/v1", f"https://host/v1?api_key={KEY}", f"https://host/v1#{KEY}"])
def test_a_key_in_an_address_is_refused_and_not_said_again(suite: Path, url: str) -> None:
    common = ("--emt-image-set", "mnist-mini", "--emt-encoder", "clip-mini")
    named = in_a_process(suite, ("--emt-model", "endpoint:x", *common), {"EMT_MODEL_BASE_URL": url})
    written = in_a_process(suite, ("--emt-model", url, *common))
    for done in (named, written):
        assert done.code == 4, done.output
        assert "EMT_MODEL_" in done.output
        assert KEY not in done.output
        assert not (suite / "reports").exists()
