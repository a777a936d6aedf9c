"""What a model and its encoder made of each image: from the store where it is there, computed where it is not."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from PIL import Image

from emt_plugin.data import ImageSet, Item
from emt_plugin.data.pixels import pixel_hash
from emt_plugin.errors import CouldNotRun
from emt_plugin.evaluation.models import Model
from emt_plugin.evaluation.tasks import Done, Pending, Task
from emt_plugin.records import Replay
from emt_plugin.scoring import Observation, Want
from emt_plugin.store import Shelf, Store

# Images of one step where nothing has to be computed.
STEP = 256
# Solid grey stands for an image that shows nothing.
GREY = (127, 127, 127)
GREY_SIDE = 224


class Seen(NamedTuple):
    """One image, what the model made of it, and the class that the encoder gave it."""

    item: Item
    observation: Observation
    encoder: int | None


@dataclass
class Batch:
    """Some images, and what was asked of those that something is missing of.

    Attributes:
        items: the images.
        missing: those that something is missing of.
        wants: what was asked of which of them, by their places.
        asked: the task; None where nothing is missing.
        done: what came of it.
    """

    items: Sequence[Item]
    missing: Sequence[Item] = ()
    wants: tuple[tuple[frozenset[Want], tuple[int, ...]], ...] = ()
    asked: Pending | None = None
    done: Done | None = None


@dataclass
class Counter:
    """Images whose observations were all stored, the others, the age of the oldest, and tokens that were generated."""

    replayed: int = 0
    computed: int = 0
    since: str | None = None
    new_tokens: int = 0

    def as_record(self) -> Replay:
        """For the run record."""
        return Replay(self.replayed, self.computed, self.since)


class Observer:
    """Observes the images of one set with one model.

    Args:
        store: where observations are kept.
        model: not loaded unless something is missing.
        image_set: the images.
        wants: what is observed.
        with_encoder: whether the encoder classifies the images too.
    """

    def __init__(
        self, store: Store, model: Model, image_set: ImageSet, wants: Collection[Want], with_encoder: bool = False
    ) -> None:
        self.counter = Counter()
        self._model = model
        self._image_set = image_set
        self._question = image_set.question
        self._wants = frozenset(wants)
        about = {"model": model.spec.id, "image_set": image_set.spec.id}
        self._shelves: dict[Want, Shelf] = {
            want: store.shelf(want, {**model.key, **asked}, about) for want, asked in self._questions().items() if want in wants
        }
        self._encoder = store.shelf("encoder", self._encoder_key(), about) if with_encoder else None

    def observed(self, items: Sequence[Item]) -> Iterator[list[Seen]]:
        """The images in their order, a batch at a time; what was computed is stored before it is handed out.

        Raises:
            CouldNotRun: the model cannot be loaded, or memory ran out with one image.
        """
        under_way: deque[Batch] = deque()
        try:
            for items_of in self._batches(items):
                self._count(items_of)
                under_way.append(self._asked(items_of))
                self._keep_what_came(under_way)
                while len(under_way) > self._ahead():
                    yield self._seen(under_way.popleft())
            while under_way:
                yield self._seen(under_way.popleft())
        finally:
            self._keep_what_came(under_way)
            for batch in under_way:
                if batch.asked:
                    batch.asked.drop()

    def neutral(self) -> tuple[float, ...]:
        """Log-probability of each label under a mean-grey image, with the same prompt."""
        grey = Image.new("RGB", (GREY_SIDE, GREY_SIDE), GREY)
        shelf = self._shelves["label_logprobs"]
        row = f"{pixel_hash(grey)}:0"
        if shelf.get(row) is None:
            (seen,) = self._model.loaded().backend.observe([grey], self._question, {"label_logprobs"})
            self._put({row: seen}, {"label_logprobs"})
        stored = shelf.get(row)
        assert stored is not None
        return tuple(stored.value)

    def _questions(self) -> dict[Want, dict[str, Any]]:
        """What is asked of the model, by what is wanted; features are kept by the tower, not here."""
        question = self._question
        prompt = {"prompt": question.prompt, "rendered": self._model.rendered(question.prompt)}
        return {
            "answer": {**prompt, "generation": dict(self._model.facts.generation)},
            "label_logprobs": {**prompt, "answers": list(question.answers), "stem": question.stem},
        }

    def _encoder_key(self) -> dict[str, Any]:
        captions = [self._image_set.spec.caption(label) for label in self._image_set.labels]
        return {**self._model.encoder_key, "tower": self._model.facts.tower, "captions": captions}

    def _missing(self, item: Item) -> frozenset[Want]:
        stored = {want for want, shelf in self._shelves.items() if shelf.get(item.key) is not None}
        return self._wants - stored

    def _lacks_encoder(self, item: Item) -> bool:
        return self._encoder is not None and self._encoder.get(item.key) is None

    def _batches(self, items: Sequence[Item]) -> Iterator[list[Item]]:
        """Consecutive images, of which no more than one forward takes have to be computed."""
        batch: list[Item] = []
        computed = 0
        for item in items:
            has_to_be = bool(self._missing(item)) or self._lacks_encoder(item)
            if len(batch) >= STEP or (has_to_be and computed >= self._size()):
                yield batch
                batch, computed = [], 0
            batch.append(item)
            computed += has_to_be
        if batch:
            yield batch

    def _size(self) -> int:
        return self._model.loaded().backend.batch_size

    def _ahead(self) -> int:
        return self._model.loaded().ahead if self._model.is_loaded else 0

    def _asked(self, items: list[Item]) -> Batch:
        """Hand on what is missing of a batch, images that miss the same together."""
        groups: dict[frozenset[Want], list[int]] = {}
        missing = [item for item in items if self._missing(item) or self._lacks_encoder(item)]
        if not missing:
            return Batch(items)
        for place, item in enumerate(missing):
            groups.setdefault(self._missing(item), []).append(place)
        captions = [self._image_set.spec.caption(label) for label in self._image_set.labels]
        loaded = self._model.loaded()
        task = Task(
            images=tuple(self._image_set.images(missing)),
            question=self._question,
            wants=tuple((wants, tuple(places)) for wants, places in groups.items() if wants),
            captions=tuple(captions),
            classified=tuple(place for place, item in enumerate(missing) if self._lacks_encoder(item))
            if loaded.encoder
            else (),
        )
        return Batch(items, missing, task.wants, loaded.ask(task))

    def _keep_what_came(self, under_way: Iterable[Batch]) -> None:
        """Store what is there of batches whose turn has not come: whatever ends this process must not lose it."""
        for batch in under_way:
            if batch.asked and batch.asked.is_done():
                with suppress(CouldNotRun):
                    self._keep(batch)

    def _keep(self, batch: Batch) -> None:
        """Store what was made of a batch, once.

        Raises:
            CouldNotRun: see ``Pending.result``.
        """
        if batch.asked is None or batch.done is not None:
            return
        batch.done = batch.asked.result()
        for wants, places in batch.wants:
            rows = {batch.missing[place].key: batch.done.observations[place] for place in places}
            self._put(rows, wants)
            self.counter.new_tokens += sum(observation.new_tokens or 0 for observation in rows.values())
        if self._encoder is not None and batch.done.classes:
            self._encoder.put({batch.missing[place].key: found for place, found in batch.done.classes.items()})

    def _seen(self, batch: Batch) -> list[Seen]:
        self._keep(batch)
        made = batch.done.observations if batch.done else {}
        computed = {batch.missing[place].key: observation for place, observation in made.items()}
        return [Seen(item, self._observation(item, computed.get(item.key)), self._encoder_class(item)) for item in batch.items]

    def _put(self, rows: Mapping[str, Observation], wants: Collection[Want]) -> None:
        if "answer" in wants:
            withheld = {True: [True], False: []}
            self._shelves["answer"].put(
                {key: [seen.answer, seen.new_tokens, *withheld[seen.withheld]] for key, seen in rows.items()}
            )
        if "label_logprobs" in wants:
            shelf = self._shelves["label_logprobs"]
            tokens = next(iter(rows.values())).label_tokens
            if shelf.get("tokens") is None:
                shelf.put({"tokens": tokens})
            shelf.put({key: seen.label_logprobs for key, seen in rows.items()})

    def _observation(self, item: Item, computed: Observation | None) -> Observation:
        """What is stored of an image, and what cannot be stored."""
        seen = Observation(features=computed.features if computed else None)
        answer = self._shelves["answer"].get(item.key) if "answer" in self._shelves else None
        if answer:
            seen = replace(seen, answer=answer.value[0], new_tokens=answer.value[1], withheld=any(answer.value[2:]))
        if "label_logprobs" in self._shelves:
            ranked, tokens = (self._shelves["label_logprobs"].get(row) for row in (item.key, "tokens"))
            if ranked and tokens:
                seen = replace(seen, label_logprobs=tuple(ranked.value), label_tokens=tuple(tokens.value))
        return seen

    def _encoder_class(self, item: Item) -> int | None:
        stored = self._encoder.get(item.key) if self._encoder is not None else None
        return None if stored is None else int(stored.value)

    def _count(self, batch: Sequence[Item]) -> None:
        shelves = [*self._shelves.values(), *([self._encoder] if self._encoder is not None else [])]
        for item in batch:
            rows = [shelf.get(item.key) for shelf in shelves]
            if self._missing(item) or None in rows:
                self.counter.computed += 1
                continue
            self.counter.replayed += 1
            oldest = min((row.at for row in rows if row), default=None)
            if oldest and (self.counter.since is None or oldest < self.counter.since):
                self.counter.since = oldest
