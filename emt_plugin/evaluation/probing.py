"""Linear probes of a pair: fitted on its training split, or out of fold where it has none, and kept in the store."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from emt_plugin.analysis.steps import PROJECTOR_PROBE, VISION_PROBE
from emt_plugin.data import ImageSet, Item, load_train
from emt_plugin.evaluation.models import Model
from emt_plugin.evaluation.progress import Progress, no_progress
from emt_plugin.evaluation.tasks import Task, in_turn
from emt_plugin.scoring import Want
from emt_plugin.store import Store, code_hash

if TYPE_CHECKING:
    import torch

PROBED = {VISION_PROBE: "vision", PROJECTOR_PROBE: "projector"}
OUT_OF_FOLD = "5-fold, out of fold: no training split"
Classes = Mapping[str, Sequence[int]]


class Prober:
    """Probes one model on one image set.

    Args:
        store: where the classes that probes gave are kept.
        model: not loaded unless something is missing.
        image_set: the evaluated images.
        per_class: training images of each class at most.
        progress: shows how far the work is.
    """

    def __init__(
        self, store: Store, model: Model, image_set: ImageSet, per_class: int, progress: Progress = no_progress
    ) -> None:
        self._model = model
        self._progress = progress
        self._image_set = image_set
        self._train = load_train(image_set, per_class, store)
        fitted_on = self._train.fingerprint if self._train else image_set.fingerprint
        key = {
            **model.key,
            "fitted_on": fitted_on,
            "out_of_fold": self._train is None,
            "labels": list(image_set.labels),
            "probe": code_hash("encoders/probe.py", "evaluation/probing.py"),
        }
        self._shelf = store.shelf("probes", key, {"model": model.spec.id, "image_set": image_set.spec.id})

    @property
    def note(self) -> str:
        """What must be said beside the probes' accuracies."""
        return f"fitted on {len(self._train.items)} training images" if self._train else OUT_OF_FOLD

    def classes(self) -> Classes:
        """For each probe the class of every evaluated image, in their order.

        Raises:
            CouldNotRun: the model cannot be loaded, or memory ran out with one image.
        """
        items = self._image_set.items
        if any(self._shelf.get(item.key) is None for item in items):
            found = self._fitted()
            rows = {item.key: [int(found[name][row]) for name in PROBED] for row, item in enumerate(items)}
            self._shelf.put(rows)
        stored = [self._shelf.get(item.key) for item in items]
        return {name: [int(row.value[column]) for row in stored if row is not None] for column, name in enumerate(PROBED)}

    def _fitted(self) -> Classes:
        from emt_plugin.encoders.probe import fitted_classes, out_of_fold

        classes = len(self._image_set.labels)
        evaluated = self._means(self._image_set, self._image_set.items)
        labels = [item.label for item in self._image_set.items]
        work = self._model.loaded().work
        if self._train is None:
            return {name: work(out_of_fold, evaluated[kind], labels, classes) for name, kind in PROBED.items()}
        seen = self._means(self._train, self._train.items)
        targets = [item.label for item in self._train.items]
        return {name: work(fitted_classes, seen[kind], targets, classes, evaluated[kind]) for name, kind in PROBED.items()}

    def _means(self, image_set: ImageSet, items: Sequence[Item]) -> dict[str, torch.Tensor]:
        """Mean tokens of some images, images x width, before and behind the projector."""
        import torch

        loaded = self._model.loaded()

        def tasks() -> Iterator[Task]:
            start = 0
            while start < len(items):
                batch = items[start : start + loaded.backend.batch_size]
                start += len(batch)
                wants = (frozenset[Want]({"features"}), tuple(range(len(batch))))
                yield Task(tuple(image_set.images(batch)), image_set.question, (wants,))

        rows: dict[str, list[Any]] = {kind: [] for kind in PROBED.values()}
        with self._progress(f"{image_set.spec.id}, {image_set.split}", len(items)) as advance:
            for done in in_turn(tasks(), loaded.ask, loaded.ahead):
                for place in sorted(done.observations):
                    for kind in rows:
                        rows[kind].append((done.observations[place].features or {})[kind])
                advance(len(done.observations))
        return {kind: torch.tensor(found) for kind, found in rows.items()}
