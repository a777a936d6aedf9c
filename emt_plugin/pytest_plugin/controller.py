"""The process that a user started: gathers what was measured, writes the record, draws the report, sets the exit code."""

from __future__ import annotations

import time
import traceback
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from emt_plugin.analysis import Trajectory
from emt_plugin.errors import one_line
from emt_plugin.gate.exit_code import INCOMPLETE, NOTHING, STOPPED, Outcome, exit_code
from emt_plugin.gate.tolerances import accepted_of
from emt_plugin.pytest_plugin.home import foreign_settings, home_of
from emt_plugin.pytest_plugin.link import COULD_NOT_RUN, SKIPPED, SaidBelow, ended, key_of, pair_id_of, pairs_of, worse
from emt_plugin.pytest_plugin.workers.place import PLACE
from emt_plugin.records import (
    Flip,
    Journalled,
    PairKey,
    PairRecord,
    RecordError,
    Row,
    RunPlace,
    RunRecord,
    read_journals,
    write_flips,
    write_predictions,
)
from emt_plugin.records.adjusting import adjusted, why_incomplete
from emt_plugin.runs.folder import Claim, claimed
from emt_plugin.settings import Settings

Rows = dict[str, list[Row]]


class Controller:
    """Registered in the controlling process of an active session."""

    def __init__(self, config: pytest.Config, settings: Settings, claim: Claim | None = None, by_fixture: bool = False) -> None:
        self._config = config
        self._settings = settings
        self._asked = bool(settings.given)
        self._by_fixture = by_fixture
        now = datetime.now(UTC)
        check_history(settings.report.history)
        mine = claim or claimed_folder(settings.report.folder, now)
        config.add_cleanup(mine.leave)
        self.folder = mine.folder
        self.run_id = self.folder.name
        self._started = now.isoformat(timespec="seconds")
        self._clock = time.monotonic()
        self._by_id = {key.id: key for key in settings.keys}
        self._selected: dict[PairKey, None] = {}
        self._records: dict[PairKey, PairRecord] = {}
        self._journalled: dict[str, Journalled] = {}
        self._collected: set[str] = set()
        self._reported: set[str] = set()
        self._verdicts: set[str] = set()
        self._expected_failures = 0
        self._faults: list[str] = []
        self._interrupted = False
        self._test_failed = False
        self._lines: list[str] = []
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
        from emt_plugin.pytest_plugin.reach import asked_unasked, out_of_reach

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
        pairs = adjusted(self._all_pairs())
        unmeasured = [pair for pair in pairs if pair.gating is None]
        code = exit_code(
            Outcome(
                pytest_code=int(exitstatus),
                stopped=stopped,
                incomplete=bool(unmeasured or self._faults),
                test_failed=self._test_failed or session.testsfailed > self._expected_failures,
                verdicts={*self._verdicts, *(pair.gating.verdict for pair in pairs if pair.gating)},
            )
        )
        session.exitstatus = self._finish(pairs, not (unmeasured or self._faults or stopped), code)

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
            terminalreporter.section("forgetting")
            for line in self._lines:
                terminalreporter.write_line(line)

    def _key(self, nodeid: str) -> PairKey | None:
        return self._by_id.get(pair_id_of(nodeid, self._by_id) or "")

    def _all_pairs(self) -> list[PairRecord]:
        """A record for every pair that was selected or measured; without a measurement, with what the journals hold."""
        kept = {key.id: pair.measurement for key, pair in self._records.items() if pair.measurement}
        self._journalled = read_journals(self.folder / "journal", kept)
        pairs = [
            self._records.get(key) or PairRecord(key, status="not-run", reason="the run ended before it")
            for key in dict.fromkeys([*self._selected, *self._records])
        ]
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
        """Write everything; whatever goes wrong here makes the run incomplete, in the record too."""
        from emt_plugin.pytest_plugin.environment import describe
        from emt_plugin.report.writers.summary import append_to_step_summary
        from emt_plugin.report.writers.terminal import looked_at, table

        run = RunRecord(
            run_id=self.run_id,
            started=self._started,
            seconds=round(time.monotonic() - self._clock, 1),
            complete=complete,
            exit_code=code,
            reason=why_incomplete(pairs, self._faults),
            settings={
                **self._settings.as_record(),
                "models": list(dict.fromkeys(pair.key.model for pair in pairs)),
                "image_sets": list(dict.fromkeys(pair.key.image_set for pair in pairs)),
            },
            environment=describe(home_of(self._config), self._config.invocation_params.args),
            pairs=tuple(pairs),
            shard=self._settings.shard,
        )
        rows = {name: found.rows for name, found in self._journalled.items()}
        try:
            run = replace(run, trajectories=self._trajectories(pairs, rows))
            run, flipped = self._beside_earlier(run, rows)
            self._write(run, rows, flipped)
            run = self._remembered(run, rows)
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

    def _beside_earlier(self, run: RunRecord, rows: Rows) -> tuple[RunRecord, dict[str, list[Flip]]]:
        """The run beside earlier ones; what is wrong with those leaves what was measured as it is, and the run incomplete."""
        report = self._settings.report
        if not report.compare and not report.history:
            return run, {}
        from emt_plugin.runs.beside import beside_earlier
        from emt_plugin.runs.history import HistoryError

        try:
            return beside_earlier(run, rows, report.compare, report.history)
        except (HistoryError, RecordError) as error:
            return incomplete(run, str(error)), {}

    def _remembered(self, run: RunRecord, rows: Rows) -> RunRecord:
        """The run, once the history has it; drawn anew where it cannot."""
        path = self._settings.report.history
        if path is None:
            return run
        from emt_plugin.report import write_all
        from emt_plugin.runs.beside import remember
        from emt_plugin.runs.history import HistoryError

        try:
            remember(run, rows, path)
            return run
        except HistoryError as error:
            run = incomplete(run, str(error))
            run.write(self.folder)
            write_all(self.folder, self._settings.report.mode)
            return run

    def _write(self, run: RunRecord, rows: Rows, flipped: dict[str, list[Flip]]) -> None:
        """The record, and what is drawn of it."""
        from emt_plugin.report import write_all

        self.folder.mkdir(parents=True, exist_ok=True)
        for pair in run.pairs:
            if pair.key.id in rows:
                write_predictions(self.folder, pair.key.file_name, rows[pair.key.id], pair.labels)
            if pair.key.id in flipped:
                write_flips(self.folder, pair.key.file_name, flipped[pair.key.id])
        run.write(self.folder)
        write_all(self.folder, self._settings.report.mode)

    def _trajectories(self, pairs: list[PairRecord], rows: Rows) -> tuple[Trajectory, ...]:
        if not self._settings.trajectories:
            return ()
        from emt_plugin.runs.trajectories import trajectories_of

        image_sets = list(dict.fromkeys(image_set for _, image_set in self._settings.pairs))
        selected = {pair.key.image_set for pair in pairs}
        return trajectories_of(self._settings.trajectories, [spec for spec in image_sets if spec.id in selected], pairs, rows)

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
            update_accepted_losses(path, of_kind, kind, self.run_id, self._started[:10])
        return ["", f"{len(losses)} accepted losses written to {shown_path(path, self._config.invocation_params.dir)}"]


def incomplete(run: RunRecord, reason: str) -> RunRecord:
    """A run of which something that was asked for is missing."""
    code = run.exit_code if run.exit_code == STOPPED else INCOMPLETE
    return replace(run, complete=False, exit_code=code, reason=one_line(reason))


def claimed_folder(reports: Path, now: datetime) -> Claim:
    """The run's own folder; made now, so that a run that could not be recorded does not start.

    Raises:
        pytest.UsageError: nothing can be written under ``reports``.
    """
    try:
        return claimed(reports, now)
    except OSError as error:
        raise pytest.UsageError(
            f"emt: cannot write to {reports} ({error.strerror}); name another folder with --emt-reports DIR"
        ) from None


def bundled_pair(pair: PairRecord) -> str | None:
    """What a loss is accepted of, where model and image set are bundled: another of the same name is another."""
    return accepted_of(pair.model_facts.get("adapter") or pair.model_facts.get("source"), pair.image_set_facts.get("source"))


def check_history(path: Path | None) -> None:
    """Refuse to start a run whose lines could not be appended to the history.

    Raises:
        pytest.UsageError: what is there is no history, or cannot be written.
    """
    if path is None:
        return
    from emt_plugin.runs.history import HistoryError, check_appendable

    try:
        check_appendable(path)
    except HistoryError as error:
        raise pytest.UsageError(f"emt: {error}") from None


def shown_path(path: Path, start: Path) -> str:
    """A path as a person at ``start`` would write it."""
    return str(path.relative_to(start)) if path.is_relative_to(start) else str(path)
