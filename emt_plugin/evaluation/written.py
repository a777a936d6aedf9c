"""What is known of a pair before its first image, and of each image once it is scored."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import asdict, replace

from emt_plugin.catalog import Catalog, ImageSetSpec, display
from emt_plugin.data import ImageSet
from emt_plugin.evaluation.models import Model
from emt_plugin.evaluation.observing import Seen
from emt_plugin.evaluation.references import ReferenceScores
from emt_plugin.gate import Reference
from emt_plugin.records import Against, PairRecord, Part, Row
from emt_plugin.scoring import Score
from emt_plugin.settings import Settings, pair_key

PROBED = "a probe, by the catalog: no public encoder with a text tower has this tower"


def started(model: Model, image_set: ImageSet, settings: Settings) -> PairRecord:
    """The record of a pair as far as it is known before the first image."""
    prompt, spec = image_set.question.prompt, image_set.spec
    return PairRecord(
        key=pair_key(model.spec, image_set.spec),
        measurement=secrets.token_hex(8),
        prompt=prompt,
        n_split=image_set.n_split,
        labels=image_set.labels,
        model_facts={
            "name": display(model.spec.name),
            "source": display(model.spec.source),
            "revision": model.spec.revision,
            "adapter": display(model.spec.adapter) if model.spec.adapter else None,
            "fingerprint": model.key.get("weights"),
            "architecture": model.facts.architecture,
            "dtype": model.backend.dtype,
            "device": model.backend.device,
            "attention": model.facts.attention,
            "generation": dict(model.facts.generation),
            "encoder": model.note or model.facts.encoder_problem or None,
            "reference": PROBED if settings.probed_by_catalog(model.spec) else None,
            "rendered_prompt": model.rendered(prompt),
        },
        image_set_facts={
            "name": _image_set_name(settings.catalog, spec),
            "source": display(image_set.spec.source),
            "kind": image_set.spec.kind,
            "config": image_set.spec.config,
            "split": image_set.split,
            "revision": image_set.spec.revision,
            "fingerprint": image_set.fingerprint,
            "pixels": dict(image_set.pixels) or None,
            "notes": list(image_set.notes) or None,
        },
        part=_part(image_set, settings),
    )


def _part(image_set: ImageSet, settings: Settings) -> Part | None:
    """Which of a pair's images these are; None where they are all."""
    if not image_set.whole or settings.shard is None:
        return None
    return Part(settings.shard.index, settings.shard.count, len(image_set.whole), image_set.subset.fingerprint)


def in_part(pair: PairRecord, probes: str) -> PairRecord:
    """What is kept of a pair of which this is a part: nothing that would read as a verdict of the whole.

    Args:
        pair: measured, with its comparisons.
        probes: what must be said beside its probes.
    """
    if pair.part is None:
        return pair
    against = tuple(Against(found.scorer, found.reference, found.tolerance) for found in pair.comparisons)
    awaited = f"{pair.part.words} by images, which has no verdict of its own: `emt merge` joins the parts"
    return replace(
        pair,
        part=replace(pair.part, against=against, gate=pair.gate, probes=probes),
        comparisons=(),
        gate=None,
        steps=(),
        largest_loss=None,
        reason=pair.reason if pair.gate is None else awaited,
    )


def _image_set_name(catalog: Catalog, spec: ImageSetSpec) -> str:
    """What asks for an image set again: the catalog's name, or where it is."""
    return spec.id if spec.id in catalog.image_sets and catalog.image_set(spec.id) == spec else spec.source


def row_of(
    seen: Seen,
    scores: Mapping[str, Score],
    first: str,
    encoder: Reference | None,
    others: ReferenceScores | None,
    position: int,
) -> Row:
    """The row of one image.

    Args:
        seen: the image, and what model and encoder made of it.
        scores: what each scorer made of that.
        first: the scorer that gates.
        encoder: what the model is compared with; None for no encoder.
        others: another reference's scores; None for none.
        position: the image's place among theirs.
    """
    references = {encoder.key: seen.encoder} if encoder else {}
    correct = {}
    if others:
        theirs = others.at(position)
        references[others.against.key] = theirs[first].prediction
        correct[others.against.key] = {name: bool(score.correct) for name, score in theirs.items()}
    return Row(
        row=seen.item.row,
        image=seen.item.hash,
        occurrence=seen.item.occurrence,
        label=seen.item.label,
        answer=seen.observation.answer,
        prediction=scores[first].prediction,
        correct=bool(scores[first].correct),
        kind=scores[first].kind,
        well_formed=scores[first].well_formed,
        references=references,
        new_tokens=seen.observation.new_tokens,
        scores={name: asdict(score) for name, score in scores.items()},
        reference_correct=correct,
    )
