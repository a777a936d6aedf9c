"""The store: rows on shelves, a shelf for each key, a key being all that determines its rows.

A shelf is a folder. Each process appends to a file of its own there, a line for each batch, so any number of writers
may work at once, on a network disk too. A process that is killed leaves at most a torn last line, which readers pass
over and which nobody writes behind.
"""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal, get_args

from emt_plugin.store.files import write_atomically

StoreMode = Literal["use", "refresh", "off"]
MODES: tuple[StoreMode, ...] = get_args(StoreMode)
DEFAULT_FOLDER = ".emt_store"
LAYOUT = "1"
KEY_FILE = "key.json"
CACHE_TAG = "Signature: 8a477f597d28d172789f06886806bc55\n# What pytest-emt has computed; see `emt store --help`.\n"


@dataclass(frozen=True)
class Stored:
    """A row: plain data, and when it was computed (ISO 8601, UTC)."""

    value: Any
    at: str


class Store:
    """All shelves of one folder.

    Args:
        folder: where they are; made on first use.
        mode: ``use`` reads and writes; ``refresh`` computes everything anew and writes; ``off`` touches no file.
        say: told once when nothing more can be kept, after which the run goes on without.
        most_bytes: what vision features may take; None for any amount.
    """

    def __init__(
        self,
        folder: Path,
        mode: StoreMode = "use",
        say: Callable[[str], None] = lambda text: None,
        most_bytes: int | None = None,
    ) -> None:
        self.folder = folder
        self.mode = mode
        self.most_bytes = most_bytes
        self.writes = mode != "off"
        self.say = say
        self._shelves: dict[Path, Shelf] = {}

    def shelf(self, kind: str, key: Mapping[str, Any], about: Mapping[str, Any] | None = None) -> Shelf:
        """The shelf of a key.

        Args:
            kind: what its rows are, one word.
            key: everything that determines them, as plain data.
            about: names for people, which determine nothing.
        """
        path = self.place(kind, key)
        facts = {"kind": kind, "key": dict(key), "about": dict(about or {})}
        if self.mode == "off":
            # Nothing is kept from one asker to the next, in memory either.
            return Shelf(self, path, facts)
        if path not in self._shelves:
            self._shelves[path] = Shelf(self, path, facts)
        return self._shelves[path]

    def place(self, kind: str, key: Mapping[str, Any]) -> Path:
        """The folder of a key's shelf."""
        return self.folder / LAYOUT / kind / key_hash(key)

    def open_shelf(self, path: Path, facts: Mapping[str, Any]) -> None:
        """Make a shelf's folder, saying what it is for; its key file's time is when it was last used.

        Raises:
            OSError: it cannot be made.
        """
        path.mkdir(parents=True, exist_ok=True)
        if not (path / KEY_FILE).exists():
            self._mark_folder()
            write_atomically(path / KEY_FILE, (json.dumps(facts, indent=1, sort_keys=True) + "\n").encode())
        with suppress(OSError):
            os.utime(path / KEY_FILE)

    def give_up(self, error: OSError) -> None:
        """Write nothing more: a row behind a torn line would be lost too. What is there is still read."""
        if self.writes:
            self.say(f"the store at {self.folder} cannot be written ({error.strerror or error}): this run keeps nothing more")
            self.writes = False

    def _mark_folder(self) -> None:
        """Keep the folder out of version control and of backups, as pytest does with its cache."""
        for name, text in ((".gitignore", "*\n"), ("CACHEDIR.TAG", CACHE_TAG)):
            if not (self.folder / name).exists():
                write_atomically(self.folder / name, text.encode())


class Shelf:
    """The rows of one key. Of rows with the same name the newest counts."""

    def __init__(self, store: Store, path: Path, facts: Mapping[str, Any]) -> None:
        self.path = path
        self._store = store
        self._facts = facts
        self._file: Path | None = None
        self._rows: dict[str, Stored] = {}
        if store.mode == "use" and path.is_dir():
            self._rows = read_rows(path)
            with suppress(OSError):
                os.utime(path / KEY_FILE)

    def get(self, row: str) -> Stored | None:
        """A row, None where there is none."""
        return self._rows.get(row)

    def __len__(self) -> int:
        return len(self._rows)

    def put(self, rows: Mapping[str, Any]) -> None:
        """Keep rows; they are in the operating system's hands when this returns, so a killed process loses none of them.

        Args:
            rows: plain data by name.
        """
        if not rows:
            return
        now = datetime.now(UTC).isoformat(timespec="seconds")
        line = json.dumps({"at": now, "rows": rows}, allow_nan=False, separators=(",", ":"))
        self._rows.update({name: Stored(value, now) for name, value in rows.items()})
        if not self._store.writes:
            return
        try:
            self._append(line)
        except OSError as error:
            self._store.give_up(error)

    def _append(self, line: str) -> None:
        if self._file is None or not self._file.exists():
            # Another process may have pruned the shelf meanwhile.
            self._store.open_shelf(self.path, self._facts)
            self._file = self.path / f"{secrets.token_hex(8)}.jsonl"
        with self._file.open("a", encoding="utf-8") as file:
            file.write(line + "\n")


def read_rows(path: Path) -> dict[str, Stored]:
    """All rows of a shelf's folder; of rows with the same name the newest."""
    rows: dict[str, Stored] = {}
    for file in sorted(path.glob("*.jsonl")):
        for at, found in _lines(file):
            newer = {name: value for name, value in found.items() if name not in rows or rows[name].at <= at}
            rows.update({name: Stored(value, at) for name, value in newer.items()})
    return rows


def _lines(file: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """The whole lines of a file: when, and the rows. A file that is gone has none, and a damaged line is passed over."""
    try:
        content = file.read_bytes()
    except OSError:
        return
    for line in content.split(b"\n"):
        try:
            entry = json.loads(line)
        except ValueError:
            continue
        if isinstance(entry, dict) and isinstance(entry.get("at"), str) and isinstance(entry.get("rows"), dict):
            yield entry["at"], entry["rows"]


def key_hash(key: Mapping[str, Any]) -> str:
    """32 hex digits of a key's SHA-256; the order of its entries does not matter."""
    return sha256(json.dumps(key, sort_keys=True, allow_nan=False).encode()).hexdigest()[:32]
