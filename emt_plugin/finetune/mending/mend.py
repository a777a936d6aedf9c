"""The largest state between a base and what was tuned from it that passes outside the domain, chosen, tried and written."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType
from typing import Any

from emt_plugin.analysis import DECIDES, PROMISES, Change, Decision, Mending, checkpoint_to_keep, promise_of
from emt_plugin.analysis.keep import Judged
from emt_plugin.catalog import CatalogError, ImageSetSpec, ModelSpec, StateSpec, TrajectorySpec, display
from emt_plugin.catalog.checkpoints import CheckpointOnDisk, readable_id
from emt_plugin.catalog.trajectories import refuse_other_base, state_of
from emt_plugin.errors import CouldNotRun
from emt_plugin.evaluation import Evaluator
from emt_plugin.finetune.mending.adapter_line import AdapterLine
from emt_plugin.finetune.mending.folder import Written, claim_output, named_base, write_chosen
from emt_plugin.finetune.mending.weights_line import WeightsLine
from emt_plugin.gate.exit_code import FAILED, INCONCLUSIVE, PASSED
from emt_plugin.models.checkpoint import Checkpoint, find
from emt_plugin.models.registry import TRANSFORMERS
from emt_plugin.records import PairRecord, RunPlace, RunRecord, read_journals, write_predictions
from emt_plugin.records.adjusting import adjusted, why_incomplete
from emt_plugin.report import write_all
from emt_plugin.runs.folder import claimed
from emt_plugin.runs.trajectories import trajectories_of
from emt_plugin.settings import Settings

ALPHAS = tuple(tenth / 10 for tenth in range(1, 11))
STEPS = 1000
KEPT = "kept"
CODES: Mapping[Judged, int] = {"PASS": PASSED, "FAIL": FAILED, "INCONCLUSIVE": INCONCLUSIVE}


@dataclass(frozen=True)
class Plan:
    """What is mended, and by which images.

    Attributes:
        base: the model that it was tuned from.
        checkpoint: what was tuned: an adapter or a whole model.
        trained_on: ids of the image sets in the domain, which decide nothing.
        image_sets: those that are evaluated, in and outside the domain.
        alphas: the states, in (0, 1] and ascending, fixed before anything is measured.
        out: where the chosen state goes.
        settings: how models are run and where results are kept, with the tolerances.
    """

    base: ModelSpec
    checkpoint: CheckpointOnDisk
    trained_on: tuple[str, ...]
    image_sets: tuple[ImageSetSpec, ...]
    alphas: tuple[float, ...]
    out: Path
    settings: Settings

    @property
    def tuned(self) -> str:
        """What was tuned, by the names of its run and itself; never by a path."""
        folder = self.checkpoint.folder.resolve()
        return f"{readable_id(folder.parent.name)}/{readable_id(folder.name)}"

    @property
    def domain(self) -> tuple[str, ...]:
        """Evaluated image sets that it was trained on."""
        return tuple(spec.id for spec in self.image_sets if spec.id in self.trained_on)

    @property
    def outside(self) -> tuple[str, ...]:
        """The others."""
        return tuple(spec.id for spec in self.image_sets if spec.id not in self.trained_on)


@dataclass(frozen=True)
class Mended:
    """What came of it.

    Attributes:
        run: the record, with a trajectory whose states are the alphas, all on the half that did not choose.
        folder: the run's.
        out: where the chosen state is; None where none was written.
    """

    run: RunRecord
    folder: Path
    out: Path | None


def mend(plan: Plan, say: Callable[[str], None] = print, environment: Mapping[str, Any] = MappingProxyType({})) -> Mended:
    """Measure the line, choose a state by one half of the images, promise by the other, and write it.

    Args:
        plan: what to do.
        say: told what a person who waits should know.
        environment: what it runs on, for the record.

    Raises:
        CatalogError: there is no domain or nothing outside it, or the output is there already.
        CouldNotRun: the checkpoint is none of this base or of a kind that has no line, a model cannot be loaded, or something
            cannot be written. Nothing is left then, but what was measured is kept in the store.
    """
    _refuse_without_domain(plan)
    base, tuned = _found(plan)
    claim_output(plan.out)
    line = AdapterLine(base, plan.checkpoint.folder, tuned.name) if plan.checkpoint.adapter else WeightsLine(base, tuned)
    now, clock = datetime.now(UTC), time.monotonic()
    with _run_folder(plan.settings.report.folder, now) as folder, _workshop(plan.out) as work:
        seen = _Walk(plan, line, work, folder, say).measured()
        with _writing(folder, "--reports"):
            done = _concluded(plan, seen, folder, now, environment)
            done = replace(done, seconds=round(time.monotonic() - clock, 1))
            done.write(folder)
            write_all(folder)
        if done.exit_code != FAILED:
            with _writing(plan.out, "--out"):
                write_chosen(_written(plan, done, base, tuned), work / KEPT, plan.out)
    return Mended(done, folder, plan.out if done.exit_code != FAILED else None)


@dataclass(frozen=True)
class _Seen:
    """What was measured: on the half that decides, and as pairs of the run on the other."""

    decided: tuple[PairRecord, ...]
    promised: tuple[PairRecord, ...]
    states: TrajectorySpec


class _Walk:
    """Measures state by state, from the base on, and keeps the last that passes before the first that does not."""

    def __init__(
        self, plan: Plan, line: AdapterLine | WeightsLine, work: Path, folder: Path, say: Callable[[str], None]
    ) -> None:
        self._plan, self._line, self._work, self._say = plan, line, work, say
        states = tuple(StateSpec(self._spec(alpha), round(STEPS * alpha), None) for alpha in plan.alphas)
        known = plan.checkpoint.provenance
        self.states = TrajectorySpec(
            plan.tuned.replace("/", "."), plan.base, states, plan.trained_on, known.method if known else None
        )
        settings = replace(plan.settings, reference=plan.base, trajectories=(self.states,))
        self._place = RunPlace(folder, "main")
        self._evaluator = Evaluator(settings, None, say)

    def measured(self) -> _Seen:
        """All states on both halves of all image sets."""
        try:
            decided, promised = self._state(self._plan.base)
            passes = True
            for alpha, state in zip(self._plan.alphas, self.states.states, strict=True):
                made = self._work / _called(alpha)
                with _writing(self._plan.out, "--out"):
                    made.mkdir()
                    self._line.write(alpha, made)
                found, other = self._state(state.model)
                verdicts = {pair.key.image_set: by_policy(pair) for pair in found}
                passes = passes and all(verdicts[name] == "PASS" for name in self._plan.outside)
                self._say(f"alpha {alpha:g}: " + ", ".join(f"{name} {verdict}" for name, verdict in verdicts.items()))
                if passes:
                    shutil.rmtree(self._work / KEPT, ignore_errors=True)
                    made.rename(self._work / KEPT)
                else:
                    shutil.rmtree(made)
                decided, promised = [*decided, *found], [*promised, *other]
        finally:
            self._evaluator.close()
        return _Seen(tuple(decided), tuple(promised), self.states)

    def _state(self, spec: ModelSpec) -> tuple[list[PairRecord], list[PairRecord]]:
        """One model on both halves; the rows of the half that promises are written down."""
        decided: list[PairRecord] = []
        promised: list[PairRecord] = []
        for image_set in self._plan.image_sets:
            for half, pairs in ((DECIDES, decided), (PROMISES, promised)):
                self._evaluator.place = self._place if half == PROMISES else None
                images = self._evaluator.image_set(image_set).half(half)
                pairs.append(self._evaluator.measure(self._evaluator.model(spec), images))
        return decided, promised

    def _spec(self, alpha: float) -> ModelSpec:
        """The state at an alpha, which is not there yet."""
        there = replace(self._plan.checkpoint, folder=self._work / _called(alpha))
        return state_of(self._plan.base, there, _called(alpha))


def _called(alpha: float) -> str:
    return f"alpha-{alpha:g}"


def by_policy(pair: PairRecord) -> Judged | None:
    """A pair's verdict at its policy: an accepted loss is a loss all the same."""
    return pair.gating.verdict_at(pair.gating.tolerance.policy) if pair.gating else None


def _concluded(plan: Plan, seen: _Seen, folder: Path, now: datetime, environment: Mapping[str, Any]) -> RunRecord:
    """The run record, with what was chosen."""
    of_state: dict[str | None, dict[str, Judged | None]] = {}
    for pair in seen.decided:
        of_state.setdefault(pair.key.checkpoint, {})[pair.key.image_set] = by_policy(pair)
    keep = checkpoint_to_keep(list(of_state.values()), plan.domain)
    chosen = plan.alphas[keep.kept - 1] if keep.kept else None
    promise = promise_of(by_policy(pair) for pair in promised_at(seen.promised, chosen, plan.outside))
    mending = Mending(
        checkpoint=plan.tuned,
        alpha=chosen,
        written=chosen is not None and promise != "FAIL",
        decided=tuple(_decision(alpha, pair) for alpha in plan.alphas for pair in seen.decided
                      if pair.key.checkpoint == _called(alpha) and pair.gating),
    )  # fmt: skip
    pairs = [_where(pair, plan, mending) for pair in adjusted(seen.promised)]
    found = read_journals(folder / "journal", {pair.key.id: pair.measurement for pair in pairs if pair.measurement})
    rows = {name: journalled.rows for name, journalled in found.items()}
    for pair in pairs:
        write_predictions(folder, pair.key.file_name, rows[pair.key.id])
    (line,) = trajectories_of([seen.states], plan.image_sets, pairs, rows)
    alphas = {_called(alpha): alpha for alpha in plan.alphas}
    states = tuple(replace(state, alpha=alphas.get(state.checkpoint or "")) for state in line.states)
    settings = replace(plan.settings, reference=plan.base, trajectories=(seen.states,)).as_record()
    return RunRecord(
        run_id=folder.name,
        started=now.isoformat(timespec="seconds"),
        seconds=0.0,
        complete=why_incomplete(pairs) is None,
        exit_code=CODES[promise] if mending.written else FAILED,
        reason=why_incomplete(pairs),
        settings={
            **settings,
            "models": [plan.base.id],
            "image_sets": [spec.id for spec in plan.image_sets],
            "half": PROMISES,
        },
        environment=environment,
        pairs=tuple(pairs),
        trajectories=(replace(line, states=states, keep=keep, mending=mending),),
    )


def promised_at(pairs: Sequence[PairRecord], alpha: float | None, names: Sequence[str]) -> list[PairRecord]:
    """The pairs of a state on some image sets, from those on the half that promises."""
    return [pair for pair in pairs if alpha and pair.key.checkpoint == _called(alpha) and pair.key.image_set in names]


def _decision(alpha: float, pair: PairRecord) -> Decision:
    assert pair.gating is not None
    found = pair.gating
    verdict = by_policy(pair) or "INCONCLUSIVE"
    return Decision(
        alpha, pair.key.image_set, pair.n, Change(found.gap, found.low, found.high), found.tolerance.policy, verdict
    )


def _where(pair: PairRecord, plan: Plan, mending: Mending) -> PairRecord:
    """A pair of a state, said to be where that is once this run is over: in the output, or nowhere."""
    if pair.key.checkpoint is None:
        return pair
    alpha = next(alpha for alpha in plan.alphas if pair.key.checkpoint == _called(alpha))
    written = mending.written and alpha == mending.alpha
    place = display(str(plan.out)) if written else None
    facts = {**pair.model_facts, "alpha": alpha, "tuned": mending.checkpoint, "written": written}
    facts["adapter" if plan.checkpoint.adapter else "source"] = place
    return replace(pair, model_facts=facts)


def _written(plan: Plan, run: RunRecord, base: Checkpoint, tuned: Checkpoint) -> Written:
    (line,) = run.trajectories
    assert line.mending is not None
    assert line.mending.alpha is not None
    names = [spec.id for spec in plan.image_sets]
    return Written(
        base=plan.base,
        base_weights=base.fingerprint(),
        base_name=named_base(plan.base, plan.checkpoint, plan.settings.catalog.known_source),
        checkpoint=plan.checkpoint,
        checkpoint_weights=tuned.fingerprint(),
        trained_on=plan.trained_on,
        line=line,
        limit=plan.settings.compute.limit,
        run_id=run.run_id,
        pairs=tuple(promised_at(run.pairs, line.mending.alpha, names)),
    )


def _refuse_without_domain(plan: Plan) -> None:
    if not plan.trained_on:
        raise CatalogError(
            f"{plan.checkpoint.folder} does not say what it was trained on, so nothing is known to be outside: name the image "
            f"sets with --trained-on"
        )
    if not plan.outside:
        raise CatalogError(
            f"no image set outside the domain ({', '.join(plan.trained_on)}) is evaluated, so nothing can be forgotten; name "
            f"others with --image-set"
        )


def _found(plan: Plan) -> tuple[Checkpoint, Checkpoint]:
    """The base and what was tuned, both on this machine and the one from the other as far as they say.

    Raises:
        CatalogError: the base is an adapter, or nothing that is loaded here.
        CouldNotRun: one of them cannot be had, or they are not of each other.
    """
    base = plan.base
    if base.adapter or base.endpoint or base.backend != TRANSFORMERS:
        what = "an adapter" if base.adapter else "behind an endpoint" if base.endpoint else f"run by the backend {base.backend}"
        raise CatalogError(f"{base.name} is {what}, between which and a checkpoint there is no line; name the base's weights")
    found = find(base.source, base.id, base.name, base.revision)
    state = state_of(base, plan.checkpoint, readable_id(plan.checkpoint.folder.name))
    tuned = find(state.source, state.shown, state.name, state.revision, adapter=state.adapter)
    if not plan.checkpoint.adapter:
        tuned.refuse_other_architecture(found)
        return found, tuned
    refuse_other_base(plan.settings.catalog, base, plan.checkpoint)
    tuned.refuse_other_base(state.adapter_base)
    return found, tuned


@contextmanager
def _run_folder(reports: Path, now: datetime) -> Iterator[Path]:
    """The run's folder, which is gone again where the run does not end."""
    try:
        claim = claimed(reports, now)
    except OSError as error:
        raise CouldNotRun(f"cannot write to {reports} ({error.strerror}); name another folder with --reports") from None
    try:
        yield claim.folder
    except BaseException:
        for path in claim.folder.iterdir():
            shutil.rmtree(path, ignore_errors=True)
            path.unlink(missing_ok=True)
        claim.leave()
        raise


@contextmanager
def _workshop(out: Path) -> Iterator[Path]:
    """A folder beside the output for the states, which is gone in the end."""
    missing = [folder for folder in out.parents if not folder.exists()]
    with _writing(out, "--out"):
        out.parent.mkdir(parents=True, exist_ok=True)
        work = Path(tempfile.mkdtemp(dir=out.parent, prefix=f".{out.name}."))
    try:
        yield work
    finally:
        shutil.rmtree(work, ignore_errors=True)
        with suppress(OSError):
            for folder in missing:
                folder.rmdir()


@contextmanager
def _writing(place: Path, option: str) -> Iterator[None]:
    """What cannot be written is said in one sentence.

    Raises:
        CouldNotRun: it cannot.
    """
    from safetensors import SafetensorError

    try:
        yield
    except (OSError, SafetensorError) as error:
        text = " ".join(str(error).split())[:160]
        raise CouldNotRun(
            f"{place} cannot be written ({text}), and nothing is left of it: make room, or name another place with {option}, "
            f"and run the same command again; what was measured is kept in the store"
        ) from None
