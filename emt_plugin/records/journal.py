"""A worker's journal: one line for each batch, on disk before the next batch starts."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar

from emt_plugin.records.changes import Flip
from emt_plugin.records.record import PairRecord, RecordError, pair_from_dict, pair_to_dict
from emt_plugin.records.typed import decoder, typed
from emt_plugin.store.files import write_atomically

Entry = TypeVar("Entry", "Row", Flip)


@dataclass(frozen=True)
class Row:
    """What a run has to say of one image.

    Attributes:
        row: index of the image in its split.
        image: content hash of its decoded RGB pixels.
        occurrence: 0 for the first image of this content in the split, 1 for the next.
        label: index of its label.
        answer: the model's answer as given; None where no scorer wanted one.
        prediction: index of the class that it was read as by the scorer that gates, None for none.
        correct: whether that is the label; a scorer that cannot say counts as no.
        kind: failure kind, None where it is right.
        well_formed: nothing but an opening, an article and a label.
        references: what each reference predicted, by ``kind:id``.
        new_tokens: tokens generated.
        scores: what every scorer made of it, by name: prediction, correct, kind, well_formed and detail.
        probes: what each linear probe read from the image's features, by step.
        reference_correct: of references that are models, whether they were right, by reference and scorer.
    """

    row: int
    image: str
    occurrence: int
    label: int
    answer: str | None
    prediction: int | None
    correct: bool
    kind: str | None
    well_formed: bool | None
    references: dict[str, int | None]
    new_tokens: int | None
    scores: dict[str, dict[str, Any]] = field(default_factory=dict)
    probes: dict[str, int] = field(default_factory=dict)
    reference_correct: dict[str, dict[str, bool]] = field(default_factory=dict)

    def correct_by(self, scorer: str) -> bool | None:
        """Whether a scorer found it right, where it cannot say that counts as no; None where it did not score it."""
        if not self.scores:
            # Predictions of schema 1 are the answer scorer's alone.
            return self.correct if scorer == "answer" else None
        return bool(self.scores[scorer]["correct"]) if scorer in self.scores else None

    def reference_right(self, reference: str, scorer: str) -> bool:
        """Whether a reference (``kind:id``) found it right, by a scorer where the reference is a model."""
        if reference in self.reference_correct:
            return self.reference_correct[reference][scorer]
        return self.references.get(reference) == self.label

    def to_json(self) -> str:
        """One line of JSON."""
        return json.dumps(self.plain, allow_nan=False, ensure_ascii=False)

    @property
    def plain(self) -> dict[str, Any]:
        """The row as it is written: what it holds is plain data already, and copying that took longer than writing it."""
        return vars(self)


@dataclass(frozen=True)
class Place:
    """A line of a journal that holds rows."""

    path: Path
    offset: int
    length: int


@dataclass(frozen=True)
class Journalled:
    """What the journals hold of one pair.

    Attributes:
        start: what was known of it before its first image.
        places: where its rows are.
    """

    start: PairRecord
    places: tuple[Place, ...]

    @property
    def rows(self) -> list[Row]:
        """Its images, each once; read anew each time, so that no more than one pair's need be in memory."""
        found: dict[int, Row] = {}
        with ExitStack() as opened:
            files = {path: opened.enter_context(path.open("rb")) for path in dict.fromkeys(place.path for place in self.places)}
            for place in self.places:
                files[place.path].seek(place.offset)
                try:
                    entry = json.loads(files[place.path].read(place.length))
                except ValueError:
                    # Its writer did not finish it.
                    continue
                found.update({row["row"]: Row(**row) for row in entry["rows"]})
        return list(found.values())


class OnePairAtATime(Mapping[str, list[Row]]):
    """The rows of pairs by their ids, read when they are asked for; those that were asked for last are kept.

    Args:
        read: reads the rows of a pair.
    """

    def __init__(self, read: Mapping[str, Callable[[], list[Row]]]) -> None:
        self._read = dict(read)
        self._last: tuple[str, list[Row]] | None = None

    def __getitem__(self, pair: str) -> list[Row]:
        read = self._read[pair]
        if self._last is None or self._last[0] != pair:
            # The last ones go before the next come.
            self._last = None
            self._last = (pair, read())
        return self._last[1]

    def let_go(self) -> None:
        """Keep none: somebody else is about to read some."""
        self._last = None

    def __contains__(self, pair: object) -> bool:
        return pair in self._read

    def __iter__(self) -> Iterator[str]:
        return iter(self._read)

    def __len__(self) -> int:
        return len(self._read)


class Journal:
    """Appends batches to ``journal/<worker>.jsonl``; at most the batch under way is lost in a crash."""

    def __init__(self, folder: Path, worker: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._file = (folder / f"{worker}.jsonl").open("a", encoding="utf-8")

    def start(self, pair: PairRecord) -> None:
        """Write what is known of a pair before its first image: a crash must not cost its labels and prompt."""
        self._write({"pair": pair.key.id, "measurement": pair.measurement, "start": pair_to_dict(pair)})

    def append(self, pair: PairRecord, rows: Iterable[Row]) -> None:
        """Write one batch of a pair that was started, and flush it."""
        self._write({"pair": pair.key.id, "measurement": pair.measurement, "rows": [row.plain for row in rows]})

    def _write(self, entry: dict[str, Any]) -> None:
        self._file.write(json.dumps(entry, allow_nan=False) + "\n")
        self._file.flush()

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def read_journals(folder: Path, kept: Mapping[str, str] = MappingProxyType({})) -> dict[str, Journalled]:
    """What all workers wrote, by pair id; of an image's rows the last counts, and a torn last line is passed over.

    Args:
        folder: the journals'.
        kept: by pair id the measurement whose rows are wanted, where a pair was measured more than once; else the last.
    """
    found: dict[str, dict[str | None, PairRecord]] = {}
    places: dict[tuple[str, str | None], list[Place]] = {}
    for path in sorted(folder.glob("*.jsonl")):
        for place, line in _places(path):
            head = ROWS_HEAD.match(line)
            if head:
                pair, measurement = (json.loads(group) for group in head.groups())
                places.setdefault((pair, measurement), []).append(place)
                continue
            try:
                entry = json.loads(line)
            except ValueError:
                continue
            found.setdefault(entry["pair"], {})[entry.get("measurement")] = pair_from_dict(entry["start"])
    read = {}
    for pair, measured in found.items():
        chosen = kept.get(pair) if kept.get(pair) in measured else list(measured)[-1]
        read[pair] = Journalled(measured[chosen], tuple(places.get((pair, chosen), ())))
    return read


# How `Journal` begins a line of rows: which pair they are of is known without reading them.
ROWS_HEAD = re.compile(rb'\{"pair": ("(?:[^"\\]|\\.)*"), "measurement": (null|"(?:[^"\\]|\\.)*"), "rows": \[')


def _places(path: Path) -> Iterator[tuple[Place, bytes]]:
    """The lines of a journal, and where they are."""
    offset = 0
    with path.open("rb") as file:
        for line in file:
            yield Place(path, offset, len(line)), line
            offset += len(line)


def predictions_file(folder: Path, file_name: str) -> Path:
    """Where the rows of a pair are."""
    return folder / "predictions" / f"{file_name}.jsonl"


def write_predictions(folder: Path, file_name: str, rows: Iterable[Row], labels: Sequence[str] = ()) -> Path:
    """Write ``predictions/<pair>.jsonl``, a row for each image in the order given.

    Args:
        folder: the run's.
        file_name: the pair's.
        rows: its images.
        labels: label names, which each row then has beside its indices; empty for indices alone.
    """
    path = predictions_file(folder, file_name)
    path.parent.mkdir(exist_ok=True)
    found = ({**row.plain, **(_names(row, labels) if labels else {})} for row in rows)
    lines = (json.dumps(row, allow_nan=False, ensure_ascii=False) for row in found)
    write_atomically(path, (f"{line}\n".encode("utf-8", "replace") for line in lines))
    return path


def _names(row: Row, labels: Sequence[str]) -> dict[str, Any]:
    return {
        "label_name": name_of(labels, row.label),
        "prediction_name": name_of(labels, row.prediction),
        "reference_names": {reference: name_of(labels, found) for reference, found in row.references.items()},
    }


def name_of(labels: Sequence[str], index: int | None) -> str | None:
    """The name of a label; None for none, and for an index that a damaged record made up."""
    return labels[index] if index is not None and 0 <= index < len(labels) else None


def read_predictions(folder: Path, file_name: str) -> list[Row]:
    """The rows of a pair, empty where the run wrote none.

    Raises:
        RecordError: a line is no row.
    """
    path = predictions_file(folder, file_name)
    return _entries(path, Row)


def write_flips(folder: Path, file_name: str, flips: Iterable[Flip]) -> Path:
    """Write ``flips/<pair>.jsonl``: the images that flipped against the run that was compared."""
    path = folder / "flips" / f"{file_name}.jsonl"
    path.parent.mkdir(exist_ok=True)
    lines = (json.dumps(asdict(flip), allow_nan=False, ensure_ascii=False) for flip in flips)
    write_atomically(path, "".join(f"{line}\n" for line in lines).encode("utf-8", "replace"))
    return path


def read_flips(folder: Path, file_name: str) -> list[Flip]:
    """The flips of a pair, empty where the run wrote none."""
    path = folder / "flips" / f"{file_name}.jsonl"
    return _entries(path, Flip)


def _lines(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        yield from file


def _entry(line: bytes, kind: type[Entry], read: Callable[[bytes], Entry]) -> Entry | None:
    """What a line holds; None where its writer did not finish it.

    Args:
        line: of JSON.
        kind: what it is to be.
        read: the ``decoder`` of that.

    Raises:
        ValueError: it is something else.
    """
    try:
        return read(line)
    except ValueError:
        pass
    # What JSON is, Python's own reader decides, and what is wrong with a field, ``typed`` says.
    try:
        entry = json.loads(line)
    except ValueError:
        return None
    return typed(entry, kind)


def _entries(path: Path, kind: type[Entry]) -> list[Entry]:
    """The lines of a file that a run wrote.

    Raises:
        RecordError: a line is none of them.
    """
    try:
        read = decoder(kind)
        found = (_entry(line, kind, read) for line in _lines(path)) if path.exists() else ()
        return [entry for entry in found if entry is not None]
    except ValueError as error:
        raise RecordError(f"cannot read {path}: a line is no {kind.__name__.lower()} of this version ({error})") from None
