"""The runs of shards become one run; what they have twice, or not at all, is refused."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from emt_plugin.gate.exit_code import FAILED, INCOMPLETE, INCONCLUSIVE, PASSED, STOPPED, Outcome, exit_code
from emt_plugin.records import (
    PairRecord,
    RecordError,
    RunRecord,
    Shard,
    read_predictions,
    write_flips,
    write_predictions,
)
from emt_plugin.records.adjusting import adjusted, more, why_incomplete
from emt_plugin.runs.beside import beside_earlier, remember, rows_of
from emt_plugin.runs.folder import claimed, new_run_id
from emt_plugin.runs.parts import PairPart, PartsError, whole_pair
from emt_plugin.runs.together import together

# Of each pair, beside the record.
CARRIED = ("predictions", "thumbs")
# What shards of one run may have of their own.
OWN = ("models", "image_sets", "probed_by_catalog", "given", "store")
# What a shard may not have, where none of its models asks for it.
OF_SOME_MODELS = ("probe_images",)


class MergeError(ValueError):
    """Runs that do not make one; the message says why and what to do."""


@dataclass(frozen=True)
class Part:
    """One of the runs, and where it is."""

    folder: Path
    run: RunRecord


def merge(
    folders: Sequence[Path], reports: Path, compare: Path | None = None, history: Path | None = None, grid: bool = True
) -> tuple[RunRecord, Path]:
    """Join runs into one, and write its record as a run writes its own.

    Args:
        folders: of the runs, or folders that hold some.
        reports: where the joined run gets a folder.
        compare: folder of an earlier run to set it beside.
        history: the file to append it to.
        grid: without ``--emt-shard``, refuse to join where a model was not run on an image set of another one.

    Returns:
        The record and its folder.

    Raises:
        MergeError: the runs overlap, leave a hole, or were not made alike.
        RecordError: a folder holds no run record that this version reads.
        HistoryError: the history cannot be read or written.
        OSError: the joined run cannot be written.
    """
    parts = [Part(folder, RunRecord.read(folder)) for given in folders for folder in run_folders(given)]
    claim = claimed(reports, datetime.now(UTC))
    folder = claim.folder
    try:
        run = _joined_into(folder, parts, grid)
    except (MergeError, RecordError):
        shutil.rmtree(folder / "predictions", ignore_errors=True)
        claim.leave()
        raise
    run = replace(run, run_id=folder.name)
    rows = rows_of(folder, run)
    run, flipped = beside_earlier(run, rows, compare, history)
    run.write(folder)
    for pair in run.pairs:
        if pair.key.id in flipped:
            write_flips(folder, pair.key.file_name, flipped[pair.key.id])
    if history:
        remember(run, rows, history)
    return run, folder


def _joined_into(folder: Path, parts: Sequence[Part], grid: bool) -> RunRecord:
    """One record of several, with what stands beside it; pairs that are parted by images are made whole first."""
    runs = [part.run for part in parts]
    by_images = any(run.shard and run.shard.by == "images" for run in runs)
    if by_images:
        _refuse_what_is_no_part(runs)
        runs = _with_whole_pairs(folder, parts)
    run = joined(runs, grid)
    for part in parts:
        _carry(part.folder, folder, ("thumbs",) if by_images else CARRIED)
    return run


def _refuse_what_is_no_part(runs: Sequence[RunRecord]) -> None:
    """Refuse runs that are not the parts of one, before a pair of theirs is taken for a part."""
    _refuse_twice(runs)
    _refuse_other_settings(runs)
    owner: dict[int, str] = {}
    for shard, run in zip(_shards(runs), runs, strict=True):
        if shard.index in owner:
            raise MergeError(f"runs {owner[shard.index]} and {run.run_id} are both {shard.words}; leave out one of the two")
        owner[shard.index] = run.run_id
    _refuse_other_weights(runs)


def _with_whole_pairs(folder: Path, parts: Sequence[Part]) -> list[RunRecord]:
    """The runs, of which the first has all pairs, whole, and the others none; predictions are written into a folder."""
    ordered = sorted(parts, key=lambda part: part.run.shard.index if part.run.shard else 0)
    names = dict.fromkeys(pair.key.id for part in ordered for pair in part.run.pairs)
    pairs = tuple(_whole_pair(folder, name, ordered) for name in names)
    first, *others = (part.run for part in parts)
    return [replace(first, pairs=pairs), *(replace(run, pairs=()) for run in others)]


def _whole_pair(folder: Path, name: str, parts: Sequence[Part]) -> PairRecord:
    """One pair of all parts; its rows are in memory meanwhile, and no other's."""
    try:
        pair, rows = whole_pair([_pair_part(name, part) for part in parts])
    except PartsError as error:
        raise MergeError(str(error)) from None
    if rows:
        write_predictions(folder, pair.key.file_name, rows)
    return pair


def _pair_part(name: str, part: Part) -> PairPart:
    run = part.run
    pair = next((pair for pair in run.pairs if pair.key.id == name), None)
    if pair is None or run.shard is None:
        raise PartsError(f"run {run.run_id} has no part of {name}; run its shard again, whole")
    return PairPart(run.run_id, pair, read_predictions(part.folder, pair.key.file_name), run.shard.words)


def run_folders(folder: Path) -> list[Path]:
    """The folder of one run, or those of all runs in a folder.

    Raises:
        MergeError: there is none.
    """
    if (folder / "run.json").exists():
        return [folder]
    found = sorted(path.parent for path in folder.glob("*/run.json"))
    if not found:
        raise MergeError(f"{folder} holds no run.json, and no folder that does; name the folders of runs")
    return found


def joined(runs: Sequence[RunRecord], grid: bool = True) -> RunRecord:
    """One record of several.

    Raises:
        MergeError: see ``merge``.
    """
    _refuse_twice(runs)
    _refuse_trajectories(runs)
    _refuse_overlaps(runs)
    _refuse_other_settings(runs)
    _refuse_other_weights(runs)
    whole = _whole(runs, grid)
    by_id = {pair.key.id: pair for run in runs for pair in run.pairs}
    pairs = adjusted([by_id[name] for name in whole])
    code = _exit_code(runs, pairs)
    first = runs[0]
    return RunRecord(
        run_id=new_run_id(datetime.now(UTC)),
        started=min(run.started for run in runs),
        seconds=round(sum(run.seconds for run in runs), 1),
        complete=all(_is_complete(run) for run in runs) and all(pair.gating for pair in pairs if _by_images(runs)),
        exit_code=code,
        reason=why_incomplete(pairs, [run.reason for run in runs if run.reason and not _is_complete(run)]),
        settings={
            **first.settings,
            **{name: _all_of(runs, name) for name in ("models", "image_sets", "probed_by_catalog")},
            **{name: next((run.settings[name] for run in runs if run.settings.get(name)), None) for name in OF_SOME_MODELS},
        },
        environment=together([run.environment for run in runs]),
        pairs=tuple(pairs),
        merged_from=tuple(run.run_id for run in runs),
    )


def _all_of(runs: Sequence[RunRecord], name: str) -> list[str]:
    return list(dict.fromkeys(value for run in runs for value in run.settings.get(name, ())))


def _refuse_trajectories(runs: Sequence[RunRecord]) -> None:
    for run in runs:
        if run.trajectories:
            raise MergeError(f"run {run.run_id} is of checkpoints, whose trajectory needs them all in one run")


def _refuse_twice(runs: Sequence[RunRecord]) -> None:
    if len({run.run_id for run in runs}) < len(runs):
        raise MergeError("a run is named twice; name each once")


def _refuse_overlaps(runs: Sequence[RunRecord]) -> None:
    owner: dict[str, str] = {}
    for run in runs:
        for pair in run.pairs:
            if pair.key.id in owner:
                raise MergeError(
                    f"runs {owner[pair.key.id]} and {run.run_id} both have {pair.key.id}; leave out one of the two runs"
                )
            owner[pair.key.id] = run.run_id


def _refuse_other_settings(runs: Sequence[RunRecord]) -> None:
    first = runs[0]
    for run in runs[1:]:
        names = [name for name in dict.fromkeys([*first.settings, *run.settings]) if name not in OWN]
        for name in names:
            one, other = first.settings.get(name), run.settings.get(name)
            if one != other and not (name in OF_SOME_MODELS and None in (one, other)):
                raise MergeError(
                    f"runs {first.run_id} and {run.run_id} were made with another {name.replace('_', ' ')} "
                    f"({_said(one)} and {_said(other)}); run them alike"
                )


def _refuse_other_weights(runs: Sequence[RunRecord]) -> None:
    seen: dict[tuple[str, str | None], tuple[str, str]] = {}
    for run in runs:
        for pair in run.pairs:
            weights = str(pair.model_facts.get("fingerprint", ""))
            known, owner = seen.setdefault((pair.key.model, pair.key.checkpoint), (weights, run.run_id))
            if weights and known and weights != known:
                raise MergeError(f"runs {owner} and {run.run_id} measured other weights as {pair.key.model}; run them alike")


def _said(value: Any) -> str:
    return ", ".join(f"{key} {inner}" for key, inner in value.items()) if isinstance(value, dict) else str(value)


def _whole(runs: Sequence[RunRecord], grid: bool) -> list[str]:
    """Ids of all pairs that the joined run must have, in order."""
    shards = [run.shard for run in runs]
    there = [pair.key.id for run in runs for pair in run.pairs]
    if all(shard is None for shard in shards):
        if grid:
            _refuse_gaps(runs)
        return there
    first = _shards(runs)[0]
    holes = [name for name in first.pairs if name not in there]
    if holes:
        raise MergeError(f"no run has {holes[0]}{more(holes)}; run its shard again, whole")
    return [*first.pairs, *(name for name in there if name not in first.pairs)]


def _shards(runs: Sequence[RunRecord]) -> list[Shard]:
    """Which part each run is; every part is there."""
    first = next(run.shard for run in runs if run.shard)
    shards = []
    for run in runs:
        shard = run.shard
        if shard is None or (shard.count, shard.pairs, shard.by) != (first.count, first.pairs, first.by):
            raise MergeError(f"run {run.run_id} is no part of the same {first.count} shards by {first.by}; leave it out")
        shards.append(shard)
    missing = sorted(set(range(1, first.count + 1)) - {shard.index for shard in shards})
    if missing:
        parts = ", ".join(f"{index}/{first.count}" for index in missing)
        by = " --emt-shard-by images" if first.by == "images" else ""
        raise MergeError(
            f"shard {parts} is missing; run it with --emt-shard {missing[0]}/{first.count}{by}, or name its folder"
        )
    return shards


def _refuse_gaps(runs: Sequence[RunRecord]) -> None:
    pairs = [pair.key for run in runs for pair in run.pairs]
    there = {(key.model, key.image_set) for key in pairs}
    models, image_sets = (dict.fromkeys(names) for names in zip(*there, strict=True)) if there else ((), ())
    holes = sorted(f"{model}/{image_set}" for model in models for image_set in image_sets if (model, image_set) not in there)
    if holes:
        raise MergeError(
            f"no run has {holes[0]}{more(holes)}; run it, or join with --no-grid where not every model has every image set"
        )


def _exit_code(runs: Sequence[RunRecord], pairs: Sequence[PairRecord]) -> int:
    """The joined run's, by the same rule as a run's own."""
    codes = [_code(run) for run in runs]
    verdicts = {pair.gating.verdict for pair in pairs if pair.gating} | ({"INCONCLUSIVE"} if INCONCLUSIVE in codes else set())
    failed = [run for run in runs if any(pair.gating and pair.gating.verdict == "FAIL" for pair in run.pairs)]
    return exit_code(
        Outcome(
            pytest_code=next((c for c in codes if c not in (PASSED, FAILED, STOPPED, INCOMPLETE, INCONCLUSIVE)), PASSED),
            stopped=STOPPED in codes,
            incomplete=INCOMPLETE in codes or not pairs or not all(pair.gating for pair in pairs),
            test_failed=any(_code(run) == FAILED and (run not in failed or _by_images(runs)) for run in runs),
            verdicts=verdicts,
        )
    )


def _by_images(runs: Sequence[RunRecord]) -> bool:
    return any(run.shard and run.shard.by == "images" for run in runs)


def _code(run: RunRecord) -> int:
    """What a run exits with; of a part by images, verdicts aside, which are the joined run's."""
    return run.shard.otherwise if run.shard and run.shard.by == "images" else run.exit_code


def _is_complete(run: RunRecord) -> bool:
    """Whether a run did all that it could; a part by images has no verdict by itself."""
    return _code(run) not in (STOPPED, INCOMPLETE) if run.shard and run.shard.by == "images" else run.complete


def _carry(source: Path, folder: Path, names: Sequence[str]) -> None:
    for name in names:
        if (source / name).is_dir():
            shutil.copytree(source / name, folder / name, dirs_exist_ok=True)
