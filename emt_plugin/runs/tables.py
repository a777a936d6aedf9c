"""What a run measured as tables of plain values: of pairs, images, classes, stages, trajectories and the history."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from emt_plugin.analysis import Change, Trajectory
from emt_plugin.gate import Comparison
from emt_plugin.records import PairRecord, Row, RunRecord
from emt_plugin.records.journal import name_of
from emt_plugin.stats import LEVEL, wilson_interval

Kind = Literal["text", "whole", "number", "truth", "time"]
Value = str | int | float | bool | None
Rows = Mapping[str, Sequence[Row]]


@dataclass(frozen=True)
class Column:
    """A column.

    Attributes:
        name: its name.
        kind: of its values; any of them may be missing.
        about: what it says, with its unit.
    """

    name: str
    kind: Kind
    about: str


@dataclass(frozen=True)
class Table:
    """A table.

    Attributes:
        name: what its rows are.
        columns: in order.
        rows: a value for each column.
    """

    name: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Value, ...], ...]


PAIR = (
    Column("pair", "text", "id of the pair: `model/image_set`, with `@checkpoint` after the model where there is one"),
    Column("model", "text", "id of the model"),
    Column("checkpoint", "text", "id of the state of a fine-tuning run"),
    Column("image_set", "text", "id of the image set"),
)
PAIRS = (
    *PAIR,
    Column("status", "text", "`measured`, `could-not-run`, `crashed` or `not-run`"),
    Column("reason", "text", "why there is no measurement or no verdict"),
    Column("n", "whole", "images measured"),
    Column("n_split", "whole", "images in the split"),
    Column("scorer", "text", "the scorer that gates"),
    Column("reference_kind", "text", "`encoder`, `probe`, `model` or `checkpoint`"),
    Column("reference", "text", "what the model is compared with"),
    Column("correct", "whole", "images that the model gets right"),
    Column("reference_correct", "whole", "images that the reference gets right"),
    Column("accuracy", "number", "of the model, a fraction of all images"),
    Column("reference_accuracy", "number", "of the reference, a fraction of the same images"),
    Column("gap", "number", "accuracy less the reference's, a fraction; negative is loss"),
    Column("low", "number", "lower end of the gap's two-sided 90 % interval (Tango 1998)"),
    Column("high", "number", "its upper end"),
    Column("tolerance", "number", "the largest loss that passes, a fraction"),
    Column("tolerance_from", "text", "where the tolerance comes from"),
    Column("policy", "number", "the tolerance by policy, without an accepted loss"),
    Column("verdict", "text", "`PASS`, `FAIL` or `INCONCLUSIVE`"),
    Column("by_accepted_loss", "truth", "it passes, and would not by policy alone"),
    Column("may_be_chance", "truth", "a FAIL that does not survive Holm over the run's pairs"),
    Column("p", "number", "one-sided p-value of a loss larger than the tolerance"),
    Column("p_holm", "number", "the same by Holm over the run's pairs"),
    Column("n_needed", "whole", "images that would settle an INCONCLUSIVE pair at the observed gap"),
    Column("no_class", "whole", "images whose answer names no class or several"),
    Column("well_formed", "whole", "images whose answer is an opening, an article and a label"),
)
IMAGES = (
    *PAIR,
    Column("row", "whole", "index of the image in its split"),
    Column("image", "text", "content hash of its decoded RGB pixels"),
    Column("occurrence", "whole", "0 for the first image of this content in the split, 1 for the next"),
    Column("label", "whole", "index of its label"),
    Column("label_name", "text", "name of its label"),
    Column("answer", "text", "the model's answer as given"),
    Column("prediction", "whole", "index of the class that the scorer that gates read"),
    Column("prediction_name", "text", "name of that class"),
    Column("correct", "truth", "whether that is the label"),
    Column("kind", "text", "failure kind of a wrong one"),
    Column("well_formed", "truth", "nothing but an opening, an article and a label"),
    Column("reference", "text", "`kind:id` of the reference that gates"),
    Column("reference_prediction", "whole", "index of the class that the reference predicts"),
    Column("reference_prediction_name", "text", "name of that class"),
    Column("reference_correct", "truth", "whether the reference is right"),
    Column("new_tokens", "whole", "tokens generated"),
)
CLASSES = (
    *PAIR,
    Column("label", "whole", "index of the class"),
    Column("label_name", "text", "its name"),
    Column("n", "whole", "its images"),
    Column("correct", "whole", "of those, how many the model gets right"),
    Column("accuracy", "number", "their share, a fraction"),
    Column("low", "number", "lower end of the share's two-sided 90 % interval (Wilson 1927)"),
    Column("high", "number", "its upper end"),
    Column("reference_correct", "whole", "of its images, how many the reference gets right"),
    Column("reference_accuracy", "number", "their share, a fraction"),
    Column("gap", "number", "accuracy less the reference's, a fraction"),
    Column("no_class", "whole", "of its images, how many were read as no class"),
    Column("taken_for", "whole", "index of the other class that its images are read as most often"),
    Column("taken_for_name", "text", "name of that class"),
    Column("taken_for_n", "whole", "how often"),
)
STAGES = (
    *PAIR,
    Column("stage", "text", "from `encoder` to `clean answer`, in order"),
    Column("n", "whole", "images"),
    Column("correct", "whole", "images right at this stage"),
    Column("accuracy", "number", "their share, a fraction"),
    Column("change", "number", "accuracy here less accuracy at the stage before, a fraction; missing at the first"),
    Column("low", "number", "lower end of the change's two-sided 90 % interval (Tango 1998)"),
    Column("high", "number", "its upper end"),
    Column("note", "text", "what must be said beside it"),
)
TRAJECTORY = (
    Column("trajectory", "text", "name of the fine-tuning run"),
    Column("model", "text", "id of its base"),
    Column("checkpoint", "text", "id of the state; missing for the base"),
    Column("step", "whole", "optimiser steps since the base"),
    Column("epoch", "number", "passes over the training images"),
    Column("image_set", "text", "id of the image set"),
    Column("trained_on", "truth", "whether the run was trained on that"),
    Column("n", "whole", "images"),
    Column("correct", "whole", "images right"),
    Column("accuracy", "number", "their share, a fraction"),
    Column("change", "number", "accuracy less the base's on the same images, a fraction; missing at the base"),
    Column("low", "number", "lower end of the change's two-sided 90 % interval (Tango 1998)"),
    Column("high", "number", "its upper end"),
    Column("verdict", "text", "on that change, by policy"),
    Column("encoder_accuracy", "number", "of the encoder on the same images, a fraction"),
    Column("encoder_gap", "number", "accuracy less the encoder's, a fraction"),
    Column("well_formed", "whole", "answers that are nothing but an opening, an article and a label"),
    Column("keep", "truth", "whether this is the checkpoint to keep"),
)
HISTORY = (
    Column("pair", "text", "id of the pair"),
    Column("run", "text", "id of the run"),
    Column("started", "time", "when the run started, UTC"),
    Column("status", "text", "`measured`, or why there is no number"),
    Column("verdict", "text", "`PASS`, `FAIL` or `INCONCLUSIVE`"),
    Column("n", "whole", "images"),
    Column("accuracy", "number", "of the model, a fraction"),
    Column("reference_accuracy", "number", "of the reference, a fraction"),
    Column("gap", "number", "accuracy less the reference's, a fraction"),
    Column("low", "number", "lower end of the gap's two-sided 90 % interval"),
    Column("high", "number", "its upper end"),
    Column("tolerance", "number", "the largest loss that passed, a fraction"),
    Column("changed", "text", "what else differs from the run before, with commas between"),
    Column("release", "text", "name of the release that the run was pinned as"),
    Column("one_by_one", "truth", "images were taken one by one, and the interval holds whenever one stops"),
)


def pairs_table(run: RunRecord) -> Table:
    """A row for each pair, with the comparison that gates."""
    return _table("pairs", PAIRS, [_pair_row(pair) for pair in run.pairs])


def _pair_row(pair: PairRecord) -> dict[str, Value]:
    row = {**_key(pair), "status": pair.status, "reason": pair.reason, "n": pair.n, "n_split": pair.n_split}
    if pair.scores:
        first = pair.scores[0]
        row |= {"scorer": first.scorer, "correct": first.correct, "accuracy": _share(first.correct, pair.n)}
        row |= {"no_class": first.no_class, "well_formed": first.well_formed}
    return row | _compared(pair.gating) if pair.gating else row


def _compared(gating: Comparison) -> dict[str, Value]:
    theirs = gating.n11 + gating.n01
    return {
        "scorer": gating.scorer,
        "reference_kind": gating.reference.kind,
        "reference": gating.reference.id,
        "reference_correct": theirs,
        "reference_accuracy": _share(theirs, gating.n),
        "gap": gating.gap,
        "low": gating.low,
        "high": gating.high,
        "tolerance": gating.tolerance.value,
        "tolerance_from": gating.tolerance.source,
        "policy": gating.tolerance.policy,
        "verdict": gating.verdict,
        "by_accepted_loss": gating.by_accepted_loss,
        "may_be_chance": gating.may_be_chance,
        "p": gating.p,
        "p_holm": gating.p_holm,
        "n_needed": gating.n_needed,
    }


def images_table(run: RunRecord, rows: Rows) -> Table:
    """A row for each image of each pair, with columns for each further scorer and each probe.

    Args:
        run: its record.
        rows: its images by pair id.
    """
    scorers = list(dict.fromkeys(score.scorer for pair in run.pairs for score in pair.scores[1:]))
    probes = list(dict.fromkeys(name for found in rows.values() for row in found for name in row.probes))
    more = [column for scorer in scorers for column in _scorer_columns(scorer)]
    more += [column for probe in probes for column in _read_columns(probe, f"the {probe} read")]
    found = [_image_row(pair, row) for pair in run.pairs for row in rows.get(pair.key.id, ())]
    return _table("images", (*IMAGES, *more), found)


def _scorer_columns(scorer: str) -> list[Column]:
    return [
        *_read_columns(scorer, f"the scorer {scorer} read"),
        Column(f"{_slug(scorer)}_correct", "truth", f"whether it was right by the scorer {scorer}"),
    ]


def _read_columns(name: str, who: str) -> list[Column]:
    slug = _slug(name)
    return [
        Column(f"{slug}_prediction", "whole", f"index of the class that {who}"),
        Column(f"{slug}_prediction_name", "text", "name of that class"),
    ]


def _slug(name: str) -> str:
    return name.replace(" ", "_").replace("-", "_")


def _image_row(pair: PairRecord, row: Row) -> dict[str, Value]:
    found: dict[str, Value] = {
        **_key(pair),
        "row": row.row,
        "image": row.image,
        "occurrence": row.occurrence,
        "label": row.label,
        "answer": row.answer,
        "prediction": row.prediction,
        "correct": row.correct,
        "kind": row.kind,
        "well_formed": row.well_formed,
        "new_tokens": row.new_tokens,
    }
    if pair.gating:
        key = pair.gating.reference.key
        found |= {"reference": key, "reference_prediction": row.references.get(key), "reference_correct": _theirs(pair, row)}
    for scorer, score in row.scores.items():
        found |= {f"{_slug(scorer)}_prediction": score.get("prediction"), f"{_slug(scorer)}_correct": row.correct_by(scorer)}
    found |= {f"{_slug(probe)}_prediction": index for probe, index in row.probes.items()}
    names = {
        f"{name}_name": name_of(pair.labels, index if isinstance(index, int) else None)
        for name, index in found.items()
        if name == "label" or name.endswith("prediction")
    }
    return found | names


def _theirs(pair: PairRecord, row: Row) -> bool | None:
    return row.reference_right(pair.gating.reference.key, pair.gating.scorer) if pair.gating else None


def classes_table(run: RunRecord, rows: Rows) -> Table:
    """A row for each class of each pair that has images."""
    found = [
        _class_row(pair, label, of_class)
        for pair in run.pairs
        for label in range(len(pair.labels))
        if (of_class := [row for row in rows.get(pair.key.id, ()) if row.label == label])
    ]
    return _table("classes", CLASSES, found)


def _class_row(pair: PairRecord, label: int, rows: Sequence[Row]) -> dict[str, Value]:
    n, correct = len(rows), sum(row.correct for row in rows)
    low, high = wilson_interval(correct, n, LEVEL)
    found: dict[str, Value] = {
        **_key(pair), "label": label, "label_name": name_of(pair.labels, label),
        "n": n, "correct": correct, "accuracy": correct / n, "low": low, "high": high,
    }  # fmt: skip
    if pair.gating:
        theirs = sum(bool(_theirs(pair, row)) for row in rows)
        found |= {"reference_correct": theirs, "reference_accuracy": theirs / n, "gap": (correct - theirs) / n}
    if pair.scores and pair.scores[0].no_class is not None:
        found["no_class"] = sum(row.prediction is None for row in rows)
        found["taken_for_n"] = 0
    others = [row.prediction for row in rows if row.prediction is not None and row.prediction != label]
    if others:
        taken = max(sorted(set(others)), key=others.count)
        found |= {"taken_for": taken, "taken_for_name": name_of(pair.labels, taken), "taken_for_n": others.count(taken)}
    return found


def stages_table(run: RunRecord) -> Table:
    """A row for each stage of each pair, from the encoder to the answer."""
    return _table("stages", STAGES, [row for pair in run.pairs for row in _stage_rows(pair)])


def _stage_rows(pair: PairRecord) -> Iterator[dict[str, Value]]:
    for position, step in enumerate(pair.steps):
        change = {"change": step.change, "low": step.low, "high": step.high} if position else {}
        yield {
            **_key(pair), "stage": step.name, "n": pair.n, "correct": step.correct, "accuracy": _share(step.correct, pair.n),
            **change, "note": step.note or None,
        }  # fmt: skip


def trajectory_table(run: RunRecord) -> Table:
    """A row for each state and image set of each trajectory."""
    return _table("trajectory", TRAJECTORY, [row for found in run.trajectories for row in _state_rows(found)])


def _state_rows(found: Trajectory) -> Iterator[dict[str, Value]]:
    for index, state in enumerate(found.states):
        for cell in state.cells:
            yield {
                "trajectory": found.name,
                "model": found.model,
                "checkpoint": state.checkpoint,
                "step": state.step,
                "epoch": state.epoch,
                "image_set": cell.image_set,
                "trained_on": cell.image_set in found.trained_on,
                "n": cell.n,
                "correct": cell.correct,
                "accuracy": _share(cell.correct, cell.n),
                **_changed(cell.change),
                "verdict": cell.verdict if cell.change else None,
                "encoder_accuracy": None if cell.encoder_correct is None else _share(cell.encoder_correct, cell.n),
                "encoder_gap": cell.encoder_gap.value if cell.encoder_gap else None,
                "well_formed": cell.well_formed,
                "keep": found.keep.kept == index if found.keep else None,
            }


def _changed(change: Change | None) -> dict[str, Value]:
    return {"change": change.value, "low": change.low, "high": change.high} if change else {}


def history_table(run: RunRecord) -> Table:
    """A row for each pair and run of the history, this run last; without rows where the run kept no history."""
    found: list[dict[str, Value]] = [
        {
            "pair": trend.pair,
            "run": point.run_id,
            "started": point.started,
            "status": point.status,
            "verdict": point.verdict,
            "n": point.n,
            "accuracy": point.accuracy,
            "reference_accuracy": point.reference,
            "gap": point.gap,
            "low": point.low,
            "high": point.high,
            "tolerance": point.tolerance,
            "changed": ", ".join(point.changed) or None,
            "release": point.release,
            "one_by_one": point.sequential,
        }
        for trend in run.trends
        for point in trend.points
    ]
    return _table("history", HISTORY, found)


TABLES: Mapping[str, tuple[Column, ...]] = {
    "pairs": PAIRS, "images": IMAGES, "classes": CLASSES, "stages": STAGES, "trajectory": TRAJECTORY, "history": HISTORY,
}  # fmt: skip


def table_of(name: str, run: RunRecord, rows: Callable[[], Rows]) -> Table:
    """One of ``TABLES``.

    Args:
        name: which.
        run: its record.
        rows: reads its images by pair id, where the table is of them.
    """
    of_record = {"pairs": pairs_table, "stages": stages_table, "trajectory": trajectory_table, "history": history_table}
    of_images = {"images": images_table, "classes": classes_table}
    return of_record[name](run) if name in of_record else of_images[name](run, rows())


def _key(pair: PairRecord) -> dict[str, Value]:
    key = pair.key
    return {"pair": key.id, "model": key.model, "checkpoint": key.checkpoint, "image_set": key.image_set}


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None


def _table(name: str, columns: tuple[Column, ...], rows: Sequence[Mapping[str, Value]]) -> Table:
    return Table(name, columns, tuple(tuple(_whole(row.get(column.name)) for column in columns) for row in rows))


def _whole(value: Value) -> Value:
    """The value; half a surrogate pair, which no file format takes, as a question mark."""
    return value.encode("utf-8", "replace").decode() if isinstance(value, str) and not value.isascii() else value
