"""``emt``: what is known, what can be fetched, and a report drawn anew. The gate itself is pytest."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from emt_plugin.catalog import Catalog, CatalogError, ImageSetSpec, ModelSpec
from emt_plugin.errors import CouldNotRun
from emt_plugin.records import RecordError


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; 0 if it did what was asked, 1 if not, 2 for a usage error."""
    options = _parser().parse_args(arguments)
    command: Callable[[argparse.Namespace], int] = options.command
    try:
        return command(options)
    except (CatalogError, CouldNotRun, RecordError, OSError) as error:
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


if __name__ == "__main__":
    sys.exit(main())
