"""The first screen of each verdict and of a trajectory, on a desk and on a phone, by day and by night."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from emt_plugin.records import PairRecord, Row, RunRecord, write_predictions
from emt_plugin.report import render
from tests.browser.axe import assert_accessible
from tests.browser.checks import ILLEGIBLE, TOO_WIDE
from tests.browser.looks import Look, opened
from tests.unit.test_decision import GONE, judged
from tests.unit.test_records import make_pair, make_run
from tests.unit.test_trajectory_report import made

RUNS = {
    "PASS": (judged(make_pair(90, 0)), "Release"),
    "FAIL": (judged(make_pair(60, 30), code=1), "Do not release: "),
    "INCONCLUSIVE": (judged(make_pair(80, 6), code=7), "Not settled: "),
    "INCOMPLETE": (judged(make_pair(90, 0), GONE, code=3, complete=False), "Do not release yet: "),
}
LOOKS = [Look("light", 1440), Look("dark", 1440), Look("light", 360), Look("dark", 360)]
ACCENT = "element => getComputedStyle(element).getPropertyValue('--accent').trim()"


def drawn(folder: Path, run: RunRecord, wrong: int) -> str:
    run.write(folder)
    for pair in run.pairs:
        write_predictions(folder, pair.key.file_name, rows_of(pair, wrong))
    return render(folder).as_uri()


def rows_of(pair: PairRecord, wrong: int) -> list[Row]:
    return [
        Row(n, f"{n:064x}", 0, n % 2, f"answer {n}", None, False, "nothing", False, {"encoder:clip": n % 2}, 1)
        for n in range(wrong if pair.n else 0)
    ]


@pytest.mark.parametrize("look", LOOKS, ids=lambda look: look.name)
@pytest.mark.parametrize("verdict", RUNS)
def test_the_decision_is_on_the_first_screen(browser, tmp_path: Path, verdict: str, look: Look) -> None:
    run, title = RUNS[verdict]
    with opened(browser, drawn(tmp_path, run, 2), look) as seen:
        head = seen.page.locator("h1")
        assert head.locator(".title").inner_text().startswith(title)
        assert head.locator(".badge").inner_text().split()[-1] == verdict
        for part in (".about", "h1", ".number"):
            box = seen.page.locator(f"#verdict {part}").bounding_box()
            assert box is not None
            assert box["y"] + box["height"] <= 900
        facts = seen.page.locator("#verdict .about dt").all_inner_texts()
        assert facts == ["Model", "Reference", "Date", "Images"]
        # Two images are wrong, each with its answer and its truth; the table begins below them.
        assert seen.page.locator("#verdict .failures li").count() == 2
        assert seen.page.locator("#verdict .failures .answer").all_inner_texts() == ["answer 0", "answer 1"]
        assert not seen.ask(TOO_WIDE)
        assert not seen.ask(ILLEGIBLE, False)


def test_each_verdict_has_an_accent_of_its_own(browser, tmp_path: Path) -> None:
    accents = set()
    for verdict, (run, _) in RUNS.items():
        (tmp_path / verdict).mkdir()
        with opened(browser, drawn(tmp_path / verdict, run, 0)) as seen:
            accents.add(seen.page.locator(".hero").evaluate(ACCENT))
            assert seen.page.locator(".failures").count() == 0
    assert len(accents) == len(RUNS)


@pytest.mark.parametrize("look", LOOKS, ids=lambda look: look.name)
def test_the_curves_of_a_trajectory_come_first_and_large(browser, tmp_path: Path, look: Look) -> None:
    run = replace(make_run(make_pair()), trajectories=(made(),))
    with opened(browser, drawn(tmp_path, run, 2), look) as seen:
        assert seen.page.locator("h1 .title").inner_text() == "Keep epoch 0.12 of run-1"
        sections = seen.ask("() => [...document.querySelectorAll('section')].map(section => section.id)")
        assert sections[:3] == ["verdict", "training", "pairs"]
        first = seen.page.locator("#training svg").first.bounding_box()
        assert first is not None
        assert first["width"] >= (430 if look.width > 700 else 300)
        # Before anything else that is drawn or listed.
        assert seen.page.locator("svg, table, .failures, details").first.evaluate(
            "element => !!element.closest('.panels.large')"
        )
        assert not seen.ask(TOO_WIDE)
        seen.open_everything()
        assert not seen.ask(TOO_WIDE)
        if look == LOOKS[0]:
            assert_accessible(seen)
