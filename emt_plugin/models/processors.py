"""A checkpoint's processor: images through PIL, so that machines agree, and what is not for images left out."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

# Parts of a processor that no image goes through; some need packages that are not here.
IDLE_PARTS = ("video_processor", "feature_extractor", "audio_processor")
# How transformers says that a package is missing.
MISSING = (
    r"No module named '([\w.]+)'",
    r"requires the ([\w.-]+) library",
    r"[Pp]ackage [`']([\w.-]+)[`']",
    r"pip install (?:-\S+\s+)*([\w.-]+)",
)


def load_processor(folder: Path, trust_remote_code: bool = False) -> Any:
    """The processor in a checkpoint's folder, with its image processor on the PIL backend and no video or audio part.

    Raises:
        Exception: whatever transformers raises.
    """
    from transformers import AutoProcessor

    with _without_idle_parts():
        return AutoProcessor.from_pretrained(folder, backend="pil", trust_remote_code=trust_remote_code)


def missing_package(error: BaseException) -> str | None:
    """The package that an error of transformers says is not installed; None where it is another error."""
    found = (re.search(pattern, str(error)) for pattern in MISSING) if isinstance(error, ImportError) else ()
    return next((match[1].lower() for match in found if match), None)


class _LeftOut:
    """Stands for a part while a processor is put together."""

    @classmethod
    def from_pretrained(cls, *args: Any, **kwargs: Any) -> None:
        """No part."""


@contextmanager
def _without_idle_parts() -> Iterator[None]:
    """A context in which transformers puts processors together without parts that images do not need."""
    from transformers import processing_utils

    loaders = processing_utils.MODALITY_TO_AUTOPROCESSOR_MAPPING
    mixin = processing_utils.ProcessorMixin
    check, find = mixin.check_argument_for_proper_class, type(loaders).__getitem__

    def lenient(self: Any, name: str, part: Any) -> Any:
        return type(None) if part is None else check(self, name, part)

    def found(self: Any, name: str) -> Any:
        return _LeftOut if name in IDLE_PARTS else find(self, name)

    mixin.check_argument_for_proper_class = lenient
    type(loaders).__getitem__ = found
    try:
        yield
    finally:
        mixin.check_argument_for_proper_class = check
        type(loaders).__getitem__ = find
