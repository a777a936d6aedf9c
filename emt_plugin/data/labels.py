"""Label names as they appear in prompts, and every row's label as an index into them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from emt_plugin.catalog import ImageSetSpec, wordnet_words
from emt_plugin.data.source import Table, refused
from emt_plugin.errors import CouldNotRun
from emt_plugin.scoring.reader import unreadable

NUMBER = re.compile(r"[+-]?\d+(\.0+)?")
# What stands for a name and is none: WordNet ids, and numbers with a word before them.
WORDNET_ID = re.compile(r"n\d{8}")
CODE = re.compile(r"(?:class|label|category|cls|target)[\s_.-]*(\d+)", re.IGNORECASE)
ASKS_FOR_NUMBERS = re.compile(r"\b(number|digit)s?\b", re.IGNORECASE)
# 001.Black_footed_Albatross, n02085620-Chihuahua
ID = re.compile(r"(\d+|n\d{8})[._-]+(?=\D)")


class Labels(NamedTuple):
    """The labels of a split.

    Attributes:
        names: label names, underscores as spaces.
        of_row: for every row an index into them, -1 for none.
        notes: what was done to the names.
    """

    names: tuple[str, ...]
    of_row: list[int]
    notes: tuple[str, ...] = ()


def labels_of(spec: ImageSetSpec, table: Table) -> Labels:
    """The labels of an evaluated split.

    Raises:
        CouldNotRun: a row has none or one outside the names; the names are numbers and nothing says that they are meant, or
            do not fit those of the catalog; or no answer could tell two of them apart.
    """
    found = named(spec, table)
    for row, label in enumerate(found.of_row):
        if label < 0:
            value = table.values[row]
            shown = "''" if value == "" else value
            raise refused(spec, f"row {row} has the label {shown}, outside its {len(found.names)} labels")
    if len(found.names) < 2:
        raise refused(spec, f"it has one class ('{found.names[0]}'): there is nothing to tell apart")
    alike = unreadable(found.names)
    if len(alike) == 1:
        raise refused(spec, f"the label {alike[0]!r} has no word by which an answer could name it: give it a name in words")
    if alike:
        raise refused(
            spec,
            f"the labels {' and '.join(repr(name) for name in alike)} cannot be told apart in an answer; "
            f"give them names that differ in their words",
        )
    return found


def named(spec: ImageSetSpec, table: Table) -> Labels:
    """The labels of any split, -1 for a row without a label or with one outside the names.

    Raises:
        CouldNotRun: the names are numbers and nothing says that they are meant, or do not fit those of the catalog.
    """
    raw, of_row = _raw(spec, table)
    numbers = bool(raw) and all(NUMBER.fullmatch(name) for name in raw)
    codes = [found[1] for name in raw if (found := CODE.fullmatch(name))]
    coded = bool(raw) and len(codes) == len(raw) and spec.names == "as-is"
    ids = bool(raw) and all(map(WORDNET_ID.fullmatch, raw)) and spec.names == "as-is"
    if spec.labels:
        if (numbers or coded) and not _same(raw, spec.labels):
            return _by_index(spec, table, codes if coded else raw, of_row)
        if ids and len(raw) == len(spec.labels):
            return _by_order(spec, raw, of_row)
        _check_same(spec, raw)
    elif ids and set(raw) <= set(wordnet_words()):
        shown = tuple(wordnet_words()[name] for name in raw)
        return Labels(shown, of_row, (f"its labels are WordNet ids, shown as their words ({raw[0]}: {shown[0]})",))
    elif ids or coded:
        kind, otherwise = ("WordNet ids", "") if ids else ("numbers", ', or write names = "numbers" there if they are numbers')
        raise refused(
            spec,
            f"its labels are {kind} without names ({_shortened(raw)}): name them, in their order, with "
            f'labels = ["...", ...] in a catalog file (--emt-catalog){otherwise}',
        )
    elif numbers and spec.names != "numbers" and not ASKS_FOR_NUMBERS.search(spec.prompt):
        raise refused(
            spec,
            f"its labels are numbers without names ({_shortened(raw)}): name them with "
            f'labels = ["...", ...] in a catalog file (--emt-catalog), or write names = "numbers" there if they are numbers',
        )
    names, note = _without_ids(raw) if table.classes_are_folders else (raw, ())
    words = wordnet_words() if spec.names == "wordnet" else {}
    return Labels(tuple(words.get(name, name).replace("_", " ") for name in names), of_row, note)


def _raw(spec: ImageSetSpec, table: Table) -> tuple[list[str], list[int]]:
    """Label names as the data has them, and every row's label as an index into them, -1 for none."""
    if table.names is not None:
        count = len(table.names)
        return list(table.names), [v if isinstance(v, int) and 0 <= v < count else -1 for v in table.values]
    if not all(isinstance(value, str | int | bool | float | None) for value in table.values):
        raise refused(spec, "its label column holds no single label in each row")
    fractions = [value for value in table.values if isinstance(value, float) and value == value and not value.is_integer()]
    if fractions:
        raise refused(spec, f"its label column holds numbers like {fractions[0]:g}, which are no classes")
    texts = [_text(value) for value in table.values]
    raw = sorted({text for text in texts if text})
    if not raw:
        raise refused(spec, "no row has a label")
    index = {name: position for position, name in enumerate(raw)}
    return raw, [index.get(text, -1) for text in texts]


def _text(value: object) -> str:
    if value is None or value != value:
        return ""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value).strip()


def _by_index(spec: ImageSetSpec, table: Table, raw: Sequence[str], of_row: Sequence[int]) -> Labels:
    """Labels that are numbers, named by the catalog's labels in their order, from 0 or from 1."""
    count = len(spec.labels)
    numbers = [int(float(name)) for name in raw]
    first = min(numbers)
    if (table.names is not None and len(raw) != count) or first not in (0, 1) or max(numbers) != first + count - 1:
        raise refused(
            spec,
            f"labels in the catalog names {count} classes, and its labels are the numbers {_shortened(raw)}: "
            f"name each of them, in order, from 0 or from 1",
        )
    names = tuple(name.replace("_", " ") for name in spec.labels)
    return Labels(names, [numbers[label] - first if label >= 0 else -1 for label in of_row])


def _by_order(spec: ImageSetSpec, raw: Sequence[str], of_row: list[int]) -> Labels:
    """Labels that are WordNet ids, named by the catalog's labels in the order of the ids."""
    order = {name: position for position, name in enumerate(sorted(raw))}
    names = tuple(name.replace("_", " ") for name in spec.labels)
    return Labels(names, [order[raw[label]] if label >= 0 else -1 for label in of_row])


def _same(raw: Sequence[str], labels: Sequence[str]) -> bool:
    return {name.replace("_", " ") for name in raw} == {name.replace("_", " ") for name in labels}


def _check_same(spec: ImageSetSpec, raw: Sequence[str]) -> None:
    if _same(raw, spec.labels) or (spec.names == "wordnet" and _same([wordnet_words().get(n, n) for n in raw], spec.labels)):
        return
    found, wanted = ({name.replace("_", " ") for name in names} for names in (raw, spec.labels))
    only_found, only_wanted = sorted(found - wanted), sorted(wanted - found)
    said = [f"the data have {_shortened(only_found)}"] * bool(only_found) + [f"labels have {_shortened(only_wanted)}"] * bool(
        only_wanted
    )
    raise CouldNotRun(
        f"image set {spec.id}: labels in the catalog and the names in the data differ ({'; '.join(said)}): correct labels, or "
        f"take them out of the catalog file"
    )


def _without_ids(raw: Sequence[str]) -> tuple[list[str], tuple[str, ...]]:
    """Names without the ids that all of them begin with, where what is left tells them apart."""
    found = [ID.match(name) for name in raw]
    if not all(found):
        return list(raw), ()
    ids = {match[1] for match in found if match}
    left = [name[match.end() :] for name, match in zip(raw, found, strict=True) if match]
    if len(ids) < len(raw) or len({name.lower() for name in left}) < len(raw):
        return list(raw), ()
    return left, (f"the ids that all class folders begin with are left out of their names ({raw[0]}: {left[0]})",)


def _shortened(names: Sequence[str], most: int = 4) -> str:
    ordered = sorted(names, key=lambda name: (float(name), "") if NUMBER.fullmatch(name) else (float("inf"), name))
    return ", ".join(ordered) if len(names) <= most else f"{', '.join(ordered[: most - 1])} ... {ordered[-1]}"
