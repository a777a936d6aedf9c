"""What the report shows of one pair."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from emt_plugin.records import Flip, PairRecord, Row, RunRecord
from emt_plugin.report.drawings.chart import MOST_MATRIX_CLASSES, Forest, Matrix, StepLine, matrix, step_forest, step_lines
from emt_plugin.report.drawings.classes import MOST_CLASSES, MOST_CONFUSIONS, ClassLine, class_lines, confusion, confusions
from emt_plugin.report.words import verdicts as words
from emt_plugin.report.words.rerun import one_image
from emt_plugin.report.words.tables import HEAD, cells
from emt_plugin.report.words.visible import cut
from emt_plugin.runs.shown import Picked, gallery
from emt_plugin.scoring import IN_THE_PAPER

MOST_ANSWER = 300
MOST_NAME = 80
MOST_RANKED = 3
MARKS = {"PASS": "✓", "FAIL": "✗", "INCONCLUSIVE": "?"}
TONES = {"PASS": "pass", "FAIL": "fail"}
REASONS = {
    "lost": "wrong where the reference is right",
    "flipped": "right before",
    "unsaid": "knows but cannot say",
}


@dataclass(frozen=True)
class ImageView:
    """One image with what was said of it; ``thumb`` names its picture."""

    thumb: str
    label: str
    answer: str
    read_as: str
    reference: str
    kind: str
    ranked: str
    reasons: tuple[str, ...]
    lost: bool
    before: str
    row: int
    rank: float
    command: str


@dataclass(frozen=True)
class PairView:
    """One pair."""

    id: str
    model: str
    image_set: str
    anchor: str
    mark: str
    tone: str
    verdict: str
    cells: Mapping[str, str]
    gap: float | None
    sentence: str
    note: str
    reader: tuple[str, ...]
    where: str
    steps: tuple[StepLine, ...]
    steps_forest: Forest | None
    scorers: tuple[tuple[str, ...], ...]
    kinds: tuple[tuple[str, str, int, str, str], ...]
    classes: tuple[ClassLine, ...]
    classes_total: int
    matrix: Matrix | None
    no_matrix: str
    confusions: tuple[tuple[str, str, int, str], ...]
    confusions_total: int
    prompt: str
    images: tuple[ImageView, ...]
    images_said: tuple[str, ...]
    rows_file: str
    facts: tuple[tuple[str, str], ...] = field(repr=False)

    @property
    def has_classes(self) -> bool:
        """Whether there is anything to say of its classes."""
        return bool(self.classes or self.matrix or self.confusions or self.no_matrix)

    @property
    def size(self) -> int:
        """About how many bytes of a page it takes beside its rows in tables and its images."""
        cells = len(self.matrix.cells) if self.matrix else 0
        return 10_000 + 900 * len(self.classes) + 350 * cells + sum(60 + len(name) + len(text) for name, text in self.facts)

    def in_brief(self) -> PairView:
        """The same without what only its own parts of the page show."""
        return replace(
            self, steps=(), steps_forest=None, scorers=(), kinds=(), classes=(), matrix=None, no_matrix="", confusions=(),
            images=(), images_said=(), facts=(),
        )  # fmt: skip


def pair_view(run: RunRecord, pair: PairRecord, rows: Sequence[Row], flips: Sequence[Flip]) -> PairView:
    """What the report shows of one pair of a run."""
    # Without label names, of a pair that ended before its first image, nothing can be said of images.
    rows = rows if pair.labels else ()
    comparison = pair.gating
    named = not pair.scores or pair.scores[0].no_class is not None
    counts = confusion(rows, len(pair.labels)) if pair.labels and rows and named else None
    found = confusions(counts, pair.labels) if counts else ()
    classes = class_lines(pair, rows, counts) if pair.labels else ()
    shown = gallery(pair, rows, flips, bool(run.trajectories))
    return PairView(
        id=pair.key.id,
        model=pair.key.id.removesuffix(pair.key.image_set),
        image_set=pair.key.image_set,
        anchor=anchor(pair.key.file_name),
        mark=MARKS.get(comparison.verdict, "!") if comparison else "!",
        tone=TONES.get(comparison.verdict, "open") if comparison else "open",
        verdict=words.verdict(pair),
        cells=_cells(pair),
        gap=comparison.gap if comparison else None,
        sentence=words.verdict_line(pair),
        note=words.accepted_note(pair),
        reader=tuple(words.reader_notes(pair)),
        where=words.where_it_falls(pair),
        steps=step_lines(pair.steps, pair.n) if len(pair.steps) > 1 else (),
        steps_forest=step_forest(pair.steps) if len(pair.steps) > 1 else None,
        scorers=_scorers(pair),
        kinds=_kinds(pair),
        classes=tuple(classes[:MOST_CLASSES]),
        classes_total=len(classes),
        matrix=matrix(counts, pair.labels) if counts and len(pair.labels) <= MOST_MATRIX_CLASSES else None,
        no_matrix=_no_matrix(pair, named, bool(counts)),
        confusions=found[:MOST_CONFUSIONS],
        confusions_total=len(found),
        prompt=pair.prompt,
        images=tuple(_image(run, pair, picked) for picked in shown.picked),
        images_said=tuple(_of_reason(name, total, pair) for name, total in shown.totals.items()),
        rows_file=f"predictions/{pair.key.file_name}.jsonl" if rows else "",
        facts=tuple(_facts(pair)),
    )


def anchor(name: str) -> str:
    """A name as an element's id."""
    return re.sub(r"[^A-Za-z0-9._@-]", "-", name)


def _of_reason(name: str, total: int, pair: PairRecord) -> str:
    return {
        "lost": f"{total} that {words.lost_title(pair)}",
        "flipped": f"{total} that were right in the compared run and are wrong now",
        "unsaid": f"{total} of which the language model ranks the label first and does not answer it (knows but cannot say)",
    }[name]


def _no_matrix(pair: PairRecord, named: bool, counted: bool) -> str:
    if not named:
        return f"The scorer {pair.scores[0].scorer} names no class by design: there is no confusion matrix."
    if counted and len(pair.labels) > MOST_MATRIX_CLASSES:
        return f"A matrix of {len(pair.labels)} classes is not drawn; its largest cells are the table of confusions."
    return ""


def _cells(pair: PairRecord) -> dict[str, str]:
    return dict(zip(HEAD, cells(pair), strict=True))


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


def _image(run: RunRecord, pair: PairRecord, picked: Picked) -> ImageView:
    row, flip = picked.row, picked.flip
    reference = pair.gating.reference if pair.gating else None
    predicted = row.references.get(reference.key) if reference else None
    return ImageView(
        thumb=row.image,
        label=cut(pair.labels[row.label], MOST_NAME),
        answer=cut(row.answer or "", MOST_ANSWER),
        read_as=cut(_read_as(pair, row), MOST_NAME),
        reference="" if predicted is None else cut(pair.labels[predicted], MOST_NAME),
        kind=row.kind or "",
        ranked=_ranked(pair, row),
        reasons=tuple(REASONS[reason] for reason in picked.reasons),
        lost="lost" in picked.reasons,
        before=cut(flip.before or "(nothing)", MOST_ANSWER) if flip else "",
        row=row.row,
        rank=picked.rank,
        command=one_image(run, pair, row),
    )


def _read_as(pair: PairRecord, row: Row) -> str:
    if row.prediction is not None:
        return pair.labels[row.prediction]
    gating = pair.scores[0] if pair.scores else None
    if gating and gating.no_class is None:
        return f"{gating.scorer}: {row.scores[gating.scorer]['detail']}"
    return "no class"


def _ranked(pair: PairRecord, row: Row) -> str:
    """The labels that the language model finds most probable, with their scores, where that was asked."""
    ranked = row.scores.get("likelihood")
    if not ranked:
        return ""
    detail = ranked.get("detail") or [[ranked["prediction"], None]]
    said = [
        cut(pair.labels[index], MOST_NAME) + ("" if score is None else f" ({score:.2f})".replace("-", "−"))
        for index, score in detail[:MOST_RANKED]
    ]
    return ", ".join(said)


def _fact(value: Any) -> str:
    """A fact as text: what it holds, where it holds several."""
    return (
        ", ".join(f"{key.replace('_', ' ')} {inner}" for key, inner in value.items()) if isinstance(value, dict) else str(value)
    )


def _facts(pair: PairRecord) -> list[tuple[str, str]]:
    facts = [("prompt", pair.prompt)]
    facts += [(f"model: {key.replace('_', ' ')}", _fact(value)) for key, value in pair.model_facts.items() if value is not None]
    if pair.encoder:
        facts.append(("encoder", f"{pair.encoder.id} (from {pair.encoder.found_by}): {pair.encoder.tower}"))
    facts += [
        (f"images: {key}", "; ".join(value) if isinstance(value, list) else _fact(value))
        for key, value in pair.image_set_facts.items()
        if value is not None
    ]
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
        facts.append((f"scorer {score.scorer}", f"version {score.version}"))
        facts += [(f"{score.scorer}: {key}", _said(value)) for key, value in score.facts.items()]
    facts += [(f"{step.name}", step.note) for step in pair.steps if step.note]
    if pair.replay:
        since = f", the oldest of {pair.replay.since}" if pair.replay.since else ""
        facts.append(("from the store", f"{pair.replay.replayed} images, {pair.replay.computed} computed in this run{since}"))
    if pair.timing:
        facts.append(
            ("cost", f"{pair.timing.cpu_seconds} CPU-s, {pair.timing.wall_seconds} s, {pair.timing.new_tokens} tokens")
        )
    if pair.cost:
        facts.append(("asked of endpoints", words.cost_words(pair.cost)))
    return facts


def _said(value: Any) -> str:
    return ", ".join(f"{key} {inner}" for key, inner in value.items()) if isinstance(value, dict) else str(value)
