"""The gate without pytest: the same pairs, store, record, predictions, journal and report."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

from emt_plugin.api.run import Run, load_run
from emt_plugin.errors import CouldNotRun, UsageError
from emt_plugin.gate.exit_code import PASSED, STOPPED, Outcome, exit_code
from emt_plugin.records import PairKey, PairRecord, RunPlace
from emt_plugin.records.adjusting import adjusted
from emt_plugin.report.words.verdicts import verdict_line
from emt_plugin.session.asked import Asked, Options
from emt_plugin.session.ending import Beginning, all_pairs, begin, incomplete, record_of, rows_of, status_of, write_run
from emt_plugin.session.engines import engine_of
from emt_plugin.session.environment import call, describe
from emt_plugin.session.options import build_settings
from emt_plugin.settings import Settings, pair_key

Name = str | Path
LOG = logging.getLogger("emt_plugin")
# The options whose names say one of them, where the keyword says all.
ONE_OF = {"image_sets": "image_set", "scorers": "scorer", "checkpoints": "checkpoint", "images": "image"}
SEVERAL = ("model", "trained_on", *ONE_OF)


def evaluate(
    model: Name | Sequence[Name] | None = None,
    image_sets: Name | Sequence[Name] | None = None,
    *,
    encoder: Name | None = None,
    reference: Name | None = None,
    checkpoints: Name | Sequence[Name] | None = None,
    trained_on: str | Sequence[str] | None = None,
    revision: str | None = None,
    catalog: Name | None = None,
    scorers: str | Sequence[str] | None = None,
    label_score: Literal["sum", "mean"] | None = None,
    calibrate: bool = False,
    probe_images: int | None = None,
    limit: int | None = None,
    images: str | Sequence[str] | None = None,
    repeat: int | None = None,
    half: Literal[1, 2] | None = None,
    early_stop: bool = False,
    tolerance: float | None = None,
    tolerances: Name | None = None,
    batch_size: int | None = None,
    dtype: Literal["float32", "bfloat16", "float16"] | None = None,
    device: str | None = None,
    attention: str | None = None,
    generation: Literal["own", "checkpoint"] | None = None,
    memory: int | str | None = None,
    max_cost: float | None = None,
    store: Literal["use", "refresh", "off"] | None = None,
    store_dir: Name | None = None,
    store_size: int | str | None = None,
    engine: Literal["process", "ray"] | None = None,
    actors: int | None = None,
    actor_gpus: float | None = None,
    actor_cpus: float | None = None,
    actor_wait: float | None = None,
    compare: Name | None = None,
    history: Name | None = None,
    report: Literal["single", "dir"] | None = None,
    reports: Name | None = None,
) -> Run:
    """Gate models on image sets as ``pytest benchmarks`` does, and write the same run.

    Every keyword is the option of its name (``limit`` is ``--emt-limit``, ``image_sets`` all that ``--emt-image-set`` says),
    has its default, and is checked as that is. Relative folders are meant from the working directory, and so is
    ``benchmarks/tolerances.toml``, where it is there. Nothing of pytest's settings is read.

    A pair that could not run is recorded as that, and the others go on. Ctrl-C writes what was measured before it goes on up.
    What a person who waits should know, each pair's verdict among it, goes to ``logging.getLogger("emt_plugin")`` as INFO, and
    a fault with its traceback as ERROR.

    Args:
        model: catalog names, folders, hub ids or ``endpoint:NAME``; None for ``llava-mini``.
        image_sets: catalog names, parquet files, folders or hub ids; None for the models' own lists.
        encoder: the models' vision encoder: a folder or a hub id; None for the catalog's.
        reference: the model to gate against, or ``probe``; None for the models' own encoder.
        checkpoints: patterns of folders: states of the one model to gate against it.
        trained_on: ids of the image sets that the checkpoints were trained on; None for what they say.
        revision: hub revision of the models.
        catalog: TOML file with more models and image sets.
        scorers: ``answer``, ``likelihood``, ``text-embedding``, ``judge`` or a plugin's, the one that gates first.
        label_score: likelihood of a label as the ``sum`` or the ``mean`` over its tokens.
        calibrate: likelihood of a label less its likelihood under a mean-grey image.
        probe_images: training images of each class that linear probes are fitted on; 0 for no probe.
        limit: images of each set, the first in the fixed order.
        images: beginnings of the hashes of the only images.
        repeat: how often each image is measured.
        half: one half of the images alone; ``emt mend`` chooses by 1 and promises on 2.
        early_stop: stop at the first image that settles the verdict.
        tolerance: the largest loss that passes, a fraction in (0, 1); sets accepted losses aside.
        tolerances: TOML file of tolerances and accepted losses.
        batch_size: images in one forward at most.
        dtype: of the weights.
        device: ``cpu``, ``cuda``, ``cuda:1`` or ``mps``.
        attention: implementation of attention.
        generation: greedy answers by our ``own`` settings, or by those of the ``checkpoint``.
        memory: bytes that models on one device may take, a number or such as ``20GB``.
        max_cost: US dollars that models behind endpoints may cost.
        store: ``use`` what was computed before, ``refresh`` it, or keep nothing with ``off``.
        store_dir: where computed results are kept.
        store_size: bytes that stored vision features may take.
        engine: where models run: in this ``process``, or with ``ray`` in actors of a Ray cluster.
        actors: how many of them.
        actor_gpus: GPUs of each.
        actor_cpus: CPUs of each.
        actor_wait: seconds to wait where the cluster has room for none.
        compare: an earlier run to set it beside: folder, id, the beginning of one, or ``latest``.
        history: file that the run is appended to.
        report: ``single`` for one file, ``dir`` for a page with assets beside it.
        reports: folder in which the run gets its own.

    Returns:
        The run, read from its folder; its ``exit_code`` is what the gate would exit with.

    Raises:
        UsageError: a name is not known or a value means nothing, in the sentence that the option has for it.
        CouldNotRun: the run could not be written, so it does not count.
    """
    asked = {name: value for name, value in locals().items() if value is not None and value is not False}
    settings = build_settings(Asked(_options(asked), Path.cwd(), Path.cwd()))
    _check_reach(settings)
    beginning = begin(settings)
    try:
        return _run(settings, beginning, describe(Path.cwd(), command=call("emt.evaluate", asked)))
    finally:
        beginning.claim.leave()


def _options(asked: dict[str, Any]) -> Options:
    """The options that somebody would have typed."""
    found: dict[str, Any] = {}
    for name, value in asked.items():
        option = f"emt_{ONE_OF.get(name, name)}"
        if name in SEVERAL:
            # No name at all is no question, as an empty one is none.
            found[option] = [str(one) for one in ([value] if isinstance(value, str | Path) else value)] or [""]
        else:
            found[option] = value if value is True else str(value)
    return Options(**{"emt_calibrate": False, "emt_early_stop": False, "emt_update_tolerances": False, **found})


def _check_reach(settings: Settings) -> None:
    """Say which image sets are asked where nobody said so, and end before anything runs where none can be had.

    Raises:
        UsageError: none of them is here, and the hub is out of reach.
    """
    if not settings.unasked:
        return
    from emt_plugin.session.reach import asked_unasked, out_of_reach

    LOG.info("%s", asked_unasked(settings.unasked))
    why_not = out_of_reach(settings.catalog, settings.unasked)
    if why_not:
        raise UsageError(why_not)


def _run(settings: Settings, beginning: Beginning, environment: dict[str, Any]) -> Run:
    """Measure and write.

    Raises:
        CouldNotRun: it could not be written.
        KeyboardInterrupt: somebody stopped it, and what was measured is written.
    """
    records: dict[PairKey, PairRecord] = {}
    stopped: BaseException | None = None
    try:
        for pair in _measured(settings, beginning.folder):
            records[pair.key] = pair
            LOG.info("%s", verdict_line(pair))
    except KeyboardInterrupt as interrupt:
        stopped = interrupt
    _written(settings, beginning, records, environment, stopped is not None)
    if stopped:
        raise stopped
    LOG.info("report: %s", beginning.folder / "report.html")
    return load_run(beginning.folder)


def _measured(settings: Settings, folder: Path) -> Iterable[PairRecord]:
    """A record of each pair, once it was measured or could not run."""
    from emt_plugin.evaluation import Evaluator
    from emt_plugin.evaluation.progress import told_progress

    def say(text: str) -> None:
        LOG.info("%s", text)

    evaluator = Evaluator(settings, RunPlace(folder, "main"), say, told_progress(say), engine_of(settings, say))
    try:
        for model, image_set in settings.pairs:
            key = pair_key(model, image_set)
            try:
                found = evaluator.model(model)
                yield evaluator.measure(found, evaluator.image_set(image_set))
            except CouldNotRun as error:
                yield PairRecord(key, status=status_of(error), reason=str(error))
            except Exception as error:
                LOG.exception("%s: could not run", key.id)
                yield PairRecord(key, status="could-not-run", reason=f"{type(error).__name__}, see its traceback in the log")
    finally:
        evaluator.close()


def _written(
    settings: Settings,
    beginning: Beginning,
    records: dict[PairKey, PairRecord],
    environment: dict[str, Any],
    stopped: bool,
) -> None:
    """Write the run.

    Raises:
        CouldNotRun: it could not be written.
    """
    found, journalled = all_pairs(settings.keys, records, beginning.folder / "journal")
    pairs = adjusted(found)
    unmeasured = any(pair.gating is None for pair in pairs)
    verdicts = {pair.gating.verdict for pair in pairs if pair.gating}
    code = exit_code(Outcome(STOPPED if stopped else PASSED, stopped, unmeasured, False, verdicts))
    run = record_of(
        beginning, settings, pairs, complete=not (unmeasured or stopped), code=code, faults=(), environment=environment
    )
    try:
        write_run(run, rows_of(journalled), settings, beginning.folder)
    except Exception as error:
        with suppress(OSError):
            incomplete(run, str(error)).write(beginning.folder)
        raise CouldNotRun(f"the run could not be written ({error}), so it does not count") from error
