"""What the report shows of a run, ready to be put into the template: strings and geometry, no decisions left."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from emt_plugin.forgetting import Trajectory
from emt_plugin.records import PairRecord, Row, RunRecord
from emt_plugin.report import trajectory_words, words
from emt_plugin.report.chart import GapChart, Matrix, StepChart, gap_chart, matrix, step_chart
from emt_plugin.report.curves import Curves, HeatMap, curves, heat_map
from emt_plugin.report.published import PublishedView, published_beside
from emt_plugin.scoring import IN_THE_PAPER

MOST_IMAGES = 48
# Of each pair of a trajectory, which has many.
MOST_IMAGES_ALONG = 8
MOST_CONFUSIONS = 12
MOST_ANSWER = 300
MARKS = {"PASS": "✓", "FAIL": "✗", "INCONCLUSIVE": "?"}


@dataclass(frozen=True)
class ImageView:
    """One image with what was said of it."""

    data: str | None
    label: str
    answer: str
    read_as: str
    reference: str
    kind: str
    ranked: str
    row: int


@dataclass(frozen=True)
class PairView:
    """One pair."""

    id: str
    anchor: str
    mark: str
    tone: str
    verdict: str
    cells: tuple[tuple[str, str], ...]
    sentence: str
    note: str
    where: str
    steps: StepChart | None
    scorers: tuple[tuple[str, ...], ...]
    kinds: tuple[tuple[str, str, int, str, str], ...]
    matrix: Matrix | None
    no_matrix: str
    confusions: tuple[tuple[str, str, int, str], ...]
    images: tuple[ImageView, ...]
    images_title: str
    images_total: int
    unsaid: tuple[ImageView, ...]
    unsaid_total: int
    facts: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class TrajectoryView:
    """One fine-tuning run."""

    name: str
    anchor: str
    domain: str
    keep: str
    metrics: str
    curves: Curves
    table: tuple[tuple[str, ...], ...]
    foreign: tuple[tuple[str, ...], ...]
    gone: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class ReportView:
    """The whole page."""

    run: RunRecord
    tone: str
    verdict: str
    detail: str
    terms: str
    attention: tuple[str, ...]
    replayed: str
    chart: GapChart | None
    trajectories: tuple[TrajectoryView, ...]
    heat: HeatMap | None
    published: tuple[PublishedView, ...]
    pairs: tuple[PairView, ...]
    provenance: tuple[tuple[str, str], ...]


def report_view(run: RunRecord, rows: dict[str, list[Row]], thumbs: Path) -> ReportView:
    """Everything that the report of ``run`` shows.

    Args:
        run: the record.
        rows: the predictions by pair id.
        thumbs: folder of thumbnails by image hash.
    """
    verdict, _, detail = words.headline(run).partition(": ")
    labels = [f"{words.points(pair.gating.gap)} {words.interval(pair.gating)}" if pair.gating else "" for pair in run.pairs]
    attention = [*words.tower_warnings(run), *([run.reason] if run.reason else [])]
    replayed = words.replayed(run)
    return ReportView(
        run=run,
        tone={"PASS": "pass", "FORGOT": "fail"}.get(verdict, "open"),
        verdict=verdict,
        detail=detail,
        terms=words.terms(run),
        attention=tuple(attention),
        replayed=replayed,
        # Along a trajectory the curves show the gaps.
        chart=None if run.trajectories else gap_chart(run.pairs, labels),
        trajectories=tuple(_trajectory(found) for found in run.trajectories),
        heat=heat_map(run.trajectories) if run.trajectories else None,
        published=published_beside(run),
        pairs=tuple(
            pair_view(pair, rows.get(pair.key.id, []), thumbs, MOST_IMAGES_ALONG if run.trajectories else MOST_IMAGES)
            for pair in run.pairs
        ),
        provenance=tuple(_flat(run.environment) + _flat(run.settings)),
    )


def pair_view(pair: PairRecord, rows: list[Row], thumbs: Path, most: int = MOST_IMAGES) -> PairView:
    """What the report shows of one pair, ``most`` images of each kind at most."""
    comparison = pair.gating
    named = not pair.scores or pair.scores[0].no_class is not None
    counts = confusion(rows, len(pair.labels)) if pair.labels and rows and named else None
    lost, title = _lost_images(pair, rows)
    unsaid = _unsaid(pair, rows)
    return PairView(
        id=pair.key.id,
        anchor=pair.key.file_name,
        mark=MARKS.get(comparison.verdict, "!") if comparison else "!",
        tone={"PASS": "pass", "FAIL": "fail"}.get(comparison.verdict, "open") if comparison else "open",
        verdict=words.verdict(pair),
        cells=_cells(pair),
        sentence=words.verdict_line(pair),
        note=words.accepted_note(pair),
        where=words.where_lost(pair),
        steps=step_chart(pair.steps, pair.n) if len(pair.steps) > 1 else None,
        scorers=_scorers(pair),
        kinds=_kinds(pair),
        matrix=matrix(counts, pair.labels) if counts else None,
        no_matrix=""
        if named
        else f"The scorer {pair.scores[0].scorer} names no class by design: there is no confusion matrix.",
        confusions=_confusions(counts, pair.labels) if counts else (),
        images=tuple(_image(pair, row, thumbs) for row in lost[:most]),
        images_title=title,
        images_total=len(lost),
        unsaid=tuple(_image(pair, row, thumbs) for row in unsaid[:most]),
        unsaid_total=len(unsaid),
        facts=tuple(_facts(pair)),
    )


def _trajectory(run: Trajectory) -> TrajectoryView:
    foreign = [
        (trajectory_words.state_name(state), *(trajectory_words.foreign(cell) or "–" for cell in state.cells))
        for state in run.states
    ]
    gone = [(trajectory_words.state_name(state), line) for state in run.states for line in trajectory_words.gone(state)]
    return TrajectoryView(
        name=run.name,
        anchor=f"trajectory-{run.name}",
        domain=trajectory_words.domain(run),
        keep=trajectory_words.to_keep(run),
        metrics=trajectory_words.metrics(run),
        curves=curves(run),
        table=tuple(trajectory_words.table(run)),
        foreign=(("state", *run.image_sets), *foreign),
        gone=tuple(gone),
    )


def confusion(rows: Sequence[Row], classes: int) -> list[list[int]]:
    """Counts by label and prediction; the last column counts answers that name no class."""
    counts = [[0] * (classes + 1) for _ in range(classes)]
    for row in rows:
        counts[row.label][classes if row.prediction is None else row.prediction] += 1
    return counts


def _cells(pair: PairRecord) -> tuple[tuple[str, str], ...]:
    from emt_plugin.report.terminal import HEAD
    from emt_plugin.report.terminal import row as cells

    return tuple(zip(HEAD[1:-1], cells(pair)[1:-1], strict=True))


def _kinds(pair: PairRecord) -> tuple[tuple[str, str, int, str, str], ...]:
    """Failure kind, the paper's word for it, images, share and interval; of the answer scorer where it ran."""
    score = pair.score("answer") or (pair.scores[0] if pair.scores else None)
    if score is None:
        return ()
    return tuple(
        (
            rate.kind,
            IN_THE_PAPER.get(rate.kind, ""),
            rate.count,
            words.percent(rate.rate),
            f"[{words.percent(rate.low)}, {words.percent(rate.high)}]",
        )
        for rate in score.kinds
    )


def _scorers(pair: PairRecord) -> tuple[tuple[str, ...], ...]:
    """Scorer, reference, accuracies, gap and interval of every comparison; empty where one scorer says it all."""
    if len(pair.scores) < 2:
        return ()
    return tuple(
        (
            comparison.scorer,
            words.reference_name(comparison),
            *(words.percent(share) for share in words.accuracies(comparison)),
            words.points(comparison.gap),
            words.interval(comparison),
        )
        for comparison in pair.comparisons
    )


def _confusions(counts: list[list[int]], labels: Sequence[str]) -> tuple[tuple[str, str, int, str], ...]:
    names = [*labels, "no class"]
    wrong = [
        (labels[row], names[column], count, words.percent(count, sum(line)))
        for row, line in enumerate(counts)
        for column, count in enumerate(line)
        if count and row != column
    ]
    return tuple(sorted(wrong, key=lambda confusion: -confusion[2])[:MOST_CONFUSIONS])


def shown_first(rows: Sequence[Row], reference: str | None) -> list[Row]:
    """The images that a report may show, in the subset's order: those that the reference gets right and the model wrong.

    Without a reference, all that the model gets wrong.
    """
    wrong = [row for row in rows if not row.correct]
    return [row for row in wrong if row.references.get(reference) == row.label] if reference else wrong


def shown_rows(pair: PairRecord, rows: Sequence[Row]) -> list[Row]:
    """All images that the report of a pair may show."""
    lost, _ = _lost_images(pair, rows)
    return [*lost[:MOST_IMAGES], *_unsaid(pair, rows)[:MOST_IMAGES]]


def _unsaid(pair: PairRecord, rows: Sequence[Row]) -> list[Row]:
    return [row for row in rows if words.knows_but_cannot_say(pair, row)]


def _lost_images(pair: PairRecord, rows: Sequence[Row]) -> tuple[list[Row], str]:
    comparison = pair.gating
    if comparison is None:
        return shown_first(rows, None), "Images that the model got wrong"
    title = f"Images that {words.reference_name(comparison)} got right and the model wrong"
    return shown_first(rows, comparison.reference.key), title


def _image(pair: PairRecord, row: Row, thumbs: Path) -> ImageView:
    path = thumbs / f"{row.image}.png"
    data = f"data:image/png;base64,{base64.b64encode(path.read_bytes()).decode()}" if path.exists() else None
    answer = row.answer or ""
    reference = pair.gating.reference if pair.gating else None
    predicted = row.references.get(reference.key) if reference else None
    return ImageView(
        data=data,
        label=pair.labels[row.label],
        answer=answer if len(answer) <= MOST_ANSWER else f"{answer[:MOST_ANSWER]}…",
        read_as=_read_as(pair, row),
        reference="–" if predicted is None else pair.labels[predicted],
        kind=row.kind or "",
        ranked=_ranked_first(pair, row),
        row=row.row,
    )


def _read_as(pair: PairRecord, row: Row) -> str:
    if row.prediction is not None:
        return pair.labels[row.prediction]
    gating = pair.scores[0] if pair.scores else None
    if gating and gating.no_class is None:
        return f"{gating.scorer}: {row.scores[gating.scorer]['detail']}"
    return "no class"


def _ranked_first(pair: PairRecord, row: Row) -> str:
    ranked = row.scores.get("likelihood")
    return pair.labels[ranked["prediction"]] if ranked else ""


def _facts(pair: PairRecord) -> list[tuple[str, str]]:
    facts = [("prompt", pair.prompt)]
    facts += [(f"model: {key.replace('_', ' ')}", str(value)) for key, value in pair.model_facts.items() if value is not None]
    if pair.encoder:
        facts.append(("encoder", f"{pair.encoder.id} (from {pair.encoder.found_by}): {pair.encoder.tower}"))
    facts += [(f"images: {key}", str(value)) for key, value in pair.image_set_facts.items() if value is not None]
    facts.append(("images: of the split", f"{pair.n} of {pair.n_split}"))
    if pair.gating:
        comparison = pair.gating
        facts.append(
            ("both right / only model / only reference / neither",
             f"{comparison.n11} / {comparison.n10} / {comparison.n01} / {comparison.n00}")
        )  # fmt: skip
        facts.append(("tolerance from", comparison.tolerance.source))
        facts.append(("p, if the loss were within the tolerance", f"{comparison.p:.3g}"))
        if comparison.p_holm is not None:
            facts.append(("the same by Holm over the run", f"{comparison.p_holm:.3g}"))
    for score in pair.scores:
        facts += [(f"{score.scorer}: {key}", _said(value)) for key, value in score.facts.items()]
    facts += [(f"{step.name}", step.note) for step in pair.steps if step.note]
    if pair.replay:
        since = f", the oldest of {pair.replay.since}" if pair.replay.since else ""
        facts.append(("from the store", f"{pair.replay.replayed} images, {pair.replay.computed} computed in this run{since}"))
    if pair.timing:
        facts.append(
            ("cost", f"{pair.timing.cpu_seconds} CPU-s, {pair.timing.wall_seconds} s, {pair.timing.new_tokens} tokens")
        )
    return facts


def _said(value: Any) -> str:
    return ", ".join(f"{key} {inner}" for key, inner in value.items()) if isinstance(value, dict) else str(value)


def _flat(content: Any, prefix: str = "") -> list[tuple[str, str]]:
    """A nested mapping as (dotted name, value) pairs; what is not set is left out."""
    flat: list[tuple[str, str]] = []
    for key, value in content.items():
        name = f"{prefix}{key}".replace("_", " ")
        if isinstance(value, dict):
            flat += _flat(value, f"{name}: ")
        elif value not in (None, [], {}):
            flat.append((name, ", ".join(map(str, value)) if isinstance(value, list) else str(value)))
    return flat
