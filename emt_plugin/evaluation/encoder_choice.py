"""Which of the encoders whose towers have one shape a model was made with: the one whose weights its tower has. No torch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from emt_plugin.errors import CouldNotRun
from emt_plugin.models.checkpoint import Checkpoint, find, is_here

if TYPE_CHECKING:
    import numpy as np

# What to type where no encoder can be had.
BASE = "--emt-reference BASE (the name, folder or hub id of the model that it was tuned from)"
# The first weights of a tower: no two trainings from scratch have the same.
PATCHES = "embeddings.patch_embedding.weight"


def chosen(model: Checkpoint, sources: Sequence[str]) -> str:
    """The source of the encoder that a model's tower is nearest to, among those on this machine.

    Args:
        model: whose tower it is.
        sources: of encoders whose towers have that shape, one or more; a single one may be elsewhere.

    Raises:
        CouldNotRun: there are several, and none is on this machine.
    """
    if len(sources) == 1:
        return sources[0]
    here = [source for source in sources if is_here(source)]
    if not here:
        names = " or ".join(_name(source) for source in sources)
        raise CouldNotRun(
            f"by the shape of its tower the encoder of {model.name} is {names}, and none of them is on this machine: where "
            f"there is a network, fetch them with: emt fetch {' '.join(sources)}; or name one with --emt-encoder"
        )
    return min(here, key=lambda source: _distance(model, source)) if len(here) > 1 else here[0]


def _name(source: str) -> str:
    return Path(source).name if Path(source).is_dir() else source


def _distance(model: Checkpoint, source: str) -> float:
    """The largest difference between the first weights of a model's tower and of an encoder's."""
    import numpy as np

    mine, theirs = (_patches(checkpoint) for checkpoint in (model, find(source, source, source, encoder=True)))
    if mine is None or theirs is None or mine.shape != theirs.shape:
        return float("inf")
    return float(np.abs(mine - theirs).max())


def _patches(checkpoint: Checkpoint) -> np.ndarray | None:
    import numpy as np

    stored = checkpoint.stored(PATCHES)
    if stored is None:
        return None
    dtype, data = stored
    if dtype == "BF16":
        # The upper half of a float32.
        return (np.frombuffer(data, "<u2").astype("<u4") << 16).view("<f4")
    known = {"F32": "<f4", "F16": "<f2", "F64": "<f8"}
    return np.frombuffer(data, known[dtype]).astype("<f4") if dtype in known else None
