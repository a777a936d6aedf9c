"""What is said, drawn and decided of a line between a base and what was tuned from it, from a small one by hand."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import product
from pathlib import Path

import pytest

from emt_plugin.analysis import Change, Decision, Keep, Mending, checkpoint_to_keep, promise_of
from emt_plugin.analysis.trajectory import Trajectory
from emt_plugin.catalog import CatalogError
from emt_plugin.catalog.checkpoints import Provenance, one_checkpoint, provenance_of
from emt_plugin.cli.mend import DEFAULT_ALPHAS, alphas_of
from emt_plugin.records import RunRecord
from emt_plugin.report import render, write_summary
from emt_plugin.report.drawings.exchange import exchange
from emt_plugin.report.words import trajectory as words
from emt_plugin.report.words.verdicts import headline
from tests.unit.test_records import make_pair, make_run
from tests.unit.test_trajectory_report import OTHER, TUNED, made

ALPHAS = (0.25, 0.5, 1.0)
LOSS = Change(-0.04, -0.08, -0.01)


def line(alpha: float | None, verdicts: tuple[str, ...], written: bool = True) -> Trajectory:
    """The states of a small trajectory as those of a line; ``verdicts`` are those of the half that decides, outside."""
    run = made()
    decided = tuple(
        Decision(at, name, 100, LOSS if name == OTHER else Change(0.0, -0.01, 0.01), 0.05, verdict if name == OTHER else "FAIL")
        for at, verdict in zip(ALPHAS, verdicts, strict=True)
        for name in (TUNED, OTHER)
    )
    states = tuple(replace(state, alpha=at) for state, at in zip(run.states, (None, *ALPHAS), strict=True))
    keep = Keep(0 if alpha is None else 1 + ALPHAS.index(alpha), None, {}, ())
    return replace(run, states=states, keep=keep, mending=Mending("run-1/checkpoint-8", alpha, written, decided))


def test_what_was_chosen_in_words() -> None:
    assert words.to_keep(line(0.25, ("PASS", "INCONCLUSIVE", "PASS"))) == (
        "Alpha 0.25: +30.0 [+23.1, +38.0] in domain, −2.0 [−5.9, +0.7] elsewhere, on the half of the images that did not "
        "choose it, where it promises other PASS. At 0.5, on the half that decides, other is INCONCLUSIVE "
        "(−4.0 [−8.0, −1.0])."
    )
    assert words.to_keep(line(1.0, ("PASS", "PASS", "PASS"))).endswith("it promises other PASS. It is what was tuned, whole.")
    assert words.to_keep(line(None, ("INCONCLUSIVE", "PASS", "PASS"), False)) == (
        "No alpha helps: already at the smallest, 0.25, other is INCONCLUSIVE (−4.0 [−8.0, −1.0]): more images, or a smaller "
        "alpha, may settle that."
    )
    assert words.to_keep(line(None, ("FAIL", "PASS", "PASS"), False)).endswith("other is FAIL (−4.0 [−8.0, −1.0]): a smaller "
                                                                               "alpha may pass.")  # fmt: skip
    assert words.to_keep(line(0.5, ("PASS", "PASS", "FAIL"), False)) == (
        "No alpha helps: 0.5 passes outside the domain on the half of the images that decides, and on the half that did not "
        "choose it it does not: other FAIL."
    )


@pytest.mark.parametrize(
    ("domain", "said"),
    [
        (Change(0.02, 0.001, 0.04), ""),
        (Change(0.02, -0.01, 0.04), "No gain in the domain is shown: the base may do as well."),
        (Change(-0.04, -0.08, -0.01), "In the domain it is worse than the base: it recovers nothing, so keep the base."),
    ],
)
def test_where_nothing_is_gained_it_says_so(domain: Change, said: str) -> None:
    found = line(1.0, ("PASS", "PASS", "PASS"))
    states = (*found.states[:-1], replace(found.states[-1], domain=domain))
    text = words.to_keep(replace(found, states=states))
    assert ("in the domain" in text.lower()) == bool(said)
    assert said in text


def test_states_have_the_names_of_their_alphas() -> None:
    found = line(0.25, ("PASS", "FAIL", "FAIL"))
    assert [row[0] for row in words.table(found)] == ["state", "base", "alpha 0.25 <- keep", "alpha 0.5", "alpha 1"]
    assert words.decided_table(found)[1:] == [
        ("alpha 0.25", "0.0 [−1.0, +1.0] ✗", "−4.0 [−8.0, −1.0]"),
        ("alpha 0.5", "0.0 [−1.0, +1.0] ✗", "−4.0 [−8.0, −1.0] ✗"),
        ("alpha 1", "0.0 [−1.0, +1.0] ✗", "−4.0 [−8.0, −1.0] ✗"),
    ]
    assert words.decided_table(made()) == []


def test_the_page_says_it_and_shows_the_exchange(tmp_path: Path) -> None:
    for code, said in ((0, "PASS: at alpha 0.25 every"), (7, "INCONCLUSIVE: at alpha 0.25 it is not settled that every")):
        run = replace(make_run(make_pair(), code=code), trajectories=(line(0.25, ("PASS", "FAIL", "FAIL")),))
        assert headline(run).startswith(f"{said} image set outside the domain passes")
    run.write(tmp_path)
    assert RunRecord.read(tmp_path).trajectories == run.trajectories
    page = render(tmp_path).read_text()
    assert page.count("<polyline") == 3
    assert "the ring is what was written" in page
    assert "alpha 0.5" in write_summary(tmp_path, run).read_text()
    none = replace(run, trajectories=(line(None, ("FAIL", "FAIL", "FAIL"), False),), exit_code=1)
    assert headline(none) == "FAIL: no state between the base and run-1/checkpoint-8 passes outside its domain"


def test_the_exchange_by_its_numbers() -> None:
    """Elsewhere −2, −40 and −1 points, in domain 30, 40 and 35: from hand to pixels by two known grid lines."""
    found = exchange(line(0.25, ("PASS", "FAIL", "FAIL")))
    assert found is not None

    def value(lines: tuple[tuple[float, str], ...], pixel: float) -> float:
        (one, low), (two, high) = lines[0], lines[-1]
        ends = [float(text.replace("−", "-")) for text in (low, high)]
        return ends[0] + (pixel - one) / (two - one) * (ends[1] - ends[0])

    points = [(value(found.columns, mark.x), value(found.rows, mark.y)) for mark in found.marks]
    assert [pytest.approx(point, abs=0.2) for point in points] == [(-2, 30), (-40, 40), (-1, 35)]
    assert (value(found.columns, found.zero[0]), value(found.rows, found.zero[1])) == (pytest.approx(0), pytest.approx(0))
    assert [(mark.label, mark.chosen, mark.verdict) for mark in found.marks] == [
        ("0.25", True, "PASS"), ("0.5", False, "FAIL"), ("1", False, "PASS"),
    ]  # fmt: skip
    assert all(found.left <= mark.x <= found.right and found.top <= mark.y <= found.bottom for mark in found.marks)
    assert exchange(made()) is None


@pytest.mark.parametrize("verdicts", list(product(["PASS", "FAIL", "INCONCLUSIVE"], repeat=3)))
def test_the_last_before_the_first_that_does_not_pass(verdicts: tuple[str, ...]) -> None:
    """The walk, from the smallest alpha: what the rule keeps is counted by the plainest loop."""
    passing = 0
    for verdict in verdicts:
        if verdict != "PASS":
            break
        passing += 1
    states = [{"in": "FAIL", "out": verdict} for verdict in ("PASS", *verdicts)]
    assert checkpoint_to_keep(states, ["in"]).kept == passing
    assert promise_of(verdicts) == ("FAIL" if "FAIL" in verdicts else "PASS" if set(verdicts) == {"PASS"} else "INCONCLUSIVE")


def test_no_verdict_promises_nothing() -> None:
    assert promise_of([None, "PASS"]) == promise_of([]) == "INCONCLUSIVE"


def test_alphas() -> None:
    assert alphas_of(DEFAULT_ALPHAS) == tuple(tenth / 10 for tenth in range(1, 11))
    assert alphas_of("1") == (1.0,)
    for text in ("0.0001,0.5", "0.5,0.5001", ",".join(f"{n / 200:.4f}" for n in range(1, 201))):
        with pytest.raises(CatalogError, match="closer than a thousandth"):
            alphas_of(text)


def test_the_domain_of_a_mended_model_is_that_of_what_was_tuned(tmp_path: Path) -> None:
    known = Provenance("base", "0" * 64, 5, 1.0, "lora", "one", "1" * 64)
    assert known.trained_on == ("one",)
    assert "mended" not in json.loads(known.to_json())
    mended = replace(known, mended={"alpha": 0.5, "trained_on": ["one", "two"]})
    (tmp_path / "emt.json").write_text(mended.to_json())
    assert provenance_of(tmp_path) == mended
    assert mended.trained_on == ("one", "two")


def test_one_checkpoint_of_a_pattern(tmp_path: Path) -> None:
    for step in (2, 10, 9):
        folder = tmp_path / "run" / f"checkpoint-{step}"
        folder.mkdir(parents=True)
        (folder / "config.json").write_text("{}")
        (folder / "trainer_state.json").write_text(json.dumps({"global_step": step, "epoch": step / 10}))
    assert one_checkpoint(f"{tmp_path}/run/*").folder.name == "checkpoint-10"
    alone = tmp_path / "whole"
    alone.mkdir()
    (alone / "config.json").write_text("{}")
    assert (one_checkpoint(str(alone)).step, one_checkpoint(str(alone)).adapter) == (0, False)
    with pytest.raises(CatalogError, match="does not say after which step"):
        one_checkpoint(f"{tmp_path}/**")
    (alone / "trainer_state.json").write_text(json.dumps({"global_step": 1}))
    with pytest.raises(CatalogError, match="matches checkpoints of 2 runs"):
        one_checkpoint(f"{tmp_path}/**")
