"""The command that asks a model about one image again."""

from __future__ import annotations

import shlex
from importlib.resources import files
from pathlib import Path
from typing import Any

from emt_plugin.records import PairRecord, Row, RunRecord

# Enough of a hash to name an image.
HASH = 12
# Options that decide what a model answers and how that is read.
CARRIED = (
    "encoder", "revision", "catalog", "reference", "scorer", "label_score", "calibrate", "dtype", "device", "attention",
    "generation",
)  # fmt: skip


def one_image(run: RunRecord, pair: PairRecord, row: Row) -> str:
    """The command; what a record does not tell is left to the defaults. Empty of a state that was nowhere kept."""
    if pair.model_facts.get("written") is False:
        return ""
    return f"{_base(run, pair)} --emt-image {row.image[:HASH]}"


def _base(run: RunRecord, pair: PairRecord) -> str:
    given = run.settings.get("given") or {}
    asked = ["pytest", *_target(str(run.environment.get("command", ""))), *_model(run, pair, given)]
    asked += ["--emt-image-set", str(pair.image_set_facts.get("name", pair.key.image_set))]
    for name in CARRIED:
        asked += _option(name, given.get(name))
    return shlex.join(asked)


def _target(command: str) -> list[str]:
    """Where the benchmarks are: where the run found them, else in the package, or in a checkout that has none there."""
    try:
        # A call of a function names no benchmarks, whatever its arguments are.
        words = [] if command.startswith("emt.") else shlex.split(command)
    except ValueError:
        words = []
    named = next((word for word in words[1:] if "benchmarks" in Path(word).parts), None)
    if named:
        return [named]
    installed = "--pyargs" in words or (files("emt_plugin") / "benchmarks").is_dir()
    return ["--pyargs", "emt_plugin.benchmarks"] if installed else ["benchmarks"]


def _model(run: RunRecord, pair: PairRecord, given: dict[str, Any]) -> list[str]:
    if pair.key.checkpoint is None:
        return ["--emt-model", str(pair.model_facts.get("name", pair.key.model))]
    base = given.get("model") or [pair.key.model]
    checkpoint = pair.model_facts.get("adapter") or pair.model_facts.get("source") or pair.key.checkpoint
    return ["--emt-model", str(base[0]), "--emt-checkpoint", str(checkpoint)]


def _option(name: str, value: Any) -> list[str]:
    option = f"--emt-{name.replace('_', '-')}"
    if value is True:
        return [option]
    values = value if isinstance(value, list) else [value]
    return [part for one in values if one not in (None, False) for part in (option, str(one))]
