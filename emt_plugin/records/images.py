"""Which images were evaluated, as a hash, and that some are the first ones of others."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Iterator, Sequence
from hashlib import sha256

# Published: it decides which images a limit takes.
SEED = "emt-subset-1"
# Of a hash, what a mark is: three bytes, which are four characters.
MARK_BYTES, MARK = 3, 4


def images_hashes(labels: Sequence[str], images: Iterable[tuple[str, int, int]]) -> Iterator[str]:
    """After each image the sha256 over the label names and the images so far, in hex.

    Args:
        labels: label names.
        images: content hash, occurrence and label of each, in their order.
    """
    digest = sha256("\0".join(labels).encode())
    for image, occurrence, label in images:
        digest.update(f"{image}:{occurrence}:{label};".encode())
        yield digest.hexdigest()


def place_of(image: str, occurrence: int) -> bytes:
    """Where an image has its place in the fixed pseudo-random order: the least first.

    Args:
        image: its content hash.
        occurrence: which of the images with this content.
    """
    return sha256(f"{SEED}:{image}:{occurrence}".encode()).digest()


def mark(images_hash: str) -> str:
    """The beginning of such a hash in four characters; empty where it is none."""
    try:
        return base64.b64encode(bytes.fromhex(images_hash)[:MARK_BYTES]).decode()
    except ValueError:
        return ""
