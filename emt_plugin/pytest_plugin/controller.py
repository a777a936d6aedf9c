"""The process that a user started: gathers what was measured, has it written and drawn, and sets the exit code."""

from __future__ import annotations

import sys
import traceback
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from emt_plugin.errors import UsageError
from emt_plugin.gate.exit_code import INCOMPLETE, NOTHING, STOPPED, Outcome, exit_code
from emt_plugin.gate.tolerances import accepted_of
from emt_plugin.pytest_plugin.home import foreign_settings, home_of
from emt_plugin.pytest_plugin.report_payload import (
    COULD_NOT_RUN,
    SKIPPED,
    SaidBelow,
    ended,
    key_of,
    pair_id_of,
    pairs_of,
    worse,
)
from emt_plugin.pytest_plugin.workers.place import PLACE
from emt_plugin.records import OnePairAtATime, PairKey, PairRecord, RunPlace
from emt_plugin.records.adjusting import adjusted
from emt_plugin.runs.folder import Claim
from emt_plugin.session.ending import Beginning, all_pairs, begin, incomplete, record_of, rows_of, write_run
from emt_plugin.settings import Settings


class Controller:
    """Registered in the controlling process of an active session."""

    def __init__(self, config: pytest.Config, settings: Settings, claim: Claim | None = None, by_fixture: bool = False) -> None:
        self._config = config
        self._settings = settings
        self._asked = bool(settings.given)
        self._by_fixture = by_fixture
        self._beginning = _begun(settings, claim)
        config.add_cleanup(self._beginning.claim.leave)
        self.folder = self._beginning.folder
        self._by_id = {key.id: key for key in settings.keys}
        self._selected: dict[PairKey, None] = {}
        self._records: dict[PairKey, PairRecord] = {}
        self._collected: set[str] = set()
        self._reported: set[str] = set()
        self._verdicts: set[str] = set()
        self._expected_failures = 0
        self._faults: list[str] = []
        self._interrupted = False
        self._test_failed = False
        self._lines: list[str] = []
        self._shard = settings.shard
        config.stash[PLACE] = RunPlace(self.folder, "main")

    @pytest.hookimpl(trylast=True)
    def pytest_sessionstart(self, session: pytest.Session) -> None:
        """Say which image sets are asked where nobody said so, and end before anything runs where none can be had.

        Raises:
            pytest.UsageError: none of them is here, and the hub is out of reach.
        """
        reporter = self._config.pluginmanager.getplugin("terminalreporter")
        foreign = foreign_settings(self._config)
        if foreign and reporter:
            reporter.write_line(f"emt: {foreign}")
        models = self._settings.unasked
        if not models:
            return
        from emt_plugin.session.reach import asked_unasked, out_of_reach

        if reporter:
            reporter.write_line(f"emt: {asked_unasked(models)}")
        why_not = out_of_reach(self._settings.catalog, models)
        if why_not:
            raise pytest.UsageError(f"emt: {why_not}")

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """What was selected, without xdist."""
        self._collected.update(item.nodeid for item in session.items)
        self._selected.update({key: None for item in session.items if (key := key_of(item))})

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_node_collection_finished(self, node: Any, ids: list[str]) -> None:
        """What was selected, as a worker collected it."""
        self._collected.update(ids)
        self._selected.update({key: None for nodeid in ids if (key := self._key(nodeid))})

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """A file that cannot be collected may hold pairs."""
        if report.failed:
            self._faults.append(f"{report.nodeid} could not be collected")

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Gather records; a crash has a report of its own kind and no record."""
        self._reported.add(report.nodeid)
        if ended(report) == COULD_NOT_RUN and pairs_of(report):
            report.longrepr = SaidBelow(str(report.longrepr))  # type: ignore[assignment]  # pytest asks it for toterminal alone
        for pair in pairs_of(report):
            self._records[pair.key] = worse(self._records.get(pair.key), pair)
        how = ended(report)
        if str(report.when) == "???":
            self._faults.append(f"{report.nodeid} crashed")
            key = self._key(report.nodeid)
            if key:
                self._records[key] = PairRecord(key, status="crashed", reason="its worker crashed")
        elif how in (COULD_NOT_RUN, SKIPPED):
            self._faults.append(f"{report.nodeid} {'could not run' if how == COULD_NOT_RUN else 'was skipped'}")
        elif how:
            self._verdicts.add(how)
        elif report.failed:
            self._test_failed = True
        self._expected_failures += bool(report.failed and how)

    def pytest_internalerror(self) -> None:
        """Something went wrong inside; xdist may exit 0 after it."""
        self._faults.append("something went wrong inside pytest or a plugin: see its INTERNALERROR")

    def pytest_keyboard_interrupt(self, excinfo: pytest.ExceptionInfo[BaseException]) -> None:
        """Ctrl-C; what xdist raises to stop by ``-x`` is a subclass."""
        self._interrupted = type(excinfo.value) is KeyboardInterrupt

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session, exitstatus: int) -> None:
        """Write record and report, and set the exit code."""
        stop_asked = bool(session.shouldfail or session.shouldstop) or int(exitstatus) == STOPPED
        collected_all = not any("could not be collected" in fault for fault in self._faults)
        unrun = self._collected - self._reported
        stopped = self._interrupted or (stop_asked and collected_all and bool(unrun))
        if unrun and not stopped and collected_all:
            self._faults.append(f"{min(unrun)} was selected and never ran")
        if not self._selected and not self._records and not any("INTERNALERROR" in fault for fault in self._faults):
            self._nothing_to_gate(session, int(exitstatus), stopped)
            return
        found, journalled = all_pairs(self._selected, self._records, self.folder / "journal")
        pairs = adjusted(found)
        unmeasured = [pair for pair in pairs if pair.gating is None and not pair.is_awaited]
        awaited = any(pair.is_awaited for pair in pairs)
        shard = self._settings.shard
        outcome = Outcome(
            pytest_code=int(exitstatus),
            stopped=stopped,
            incomplete=bool(unmeasured or self._faults),
            test_failed=self._test_failed or session.testsfailed > self._expected_failures,
            verdicts={*self._verdicts, *(pair.gating.verdict for pair in pairs if pair.gating)},
        )
        if shard and shard.by == "images":
            self._shard = replace(shard, otherwise=exit_code(outcome))
            outcome = replace(outcome, incomplete=outcome.incomplete or awaited)
        complete = not (unmeasured or awaited or self._faults or stopped)
        session.exitstatus = self._finish(pairs, rows_of(journalled), complete, exit_code(outcome))

    def _nothing_to_gate(self, session: pytest.Session, code: int, stopped: bool) -> None:
        """A run that asked for the gate by an option and selected none of it must not pass."""
        if not (self._asked or (self._by_fixture and self._faults)) or code not in (0, 1, 2):
            return
        if stopped:
            session.exitstatus = STOPPED
        elif self._faults:
            session.exitstatus = INCOMPLETE
            self._lines = [f"incomplete: {self._faults[0]}"]
        elif code == 0:
            session.exitstatus = NOTHING
            self._lines = ["no model x image-set pair was selected, so nothing was gated: run `pytest benchmarks ...`"]

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        """The verdict table, and where the report is."""
        if self._lines:
            from emt_plugin.report.writers.colours import painted

            terminalreporter.section("forgetting")
            for line in self._lines:
                terminalreporter.write_line(painted(line) if terminalreporter.hasmarkup else line)

    def _key(self, nodeid: str) -> PairKey | None:
        return self._by_id.get(pair_id_of(nodeid, self._by_id) or "")

    def _finish(self, pairs: list[PairRecord], rows: OnePairAtATime, complete: bool, code: int) -> int:
        """Write everything; whatever goes wrong here makes the run incomplete, in the record too."""
        from emt_plugin.report.writers.summary import append_to_step_summary
        from emt_plugin.report.writers.terminal import looked_at, table
        from emt_plugin.session.environment import describe

        run = record_of(
            self._beginning,
            self._settings,
            pairs,
            complete=complete,
            code=code,
            faults=self._faults,
            environment=describe(home_of(self._config), self._command()),
            shard=self._shard,
        )
        try:
            run = write_run(run, rows, self._settings, self.folder)
            self._lines = table(run)
            if self._settings.compute.images:
                self._lines += looked_at(run.pairs, rows)
            self._lines += append_to_step_summary(self.folder / "summary.md")
            self._lines += self._update_tolerances(pairs)
            report = shown_path(self.folder / "report.html", self._config.invocation_params.dir)
            self._lines += ["", f"report: {report}", f"exit code: {run.exit_code}"]
            return run.exit_code
        except Exception as error:
            # A fault here must not end as pytest's own exit code, which would read as a verdict.
            if not isinstance(error, OSError):
                self._lines += ["", traceback.format_exc()]
            self._lines += ["", f"emt: the run could not be written ({error}), so it does not count"]
            code = code if code == STOPPED else INCOMPLETE
            with suppress(OSError):
                incomplete(run, str(error)).write(self.folder)
            return code

    def _command(self) -> str:
        """What runs pytest again."""
        from emt_plugin.session.environment import command

        return command(sys.argv[0], self._config.invocation_params.args, Path.home())

    def _update_tolerances(self, pairs: list[PairRecord]) -> list[str]:
        path = self._settings.tolerances_file
        if not self._settings.update_tolerances or path is None:
            return []
        from emt_plugin.gate.tolerances import loss_to_accept, update_accepted_losses

        losses = {
            pair.key.id: (loss_to_accept(pair.gating.low), str(pair.image_set_facts["fingerprint"])[:16], bundled_pair(pair))
            for pair in pairs
            if pair.gating and pair.gating.low <= -pair.gating.tolerance.policy
        }
        kinds = {pair.key.id: pair.gating.reference.kind for pair in pairs if pair.gating}
        for kind in sorted(set(kinds.values())):
            of_kind = {pair: loss for pair, loss in losses.items() if kinds[pair] == kind}
            update_accepted_losses(path, of_kind, kind, self.folder.name, self._beginning.started[:10])
        return ["", f"{len(losses)} accepted losses written to {shown_path(path, self._config.invocation_params.dir)}"]


def _begun(settings: Settings, claim: Claim | None) -> Beginning:
    """The run's beginning.

    Raises:
        pytest.UsageError: it could not be recorded.
    """
    try:
        return begin(settings, claim)
    except UsageError as error:
        raise pytest.UsageError(f"emt: {error}") from None


def bundled_pair(pair: PairRecord) -> str | None:
    """What a loss is accepted of, where model and image set are bundled: another of the same name is another."""
    return accepted_of(pair.model_facts.get("adapter") or pair.model_facts.get("source"), pair.image_set_facts.get("source"))


def shown_path(path: Path, start: Path) -> str:
    """A path as a person at ``start`` would write it."""
    return str(path.relative_to(start)) if path.is_relative_to(start) else str(path)
