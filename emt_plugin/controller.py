"""The process that a user started: gathers what was measured, writes the record, draws the report, sets the exit code."""

from __future__ import annotations

import secrets
import tempfile
import time
import traceback
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from emt_plugin.gate import with_holm
from emt_plugin.gate.exit_code import INCOMPLETE, STOPPED, Outcome, exit_code
from emt_plugin.link import pair_id_of, pairs_of, was_expected, worse
from emt_plugin.records import Journalled, PairKey, PairRecord, RunPlace, RunRecord, read_journals, write_predictions
from emt_plugin.settings import Settings
from emt_plugin.workers.place import PLACE

if TYPE_CHECKING:
    from collections.abc import Iterable


class Controller:
    """Registered in the controlling process of an active session."""

    def __init__(self, config: pytest.Config, settings: Settings) -> None:
        self._config = config
        self._settings = settings
        now = datetime.now(UTC)
        self.run_id = f"{now:%Y%m%d-%H%M%S}-{secrets.token_hex(2)}"
        self.folder = settings.reports / self.run_id
        self._started = now.isoformat(timespec="seconds")
        self._clock = time.monotonic()
        self._by_id = {key.id: key for key in settings.keys}
        self._selected: dict[PairKey, None] = {}
        self._records: dict[PairKey, PairRecord] = {}
        self._crashed_tests: list[str] = []
        self._internal_error = False
        self._interrupted = False
        self._test_failed = False
        self._lines: list[str] = []
        self._journalled: dict[str, Journalled] = {}
        check_writable(settings.reports)
        config.stash[PLACE] = RunPlace(self.folder, "main")

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """What was selected, without xdist."""
        self._select(item.nodeid for item in session.items)

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_node_collection_finished(self, node: Any, ids: list[str]) -> None:
        """What was selected, as a worker collected it."""
        self._select(ids)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Gather records; a crash has a report of its own kind and no record."""
        for pair in pairs_of(report):
            self._records[pair.key] = worse(self._records.get(pair.key), pair)
        if str(report.when) == "???":
            self._crashed_tests.append(report.nodeid)
            key = self._key(report.nodeid)
            if key:
                self._records[key] = worse(
                    self._records.get(key), PairRecord(key, status="crashed", reason="its worker crashed")
                )
        elif report.failed and not was_expected(report):
            self._test_failed = True

    def pytest_internalerror(self) -> None:
        """Something went wrong inside; xdist may exit 0 after it."""
        self._internal_error = True

    def pytest_keyboard_interrupt(self, excinfo: pytest.ExceptionInfo[BaseException]) -> None:
        """Ctrl-C, or xdist told to stop by ``-x``."""
        self._interrupted = isinstance(excinfo.value, KeyboardInterrupt) and type(excinfo.value) is KeyboardInterrupt

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session, exitstatus: int) -> None:
        """Write record and report, and set the exit code."""
        if not self._selected and not self._records:
            return
        missing = [key for key in self._selected if key not in self._records]
        stop_asked = bool(session.shouldfail or session.shouldstop) or int(exitstatus) == 2
        pairs = self._with_partial(
            [self._records.get(key) or PairRecord(key, status="not-run", reason="the run ended before it")
             for key in dict.fromkeys([*self._selected, *self._records])]
        )  # fmt: skip
        pairs = adjusted(pairs)
        unmeasured = [pair for pair in pairs if pair.gating is None]
        code = exit_code(
            Outcome(
                pytest_code=int(exitstatus),
                stopped=self._interrupted or (stop_asked and bool(missing)),
                incomplete=bool(unmeasured) or self._internal_error or bool(self._crashed_tests),
                test_failed=self._test_failed,
                verdicts={pair.gating.verdict for pair in pairs if pair.gating},
            )
        )
        complete = not unmeasured and not self._internal_error and not self._crashed_tests and not self._interrupted
        session.exitstatus = self._finish(pairs, complete, code)

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        """The verdict table, and where the report is."""
        if self._lines:
            terminalreporter.section("forgetting")
            for line in self._lines:
                terminalreporter.write_line(line)

    def _select(self, nodeids: Iterable[str]) -> None:
        self._selected.update({key: None for key in map(self._key, nodeids) if key})

    def _key(self, nodeid: str) -> PairKey | None:
        return self._by_id.get(pair_id_of(nodeid) or "")

    def _with_partial(self, pairs: list[PairRecord]) -> list[PairRecord]:
        """Pairs without a measurement, with what the journals hold of them."""
        self._journalled = read_journals(self.folder / "journal")
        return [
            self._partial(pair, self._journalled[pair.key.id])
            if pair.status != "measured" and pair.key.id in self._journalled
            else pair
            for pair in pairs
        ]

    def _partial(self, pair: PairRecord, found: Journalled) -> PairRecord:
        reason = f"{pair.reason} ({len(found.rows)} images were measured)"
        return replace(found.start, status=pair.status, reason=reason, n=len(found.rows))

    def _finish(self, pairs: list[PairRecord], complete: bool, code: int) -> int:
        """Write everything; a full disk or the like makes the run incomplete, in one sentence."""
        from emt_plugin.environment import describe
        from emt_plugin.report import render, write_summary
        from emt_plugin.report.terminal import table

        run = RunRecord(
            run_id=self.run_id,
            started=self._started,
            seconds=round(time.monotonic() - self._clock, 1),
            complete=complete,
            exit_code=code,
            reason=self._why_incomplete(pairs),
            settings=self._settings.as_record(),
            environment=describe(self._config.rootpath, self._config.invocation_params.args),
            pairs=tuple(pairs),
        )
        self._lines = table(run)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            for pair in pairs:
                if pair.key.id in self._journalled:
                    write_predictions(self.folder, pair.key.file_name, self._journalled[pair.key.id].rows)
            run.write(self.folder)
            report = render(self.folder)
            write_summary(self.folder)
            self._lines += self._update_tolerances(pairs)
        except OSError as error:
            self._lines += ["", f"emt: the record could not be written ({error}): the run does not count"]
            return code if code == STOPPED else INCOMPLETE
        except Exception:  # A fault in drawing must not end as pytest's own exit code, which would be a verdict.
            self._lines += ["", traceback.format_exc(), "emt: the report could not be drawn: the run does not count"]
            return code if code == STOPPED else INCOMPLETE
        self._lines += ["", f"report: {shown_path(report, self._config.invocation_params.dir)}", f"exit code: {code}"]
        return code

    def _why_incomplete(self, pairs: list[PairRecord]) -> str | None:
        if self._internal_error:
            return "something went wrong inside pytest or a plugin: see its INTERNALERROR"
        reasons = [f"{pair.key.id}: {pair.reason}" for pair in pairs if pair.gating is None]
        if reasons:
            return reasons[0] + (f" (and {len(reasons) - 1} more)" if len(reasons) > 1 else "")
        return f"{self._crashed_tests[0]} crashed" if self._crashed_tests else None

    def _update_tolerances(self, pairs: list[PairRecord]) -> list[str]:
        path = self._settings.tolerances_file
        if not self._settings.update_tolerances or path is None:
            return []
        from emt_plugin.gate.tolerances import loss_to_accept, update_accepted_losses

        losses = {
            pair.key.id: (loss_to_accept(pair.gating.low), str(pair.image_set_facts["fingerprint"])[:16])
            for pair in pairs
            if pair.gating and pair.gating.low <= -pair.gating.tolerance.policy
        }
        update_accepted_losses(path, losses, self._settings.reference_kind, self.run_id, self._started[:10])
        return ["", f"{len(losses)} accepted losses written to {shown_path(path, self._config.invocation_params.dir)}"]


def adjusted(pairs: list[PairRecord]) -> list[PairRecord]:
    """Pairs with Holm's adjustment over all comparisons that gate."""
    gating = [pair.gating for pair in pairs if pair.gating]
    done = iter(with_holm(gating))
    result = []
    for pair in pairs:
        if pair.gate is None:
            result.append(pair)
            continue
        comparisons = list(pair.comparisons)
        comparisons[pair.gate] = next(done)
        result.append(replace(pair, comparisons=tuple(comparisons)))
    return result


def check_writable(reports: Path) -> None:
    """Refuse to start a run that could not be recorded.

    Raises:
        pytest.UsageError: nothing can be written under ``reports``.
    """
    try:
        reports.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=reports):
            pass
    except OSError as error:
        raise pytest.UsageError(
            f"emt: cannot write to {reports} ({error.strerror}); name another folder with --emt-reports DIR"
        ) from None


def shown_path(path: Path, start: Path) -> str:
    """A path as a person at ``start`` would write it."""
    return str(path.relative_to(start)) if path.is_relative_to(start) else str(path)
