"""Images that a model in training is asked about, and how it answers them."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from emt_plugin.catalog import Catalog, ImageSetSpec
from emt_plugin.data import ImageSet, load_image_set
from emt_plugin.errors import CouldNotRun
from emt_plugin.evaluation.scorers import answer_scorer
from emt_plugin.gate import chance_of
from emt_plugin.models.checkpoint import Checkpoint
from emt_plugin.models.transformers_backend import TransformersBackend, complete
from emt_plugin.scoring import AnswerScorer
from emt_plugin.store import Store

# How an answer was read.
RIGHT, WRONG, NO_CLASS = "r", "w", "-"
NAME = "the model in training"


@dataclass(frozen=True)
class Watched:
    """One image set that is watched.

    Attributes:
        images: the first so many of the fixed order.
        scorer: reads answers to its question.
        chance: accuracy of one who does not look.
    """

    images: ImageSet
    scorer: AnswerScorer
    chance: float

    @property
    def facts(self) -> dict[str, Any]:
        """What must be the same for two readings to be comparable; plain data."""
        return {
            "fingerprint": self.images.fingerprint,
            "images": len(self.images.items),
            "prompt": self.images.question.prompt,
            "reader": self.scorer.version,
        }


def watched(specs: Sequence[ImageSetSpec], catalog: Catalog, count: int, store: Store | None) -> dict[str, Watched]:
    """Image sets to watch, by id.

    Args:
        specs: which.
        catalog: whose other image sets an answer may be a class of.
        count: images of each at most.
        store: where the images' hashes are remembered; without it every image of a split is decoded.

    Raises:
        CouldNotRun: see ``load_image_set``.
    """
    found = {}
    for spec in specs:
        images = load_image_set(spec, count, store)
        chance = chance_of([item.label for item in images.items], len(images.labels))
        found[spec.id] = Watched(images, answer_scorer(catalog, images), chance)
    return found


class Asker:
    """Asks a model that is in memory, as the suite asks a checkpoint: prompts, answers and reader are the same.

    Args:
        model: of transformers, in evaluation mode, or a PEFT adapter on one.
        processor: the model's; it is copied, never changed.
        batch_size: images in one forward at most; fewer where memory runs out.
        precision: what training computes in where that is not the weights' own dtype.

    Raises:
        CouldNotRun: it sees no image, its processor does not show any, or its adapter is of a kind that is not read here.
    """

    def __init__(self, model: Any, processor: Any, batch_size: int, precision: torch.dtype | None = None) -> None:
        plain = plain_model(model)
        if not {"vision_config", "vq_config"} & set(plain.config.to_dict()):
            raise CouldNotRun(f"a {plain.config.model_type} sees no image, so it cannot be watched: it has no vision_config")
        if getattr(processor, "image_processor", None) is None or getattr(processor, "tokenizer", None) is None:
            raise CouldNotRun(
                "no processor that shows images is known to the trainer: hand it over, "
                "ForgettingCallback(..., processor=AutoProcessor.from_pretrained(BASE))"
            )
        mine = copy.deepcopy(processor)
        complete(mine, plain)
        self._device = next(plain.parameters()).device
        self._precision = precision
        self._size = batch_size
        self._backend = TransformersBackend(
            Checkpoint(Path(), NAME, plain.config.to_dict()),
            str(self._device),
            batch_size=batch_size,
            loaded=(plain, mine),
        )

    def readings(self, part: Watched, share: slice) -> str:
        """How the answers to some of an image set's images were read: a sign for each, ``RIGHT``, ``WRONG`` or ``NO_CLASS``.

        Args:
            part: the image set.
            share: which of its images.

        Raises:
            CouldNotRun: it cannot be asked.
        """
        images, items = part.images, part.images.items[share]
        signs = []
        precision = torch.autocast(self._device.type, self._precision) if self._precision else nullcontext()
        # A tower that is trained sees an image otherwise at each look.
        with self._backend.unshelved(), precision:
            for start in range(0, len(items), self._size):
                batch = items[start : start + self._size]
                answers = self._backend.observe(images.images(batch), images.question, {"answer"})
                for item, seen in zip(batch, answers, strict=True):
                    score = part.scorer.score(seen, item.label, images.labels)
                    signs.append(NO_CLASS if score.prediction is None else RIGHT if score.correct else WRONG)
        return "".join(signs)


def plain_model(model: Any) -> Any:
    """The model of transformers in what a trainer trains, with the layers that an adapter has put into it.

    Raises:
        CouldNotRun: the adapter does not work by layers in the model.
    """
    base = getattr(model, "get_base_model", None)
    if base is None or not hasattr(model, "peft_config"):
        return model
    if model.active_peft_config.is_prompt_learning:
        kind = str(model.active_peft_config.peft_type).rpartition(".")[2]
        raise CouldNotRun(f"an adapter of the kind {kind} is no part of the model's layers, so the model cannot be watched")
    return base()


def outcomes(readings: Mapping[str, str]) -> dict[str, list[bool]]:
    """By image set, whether each answer is right."""
    return {name: [sign == RIGHT for sign in signs] for name, signs in readings.items()}
