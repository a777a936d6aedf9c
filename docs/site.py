"""What the site has beside docs/: README.md as its first page, files that pages link to, and the run record's fields.

mkdocs calls the functions that begin with ``on_``. A link that leaves docs/ works in the repository; here the file that it
names is taken along, under ``repository/``, and the link is turned to it. One that leads nowhere is left for mkdocs to
complain of.
"""

from __future__ import annotations

import json
import posixpath
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files, InclusionLevel
from mkdocs.structure.pages import Page

REPOSITORY = Path(__file__).parents[1]
IN_THE_MENU = ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")
# The target of a Markdown link up to its anchor, unless it is an address.
LINK = re.compile(r"(?<=\]\()(?![a-z]+:)[^)#\s]+")
FIELDS = "<!-- fields of run.schema.json -->"
PARTS = {
    "PairRecord": "Of each pair",
    "ScoreSummary": "Of each of its scores",
    "Comparison": "Of each of its comparisons",
    "Trajectory": "Of each trajectory",
}


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Take along what pages link to, and what that links to."""
    waiting = [*IN_THE_MENU, *(f"docs/{file.src_uri}" for file in files.documentation_pages())]
    seen = set(waiting)
    while waiting:
        name = waiting.pop()
        if place(name) not in files.src_uris:
            level = InclusionLevel.INCLUDED if name in IN_THE_MENU else InclusionLevel.NOT_IN_NAV
            file = File.generated(config, place(name), abs_src_path=str(REPOSITORY / name), inclusion=level)
            files.append(file)
        if name.endswith(".md"):
            text = (REPOSITORY / name).read_text(encoding="utf-8")
            found = {target(name, link) for link in LINK.findall(text)} - {None, *seen}
            waiting += sorted(found)
            seen |= found
    return files


def on_page_markdown(markdown: str, *, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Turn the links of a page to where the site has what they name, and write out the fields of the run record."""
    name = Path(page.file.abs_src_path).relative_to(REPOSITORY).as_posix()
    here = posixpath.dirname(page.file.src_uri)

    def turned(link: re.Match[str]) -> str:
        found = target(name, link[0])
        return posixpath.relpath(place(found), here or ".") if found else link[0]

    return LINK.sub(turned, markdown).replace(FIELDS, fields(json.loads((REPOSITORY / "docs/run.schema.json").read_text())))


def target(name: str, link: str) -> str | None:
    """The file of the repository that a link in the file ``name`` leads to, of a folder its card; None where there is none."""
    path = posixpath.normpath(posixpath.join(posixpath.dirname(name), link))
    return next((found for found in (path, f"{path}/README.md") if (REPOSITORY / found).is_file()), None)


def place(name: str) -> str:
    """Where the site has a file of the repository; servers hide what begins with a dot."""
    if name == "README.md":
        return "index.md"
    return name.removeprefix("docs/") if name.startswith("docs/") else f"repository/{name}".replace("/.", "/")


def fields(schema: Mapping[str, Any]) -> str:
    """The properties of the record and of its largest parts, as tables."""
    parts = {"Of the run": schema, **{head: schema["$defs"][name] for name, head in PARTS.items()}}
    return "\n\n".join(f"## {head}\n\n{_table(part['properties'])}" for head, part in parts.items())


def _table(properties: Mapping[str, Any]) -> str:
    rows = (f"| `{name}` | {_said(known)} |" for name, known in properties.items())
    return "\n".join(["| field | what it is |", "|---|---|", *rows])


def _said(known: Mapping[str, Any]) -> str:
    return " ".join(known.get("description", "").split()).replace("|", "\\|")
