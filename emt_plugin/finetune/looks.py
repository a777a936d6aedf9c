"""What was seen of a model in training, kept beside its checkpoints so that a run that goes on knows what it began as."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from emt_plugin.errors import CouldNotRun
from emt_plugin.store.files import write_atomically

LOOKS = "emt-looks.json"


@dataclass(frozen=True)
class Look:
    """One look.

    Attributes:
        step: optimiser steps that the model had taken.
        epoch: passes over the training data, a fraction within one.
        alpha: what it could spend.
        sets: by image set: gap, low, high, no_class, p, failed and verdict.
    """

    step: int
    epoch: float
    alpha: float
    sets: Mapping[str, Mapping[str, Any]]

    @property
    def failed(self) -> list[str]:
        """Image sets that have lost more than the tolerance."""
        return [name for name, found in self.sets.items() if found["failed"]]


@dataclass(frozen=True)
class Looks:
    """All that was seen in one training.

    Attributes:
        watched: what must be the same in a run that goes on: image sets with their images, and which of them may stop it.
        base: how the answers at step 0 were read, by image set, a sign for each image.
        looks: in order.
        stopped: the step at which training was stopped; None where it was not.
        keep: the step of the checkpoint to keep, 0 for the base.
    """

    watched: Mapping[str, Any]
    base: Mapping[str, str]
    looks: tuple[Look, ...] = field(default=())
    stopped: int | None = None
    keep: int = 0

    def to_json(self) -> str:
        """The content of the file."""
        looks = [vars(look) for look in self.looks]
        return json.dumps({"schema": 1, **vars(self), "looks": looks}, indent=1, allow_nan=False) + "\n"

    @classmethod
    def of_json(cls, text: str) -> Looks:
        """Read the content of the file.

        Raises:
            ValueError: it is not what ``to_json`` writes.
        """
        try:
            found = json.loads(text)
            looks = tuple(Look(**look) for look in found["looks"])
            return cls(found["watched"], found["base"], looks, found["stopped"], found["keep"])
        except (LookupError, TypeError) as error:
            raise ValueError(str(error)) from None

    def upto(self, step: int) -> Looks:
        """What was seen up to a step. A run that goes on from there takes the later looks again, under their numbers."""
        looks = tuple(look for look in self.looks if look.step <= step)
        stopped = None if self.stopped is None or self.stopped > step else self.stopped
        return Looks(self.watched, self.base, looks, stopped, self.keep if self.keep <= step else 0)


def read(folder: Path) -> Looks | None:
    """What is known of the training into a folder; None where nothing is.

    Raises:
        CouldNotRun: the file is none of ours.
    """
    path = folder / LOOKS
    try:
        return Looks.of_json(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise CouldNotRun(f"{path} cannot be read ({error}); train anew, or without the callback") from None


def write(folder: Path, looks: Looks) -> None:
    """Put it beside the checkpoints.

    Raises:
        OSError: it cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(folder / LOOKS, looks.to_json().encode())
