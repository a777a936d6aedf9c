"""What must be true of a report however one looks at it, asked of the page as it is drawn."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from emt_plugin.records import RunRecord
from tests.browser.looks import Look, Opened

SECTIONS = ("verdict", "training", "pairs", "changes", "trend", "where", "classes", "images", "provenance", "glossary")
BY_PAIR = ("where", "classes", "images")

# The first few elements that reach beyond the window without something around them that scrolls.
TOO_WIDE = """() => {
    const clipped = element => element && (getComputedStyle(element).overflowX !== 'visible' || clipped(element.parentElement))
    const root = document.documentElement
    return root.scrollWidth <= innerWidth ? [] : [`${root.scrollWidth} wide`].concat([...document.body.querySelectorAll('*')]
        .filter(element => element.getBoundingClientRect().right > innerWidth + 0.5 && !clipped(element.parentElement))
        .slice(0, 5).map(element => element.outerHTML.slice(0, 120)))
}"""

# Images that the browser did not load and decode, also where they lie outside the window or in closed details.
BROKEN_IMAGES = """() => Promise.all([...document.images].map(async image => {
    image.loading = 'eager'
    try { await image.decode() } catch { return image.src.slice(0, 120) }
    return image.naturalWidth > 0 ? null : image.src.slice(0, 120)
})).then(found => found.filter(Boolean))"""

# Colours of any notation as red, green, blue and alpha, and what lies behind an element.
# Paper is white, and backgrounds are not printed.
COLOURS = """
    const pen = new OffscreenCanvas(1, 1).getContext('2d', {willReadFrequently: true})
    const kept = (make, known = new Map()) => key => known.has(key) ? known.get(key) : known.set(key, make(key)).get(key)
    const rgba = kept(colour => {
        pen.clearRect(0, 0, 1, 1); pen.fillStyle = colour; pen.fillRect(0, 0, 1, 1)
        const [r, g, b, a] = pen.getImageData(0, 0, 1, 1).data
        return [r, g, b, a / 255]
    })
    const over = ([r, g, b, a], below) => [r, g, b].map((part, index) => part * a + below[index] * (1 - a))
    const behind = kept(element => {
        if (!element) return [255, 255, 255]
        const style = getComputedStyle(element), below = behind(element.parentElement)
        return printed && style.printColorAdjust !== 'exact' ? below : over(rgba(style.backgroundColor), below)
    })
"""

# How light the page is behind everything, 0 to 255; null where no stylesheet says so.
GROUND = f"""() => {{
    const printed = false
    {COLOURS}
    const solid = [document.body, document.documentElement].some(it => rgba(getComputedStyle(it).backgroundColor)[3] === 1)
    return solid ? behind(document.body).reduce((sum, part) => sum + part / 3, 0) : null
}}"""

# Text whose contrast with what lies behind it is below WCAG's minimum (4.5, or 3 where it is large). Text in drawings is left
# out: what lies behind it is not known.
ILLEGIBLE = f"""printed => {{
    {COLOURS}
    const linear = part => part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4
    const luminance = rgb => [0.2126, 0.7152, 0.0722].reduce((sum, share, index) => sum + share * linear(rgb[index] / 255), 0)
    const contrast = (one, two) => {{
        const [low, high] = [luminance(one), luminance(two)].sort((a, b) => a - b)
        return (high + 0.05) / (low + 0.05)
    }}
    const opacity = kept(element => element ? getComputedStyle(element).opacity * opacity(element.parentElement) : 1)
    const found = []
    const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT)
    for (let count = 0, node; count < 4000 && (node = walk.nextNode());) {{
        const element = node.parentElement
        if (!node.data.trim() || element.closest('svg, script, style, option')) continue
        if (!element.checkVisibility({{visibilityProperty: true}})) continue
        count += 1
        const style = getComputedStyle(element), size = parseFloat(style.fontSize), ground = behind(element)
        const [r, g, b, a] = rgba(style.color)
        const ratio = contrast(over([r, g, b, a * opacity(element)], ground), ground)
        const least = size >= 24 || size >= 18.66 && style.fontWeight >= 700 ? 3 : 4.5
        if (ratio < least) found.push(`${{ratio.toFixed(2)}}, not ${{least}}: ${{element.outerHTML.slice(0, 80)}}`)
    }}
    return found.slice(0, 10)
}}"""

# What in details is not drawn, beside their summaries and what filters them.
UNSEEN_IN_DETAILS = """() => [...document.querySelectorAll('details > :not(summary)')]
    .filter(element => !element.checkVisibility() && !element.matches('script, style, template, [hidden], .tools'))
    .map(element => element.outerHTML.slice(0, 120))"""

# What could run a script or stand for another page.
EXECUTABLE = """() => [...document.querySelectorAll('*')].filter(element =>
    element.matches('iframe, object, embed, form, base, meta[http-equiv=refresh i]')
    || element.getAttributeNames().some(name => name.startsWith('on'))
    || ['href', 'src', 'xlink:href'].some(name => /^\\s*(javascript|vbscript|data:text)/i.test(element.getAttribute(name)))
).map(element => element.outerHTML.slice(0, 120))"""

# Texts with a mark that turns the direction of writing, where other text stands beside them in what the mark reaches.
TURNS_OTHERS = """() => {
    const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT)
    const found = []
    for (let node; (node = walk.nextNode());) {
        let reach = node.parentElement
        if (reach.closest('option, script') || !/[\\u202a-\\u202e\\u2066-\\u2069]/.test(node.data)) continue
        while (!/isolate|plaintext/.test(getComputedStyle(reach).unicodeBidi)) reach = reach.parentElement
        if (reach.textContent.trim() !== node.data.trim()) found.push(reach.outerHTML.slice(0, 160))
    }
    return found
}"""


@dataclass(frozen=True)
class Expected:
    """What a report must show, read from run.json alone.

    Attributes:
        word: the verdict of the run.
        sections: ids, in their order.
        pairs: by id the verdict, None where there is none.
    """

    word: str
    sections: tuple[str, ...]
    pairs: Mapping[str, str | None]

    @classmethod
    def of(cls, folder: Path) -> Expected:
        """What the report of a run's folder must show."""
        run = RunRecord.read(folder)
        pairs = {pair.key.id: pair.gating.verdict if pair.gating else None for pair in run.pairs}
        found = set(pairs.values())
        word = "FAIL" if "FAIL" in found else "INCONCLUSIVE" if "INCONCLUSIVE" in found else "PASS"
        drawn = {
            "training": run.trajectories,
            "changes": run.changes or any(pair.repeat for pair in run.pairs),
            "trend": run.trends,
        }
        sections = tuple(name for name in SECTIONS if drawn.get(name, True))
        return cls(word if run.complete else "INCOMPLETE", sections, pairs)


def anchor(section: str, pair: str) -> str:
    """Id of a pair's part of a section."""
    return f"{section}-{pair.replace('/', '__')}"


def assert_looks_right(seen: Opened, look: Look, expected: Expected) -> None:
    """The page says what happened, to whoever looks at it in this way."""
    assert_says_the_verdict(seen, expected)
    assert_shows_pairs(seen, expected)
    assert seen.ask("() => [...document.querySelectorAll('section[id]')].map(section => section.id)") == [*expected.sections]
    assert_drawn_well(seen, look)
    if look.media == "print":
        assert not seen.ask(UNSEEN_IN_DETAILS)
    if not seen.scripts:
        assert_no_dead_control(seen)
    assert_no_cut_table(seen, look)
    seen.open_everything()
    assert_drawn_well(seen, look)
    assert not seen.ask(BROKEN_IMAGES)


def assert_says_the_verdict(seen: Opened, expected: Expected) -> None:
    """Word and number are on the first screen."""
    word, number = seen.page.locator("h1"), seen.page.locator("#verdict .number")
    assert expected.word in re.findall(r"\w+", word.inner_text())
    assert any(character.isdigit() for character in number.inner_text())
    for place in (word, number):
        assert place.is_visible()
        box = place.bounding_box()
        assert box is not None
        assert box["y"] + box["height"] <= 900, "not on the first screen"


def assert_shows_pairs(seen: Opened, expected: Expected) -> None:
    """Each pair has its row, with its id and its verdict."""
    rows = seen.page.locator("#pairs table tbody tr[data-pair]")
    shown: dict[str, Any] = {row.get_attribute("data-pair"): row for row in rows.all()}
    assert list(shown) == list(expected.pairs)
    for pair, verdict in expected.pairs.items():
        assert shown[pair].is_visible()
        text = shown[pair].inner_text()
        assert all(part in text for part in pair.split("/")), text
        said = set(re.findall(r"\b(?:PASS|FAIL|INCONCLUSIVE)\b", text.upper()))
        assert said == ({verdict} if verdict else set()), text
    for section in BY_PAIR:
        ids = seen.ask(f"() => [...document.querySelectorAll('#{section} details[id]')].map(details => details.id)")
        wanted = [anchor(section, pair) for pair, verdict in expected.pairs.items() if verdict]
        assert [found for found in ids if found in wanted] == wanted


def assert_no_cut_table(seen: Opened, look: Look) -> None:
    """On a small screen a row of verdicts is a card, none of which lies outside the window; elsewhere all columns do fit."""
    rows = seen.page.locator("#pairs tr[data-pair]")
    assert rows.first.evaluate("row => getComputedStyle(row).display") == ("flex" if look.width < 700 else "table-row")
    assert not seen.ask("""() => [...document.querySelectorAll('#pairs tr[data-pair] > *')]
        .filter(cell => cell.checkVisibility() && cell.getBoundingClientRect().right > innerWidth + 0.5)
        .map(cell => cell.outerHTML.slice(0, 120))""")


def assert_drawn_well(seen: Opened, look: Look) -> None:
    """The stylesheet is there, all text can be read, and nothing is wider than the window."""
    if look.media != "print":
        ground = seen.ask(GROUND)
        assert ground is not None, "no stylesheet gives the page a background"
        assert ground < 80 if look.media == "dark" else ground > 200
    assert not seen.ask(TOO_WIDE)
    assert not seen.ask(ILLEGIBLE, look.media == "print")


def assert_no_dead_control(seen: Opened) -> None:
    """Where no script runs there is nothing that would need one."""
    controls = seen.page.locator("button, input, select, textarea, [role=button], [role=tab]")
    assert not [control.evaluate("element => element.outerHTML") for control in controls.all() if control.is_visible()]
