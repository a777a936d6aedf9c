"""Measures pairs and compares them. One for each worker; holds one model at a time."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from emt_plugin.catalog import ImageSetSpec, ModelSpec, display
from emt_plugin.data import ImageSet, load_image_set
from emt_plugin.evaluation.encoder_choice import BASE
from emt_plugin.evaluation.models import Model, ModelLoader
from emt_plugin.evaluation.observing import Seen
from emt_plugin.evaluation.outcomes import comparisons, score_summary, way
from emt_plugin.evaluation.probing import Prober
from emt_plugin.evaluation.progress import Progress, no_progress
from emt_plugin.evaluation.repeating import repeated
from emt_plugin.evaluation.scorers import PairScorers
from emt_plugin.evaluation.thumbs import write_thumbs
from emt_plugin.forgetting import largest_loss, steps
from emt_plugin.forgetting.steps import VISION_PROBE
from emt_plugin.gate import Reference, Tolerance, with_itself
from emt_plugin.gate.tolerances import accepted_of
from emt_plugin.history.compare import flips
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
from emt_plugin.report.gallery import gallery
from emt_plugin.scoring import Score
from emt_plugin.scoring.protocol import Judge
from emt_plugin.settings import Settings, pair_key
from emt_plugin.store import Store, key_hash

PROBE = Reference("probe", VISION_PROBE)
PROBED = "a probe, by the catalog: no public encoder with a text tower has this tower"


@dataclass(frozen=True)
class ReferenceScores:
    """What a reference model's scorers made of the images of one set, in their order."""

    against: Reference
    scores: tuple[dict[str, Score], ...]


class Evaluator:
    """Measures pairs.

    Args:
        settings: the session's.
        place: where to write; None to keep no record.
        say: told what a person who waits should know.
        progress: shows how far the work is.
    """

    def __init__(
        self, settings: Settings, place: RunPlace | None, say: Callable[[str], None], progress: Progress = no_progress
    ) -> None:
        self.settings = settings
        self.place = place
        self._progress = progress
        self._say = say
        self._store = Store(settings.store.folder, settings.store.mode, say, settings.store.most_bytes)
        base = settings.reference if settings.trajectories else None
        self._loader = ModelLoader(
            settings.catalog, settings.compute, self._store, say,
            lambda spec: settings.reference_kind(spec) == "encoder", base,
        )  # fmt: skip
        self._model: Model | None = None
        self._reference: Model | None = None
        self._found_base: Model | None = None
        self._judge: Judge | None = None
        self._image_sets: dict[ImageSetSpec, ImageSet] = {}
        self._reference_scores: dict[str, ReferenceScores] = {}

    def image_set(self, spec: ImageSetSpec) -> ImageSet:
        """The image set, loaded once in a worker.

        Raises:
            CouldNotRun: see ``load_image_set``.
        """
        if spec not in self._image_sets:
            only = self.settings.compute.images
            loaded = load_image_set(spec, None if only else self.settings.compute.limit, self._store)
            self._image_sets[spec] = loaded.only(only) if only else loaded
            for note in loaded.notes:
                self._say(f"image set {spec.id}: {note}")
        return self._image_sets[spec]

    def model(self, spec: ModelSpec) -> Model:
        """The model, found but not yet loaded; the one before it is freed first.

        Raises:
            CouldNotRun: it is not on this machine, or not in a format that is loaded here.
        """
        if self._model is None or self._model.spec != spec:
            self.close()
            reference = self.settings.reference
            if reference and not self.settings.trajectories:
                self._model = self._loader.find(spec, reference)
                self._reference = self._loader.find_reference(reference, self._model)
            else:
                self._model = self._loader.find(spec)
        return self._model

    def measure(self, model: Model, image_set: ImageSet, tolerance: float | None = None) -> PairRecord:
        """Measure one pair and compare it with its references.

        Args:
            model: from ``model``.
            image_set: from ``image_set``.
            tolerance: stands above the tolerances file.

        Raises:
            CouldNotRun: the model cannot be loaded, or does not show what a scorer wants.
        """
        start = self._start(model, image_set)
        cpu, wall = time.process_time(), time.perf_counter()
        scorers = self._scorers(model, image_set, model)
        encoder = Reference("encoder", model.classifier.id) if model.classifier else None
        with self._journal() as journal:
            if journal:
                journal.start(start)
            others = self._base(model, image_set) if self.settings.trajectories else self._reference_model(image_set)
            rows = self._observed(start, image_set, scorers, encoder, others, journal)
            if self.settings.trajectories and others is None:
                rows, others = self._as_base(model, image_set, rows)
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
        outcomes = way(rows, encoder, note)
        pair = replace(
            start,
            status="measured",
            n=len(rows),
            scores=tuple(score_summary(scorer, rows, image_set.labels) for scorer in scorers.all),
            comparisons=comparisons(
                scorers.names,
                references,
                rows,
                len(image_set.labels),
                lambda kind, scorer: self._tolerance(start, kind, scorer, tolerance),
            ),
            encoder=_encoder_facts(model, encoder, rows),
            steps=steps(outcomes),
            largest_loss=largest_loss(outcomes),
            replay=scorers.observer.counter.as_record(),
            model_facts={**start.model_facts, **_facts_of_this_run(model)},
            timing=Timing(
                cpu_seconds=round(time.process_time() - cpu, 3),
                wall_seconds=round(time.perf_counter() - wall, 3),
                new_tokens=scorers.observer.counter.new_tokens,
            ),
        )
        pair = self._gated(replace(pair, repeat=self._repeated(model, image_set, rows)), model)
        if self.place:
            shown = gallery(pair, rows, self._flipped(pair, rows), bool(self.settings.trajectories)).rows
            write_thumbs(self.place.folder / "thumbs", self._store, image_set, shown)
        return pair

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
        for model in (self._reference, self._model):
            if model:
                model.free()
        self._model = self._reference = None

    def _start(self, model: Model, image_set: ImageSet) -> PairRecord:
        """What is known of a pair before its first image."""
        prompt, spec = image_set.question.prompt, image_set.spec
        return PairRecord(
            key=pair_key(model.spec, image_set.spec),
            measurement=secrets.token_hex(8),
            prompt=prompt,
            n_split=image_set.n_split,
            labels=image_set.labels,
            model_facts={
                "name": display(model.spec.name),
                "source": display(model.spec.source),
                "revision": model.spec.revision,
                "adapter": display(model.spec.adapter) if model.spec.adapter else None,
                "fingerprint": model.key["weights"],
                "architecture": model.facts.architecture,
                "dtype": model.dtype,
                "device": model.device,
                "attention": model.facts.attention,
                "generation": dict(model.facts.generation),
                "encoder": model.note or model.facts.encoder_problem or None,
                "reference": PROBED if self.settings.probed_by_catalog(model.spec) else None,
                "rendered_prompt": model.rendered(prompt),
            },
            image_set_facts={
                "name": self._image_set_name(spec),
                "source": display(image_set.spec.source),
                "kind": image_set.spec.kind,
                "config": image_set.spec.config,
                "split": image_set.split,
                "revision": image_set.spec.revision,
                "fingerprint": image_set.fingerprint,
                "pixels": dict(image_set.pixels) or None,
                "notes": list(image_set.notes) or None,
            },
        )

    def _image_set_name(self, spec: ImageSetSpec) -> str:
        """What asks for an image set again: the catalog's name, or where it is."""
        catalog = self.settings.catalog
        return spec.id if spec.id in catalog.image_sets and catalog.image_set(spec.id) == spec else spec.source

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
        from emt_plugin.mllms.judge_client import JudgeClient

        return JudgeClient(self.settings.scoring.judge, store)

    def _observed(
        self,
        pair: PairRecord,
        image_set: ImageSet,
        scorers: PairScorers,
        encoder: Reference | None,
        others: ReferenceScores | None,
        journal: Journal | None,
    ) -> list[Row]:
        """A row for each image, in their order; each batch is written down before the next starts."""
        rows: list[Row] = []
        with self._progress(pair.key.id, len(image_set.items)) as advance:
            for batch in scorers.observer.observed(image_set.items):
                made = [
                    _row(seen, scores, scorers.names[0], encoder, others, len(rows) + offset)
                    for offset, (seen, scores) in enumerate(zip(batch, scorers.scores(batch), strict=True))
                ]
                rows += made
                if journal:
                    journal.append(pair, made)
                advance(len(made))
        return rows

    def _reference_model(self, image_set: ImageSet) -> ReferenceScores | None:
        """What the reference model's scorers make of the images; measured once for each image set."""
        if self._reference is None:
            return None
        # The model's text tower reads both: its reference has none of its own.
        embedder = self._model or self._reference
        known = _known_as(self._reference, embedder, image_set)
        if known not in self._reference_scores:
            self._reference_scores[known] = self._scored(self._reference, embedder, image_set, "model")
        return self._reference_scores[known]

    def _base(self, model: Model, image_set: ImageSet) -> ReferenceScores | None:
        """What the scorers make of the base of a trajectory; None where ``model`` is the base.

        Base and checkpoint are never in memory together: with adapters that would take twice the base's.
        """
        base = self.settings.reference
        if base is None or model.spec == base:
            return None
        if self._found_base is None:
            self._found_base = self._loader.find(base)
        found = self._found_base
        known = _known_as(found, found, image_set)
        if known not in self._reference_scores:
            model.free()
            self._reference = found
            self._reference_scores[known] = self._scored(self._reference, self._reference, image_set, "checkpoint")
            self._reference.free()
            self._reference = None
        return self._reference_scores[known]

    def _as_base(self, model: Model, image_set: ImageSet, rows: list[Row]) -> tuple[list[Row], ReferenceScores]:
        """The rows of a base compared with itself, which is how far its trajectory begins."""
        against = Reference("checkpoint", model.spec.id)
        scores = [{name: Score(**score) for name, score in row.scores.items()} for row in rows]
        found = ReferenceScores(against, tuple(scores))
        self._reference_scores[_known_as(model, model, image_set)] = found
        return [
            replace(
                row,
                references={**row.references, against.key: row.prediction},
                reference_correct={
                    **row.reference_correct,
                    against.key: {name: bool(score.correct) for name, score in mine.items()},
                },
            )
            for row, mine in zip(rows, scores, strict=True)
        ], found

    def _scored(
        self, model: Model, embedder: Model, image_set: ImageSet, kind: Literal["model", "checkpoint"]
    ) -> ReferenceScores:
        """What the scorers make of all images, as a reference."""
        scorers = self._scorers(model, image_set, embedder)
        scores: list[dict[str, Score]] = []
        with self._progress(f"{model.spec.id}/{image_set.spec.id}", len(image_set.items)) as advance:
            for batch in scorers.observer.observed(image_set.items):
                scores += scorers.scores(batch)
                advance(len(batch))
        return ReferenceScores(Reference(kind, model.spec.id), tuple(scores))

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


def _known_as(reference: Model, embedder: Model, image_set: ImageSet) -> str:
    """All that decides the scores of a reference: its weights and settings, who embeds answers, and the images."""
    return key_hash(
        {**reference.key, "embedder": dict(embedder.encoder_key), "images": [repr(image_set.spec), image_set.fingerprint]}
    )


def _row(
    seen: Seen,
    scores: dict[str, Score],
    first: str,
    encoder: Reference | None,
    others: ReferenceScores | None,
    position: int,
) -> Row:
    references = {encoder.key: seen.encoder} if encoder else {}
    correct = {}
    if others:
        theirs = others.scores[position]
        references[others.against.key] = theirs[first].prediction
        correct[others.against.key] = {name: bool(score.correct) for name, score in theirs.items()}
    return Row(
        row=seen.item.row,
        image=seen.item.hash,
        occurrence=seen.item.occurrence,
        label=seen.item.label,
        answer=seen.observation.answer,
        prediction=scores[first].prediction,
        correct=bool(scores[first].correct),
        kind=scores[first].kind,
        well_formed=scores[first].well_formed,
        references=references,
        new_tokens=seen.observation.new_tokens,
        scores={name: asdict(score) for name, score in scores.items()},
        reference_correct=correct,
    )


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


def _facts_of_this_run(model: Model) -> dict[str, Any]:
    """How a model was run, where it was."""
    if not model.is_loaded:
        return {}
    import torch

    backend = model.loaded().backend
    facts = {"threads": torch.get_num_threads(), "batch_size": backend.batch_size}
    return facts if backend.packs is None else {**facts, "labels_ranked": "packed" if backend.packs else "one by one"}


def _nothing_to_compare(model: Model, wanted: str) -> str:
    """Why a measured model has no verdict, and what to type."""
    name, kind = model.spec.id, model.checkpoint.config.get("model_type")
    if wanted == "probe":
        return f"no probe can be fitted on the vision features of {name}, a {kind}: compare it with its base, {BASE}"
    probe = "a probe on its own features, --emt-reference probe, or with " if model.facts.has_features else ""
    return (
        f"no encoder is known for {name}, a {kind}, so there is nothing to compare it with: compare it with {probe}"
        f"its base, {BASE}, or name an encoder with --emt-encoder"
    )
