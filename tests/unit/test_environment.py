"""The command that a record keeps can be run again."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from emt_plugin.runs.folder import claimed, new_run_id
from emt_plugin.session.environment import command


@pytest.mark.parametrize(
    ("program", "arguments", "said"),
    [
        ("/usr/bin/pytest", ["benchmarks", "-n2"], "pytest benchmarks -n2"),
        ("/site-packages/pytest/__main__.py", ["benchmarks"], "python -m pytest benchmarks"),
        ("", ["benchmarks"], "pytest benchmarks"),
        ("pytest", ["--model", "/home/me/runs/m"], "pytest --model ~/runs/m"),
        ("pytest", ["--model", "/home/me"], "pytest --model ~"),
        ("pytest", ["--model", "/home/me/my runs/m"], "pytest --model ~/'my runs/m'"),
        ("pytest", ["--emt-encoder=/home/me/clip"], 'pytest --emt-encoder="$HOME"/clip'),
        ("pytest", ["--model", "/home/meg/m"], "pytest --model /home/meg/m"),
        ("pytest", ["--checkpoint", "runs/*/checkpoint-*"], "pytest --checkpoint 'runs/*/checkpoint-*'"),
    ],
)
def test_the_command(program: str, arguments: list[str], said: str) -> None:
    assert command(program, arguments, Path("/home/me")) == said


@pytest.mark.parametrize("argument", ["/home/me/my runs/m", "--emt-encoder=/home/me/a b/c", "a'b", "/home/me/$x", "~", "*"])
def test_a_shell_reads_what_was_given(argument: str) -> None:
    said = command("pytest", [argument], Path("/home/me")).removeprefix("pytest ")
    done = subprocess.run(
        ["sh", "-c", f"printf %s {said}"], env={"HOME": "/home/me"}, capture_output=True, text=True, check=True
    )
    assert done.stdout == argument


def test_run_ids_do_not_meet_and_a_folder_is_claimed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from datetime import UTC, datetime

    now = datetime(2026, 1, 1, tzinfo=UTC)
    assert len({new_run_id(now) for _ in range(1000)}) == 1000
    assert len(new_run_id(now).rpartition("-")[2]) == 16
    ids = iter(["same", "same", "other"])
    monkeypatch.setattr("emt_plugin.runs.folder.new_run_id", lambda now: next(ids))
    first, second = (claimed(tmp_path / "build" / "reports", now) for _ in range(2))
    assert (first.folder.name, second.folder.name) == ("same", "other")
    (second.folder / "run.json").write_text("{}")
    first.leave()
    second.leave()
    assert [path.name for path in (tmp_path / "build" / "reports").iterdir()] == ["other"]
    (second.folder / "run.json").unlink()
    second.leave()
    first.leave()
    assert (tmp_path / "build").exists()
    (tmp_path / "build" / "reports").rmdir()
    (tmp_path / "build").rmdir()
    monkeypatch.setattr("emt_plugin.runs.folder.new_run_id", lambda now: "alone")
    claimed(tmp_path / "build" / "reports", now).leave()
    assert not (tmp_path / "build").exists()
