"""``eval_results/``: accuracies on image sets of the hub, as files that a model's repository there shows as its results."""

from __future__ import annotations

import re
from pathlib import Path

from emt_plugin.catalog.catalog import HUB_ID
from emt_plugin.records import PairRecord, RunRecord
from emt_plugin.report.words.verdicts import interval, mentions_scorer, percent, points, reference_name, verdict
from emt_plugin.store.files import write_atomically

COMMIT = re.compile(r"[0-9a-f]{40}")
# Tasks are named by whoever registers a dataset as a benchmark; a run knows at most which configuration it read.
DEFAULT_TASK = "default"


def write_eval_results(folder: Path) -> list[Path]:
    """Write the results of a run that have a place on the hub, beside its record in ``folder``.

    ``eval_results/<model>[@<checkpoint>]/`` has what goes into that model's repository as it is: a folder ``.eval_results``
    with a file for each image set. What is bundled or lies on this machine has no dataset on the hub and is left out, as is a
    part of a pair.

    Returns:
        The files, none where no image set is of the hub.

    Raises:
        RecordError: there is no run record, or this version cannot read it.
        OSError: the folder cannot be written.
    """
    run = RunRecord.read(folder)
    written = []
    for pair in run.pairs:
        dataset = hub_dataset(pair)
        if pair.status == "measured" and dataset and pair.part is None:
            model, image_set = _name(pair.key.id.partition("/")[0]), _name(pair.key.image_set)
            path = folder / "eval_results" / model / ".eval_results" / f"{image_set}.yaml"
            path.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(path, _yaml(run, pair, dataset).encode())
            written.append(path)
    return written


def _name(text: str) -> str:
    """An id as a file name; in a record from elsewhere it may be anything."""
    return re.sub(r"[^A-Za-z0-9._@-]", "-", text).lstrip(".") or "unnamed"


def hub_dataset(pair: PairRecord) -> str | None:
    """The hub id of the dataset that a pair was measured on; None where it is bundled or local."""
    source, kind = str(pair.image_set_facts.get("source", "")), pair.image_set_facts.get("kind")
    # Records of earlier versions do not say of what kind a source is.
    return source if (kind == "hub" if kind else HUB_ID.fullmatch(source)) else None


def _yaml(run: RunRecord, pair: PairRecord, dataset: str) -> str:
    # Not before there is something to write: a run of bundled or local image sets has no use for the hub's client.
    import yaml
    from huggingface_hub import EvalResultEntry, eval_result_entries_to_yaml

    facts = pair.image_set_facts
    entry = EvalResultEntry(
        dataset_id=dataset,
        task_id=str(facts.get("config") or DEFAULT_TASK),
        value=round(100 * pair.scores[0].correct / pair.n, 2),
        dataset_revision=_commit(pair),
        date=run.started,
        notes=_notes(run, pair),
    )
    return str(yaml.safe_dump(eval_result_entries_to_yaml([entry]), sort_keys=False, allow_unicode=True))


def _commit(pair: PairRecord) -> str | None:
    """The dataset's commit, where the run was held to one; a branch moves, and so is no revision of a result."""
    revision = str(pair.image_set_facts.get("revision"))
    return revision if COMMIT.fullmatch(revision) else None


def _notes(run: RunRecord, pair: PairRecord) -> str:
    """What the value does not say of itself."""
    facts, score, comparison = pair.image_set_facts, pair.scores[0], pair.gating
    named = ("config", "split") if _commit(pair) else ("config", "split", "revision")
    read = [f"{name} {facts[name]}" for name in named if facts.get(name)]
    notes = [
        "accuracy in percent",
        f"scorer {score.scorer} {score.version}",
        ", ".join([f"{pair.n} of {pair.n_split} images", *read]),
    ]
    if pair.encoder:
        notes.append(f"vision encoder {pair.encoder.id} {percent(pair.encoder.correct, pair.n)}")
    if comparison:
        against = f"{reference_name(comparison)}{mentions_scorer(comparison)}"
        notes.append(f"gap to {against} {points(comparison.gap)} points, 90% interval {interval(comparison)}")
        notes.append(f"tolerance {100 * comparison.tolerance.value:.3g} points")
    notes += [verdict(pair), f"pytest-emt {run.environment.get('pytest_emt', '')}".rstrip()]
    return "; ".join(notes)
