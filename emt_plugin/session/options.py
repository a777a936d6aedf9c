"""Options and ini settings become Settings; whatever is wrong with them is a usage error with what to write."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from emt_plugin.catalog import Catalog, CatalogError, ImageSetSpec, ModelSpec, TrajectorySpec, display, trajectories
from emt_plugin.errors import UsageError
from emt_plugin.gate import Tolerances, TolerancesError
from emt_plugin.gate.tolerances import ACCEPTED_BY, accepted_of, parse_tolerance, refuse_inline_tables
from emt_plugin.models.registry import BackendError, backend_factory
from emt_plugin.options.listed import BY_DEST
from emt_plugin.records import Shard
from emt_plugin.scoring import ScorerError, scorer_factory
from emt_plugin.scoring.judge_address import JudgeAddress
from emt_plugin.session.asked import Asked
from emt_plugin.settings import (
    DEFAULT_LIMIT,
    DEFAULT_MODEL,
    DEFAULT_PROBE_IMAGES,
    DEFAULT_STORE_BYTES,
    DTYPES,
    GENERATIONS,
    REPORT_MODES,
    Cluster,
    Compute,
    Reporting,
    Scoring,
    Settings,
    Storing,
    pair_key,
)
from emt_plugin.store import DEFAULT_FOLDER, MODES, byte_sizes

Pairs = tuple[tuple[ModelSpec, ImageSetSpec], ...]
RULES = ("sum", "mean")
PROBE = "probe"
HALVES = ("1", "2")
ENGINES = ("process", "ray")
ACTOR_OPTIONS = ("emt_actors", "emt_actor_gpus", "emt_actor_cpus", "emt_actor_wait")
# What needs the same number of images each time, and why.
EARLY_STOP_WITHOUT = {
    "emt_checkpoint": "the states of a trajectory are compared on the same images",
    "emt_update_tolerances": "a loss is accepted on a fixed number of images",
    "emt_repeat": "what flips is counted on a fixed number of images",
    "emt_image": "it looks at single images out of their order",
}
# What needs all images of a pair in one run, and why.
BY_IMAGES_WITHOUT = {
    "emt_checkpoint": "a trajectory is drawn from all images of its states",
    "emt_early_stop": "it stops by the outcomes of all images in their order",
    "emt_image": "it looks at single images out of their order",
    "emt_update_tolerances": "a part of a pair has no loss to accept",
    "emt_history": "a part of a pair has no place there, and `emt merge --history` gives it one",
    "emt_compare": "a part of a pair is no earlier pair, and `emt merge --compare` has the whole",
    "emt_throughput": "it measures no pair",
}


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
    with asked.naming("emt_catalog"):
        catalog = Catalog.load(asked.path("emt_catalog") if asked.by_ini("emt_catalog") else _path(option.emt_catalog))
    with asked.naming("emt_model", "emt_encoder"):
        models = catalog.models_named(asked.emt_model or [DEFAULT_MODEL], asked.emt_encoder, option.emt_revision)
    # A project's own reference is for models; checkpoints have one, which is their base.
    against = option.emt_reference if option.emt_checkpoint else asked.emt_reference
    probe_gates = against == PROBE
    with asked.naming("emt_reference"):
        reference = catalog.model(against, None, None) if against and not probe_gates else None
        if reference and reference.weights in {model.weights for model in models}:
            raise UsageError(f"--emt-reference {against} is the model itself; name another")
    for model in (*models, *([reference] if reference else [])):
        backend_factory(model.backend)
    if option.emt_revision and all(Path(model.source).exists() for model in models):
        raise UsageError(
            f"--emt-revision {option.emt_revision} is of a hub's repository, and {models[0].source} is a folder: leave it out"
        )
    with asked.naming("emt_max_cost"):
        every = [*models, *([reference] if reference else [])]
        if _money(asked.emt_max_cost) and not (asked.by_ini("emt_max_cost") and not any(model.endpoint for model in every)):
            _check_prices(every)
    runs = _trajectories(asked, catalog, models)
    if runs:
        reference = runs[0].base
        models = (reference, *(state.model for run in runs for state in run.states))
    with asked.naming("emt_tolerance"):
        override = parse_tolerance(asked.emt_tolerance) if asked.emt_tolerance else None
    with asked.naming("emt_tolerances"):
        tolerances = _tolerances_file(asked)
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
    image_sets = asked.emt_image_set or []
    with asked.naming("emt_image_set", "emt_limit"):
        pairs, shard = _sharded(asked, _pairs(catalog, models, image_sets), _limit(asked))
    if shard and runs:  # By images that was refused with its own reason.
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
        cluster=_cluster(asked, models),
        update_tolerances=option.emt_update_tolerances,
        unasked=() if image_sets else tuple(model for model in models if catalog.chose_image_sets(model)),
        given=given,
    )
    if settings.compute.early_stop:
        with asked.naming("emt_early_stop"):
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
    with asked.naming("emt_dtype"):
        if asked.emt_dtype and asked.emt_dtype not in DTYPES:
            raise UsageError(f"unknown dtype '{asked.emt_dtype}'; known: {', '.join(DTYPES)}")
    with asked.naming("emt_device"):
        if asked.emt_device and not re.fullmatch(r"cpu|mps|cuda(:\d+)?", asked.emt_device):
            raise UsageError(f"unknown device '{asked.emt_device}'; write cpu, cuda, cuda:1 or mps")
    with asked.naming("emt_generation"):
        if asked.emt_generation not in (None, *GENERATIONS):
            known = ", ".join(GENERATIONS)
            raise UsageError(f"unknown --emt-generation '{asked.emt_generation}'; known: {known}")
    # A project that stops early by itself still measures whole what has to be measured whole.
    whole = asked.by_ini("emt_early_stop") and any(getattr(asked, name) for name in EARLY_STOP_WITHOUT)
    return Compute(
        limit=_limit(asked),
        half=_half(asked.option),
        images=_images(asked.emt_image or ()),
        early_stop=asked.emt_early_stop and not whole,
        repeat=_count(asked, "emt_repeat", "times") or 1,
        batch_size=_count(asked, "emt_batch_size"),
        dtype=asked.emt_dtype,
        device=asked.emt_device,
        memory=_bytes(asked, "emt_memory"),
        attention=asked.emt_attention,
        generation="checkpoint" if asked.emt_generation == "checkpoint" else "own",
        max_cost=_money(asked.emt_max_cost),
    )


def _cluster(asked: Asked, models: Sequence[ModelSpec]) -> Cluster | None:
    """The Ray cluster that was asked for.

    Raises:
        UsageError: it does not go with another option, or Ray is not installed.
    """
    with asked.naming("emt_engine"):
        if asked.emt_engine not in (None, *ENGINES):
            raise UsageError(f"unknown --emt-engine '{asked.emt_engine}'; known: {', '.join(ENGINES)}")
    if asked.emt_engine != "ray":
        given = [BY_DEST[name].flag for name in ACTOR_OPTIONS if getattr(asked.option, name) is not None]
        if given:
            raise UsageError(f"{given[0]} is for --emt-engine ray; add that or leave it out")
        return None
    with asked.naming("emt_engine", "emt_device", *ACTOR_OPTIONS):
        _check_ray(asked, models)
        gpus = _amount(asked, "emt_actor_gpus", "GPUs")
        if gpus is not None and gpus > 1:
            raise UsageError(
                f"--emt-actor-gpus {asked.emt_actor_gpus}: a model runs on one GPU; write 1 or a share such as 0.5"
            )
    default = Cluster()
    return Cluster(
        address=os.environ.get("RAY_ADDRESS") or None,
        actors=_count(asked, "emt_actors", "actors"),
        gpus=gpus,
        cpus=_amount(asked, "emt_actor_cpus", "CPUs") or default.cpus,
        wait_seconds=_amount(asked, "emt_actor_wait", "seconds") or default.wait_seconds,
    )


def _check_ray(asked: Asked, models: Sequence[ModelSpec]) -> None:
    """Refuse what Ray's actors cannot do, or need not.

    Raises:
        UsageError: there is something of that kind, or Ray is not installed.
    """
    if getattr(asked.option, "numprocesses", None):
        raise UsageError("--emt-engine ray has its own actors, beside which workers of -n would only wait; leave -n out")
    if find_spec("ray") is None:
        raise UsageError("--emt-engine ray needs Ray: pip install 'pytest-emt[ray]'")
    if ":" in (asked.emt_device or ""):
        raise UsageError("with --emt-engine ray it is Ray that chooses a GPU; write --emt-device cuda")
    if all(model.endpoint for model in models):
        raise UsageError("models behind endpoints need no --emt-engine ray, since they run elsewhere; leave it out")


def _amount(asked: Asked, name: str, of: str) -> float | None:
    text = getattr(asked, name)
    if text is None:
        return None
    with asked.naming(name):
        if not re.fullmatch(r"\d+(\.\d+)?", text) or not float(text):
            raise UsageError(f"{BY_DEST[name].flag} {text} is not a number of {of}; write such as 1 or 0.5")
    return float(text)


def _half(option: Any) -> int | None:
    if option.emt_half is None:
        return None
    if option.emt_half not in HALVES:
        raise UsageError(f"--emt-half {option.emt_half} is neither half; write 1 or 2")
    if option.emt_image:
        raise UsageError("--emt-image names its images, whatever their half; leave --emt-half out")
    return int(option.emt_half)


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
    named = [name.strip() for names in asked.emt_scorer or () for name in names.split(",")]
    scorers = tuple(dict.fromkeys(named)) or Scoring().scorers
    with asked.naming("emt_scorer"):
        for name in scorers:
            scorer_factory(name)
    rule = asked.emt_label_score or "sum"
    with asked.naming("emt_label_score"):
        if rule not in RULES:
            raise UsageError(f"unknown --emt-label-score '{rule}'; known: {', '.join(RULES)}")
    with asked.naming("emt_label_score", "emt_calibrate"):
        if (asked.emt_label_score or asked.emt_calibrate) and "likelihood" not in scorers:
            raise UsageError("--emt-label-score and --emt-calibrate are for the scorer 'likelihood'; add it to --emt-scorer")
    images = asked.emt_probe_images
    with asked.naming("emt_probe_images"):
        if images is not None and not re.fullmatch(r"\d+", str(images)):
            raise UsageError(f"--emt-probe-images {images} is not a number of images; write a whole number, 0 for no probe")
        if probe_gates and images is not None and int(images) == 0:
            raise UsageError("--emt-reference probe needs probes; leave --emt-probe-images 0 out")
    return Scoring(
        scorers=scorers,
        rule="mean" if rule == "mean" else "sum",
        calibrated=asked.emt_calibrate,
        probe_images=DEFAULT_PROBE_IMAGES if images is None else int(images),
        probe_gates=probe_gates,
        judge=_judge() if "judge" in scorers else None,
    )


def _judge() -> Any:
    try:
        return JudgeAddress.of_environment()
    except ValueError as error:
        raise UsageError(str(error)) from None


def _storing(asked: Asked) -> Storing:
    mode = asked.emt_store or "use"
    with asked.naming("emt_store"):
        if mode not in MODES:
            raise UsageError(f"unknown --emt-store '{mode}'; known: {', '.join(MODES)}")
    return Storing(
        folder=asked.home / (asked.emt_store_dir or DEFAULT_FOLDER),
        mode=mode,
        most_bytes=_bytes(asked, "emt_store_size") or DEFAULT_STORE_BYTES,
    )


def _reporting(asked: Asked) -> Reporting:
    option = asked.option
    mode = next((mode for mode in REPORT_MODES if mode == (asked.emt_report or "single")), None)
    with asked.naming("emt_report"):
        if mode is None:
            raise UsageError(f"unknown --emt-report '{asked.emt_report}'; known: {', '.join(REPORT_MODES)}")
    folder = asked.home / (asked.emt_reports or "reports")
    compare = _earlier(option, asked.start, folder) if option.emt_compare else None
    return Reporting(
        folder=folder,
        mode=mode,
        compare=compare,
        # Of single images nothing goes into a history, which a project may keep for all of its other runs.
        history=None if option.emt_image and asked.by_ini("emt_history") else asked.path("emt_history"),
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


def _path(text: str | None) -> Path | None:
    return Path(text) if text else None


def _images(named: Sequence[str]) -> tuple[str, ...]:
    for text in named:
        if not re.fullmatch(r"[0-9a-f]{6,64}", text):
            raise UsageError(
                f"--emt-image {text} is no beginning of an image's hash; write 6 or more of the digits that the report shows"
            )
    return tuple(named)


def _sharded(asked: Asked, pairs: Pairs, limit: int) -> tuple[Pairs, Shard | None]:
    """Every N-th pair from the K-th on, so that no part gets all of the large image sets; or all pairs, by images."""
    text, by = asked.emt_shard, asked.emt_shard_by or "pairs"
    if by not in ("pairs", "images"):
        raise UsageError(f"unknown --emt-shard-by '{by}'; known: pairs, images")
    if text is None:
        if asked.emt_shard_by:
            raise UsageError(f"--emt-shard-by {by} says how to part; say into what with --emt-shard K/N")
        return pairs, None
    found = re.fullmatch(r"([1-9]\d*)/([1-9]\d*)", text)
    if not found or int(found[1]) > int(found[2]):
        raise UsageError(f"--emt-shard {text} names no part; write such as 1/4 for the first of four")
    index, count = int(found[1]), int(found[2])
    names = tuple(pair_key(*pair).id for pair in pairs)
    if by == "images":
        _check_by_images(asked, text, count, limit)
        return pairs, Shard(index, count, names, "images")
    if count > len(pairs):
        raise UsageError(f"--emt-shard {text}: there are {len(pairs)} pairs, so at most {len(pairs)} parts")
    return pairs[index - 1 :: count], Shard(index, count, names)


def _check_by_images(asked: Asked, text: str, count: int, limit: int) -> None:
    """Refuse to part the images of what needs them all.

    Raises:
        UsageError: another option does, or a part would have no image.
    """
    for name, reason in BY_IMAGES_WITHOUT.items():
        if getattr(asked, name):
            with asked.naming(name):
                raise UsageError(
                    f"--emt-shard-by images does not go with {BY_DEST[name].flag}, since {reason}; leave one of the two out"
                )
    if count > limit:
        raise UsageError(
            f"--emt-shard {text} by images: there are {limit} images of each set (--emt-limit), so at most {limit} parts"
        )


def _limit(asked: Asked) -> int:
    return _count(asked, "emt_limit") or DEFAULT_LIMIT


def _count(asked: Asked, name: str, of: str = "images") -> int | None:
    text = getattr(asked, name)
    if text is None:
        return None
    with asked.naming(name):
        if not re.fullmatch(r"[1-9]\d*", str(text)):
            flag = BY_DEST[name].flag
            raise UsageError(f"{flag} {text} is not a number of {of}; write a whole number of at least 1")
    return int(text)


def _bytes(asked: Asked, name: str) -> int | None:
    text = getattr(asked, name)
    if text is None:
        return None
    with asked.naming(name):
        try:
            return byte_sizes.parsed(text)
        except byte_sizes.SizeError as error:
            raise UsageError(f"{BY_DEST[name].flag} {error}") from None


def _tolerances_file(asked: Asked) -> Path | None:
    """The file named by option or ini; else the one beside the project's own benchmarks. A package brings no policy along."""
    named = asked.emt_tolerances
    if named:
        path = asked.home / named if asked.by_ini("emt_tolerances") else Path(named)
        if not path.exists() and not asked.option.emt_update_tolerances:
            raise UsageError(f"no tolerances file at {path}; make it, or let --emt-update-tolerances make it")
        return path
    own = asked.home / "benchmarks" / "tolerances.toml"
    return own if own.exists() else None
