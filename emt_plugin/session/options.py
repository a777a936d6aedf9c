"""Options become Settings; whatever is wrong with them is a usage error with what to write."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from emt_plugin.catalog import Catalog, CatalogError, ImageSetSpec, ModelSpec, TrajectorySpec, display, trajectories
from emt_plugin.errors import UsageError
from emt_plugin.gate import Tolerances, TolerancesError
from emt_plugin.gate.tolerances import ACCEPTED_BY, accepted_of, parse_tolerance, refuse_inline_tables
from emt_plugin.models.registry import BackendError, backend_factory
from emt_plugin.records import Shard
from emt_plugin.scoring import ScorerError, scorer_factory
from emt_plugin.scoring.judge_address import JudgeAddress
from emt_plugin.settings import (
    DEFAULT_LIMIT,
    DEFAULT_MODEL,
    DEFAULT_PROBE_IMAGES,
    DEFAULT_STORE_BYTES,
    DTYPES,
    GENERATIONS,
    REPORT_MODES,
    Compute,
    Reporting,
    Scoring,
    Settings,
    Storing,
    pair_key,
)
from emt_plugin.store import DEFAULT_FOLDER, MODES, sizes

Pairs = tuple[tuple[ModelSpec, ImageSetSpec], ...]
RULES = ("sum", "mean")
PROBE = "probe"
# What needs the same number of images each time, and why.
EARLY_STOP_WITHOUT = {
    "emt_checkpoint": "the states of a trajectory are compared on the same images",
    "emt_update_tolerances": "a loss is accepted on a fixed number of images",
    "emt_repeat": "what flips is counted on a fixed number of images",
    "emt_image": "it looks at single images out of their order",
}


class Options(SimpleNamespace):
    """Options by their long names, ``emt_`` before them and underscores in them; what was not given is None."""

    def __getattr__(self, name: str) -> None:
        if not name.startswith("emt_"):
            raise AttributeError(name)


def nothing(name: str) -> None:
    """What ini settings say where there are none."""


@dataclass(frozen=True)
class Asked:
    """What somebody asked for.

    Attributes:
        option: the options, as text where a command line has text.
        home: the folder from which a suite's settings are meant: tolerances, store and reports.
        start: the folder in which it was asked: other files.
        ini: an ini setting by its name.
    """

    option: Any
    home: Path
    start: Path
    ini: Callable[[str], Any] = nothing


def build_settings(asked: Asked) -> Settings:
    """Settings from options > ini > catalog.

    Raises:
        UsageError: a name that is not known, or a value that means nothing.
    """
    try:
        return _build(asked)
    except (CatalogError, TolerancesError, ScorerError, BackendError) as error:
        raise UsageError(str(error)) from None


def _build(asked: Asked) -> Settings:
    option = asked.option
    given = {name.removeprefix("emt_"): value for name, value in sorted(vars(option).items())
             if name.startswith("emt_") and value not in (None, False)}  # fmt: skip
    for name, value in vars(option).items():
        # A shell variable that is not set must not turn a question into another one.
        if name.startswith("emt_") and (value == "" or (isinstance(value, list) and "" in value)):
            raise UsageError(f"--{name.replace('_', '-')} is empty; give it a value or leave it out")
    catalog = Catalog.load(Path(option.emt_catalog) if option.emt_catalog else None)
    names = option.emt_model or asked.ini("emt_model") or [DEFAULT_MODEL]
    models = catalog.models_named(names, option.emt_encoder, option.emt_revision)
    probe_gates = option.emt_reference == PROBE
    reference = catalog.model(option.emt_reference, None, None) if option.emt_reference and not probe_gates else None
    if reference and reference.weights in {model.weights for model in models}:
        raise UsageError(f"--emt-reference {option.emt_reference} is the model itself; name another")
    for model in (*models, *([reference] if reference else [])):
        backend_factory(model.backend)
    if option.emt_revision and all(Path(model.source).exists() for model in models):
        raise UsageError(
            f"--emt-revision {option.emt_revision} is of a hub's repository, and {models[0].source} is a folder: leave it out"
        )
    if _money(option.emt_max_cost):
        _check_prices([*models, *([reference] if reference else [])])
    runs = _trajectories(asked, catalog, models)
    if runs:
        reference = runs[0].base
        models = (reference, *(state.model for run in runs for state in run.states))
    tolerances = _tolerances_file(asked)
    override = parse_tolerance(option.emt_tolerance) if option.emt_tolerance else None
    read = Tolerances.load(tolerances if tolerances and tolerances.exists() else None, override)
    scoring = _scoring(asked, probe_gates)
    probed = [model.name for model in models if model.reference == "probe"]
    if probed and not reference and not scoring.probe_images:
        raise UsageError(f"{probed[0]} is compared with a probe; leave --emt-probe-images 0 out")
    if option.emt_update_tolerances and runs:
        raise UsageError(
            "--emt-update-tolerances accepts no loss of a checkpoint, whose name the next run will have again; "
            "leave one of the two out"
        )
    if option.emt_update_tolerances and scoring.scorers[0] != ACCEPTED_BY:
        raise UsageError(f"--emt-update-tolerances accepts losses of the scorer '{ACCEPTED_BY}' alone; name it first")
    if option.emt_update_tolerances:
        if tolerances is None:
            raise UsageError("--emt-update-tolerances needs a file of your own: name it with --emt-tolerances FILE")
        if not tolerances.parent.is_dir():
            raise UsageError(f"no folder {tolerances.parent} to write {tolerances.name} into; make it first")
        refuse_inline_tables(tolerances)
    for name in ("emt_history", "emt_update_tolerances"):
        if option.emt_image and getattr(option, name):
            other = f"--{name.replace('_', '-')}"
            raise UsageError(f"--emt-image looks at single images, which have no place in {other}; leave one out")
    image_sets = option.emt_image_set or asked.ini("emt_image_set")
    pairs, shard = _sharded(option.emt_shard, _pairs(catalog, models, image_sets))
    if shard and runs:
        raise UsageError("--emt-shard would part a trajectory from its base; leave it out with --emt-checkpoint")
    settings = Settings(
        catalog=catalog,
        pairs=pairs,
        reference=reference,
        trajectories=runs,
        tolerances=read,
        tolerances_file=tolerances,
        compute=_compute(asked),
        scoring=scoring,
        store=_storing(asked),
        report=_reporting(asked),
        shard=shard,
        update_tolerances=option.emt_update_tolerances,
        unasked=() if image_sets else tuple(model for model in models if catalog.chose_image_sets(model)),
        given=given,
    )
    if option.emt_early_stop:
        _check_early_stop(option, settings)
    return settings


def _trajectories(asked: Asked, catalog: Catalog, models: tuple[ModelSpec, ...]) -> tuple[TrajectorySpec, ...]:
    option = asked.option
    if not option.emt_checkpoint:
        if option.emt_trained_on:
            raise UsageError("--emt-trained-on tells of checkpoints; name those with --emt-checkpoint")
        return ()
    if len(models) > 1:
        raise UsageError("--emt-checkpoint needs the one model that the checkpoints started from; name one model")
    if models[0].endpoint:
        raise UsageError(
            f"{models[0].name} is behind an endpoint, which serves no checkpoints; serve one, and name it with --model"
        )
    if models[0].adapter:
        raise UsageError(f"{models[0].name} is an adapter; name the base that the checkpoints are of with --model")
    if option.emt_reference:
        raise UsageError("checkpoints are compared with the model that they started from; leave --emt-reference out")
    named = [name.strip() for names in option.emt_trained_on or () for name in names.split(",")]
    known = catalog.image_sets_named(named)
    return trajectories(catalog, models[0], option.emt_checkpoint, [known[name].id for name in named])


def _check_early_stop(option: Any, settings: Settings) -> None:
    """Refuse to stop early what has to be measured whole.

    Raises:
        UsageError: another option, an accepted loss or a probe needs all of the images.
    """
    for name, reason in EARLY_STOP_WITHOUT.items():
        if getattr(option, name):
            raise UsageError(
                f"--emt-early-stop does not go with --{name.replace('_', '-')}, since {reason}; leave one of the two out"
            )
    for model, image_set in settings.pairs:
        kind, scorer = settings.reference_kind(model), settings.scoring.scorers[0]
        if kind == PROBE:
            raise UsageError(
                f"--emt-early-stop needs a reference that is known image by image, and the probe of {model.name} is "
                f"fitted on all of them; leave one of the two out, or compare with a model: --emt-reference MODEL"
            )
        of = accepted_of(display(model.adapter or model.source), display(image_set.source))
        if settings.tolerances.of(model.id, image_set.id, kind, scorer=scorer, of=of).accepted:
            raise UsageError(
                f"--emt-early-stop does not go with the accepted loss of {model.id}/{image_set.id}, which is of a fixed "
                f"number of images; set it aside with --emt-tolerance, or leave one of the two out"
            )


def _pairs(catalog: Catalog, models: tuple[ModelSpec, ...], image_sets: list[str]) -> Pairs:
    specs = catalog.image_sets_named(image_sets or [name for model in models for name in model.image_sets])
    pairs = ((model, specs[name]) for model in models for name in image_sets or model.image_sets)
    return tuple(dict.fromkeys(pairs))


def _compute(asked: Asked) -> Compute:
    option = asked.option
    if option.emt_dtype and option.emt_dtype not in DTYPES:
        raise UsageError(f"unknown dtype '{option.emt_dtype}'; known: {', '.join(DTYPES)}")
    if option.emt_device and not re.fullmatch(r"cpu|mps|cuda(:\d+)?", option.emt_device):
        raise UsageError(f"unknown device '{option.emt_device}'; write cpu, cuda, cuda:1 or mps")
    if option.emt_generation not in (None, *GENERATIONS):
        raise UsageError(f"unknown --emt-generation '{option.emt_generation}'; known: {', '.join(GENERATIONS)}")
    limit = _count(option.emt_limit or asked.ini("emt_limit"), "--emt-limit")
    return Compute(
        limit=limit or DEFAULT_LIMIT,
        images=_images(option.emt_image or ()),
        early_stop=option.emt_early_stop,
        repeat=_count(option.emt_repeat, "--emt-repeat", "times") or 1,
        batch_size=_count(option.emt_batch_size, "--emt-batch-size"),
        dtype=option.emt_dtype,
        device=option.emt_device,
        memory=_bytes(option.emt_memory, "--emt-memory") if option.emt_memory else None,
        attention=option.emt_attention,
        generation="checkpoint" if option.emt_generation == "checkpoint" else "own",
        max_cost=_money(option.emt_max_cost),
    )


def _money(text: str | None) -> float | None:
    if text is None:
        return None
    if not re.fullmatch(r"\d+(\.\d+)?", text) or not float(text):
        raise UsageError(f"--emt-max-cost {text} is no amount of US dollars; write such as 2.50")
    return float(text)


def _check_prices(models: Sequence[ModelSpec]) -> None:
    """Refuse a limit of what nobody can count."""
    asked = [model for model in models if model.endpoint]
    if not asked:
        raise UsageError("--emt-max-cost is for models behind endpoints, and there is none; leave it out")
    for model in asked:
        if model.endpoint and (model.endpoint.price_in is None or model.endpoint.price_out is None):
            raise UsageError(
                f"--emt-max-cost needs price_in and price_out, US dollars for a million tokens, in the endpoint of "
                f"{model.name} in the catalog"
            )


def _scoring(asked: Asked, probe_gates: bool) -> Scoring:
    option = asked.option
    named = [name.strip() for names in option.emt_scorer or () for name in names.split(",")]
    scorers = tuple(dict.fromkeys(named)) or Scoring().scorers
    for name in scorers:
        scorer_factory(name)
    rule = option.emt_label_score or "sum"
    if rule not in RULES:
        raise UsageError(f"unknown --emt-label-score '{rule}'; known: {', '.join(RULES)}")
    if (option.emt_label_score or option.emt_calibrate) and "likelihood" not in scorers:
        raise UsageError("--emt-label-score and --emt-calibrate are for the scorer 'likelihood'; add it to --emt-scorer")
    images = option.emt_probe_images
    if images is not None and not re.fullmatch(r"\d+", str(images)):
        raise UsageError(f"--emt-probe-images {images} is not a number of images; write a whole number, 0 for no probe")
    if probe_gates and images is not None and int(images) == 0:
        raise UsageError("--emt-reference probe needs probes; leave --emt-probe-images 0 out")
    return Scoring(
        scorers=scorers,
        rule="mean" if rule == "mean" else "sum",
        calibrated=option.emt_calibrate,
        probe_images=DEFAULT_PROBE_IMAGES if images is None else int(images),
        probe_gates=probe_gates,
        judge=_judge() if "judge" in scorers else None,
    )


def _judge() -> Any:
    try:
        return JudgeAddress.of_environment()
    except ValueError as error:
        raise UsageError(f"{error}") from None


def _storing(asked: Asked) -> Storing:
    option = asked.option
    mode = option.emt_store or "use"
    if mode not in MODES:
        raise UsageError(f"unknown --emt-store '{mode}'; known: {', '.join(MODES)}")
    return Storing(
        folder=asked.home / (option.emt_store_dir or asked.ini("emt_store_dir") or DEFAULT_FOLDER),
        mode=mode,
        most_bytes=_bytes(option.emt_store_size, "--emt-store-size") if option.emt_store_size else DEFAULT_STORE_BYTES,
    )


def _reporting(asked: Asked) -> Reporting:
    option = asked.option
    mode = next((mode for mode in REPORT_MODES if mode == (option.emt_report or "single")), None)
    if mode is None:
        raise UsageError(f"unknown --emt-report '{option.emt_report}'; known: {', '.join(REPORT_MODES)}")
    folder = asked.home / (option.emt_reports or asked.ini("emt_reports") or "reports")
    compare = _earlier(option, asked.start, folder) if option.emt_compare else None
    return Reporting(
        folder=folder,
        mode=mode,
        compare=compare,
        history=asked.start / option.emt_history if option.emt_history else None,
    )


def _earlier(option: Any, start: Path, reports: Path) -> Path:
    """The folder of the run to compare with.

    Raises:
        UsageError: there is none, or it cannot be read.
    """
    from emt_plugin.records import RecordError, RunRecord
    from emt_plugin.runs.naming import run_folder

    try:
        found = run_folder(option.emt_compare, reports, start)
        RunRecord.read(found)
    except RecordError as error:
        raise UsageError(f"--emt-compare: {error}") from None
    # Workers are told options: what is the latest must not be another run to each of them.
    option.emt_compare = str(found)
    return found


def _images(named: Sequence[str]) -> tuple[str, ...]:
    for text in named:
        if not re.fullmatch(r"[0-9a-f]{6,64}", text):
            raise UsageError(
                f"--emt-image {text} is no beginning of an image's hash; write 6 or more of the digits that the report shows"
            )
    return tuple(named)


def _sharded(text: str | None, pairs: Pairs) -> tuple[Pairs, Shard | None]:
    """Every N-th pair from the K-th on, so that no part gets all of the large image sets."""
    if text is None:
        return pairs, None
    found = re.fullmatch(r"([1-9]\d*)/([1-9]\d*)", text)
    if not found or int(found[1]) > int(found[2]):
        raise UsageError(f"--emt-shard {text} names no part; write such as 1/4 for the first of four")
    index, count = int(found[1]), int(found[2])
    if count > len(pairs):
        raise UsageError(f"--emt-shard {text}: there are {len(pairs)} pairs, so at most {len(pairs)} parts")
    return pairs[index - 1 :: count], Shard(index, count, tuple(pair_key(*pair).id for pair in pairs))


def _count(text: Any, name: str, of: str = "images") -> int | None:
    if text in (None, ""):
        return None
    if not re.fullmatch(r"[1-9]\d*", str(text)):
        raise UsageError(f"{name} {text} is not a number of {of}; write a whole number of at least 1")
    return int(text)


def _bytes(text: str, name: str) -> int:
    try:
        return sizes.parsed(text)
    except sizes.SizeError as error:
        raise UsageError(f"{name} {error}") from None


def _tolerances_file(asked: Asked) -> Path | None:
    """The file named by option or ini; else the one beside the project's own benchmarks. A package brings no policy along."""
    named = asked.option.emt_tolerances or asked.ini("emt_tolerances")
    if named:
        path = Path(named) if asked.option.emt_tolerances else asked.home / named
        if not path.exists() and not asked.option.emt_update_tolerances:
            raise UsageError(f"no tolerances file at {path}; make it, or let --emt-update-tolerances make it")
        return path
    own = asked.home / "benchmarks" / "tolerances.toml"
    return own if own.exists() else None
