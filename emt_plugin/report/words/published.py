"""A run's accuracies beside the paper's, on the image sets that both have."""

from __future__ import annotations

from dataclasses import dataclass

from emt_plugin.analysis import Trajectory
from emt_plugin.catalog.published import PublishedRow, published
from emt_plugin.records import PairRecord, RunRecord
from emt_plugin.report.words.verdicts import percent

SHOWN = ("LLaVA-7b", "LLaVA-13b")
ENCODER = "CLIP ViT-L-14"


@dataclass(frozen=True)
class PublishedView:
    """A table of one model beside the paper's, with what makes the two different."""

    rows: tuple[tuple[str, ...], ...]
    caption: str
    differs: str


def published_beside(run: RunRecord) -> tuple[PublishedView, ...]:
    """A table for each model that was measured on one of the paper's image sets; none for others."""
    known = published()
    views = []
    for model in dict.fromkeys(pair.key.model for pair in run.pairs):
        pairs = [
            pair for pair in run.pairs if pair.key.model == model and pair.gating and pair.key.image_set in known.image_sets
        ]
        if pairs:
            views.append(_view(model, pairs, [found for found in run.trajectories if found.model == model]))
    return tuple(views)


def _view(model: str, pairs: list[PairRecord], runs: list[Trajectory]) -> PublishedView:
    known = published()
    names = [name for name in known.image_sets if any(pair.key.image_set == name for pair in pairs)]
    rows = [("", *names)]
    for checkpoint in dict.fromkeys(pair.key.checkpoint for pair in pairs):
        here = {pair.key.image_set: pair for pair in pairs if pair.key.checkpoint == checkpoint}
        title = f"this run: {model}{'@' + checkpoint if checkpoint else ''}"
        rows.append((title, *(_accuracy(here.get(name)) for name in names)))
    base = {pair.key.image_set: pair for pair in pairs}
    rows.append(("this run: the encoder", *(_encoder(base.get(name)) for name in names)))
    wanted = [*known.where(table="2", model=ENCODER), *(row for name in SHOWN for row in known.where(table="2", model=name))]
    for found in runs:
        for name in SHOWN:
            wanted += [
                row
                for trained_on in found.trained_on
                for row in known.where(model=name, tuned_on=trained_on, scorer="judge")
                if row.method == found.method or found.method is None
            ]
    rows += [(_title(row), *(percent(row.accuracy[known.image_sets.index(name)]) for name in names)) for row in wanted]
    return PublishedView(tuple(rows), f"{model} beside the published accuracies ({known.source})", _differs(pairs))


def _title(row: PublishedRow) -> str:
    tuned = f", {row.method} on {row.tuned_on}, epoch {row.epoch}" if row.tuned_on else ""
    return f"paper: {row.model}{tuned} (table {row.table})"


def _accuracy(pair: PairRecord | None) -> str:
    return percent(pair.scores[0].correct, pair.n) if pair else "–"


def _encoder(pair: PairRecord | None) -> str:
    return percent(pair.encoder.correct, pair.n) if pair and pair.encoder else "–"


def _differs(pairs: list[PairRecord]) -> str:
    """Where the two protocols differ, so that nobody takes a difference for a finding."""
    known = published()
    scorers = {pair.scores[0].scorer for pair in pairs}
    splits = sorted({str(pair.image_set_facts.get("split")) for pair in pairs})
    said = [
        f"this run scored {max(pair.n for pair in pairs)} images at most of the split {', '.join(splits)}, "
        f"the paper {known.split}",
        "the paper's LLaVA is version 0 with a tower for 224 pixels; its decoding and seeds are not stated",
    ]
    if scorers != {"judge"}:
        said.insert(1, f"this run read answers with the scorer {', '.join(sorted(scorers))}, the paper with an LLM judge")
    return f"The protocols differ: {'; '.join(said)}."
