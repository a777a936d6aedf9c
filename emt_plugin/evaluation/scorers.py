"""The scorers of a pair, handed what they need from the compute layer, and what they made of its images."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from hashlib import sha256

from emt_plugin.catalog import Catalog
from emt_plugin.data import ImageSet
from emt_plugin.errors import CouldNotRun
from emt_plugin.evaluation.models import Model
from emt_plugin.evaluation.observing import Observer, Seen
from emt_plugin.scoring import AnswerScorer, Prepared, Score, Scorer, ScorerContext, Want, scorer_factory
from emt_plugin.scoring.protocol import Judge
from emt_plugin.settings import Scoring
from emt_plugin.store import Store

WANTED: Mapping[Want, str] = {
    "answer": "answers", "label_logprobs": "the probabilities of labels", "features": "vision features",
}  # fmt: skip


class PairScorers:
    """The scorers that were asked for, for one model and one image set, with the observer of what they want.

    Args:
        scoring: which scorers, and how.
        catalog: whose other image sets an answer may be a class of.
        store: where observations are kept.
        model: not loaded unless something is missing.
        image_set: the images.
        embedder: the model whose text tower reads answers.
        judge: rules on answers; None where none was asked for.

    Raises:
        CouldNotRun: a scorer wants what this model does not show, or calls itself by another's name.
    """

    def __init__(
        self,
        scoring: Scoring,
        catalog: Catalog,
        store: Store,
        model: Model,
        image_set: ImageSet,
        embedder: Model,
        judge: Judge | None,
    ) -> None:
        self._labels = image_set.labels
        context = replace(
            _context(catalog, image_set),
            rule=scoring.rule,
            calibrated=scoring.calibrated,
            neutral=lambda: self.observer.neutral(),
            nearest=nearest_label(store, embedder, image_set.labels),
            judge=judge,
        )
        self.all: tuple[Scorer, ...] = tuple(_made(name, context) for name in scoring.scorers)
        wants = frozenset(want for scorer in self.all for want in scorer.wants)
        _refuse_what_is_not_shown(self.all, model)
        self.observer = Observer(store, model, image_set, wants, with_encoder=model.classifier is not None)

    @property
    def names(self) -> tuple[str, ...]:
        """Their names, the one that gates first."""
        return tuple(scorer.name for scorer in self.all)

    def scores(self, batch: Sequence[Seen]) -> list[dict[str, Score]]:
        """For each image of a batch what each scorer makes of it, by the scorer's name."""
        observations = [seen.observation for seen in batch]
        targets = [seen.item.label for seen in batch]
        found: list[dict[str, Score]] = [{} for _ in batch]
        for scorer in self.all:
            if isinstance(scorer, Prepared):
                scorer.prepare(observations, targets)
            for scores, observation, target in zip(found, observations, targets, strict=True):
                scores[scorer.name] = scorer.score(observation, target, self._labels)
        return found


def answer_scorer(catalog: Catalog, image_set: ImageSet) -> AnswerScorer:
    """The scorer that reads answers to an image set's question, by itself.

    Raises:
        CouldNotRun: the image set has synonyms of something that is no label.
    """
    return AnswerScorer(_context(catalog, image_set))


def _context(catalog: Catalog, image_set: ImageSet) -> ScorerContext:
    """What a scorer is made from that needs no model."""
    return ScorerContext(
        labels=image_set.labels,
        stems=image_set.spec.stems,
        frames=tuple(image_set.spec.prompt.split("{labels}")),
        others=tuple({label: None for labels in catalog.known_labels().values() for label in labels}),
        other_stems=catalog.known_stems(),
        synonyms=_synonyms(image_set),
    )


def _refuse_what_is_not_shown(scorers: Sequence[Scorer], model: Model) -> None:
    """Refuse a scorer that wants what a model does not show.

    Raises:
        CouldNotRun: there is one.
    """
    for scorer in scorers:
        for want in sorted(scorer.wants - set(model.facts.capabilities)):
            shown = model.facts.architecture or f"model of the backend '{model.spec.backend}'"
            raise CouldNotRun(
                f"the scorer '{scorer.name}' wants {WANTED[want]}, which a {shown} does not show; leave it out of --emt-scorer"
            )


def _synonyms(image_set: ImageSet) -> dict[str, tuple[str, ...]]:
    """Further names by label.

    Raises:
        CouldNotRun: they are of something that is no label.
    """
    found = {label.replace("_", " "): names for label, names in image_set.spec.synonyms}
    stray = sorted(set(found) - set(image_set.labels))
    if stray:
        raise CouldNotRun(
            f"image set {image_set.spec.id}: synonyms has '{stray[0]}', which is none of its labels "
            f"({', '.join(image_set.labels)})"
        )
    return found


def _made(name: str, context: ScorerContext) -> Scorer:
    scorer = scorer_factory(name)(context)
    if scorer.name != name:
        raise CouldNotRun(
            f"the scorer '{name}' calls itself '{scorer.name}'; both names must be the same, or one would pass for another"
        )
    return scorer


def nearest_label(store: Store, model: Model, labels: Sequence[str]) -> Callable[[Sequence[str]], list[int]]:
    """Finds the label whose text embedding is nearest to an answer's; what was embedded before comes from the store."""
    key = {**model.encoder_key, "labels": list(labels)}

    def nearest(answers: Sequence[str]) -> list[int]:
        if model.classifier is None:
            raise CouldNotRun(
                f"the scorer 'text-embedding' needs a text tower, and no encoder is known for {model.spec.id}: "
                f"name it with --emt-encoder"
            )
        shelf = store.shelf("text-embedding", key, {"model": model.spec.id})
        rows = [sha256(answer.encode("utf-8", "surrogatepass")).hexdigest() for answer in answers]
        new = {row: answer for row, answer in zip(rows, answers, strict=True) if shelf.get(row) is None}
        if new:
            encoder = model.loaded().encoder
            assert encoder is not None
            shelf.put(dict(zip(new, encoder.nearest_label(list(new.values()), labels), strict=True)))
        return [int(stored.value) for row in rows if (stored := shelf.get(row)) is not None]

    return nearest
