"""``report.html``: one page, drawn from a run's folder; by itself, or with its assets beside it."""

from __future__ import annotations

import base64
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from hashlib import sha256
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

from emt_plugin.records import Flip, RunRecord, read_flips
from emt_plugin.runs.beside import Rows, rows_of
from emt_plugin.store.files import write_atomically

if TYPE_CHECKING:
    from jinja2 import Template

    from emt_plugin.report.drawings.view import ReportView
    from emt_plugin.settings import ReportMode

# A larger file opens slowly and is refused by some places that show reports.
SOFT_LIMIT = 5_000_000
# What is left of that for images, before the rest of the page is known.
IMAGES_LIMIT = 4_000_000
# Markup and command of one image.
CARD = 1_500
ASSETS = "report-assets"
# A page without scripts still shows everything; with them nothing is loaded, sent or evaluated.
POLICY = "default-src 'none'; img-src {images}; style-src {style}; script-src {script}; base-uri 'none'; form-action 'none'"
# Of a text in a table of numbers.
MOST_IN_A_CELL = 160
KINDS = {".png": "image/png", ".webp": "image/webp"}


@dataclass(frozen=True)
class Source:
    """What is drawn: a run with its images, and those that flipped, by pair id."""

    folder: Path
    run: RunRecord
    rows: Rows
    flips: dict[str, list[Flip]]


def read_source(folder: Path) -> Source:
    """Read what ``folder`` holds of a run.

    Raises:
        RecordError: it holds no run record that this version reads.
    """
    run = RunRecord.read(folder)
    return Source(
        folder, run, rows_of(folder, run), {pair.key.id: read_flips(folder, pair.key.file_name) for pair in run.pairs}
    )


def render(folder: Path, mode: ReportMode = "single") -> Path:
    """Draw ``report.html`` from the run record, predictions and thumbnails in ``folder``.

    Args:
        folder: of one run.
        mode: see ``draw``.

    Raises:
        RecordError: the folder holds no run record that this version reads.
        OSError: the report cannot be written.
    """
    return draw(read_source(folder), mode)


def draw(source: Source, mode: ReportMode) -> Path:
    """Draw ``report.html`` beside a run record.

    Args:
        source: what is drawn.
        mode: ``single`` for one file, which shows fewer images where it would be too large; ``dir`` for a page with
            style, script and images beside it, for servers that allow no other.

    Raises:
        OSError: the report cannot be written.
    """
    from emt_plugin.report.drawings.view import report_view

    folder = source.folder
    view = report_view(source.run, source.rows, source.flips)
    page = _in_a_folder(folder, view) if mode == "dir" else _single(folder, view)
    path = folder / "report.html"
    write_atomically(path, page)
    return path


def _single(folder: Path, view: ReportView) -> bytes:
    """Everything in one file; drawn again with fewer images where it comes out too large."""
    style, script = _asset("report.css"), _asset("report.js")
    policy = POLICY.format(images="data:", style=_hash(style), script=_hash(script))

    def drawn(most: int) -> bytes:
        return _drawn(_fitting(view, folder, most), lambda name: _data(folder, name), policy, style, script)

    page = drawn(IMAGES_LIMIT)
    excess = len(page) - SOFT_LIMIT
    if excess <= 0:
        return page
    images = sum(_cost(folder, image.thumb, image.answer) for pair in view.pairs for image in pair.images)
    return drawn(max(min(IMAGES_LIMIT, images) - excess, 0))


def _in_a_folder(folder: Path, view: ReportView) -> bytes:
    assets = folder / ASSETS
    assets.mkdir(exist_ok=True)
    for name in ("report.css", "report.js"):
        write_atomically(assets / name, _asset(name).encode())
    policy = POLICY.format(images="'self'", style="'self'", script="'self'")
    return _drawn(view, lambda name: found.relative_to(folder).as_posix() if (found := _thumb(folder, name)) else "", policy)


def _drawn(view: ReportView, picture: Callable[[str], str], policy: str, style: str = "", script: str = "") -> bytes:
    from markupsafe import Markup

    # Style and script are this package's own files, pictures are base64 or named by a hash.
    page = _template().render(
        view=view,
        picture=lambda name: Markup(picture(name)),
        policy=policy,
        style=Markup(style),
        script=Markup(script),
        assets=ASSETS,
    )
    return page.encode("utf-8", "replace")


@cache
def _template() -> Template:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    from emt_plugin.report.words.terms import TERMS
    from emt_plugin.report.words.visible import cut, visible

    environment = Environment(
        loader=PackageLoader("emt_plugin.report"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=visible,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals["terms"] = TERMS
    environment.filters["brief"] = lambda text: cut(str(text), MOST_IN_A_CELL)
    return environment.get_template("report.html")


def _fitting(view: ReportView, folder: Path, most: int) -> ReportView:
    """The view with as many images as fit, of every pair, reason, class and kind its share."""
    last, total = 0.0, 0
    for image in sorted((image for pair in view.pairs for image in pair.images), key=lambda image: image.rank):
        total += _cost(folder, image.thumb, image.answer)
        if total > most:
            break
        last = image.rank
    else:
        return view
    return replace(
        view,
        pairs=tuple(replace(pair, images=tuple(image for image in pair.images if image.rank <= last)) for pair in view.pairs),
    )


def _cost(folder: Path, name: str, answer: str) -> int:
    path = _thumb(folder, name)
    return CARD + 2 * len(answer) + (path.stat().st_size * 4 // 3 if path else 0)


def _thumb(folder: Path, name: str) -> Path | None:
    # A name is a hash; in a record from elsewhere it may be anything.
    if not name.isalnum():
        return None
    return next((path for kind in KINDS if (path := folder / "thumbs" / f"{name}{kind}").is_file()), None)


def _data(folder: Path, name: str) -> str:
    path = _thumb(folder, name)
    return f"data:{KINDS[path.suffix]};base64,{base64.b64encode(path.read_bytes()).decode()}" if path else ""


def _asset(name: str) -> str:
    return (files("emt_plugin.report") / "templates" / name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(sha256(text.encode()).digest()).decode()}'"
