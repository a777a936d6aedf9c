"""An A/A repeat: the same images through the same model again, to see how much moves where nothing changed."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from emt_plugin.data import ImageSet, Item
from emt_plugin.evaluation.models import Model
from emt_plugin.evaluation.progress import Progress
from emt_plugin.evaluation.scorers import PairScorers
from emt_plugin.records import Repeat, Row
from emt_plugin.stats import LEVEL, wilson_interval


def repeated(
    model: Model,
    image_set: ImageSet,
    rows: Sequence[Row],
    passes: int,
    scorers: Callable[[], PairScorers],
    progress: Progress,
) -> Repeat:
    """Measure every image ``passes - 1`` times more, by the scorer that gates.

    Each pass takes the images in another order, so that other images share a forward: that is where a greedy answer's
    noise comes from.

    Args:
        model: the model.
        image_set: the images.
        rows: what the first pass found, in the images' order.
        passes: how often each image is measured in all.
        scorers: makes scorers that nothing is stored for.
        progress: shows how far the work is.

    Raises:
        CouldNotRun: memory ran out with one image.
    """
    answers = [{row.answer} for row in rows]
    correct = [[row.correct] for row in rows]
    for number in range(2, passes + 1):
        places = _strided(len(rows), number)
        items: list[Item] = [image_set.items[place] for place in places]
        found = scorers()
        at = iter(places)
        with model.loaded().backend.anew(), progress(f"{image_set.spec.id}, pass {number}", len(items)) as advance:
            for batch in found.observer.observed(items):
                for seen, scores in zip(batch, found.scores(batch), strict=True):
                    place = next(at)
                    answers[place].add(seen.observation.answer)
                    correct[place].append(bool(scores[found.names[0]].correct))
                advance(len(batch))
    flips = sum(len(set(outcomes)) > 1 for outcomes in correct)
    low, high = wilson_interval(flips, len(rows), LEVEL)
    return Repeat(
        passes=passes,
        n=len(rows),
        answers=sum(len(texts) > 1 for texts in answers),
        flips=flips,
        rate=flips / len(rows),
        low=low,
        high=high,
        correct=tuple(sum(outcomes[number] for outcomes in correct) for number in range(passes)),
    )


def _strided(n: int, step: int) -> list[int]:
    """0, step, 2 step, ..., 1, step + 1, ...: neighbours part."""
    return [place for start in range(step) for place in range(start, n, step)]
