"""Which split is evaluated: the test split; without one the validation split; never a guess, never two joined."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import PurePath

from emt_plugin.catalog import ImageSetSpec
from emt_plugin.data.source import SHARD, Split, refused
from emt_plugin.errors import CouldNotRun

# Data without split names is one split of this name.
ALL = "all"
WORDS = {
    "test": "test", "tests": "test", "testing": "test",
    "validation": "validation", "val": "validation", "valid": "validation", "dev": "validation",
    "train": "train", "training": "train",
    "eval": "eval", "evaluation": "eval",
}  # fmt: skip
_ANY = "|".join(sorted(WORDS, key=len, reverse=True))
# test, test-0, test_000001.
PART = re.compile(rf"({_ANY})([-_.]?\d[\d_-]*)?", re.IGNORECASE)
PREFIX = re.compile(rf"({_ANY})(?![a-z])", re.IGNORECASE)
ANYWHERE = re.compile(rf"(?<![a-z])({_ANY})(?![a-z])", re.IGNORECASE)
KEY = 'split = "..." in a catalog file (--emt-catalog)'


def stands_for(name: str) -> str | None:
    """The usual name of the split that a word names; None for any other word."""
    return WORDS.get(name.lower())


def of_file(name: str) -> str | None:
    """The split that a file's name names; None where it names none.

    ``test_matched`` is a split of its own: two that begin alike are not one.
    """
    stem = PurePath(name).stem
    if found := SHARD.fullmatch(stem) or PART.fullmatch(stem):
        return found[1]
    return stem if PREFIX.match(stem) else None


def names_a_split(name: str) -> bool:
    """Whether a file's name has the name of a split among its words."""
    return ANYWHERE.search(PurePath(name).name) is not None


def evaluated(spec: ImageSetSpec, names: Sequence[str]) -> tuple[str, tuple[str, ...]]:
    """The name of the split to evaluate among those there are, and what to say of the choice.

    Raises:
        CouldNotRun: the one asked for is not there; or there is neither a test nor a validation split, or two of a kind.
    """
    if spec.split is not None:
        return _asked_for(spec, spec.split, names), ()
    if list(names) == [ALL]:
        return ALL, ()
    for kind in ("test", "validation"):
        found = [name for name in names if stands_for(name) == kind]
        if len(found) > 1:
            raise refused(spec, f"the splits {' and '.join(found)} may both be meant: name one with {KEY}")
        if found:
            return found[0], () if kind == "test" else (f"it has no test split: its {found[0]} split is evaluated",)
    raise refused(spec, f"it has no test split (it has {_listed(names)}): name the split to evaluate with {KEY}")


def training(spec: ImageSetSpec, names: Iterable[str], without: str) -> str | None:
    """The name of the training split among those there are; None where it is not there, or is the evaluated one."""
    wanted = spec.train_split
    known = [name for name in names if name not in (without, ALL)]
    same = [name for name in known if wanted == "train" and stands_for(name) == "train"]
    return wanted if wanted in known else same[0] if len(same) == 1 else None


def chosen(spec: ImageSetSpec, splits: Sequence[Split]) -> Split:
    """The split to evaluate, with what to say of the choice.

    Raises:
        CouldNotRun: see ``evaluated``.
    """
    name, notes = evaluated(spec, [split.name for split in splits])
    found = next(split for split in splits if split.name == name)
    return replace(found, notes=(*notes, *found.notes))


def _asked_for(spec: ImageSetSpec, wanted: str, names: Sequence[str]) -> str:
    if wanted in names:
        return wanted
    alike = [name for name in names if name.lower() == wanted.lower()]
    if len(alike) == 1:
        return alike[0]
    if list(names) == [ALL]:
        raise refused(spec, f"it has no split '{wanted}', for its images name none: take split out of the catalog file")
    raise CouldNotRun(f"image set {spec.id} has no split '{wanted}' (it has {_listed(names)}): name one of them with {KEY}")


def _listed(names: Sequence[str]) -> str:
    return ", ".join(sorted(names)) or "none"
