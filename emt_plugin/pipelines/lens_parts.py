"""What a LENS is put together from: three checkpoints, two vocabularies and a few numbers."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, fields
from hashlib import sha256
from pathlib import Path
from typing import Any

from emt_plugin.errors import CouldNotRun
from emt_plugin.models.backend import Request
from emt_plugin.models.checkpoint import Checkpoint, find
from emt_plugin.models.devices import default_device

# What the language model reads (lens/utils.py of the released code, mode "all").
PROMPT = "Tags:\n-{tags}\nAttributes:\n-{attributes}\nCaptions:\n-{captions}\nQuestion:{question}\nShort Answer:"
# The name under which the catalog has the released parts.
RELEASED = "lens"
COLUMN = "prompt_descriptions"
WANTED = {str: "a folder, a file or a hub id", int: "a whole number of at least 1", float: "a cosine from -1 to 1"}


@dataclass(frozen=True)
class LensParts:
    """The parts; the defaults are those of github.com/ContextualAI/lens (lens/model.py), and the paper's Flan-T5.

    Attributes:
        clip: folder or hub id of the CLIP that finds tags and attributes, which is also the system's encoder.
        captioner: folder or hub id of a BLIP.
        language_model: folder or hub id of the encoder-decoder that answers.
        tags: a text file with a tag in each line, or a hub dataset and its split as ``id:split``.
        attributes: the same, for what attributes are described by.
        most: tags and attributes of an image at most, each.
        threshold: cosine that a tag or an attribute has at least.
        captions: captions of an image.
    """

    clip: str = "laion/CLIP-ViT-H-14-laion2B-s32B-b79K"
    captioner: str = "Salesforce/blip-image-captioning-large"
    language_model: str = "google/flan-t5-xl"
    tags: str = "llm-lens/vocab_tags:train"
    attributes: str = "llm-lens/descriptors-text-davinci-003:full"
    most: int = 5
    threshold: float = 0.2
    captions: int = 5

    @classmethod
    def of(cls, source: str) -> LensParts:
        """The parts that a TOML file names, paths beside it; the released ones for ``lens``.

        Raises:
            CouldNotRun: there is no such file, or it does not name parts.
        """
        if source == RELEASED:
            return cls()
        path = Path(source)
        try:
            found = tomllib.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise CouldNotRun(
                f"{source} is no description of a LENS ({error}): name a TOML file with clip, captioner, language_model, tags "
                f"and attributes"
            ) from None
        kinds = {field.name: type(field.default) for field in fields(cls)}
        for name, value in found.items():
            if name not in kinds:
                raise CouldNotRun(f"{source}: '{name}' means nothing there; known: {', '.join(kinds)}")
            if not _fits(value, kinds[name]):
                raise CouldNotRun(f"{source}: {name} is {value!r}; write {WANTED[kinds[name]]}")
        given: dict[str, Any] = {
            name: _beside(path, value) if isinstance(value, str) else value for name, value in found.items()
        }
        return cls(**given)


def _fits(value: Any, kind: Any) -> bool:
    if kind is float:
        return isinstance(value, int | float) and not isinstance(value, bool) and -1 <= value <= 1
    return type(value) is kind and bool(value >= 1 if kind is int else value)


def _beside(path: Path, name: str) -> str:
    there = path.parent / name
    return str(there) if there.exists() else name


@dataclass(frozen=True)
class Assembled:
    """All parts found, none of them loaded.

    Attributes:
        parts: what was asked for.
        clip: finds tags and attributes.
        captioner: writes captions.
        writer: answers.
        tags: all that there are.
        attributes: the same.
        device: where all three run.
        dtype: what they compute in.
    """

    parts: LensParts
    clip: Checkpoint
    captioner: Checkpoint
    writer: Checkpoint
    tags: tuple[str, ...]
    attributes: tuple[str, ...]
    device: str
    dtype: str

    @property
    def checkpoints(self) -> dict[str, Checkpoint]:
        """The three models by name."""
        return {"clip": self.clip, "captioner": self.captioner, "language_model": self.writer}


def assembled(request: Request) -> Assembled:
    """The parts of a LENS that was asked for.

    Raises:
        CouldNotRun: a part is not on this machine, or not in a format that is loaded here.
    """
    name, parts = request.spec.shown, LensParts.of(request.spec.source)
    writer = find(parts.language_model, f"the language model of {name}", request.spec.name, text=True)
    device = request.compute.device or default_device(request.store)
    return Assembled(
        parts=parts,
        clip=find(parts.clip, f"the CLIP of {name}", request.spec.name, encoder=True),
        captioner=find(parts.captioner, f"the captioner of {name}", request.spec.name, encoder=True),
        writer=writer,
        tags=vocabulary(parts.tags),
        attributes=vocabulary(parts.attributes),
        device=device,
        dtype=request.compute.dtype or ("float32" if device == "cpu" else writer.own_dtype()),
    )


def vocabulary(source: str) -> tuple[str, ...]:
    """The words of a text file, a line each, or of a hub dataset, each once.

    Raises:
        CouldNotRun: it cannot be had, or is empty.
    """
    path = Path(source)
    try:
        words = path.read_text(encoding="utf-8").splitlines() if path.is_file() else _from_hub(*source.rpartition(":")[::2])
    except (OSError, UnicodeDecodeError) as error:
        raise CouldNotRun(f"the vocabulary {source} cannot be read ({error}): write it as UTF-8, a word in each line") from None
    found = tuple(dict.fromkeys(word.strip() for word in words if word.strip()))
    if not found:
        raise CouldNotRun(f"the vocabulary {source} is empty: write a word in each line")
    return found


def _from_hub(name: str, split: str) -> list[str]:
    from datasets import load_dataset

    try:
        rows = load_dataset(name, split=split)[COLUMN]
    except Exception as error:  # Whatever the hub's client and the dataset lead to.
        raise CouldNotRun(
            f"the vocabulary {name or split} cannot be had ({type(error).__name__}): name a text file with a word in each line "
            f"as tags or attributes"
        ) from None
    return [word for row in rows for word in ([row] if isinstance(row, str) else row)]


def words_hash(words: tuple[str, ...]) -> str:
    """A hash of a vocabulary in its order."""
    return sha256("\n".join(words).encode()).hexdigest()[:32]
