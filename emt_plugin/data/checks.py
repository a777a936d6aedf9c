"""What is seen of the pixels of a whole split, and which splits are refused for it."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field
from hashlib import sha256
from typing import NamedTuple

from emt_plugin.catalog import ImageSetSpec
from emt_plugin.data.pixels import COLOUR_16, UPRIGHT, DecodedImage, Span, rgb_hash
from emt_plugin.data.source import refused

# A set whose values stay below this share of what they are declared to run to was declared wrongly.
QUARTER = 0.25
# More files than this share that differ and decode to the pixels of another: the decoding lost what told them apart.
MOST_ALIKE = 0.10
LEAST_ALIKE = 2


class File(NamedTuple):
    """What is known of a file: the hash of its pixels, its class, and whether anything in it may have been lost."""

    pixels: str
    label: int
    lossy: bool


@dataclass
class Census:
    """The pixels of the images of a split, counted as they pass.

    Attributes:
        done: how many images had what done to their pixels.
    """

    done: Counter[str] = field(default_factory=Counter)
    _spans: dict[str, Span] = field(default_factory=dict)
    _files: dict[bytes, File] = field(default_factory=dict)
    _contradicted: set[bytes] = field(default_factory=set)

    def add(self, encoded: bytes, seen: DecodedImage, label: int) -> str:
        """Count one image of a class; returns the hash of its RGB pixels."""
        self.done.update(seen.done)
        if seen.span:
            known = self._spans.get(seen.span.kind)
            self._spans[seen.span.kind] = _joined(known, seen.span) if known else seen.span
        pixels = rgb_hash(seen.image)
        content = sha256(encoded).digest()
        if content in self._files and self._files[content].label != label:
            self._contradicted.add(content)
        self._files[content] = File(pixels, label, bool(set(seen.done) - {UPRIGHT}))
        return pixels

    def check(self, spec: ImageSetSpec, whole: bool = True) -> tuple[str, ...]:
        """What a reader of the results should know.

        Args:
            spec: the image set.
            whole: all images of a split were counted, not a few of them.

        Raises:
            CouldNotRun: values outside their range or in a small part of it, or images that became alike.
        """
        for span in self._spans.values():
            _check_values(spec, span, whole)
        if whole and spec.range and not any(kind != COLOUR_16 for kind in self._spans):
            raise refused(
                spec, "range is for 16-bit, 32-bit and float images, and it has none: take it out of the catalog file"
            )
        return (*self._two_classes(), *self._alike(spec)) if whole else ()

    def _two_classes(self) -> tuple[str, ...]:
        """Files that one class has and another too: no answer to them is right for both."""
        count = len(self._contradicted)
        return (f"{count:,} file{' is' if count == 1 else 's are'} in two classes, the same to the byte",) if count else ()

    def _alike(self, spec: ImageSetSpec) -> tuple[str, ...]:
        groups: dict[str, list[File]] = {}
        for file in self._files.values():
            groups.setdefault(file.pixels, []).append(file)
        files, alike = len(self._files), len(self._files) - len(groups)
        # What was decoded as it is, and has one label, is a duplicate that the set itself has.
        lost = sum(
            len(group) - 1
            for group in groups.values()
            if any(file.lossy for file in group) or len({file.label for file in group}) > 1
        )
        if lost >= LEAST_ALIKE and lost > MOST_ALIKE * files:
            raise refused(
                spec,
                f"{lost:,} of {files:,} files that differ decode to the same pixels as another, so what tells them apart is "
                f"lost: {self._way_out(spec)}",
            )
        if alike == 0:
            return ()
        one = alike == 1
        return (
            f"{alike:,} file{'' if one else 's'} that differ{'s' if one else ''} decode{'s' if one else ''} to the same pixels "
            f"as another",
        )

    def _way_out(self, spec: ImageSetSpec) -> str:
        if any(phrase.startswith("transparency") for phrase in self.done):
            other = "white" if spec.background == "black" else "black"
            return (
                f"their transparency lies over {spec.background}; "
                f'write background = "{other}" or the colour that was meant in a catalog file (--emt-catalog)'
            )
        if self.done["first of several frames"]:
            return "they are animations, of which the first frame is read; save the frame that is meant as an image of its own"
        return "look at the images, and save them as 8-bit RGB, each with the class that it shows"


def _joined(one: Span, other: Span) -> Span:
    low = float("nan") if math.isnan(one.low) or math.isnan(other.low) else min(one.low, other.low)
    return one._replace(low=low, high=max(one.high, other.high))


def _check_values(spec: ImageSetSpec, span: Span, whole: bool) -> None:
    if math.isnan(span.low):
        raise refused(spec, f"its {span.kind} images hold values that are no numbers (NaN or infinite): save them as 8-bit PNG")
    low, high = span.declared
    seen = f"{span.low:g} to {span.high:g}"
    if span.low < low or span.high > high:
        raise refused(
            spec, f"its {span.kind} images hold values from {seen}, outside {low:g} to {high:g}: write {_key(span)} {WHERE}"
        )
    declared_by_user = spec.range is not None and span.kind != COLOUR_16
    if not whole or declared_by_user or span.high > low + QUARTER * (high - low):
        return
    if span.kind == COLOUR_16:
        raise refused(
            spec, f"its {span.kind} images use at most {(span.high + 1) / 256:.0%} of their range: save them as 8-bit PNG"
        )
    raise refused(
        spec, f"its {span.kind} images hold values from {seen}, a small part of {low:g} to {high:g}: write {_key(span)} {WHERE}"
    )


WHERE = "with the values that mean black and white, in a catalog file (--emt-catalog)"


def _key(span: Span) -> str:
    """The catalog key that declares the values that were seen."""
    if span.kind.startswith("float") and span.low >= 0 and span.high <= 1:
        return f"range = [0, {math.ceil(span.high * 1000) / 1000 or 1:g}]"
    if span.low < 0:
        return f"range = [{math.floor(span.low)}, {math.ceil(span.high)}]"
    bits = max(1, math.ceil(span.high).bit_length())
    return f"range = [0, {2**bits - 1}]"
