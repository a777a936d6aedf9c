"""docs/models.md says what the tests claim, and its command writes no table of tests that failed."""

from __future__ import annotations

from pathlib import Path

import pytest

from emt_plugin.catalog import Catalog
from tests.families import FAMILIES
from tests.models_doc import DOCUMENT, NAMES, SHOWS, between, claims, families, models, passed

REPORT = (
    '<testsuites><testsuite><testcase name="{}[llava]">{}</testcase><testcase name="other[llava]"/></testsuite></testsuites>'
)


def test_the_committed_tables_are_what_the_tests_claim() -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    assert between(text, "families") == families(claims())
    assert between(text, "catalog") == models()


def test_every_family_has_a_name_and_models_that_the_catalog_has() -> None:
    assert NAMES.keys() == FAMILIES.keys()
    assert {example for _, examples in NAMES.values() for example in examples} <= Catalog.load().models.keys()


def test_a_table_is_made_of_tests_that_passed(tmp_path: Path) -> None:
    report = tmp_path / "report.xml"
    report.write_text(REPORT.format(SHOWS["answers"], "<properties/>"))
    assert passed(report) == {(SHOWS["answers"], "llava")}
    row = next(line for line in families(passed(report)).splitlines() if "`llava`" in line)
    assert row.split(" | ")[2:7] == ["yes", "–", "–", "–", "–"]
    report.write_text(REPORT.format(SHOWS["answers"], "<failure/>"))
    with pytest.raises(
        SystemExit, match=r"not written, because these did not pass: test_answers_equal_plain_generate\[llava\]"
    ):
        passed(report)
