"""A browser, and reports to look at.

What is shared ends with this folder's last test, not with the session: playwright keeps an event loop running in the thread.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from functools import cache, partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import pytest

from emt_plugin.report import render
from tests.browser.checks import Expected
from tests.browser.looks import PLAIN, Look, Opened, opened
from tests.browser.serving import JENKINS, WITHOUT_SANDBOX, serving
from tests.browser.synthetic import hostile_run, large_run
from tests.nights import two_nights

if TYPE_CHECKING:
    from playwright.sync_api import Browser

Mode = Literal["single", "dir"]
Where = Literal["disk", "web", "jenkins", "jenkins-unboxed"]
# Nothing but this machine may be reached, whatever a report asks for.
CHROMIUM = ("--no-sandbox", "--disable-gpu", "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """All that is looked at in a browser is thorough."""
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent):
            item.add_marker(pytest.mark.thorough)


@dataclass(frozen=True)
class Report:
    """A report on disk.

    Attributes:
        folder: the run's folder, with the report in it.
        expected: what it must show.
    """

    folder: Path
    expected: Expected

    @property
    def page(self) -> Path:
        """The page itself."""
        return self.folder / "report.html"


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    """Debian's Chromium."""
    chromium = shutil.which("chromium")
    missing = [f"Python's {name}" for name in ("playwright", "axe_playwright_python") if find_spec(name) is None]
    missing += [] if chromium else ["Debian's chromium"]
    if missing:
        reason = f"{' and '.join(missing)} not found: pip install 'pytest-emt[browser]', apt-get install chromium"
        if os.environ.get("EMT_BROWSER_REQUIRED"):
            pytest.fail(f"{reason} (EMT_BROWSER_REQUIRED is set)", pytrace=False)
        pytest.skip(reason)
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=chromium, args=list(CHROMIUM))
        yield started
        started.close()


@pytest.fixture(scope="package")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of all runs and reports."""
    return tmp_path_factory.mktemp("reports")


@pytest.fixture(scope="package")
def report(workplace: Path) -> Callable[[str, Mode], Report]:
    """The report of a run in a mode; each run is made once, and each report drawn once.

    The runs: ``mixed`` (nine small pairs with every verdict), ``large`` (40,000 images), ``hostile``, and ``real``, which the
    gate itself made of a bundled model; ``nights`` is a night with a history, ``bench``
    what `make bench` runs.
    """
    make = {
        "mixed": partial(large_run, images=60, image_sets=9, thumbs=60),
        "large": large_run,
        "hostile": hostile_run,
        "real": _real_run,
        "bench": _bench_run,
        "nights": _nights,
    }

    @cache
    def run(name: str) -> Path:
        return make[name](workplace / name)

    @cache
    def drawn(name: str, mode: Mode = "single") -> Report:
        folder = workplace / f"{name}-{mode}"
        shutil.copytree(run(name), folder, copy_function=os.link)
        render(folder, mode=mode)
        return Report(folder, Expected.of(folder))

    return drawn


def _bench_run(folder: Path) -> Path:
    """The run of `make bench`, from the checkout's store where it was made there before."""
    from tests.plugin.conftest import REPOSITORY, environment

    done = subprocess.run(
        [sys.executable, "-m", "pytest", "benchmarks", "--emt-reports", str(folder)],
        cwd=REPOSITORY, env=environment(), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    (run,) = folder.iterdir()
    return run


def _nights(folder: Path) -> Path:
    two_nights(folder)
    return folder


def _real_run(folder: Path) -> Path:
    """A run of the gate on a bundled model that forgot."""
    # Not before it is needed: it imports torch.
    from tests.plugin.conftest import GATE, in_a_process

    folder.mkdir()
    (folder / "test_forgetting.py").write_text(GATE, encoding="utf-8")
    (folder / "pytest.ini").write_text("[pytest]\n")
    run = in_a_process(folder, ("-p", "no:hypothesispytest", "--emt-model", "llava-mini-forgot", "--emt-limit", "60"))
    assert run.code == 1, run.output
    return run.place


@pytest.fixture(scope="package")
def address(workplace: Path) -> Iterator[Callable[[Report, Where], str]]:
    """The address of a report: on disk, on a plain web server, or on one with Jenkins's header, with or without its sandbox."""
    with ExitStack() as stack:
        policies = {"web": "", "jenkins": JENKINS, "jenkins-unboxed": WITHOUT_SANDBOX}
        servers = {where: stack.enter_context(serving(workplace, policy)) for where, policy in policies.items()}

        def find(report: Report, where: Where) -> str:
            path = report.page.relative_to(workplace)
            return report.page.as_uri() if where == "disk" else f"{servers[where]}/{path.as_posix()}"

        yield find


@pytest.fixture
def look_at(browser: Browser, address: Callable[[Report, Where], str]) -> Callable[..., AbstractContextManager[Opened]]:
    """Opens a report, and asserts at the end that its page complained of nothing."""

    def look_at(
        report: Report, look: Look = PLAIN, where: Where = "disk", fragment: str = ""
    ) -> AbstractContextManager[Opened]:
        scripts = look.scripts and not where.startswith("jenkins")
        return opened(browser, address(report, where), look, scripts, fragment)

    return look_at
