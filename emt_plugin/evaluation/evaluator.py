"""Measures pairs and compares them with their references. One for each worker."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial

from emt_plugin.analysis import largest_loss, steps
from emt_plugin.analysis.steps import VISION_PROBE
from emt_plugin.catalog import ImageSetSpec, ModelSpec
from emt_plugin.data import ImageSet, load_train
from emt_plugin.errors import CouldNotRun
from emt_plugin.evaluation.at_hand import AtHand
from emt_plugin.evaluation.encoder_choice import BASE
from emt_plugin.evaluation.engine import Engine, ThisProcess
from emt_plugin.evaluation.models import Model
from emt_plugin.evaluation.probing import Prober
from emt_plugin.evaluation.progress import Progress, no_progress
from emt_plugin.evaluation.references import References, ReferenceScores
from emt_plugin.evaluation.repeating import repeated
from emt_plugin.evaluation.scorers import PairScorers
from emt_plugin.evaluation.stopping import Stop
from emt_plugin.evaluation.thumbs import write_thumbs
from emt_plugin.evaluation.written import in_part, row_of, started
from emt_plugin.gate import Reference, Tolerance, chance_of, compare, compare_in_order, with_itself
from emt_plugin.gate.tolerances import accepted_of
from emt_plugin.records import (
    EncoderFacts,
    Flip,
    Journal,
    PairRecord,
    Repeat,
    Row,
    RunPlace,
    Timing,
    read_predictions,
)
from emt_plugin.runs.compare import flips
from emt_plugin.runs.outcomes import comparisons, score_summary, stage_outcomes
from emt_plugin.runs.shown import gallery
from emt_plugin.scoring.protocol import Judge
from emt_plugin.settings import Settings
from emt_plugin.store import Store

PROBE = Reference("probe", VISION_PROBE)


class Evaluator:
    """Measures pairs.

    Args:
        settings: the session's.
        place: where to write; None to keep no record.
        say: told what a person who waits should know.
        progress: shows how far the work is.
        engine: where models run; None for this process.
    """

    def __init__(
        self,
        settings: Settings,
        place: RunPlace | None,
        say: Callable[[str], None],
        progress: Progress = no_progress,
        engine: Engine | None = None,
    ) -> None:
        self._engine = engine or ThisProcess()
        self.settings = settings
        self.place = place
        self._progress = progress
        self._store = Store(settings.store.folder, settings.store.mode, say, settings.store.most_bytes)
        self._at_hand = AtHand(settings, self._store, say, self._engine)
        self._references = References(self._at_hand, self._scorers, progress, settings.compute.early_stop)
        self._judge: Judge | None = None

    def image_set(self, spec: ImageSetSpec) -> ImageSet:
        """The image set, loaded once in a worker.

        Raises:
            CouldNotRun: see ``load_image_set``.
        """
        return self._at_hand.image_set(spec)

    def model(self, spec: ModelSpec) -> Model:
        """The model, found but not yet loaded; the one before it is freed first.

        Raises:
            CouldNotRun: it is not on this machine, or not in a format that is loaded here.
        """
        return self._at_hand.model(spec)

    def measure(self, model: Model, image_set: ImageSet, tolerance: float | None = None) -> PairRecord:
        """Measure one pair and compare it with its references.

        Args:
            model: from ``model``.
            image_set: from ``image_set``.
            tolerance: stands above the tolerances file.

        Raises:
            CouldNotRun: the model cannot be loaded, or does not show what a scorer wants.
        """
        self._refuse_parted_probe(model, image_set)
        spent = self._at_hand.cost()
        start = started(model, image_set, self.settings)
        cpu, wall = time.process_time(), time.perf_counter()
        scorers = self._scorers(model, image_set, model)
        encoder = Reference("encoder", model.classifier.id) if model.classifier else None
        with self._journal() as journal:
            if journal:
                journal.start(start)
            compared = self._references.base if self.settings.trajectories else self._references.named
            others = compared(model, image_set)
            known = [*([encoder] if encoder else []), *([others.against] if others else [])]
            chance = chance_of([item.label for item in image_set.items], len(image_set.labels))
            stop = self._stop(start, model, image_set, known, chance, tolerance)
            rows = self._observed(start, image_set, scorers, encoder, others, journal, stop)
            if stop:
                image_set = image_set.first(len(rows))
                start = replace(start, image_set_facts={**start.image_set_facts, "fingerprint": image_set.fingerprint})
            if self.settings.trajectories and others is None:
                rows, others = self._references.as_base(model, image_set, rows)
                if journal:
                    journal.append(start, rows)
            rows, note = self._probed(model, image_set, rows)
            if journal and note:
                journal.append(start, rows)
        references = [
            *([encoder] if encoder else []),
            *([PROBE] if note and self.settings.reference_kind(model.spec) == "probe" else []),
            *([others.against] if others else []),
        ]
        outcomes = stage_outcomes(rows, encoder, note)
        compared_by = partial(compare_in_order, of=image_set.n_split) if stop else compare
        pair = replace(
            start,
            status="measured",
            n=len(rows),
            scores=tuple(score_summary(scorer, rows, image_set.labels) for scorer in scorers.all),
            comparisons=comparisons(
                scorers.names,
                references,
                rows,
                chance,
                lambda kind, scorer: self._tolerance(start, kind, scorer, tolerance),
                compared_by,
            ),
            encoder=_encoder_facts(model, encoder, rows),
            steps=steps(outcomes),
            largest_loss=largest_loss(outcomes),
            replay=scorers.observer.counter.as_record(),
            model_facts={**start.model_facts, **(model.loaded().backend.in_force() if model.is_loaded else {})},
            timing=Timing(
                cpu_seconds=round(time.process_time() - cpu, 3),
                wall_seconds=round(time.perf_counter() - wall, 3),
                new_tokens=scorers.observer.counter.new_tokens,
            ),
        )
        pair = replace(pair, repeat=self._repeated(model, image_set, rows))
        cost = self._at_hand.cost()
        pair = self._gated(replace(pair, cost=cost.since(spent) if cost and spent else cost), model)
        if self.place:
            shown = gallery(pair, rows, self._flipped(pair, rows), bool(self.settings.trajectories)).rows
            write_thumbs(self.place.folder / "thumbs", self._store, image_set, shown)
        return in_part(pair, note)

    def _repeated(self, model: Model, image_set: ImageSet, rows: Sequence[Row]) -> Repeat | None:
        """What moves when the images are measured again; nothing of it is stored or comes from the store."""
        settings = self.settings
        if settings.compute.repeat < 2:
            return None
        nothing = Store(settings.store.folder, "off")

        def scorers() -> PairScorers:
            judge = self._judge_of(nothing)
            return PairScorers(settings.scoring, settings.catalog, nothing, model, image_set, model, judge)

        return repeated(model, image_set, rows, settings.compute.repeat, scorers, self._progress)

    def _flipped(self, pair: PairRecord, rows: Sequence[Row]) -> list[Flip]:
        """The images that flipped against the run that is compared, as far as it has them."""
        earlier = self.settings.report.compare
        return flips(read_predictions(earlier, pair.key.file_name), rows, pair.scores[0].scorer) if earlier else []

    def close(self) -> None:
        """Free what is loaded."""
        self._at_hand.close()
        self._engine.close()

    @contextmanager
    def _journal(self) -> Iterator[Journal | None]:
        journal = Journal(self.place.folder / "journal", self.place.worker) if self.place else None
        try:
            yield journal
        finally:
            if journal:
                journal.close()

    def _scorers(self, model: Model, image_set: ImageSet, embedder: Model) -> PairScorers:
        settings = self.settings
        return PairScorers(settings.scoring, settings.catalog, self._store, model, image_set, embedder, self._asked_judge())

    def _asked_judge(self) -> Judge | None:
        if self._judge is None:
            self._judge = self._judge_of(self._store)
        return self._judge

    def _judge_of(self, store: Store) -> Judge | None:
        if self.settings.scoring.judge is None:
            return None
        from emt_plugin.models.judge_client import JudgeClient

        return JudgeClient(self.settings.scoring.judge, store)

    def _observed(
        self,
        pair: PairRecord,
        image_set: ImageSet,
        scorers: PairScorers,
        encoder: Reference | None,
        others: ReferenceScores | None,
        journal: Journal | None,
        stop: Stop | None = None,
    ) -> list[Row]:
        """A row for each image, in their order, as far as ``stop``; each batch is written down before the next starts."""
        rows: list[Row] = []
        with self._progress(pair.key.id, len(image_set.items)) as advance:
            for batch in scorers.observer.observed(image_set.items):
                made = [
                    row_of(seen, scores, scorers.names[0], encoder, others, len(rows) + offset)
                    for offset, (seen, scores) in enumerate(zip(batch, scorers.scores(batch), strict=True))
                ]
                made = stop.upto(made) if stop else made
                rows += made
                if journal:
                    journal.append(pair, made)
                advance(len(made))
                if stop and stop.reached:
                    break
        return rows

    def _stop(
        self,
        pair: PairRecord,
        model: Model,
        image_set: ImageSet,
        references: Sequence[Reference],
        chance: float,
        given: float | None,
    ) -> Stop | None:
        """Where to stop; None where all images are measured.

        Raises:
            CouldNotRun: the reference or the tolerance needs all of them.
        """
        if not self.settings.compute.early_stop:
            return None
        wanted, scorer = self.settings.reference_kind(model.spec), self.settings.scoring.scorers[0]
        if wanted == PROBE.kind:
            raise CouldNotRun(f"the probe of {model.spec.id} is fitted on all images; leave --emt-early-stop out")
        reference = next((known for known in references if known.kind == wanted), None)
        if reference is None:
            return None
        tolerance = self._tolerance(pair, wanted, scorer, given)
        if tolerance.accepted:
            raise CouldNotRun(f"the accepted loss of {pair.key.id} is of all images; leave --emt-early-stop out")
        return Stop(image_set.n_split, tolerance.value, chance, scorer, reference)

    def _probed(self, model: Model, image_set: ImageSet, rows: list[Row]) -> tuple[list[Row], str]:
        """The rows with what linear probes read from the features, and what to say of the probes; empty without any."""
        if not self.settings.probes(model.spec) or not model.facts.has_features:
            return rows, ""
        prober = Prober(self._store, model, image_set, self.settings.scoring.probe_images, self._progress)
        probe_gates = self.settings.reference_kind(model.spec) == "probe"
        found = prober.classes()
        probed = []
        for position, row in enumerate(rows):
            probes = {name: int(classes[position]) for name, classes in found.items()}
            gates = {PROBE.key: probes[VISION_PROBE]} if probe_gates else {}
            probed.append(replace(row, probes=probes, references={**row.references, **gates}))
        return probed, prober.note

    def _refuse_parted_probe(self, model: Model, image_set: ImageSet) -> None:
        """Refuse what a part of the images would fit otherwise than all of them.

        Raises:
            CouldNotRun: probes are fitted on the evaluated images themselves.
        """
        if not image_set.whole or not self.settings.probes(model.spec) or not model.facts.has_features:
            return
        if load_train(image_set, self.settings.scoring.probe_images, self._store) is None:
            raise CouldNotRun(
                f"{image_set.spec.id} has no training split, so probes are fitted on the evaluated images, all of them, and "
                f"--emt-shard-by images has a part: {self._without_probe(model)}"
            )

    def _without_probe(self, model: Model) -> str:
        if self.settings.reference_kind(model.spec) == "probe":
            return "part the pairs, or compare with a model by --emt-reference MODEL"
        return "part the pairs, or leave the probes out with --emt-probe-images 0"

    def _tolerance(self, pair: PairRecord, kind: str, scorer: str, given: float | None) -> Tolerance:
        if given is not None:
            return Tolerance(given, "emt.check(tolerance=...)", given)
        key, model = pair.key, pair.model_facts
        of = accepted_of(model.get("adapter") or model.get("source"), pair.image_set_facts.get("source"))
        return self.settings.tolerances.of(key.model, key.image_set, kind, key.id, scorer, of)

    def _gated(self, pair: PairRecord, model: Model) -> PairRecord:
        """The pair with the comparison that gates: the first scorer's, with the reference that was asked for."""
        wanted = self.settings.reference_kind(model.spec)
        gate = next((index for index, c in enumerate(pair.comparisons) if c.reference.kind == wanted), None)
        comparisons = tuple(
            with_itself(c) if c.reference.kind == "checkpoint" and not pair.key.checkpoint else c for c in pair.comparisons
        )
        pair = replace(pair, comparisons=comparisons)
        return replace(pair, gate=gate, reason=None if gate is not None else _nothing_to_compare(model, wanted))


def _encoder_facts(model: Model, encoder: Reference | None, rows: Sequence[Row]) -> EncoderFacts | None:
    if model.classifier is None or encoder is None:
        return None
    return EncoderFacts(
        id=model.classifier.id,
        found_by=model.classifier.found_by,
        tower=model.facts.tower_words,
        own=model.facts.own,
        correct=sum(row.references[encoder.key] == row.label for row in rows),
    )


def _nothing_to_compare(model: Model, wanted: str) -> str:
    """Why a measured model has no verdict, and what to type."""
    files = model.backend.sees_with()
    name, kind = model.spec.id, files.config.get("model_type") if files else model.spec.backend
    if wanted == "probe":
        return f"no probe can be fitted on the vision features of {name}, a {kind}: compare it with its base, {BASE}"
    probe = "a probe on its own features, --emt-reference probe, or with " if model.facts.has_features else ""
    return (
        f"no encoder is known for {name}, a {kind}, so there is nothing to compare it with: compare it with {probe}"
        f"its base, {BASE}, or name an encoder with --emt-encoder"
    )
