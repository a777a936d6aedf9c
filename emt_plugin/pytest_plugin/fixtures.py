"""The fixtures: loaded models, image sets, measurements, and ``emt`` for a suite of one's own."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from emt_plugin.catalog.catalog import Spec, suffixed
from emt_plugin.errors import CouldNotRun, ForgettingError
from emt_plugin.pytest_plugin.activation import settings_of
from emt_plugin.pytest_plugin.report_payload import record
from emt_plugin.session.ending import status_of
from emt_plugin.session.engines import engine_of
from emt_plugin.settings import pair_key

if TYPE_CHECKING:
    from emt_plugin.data import ImageSet
    from emt_plugin.evaluation import Evaluator, Model
    from emt_plugin.records import PairRecord
    from emt_plugin.throughput.workload import Workload


@dataclass(frozen=True)
class Measurement:
    """One measured pair."""

    pair: PairRecord

    def assert_not_forgotten(self) -> None:
        """Raise ForgettingError, its first word the verdict, unless the verdict is PASS, or other runs have the rest of it."""
        if self.pair.is_awaited:
            return
        from emt_plugin.report.words.verdicts import verdict_line

        comparison = self.pair.gating
        if comparison is None:
            raise CouldNotRun(self.pair.reason or "no verdict")
        if comparison.verdict != "PASS":
            raise ForgettingError(verdict_line(self.pair))


class Gate:
    """Handed to tests as ``emt``."""

    def __init__(self, config: pytest.Config, evaluator: Evaluator) -> None:
        self._config = config
        self.evaluator = evaluator
        self.item: pytest.Item | None = None
        pairs = evaluator.settings.pairs
        self._specs: dict[tuple[type, str], object] = {(type(spec), spec.id): spec for pair in pairs for spec in pair}

    def check(
        self, model: str | Path, image_set: str | Path, tolerance: float | None = None, encoder: str | None = None
    ) -> PairRecord:
        """Measure a model on an image set and raise unless its verdict is PASS.

        Args:
            model: a catalog name, a folder or a hub id.
            image_set: a catalog name, a parquet file, a folder or a hub id.
            tolerance: the largest loss that passes, a fraction in (0, 1); stands above the tolerances file.
            encoder: the model's vision encoder, where the catalog does not know it.

        Returns:
            What was measured; a part of it, by ``--emt-shard-by images``, without a verdict, and then the test is skipped.

        Raises:
            ForgettingError: the verdict is FAIL or INCONCLUSIVE.
            CouldNotRun: there is no measurement, or nothing to compare it with.
            CatalogError: the model or the image set is not known.
            TolerancesError: the tolerance is not a fraction in (0, 1).
        """
        from emt_plugin.gate.tolerances import checked

        catalog = self.evaluator.settings.catalog
        if tolerance is not None:
            checked(tolerance, "tolerance")
        model_spec = self._distinct(catalog.model(str(model), encoder))
        image_set_spec = self._distinct(catalog.image_set(str(image_set)))
        try:
            loaded = self.evaluator.model(model_spec)
            pair = self.evaluator.measure(loaded, self.evaluator.image_set(image_set_spec), tolerance)
        except Exception as error:
            from emt_plugin.records import PairRecord

            reason = str(error) if isinstance(error, CouldNotRun) else f"{type(error).__name__} in the test, see its traceback"
            self._record(PairRecord(pair_key(model_spec, image_set_spec), status=status_of(error), reason=reason))
            raise
        self._record(pair)
        Measurement(pair).assert_not_forgotten()
        return pair

    def _distinct(self, spec: Spec) -> Spec:
        """The spec, with another id where that one has been used for something else."""
        known = self._specs.setdefault((type(spec), spec.id), spec)
        return spec if known == spec else replace(spec, id=suffixed(spec))

    def _record(self, pair: PairRecord) -> None:
        if self.item is not None:
            record(self.item, pair)


@pytest.fixture(scope="session")
def _emt_gate(pytestconfig: pytest.Config) -> Iterator[Gate]:
    from emt_plugin.evaluation import Evaluator
    from emt_plugin.evaluation.progress import terminal_progress
    from emt_plugin.pytest_plugin.workers.place import place_of

    capture = pytestconfig.pluginmanager.getplugin("capturemanager")

    def say(text: str) -> None:
        with capture.global_and_fixture_disabled():
            print(f"emt: {text}", file=sys.stderr, flush=True)

    progress = terminal_progress(capture.global_and_fixture_disabled)
    settings = settings_of(pytestconfig)
    evaluator = Evaluator(settings, place_of(pytestconfig), say, progress, engine_of(settings, say))
    yield Gate(pytestconfig, evaluator)
    evaluator.close()


@pytest.fixture
def emt(_emt_gate: Gate, request: pytest.FixtureRequest) -> Gate:
    """The gate: ``emt.check(model=..., image_set=..., tolerance=0.05)``."""
    _emt_gate.item = request.node
    return _emt_gate


@pytest.fixture(scope="session")
def emt_model(_emt_gate: Gate, request: pytest.FixtureRequest) -> Model:
    """A model, once in a worker, loaded on its device when first needed; the one before it is freed first."""
    return _emt_gate.evaluator.model(request.param)


@pytest.fixture(scope="session")
def emt_image_set(_emt_gate: Gate, request: pytest.FixtureRequest) -> ImageSet:
    """A loaded image set, cut to its fixed subset."""
    return _emt_gate.evaluator.image_set(request.param)


@pytest.fixture(scope="session")
def emt_throughput(tmp_path_factory: pytest.TempPathFactory) -> Workload:
    """The work that is timed, with a model of random weights that is built for it."""
    from emt_plugin.throughput.workload import Workload

    return Workload(tmp_path_factory.mktemp("throughput"))


@pytest.fixture
def emt_measurement(_emt_gate: Gate, emt_model: Model, emt_image_set: ImageSet, request: pytest.FixtureRequest) -> Measurement:
    """One pair, measured and recorded before anything is asserted of it."""
    pair = _emt_gate.evaluator.measure(emt_model, emt_image_set)
    record(request.node, pair)
    if pair.gating is None and not pair.is_awaited:
        raise CouldNotRun(pair.reason or "no verdict")
    return Measurement(pair)


@pytest.fixture
def emt_checkpoint(emt_measurement: Measurement) -> Measurement:
    """One checkpoint of a trajectory, or its base, on one image set; with ``--emt-checkpoint`` only."""
    return emt_measurement
