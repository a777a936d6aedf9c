"""Runs that stop at the first image that settles the verdict: reproduced by a plain loop over a whole run's rows."""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Sequence
from fractions import Fraction
from math import floor
from pathlib import Path

import pytest

from emt_plugin.records import RunRecord, read_predictions
from tests.plugin.conftest import REPOSITORY, Run

Start = Callable[..., Run]
BETS = [Fraction(percent, 100) for percent in (9, 13, 18, 25, 35, 50, 71, 100)]
ADAPTERS = str(REPOSITORY / "fixtures" / "mini" / "adapters" / "lora-emoji" / "*")
DIGITS = ("--emt-image-set", "digits-mini")


def crosses(values: Sequence[int], most: int, size: int) -> int | None:
    """After how many values of 0, 1 or 2 the bets against "all sum to no more than ``most``" have made 25 of 1."""
    shares = [Fraction(1)] * len(BETS)
    total = 0
    for seen, value in enumerate(values):
        allowed = most - total
        total += value
        if total > most:
            return seen + 1
        if allowed:
            mean = Fraction(allowed, size - seen)
            shares = [made * (1 - bet + bet * value / mean) for made, bet in zip(shares, BETS, strict=True)]
        if sum(shares) >= 25 * len(BETS):
            return seen + 1
    return None


def by_hand(
    model: Sequence[bool], reference: Sequence[bool], size: int, tolerance: Fraction, chance: Fraction
) -> tuple[str, int]:
    """The verdict and the image at which it is settled."""
    differences = [int(mine) - int(theirs) for mine, theirs in zip(model, reference, strict=True)]
    above = crosses([1 + d for d in differences], size + floor(-tolerance * size), size)
    below = crosses([1 - d for d in differences], size + floor(tolerance * size), size)
    sees = crosses([2 * int(right) for right in reference], 2 * floor(chance * size), size)
    if below is not None and (above is None or below < above):
        return "FAIL", below
    if above is not None and sees is not None:
        return "PASS", max(above, sees)
    return "INCONCLUSIVE", len(differences)


@pytest.mark.parametrize(
    ("model", "image_set", "more"),
    [
        ("llava-mini", "digits-mini", ()),
        ("llava-mini-forgot", "emoji-mini", ()),
        ("llava-mini", "emoji-mini", ("--emt-limit", "60")),
        ("llava-mini-forgot", "digits-mini", ("--emt-reference", "llava-mini")),
    ],
    ids=["pass", "fail", "unsettled", "against-a-model"],
)
def test_a_plain_loop_stops_at_the_same_image(run: Start, model: str, image_set: str, more: tuple[str, ...]) -> None:
    common = ("--emt-model", model, "--emt-image-set", image_set, "--emt-tolerance", "0.05", *more)
    whole = run(*common)
    pair = f"{model}/{image_set}"
    rows = read_predictions(whole.place, pair.replace("/", "__"))
    all_of_it = whole.pair(pair)
    gating = all_of_it["comparisons"][all_of_it["gate"]]
    assert gating["sequential"] is None
    key = "{kind}:{id}".format(**gating["reference"])
    labels = [row.label for row in rows]
    most = max(labels.count(label) for label in labels)
    chance = max(Fraction(1, len(all_of_it["labels"])), Fraction(most, len(rows)))
    right = [row.reference_right(key, "answer") for row in rows]
    size = all_of_it["n_split"]
    verdict, stopped_at = by_hand([row.correct for row in rows], right, size, Fraction(1, 20), chance)
    stopped = run(*common, "--emt-early-stop")
    found = stopped.pair(pair)
    comparison = found["comparisons"][found["gate"]]
    assert comparison["verdict"] == verdict
    assert (comparison["sequential"]["stopped_at"], comparison["sequential"]["of"]) == (stopped_at, size)
    assert found["n"] == stopped_at
    assert read_predictions(stopped.place, pair.replace("/", "__")) == rows[:stopped_at]
    assert stopped.code == {"PASS": 0, "FAIL": 1, "INCONCLUSIVE": 7}[verdict]
    assert (verdict == "INCONCLUSIVE") == (stopped_at == len(rows))
    # What was measured is others' images, and says so.
    same = found["image_set_facts"]["fingerprint"] == all_of_it["image_set_facts"]["fingerprint"]
    assert same == (stopped_at == len(rows))


@pytest.mark.thorough
def test_workers_batches_and_the_store_stop_at_the_same_image(run: Start) -> None:
    common = (*DIGITS, "--emt-image-set", "mnist-mini", "--emt-early-stop")
    found = []
    for extra in (("--emt-store=off",), ("--emt-store=off", "--emt-batch-size", "1"), ("--emt-batch-size", "7"), (), ("-n2",)):
        done = run(*common, *extra)
        rows = {path.name: path.read_bytes() for path in sorted((done.place / "predictions").iterdir())}
        found.append((done.code, [pair["comparisons"] for pair in done.record["pairs"]], rows))
    assert all(other == found[0] for other in found[1:])


def test_it_is_said_everywhere_that_it_is_sequential(run: Start) -> None:
    done = run("--emt-model", "llava-mini-forgot", *DIGITS, "--emt-early-stop", "--junitxml=junit.xml")
    assert done.code == 1, done.output
    pair = done.pair("llava-mini-forgot/digits-mini")
    stopped_at, of = (pair["comparisons"][0]["sequential"][name] for name in ("stopped_at", "of"))
    assert stopped_at < of == pair["n_split"]
    (message,) = [failure.get("message", "") for failure in ElementTree.parse(done.folder / "junit.xml").iter("failure")]
    assert f"] sequential, tolerance 5 points (default), {stopped_at} images one by one of the split's {of}" in message
    for text in (done.output, *((done.place / name).read_text() for name in ("summary.md", "report.html"))):
        assert re.search(r"\[−\d+\.\d, −\d+\.\d\] sequential", text)
        assert f"{stopped_at} of the {of} images of the splits" in text
    assert RunRecord.read(done.place).pairs[0].gating is not None


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--emt-repeat", "2"), "does not go with --emt-repeat, since what flips is counted"),
        (("--emt-image", "0123456789"), "does not go with --emt-image, since"),
        (("--emt-update-tolerances", "--emt-tolerances", "new.toml"), "does not go with --emt-update-tolerances, since"),
        (("--emt-checkpoint", ADAPTERS), "does not go with --emt-checkpoint, since"),
        (("--emt-tolerances", "accepted.toml"), "does not go with the accepted loss of llava-mini/digits-mini"),
        (("--emt-reference", "probe"), "the probe of llava-mini is fitted on all of them"),
    ],
)
def test_what_needs_all_images_is_refused(run: Start, suite: Path, arguments: tuple[str, ...], says: str) -> None:
    (suite / "accepted.toml").write_text('[pair."llava-mini/digits-mini"]\naccepted_loss = 0.2\n')
    done = run(*DIGITS, "--emt-early-stop", *arguments)
    assert done.code == 4, done.output
    assert says in done.output
    assert "Traceback" not in done.output
    assert not list(done.folder.glob("**/run.json"))


def test_an_accepted_loss_that_is_set_aside_is_none(run: Start, suite: Path) -> None:
    (suite / "accepted.toml").write_text('[pair."llava-mini/digits-mini"]\naccepted_loss = 0.2\n')
    done = run(*DIGITS, "--emt-early-stop", "--emt-tolerances", "accepted.toml", "--emt-tolerance", "0.1")
    assert done.code == 0, done.output
    assert json.loads((done.place / "run.json").read_text())["settings"]["compute"]["early_stop"] is True


def test_by_the_fixture_too(run: Start, suite: Path) -> None:
    (suite / "test_forgetting.py").unlink()
    (suite / "test_own.py").write_text(
        "def test_holds(emt):\n"
        "    pair = emt.check('llava-mini', 'digits-mini', tolerance=0.1)\n"
        "    assert pair.gating.sequential.stopped_at == pair.n < pair.n_split\n"
    )
    done = run("--emt-early-stop")
    assert done.code == 0, done.output
    assert done.record["pairs"][0]["comparisons"][0]["sequential"]["beats_chance"] is True


def test_what_the_fixture_asks_for_may_need_all_images(run: Start, suite: Path) -> None:
    (suite / "test_forgetting.py").unlink()
    (suite / "accepted.toml").write_text('[pair."llava-mini-forgot/digits-mini"]\naccepted_loss = 0.2\n')
    (suite / "test_own.py").write_text("def test_holds(emt):\n    emt.check('llava-mini-forgot', 'digits-mini')\n")
    done = run("--emt-early-stop", "--emt-tolerances", "accepted.toml")
    assert done.code == 3, done.output
    assert "the accepted loss of llava-mini-forgot/digits-mini is of all images; leave --emt-early-stop out" in done.output
