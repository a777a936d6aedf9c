"""What was measured becomes a run's record, with all that stands beside it."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from emt_plugin.analysis import Trajectory
from emt_plugin.errors import Crashed, UsageError, one_line
from emt_plugin.gate.exit_code import INCOMPLETE, STOPPED
from emt_plugin.records import (
    Flip,
    Journalled,
    OnePairAtATime,
    PairKey,
    PairRecord,
    RecordError,
    Row,
    RunRecord,
    Shard,
    read_journals,
    write_flips,
    write_predictions,
)
from emt_plugin.records.adjusting import why_incomplete
from emt_plugin.records.record import Status
from emt_plugin.runs.folder import Claim, claimed
from emt_plugin.settings import Settings

Rows = Mapping[str, Sequence[Row]]


@dataclass(frozen=True)
class Beginning:
    """When and where a run began.

    Attributes:
        claim: the run's folder.
        started: ISO 8601, UTC.
        clock: seconds of a clock that only goes forward.
    """

    claim: Claim
    started: str
    clock: float = field(default_factory=time.monotonic)

    @property
    def folder(self) -> Path:
        """The run's folder, whose name is the run's id."""
        return self.claim.folder


def begin(settings: Settings, claim: Claim | None = None) -> Beginning:
    """A run that begins now, in a folder that is made now, so that one that could not be recorded does not start.

    Args:
        settings: the run's.
        claim: a folder that is there already.

    Raises:
        UsageError: nothing can be written where the run or its history is to be.
    """
    now = datetime.now(UTC)
    check_history(settings.report.history)
    return Beginning(claim or claimed_folder(settings.report.folder, now), now.isoformat(timespec="seconds"))


def claimed_folder(reports: Path, now: datetime) -> Claim:
    """The run's own folder.

    Raises:
        UsageError: nothing can be written under ``reports``.
    """
    try:
        return claimed(reports, now)
    except OSError as error:
        raise UsageError(f"cannot write to {reports} ({error.strerror}); name another folder with --emt-reports DIR") from None


def check_history(path: Path | None) -> None:
    """Refuse to start a run whose lines could not be appended to the history.

    Raises:
        UsageError: what is there is no history, or cannot be written.
    """
    if path is None:
        return
    from emt_plugin.runs.history import HistoryError, check_appendable

    try:
        check_appendable(path)
    except HistoryError as error:
        raise UsageError(str(error)) from None


def all_pairs(
    selected: Iterable[PairKey], records: Mapping[PairKey, PairRecord], journals: Path
) -> tuple[list[PairRecord], dict[str, Journalled]]:
    """A record for every pair that was selected or measured; without a measurement, with what the journals hold.

    Args:
        selected: the pairs that were to be measured, in order.
        records: what is known of them.
        journals: folder of the workers' journals.

    Returns:
        The records, and what the journals hold, by pair id.
    """
    kept = {key.id: pair.measurement for key, pair in records.items() if pair.measurement}
    journalled = read_journals(journals, kept)
    pairs = [
        records.get(key) or PairRecord(key, status="not-run", reason="the run ended before it")
        for key in dict.fromkeys([*selected, *records])
    ]
    return [
        _partial(pair, journalled[pair.key.id]) if pair.status != "measured" and pair.key.id in journalled else pair
        for pair in pairs
    ], journalled


def _partial(pair: PairRecord, found: Journalled) -> PairRecord:
    count = len(found.rows)
    return replace(found.start, status=pair.status, reason=f"{pair.reason} ({count} images were measured)", n=count)


def rows_of(journalled: Mapping[str, Journalled]) -> OnePairAtATime:
    """The rows of each pair by its id, in memory a pair at a time."""
    return OnePairAtATime({name: partial(getattr, found, "rows") for name, found in journalled.items()})


def record_of(
    beginning: Beginning,
    settings: Settings,
    pairs: Sequence[PairRecord],
    *,
    complete: bool,
    code: int,
    faults: Sequence[str],
    environment: Mapping[str, Any],
    shard: Shard | None = None,
) -> RunRecord:
    """The record of a run that has ended.

    Args:
        beginning: the run's.
        settings: the run's.
        pairs: from ``all_pairs``, adjusted.
        complete: every pair has a verdict, and nothing else went wrong.
        code: what the run exits with.
        faults: what else went wrong.
        environment: what it ran on.
        shard: which part of a larger run it is.
    """
    return RunRecord(
        run_id=beginning.folder.name,
        started=beginning.started,
        seconds=round(time.monotonic() - beginning.clock, 1),
        complete=complete,
        exit_code=code,
        reason=why_incomplete(pairs, faults),
        settings={
            **settings.as_record(),
            "models": list(dict.fromkeys(pair.key.model for pair in pairs)),
            "image_sets": list(dict.fromkeys(pair.key.image_set for pair in pairs)),
        },
        environment=environment,
        pairs=tuple(pairs),
        shard=shard,
    )


def write_run(run: RunRecord, rows: OnePairAtATime, settings: Settings, folder: Path) -> RunRecord:
    """Set a run beside earlier ones, write and draw it, and append it to the history.

    Args:
        run: from ``record_of``.
        rows: from ``rows_of``; let go of before anything is drawn.
        settings: the run's.
        folder: the run's.

    Returns:
        The record as it was written; what is wrong with earlier runs leaves it incomplete.

    Raises:
        OSError: it cannot be written.
    """
    run = replace(run, trajectories=_trajectories(run.pairs, rows, settings))
    run, flipped = _beside_earlier(run, rows, settings)
    _write(run, rows, flipped, settings, folder)
    return _remembered(run, rows, settings, folder)


def status_of(error: BaseException | None) -> Status:
    """The status of a pair without a measurement, by what was raised."""
    return "crashed" if isinstance(error, Crashed) else "could-not-run"


def incomplete(run: RunRecord, reason: str) -> RunRecord:
    """A run of which something that was asked for is missing."""
    code = run.exit_code if run.exit_code == STOPPED else INCOMPLETE
    shard = replace(run.shard, otherwise=code) if run.shard and run.shard.by == "images" else run.shard
    return replace(run, complete=False, exit_code=code, reason=one_line(reason), shard=shard)


def _beside_earlier(run: RunRecord, rows: Rows, settings: Settings) -> tuple[RunRecord, dict[str, list[Flip]]]:
    """The run beside earlier ones; what is wrong with those leaves what was measured as it is, and the run incomplete."""
    report = settings.report
    if not report.compare and not report.history:
        return run, {}
    from emt_plugin.runs.beside import beside_earlier
    from emt_plugin.runs.history import HistoryError

    try:
        return beside_earlier(run, rows, report.compare, report.history)
    except (HistoryError, RecordError) as error:
        return incomplete(run, str(error)), {}


def _remembered(run: RunRecord, rows: Rows, settings: Settings, folder: Path) -> RunRecord:
    """The run, once the history has it; drawn anew where it cannot."""
    path = settings.report.history
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
        run.write(folder)
        write_all(folder, settings.report.mode)
        return run


def _write(run: RunRecord, rows: OnePairAtATime, flipped: dict[str, list[Flip]], settings: Settings, folder: Path) -> None:
    """The record, and what is drawn of it."""
    from emt_plugin.report import write_all

    folder.mkdir(parents=True, exist_ok=True)
    for pair in run.pairs:
        if pair.key.id in rows:
            write_predictions(folder, pair.key.file_name, rows[pair.key.id], pair.labels)
        if pair.key.id in flipped:
            write_flips(folder, pair.key.file_name, flipped[pair.key.id])
    run.write(folder)
    rows.let_go()
    write_all(folder, settings.report.mode)


def _trajectories(pairs: Sequence[PairRecord], rows: Rows, settings: Settings) -> tuple[Trajectory, ...]:
    if not settings.trajectories:
        return ()
    from emt_plugin.runs.trajectories import trajectories_of

    image_sets = list(dict.fromkeys(image_set for _, image_set in settings.pairs))
    selected = {pair.key.image_set for pair in pairs}
    return trajectories_of(settings.trajectories, [spec for spec in image_sets if spec.id in selected], pairs, rows)
