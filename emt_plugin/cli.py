"""``emt``: what is known, what can be fetched, and a report drawn anew. The gate itself is pytest."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path

from emt_plugin import sizes
from emt_plugin.catalog import Catalog, CatalogError, ImageSetSpec, ModelSpec
from emt_plugin.errors import CouldNotRun
from emt_plugin.records import RecordError
from emt_plugin.store import DEFAULT_FOLDER, prune, shelves
from emt_plugin.throughput import table as timings_table


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; 0 if it did what was asked, 1 if not, 2 for a usage error."""
    options = _parser().parse_args(arguments)
    command: Callable[[argparse.Namespace], int] = options.command
    try:
        return command(options)
    except (CatalogError, CouldNotRun, RecordError, timings_table.TimingsError, sizes.SizeError, OSError) as error:
        print(f"emt: {error}", file=sys.stderr)
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="emt", description=__doc__)
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
    report = add("report", _report, "draw report.html and summary.md of a run anew, from its record")
    report.add_argument("folder", type=Path, metavar="RUN_DIR", help="folder of one run, such as reports/20261124-101500-1f2e")
    timings = add("throughput", _throughput, "show the timings of a run with --emt-throughput as a table")
    timings.add_argument("file", type=Path, metavar="JSON", help="what --benchmark-json wrote")
    timings.add_argument("--write", type=Path, metavar="README", help="put the table between its marks in this file")
    store = add("store", _store, "show what the store holds, or make it smaller")
    store.add_argument("action", choices=("show", "prune"), help="show, or prune: shelves not used for longest go first")
    store.add_argument("--dir", type=Path, default=Path(DEFAULT_FOLDER), metavar="DIR", help=f"the store [{DEFAULT_FOLDER}]")
    store.add_argument("--older-than", type=float, metavar="DAYS", help="prune what was not used for so many days")
    store.add_argument("--max-size", metavar="BYTES", help="then prune until no more than this is left, such as 5GB")
    store.add_argument("--kind", action="append", metavar="KIND", help="prune this kind only, such as features; repeatable")
    store.add_argument("--all", action="store_true", help="prune everything")
    return parser


def _models(options: argparse.Namespace) -> int:
    catalog = Catalog.load(options.catalog)
    for name, entry in catalog.models.items():
        aliases = f" (also {', '.join(entry['aliases'])})" if entry.get("aliases") else ""
        print(f"{name}{aliases}: {entry['source']}, encoder {entry.get('encoder', 'unknown')}")
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
        from emt_plugin.mllms.checkpoint import find

        print(f"{name}: {find(spec.source, spec.id, spec.name, spec.revision, encoder=True).folder}")
        if spec.encoder:
            print(f"{name}, its encoder: {find(spec.encoder, spec.encoder, spec.name, encoder=True).folder}")
    return 0


def _model_or_image_set(catalog: Catalog, name: str) -> ModelSpec | ImageSetSpec:
    """An image set where the catalog has one of that name, else a model; encoders fetch like models."""
    if name in catalog.image_sets:
        return catalog.image_set(name)
    try:
        return catalog.model(name)
    except CatalogError as error:
        known = ", ".join(sorted(entry for entry in catalog.image_sets if entry != "unknown"))
        raise CatalogError(f"{error}; image sets: {known}") from None


def _report(options: argparse.Namespace) -> int:
    from emt_plugin.report import render, write_summary

    print(render(options.folder))
    print(write_summary(options.folder))
    return 0


def _throughput(options: argparse.Namespace) -> int:
    if options.write:
        timings_table.write(options.file, options.write)
    else:
        print(timings_table.table(options.file))
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
        print(f"{kind}: {len(of_kind)} shelves, {sizes.words(sum(shelf.size for shelf in of_kind))}")
        for shelf in of_kind:
            about = ", ".join(f"{key} {value}" for key, value in sorted(shelf.about.items()))
            last = datetime.fromtimestamp(shelf.last_used, UTC)
            print(
                f"  {shelf.path.name[:8]}  {sizes.words(shelf.size):>9}  last used {last:%Y-%m-%d %H:%M} UTC  {about}".rstrip()
            )
    print(f"in all: {sizes.words(sum(shelf.size for shelf in found))} in {options.dir}")
    return 0


def _prune(options: argparse.Namespace) -> int:
    if not (options.all or options.older_than is not None or options.max_size):
        print("emt: say what to prune: --older-than DAYS, --max-size BYTES or --all", file=sys.stderr)
        return 2
    most = 0 if options.all else sizes.parsed(options.max_size) if options.max_size else None
    older_than = None if options.older_than is None else options.older_than * 24 * 3600
    gone = prune(options.dir, older_than, most, options.kind)
    print(f"{gone.shelves} shelves went, {sizes.words(gone.size)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
