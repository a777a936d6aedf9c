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

from emt_plugin.gate import Reference, Tolerance, compare, with_holm
from emt_plugin.records import PairKey, PairRecord, Row, RunRecord, ScoreSummary, write_flips, write_predictions
from emt_plugin.report import render, write_summary
from emt_plugin.report.drawings.classes import class_lines, confusion
from emt_plugin.report.words.rerun import one_image
from emt_plugin.report.words.verdicts import headline, points, verdict_line
from emt_plugin.report.words.visible import visible
from emt_plugin.report.writers.badge import badge
from emt_plugin.report.writers.summary import append_to_step_summary
from emt_plugin.report.writers.terminal import table
from emt_plugin.runs.compare import flips
from emt_plugin.runs.shown import gallery, in_turns
from tests.nights import SAID, two_nights
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


def drawn(folder: Path, run: RunRecord, rows: dict[str, list[Row]], mode: str = "single") -> Elements:
    run.write(folder)
    for pair in run.pairs:
        write_predictions(folder, pair.key.file_name, rows.get(pair.key.id, []))
    parser = Elements()
    parser.feed(render(folder, mode).read_text(encoding="utf-8"))
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


MARKUP = st.text(st.sampled_from("<>&\"'/=!-[]{}%# \u202e\u2066\x00\x0b\x85ab")) | st.sampled_from(HOSTILE[:-1])
ANYTHING = st.text() | MARKUP | st.lists(MARKUP, max_size=4).map("".join)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=150, deadline=None)
@given(answer=ANYTHING, label=ANYTHING.filter(bool), source=ANYTHING, mode=st.sampled_from(["single", "dir"]))
def test_no_text_makes_an_element(tmp_path: Path, answer: str, label: str, source: str, mode: str) -> None:
    """The elements, with the names of their attributes, are those of a page of harmless words."""

    def tags(answer: str, label: str, source: str) -> Counter[tuple[str, tuple[str, ...]]]:
        facts = {"fingerprint": "abc", "source": source, "name": source}
        pair = replace(make_pair(60, 30), labels=(label, f"{label}."), prompt=source or "asked", model_facts=facts)
        run = replace(
            judged(pair), environment={"command": f"pytest benchmarks {source}"}, settings={"given": {"model": [source]}}
        )
        return drawn(tmp_path, run, {pair.key.id: [wrong_row(0, answer)]}, mode).tags

    assert tags(answer, label, source) == tags("plain", "plain", "plain")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\x00b", "a⟨U+0000⟩b"),
        ("gnp.\u202eexe", "gnp.⟨U+202E⟩exe"),
        ("lone \udcff", "lone ⟨U+DCFF⟩"),
        ("a\u00a0b", "a\u00a0b"),
        ("👩\u200d🔬", "👩\u200d🔬"),
        ("x" * 5000, "x" * 4000 + "… (1,000 more characters)"),
    ],
)
def test_every_sign_is_visible(text: str, shown: str) -> None:
    assert visible(text) == shown


def test_two_nights_name_everything_on_the_first_screen(tmp_path: Path) -> None:
    """One regression, one improvement, one changed fingerprint and one crashed pair, each by its name."""
    two_nights(tmp_path)
    page = Elements()
    page.feed(render(tmp_path).read_text(encoding="utf-8"))
    screen = " ".join(page.text.partition("Skip to the pairs")[2].partition("Accuracy on the same images")[0].split())
    summary = " ".join(write_summary(tmp_path).read_text().replace("\\", "").split())
    assert "Since last night (2026-01-01 02:00 UTC, run first)" in screen
    for name, text in SAID.items():
        assert f"{name} {text}" in screen
        assert f"**{name}**: {text}" in summary


def test_the_first_screen_says_what_happened(tmp_path: Path) -> None:
    run = judged(make_pair(60, 30, "lost"), make_pair(90, 0, "kept"), make_pair(80, 6, "open"))
    page = drawn(tmp_path, run, {})
    first = page.text.partition("Where accuracy falls\n")[0].partition("{")[0] + page.text.partition("Skip to the pairs")[2]
    first = first.partition("What the wrong answers were")[0]
    assert "FAIL" in first
    assert "1 of 3 pairs is below its encoder by more than the tolerance" in first
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


@pytest.mark.thorough
def test_a_summary_stays_below_a_megabyte_and_says_what_is_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pairs = [replace(make_pair(90, 0), key=PairKey("model", f"{'name' * 60}{index}")) for index in range(4000)]
    make_run(*pairs).write(tmp_path)
    path = write_summary(tmp_path)
    assert 900_000 < path.stat().st_size <= 1_000_000
    text = path.read_text()
    assert text.startswith("## PASS: 4000 of 4000 pairs")
    assert "Cut here" in text.splitlines()[-1]
    page = tmp_path / "step.md"
    page.write_text("before\n")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(page))
    append_to_step_summary(path)
    append_to_step_summary(path)
    assert page.read_text().startswith("before\n## PASS")
    assert page.stat().st_size <= 1_000_000
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(page / "no-folder"))
    assert "could not be added" in append_to_step_summary(path)[1]


def test_every_class_and_kind_has_its_turn() -> None:
    rows = [
        replace(wrong_row(index, ""), label=index % 2, kind=("nothing" if index == 90 else "wrong class"))
        for index in range(100)
    ]
    kept = in_turns(rows, 10)
    assert len(kept) == 10
    assert [row.row for row in kept] == sorted(row.row for row in kept)
    assert {row.kind for row in kept} == {"nothing", "wrong class"}
    assert sum(row.label for row in kept) == 4
    # What is taken already leaves its place to others.
    assert [row.row for row in in_turns(rows[:7], 4, {0, 1})] == [2, 3, 4, 5]


def test_the_command_asks_about_one_image_with_the_runs_own_options() -> None:
    pair = make_pair()
    run = replace(
        make_run(pair),
        environment={"command": "pytest benchmarks -n 4 --model llava"},
        settings={
            "given": {
                "model": ["llava"],
                "dtype": "bfloat16",
                "scorer": ["answer,likelihood"],
                "limit": "500",
                "calibrate": True,
            }
        },
    )
    named = replace(pair, model_facts={"name": "./runs/my model"}, image_set_facts={"name": "birds"})
    assert one_image(run, named, replace(wrong_row(0, ""), image="0123456789abcdef")) == (
        "pytest benchmarks --emt-model './runs/my model' --emt-image-set birds --emt-scorer answer,likelihood "
        "--emt-calibrate --emt-dtype bfloat16 --emt-image 0123456789ab"
    )


def test_a_reference_that_is_a_model_is_right_where_its_scorer_says_so() -> None:
    """A judge names no class, so that only what it ruled of the reference tells what was lost."""
    comparison = compare(
        [False] * 3, [True, True, False], Reference("model", "base"), Tolerance(0.05, "default", 0.05), "judge"
    )
    pair = replace(make_pair(), comparisons=(comparison,), scores=(ScoreSummary("judge", "1", 0, None, None, ()),))
    rows = [
        replace(
            wrong_row(index, ""), prediction=None, references={"model:base": None},
            reference_correct={"model:base": {"judge": right}},
        )
        for index, right in enumerate((True, True, False))
    ]  # fmt: skip
    assert [picked.row.row for picked in gallery(pair, rows).picked] == [0, 1]
    (line,) = class_lines(pair, rows, None)
    assert (line.reference, line.gap) == ("66.7%", "−66.7")


def test_where_room_is_short_every_reason_keeps_its_share(tmp_path: Path) -> None:
    folder = tmp_path / "thumbs"
    folder.mkdir()
    rows = [replace(wrong_row(index, "x"), image=f"{index:064x}", label=index % 2) for index in range(200)]
    before = [replace(row, correct=True) for row in rows]
    for row in rows:
        (folder / f"{row.image}.png").write_bytes(bytes(60_000))
    # The reference names class 1: of the rows with label 1 it was right, those with label 0 were only right before.
    pair = make_pair(0, 95)
    run = judged(pair)
    write_flips(tmp_path, pair.key.file_name, flips(before, rows, "answer"))
    page = drawn(tmp_path, run, {pair.key.id: rows})
    shown = re.findall(r'data-reasons="([^"]*)"', (tmp_path / "report.html").read_text())
    assert 30 < len(shown) < 60
    # 100 lost of at most 200, and 100 that were right before alone of at most 100.
    only_before = sum(reasons == "right before" for reasons in shown)
    assert len(shown) / 4 < only_before < len(shown) / 2
    assert f"Shown: {len(shown)}" in page.text


def test_the_first_screen_repeats_no_row_of_the_table(tmp_path: Path) -> None:
    page = drawn(tmp_path, judged(make_pair(60, 30, "lost"), make_pair(90, 0, "kept"), make_pair(80, 6, "open")), {})
    screen = page.text.partition("Skip to the pairs")[2].partition("Accuracy on the same images")[0]
    assert "Do not release: model is below its encoder on 1 of 3 image sets" in screen
    assert "kept" not in screen
    assert "open" not in screen


def test_a_run_with_all_verdicts_and_a_fault_says_so() -> None:
    run = replace(make_run(make_pair(), complete=False, code=3), reason="test_x crashed")
    assert headline(run) == (
        "INCOMPLETE: every pair has a verdict, and something else went wrong; 1 is below its encoder by more than the tolerance"
    )


def test_a_large_page_shows_fewer_images_and_says_so(tmp_path: Path) -> None:
    pair = make_pair(0, 95)
    folder = tmp_path / "thumbs"
    folder.mkdir()
    rows = [replace(wrong_row(index, "x"), image=f"{index:064x}") for index in range(200)]
    for row in rows:
        (folder / f"{row.image}.png").write_bytes(bytes(60_000))
    page = drawn(tmp_path, judged(pair), {pair.key.id: rows})
    size = (tmp_path / "report.html").stat().st_size
    assert 3_000_000 < size < 5_000_000

    def gallery_of(page: Elements) -> int:
        on_the_first_screen = 1
        return sum(count for (tag, _), count in page.tags.items() if tag == "img") - on_the_first_screen

    assert f"Shown: {gallery_of(page)}" in page.text
    assert 30 < gallery_of(page) < 60
    assert gallery_of(drawn(tmp_path, judged(pair), {pair.key.id: rows}, "dir")) == 200


def test_confusion_counts_by_hand() -> None:
    rows = [
        replace(wrong_row(0, ""), label=label, prediction=read) for label, read in ((0, 0), (0, 1), (0, None), (1, 1), (1, 1))
    ]
    assert confusion(rows, 2) == [[1, 1, 1], [0, 2, 0]]


def test_the_terminals_table_lines_up_and_counts() -> None:
    run = judged(make_pair(60, 30, "lost"), make_pair(90, 0, "kept"))
    lines = table(run)
    assert lines[0] == "FAIL: 1 of 2 pairs is below its encoder by more than the tolerance"
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
    row = next(line for line in text.splitlines() if line.startswith("|") and "FAIL" in line)
    assert len(re.findall(r"(?<!\\)\|", row)) == 11
    assert re.search(r"(?<!\\)<b", text) is None


def against(kind: str) -> RunRecord:
    pair = make_pair(60, 30)
    comparisons = tuple(replace(c, reference=Reference(kind, "before")) for c in pair.comparisons)  # type: ignore[arg-type]
    return judged(replace(pair, comparisons=comparisons))


EARLIER_STATES = re.compile(r"\b(forgot|forgotten|no longer|lost|loses|lose)\b", re.IGNORECASE)


@pytest.mark.parametrize("kind", ["encoder", "probe"])
def test_without_an_earlier_state_nothing_is_said_to_be_forgotten(tmp_path: Path, kind: str) -> None:
    run = against(kind)
    page = drawn(tmp_path, run, {}).text.partition("Forgetting report")[2]
    said = [*table(run), write_summary(tmp_path).read_text(), verdict_line(run.pairs[0]), str(badge(run)["message"]), page]
    for text in said:
        assert not EARLIER_STATES.search(text), EARLIER_STATES.findall(text)
    assert headline(run).startswith("FAIL: 1 of 1 pairs is below ")
    assert badge(run)["color"] == "red"


@pytest.mark.parametrize("kind", ["model", "checkpoint"])
def test_against_an_earlier_state_a_loss_is_forgetting(kind: str) -> None:
    run = against(kind)
    assert headline(run) == "FORGOT: 1 of 1 pairs lost more than the tolerance"
    assert badge(run)["message"].startswith("FORGOT 1 of 1")
