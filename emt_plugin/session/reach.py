"""Which image sets are asked where nobody said so, and whether they can be had at all. Nothing is downloaded."""

from __future__ import annotations

import os
import shlex
from collections.abc import Sequence
from pathlib import Path

from emt_plugin.catalog import BUNDLED, Catalog, ImageSetSpec, ModelSpec

SECONDS = 5
OFFLINE = ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE")
SUGGESTED = 2


def asked_unasked(models: Sequence[ModelSpec]) -> str:
    """One line that says on which image sets some models are evaluated, and why; empty without any."""
    if not models:
        return ""
    names = ", ".join(model.name for model in models)
    sets = ", ".join(dict.fromkeys(name for model in models for name in model.image_sets))
    return (
        f"{names} {'is' if len(models) == 1 else 'are'} not in the catalog, so the paper's image sets are asked: {sets}; "
        f"name others with --emt-image-set"
    )


def out_of_reach(catalog: Catalog, models: Sequence[ModelSpec]) -> str:
    """Why none of the image sets of some models can be had here, with what to type instead; empty where one may be."""
    specs = [catalog.image_set(name) for name in dict.fromkeys(name for model in models for name in model.image_sets)]
    if not specs or any(_is_here(spec) for spec in specs) or not _is_offline():
        return ""
    bundled = [name for name, entry in catalog.image_sets.items() if str(entry.get("source", "")).startswith(BUNDLED)]
    offline = [part for name in bundled[:SUGGESTED] for part in ("--emt-image-set", name)]
    here = shlex.join(["pytest", "benchmarks", *(part for model in models for part in ("--emt-model", model.name)), *offline])
    return (
        f"none of the image sets {', '.join(spec.id for spec in specs)} is on this machine, and the hub cannot be reached; "
        f"evaluate bundled ones with: {here}; or fetch them where there is a network with: "
        f"emt fetch {' '.join(spec.id for spec in specs)}"
    )


def _is_here(spec: ImageSetSpec) -> bool:
    """Whether an image set is local, or the hub's clients have kept something of it."""
    if spec.kind != "hub":
        return True
    home = Path(os.environ.get("HF_HOME") or Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "huggingface")
    hub = Path(os.environ.get("HF_HUB_CACHE") or home / "hub")
    datasets = Path(os.environ.get("HF_DATASETS_CACHE") or home / "datasets")
    return (hub / f"datasets--{spec.source.replace('/', '--')}").exists() or (
        datasets / spec.source.replace("/", "___").lower()
    ).exists()


def _is_offline() -> bool:
    if any(os.environ.get(name, "").upper() in {"1", "TRUE", "YES", "ON"} for name in OFFLINE):
        return True
    from huggingface_hub import constants, get_session

    try:
        get_session().head(constants.ENDPOINT, timeout=SECONDS)
    except Exception:  # Whatever the transport raises: it is not to be reached.
        return True
    return False
