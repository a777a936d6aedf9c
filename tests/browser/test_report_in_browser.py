"""The report in a real browser: what a person sees of it, and what they can do with it.

Without EMT_BROWSER=full only a few looks at a small run are taken; with it every run is looked at in every way.
"""

from __future__ import annotations

import csv
import io
import os
import re
from collections.abc import Iterator
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING
from xml.etree import ElementTree

import pytest

from emt_plugin.records import PairRecord, Row, write_predictions
from emt_plugin.report import render
from tests.browser.axe import assert_accessible
from tests.browser.checks import EXECUTABLE, TURNS_OTHERS, anchor, assert_looks_right, assert_says_the_verdict
from tests.browser.looks import Look, Opened, opened
from tests.browser.synthetic import MARKUP, RAN, large_run
from tests.nights import SAID
from tests.unit.test_records import make_pair, make_run

if TYPE_CHECKING:
    from playwright.sync_api import Locator

FULL = pytest.mark.skipif(os.environ.get("EMT_BROWSER") != "full", reason="`make browser` looks at everything")
PLACES = (("single", "disk"), ("dir", "disk"), ("dir", "jenkins"), ("dir", "jenkins-unboxed"))
RUNS = ("real", "bench", "mixed", "nights", "large", "hostile")
# What A4 leaves between Chromium's margins, CSS pixels.
PAPER = 718
# Each way to look, each width and each place once.
QUICK = (
    ("bench", "single", "disk", Look("light", 1440)),
    ("mixed", "single", "disk", Look("dark", 360)),
    ("mixed", "single", "disk", Look("light", 1440, scripts=False)),
    ("mixed", "single", "disk", Look("print", PAPER, scripts=False)),
    ("mixed", "dir", "disk", Look("print", PAPER)),
    ("mixed", "dir", "web", Look("light", 360)),
    ("mixed", "dir", "jenkins", Look("dark", 1440)),
    ("hostile", "single", "disk", Look("light", 360)),
    ("hostile", "dir", "jenkins-unboxed", Look("light", 1440)),
)
PAIRS = "#pairs table:has(tr[data-pair])"
MIXED = "synthetic/flowers"
HOSTILE = "hostile/images"
# One megabyte for each million bytes, as mail servers and CI servers count.
LARGEST = 5_000_000


def every_look() -> Iterator[tuple[str, str, str, Look]]:
    ways = (*product(("light", "dark"), (360, 1440)), ("print", PAPER))
    looks = [Look(*way, scripts) for way, scripts in product(ways, (True, False))]
    for run, (mode, where), look in product(RUNS, PLACES, looks):
        # There the header keeps scripts from running, whatever the browser allows.
        if look.scripts or not where.startswith("jenkins"):
            yield run, mode, where, look


def cell(run: str, mode: str, where: str, look: Look) -> str:
    return f"{run}-{mode}-{where}-{look.name}"


CELLS = [
    pytest.param(*way, id=cell(*way), marks=() if way in QUICK else FULL)
    for way in (*QUICK, *(way for way in every_look() if way not in QUICK))
]


@pytest.mark.parametrize(("run", "mode", "where", "look"), CELLS)
def test_it_says_what_happened_however_one_looks(report, look_at, run, mode, where, look) -> None:
    found = report(run, mode)
    with look_at(found, look, where) as seen:
        if folder := os.environ.get("EMT_SCREENSHOTS"):
            seen.picture(Path(folder) / f"{cell(run, mode, where, look)}.png")
        assert_looks_right(seen, look, found.expected)


@pytest.mark.parametrize("look", [Look("light"), Look("dark"), Look("light", 360)], ids=lambda look: look.name)
@pytest.mark.parametrize("run", ["mixed", *(pytest.param(run, marks=FULL) for run in RUNS if run != "mixed")])
def test_axe_finds_nothing_serious(report, look_at, run, look) -> None:
    with look_at(report(run, "single"), look) as seen:
        seen.open_everything()
        assert_accessible(seen)


@pytest.mark.parametrize("mode", ["single", pytest.param("dir", marks=FULL)])
def test_the_keyboard_reaches_everything(report, look_at, mode) -> None:
    with look_at(report("mixed", mode)) as seen:
        skip = _tab(seen)
        assert skip["tag"] == "A"
        assert skip["href"].startswith("#")
        assert skip["visible"]
        reached = [skip]
        while (stop := _tab(seen))["tag"] != "BODY" and len(reached) < 500:
            assert stop["visible"], stop
            reached.append(stop)
        assert sum(stop["tag"] == "BUTTON" for stop in reached) >= seen.page.locator(f"{PAIRS} th button").count() > 0
        assert sum(stop["tag"] == "SUMMARY" for stop in reached) >= 3 * 9


def test_the_skip_link_leads_onward(report, look_at) -> None:
    with look_at(report("mixed", "single")) as seen:
        skip = _tab(seen)
        seen.page.keyboard.press("Enter")
        _tab(seen)
        follows = "target => target.compareDocumentPosition(document.activeElement) & Node.DOCUMENT_POSITION_FOLLOWING"
        assert seen.page.locator(skip["href"]).evaluate(follows)


def test_enter_sorts_a_table(report, look_at) -> None:
    with look_at(report("mixed", "single")) as seen:
        table = seen.page.locator(f"{PAIRS}[data-sortable]")
        before = _rows(seen)
        heads = table.locator("thead th").all()
        sortable = [(index, head) for index, head in enumerate(heads) if head.get_attribute("aria-sort")]
        assert table.locator("thead th[aria-sort] button").count() == len(sortable) == len(before[0])
        looked_at = []
        for index, head in sortable:
            values = [row[index] for row in before]
            # What order other texts ought to have is the report's business.
            key = _number if all(_number(value) is not None for value in values) else str if MIXED in values else None
            ways = []
            for _ in range(2):
                head.locator("button").focus()
                seen.page.keyboard.press("Enter")
                ways.append(head.get_attribute("aria-sort"))
                after = [row[index] for row in _rows(seen)]
                assert sorted(after) == sorted(values)
                if key:
                    assert [*map(key, after)] == sorted(map(key, after), reverse=ways[-1] == "descending")
            assert sorted(ways) == ["ascending", "descending"]
            assert table.locator("th[aria-sort=ascending], th[aria-sort=descending]").count() == 1
            looked_at.append(key)
        assert looked_at.count(str) == 1
        assert looked_at.count(_number) > 1
        # The column that is a drawing sorts by the number that it draws.
        strip = next(head for index, head in sortable if not before[0][index])
        strip.locator("button").click()
        drawn = table.locator("tbody td.strip svg").evaluate_all(
            "strips => strips.map(strip => strip.getAttribute('aria-label'))"
        )
        gaps = [_number(text.replace(", ", " ")) for text in drawn]
        assert gaps == sorted(gaps)
        assert len(set(gaps)) > 2


def test_a_long_table_can_be_searched(report, look_at) -> None:
    with look_at(report("mixed", "single")) as seen:
        seen.open_everything()
        # Of each table that can be sorted its rows, and whether a search stands between it and the table before.
        found = seen.ask("""() => [...document.querySelectorAll('table[data-sortable]')].map(table => {
            const before = [...document.querySelectorAll('table, input[type=search]')]
            return [table.tBodies[0].rows.length, before[before.indexOf(table) - 1]?.matches('input') ?? false]
        })""")
        assert found
        assert all(searched == (rows > 8) for rows, searched in found), found
        search = seen.page.locator("#pairs input[type=search]").first
        search.focus()
        seen.page.keyboard.type("flowers")
        assert ["flowers" in " ".join(row) for row in _rows(seen)] == [True] * 2
        search.fill("")
        assert len(_rows(seen)) == 9


def test_filters_hide_images(report, look_at) -> None:
    with look_at(report("mixed", "single"), fragment=anchor("images", MIXED)) as seen:
        part = seen.page.locator(f"#{anchor('images', MIXED)}")
        label, kind = (part.locator(f'select[data-filter="{name}"]').first for name in ("label", "kind"))
        images = part.locator("ul.images").first.locator("> li")
        every = images.evaluate_all("images => images.map(image => [image.dataset.label, image.dataset.kind])")
        assert len(every) > 5
        assert part.locator("ul.images > li img[alt]:not([alt=''])").count() == part.locator("img").count() > 5

        def shown() -> list[list[str]]:
            seen_now = images.evaluate_all("images => images.map(image => image.checkVisibility())")
            return [found for found, visible in zip(every, seen_now, strict=True) if visible]

        assert shown() == every
        for position, select in enumerate((label, kind)):
            wanted = max({found[position] for found in every}, key=[found[position] for found in every].count)
            select.select_option(wanted)
            assert shown() == [found for found in every if found[position] == wanted] != []
            select.select_option(index=0)
            assert shown() == every
        label.select_option(every[0][0])
        kind.select_option(every[0][1])
        assert shown() == [found for found in every if found == every[0]]


def test_labels_like_code_are_filtered_like_others(browser, tmp_path) -> None:
    """What a label is called must not meet what JavaScript calls its own, nor what the page separates by."""
    labels = ("constructor", "a|b", "__proto__")
    rows = [Row(n, f"{n:064x}", 0, n % 3, "x", None, False, "nothing", False, {"encoder:clip": n % 3}, 1) for n in range(6)]
    write_run(tmp_path, replace(make_pair(0, 95), labels=labels), rows)
    with opened(browser, render(tmp_path).as_uri(), fragment="%") as seen:
        select = seen.page.locator('select[data-filter="label"]')
        assert sorted(select.locator("option").all_inner_texts()) == ["__proto__ (2)", "all", "a|b (2)", "constructor (2)"]
        for label in labels:
            select.select_option(label)
            shown = [
                item.get_attribute("data-label") for item in seen.page.locator("ul.images > li").all() if item.is_visible()
            ]
            assert shown == [label, label]


def saved(seen: Opened, button: Locator) -> Path:
    with seen.page.expect_download() as found:
        button.click()
    return Path(found.value.path())


@pytest.mark.parametrize("mode", ["single", pytest.param("dir", marks=FULL)])
def test_tables_and_charts_are_saved_from_the_page(report, look_at, mode) -> None:
    """From disk, under the page's own policy: what is saved is what the table says, in a program's own signs."""
    with look_at(report("mixed", mode)) as seen:
        text = saved(seen, seen.page.locator("#pairs .save").first).read_text(encoding="utf-8-sig")
        head, *rows = csv.reader(io.StringIO(text))
        assert head == ["pair", "verdict", "model", "reference", "n"]
        shown = [[cell for cell in row if cell] for row in _rows(seen)]
        assert [row[0] for row in rows] == ["".join(row[0].split()) for row in shown]
        assert [row[2:] for row in rows] == [row[2:] for row in shown]
        seen.page.locator("#pairs summary").first.click()
        numbers = saved(seen, seen.page.locator("#pairs details .save")).read_text(encoding="utf-8-sig")
        gaps = [row[2] for row in csv.reader(io.StringIO(numbers))][1:]
        assert [float(gap) < 0 for gap in gaps].count(True) > 3
        drawing = saved(seen, seen.page.locator("#where figure.wide .save"))
        root = ElementTree.parse(drawing).getroot()
        assert root.tag == "{http://www.w3.org/2000/svg}svg"
        assert sum(part.tag.endswith("polyline") for part in root.iter()) == 9
        assert not [part for part in root.iter() if "style" in part.attrib or part.tag.endswith("script")]


FORMULAS = ("=1+1", "+cmd|' /C calc'!A0", "-2+3", "@SUM(A1)", "\t=1", "＝1+1", "\u2212x")


def test_no_label_is_a_formula_to_a_spreadsheet(browser, tmp_path) -> None:
    labels = (*FORMULAS, 'say "hi", then go', "plain")
    n = len(labels)
    rows = [Row(i, f"{i:064x}", 0, i % n, "x", None, False, "nothing", False, {"encoder:clip": i % n}, 1) for i in range(2 * n)]
    write_run(tmp_path, replace(make_pair(0, 95), labels=labels), rows)
    with opened(browser, render(tmp_path).as_uri(), fragment="classes-model__images") as seen:
        text = saved(seen, seen.page.locator("#classes .save").first).read_text(encoding="utf-8-sig")
    _, *found = csv.reader(io.StringIO(text))
    names = [row[0] for row in found]
    assert len(names) == n
    assert not [name for name in names if name.startswith(("=", "+", "-", "@", "\t", "\r", "＝", "\u2212"))]
    assert {'say "hi", then go', "plain", "'=1+1", "'@SUM(A1)"} <= set(names)
    # Numbers stay numbers, those below zero too.
    assert {row[5] for row in found} == {"-100.0"}


def test_a_link_to_a_part_opens_it(report, look_at) -> None:
    found = report("mixed", "single")
    for section in ("where", "classes", "images"):
        with look_at(found, fragment=anchor(section, MIXED)) as seen:
            assert seen.page.locator(f"#{anchor(section, MIXED)}").evaluate("details => details.open")
    with look_at(found) as seen:
        details = seen.page.locator(f"#{anchor('images', MIXED)}")
        details.evaluate("details => { details.open = false }")
        # Each image has a link of its own.
        inside = details.locator("ul.images > li").first.locator("a[href^='#image-']").get_attribute("href").removeprefix("#")
        for target in (details.get_attribute("id"), inside):
            details.evaluate("details => { details.open = false }")
            seen.ask("target => { location.hash = target }", target)
            seen.page.wait_for_function("details => details.open", arg=details.element_handle())
            assert seen.page.locator(f"#{target}").is_visible()


def test_an_image_can_be_run_again(report, look_at) -> None:
    with look_at(report("mixed", "single"), fragment=anchor("images", MIXED)) as seen:
        commands = seen.page.locator(f"#{anchor('images', MIXED)} code.command")
        assert commands.count() > 5
        assert not commands.first.is_visible()
        commands.first.locator("xpath=ancestor::details[1]/summary").click()
        assert commands.first.is_visible()
        assert re.search(r"^pytest .*--emt-image-set flowers .*--emt-image [0-9a-f]{12}$", commands.first.inner_text())


@pytest.mark.parametrize(
    ("mode", "where"), [PLACES[0], PLACES[2], *(pytest.param(*place, marks=FULL) for place in PLACES[1::2])]
)
def test_nothing_hostile_runs_and_all_of_it_is_text(report, look_at, mode, where) -> None:
    with look_at(report("hostile", mode), where=where) as seen:
        seen.open_everything()
        assert seen.ask(f"() => typeof {RAN}") == "undefined"
        assert not seen.ask(EXECUTABLE)
        assert seen.page.locator("script").count() <= 1
        images = seen.page.locator(f"#{anchor('images', HOSTILE)}")
        said = " ".join(images.inner_text().split())
        assert not [text for text in MARKUP if " ".join(text.split()) not in said]
        assert images.locator("img").count() > 10
        assert not seen.ask(TURNS_OTHERS)


@pytest.mark.parametrize("mode", ["single", "dir"])
def test_the_first_screen_of_a_night_names_what_changed(report, look_at, mode) -> None:
    with look_at(report("nights", mode), Look(scripts=mode == "single"), "disk" if mode == "single" else "jenkins") as seen:
        for name, text in SAID.items():
            line = seen.page.locator("#verdict li").filter(has_text=text)
            assert line.count() == 1, text
            assert line.is_visible()
            assert line.inner_text().startswith(name)
            box = line.bounding_box()
            assert box is not None
            assert box["y"] + box["height"] <= 900, "not on the first screen"
        assert seen.page.locator("#trend .panels svg[role=img]").count() == 5


@FULL
def test_forty_thousand_images_make_a_page_that_opens(report, look_at, capsys) -> None:
    found = report("large", "single")
    assert found.page.stat().st_size < LARGEST
    for scripts in (True, False):
        with look_at(found, Look(scripts=scripts)) as seen:
            assert_says_the_verdict(seen, found.expected)
            times = seen.ask("""() => [performance.getEntriesByType('navigation')[0].domContentLoadedEventEnd,
                performance.getEntriesByName('first-contentful-paint')[0]?.startTime ?? NaN,
                document.querySelectorAll('*').length]""")
            with capsys.disabled():
                size = found.page.stat().st_size / 1e6
                print("\n{:.0f} ms to the whole page, {:.0f} to its first text, {} elements, {:.1f} MB".format(*times, size))


def test_the_synthetic_runs_are_the_same_every_time(tmp_path) -> None:
    one, two = (large_run(tmp_path / name, images=40, image_sets=4, thumbs=3) for name in ("one", "two"))
    files = sorted(path.relative_to(one) for path in one.rglob("*") if path.is_file())
    assert len(files) == 1 + 4 + 4 * 3
    assert all((one / path).read_bytes() == (two / path).read_bytes() for path in files)


def write_run(folder: Path, pair: PairRecord, rows: list[Row]) -> None:
    make_run(pair).write(folder)
    write_predictions(folder, pair.key.file_name, rows)


def _tab(seen: Opened) -> dict[str, str]:
    """Press Tab, and say where that leads."""
    seen.page.keyboard.press("Tab")
    return seen.ask("""() => {
        const {tagName, attributes, outerHTML} = document.activeElement
        const {width, height, right, bottom} = document.activeElement.getBoundingClientRect()
        const visible = document.activeElement.checkVisibility({visibilityProperty: true, opacityProperty: true})
        return {tag: tagName, href: attributes.href?.value ?? '', html: outerHTML.slice(0, 120),
            visible: visible && width > 2 && height > 2 && right > 0 && bottom > 0}
    }""")


def _rows(seen: Opened) -> list[list[str]]:
    """Texts of the cells of the visible rows of the table of pairs."""
    return seen.page.locator(f"{PAIRS} tbody tr[data-pair]").evaluate_all(
        "rows => rows.filter(row => row.checkVisibility()).map(row => [...row.cells].map(cell => cell.innerText.trim()))"
    )


def _number(text: str) -> float | None:
    """The number that a cell begins with."""
    found = re.match(r"[+−-]?\d+(?:\.\d+)?(?=%|\s|$)", text.replace(",", ""))
    return float(found[0].replace("−", "-")) if found else None
