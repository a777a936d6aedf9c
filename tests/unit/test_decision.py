"""What a release manager reads first, and the drawings that stand for numbers."""

from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import pytest

from emt_plugin.analysis.steps import Step
from emt_plugin.gate import Reference, Tolerance, compare, with_holm
from emt_plugin.records import PairKey, PairRecord, Row, RunRecord, write_predictions
from emt_plugin.report import render
from emt_plugin.report.drawings.chart import step_forest
from emt_plugin.report.drawings.stages import HEIGHT, MOST_NAMED, stage_chart
from emt_plugin.report.words.decision import decision
from emt_plugin.report.words.terms import TERMS
from tests.unit.test_records import make_pair, make_run
from tests.unit.test_trajectory_report import made

GONE = PairRecord(PairKey("model", "gone"), status="crashed", reason="its worker crashed")


def judged(*pairs: PairRecord, code: int = 0, complete: bool = True) -> RunRecord:
    done = iter(with_holm([pair.comparisons[0] for pair in pairs if pair.gating]))
    return make_run(
        *(replace(pair, comparisons=(next(done),)) if pair.gating else pair for pair in pairs), code=code, complete=complete
    )


def against(kind: str, pair: PairRecord) -> PairRecord:
    return replace(pair, comparisons=tuple(replace(c, reference=Reference(kind, "before")) for c in pair.comparisons))  # type: ignore[arg-type]


def of_model(name: str, pair: PairRecord) -> PairRecord:
    return replace(pair, key=replace(pair.key, model=name))


def by_accepted_loss(pair: PairRecord) -> PairRecord:
    (found,) = pair.comparisons
    model = [True] * (found.n11 + found.n10) + [False] * (found.n - found.n11 - found.n10)
    reference = [True] * found.n11 + [False] * found.n10 + [True] * found.n01 + [False] * found.n00
    tolerance = Tolerance(0.3, "accepted", 0.05, accepted=True)
    return replace(pair, comparisons=(compare(model, reference, found.reference, tolerance),))


@pytest.mark.parametrize(
    ("run", "title", "tone"),
    [
        (judged(make_pair(90, 0)), "Release", "pass"),
        (judged(by_accepted_loss(make_pair(80, 9))), "Release, with 1 accepted loss", "pass"),
        (judged(*(of_model(name, make_pair(90, 0)) for name in "xy")), "Release: all 2 models passed", "pass"),
        (judged(), "Do not release yet: nothing was compared", "open"),
        (judged(make_pair(90, 0), code=1), "Do not release yet: something beside the gate failed", "open"),
        (judged(make_pair(60, 30), code=1), "Do not release: model is below its encoder on images", "fail"),
        (
            judged(make_pair(60, 30, "a"), make_pair(90, 0, "b"), make_pair(90, 0, "c"), code=1),
            "Do not release: model is below its encoder on 1 of 3 image sets",
            "fail",
        ),
        (
            judged(against("probe", make_pair(60, 30)), code=1),
            "Do not release: model is below the supervised probe on images",
            "fail",
        ),
        (judged(against("model", make_pair(60, 30)), code=1), "Do not release: model forgot on images", "fail"),
        (
            judged(of_model("x", make_pair(60, 30)), of_model("y", make_pair(60, 30)), of_model("z", make_pair(90, 0)), code=1),
            "Do not release: 2 of 3 models are below their encoder by more than the tolerance",
            "fail",
        ),
        (judged(make_pair(80, 6), code=7), "Not settled: images has too few images to tell", "open"),
        (
            judged(make_pair(90, 0), GONE, code=3, complete=False),
            "Do not release yet: 1 of 2 image sets has no verdict",
            "missing",
        ),
        (
            judged(make_pair(60, 30), GONE, code=3, complete=False),
            "Do not release: model is below its encoder on 1 of 2 image sets, and 1 of 2 image sets has no verdict",
            "missing",
        ),
        (judged(make_pair(90, 0), code=3, complete=False), "Do not release yet: something went wrong in the run", "missing"),
    ],
)  # fmt: skip
def test_the_decision_in_a_release_managers_words(run: RunRecord, title: str, tone: str) -> None:
    found = decision(run)
    assert (found.title, found.tone) == (title, tone)
    assert found.plain.endswith(".")


def test_what_is_not_settled_says_how_many_more_images() -> None:
    (pair,) = judged(make_pair(80, 6), code=7).pairs
    needed = pair.comparisons[0].n_needed
    assert needed
    found = decision(judged(replace(pair, n_split=needed), code=7))
    assert found.title == f"Not settled: about {needed - 100:,} more images of images"
    assert f"--emt-limit {needed} would tell" in found.plain
    both = judged(*(replace(pair, key=PairKey("model", name), n_split=needed) for name in "ab"), code=7)
    assert decision(both).title == f"Not settled: up to {needed - 100:,} more images of each of 2 image sets"


def test_the_reason_needs_no_statistics() -> None:
    assert decision(judged(make_pair(60, 30))).plain == (
        "On images it gets 60 of 100 images right where its own vision encoder gets 90: that is worse by more than the 5 in "
        "100 that are tolerated, and unlikely to be chance."
    )
    assert "5 in 100 that are tolerated" in decision(judged(make_pair(90, 0))).plain
    assert (
        decision(judged(make_pair(90, 0), GONE, complete=False)).plain
        == "Nothing is known of gone, and a result that is missing is no pass."
    )


def test_rounding_never_hides_a_loss() -> None:
    """85.4 and 80.0 of 100 would read as 85 and 80, which is the tolerance and no more."""
    model, reference = [True] * 8000 + [False] * 2000, [True] * 8540 + [False] * 1460
    comparison = compare(model, reference, Reference("encoder", "clip"), Tolerance(0.05, "default", 0.05))
    assert comparison.verdict == "FAIL"
    plain = decision(make_run(replace(make_pair(), comparisons=(comparison,)))).plain
    assert "80.0% of the images right where its own vision encoder gets 85.4%" in plain


def test_a_trajectory_says_what_to_keep() -> None:
    run = replace(make_run(make_pair()), trajectories=(made(),))
    found = decision(run)
    assert found.title == "Keep epoch 0.12 of run-1"
    assert found.plain == (
        "Up to epoch 0.12 no image set that it was not trained on fell by more than is tolerated; at epoch 1 other did."
    )
    two = decision(replace(run, trajectories=(made(), made())))
    assert two.title == "Keep a checkpoint of 2 of 2 fine-tuning runs"


def test_facts_name_model_reference_date_and_images() -> None:
    assert decision(judged(make_pair(90, 0))).facts == (
        ("Model", "model"),
        ("Reference", "clip (its own encoder)"),
        ("Date", "2026-01-01 00:00 UTC"),
        ("Images", "100 in 1 image set"),
    )


def row(number: int, label: int, right: bool = False, answer: str = "an answer") -> Row:
    return Row(number, f"hash{number}", 0, label, answer, label if right else None, right, None if right else "nothing", True,
               {"encoder:clip": label}, 5)  # fmt: skip


class Texts(HTMLParser):
    """What stands in the list of failures on the first screen."""

    def __init__(self) -> None:
        super().__init__()
        self.inside, self.items, self.text = False, 0, ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.inside |= ("class", "failures") in attrs
        self.items += self.inside and tag == "li"

    def handle_endtag(self, tag: str) -> None:
        self.inside &= tag != "ul"

    def handle_data(self, data: str) -> None:
        self.text += data if self.inside else ""


def first_failures(folder: Path, run: RunRecord, rows: dict[str, list[Row]]) -> Texts:
    run.write(folder)
    for pair in run.pairs:
        write_predictions(folder, pair.key.file_name, rows.get(pair.key.id, []))
    found = Texts()
    found.feed(render(folder).read_text(encoding="utf-8"))
    return found


def test_three_failures_of_the_worst_pairs_stand_on_the_first_screen(tmp_path: Path) -> None:
    run = judged(make_pair(60, 30, "bad"), make_pair(90, 0, "good"), make_pair(50, 40, "worst"))
    rows = {
        "model/bad": [row(0, 0, answer="bad 0"), row(1, 0, answer="bad 1")],
        "model/good": [row(0, 0, answer="good 0")],
        "model/worst": [row(0, 0, answer="<b>worst</b> 0"), row(1, 0, answer="worst 1"), row(2, 1, answer="worst 2")],
    }
    found = first_failures(tmp_path, run, rows)
    assert found.items == 3
    # In turns from the worst pair on, another class each time; nothing of a pair that passed while others failed.
    assert [found.text.index(text) for text in ("<b>worst</b> 0", "bad 0", "worst 2")] == sorted(
        found.text.index(text) for text in ("<b>worst</b> 0", "bad 0", "worst 2")
    )
    assert "good" not in found.text


def test_without_failures_there_is_no_list_of_them(tmp_path: Path) -> None:
    assert first_failures(tmp_path, judged(make_pair(90, 0)), {"model/images": [row(0, 0, right=True)]}).items == 0


def test_what_is_empty_is_not_drawn(tmp_path: Path) -> None:
    judged(make_pair(90, 0), GONE, complete=False).write(tmp_path)
    page = render(tmp_path).read_text()
    sections = re.findall(r'<section id="(\w+)"', page)
    assert sections == ["verdict", "pairs", "where", "provenance", "glossary"]
    assert re.findall(r'href="#(trend|changes|classes|images|training)', page) == []
    assert "<tbody></tbody>" not in re.sub(r"\s", "", page).replace('role="rowgroup"', "")


def test_every_link_within_the_page_leads_somewhere(tmp_path: Path) -> None:
    run = judged(make_pair(60, 30, "bad"), make_pair(90, 0, "good"), GONE, complete=False)
    first_failures(tmp_path, run, {"model/bad": [row(0, 0)], "model/good": [row(0, 0, right=True)]})
    page = (tmp_path / "report.html").read_text()
    links, ids = set(re.findall(r'href="#([^"]*)"', page)), re.findall(r'\bid="([^"]*)"', page)
    assert links <= set(ids)
    assert len(ids) == len(set(ids))


def stepped(name: str, *correct: int, verdict_of: PairRecord | None = None) -> PairRecord:
    names = ("encoder", "vision probe", "likelihood", "answer")
    steps = tuple(Step(step, right) for step, right in zip(names, correct, strict=True))
    return replace(verdict_of or make_pair(90, 0), key=PairKey("model", name), steps=steps)


def test_stages_are_differences_from_the_first() -> None:
    chart = stage_chart([stepped("a", 80, 70, 75, 60), stepped("b", 40, 40, 41, 40)])
    assert chart
    a, b = sorted(chart.lines, key=lambda line: line.pair)
    assert [stop.y for stop in (a.stops[0], b.stops[0], b.stops[1], b.stops[3])] == [chart.zero] * 4
    # Ten points down, five up again, fifteen down: heights are in proportion.
    down = [stop.y - chart.zero for stop in a.stops]
    assert down[1:] == pytest.approx([down[3] / 2, down[3] / 4, down[3]], abs=0.1)
    assert (a.change, b.change) == ("−20.0", "0.0")
    assert [name for _, name, _ in chart.stages] == ["encoder", "vision probe", "likelihood", "answer"]
    assert a.stops[3].title == "model/a, answer: 60.0%, −20.0 from encoder"


def test_names_at_the_ends_of_lines_do_not_cover_each_other() -> None:
    chart = stage_chart([stepped(f"set-{index}", 80, 70, 75, 60) for index in range(30)])
    assert chart
    heights = sorted(line.label_y for line in chart.lines if line.label_y is not None)
    assert len(heights) == MOST_NAMED
    assert all(later - earlier >= 12 for earlier, later in pairwise(heights))
    assert heights[0] > 0
    assert heights[-1] < HEIGHT


def test_without_anything_between_encoder_and_answer_no_chart_is_drawn() -> None:
    pair = replace(make_pair(), steps=(Step("encoder", 80), Step("answer", 70), Step("clean answer", 70)))
    assert stage_chart([pair]) is None
    assert stage_chart([make_pair(), GONE]) is None


def test_changes_of_steps_share_an_axis_with_zero_on_it() -> None:
    drawn = step_forest(
        [Step("encoder", 80), Step("likelihood", 70, -0.1, -0.15, -0.05), Step("answer", 72, 0.02, -0.01, 0.04)]
    )
    assert drawn
    first, fell, rose = drawn.rows
    assert first is None
    assert fell
    assert rose
    assert fell.low < fell.gap < fell.high < drawn.zero < rose.gap < rose.high
    assert (fell.verdict, rose.verdict, fell.tolerance) == ("FAIL", "", None)


def test_every_word_of_the_tables_is_explained_once_more_at_the_end(tmp_path: Path) -> None:
    judged(make_pair(60, 30)).write(tmp_path)
    page = render(tmp_path).read_text()
    for word in ("pair", "reference", "no class", "well formed", "90% interval", "tolerance", "gap", "verdict"):
        assert f'title="{TERMS[word]}"' in page
    glossary = page[page.index('id="glossary"') :]
    assert all(f"<dt>{word}</dt>" in glossary for word in TERMS)


def test_of_hundreds_of_pairs_those_that_failed_are_shown_in_full(tmp_path: Path) -> None:
    labels = tuple(f"class {index}" for index in range(12))
    good, bad = (replace(make_pair(*counts), labels=labels) for counts in ((90, 0), (60, 30)))
    pairs = [replace(good, key=PairKey("model", f"good-{index:03}")) for index in range(195)]
    pairs += [replace(bad, key=PairKey("model", f"bad-{index}")) for index in range(5)]
    run = judged(*pairs)
    # Each class is taken for each other, so that every matrix is full.
    rows = [replace(row(index, index // 12), prediction=index % 12, correct=index // 12 == index % 12) for index in range(144)]
    first_failures(tmp_path, run, {pair.key.id: rows for pair in run.pairs})
    page = (tmp_path / "report.html").read_text()
    assert len(page.encode()) < 5_000_000
    assert page.count('<tr role="row" data-pair=') == page.count('<details id="where-') == 200
    in_full = re.findall(r'<details id="classes-model__([a-z0-9-]+)"', page)
    assert set(in_full) >= {f"bad-{index}" for index in range(5)}
    assert 10 < len(in_full) < 100
    assert f"Of {200 - len(in_full)} pairs only their row and their sentence are here" in page
    links, ids = set(re.findall(r'href="#([^"]*)"', page)), set(re.findall(r'\bid="([^"]*)"', page))
    assert links <= ids
