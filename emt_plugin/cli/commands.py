"""``emt``: what is known, what can be fetched, fine-tuning, and a report drawn anew. The gate itself is pytest."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import fields
from datetime import UTC, datetime
from fractions import Fraction
from pathlib import Path

from emt_plugin import __version__
from emt_plugin.catalog import Catalog, CatalogError, ImageSetSpec, ModelSpec
from emt_plugin.catalog.endpoints import PREFIX
from emt_plugin.cli import mend, serve
from emt_plugin.cli.runs import RUN, add_reports, add_run_commands
from emt_plugin.errors import CouldNotRun
from emt_plugin.gate import TolerancesError
from emt_plugin.options.page import options_page
from emt_plugin.records import RecordError, RunRecord
from emt_plugin.report.writers import study
from emt_plugin.report.writers.marks import MarksError
from emt_plugin.runs.history import HistoryError
from emt_plugin.runs.naming import run_folder
from emt_plugin.store import DEFAULT_FOLDER, Store, byte_sizes, prune, shelves
from emt_plugin.throughput import table as timings_table


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; 0 if it did what was asked, 1 if not, 2 for a usage error."""
    options = _parser().parse_args(arguments)
    command: Callable[[argparse.Namespace], int] = options.command
    try:
        return command(options)
    except (
        CatalogError,
        CouldNotRun,
        TolerancesError,
        RecordError,
        HistoryError,
        MarksError,
        timings_table.TimingsError,
        byte_sizes.SizeError,
        OSError,
    ) as error:
        print(f"emt: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("emt: stopped; what was finished is kept, and the same command goes on from there", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="emt", description=__doc__)
    parser.add_argument("--version", action="version", version=f"pytest-emt {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def add(name: str, command: Callable[[argparse.Namespace], int], text: str) -> argparse.ArgumentParser:
        made = commands.add_parser(name, help=text, description=text)
        made.add_argument("--catalog", type=Path, metavar="FILE", help="TOML file with more models and image sets")
        made.set_defaults(command=command)
        return made

    add("models", _models, "list the models of the catalog")
    add("image-sets", _image_sets, "list the image sets of the catalog")
    fetch = add("fetch", _fetch, "download models with their encoders, and image sets, for use without a network")
    fetch.add_argument("names", nargs="+", metavar="NAME", help="a model, encoder or image set: catalog name or hub id")
    _add_finetune(add("finetune", _finetune, "fine-tune a LLaVA on one image set, with a checkpoint after each epoch"))
    mend.add_arguments(
        add("mend", mend.run, "choose a state between a base and a checkpoint that forgets nothing, and write it")
    )
    add_run_commands(add)
    along = add("study", _study, "show the trajectories of a run as Markdown tables")
    along.add_argument("run", metavar="RUN", help=f"a run with checkpoints: {RUN}")
    add_reports(along)
    along.add_argument("--write", type=Path, metavar="FILE", help="put the tables between their marks in this file")
    known = add("options", _options, "show every option of the gate with its ini key, as docs/options.md has them")
    known.add_argument("--write", type=Path, metavar="FILE", help="write it to this file")
    schema = add("schema", _schema, "show the JSON Schema of run.json")
    schema.add_argument("--write", type=Path, metavar="FILE", help="write it to this file")
    timings = add("throughput", _throughput, "show the timings of a run with --emt-throughput as a table")
    timings.add_argument("file", type=Path, metavar="JSON", help="what --benchmark-json wrote")
    timings.add_argument("--write", type=Path, metavar="FILE", help="put the table between its marks in this file")
    served = add("serve", _serve, "serve answer(image, question) -> str as a model behind an endpoint, see docs/endpoints.md")
    serve.add_arguments(served)
    store = add("store", _store, "show what the store holds, or make it smaller")
    store.add_argument("action", choices=("show", "prune"), help="show, or prune: cache entries not used for longest go first")
    store.add_argument("--dir", type=Path, default=Path(DEFAULT_FOLDER), metavar="DIR", help=f"the store [{DEFAULT_FOLDER}]")
    store.add_argument("--older-than", type=float, metavar="DAYS", help="prune what was not used for so many days")
    store.add_argument("--max-size", metavar="BYTES", help="then prune until no more than this is left, such as 5GB")
    store.add_argument("--kind", action="append", metavar="KIND", help="prune this kind only, such as features; repeatable")
    store.add_argument("--all", action="store_true", help="prune everything")
    return parser


def _add_finetune(parser: argparse.ArgumentParser) -> None:
    from emt_plugin.finetune.settings import BATCH_SIZES, LEARNING_RATES, METHODS, FinetuneSettings, Watch

    known = FinetuneSettings()
    rates = ", ".join(f"{rate:g} for {method}" for method, rate in LEARNING_RATES.items())
    sizes_of = ", ".join(f"{size} for {method}" for method, size in BATCH_SIZES.items())
    add = parser.add_argument
    add("--model", required=True, metavar="NAME", help="the base: catalog name, folder or hub id")
    add("--image-set", required=True, metavar="NAME", help="whose training split is learned: catalog name, folder or hub id")
    add("--out", type=Path, metavar="DIR",
        help="where checkpoints go; a run that is there already goes on [runs/MODEL-METHOD-IMAGE_SET]")  # fmt: skip
    add("--method", choices=METHODS, default=known.method,
        help=f"linear: the projector alone; lora: projector, and LoRA on the language model [{known.method}]")  # fmt: skip
    add("--epochs", type=int, default=known.epochs, metavar="N", help=f"passes over the training images [{known.epochs}]")
    add("--save-fractions", type=_fractions, default=(), metavar="F[,F]",
        help="further checkpoints within the first epoch, such as 1/8,1/2")  # fmt: skip
    add("--learning-rate", type=float, metavar="X", help=f"the highest; warm-up before it, a cosine after it [{rates}]")
    add("--batch-size", type=int, metavar="N", help=f"conversations in one step, over all processes [{sizes_of}]")
    add("--device-batch-size", type=int, metavar="N",
        help="conversations in one forward [a process's share of the batch, at most 8 on a GPU]")  # fmt: skip
    add("--gradient-checkpointing", action=argparse.BooleanOptionalAction,
        help="compute activations twice to save memory [on a GPU]")  # fmt: skip
    add("--rank", type=int, default=known.rank, metavar="N", help=f"of LoRA [{known.rank}]")
    add(
        "--alpha",
        type=int,
        default=known.alpha,
        metavar="N",
        help=f"of LoRA, whose updates are scaled by alpha / rank [{known.alpha}]",
    )
    add("--dropout", type=float, default=known.dropout, metavar="X", help=f"of LoRA's input [{known.dropout:g}]")
    add("--resume-every", type=int, metavar="STEPS", help="save a state to go on from after so many [a tenth of an epoch]")
    add("--limit", type=int, metavar="N", help="training images of each class at most [all]")
    add("--seed", type=int, default=known.seed, metavar="N", help=f"of initial weights, order and dropout [{known.seed}]")
    add("--dtype", choices=("float32", "bfloat16"),
        help="of the frozen weights [float32 on the CPU, bfloat16 on a GPU]")  # fmt: skip
    add("--device", choices=("cpu", "cuda", "mps"), help="where to train; several GPUs by `accelerate launch` [what is there]")
    add("--logging-steps", type=int, default=known.logging_steps, metavar="N",
        help=f"log the mean loss after so many [{known.logging_steps}]")  # fmt: skip
    add("--report-to", nargs="+", default=(), metavar="NAME", help="what losses and looks are logged to, such as tensorboard")
    looks = Watch(())
    add("--watch", nargs="+", metavar="NAME",
        help="image sets to look at on the way, see docs/training.md; outside the domain all but --image-set")  # fmt: skip
    add("--watch-every", type=_often, default=looks.every, metavar="X",
        help=f"a whole number of steps, or a fraction of an epoch such as 1/8 [{looks.every:g}]")  # fmt: skip
    add("--watch-images", type=int, default=looks.images, metavar="N", help=f"of each image set [{looks.images}]")
    add("--watch-tolerance", type=float, default=looks.tolerance, metavar="X",
        help=f"the largest loss that is accepted, a fraction [{looks.tolerance:g}]")  # fmt: skip
    add("--watch-stop", action="store_true", help="stop when an image set outside the domain has lost more than that")


def _fractions(text: str) -> tuple[float, ...]:
    try:
        return tuple(float(Fraction(part.strip())) for part in text.split(","))
    except (ValueError, ZeroDivisionError):
        raise argparse.ArgumentTypeError(f"'{text}' is no list of fractions; write such as 1/8,1/2") from None


def _often(text: str) -> int | float:
    try:
        return int(text) if text.isdecimal() else float(Fraction(text))
    except (ValueError, ZeroDivisionError):
        raise argparse.ArgumentTypeError(f"'{text}' is neither a number of steps nor a fraction of an epoch") from None


def _finetune(options: argparse.Namespace) -> int:
    from emt_plugin.finetune import FinetuneSettings, Watch, finetune

    catalog = Catalog.load(options.catalog)
    names = [field.name for field in fields(FinetuneSettings) if hasattr(options, field.name)]
    options.report_to = tuple(options.report_to)
    settings = FinetuneSettings(**{name: getattr(options, name) for name in names})
    if options.watch_stop and not options.watch:
        raise CatalogError("--watch-stop needs image sets to look at: name them with --watch")
    watch = None
    if options.watch:
        found = tuple(catalog.image_set(name) for name in options.watch)
        watch = Watch(found, options.watch_every, options.watch_images, options.watch_tolerance, options.watch_stop, catalog)
    model, image_set = catalog.model(options.model), catalog.image_set(options.image_set)
    if model.endpoint:
        raise CatalogError(f"{options.model} is behind an endpoint, where nothing is fine-tuned; name a folder or a hub id")
    out = options.out or Path("runs") / f"{model.id}-{options.method}-{image_set.id}"
    done = finetune(model, image_set, out, settings, options.dtype, options.device, watch=watch)
    if os.environ.get("RANK", "0") == "0":
        print(f"evaluate them: pytest benchmarks --model {options.model} --checkpoint '{done.folder}/checkpoint-*'")
    return 0


def _models(options: argparse.Namespace) -> int:
    catalog = Catalog.load(options.catalog)
    for name, entry in catalog.models.items():
        aliases = f" (also {', '.join(entry['aliases'])})" if entry.get("aliases") else ""
        source = entry.get("source") or f"{PREFIX}{entry['endpoint']['model']}"
        print(f"{name}{aliases}: {source}, encoder {entry.get('encoder', 'unknown')}")
    return 0


def _image_sets(options: argparse.Namespace) -> int:
    catalog = Catalog.load(options.catalog)
    for name, entry in catalog.image_sets.items():
        if "source" in entry:
            print(f"{name}: {entry['source']}, asked: {catalog.image_set(name).prompt}")
    return 0


def _fetch(options: argparse.Namespace) -> int:
    catalog = Catalog.load(options.catalog)
    for name in options.names:
        spec = _model_or_image_set(catalog, name)
        if isinstance(spec, ImageSetSpec):
            from emt_plugin.data import load_image_set

            loaded = load_image_set(spec, limit=1)
            print(f"{name}: {loaded.n_split} images in the split '{loaded.split}'")
            continue
        from emt_plugin.models.checkpoint import find
        from emt_plugin.models.registry import TRANSFORMERS

        if spec.backend != TRANSFORMERS:
            print(f"{name}: {_identity(spec)}, by the backend '{spec.backend}'")
            continue
        print(f"{name}: {find(spec.source, spec.id, spec.name, spec.revision, encoder=True).folder}")
        if spec.encoder:
            print(f"{name}, its encoder: {find(spec.encoder, spec.encoder, spec.name, encoder=True).folder}")
    return 0


def _identity(spec: ModelSpec) -> str:
    """The fingerprint of a model that a backend runs, which has fetched all of its parts then."""
    from emt_plugin.models import Request
    from emt_plugin.models.registry import BackendError, backend_factory
    from emt_plugin.settings import Compute

    try:
        factory = backend_factory(spec.backend)
    except BackendError as error:
        raise CatalogError(str(error)) from None
    backend = factory(Request(spec, Compute(), Store(Path(), "off"), print))
    return str(backend.identity().get("weights", "found"))


def _model_or_image_set(catalog: Catalog, name: str) -> ModelSpec | ImageSetSpec:
    """An image set where the catalog has one of that name, else a model; encoders fetch like models."""
    if name in catalog.image_sets:
        return catalog.image_set(name)
    try:
        return catalog.model(name)
    except CatalogError as error:
        known = ", ".join(sorted(entry for entry in catalog.image_sets if entry != "unknown"))
        raise CatalogError(f"{error}; image sets: {known}") from None


def _study(options: argparse.Namespace) -> int:
    folder = run_folder(options.run, options.reports)
    if options.write:
        study.write(folder, options.write)
    else:
        run = RunRecord.read(folder)
        print(f"{study.short_table(run)}\n\n{study.full_tables(run)}")
    return 0


def _options(options: argparse.Namespace) -> int:
    if options.write:
        options.write.write_text(options_page(), encoding="utf-8")
    else:
        print(options_page(), end="")
    return 0


def _schema(options: argparse.Namespace) -> int:
    from emt_plugin.records.schema import schema_text

    if options.write:
        options.write.write_text(schema_text(), encoding="utf-8")
    else:
        print(schema_text(), end="")
    return 0


def _throughput(options: argparse.Namespace) -> int:
    if options.write:
        timings_table.write(options.file, options.write)
    else:
        print(timings_table.table(options.file))
    return 0


def _serve(options: argparse.Namespace) -> int:
    try:
        serve.serve(options.function, options.name, options.host, options.port, options.revision)
    except ValueError as error:
        raise CatalogError(str(error)) from None
    return 0


def _store(options: argparse.Namespace) -> int:
    if options.action == "prune":
        return _prune(options)
    found = shelves(options.dir)
    if not found:
        print(f"{options.dir} holds nothing")
        return 0
    for kind in dict.fromkeys(shelf.kind for shelf in sorted(found, key=lambda shelf: shelf.kind)):
        of_kind = [shelf for shelf in found if shelf.kind == kind]
        print(f"{kind}: {len(of_kind)} cache entries, {byte_sizes.words(sum(shelf.size for shelf in of_kind))}")
        for shelf in of_kind:
            about = ", ".join(f"{key} {value}" for key, value in sorted(shelf.about.items()))
            last = datetime.fromtimestamp(shelf.last_used, UTC)
            size = byte_sizes.words(shelf.size)
            print(f"  {shelf.path.name[:8]}  {size:>9}  last used {last:%Y-%m-%d %H:%M} UTC  {about}".rstrip())
    print(f"in all: {byte_sizes.words(sum(shelf.size for shelf in found))} in {options.dir}")
    return 0


def _prune(options: argparse.Namespace) -> int:
    if not (options.all or options.older_than is not None or options.max_size):
        print("emt: say what to prune: --older-than DAYS, --max-size BYTES or --all", file=sys.stderr)
        return 2
    most = 0 if options.all else byte_sizes.parsed(options.max_size) if options.max_size else None
    older_than = None if options.older_than is None else options.older_than * 24 * 3600
    gone = prune(options.dir, older_than, most, options.kind)
    print(f"{gone.shelves} cache entries deleted, {byte_sizes.words(gone.size)}")
    return 0
