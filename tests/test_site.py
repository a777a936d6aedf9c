"""The site of README.md and docs/: it is built without a warning, holds all pages, and loads nothing from elsewhere."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]
# What a browser asks for by itself, and where a page says what.
LOADED = {"script": "src", "img": "src", "iframe": "src", "source": "src", "link": "href", "object": "data"}


def build(repository: Path, place: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(place)]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.run(command, cwd=repository, env=environment, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("site")
    done = build(REPOSITORY, place)
    assert done.returncode == 0, done.stderr
    assert "WARNING" not in done.stderr
    return place


class Page(HTMLParser):
    """What a page loads, and its text."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.text = ""
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if tag in LOADED and given.get("rel") != "canonical":
            self.loads.append(given.get(LOADED[tag]) or "")

    def handle_data(self, data: str) -> None:
        self.text += data


def pages(site: Path) -> Iterator[Path]:
    return site.rglob("*.html")


def test_nothing_is_loaded_from_elsewhere(site: Path) -> None:
    found = {page: Page(page).loads for page in pages(site)}
    assert len(found) > 30
    for page, loads in found.items():
        assert not [address for address in loads if re.match(r"(https?:)?//", address)], page
    for sheet in site.rglob("*.css"):
        assert not re.search(r"(@import|url\()\s*[\"']?(https?:)?//", sheet.read_text(encoding="utf-8")), sheet


def test_every_document_is_a_page_with_its_title_and_can_be_searched(site: Path) -> None:
    index = json.loads((site / "search" / "search_index.json").read_text(encoding="utf-8"))
    found = {entry["location"] for entry in index["docs"]}
    for document in (REPOSITORY / "docs").rglob("*.md"):
        name = document.relative_to(REPOSITORY / "docs").with_suffix(".html").as_posix()
        title = document.read_text(encoding="utf-8").splitlines()[0].removeprefix("# ").replace("`", "")
        assert title in Page(site / name).text, name
        assert name in found


def test_the_readme_is_the_first_page_and_what_it_links_to_is_there(site: Path) -> None:
    first = (site / "index.html").read_text(encoding="utf-8")
    assert 'href="repository/reports/example/report.html"' in first
    assert 'src="report.png"' in first
    for name in (
        "reports/example/report.html",
        "github/workflows/nightly.yml",
        "fixtures/mini/index.html",
        "CONTRIBUTING.html",
    ):
        assert (site / "repository" / name).exists(), name


def test_tables_are_tables(site: Path) -> None:
    for page in pages(site):
        if "repository" not in page.relative_to(site).parts:
            text = re.sub(r"<(pre|code|script).*?</\1>", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
            assert not re.search(r"(^|<p>)\|.*\|$", text, re.MULTILINE), page


def test_the_record_has_a_row_for_every_field(site: Path) -> None:
    schema = json.loads((REPOSITORY / "docs" / "run.schema.json").read_text(encoding="utf-8"))
    text = (site / "record.html").read_text(encoding="utf-8")
    for part in (schema, *(schema["$defs"][name] for name in ("PairRecord", "ScoreSummary", "Comparison", "Trajectory"))):
        assert not [name for name in part["properties"] if f"<td><code>{name}</code></td>" not in text]


def test_a_link_that_leads_nowhere_is_an_error(tmp_path: Path) -> None:
    nowhere = ("no-such-page.md", "gate.md#no-such-heading", "../emt_plugin/no_such_file.py")
    copy = tmp_path / "repository"
    copy.mkdir()
    for name in ("docs", "README.md", "CHANGELOG.md", "CONTRIBUTING.md", "mkdocs.yml"):
        source = REPOSITORY / name
        (shutil.copytree if source.is_dir() else shutil.copy)(source, copy / name)
    for name in ("emt_plugin", "examples", "fixtures", "reports", ".github", ".gitlab-ci.yml"):
        (copy / name).symlink_to(REPOSITORY / name)
    with (copy / "docs" / "images.md").open("a", encoding="utf-8") as page:
        page.write("".join(f"\n[a]({link})\n" for link in nowhere))
    done = build(copy, tmp_path / "site")
    assert done.returncode == 1, done.stderr
    assert done.stderr.count("WARNING") == len(nowhere)
    for link in nowhere:
        assert link.split("#")[-1] in done.stderr
