"""Options as data: what is registered, documented and settable once."""

from __future__ import annotations

import re
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest

from emt_plugin import __version__
from emt_plugin.cli import main
from emt_plugin.options.listed import BY_DEST, GROUPS, OPTIONS

DOCS = Path(__file__).parents[2] / "docs"


def test_the_page_of_options_is_up_to_date(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`emt options --write docs/options.md` writes it."""
    assert main(["options", "--write", str(tmp_path / "options.md")]) == 0
    written = (tmp_path / "options.md").read_text(encoding="utf-8")
    assert (DOCS / "options.md").read_text(encoding="utf-8") == written
    assert main(["options"]) == 0
    assert capsys.readouterr().out == written


def test_every_option_that_pytest_knows_is_on_the_page(pytestconfig: pytest.Config) -> None:
    page = (DOCS / "options.md").read_text(encoding="utf-8")
    known = {name for name in vars(pytestconfig.option) if name.startswith("emt_")}
    assert known == set(BY_DEST)
    rows = re.findall(r"^\| `(--emt-[a-z-]+)[ `].*\|$", page, re.MULTILINE)
    assert sorted(rows) == sorted(option.flag for option in OPTIONS)
    assert set(re.findall(r"\| `(emt_[a-z_]+)` \|$", page, re.MULTILINE)) == {option.dest for option in OPTIONS if option.ini}


def test_what_a_team_sets_once_has_an_ini_key() -> None:
    keys = {option.dest for option in OPTIONS if option.ini}
    assert keys >= {
        "emt_model", "emt_image_set", "emt_encoder", "emt_reference", "emt_catalog", "emt_scorer", "emt_limit", "emt_tolerance",
        "emt_tolerances", "emt_batch_size", "emt_dtype", "emt_device", "emt_store", "emt_store_dir", "emt_report",
        "emt_reports", "emt_history",
    }  # fmt: skip
    # What is of one run alone has none.
    assert not keys & {"emt_checkpoint", "emt_image", "emt_shard", "emt_compare", "emt_update_tolerances", "emt_throughput"}


def test_help_is_grouped() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "--help"], cwd=DOCS.parent, capture_output=True, text=True, check=True
    )  # fmt: skip
    parts = re.split(r"^(\S.*):$", done.stdout, flags=re.MULTILINE)
    found = {title: re.findall(r"^  (--emt-[a-z-]+)", text, re.MULTILINE) for title, text in pairwise(parts)}
    for group in GROUPS:
        assert found[group[1]] == [option.flag for option in OPTIONS if option.group == group]
    # Elsewhere in the help nothing of it stands.
    assert sum(map(len, found.values())) == len(OPTIONS)


@pytest.mark.parametrize("option", OPTIONS, ids=lambda option: option.dest)
def test_helps_are_written_alike(option) -> None:
    assert option.help[0].islower() or option.help.startswith("TOML")
    assert not option.help.endswith(".")
    assert option.about + (f" [{option.default}]" if option.default else "") == option.help


def test_the_version_is_told() -> None:
    done = subprocess.run([sys.executable, "-m", "emt_plugin.cli", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout == f"pytest-emt {__version__}\n"
