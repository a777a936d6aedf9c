"""What one worker has at hand: image sets, one model, and what that is compared with."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from emt_plugin.analysis import PROMISES
from emt_plugin.catalog import CatalogError, ImageSetSpec, ModelSpec
from emt_plugin.catalog.checkpoints import provenance_of
from emt_plugin.data import ImageSet, load_image_set
from emt_plugin.evaluation.engine import Engine
from emt_plugin.evaluation.models import Model, ModelLoader
from emt_plugin.records import Cost
from emt_plugin.settings import Settings
from emt_plugin.store import Store


class AtHand:
    """Finds what is asked for, and frees a model before the next.

    Args:
        settings: the session's.
        store: where results are kept.
        say: told what a person who waits should know.
        engine: where models run.
    """

    def __init__(self, settings: Settings, store: Store, say: Callable[[str], None], engine: Engine) -> None:
        self._settings = settings
        self._store = store
        self._say = say
        base = settings.reference if settings.trajectories else None
        self._loader = ModelLoader(
            settings.catalog,
            settings.compute,
            store,
            say,
            lambda spec: settings.reference_kind(spec) == "encoder",
            base,
            engine,
        )
        self._image_sets: dict[ImageSetSpec, ImageSet] = {}
        self._model: Model | None = None
        self._reference: Model | None = None
        self._base: Model | None = None

    def image_set(self, spec: ImageSetSpec) -> ImageSet:
        """The image set, loaded once in a worker.

        Raises:
            CouldNotRun: see ``load_image_set``.
        """
        if spec not in self._image_sets:
            only, half = self._settings.compute.images, self._settings.compute.half
            found = load_image_set(spec, None if only else self._settings.compute.limit, self._store)
            shard = self._settings.shard
            found = found.only(only) if only else found
            found = found.half(half) if half else found
            self._image_sets[spec] = found.part(shard.index, shard.count) if shard and shard.by == "images" else found
            for note in found.notes:
                self._say(f"image set {spec.id}: {note}")
        return self._image_sets[spec]

    def model(self, spec: ModelSpec) -> Model:
        """The model, found but not yet loaded; the one before it is freed first.

        Raises:
            CouldNotRun: it is not on this machine, or not in a format that is loaded here.
        """
        if self._model is None or self._model.spec != spec:
            self.close()
            if self._settings.compute.half != PROMISES and _is_mended(spec):
                self._say(
                    f"{spec.id} is mended: images of half 1 may have chosen it, and --emt-half {PROMISES} leaves them out"
                )
            reference = self._settings.reference
            if reference and not self._settings.trajectories:
                self._model = self._loader.find(spec, reference)
                self._reference = self._loader.find_reference(reference, self._model.room)
            else:
                self._model = self._loader.find(spec)
        return self._model

    @property
    def reference(self) -> Model | None:
        """The model that all are compared with, in memory beside the model; None where there is no such model."""
        return self._reference

    def base(self, beside: Model) -> Model | None:
        """What the checkpoints of a trajectory are of; None where ``beside`` is the base itself."""
        spec = self._settings.reference
        if spec is None or beside.spec == spec:
            return None
        if self._base is None:
            self._base = self._loader.find(spec)
        return self._base

    def cost(self) -> Cost | None:
        """What all models at hand have asked for so far; None where none of them is behind an endpoint."""
        found = [model.backend.cost() for model in (self._base, self._reference, self._model) if model]
        costs = [cost for cost in found if cost is not None]
        return sum(costs[1:], costs[0]) if costs else None

    def close(self) -> None:
        """Free all models."""
        for model in (self._base, self._reference, self._model):
            if model:
                model.free()
        self._model = self._reference = None


def _is_mended(spec: ModelSpec) -> bool:
    """Whether a model's folder says that it was chosen by some of the images."""
    try:
        known = provenance_of(Path(spec.adapter or spec.source))
    except CatalogError:
        return False
    return known is not None and known.mended is not None
