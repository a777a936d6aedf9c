"""Options and ini settings become Settings; whatever is wrong with them is a usage error with what to write."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from emt_plugin.catalog import Catalog, CatalogError, ImageSetSpec, ModelSpec, TrajectorySpec, display, trajectories
from emt_plugin.gate import Tolerances, TolerancesError
from emt_plugin.gate.tolerances import ACCEPTED_BY, accepted_of, parse_tolerance, refuse_inline_tables
from emt_plugin.models.registry import BackendError, backend_factory
from emt_plugin.pytest_plugin.home import home_of
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
HALVES = ("1", "2")
# What needs the same number of images each time, and why.
EARLY_STOP_WITHOUT = {
    "emt_checkpoint": "the states of a trajectory are compared on the same images",
    "emt_update_tolerances": "a loss is accepted on a fixed number of images",
    "emt_repeat": "what flips is counted on a fixed number of images",
    "emt_image": "it looks at single images out of their order",
}


def build_settings(config: pytest.Config) -> Settings:
    """Settings from options > ini > catalog.

    Raises:
        pytest.UsageError: a name that is not known, or a value that means nothing.
    """
    try:
        return _build(config)
    except (CatalogError, TolerancesError, ScorerError, BackendError) as error:
        raise pytest.UsageError(f"emt: {error}") from None


def _build(config: pytest.Config) -> Settings:
    option = config.option
    for name, value in vars(option).items():
        # A shell variable that is not set must not turn a question into another one.
        if name.startswith("emt_") and (value == "" or (isinstance(value, list) and "" in value)):
            raise pytest.UsageError(f"emt: --{name.replace('_', '-')} is empty; give it a value or leave it out")
    catalog = Catalog.load(Path(option.emt_catalog) if option.emt_catalog else None)
    names = option.emt_model or config.getini("emt_model") or [DEFAULT_MODEL]
    models = catalog.models_named(names, option.emt_encoder, option.emt_revision)
    probe_gates = option.emt_reference == PROBE
    reference = catalog.model(option.emt_reference, None, None) if option.emt_reference and not probe_gates else None
    if reference and reference.weights in {model.weights for model in models}:
        raise pytest.UsageError(f"emt: --emt-reference {option.emt_reference} is the model itself; name another")
    for model in (*models, *([reference] if reference else [])):
        backend_factory(model.backend)
    if option.emt_revision and all(Path(model.source).exists() for model in models):
        raise pytest.UsageError(
            f"emt: --emt-revision {option.emt_revision} is of a hub's repository, and {models[0].source} is a folder: "
            f"leave it out"
        )
    if _money(option.emt_max_cost):
        _check_prices([*models, *([reference] if reference else [])])
    runs = _trajectories(config, catalog, models)
    if runs:
        reference = runs[0].base
        models = (reference, *(state.model for run in runs for state in run.states))
    tolerances = _tolerances_file(config)
    override = parse_tolerance(option.emt_tolerance) if option.emt_tolerance else None
    read = Tolerances.load(tolerances if tolerances and tolerances.exists() else None, override)
    scoring = _scoring(config, probe_gates)
    probed = [model.name for model in models if model.reference == "probe"]
    if probed and not reference and not scoring.probe_images:
        raise pytest.UsageError(f"emt: {probed[0]} is compared with a probe; leave --emt-probe-images 0 out")
    if option.emt_update_tolerances and runs:
        raise pytest.UsageError(
            "emt: --emt-update-tolerances accepts no loss of a checkpoint, whose name the next run will have again; "
            "leave one of the two out"
        )
    if option.emt_update_tolerances and scoring.scorers[0] != ACCEPTED_BY:
        raise pytest.UsageError(
            f"emt: --emt-update-tolerances accepts losses of the scorer '{ACCEPTED_BY}' alone; name it first"
        )
    if option.emt_update_tolerances:
        if tolerances is None:
            raise pytest.UsageError("emt: --emt-update-tolerances needs a file of your own: name it with --emt-tolerances FILE")
        if not tolerances.parent.is_dir():
            raise pytest.UsageError(f"emt: no folder {tolerances.parent} to write {tolerances.name} into; make it first")
        refuse_inline_tables(tolerances)
    for name in ("emt_history", "emt_update_tolerances"):
        if option.emt_image and getattr(option, name):
            other = f"--{name.replace('_', '-')}"
            raise pytest.UsageError(f"emt: --emt-image looks at single images, which have no place in {other}; leave one out")
    image_sets = option.emt_image_set or config.getini("emt_image_set")
    pairs, shard = _sharded(option.emt_shard, _pairs(catalog, models, image_sets))
    if shard and runs:
        raise pytest.UsageError("emt: --emt-shard would part a trajectory from its base; leave it out with --emt-checkpoint")
    settings = Settings(
        catalog=catalog,
        pairs=pairs,
        reference=reference,
        trajectories=runs,
        tolerances=read,
        tolerances_file=tolerances,
        compute=_compute(config),
        scoring=scoring,
        store=_storing(config),
        report=_reporting(config),
        shard=shard,
        update_tolerances=option.emt_update_tolerances,
        unasked=() if image_sets else tuple(model for model in models if catalog.chose_image_sets(model)),
        given={name.removeprefix("emt_"): value for name, value in sorted(vars(option).items())
               if name.startswith("emt_") and value not in (None, False)},
    )  # fmt: skip
    if option.emt_early_stop:
        _check_early_stop(option, settings)
    return settings


def _trajectories(config: pytest.Config, catalog: Catalog, models: tuple[ModelSpec, ...]) -> tuple[TrajectorySpec, ...]:
    option = config.option
    if not option.emt_checkpoint:
        if option.emt_trained_on:
            raise pytest.UsageError("emt: --emt-trained-on tells of checkpoints; name those with --emt-checkpoint")
        return ()
    if len(models) > 1:
        raise pytest.UsageError("emt: --emt-checkpoint needs the one model that the checkpoints started from; name one model")
    if models[0].endpoint:
        raise pytest.UsageError(
            f"emt: {models[0].name} is behind an endpoint, which serves no checkpoints; serve one, and name it with --model"
        )
    if models[0].adapter:
        raise pytest.UsageError(f"emt: {models[0].name} is an adapter; name the base that the checkpoints are of with --model")
    if option.emt_reference:
        raise pytest.UsageError(
            "emt: checkpoints are compared with the model that they started from; leave --emt-reference out"
        )
    named = [name.strip() for names in option.emt_trained_on or () for name in names.split(",")]
    known = catalog.image_sets_named(named)
    return trajectories(catalog, models[0], option.emt_checkpoint, [known[name].id for name in named])


def _check_early_stop(option: Any, settings: Settings) -> None:
    """Refuse to stop early what has to be measured whole.

    Raises:
        pytest.UsageError: another option, an accepted loss or a probe needs all of the images.
    """
    for name, reason in EARLY_STOP_WITHOUT.items():
        if getattr(option, name):
            raise pytest.UsageError(
                f"emt: --emt-early-stop does not go with --{name.replace('_', '-')}, since {reason}; leave one of the two out"
            )
    for model, image_set in settings.pairs:
        kind, scorer = settings.reference_kind(model), settings.scoring.scorers[0]
        if kind == PROBE:
            raise pytest.UsageError(
                f"emt: --emt-early-stop needs a reference that is known image by image, and the probe of {model.name} is "
                f"fitted on all of them; leave one of the two out, or compare with a model: --emt-reference MODEL"
            )
        of = accepted_of(display(model.adapter or model.source), display(image_set.source))
        if settings.tolerances.of(model.id, image_set.id, kind, scorer=scorer, of=of).accepted:
            raise pytest.UsageError(
                f"emt: --emt-early-stop does not go with the accepted loss of {model.id}/{image_set.id}, which is of a fixed "
                f"number of images; set it aside with --emt-tolerance, or leave one of the two out"
            )


def check_throughput(config: pytest.Config) -> None:
    """Refuse to time what cannot be timed.

    Raises:
        pytest.UsageError: pytest-benchmark is not there, or workers would share the machine.
    """
    if getattr(config.option, "numprocesses", None):
        raise pytest.UsageError("emt: --emt-throughput needs the machine for itself; leave -n out")
    if not config.pluginmanager.hasplugin("benchmark"):
        raise pytest.UsageError("emt: --emt-throughput needs pytest-benchmark: pip install 'pytest-emt[throughput]'")


def _pairs(catalog: Catalog, models: tuple[ModelSpec, ...], image_sets: list[str]) -> Pairs:
    specs = catalog.image_sets_named(image_sets or [name for model in models for name in model.image_sets])
    pairs = ((model, specs[name]) for model in models for name in image_sets or model.image_sets)
    return tuple(dict.fromkeys(pairs))


def _compute(config: pytest.Config) -> Compute:
    option = config.option
    if option.emt_dtype and option.emt_dtype not in DTYPES:
        raise pytest.UsageError(f"emt: unknown dtype '{option.emt_dtype}'; known: {', '.join(DTYPES)}")
    if option.emt_device and not re.fullmatch(r"cpu|mps|cuda(:\d+)?", option.emt_device):
        raise pytest.UsageError(f"emt: unknown device '{option.emt_device}'; write cpu, cuda, cuda:1 or mps")
    if option.emt_generation not in (None, *GENERATIONS):
        raise pytest.UsageError(f"emt: unknown --emt-generation '{option.emt_generation}'; known: {', '.join(GENERATIONS)}")
    limit = _count(option.emt_limit or config.getini("emt_limit"), "--emt-limit")
    return Compute(
        limit=limit or DEFAULT_LIMIT,
        half=_half(option),
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


def _half(option: Any) -> int | None:
    if option.emt_half is None:
        return None
    if option.emt_half not in HALVES:
        raise pytest.UsageError(f"emt: --emt-half {option.emt_half} is neither half; write 1 or 2")
    if option.emt_image:
        raise pytest.UsageError("emt: --emt-image names its images, whatever their half; leave --emt-half out")
    return int(option.emt_half)


def _money(text: str | None) -> float | None:
    if text is None:
        return None
    if not re.fullmatch(r"\d+(\.\d+)?", text) or not float(text):
        raise pytest.UsageError(f"emt: --emt-max-cost {text} is no amount of US dollars; write such as 2.50")
    return float(text)


def _check_prices(models: Sequence[ModelSpec]) -> None:
    """Refuse a limit of what nobody can count."""
    asked = [model for model in models if model.endpoint]
    if not asked:
        raise pytest.UsageError("emt: --emt-max-cost is for models behind endpoints, and there is none; leave it out")
    for model in asked:
        if model.endpoint and (model.endpoint.price_in is None or model.endpoint.price_out is None):
            raise pytest.UsageError(
                f"emt: --emt-max-cost needs price_in and price_out, US dollars for a million tokens, in the endpoint of "
                f"{model.name} in the catalog"
            )


def _scoring(config: pytest.Config, probe_gates: bool) -> Scoring:
    option = config.option
    named = [name.strip() for names in option.emt_scorer or () for name in names.split(",")]
    scorers = tuple(dict.fromkeys(named)) or Scoring().scorers
    for name in scorers:
        scorer_factory(name)
    rule = option.emt_label_score or "sum"
    if rule not in RULES:
        raise pytest.UsageError(f"emt: unknown --emt-label-score '{rule}'; known: {', '.join(RULES)}")
    if (option.emt_label_score or option.emt_calibrate) and "likelihood" not in scorers:
        raise pytest.UsageError(
            "emt: --emt-label-score and --emt-calibrate are for the scorer 'likelihood'; add it to --emt-scorer"
        )
    images = option.emt_probe_images
    if images is not None and not re.fullmatch(r"\d+", str(images)):
        raise pytest.UsageError(
            f"emt: --emt-probe-images {images} is not a number of images; write a whole number, 0 for no probe"
        )
    if probe_gates and images is not None and int(images) == 0:
        raise pytest.UsageError("emt: --emt-reference probe needs probes; leave --emt-probe-images 0 out")
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
        raise pytest.UsageError(f"emt: {error}") from None


def _storing(config: pytest.Config) -> Storing:
    option = config.option
    mode = option.emt_store or "use"
    if mode not in MODES:
        raise pytest.UsageError(f"emt: unknown --emt-store '{mode}'; known: {', '.join(MODES)}")
    return Storing(
        folder=home_of(config) / (option.emt_store_dir or config.getini("emt_store_dir") or DEFAULT_FOLDER),
        mode=mode,
        most_bytes=_bytes(option.emt_store_size, "--emt-store-size") if option.emt_store_size else DEFAULT_STORE_BYTES,
    )


def _reporting(config: pytest.Config) -> Reporting:
    option = config.option
    mode = next((mode for mode in REPORT_MODES if mode == (option.emt_report or "single")), None)
    if mode is None:
        raise pytest.UsageError(f"emt: unknown --emt-report '{option.emt_report}'; known: {', '.join(REPORT_MODES)}")
    compare = config.invocation_params.dir / option.emt_compare if option.emt_compare else None
    if compare:
        from emt_plugin.records import RecordError, RunRecord

        try:
            RunRecord.read(compare)
        except RecordError as error:
            raise pytest.UsageError(f"emt: --emt-compare: {error}") from None
    return Reporting(
        folder=home_of(config) / (option.emt_reports or config.getini("emt_reports") or "reports"),
        mode=mode,
        compare=compare,
        history=config.invocation_params.dir / option.emt_history if option.emt_history else None,
    )


def _images(named: Sequence[str]) -> tuple[str, ...]:
    for text in named:
        if not re.fullmatch(r"[0-9a-f]{6,64}", text):
            raise pytest.UsageError(
                f"emt: --emt-image {text} is no beginning of an image's hash; "
                f"write 6 or more of the digits that the report shows"
            )
    return tuple(named)


def _sharded(text: str | None, pairs: Pairs) -> tuple[Pairs, Shard | None]:
    """Every N-th pair from the K-th on, so that no part gets all of the large image sets."""
    if text is None:
        return pairs, None
    found = re.fullmatch(r"([1-9]\d*)/([1-9]\d*)", text)
    if not found or int(found[1]) > int(found[2]):
        raise pytest.UsageError(f"emt: --emt-shard {text} names no part; write such as 1/4 for the first of four")
    index, count = int(found[1]), int(found[2])
    if count > len(pairs):
        raise pytest.UsageError(f"emt: --emt-shard {text}: there are {len(pairs)} pairs, so at most {len(pairs)} parts")
    return pairs[index - 1 :: count], Shard(index, count, tuple(pair_key(*pair).id for pair in pairs))


def _count(text: Any, name: str, of: str = "images") -> int | None:
    if text in (None, ""):
        return None
    if not re.fullmatch(r"[1-9]\d*", str(text)):
        raise pytest.UsageError(f"emt: {name} {text} is not a number of {of}; write a whole number of at least 1")
    return int(text)


def _bytes(text: str, name: str) -> int:
    try:
        return sizes.parsed(text)
    except sizes.SizeError as error:
        raise pytest.UsageError(f"emt: {name} {error}") from None


def _tolerances_file(config: pytest.Config) -> Path | None:
    """The file named by option or ini; else the one beside the project's own benchmarks. A package brings no policy along."""
    named = config.option.emt_tolerances or config.getini("emt_tolerances")
    if named:
        path = Path(named) if config.option.emt_tolerances else home_of(config) / named
        if not path.exists() and not config.option.emt_update_tolerances:
            raise pytest.UsageError(f"emt: no tolerances file at {path}; make it, or let --emt-update-tolerances make it")
        return path
    own = home_of(config) / "benchmarks" / "tolerances.toml"
    return own if own.exists() else None
