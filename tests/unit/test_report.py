"""The report: what it says, and that nothing in an answer becomes markup."""

from __future__ import annotations

import base64
import hashlib
import html
import re
from collections import Counter
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from emt_plugin.gate import with_holm
from emt_plugin.records import PairKey, PairRecord, Row, RunRecord, write_predictions
from emt_plugin.report import render, write_summary
from emt_plugin.report.classes import confusion
from emt_plugin.report.terminal import table
from emt_plugin.report.words import points, verdict_line
from tests.unit.test_records import make_pair, make_run

HOSTILE = [
    "<script>alert(1)</script>",
    "</ul></main><img src=x onerror=alert(1)>",
    "{{ 7 * 7 }}{% raw %}",
    "]]><!--",
    '"><svg onload=alert(1)>',
    "\u202egnp.exe\x00\x07",
    "a" * 100_000,
]


class Elements(HTMLParser):
    """Every element and its attributes' names, and all text."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: Counter[tuple[str, tuple[str, ...]]] = Counter()
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag, tuple(name for name, _ in attrs)] += 1

    def handle_data(self, data: str) -> None:
        self.text += data


def drawn(folder: Path, run: RunRecord, rows: dict[str, list[Row]]) -> Elements:
    run.write(folder)
    for pair in run.pairs:
        write_predictions(folder, pair.key.file_name, rows.get(pair.key.id, []))
    parser = Elements()
    parser.feed(render(folder).read_text(encoding="utf-8"))
    return parser


def judged(*pairs: PairRecord) -> RunRecord:
    done = with_holm([pair.comparisons[0] for pair in pairs])
    return make_run(*(replace(pair, comparisons=(comparison,)) for pair, comparison in zip(pairs, done, strict=True)))


def wrong_row(row: int, answer: str) -> Row:
    return Row(row, f"hash{row}", 0, 1, answer, 0, False, "wrong class", False, {"encoder:clip": 1}, 5)


@pytest.mark.parametrize("hostile", HOSTILE)
def test_answers_and_labels_stay_text(tmp_path: Path, hostile: str) -> None:
    harmless, attacked = tmp_path / "a", tmp_path / "b"
    pages = []
    for folder, text in ((harmless, "plain"), (attacked, hostile)):
        folder.mkdir()
        pair = replace(make_pair(60, 30), labels=(text, f"other {text}"), prompt=text)
        pages.append(drawn(folder, judged(pair), {pair.key.id: [wrong_row(0, text), wrong_row(1, "fine")]}))
    assert pages[0].tags == pages[1].tags
    assert [count for (tag, _), count in pages[1].tags.items() if tag == "script"] == [1]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(st.text())
def test_no_answer_makes_an_element(tmp_path: Path, answer: str) -> None:
    pair = make_pair(60, 30)
    plain = drawn(tmp_path, judged(pair), {pair.key.id: [wrong_row(0, "plain")]})
    clean = answer.encode("utf-8", "replace").decode()
    assert drawn(tmp_path, judged(pair), {pair.key.id: [wrong_row(0, clean)]}).tags == plain.tags


def test_the_first_screen_says_what_happened(tmp_path: Path) -> None:
    run = judged(make_pair(60, 30, "lost"), make_pair(90, 0, "kept"), make_pair(80, 6, "open"))
    page = drawn(tmp_path, run, {})
    first = page.text.partition("Where it is lost\n")[0].partition("{")[0] + page.text.partition("Skip to the pairs")[2]
    first = first.partition("What the wrong answers were")[0]
    assert "FORGOT" in first
    assert "1 of 3 pairs lost more than their tolerance" in first
    assert "−30.0" in first
    for name in ("model/lost", "model/kept", "model/open"):
        assert name in first


def test_pairs_without_a_verdict_are_shown_with_their_reason(tmp_path: Path) -> None:
    gone = PairRecord(PairKey("model", "gone"), status="crashed", reason="its worker crashed")
    page = drawn(tmp_path, make_run(make_pair(), gone, complete=False, code=3), {})
    assert "INCOMPLETE" in page.text
    assert "CRASHED" in page.text
    assert "its worker crashed" in page.text


def test_a_run_without_any_measurement_can_be_drawn(tmp_path: Path) -> None:
    gone = PairRecord(PairKey("model", "gone"), status="could-not-run", reason="no weights")
    assert "no weights" in drawn(tmp_path, make_run(gone, complete=False, code=3), {}).text


def test_what_is_cut_is_said(tmp_path: Path) -> None:
    pair = make_pair(40, 55)
    page = drawn(tmp_path, judged(pair), {pair.key.id: [wrong_row(index, f"answer {index}.") for index in range(270)]})
    assert "270 that encoder clip got right and the model wrong. Shown: 200" in page.text
    assert "predictions/model__images.jsonl, beside this file" in page.text
    assert "answer 199." in page.text
    assert "answer 200." not in page.text


def test_the_page_needs_nothing_from_elsewhere(tmp_path: Path) -> None:
    pair = make_pair()
    drawn(tmp_path, judged(pair), {pair.key.id: [wrong_row(0, "x")]})
    page = (tmp_path / "report.html").read_text()
    assert "http://" not in page
    assert "https://" not in page
    (script,) = re.findall(r"<script>(.*?)</script>", page, re.DOTALL)
    (style,) = re.findall(r"<style>(.*?)</style>", page, re.DOTALL)
    policy = html.unescape(re.search(r'Content-Security-Policy" content="([^"]*)"', page)[1])
    for part, name in ((script, "script-src"), (style, "style-src")):
        digest = base64.b64encode(hashlib.sha256(part.encode()).digest()).decode()
        assert f"{name} 'sha256-{digest}'" in policy
    assert policy.startswith("default-src 'none'; img-src data:;")


def test_confusion_counts_by_hand() -> None:
    rows = [
        replace(wrong_row(0, ""), label=label, prediction=read) for label, read in ((0, 0), (0, 1), (0, None), (1, 1), (1, 1))
    ]
    assert confusion(rows, 2) == [[1, 1, 1], [0, 2, 0]]


def test_the_terminals_table_lines_up_and_counts() -> None:
    run = judged(make_pair(60, 30, "lost"), make_pair(90, 0, "kept"))
    lines = table(run)
    assert lines[0] == "FORGOT: 1 of 2 pairs lost more than their tolerance"
    assert lines[2].split()[:3] == ["pair", "n", "model"]
    assert lines[3].rstrip().endswith("FAIL")
    assert lines[2].index("verdict") == lines[3].index("FAIL") == lines[4].index("PASS")


def test_a_verdict_line_starts_with_the_verdict_and_has_the_numbers() -> None:
    line = verdict_line(judged(make_pair(60, 30)).pairs[0])
    assert line.startswith("FAIL model/images: 60.0% against 90.0% of encoder clip, gap −30.0 points, 90% interval [")
    assert line.endswith("tolerance 5 points (default), 100 images")


@pytest.mark.parametrize(("value", "text"), [(0.0, "0.0"), (-0.0001, "0.0"), (0.123, "+12.3"), (-0.5, "−50.0")])
def test_points(value: float, text: str) -> None:
    assert points(value) == text


def test_the_summary_keeps_markup_out(tmp_path: Path) -> None:
    pair = replace(make_pair(60, 30), key=PairKey("model|x", "<b>images</b>"))
    judged(pair).write(tmp_path)
    text = write_summary(tmp_path).read_text()
    row = next(line for line in text.splitlines() if "FAIL" in line)
    assert len(re.findall(r"(?<!\\)\|", row)) == 11
    assert re.search(r"(?<!\\)<b", text) is None
