"""Loads what a pair needs, measures it, and compares it. One for each worker; holds one model at a time."""

from __future__ import annotations

import gc
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from emt_plugin.catalog import ImageSetSpec, ModelSpec, display
from emt_plugin.errors import CouldNotRun
from emt_plugin.gate import Reference, Tolerance, compare
from emt_plugin.records import EncoderFacts, Journal, PairKey, PairRecord, Row, RunPlace, ScoreSummary, Timing
from emt_plugin.report.view import MOST_IMAGES, shown_first
from emt_plugin.scoring import AnswerScorer
from emt_plugin.settings import Settings

if TYPE_CHECKING:
    from emt_plugin.data import ImageSet, Item
    from emt_plugin.encoders import TowerCheck, ZeroShotEncoder
    from emt_plugin.mllms.checkpoint import Checkpoint
    from emt_plugin.mllms.transformers_backend import TransformersBackend
    from emt_plugin.workers.leases import Lease

BATCH = 64
THUMB_SIDE = 96


@dataclass(frozen=True)
class LoadedEncoder:
    """An MLLM's own encoder, loaded, with the check that it is its own."""

    classifier: ZeroShotEncoder
    id: str
    found_by: str
    check: TowerCheck


@dataclass(frozen=True)
class LoadedModel:
    """A model on its device, with its encoder where one is known; the lease covers a reference model too."""

    spec: ModelSpec
    backend: TransformersBackend
    encoder: LoadedEncoder | None
    device: str
    lease: Lease


@dataclass(frozen=True)
class ReferenceAnswers:
    """What a reference predicted for the images of one set, in their order."""

    against: Reference
    predictions: tuple[int | None, ...]


class Evaluator:
    """Measures pairs.

    Args:
        settings: the session's.
        place: where to write; None to keep no record.
        say: told what a person who waits should know.
    """

    def __init__(self, settings: Settings, place: RunPlace | None, say: Callable[[str], None]) -> None:
        self.settings = settings
        self.place = place
        self._say = say
        self._model: LoadedModel | None = None
        self._reference: TransformersBackend | None = None
        self._image_sets: dict[ImageSetSpec, ImageSet] = {}
        self._known: dict[tuple[str, str, ImageSetSpec], ReferenceAnswers] = {}

    def image_set(self, spec: ImageSetSpec) -> ImageSet:
        """The image set, loaded once in a worker."""
        if spec not in self._image_sets:
            from emt_plugin.data import load_image_set

            self._image_sets[spec] = load_image_set(spec, self.settings.compute.limit)
        return self._image_sets[spec]

    def model(self, spec: ModelSpec) -> LoadedModel:
        """The model on its device; the one before it is freed first."""
        if self._model is None or self._model.spec != spec:
            self._free_model()
            self._model = self._load(spec)
        return self._model

    def close(self) -> None:
        """Free everything."""
        self._free_model()

    def measure(self, model: LoadedModel, image_set: ImageSet, tolerance: float | None = None) -> PairRecord:
        """Measure one pair and compare it with its references.

        Args:
            model: from ``model``.
            image_set: from ``image_set``.
            tolerance: stands above the tolerances file.

        Raises:
            CouldNotRun: memory ran out with one image.
        """
        key = PairKey(model.spec.id, image_set.spec.id)
        start = PairRecord(
            key=key,
            prompt=image_set.question,
            n_split=image_set.n_split,
            labels=image_set.labels,
            model_facts=self._model_facts(model, image_set.question),
            image_set_facts={
                "source": display(image_set.spec.source),
                "split": image_set.split,
                "revision": image_set.spec.revision,
                "fingerprint": image_set.fingerprint,
            },
        )
        cpu, wall = time.process_time(), time.perf_counter()
        references = self._references(model, image_set)
        rows = self._observe(start, model, image_set, references)
        timing = Timing(
            cpu_seconds=round(time.process_time() - cpu, 3),
            wall_seconds=round(time.perf_counter() - wall, 3),
            new_tokens=sum(row.new_tokens or 0 for row in rows),
        )
        self._write_thumbs(image_set, rows, references)
        correct = [row.correct for row in rows]
        labels = [row.label for row in rows]
        comparisons = tuple(
            compare(
                correct,
                [prediction == label for prediction, label in zip(reference.predictions, labels, strict=True)],
                reference.against,
                self._tolerance(key, reference.against.kind, tolerance),
            )
            for reference in references
        )
        wanted = self.settings.reference_kind
        gate = next((index for index, c in enumerate(comparisons) if c.reference.kind == wanted), None)
        return replace(
            start,
            status="measured",
            reason=None if gate is not None else no_encoder(model.spec.id),
            n=len(rows),
            scores=(summary(rows),),
            comparisons=comparisons,
            gate=gate,
            encoder=_encoder_facts(model, references, labels),
            timing=timing,
        )

    def _tolerance(self, key: PairKey, kind: str, given: float | None) -> Tolerance:
        if given is not None:
            return Tolerance(given, "emt.check(tolerance=...)", given)
        return self.settings.tolerances.of(key.model, key.image_set, kind)

    def _observe(
        self, pair: PairRecord, model: LoadedModel, image_set: ImageSet, references: list[ReferenceAnswers]
    ) -> list[Row]:
        scorer = AnswerScorer(image_set.labels, image_set.spec.stems)
        rows: list[Row] = []
        journal = Journal(self.place.folder / "journal", self.place.worker) if self.place else None
        if journal:
            journal.start(pair)
        try:
            for start, items in batches(image_set.items, model.backend.batch_size):
                observations = model.backend.observe(
                    image_set.images(items), image_set.question, image_set.labels, scorer.wants
                )
                batch = []
                for offset, (item, observation) in enumerate(zip(items, observations, strict=True)):
                    score = scorer.score(observation, item.label, image_set.labels)
                    batch.append(
                        Row(
                            row=item.row,
                            image=item.hash,
                            occurrence=item.occurrence,
                            label=item.label,
                            answer=observation.answer,
                            prediction=score.prediction,
                            correct=bool(score.correct),
                            kind=score.kind,
                            well_formed=score.well_formed,
                            references={
                                reference.against.key: reference.predictions[start + offset] for reference in references
                            },
                            new_tokens=observation.new_tokens,
                        )
                    )
                rows += batch
                if journal:
                    journal.append(pair.key, batch)
        finally:
            if journal:
                journal.close()
        return rows

    def _references(self, model: LoadedModel, image_set: ImageSet) -> list[ReferenceAnswers]:
        found = []
        if model.encoder:
            found.append(self._encoder_answers(model.encoder, image_set))
        if self.settings.reference:
            found.append(self._model_answers(self.settings.reference, image_set, model.device))
        return found

    def _encoder_answers(self, encoder: LoadedEncoder, image_set: ImageSet) -> ReferenceAnswers:
        known = ("encoder", str(encoder.classifier.checkpoint.folder), image_set.spec)
        if known not in self._known:
            captions = [image_set.spec.caption(label) for label in image_set.labels]
            images = (image_set.images(items) for _, items in batches(image_set.items, BATCH))
            predictions = encoder.classifier.classify(images, captions)
            self._known[known] = ReferenceAnswers(Reference("encoder", encoder.id), tuple(predictions))
        return self._known[known]

    def _model_answers(self, spec: ModelSpec, image_set: ImageSet, device: str) -> ReferenceAnswers:
        known = ("model", spec.source, image_set.spec)
        if known not in self._known:
            if self._reference is None:
                self._reference = self._backend(spec, _checkpoint(spec), device)
            scorer = AnswerScorer(image_set.labels, image_set.spec.stems)
            predictions: list[int | None] = []
            for _, items in batches(image_set.items, self._reference.batch_size):
                seen = self._reference.observe(image_set.images(items), image_set.question, image_set.labels, scorer.wants)
                predictions += [
                    scorer.score(observation, item.label, image_set.labels).prediction
                    for item, observation in zip(items, seen, strict=True)
                ]
            self._known[known] = ReferenceAnswers(Reference("model", spec.id), tuple(predictions))
        return self._known[known]

    def _load(self, spec: ModelSpec) -> LoadedModel:
        from emt_plugin.mllms.checkpoint import find
        from emt_plugin.workers.leases import take

        checkpoint = _checkpoint(spec)
        source, found_by = self._encoder_source(spec, checkpoint.tower)
        encoder = find(source, f"the encoder {_short(source)}", spec.name, encoder=True) if source else None
        # One lease for all that the pair needs: two workers that each hold a part would wait for each other forever.
        together = [checkpoint, *([encoder] if encoder else [])]
        if self.settings.reference:
            together.append(_checkpoint(self.settings.reference))
        compute = self.settings.compute
        device = compute.device or default_device()
        refuse_missing_device(device)
        dtype = compute.dtype or ("float32" if device == "cpu" else None)
        size = sum(part.bytes_needed(dtype) for part in together)
        lease = take(device_name(device), size, compute.memory or device_memory(device), spec.id, self._say)
        try:
            backend = self._backend(spec, checkpoint, device)
            return LoadedModel(spec, backend, self._load_encoder(backend, encoder, found_by, device), device, lease)
        except BaseException:
            lease.release()
            raise

    def _backend(self, spec: ModelSpec, checkpoint: Checkpoint, device: str) -> TransformersBackend:
        from emt_plugin.mllms.transformers_backend import TransformersBackend

        compute = self.settings.compute
        return TransformersBackend(checkpoint, device, compute.dtype, compute.batch_size, spec.trust_remote_code)

    def _encoder_source(self, spec: ModelSpec, tower: dict[str, Any]) -> tuple[str | None, str]:
        if spec.encoder:
            return spec.encoder, spec.encoder_from or "catalog"
        return self.settings.catalog.encoder_of_tower(tower), "tower shape"

    def _load_encoder(self, backend: TransformersBackend, checkpoint: Any, found_by: str, device: str) -> LoadedEncoder | None:
        if checkpoint is None:
            return None
        from emt_plugin.encoders import ZeroShotEncoder, check_tower

        classifier = ZeroShotEncoder(checkpoint, device, self.settings.compute.dtype)
        stored = (backend.checkpoint.stored_dtype(), checkpoint.stored_dtype())
        check = check_tower(backend.model, classifier.model, stored)
        return LoadedEncoder(classifier, checkpoint.name.removeprefix("the encoder "), found_by, check)

    def _free_model(self) -> None:
        if self._model is None:
            return
        lease, device = self._model.lease, self._model.device
        self._model = self._reference = None
        gc.collect()
        if device.startswith("cuda"):
            import torch

            torch.cuda.empty_cache()
        lease.release()

    def _model_facts(self, model: LoadedModel, question: str) -> dict[str, Any]:
        import torch

        return {
            "source": display(model.spec.source),
            "revision": model.spec.revision,
            "fingerprint": model.backend.fingerprint,
            "architecture": ", ".join(model.backend.checkpoint.config.get("architectures") or ()),
            "dtype": model.backend.dtype,
            "device": model.backend.device,
            "threads": torch.get_num_threads(),
            "batch_size": model.backend.batch_size,
            "rendered_prompt": model.backend.render(question),
        }

    def _write_thumbs(self, image_set: ImageSet, rows: list[Row], references: list[ReferenceAnswers]) -> None:
        if self.place is None:
            return
        folder = self.place.folder / "thumbs"
        folder.mkdir(parents=True, exist_ok=True)
        items = {(item.hash, item.occurrence): item for item in image_set.items}
        keys = [reference.against.key for reference in references if reference.against.kind == self.settings.reference_kind]
        for row in shown_first(rows, keys[0] if keys else None)[:MOST_IMAGES]:
            path = folder / f"{row.image}.png"
            if path.exists():
                continue
            (image,) = image_set.images([items[row.image, row.occurrence]])
            image.thumbnail((THUMB_SIDE, THUMB_SIDE))
            temporary = path.with_suffix(f".{os.getpid()}")
            image.save(temporary, "PNG")
            os.replace(temporary, path)


def batches(items: tuple[Item, ...], size: int) -> Iterator[tuple[int, tuple[Item, ...]]]:
    """(position of the first, items) of consecutive batches."""
    for start in range(0, len(items), size):
        yield start, items[start : start + size]


def summary(rows: list[Row]) -> ScoreSummary:
    """Counts over the rows of a pair."""
    kinds: dict[str, int] = {}
    for row in rows:
        if row.kind:
            kinds[row.kind] = kinds.get(row.kind, 0) + 1
    return ScoreSummary(
        scorer=AnswerScorer.name,
        version=AnswerScorer.version,
        correct=sum(row.correct for row in rows),
        no_class=sum(row.prediction is None for row in rows),
        well_formed=sum(bool(row.well_formed) for row in rows),
        kinds=dict(sorted(kinds.items())),
    )


def no_encoder(model: str) -> str:
    """Why a measured model has no verdict."""
    return f"no encoder is known for {model}, so there is nothing to compare it with: name it with --emt-encoder"


def default_device() -> str:
    """The GPU that is visible, else the CPU."""
    import torch

    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def refuse_missing_device(device: str) -> None:
    """Refuse a device that this machine does not have.

    Raises:
        CouldNotRun: there is no such device.
    """
    import torch

    cuda, _, index = device.partition(":")
    missing = (cuda == "cuda" and int(index or 0) >= torch.cuda.device_count()) or (
        device == "mps" and not torch.backends.mps.is_available()
    )
    if missing:
        raise CouldNotRun(f"there is no device {device} here; leave --emt-device out, or name one that this machine has")


def device_name(device: str) -> str:
    """A device by a name that all workers on it share: ``cuda`` alone means another GPU in every worker."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "0")
    return f"cuda-{visible.split(',')[0]}" if device == "cuda" else device


def device_memory(device: str) -> int:
    """Bytes of memory that a device has."""
    if device.startswith("cuda"):
        import torch

        return int(torch.cuda.mem_get_info(device)[1])
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _checkpoint(spec: ModelSpec) -> Checkpoint:
    from emt_plugin.mllms.checkpoint import find

    return find(spec.source, spec.id, spec.name, spec.revision)


def _short(source: str) -> str:
    return Path(source).name if Path(source).is_dir() else source


def _encoder_facts(model: LoadedModel, references: list[ReferenceAnswers], labels: list[int]) -> EncoderFacts | None:
    if model.encoder is None:
        return None
    predictions = next(r.predictions for r in references if r.against.kind == "encoder")
    return EncoderFacts(
        id=model.encoder.id,
        found_by=model.encoder.found_by,
        tower=model.encoder.check.words,
        own=model.encoder.check.own,
        correct=sum(prediction == label for prediction, label in zip(predictions, labels, strict=True)),
    )
