"""Tolerances (policy, edited by people) and accepted losses (written by ``--emt-update-tolerances``).

The file::

    tolerance = 0.05                    # the default

    [model."llava-*"]                   # a glob over model ids
    tolerance = 0.03

    [pair."llava-1.5-7b/mnist"]
    tolerance = 0.10

    [pair."llava-mini/emoji-mini"]
    accepted_loss = 0.1831              # a known, larger loss
    accepted_in = "run id"
    accepted_on = "date"

    [reference.model]                   # the same tables again, for one kind of reference
    tolerance = 0.02
"""

from __future__ import annotations

import math
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

DEFAULT = 0.05
KINDS = ("encoder", "model", "checkpoint", "probe")
# A loss is accepted of one scorer: what another loses is another loss.
ACCEPTED_BY = "answer"
WORDS = ("accepted_in", "accepted_on", "accepted_images", "accepted_of")
BUNDLED = "bundled:"
KEYS = {"model": {"tolerance"}, "pair": {"tolerance", "accepted_loss", *WORDS}}


class TolerancesError(ValueError):
    """A tolerance or a tolerances file that the user has to correct; the message says how."""


@dataclass(frozen=True)
class Tolerance:
    """What a verdict is taken at.

    Attributes:
        value: the largest loss that passes, a fraction.
        source: where it comes from, in words.
        policy: the tolerance by policy, without any accepted loss.
        accepted: the value is an accepted loss larger than the policy.
        accepted_in: the run in which the loss was accepted.
        accepted_on: its date.
        accepted_images: fingerprint of the images on which it was accepted.
    """

    value: float
    source: str
    policy: float
    accepted: bool = False
    accepted_in: str | None = None
    accepted_on: str | None = None
    accepted_images: str | None = None


@dataclass(frozen=True)
class Tolerances:
    """A tolerances file, read.

    Attributes:
        tables: the file's content.
        path: the file, None for defaults alone.
        override: ``--emt-tolerance``: stands above the file and sets accepted losses aside.
    """

    tables: Mapping[str, Any] = field(default_factory=dict)
    path: Path | None = None
    override: float | None = None

    @classmethod
    def load(cls, path: Path | None, override: float | None = None) -> Tolerances:
        """Read a file; None gives the defaults.

        Raises:
            TolerancesError: it cannot be read, or says something that means nothing.
        """
        if path is None:
            return cls(override=override)
        try:
            tables = tomllib.loads(path.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            raise TolerancesError(f"cannot read the tolerances file {path}: {error}") from None
        _check_tables(path, tables, {"tolerance", "model", "pair", "reference"})
        references = tables.get("reference", {})
        if not isinstance(references, dict):
            raise TolerancesError(f"{path}: reference must be tables: [reference.model]")
        for kind, inner in references.items():
            if kind not in KINDS or not isinstance(inner, dict):
                raise TolerancesError(f"{path}: [reference.{kind}] means nothing; kinds: {', '.join(KINDS)}")
            _check_tables(path, inner, {"tolerance", "model", "pair"})
        return cls(tables, path, override)

    def of(
        self,
        model: str,
        image_set: str,
        kind: str = "encoder",
        pair: str | None = None,
        scorer: str = ACCEPTED_BY,
        of: str | None = None,
    ) -> Tolerance:
        """The tolerance of one pair for one kind of reference; command line > pair > model glob > file default.

        Args:
            model: the model's id.
            image_set: the image set's id.
            kind: kind of the reference.
            pair: id of the pair, where it has a checkpoint (default: ``model/image_set``).
            scorer: whose outcomes are compared; losses are accepted of ``answer`` alone.
            of: what the pair is, from ``accepted_of``; a loss that was accepted of another of the same name is set aside.
        """
        if self.override is not None:
            return Tolerance(self.override, "--emt-tolerance", self.override)
        pair = pair or f"{model}/{image_set}"
        for tables, where in self._tables_for(kind):
            entry = tables.get("pair", {}).get(pair, {})
            policy, source = self._policy(tables, entry, model, pair, where)
            if policy is None:
                continue
            is_this = entry.get("accepted_of") in (None, of)
            loss = entry.get("accepted_loss") if scorer == ACCEPTED_BY and is_this else None
            if loss is None or loss <= policy:
                return Tolerance(policy, source, policy)
            return Tolerance(
                loss,
                f"accepted loss of {pair}{where}",
                policy,
                accepted=True,
                accepted_in=entry.get("accepted_in"),
                accepted_on=entry.get("accepted_on"),
                accepted_images=entry.get("accepted_images"),
            )
        return Tolerance(DEFAULT, "default", DEFAULT)

    def _tables_for(self, kind: str) -> Iterable[tuple[Mapping[str, Any], str]]:
        """The tables of a kind of reference, then the file's own; an accepted loss belongs to one kind alone."""
        inner = self.tables.get("reference", {}).get(kind)
        if inner is not None:
            yield inner, f" [reference.{kind}]"
        own = self.tables if kind == "encoder" else {**self.tables, "pair": _without_losses(self.tables.get("pair", {}))}
        yield {"tolerance": DEFAULT, **own}, ""

    def _policy(
        self, tables: Mapping[str, Any], entry: Mapping[str, Any], model: str, pair: str, where: str
    ) -> tuple[float | None, str]:
        file = f"{self.path.name}: " if self.path else ""
        if "tolerance" in entry:
            return entry["tolerance"], f"{file}pair {pair}{where}"
        for glob, values in tables.get("model", {}).items():
            if fnmatchcase(model, glob) and "tolerance" in values:
                return values["tolerance"], f"{file}model {glob}{where}"
        if "tolerance" in tables:
            return tables["tolerance"], f"{file}default{where}"
        # A loss accepted for this kind of reference, with the policy left to the file's own tables.
        if "accepted_loss" in entry:
            own = {"tolerance": DEFAULT, **self.tables, "pair": _without_losses(self.tables.get("pair", {}))}
            return self._policy(own, own["pair"].get(pair, {}), model, pair, "")
        return None, ""


def accepted_of(model: object, image_set: object) -> str | None:
    """What a pair of bundled things is, wherever they are installed; None where one of them is not bundled.

    Args:
        model: source of the model, as a record shows it.
        image_set: source of the image set, as a record shows it.
    """
    known = (str(model), str(image_set))
    return " on ".join(known) if all(source.startswith(BUNDLED) for source in known) else None


def parse_tolerance(text: str) -> float:
    """A tolerance as a user writes it: a fraction in (0, 1).

    Raises:
        TolerancesError: anything else; for ``5`` it says to write 0.05.
    """
    try:
        value = float(text)
    except ValueError:
        raise TolerancesError(f"tolerance '{text}' is not a number; write a fraction such as 0.05") from None
    return checked(value, "tolerance")


def checked(value: object, what: str) -> float:
    """A fraction in (0, 1), or a TolerancesError that says what to write."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise TolerancesError(f"{what} {value!r} is not a number; write a fraction such as 0.05")
    if 1 <= value < 100:
        raise TolerancesError(f"{what} {value:g} is not a fraction; write {value / 100:g} for {value:g} points")
    if not 0 < value < 1:
        raise TolerancesError(f"{what} {value:g} is not a fraction in (0, 1); write one such as 0.05")
    return float(value)


def update_accepted_losses(
    path: Path, losses: Mapping[str, tuple[float, str, str | None]], kind: str, run_id: str, date: str
) -> None:
    """Write accepted losses into a tolerances file; everything else, comments included, stays.

    Args:
        path: the file; made if it is not there.
        losses: by pair id, the loss to accept (a fraction), the fingerprint of the images it was measured on, and from
            ``accepted_of`` what the pair is.
        kind: kind of the reference that the losses were measured against.
        run_id: the run that measured them.
        date: its date.
    """
    import tomlkit

    from emt_plugin.store.files import write_atomically

    document = tomlkit.parse(path.read_text(encoding="utf-8")) if path.exists() else tomlkit.document()
    root: Any = document
    if kind != "encoder" or kind in root.get("reference", {}):
        root = root.setdefault("reference", tomlkit.table(is_super_table=True)).setdefault(kind, tomlkit.table())
    pairs = root.setdefault("pair", tomlkit.table(is_super_table=True))
    for pair, (loss, images, of) in sorted(losses.items()):
        entry = pairs.setdefault(pair, tomlkit.table())
        entry["accepted_loss"] = loss
        entry["accepted_in"] = run_id
        entry["accepted_on"] = date
        entry["accepted_images"] = images
        entry.pop("accepted_of", None)
        if of:
            entry["accepted_of"] = of
    write_atomically(path, tomlkit.dumps(document).encode())


def refuse_inline_tables(path: Path | None) -> None:
    """Refuse a file to which accepted losses could not be added, before a run rather than after it.

    Raises:
        TolerancesError: pairs are written as an inline table.
    """
    import tomlkit
    from tomlkit.items import InlineTable

    if path is None or not path.exists():
        return
    document: Any = tomlkit.parse(path.read_text(encoding="utf-8"))
    references = document.get("reference", {})
    inner = [references.get(kind, {}) for kind in KINDS]
    pairs = [tables.get("pair") for tables in (document, *inner)]
    if any(isinstance(table, InlineTable) for table in (references, *inner, *pairs)):
        raise TolerancesError(f'{path}: write pairs as tables, [pair."model/image-set"], so that losses can be added')


def loss_to_accept(low: float) -> float:
    """Minus the lower bound of the gap, rounded up to a whole point.

    A finer one would turn on a single image, which another machine's rounding may decide the other way.
    """
    return min(math.ceil(-low * 100 + 1e-6) / 100, 0.99)


def _without_losses(pairs: Mapping[str, Any]) -> dict[str, Any]:
    return {pair: {key: value for key, value in entry.items() if key == "tolerance"} for pair, entry in pairs.items()}


def _check_tables(path: Path, tables: Mapping[str, Any], known: set[str]) -> None:
    stray = sorted(set(tables) - known)
    if stray:
        raise TolerancesError(f"{path}: '{stray[0]}' means nothing here; use {', '.join(sorted(known))}")
    if "tolerance" in tables:
        checked(tables["tolerance"], f"{path}: tolerance")
    for table, keys in KEYS.items():
        entries = tables.get(table, {})
        if not isinstance(entries, dict):
            raise TolerancesError(f'{path}: {table} must be tables: [{table}."name"]')
        for name, entry in entries.items():
            if not isinstance(entry, dict) or set(entry) - keys:
                raise TolerancesError(f'{path}: [{table}."{name}"] may have {", ".join(sorted(keys))} only')
            for key in ("tolerance", "accepted_loss"):
                if key in entry:
                    checked(entry[key], f"{path}: {key} of {name}")
            for key in WORDS:
                if not isinstance(entry.get(key, ""), str):
                    raise TolerancesError(f"{path}: {key} of {name} must be a string")
