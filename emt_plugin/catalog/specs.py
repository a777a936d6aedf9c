"""What a name on the command line resolves to."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from emt_plugin.catalog.endpoints import EndpointSpec

BUNDLED = "bundled:"


@dataclass(frozen=True)
class ModelSpec:
    """A multimodal LLM to evaluate.

    Attributes:
        id: short name, unique in a run, made of ``[A-Za-z0-9._-]``.
        source: local folder or hub id that ``from_pretrained`` takes, or whatever its backend makes of it.
        name: what the user wrote, or the catalog's name.
        encoder: local folder or hub id of its own vision encoder; None when unknown.
        encoder_from: where the encoder's name came from.
        revision: hub revision, None for the default branch.
        image_sets: names of the image sets evaluated by default.
        trust_remote_code: run code that the checkpoint brings, off unless the catalog entry asks for it.
        adapter: folder of a PEFT adapter on top of it, None for the model alone.
        adapter_base: content hash of the weights that the adapter was trained on, where it says so.
        checkpoint: id of this state of a fine-tuning run, None for a model by itself.
        backend: name of what runs it.
        reference: what it is compared with where nobody says: ``probe`` for a tower without a text twin.
        endpoint: where it is asked; None for a model that is not behind an endpoint.
    """

    id: str
    source: str
    name: str
    encoder: str | None
    encoder_from: Literal["catalog", "--emt-encoder", "tower shape"] | None
    image_sets: tuple[str, ...]
    revision: str | None = None
    trust_remote_code: bool = False
    adapter: str | None = None
    adapter_base: str | None = None
    checkpoint: str | None = None
    backend: str = "transformers"
    reference: Literal["encoder", "probe"] = "encoder"
    endpoint: EndpointSpec | None = None

    @property
    def shown(self) -> str:
        """The id, and which state of it."""
        return f"{self.id}@{self.checkpoint}" if self.checkpoint else self.id

    @property
    def weights(self) -> tuple[str, str | None, str | None]:
        """What decides its weights: where they are, the adapter on top of them, and the hub revision of either."""
        return _resolved(self.source), self.adapter and _resolved(self.adapter), self.revision


def _resolved(source: str) -> str:
    path = Path(source)
    return str(path.resolve()) if path.is_dir() else source


@dataclass(frozen=True)
class Question:
    """What a model is asked about every image of a set, and the answers that are ranked.

    Attributes:
        prompt: the question with the label names, without chat template.
        labels: label names.
        answers: for each label the answer that names it.
        stem: the opening that all answers share; its probability is not part of a label's.
    """

    prompt: str
    labels: tuple[str, ...]
    answers: tuple[str, ...]
    stem: str = ""


@dataclass(frozen=True)
class ImageSetSpec:
    """A labelled classification dataset with the wording that the model and the encoder get.

    Attributes:
        id: short name, unique in a run.
        source: hub id or path.
        kind: how the source is read.
        config: hub configuration, None for the default.
        split: the evaluated split; None for the test split, or the validation split where there is no test split.
        image: name of the image column.
        label: name of the label column.
        prompt: the question, with ``{labels}`` for the label names.
        template: the encoder's text for one label, with ``{}`` for its name.
        stems: openings that an answer may have and still be well formed.
        answer: the answer whose probability ranks a label, with ``{}`` for its name and ``{a}`` for its article.
        tuning_answer: the answer that is learned in fine-tuning, written like ``answer``; the default is the paper's.
        train_split: where linear probes are fitted and models fine-tuned.
        names: ``wordnet`` when label names may be WordNet ids, ``numbers`` when they are numbers.
        label_order: order of the label names in the prompt.
        revision: hub revision, None for the default branch.
        labels: label names, which name labels that are numbers in their order; empty for those of the data.
        synonyms: further names that an answer may give a label, by label.
        background: what shows through where an image is transparent: ``white``, ``black`` or ``#rrggbb``.
        range: the values that mean black and white in 16-bit, 32-bit and float images; None for what their mode declares.
    """

    id: str
    source: str
    kind: Literal["hub", "parquet", "saved", "folder", "file"]
    prompt: str
    template: str
    stems: tuple[str, ...]
    config: str | None = None
    split: str | None = None
    answer: str = "{}"
    tuning_answer: str = "The object is a(n) {}."
    train_split: str = "train"
    image: str = "image"
    label: str = "label"
    names: Literal["as-is", "wordnet", "numbers"] = "as-is"
    label_order: Literal["index", "alphabetical"] = "index"
    revision: str | None = None
    labels: tuple[str, ...] = ()
    synonyms: tuple[tuple[str, tuple[str, ...]], ...] = ()
    background: str = "white"
    range: tuple[float, float] | None = None

    def question(self, labels: tuple[str, ...]) -> Question:
        """What is asked, for these label names in the order of their index."""
        return Question(
            prompt=self._asked(labels),
            labels=labels,
            answers=tuple(_filled(self.answer, label) for label in labels),
            stem=re.split(r"\{a?\}", self.answer)[0].rstrip(),
        )

    def tuning_question(self, labels: tuple[str, ...]) -> str:
        """What is asked in fine-tuning: the prompt's sentences before the one that lists the labels (the paper, section 5)."""
        sentences = re.split(r"(?<=[.?!])\s+", self.prompt.partition("{labels}")[0])
        before = " ".join(sentences[:-1])
        return before or self._asked(labels)

    def tuned_answer(self, label: str) -> str:
        """What is answered in fine-tuning, for one label name."""
        return _filled(self.tuning_answer, label)

    def caption(self, label: str) -> str:
        """The encoder's text for one label name."""
        return self.template.replace("{}", label)

    def _asked(self, labels: tuple[str, ...]) -> str:
        ordered = sorted(labels) if self.label_order == "alphabetical" else labels
        return self.prompt.replace("{labels}", ", ".join(ordered))


def _filled(answer: str, label: str) -> str:
    return answer.replace("{a}", article(label)).replace("{}", label)


def article(noun: str) -> str:
    """The English indefinite article of a noun, by its first letter."""
    return "an" if noun[:1].lower() in tuple("aeiou") else "a"


def bundled_folder() -> Path:
    """Where the bundled zoo lies: ``fixtures/mini`` in a checkout, inside the package when installed."""
    package = Path(__file__).parents[1]
    installed = package / "fixtures" / "mini"
    return installed if installed.is_dir() else package.parent / "fixtures" / "mini"


def display(source: str) -> str:
    """A source as a record shows it: bundled things by name, wherever they are installed."""
    path = Path(source)
    folder = bundled_folder()
    return f"{BUNDLED}{path.name}" if path.is_relative_to(folder) else source
