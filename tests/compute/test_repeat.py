"""Measuring again: nothing of it comes from the store or goes there, and what moves is counted."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers.models.clip.modeling_clip import CLIPVisionModel

from emt_plugin.catalog import Catalog
from emt_plugin.evaluation import Evaluator
from emt_plugin.evaluation.progress import no_progress
from emt_plugin.evaluation.repeating import _strided, repeated
from emt_plugin.evaluation.scorers import PairScorers
from emt_plugin.evaluation.written import started
from emt_plugin.records import Journalled, PairRecord, RunPlace, read_journals
from emt_plugin.settings import Compute, Settings, Storing
from emt_plugin.store import Store

N = 60


def settings_of(folder: Path, repeat: int, mode: str = "use") -> Settings:
    compute = Compute(limit=N, repeat=repeat, dtype="float32", device="cpu", batch_size=8)
    return Settings(catalog=Catalog.load(), compute=compute, store=Storing(folder / "store", mode))


def measured(folder: Path, repeat: int) -> tuple[PairRecord, Journalled]:
    evaluator = Evaluator(settings_of(folder, repeat), RunPlace(folder / "run", "main"), print)
    catalog = evaluator.settings.catalog
    pair = evaluator.measure(evaluator.model(catalog.model("llava-mini")), evaluator.image_set(catalog.image_set("mnist-mini")))
    evaluator.close()
    return pair, read_journals(folder / "run" / "journal")[pair.key.id]


def stored(folder: Path) -> dict[Path, bytes]:
    """What the store holds of answers, classes and features."""
    kinds = [folder / "store" / "1" / kind for kind in ("answer", "encoder", "features")]
    return {path: path.read_bytes() for kind in kinds for path in kind.rglob("*") if path.is_file()}


@pytest.fixture
def forwards(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Images that a vision tower has seen, a number for each forward."""
    seen: list[int] = []
    original = CLIPVisionModel.forward

    def counted(self: CLIPVisionModel, pixel_values: torch.Tensor, *arguments: object, **named: object) -> object:
        seen.append(len(pixel_values))
        return original(self, pixel_values, *arguments, **named)

    monkeypatch.setattr(CLIPVisionModel, "forward", counted)
    return seen


def test_the_first_pass_may_be_replayed_and_the_others_never(tmp_path: Path, forwards: list[int]) -> None:
    measured(tmp_path, 1)
    assert sum(forwards) == N
    kept = stored(tmp_path)
    forwards.clear()
    pair, found = measured(tmp_path, 3)
    assert pair.replay is not None
    assert (pair.replay.replayed, pair.replay.computed) == (N, 0)
    # Two passes more, through the tower too, and not a byte of them stored.
    assert sum(forwards) == 2 * N
    assert stored(tmp_path) == kept
    assert pair.repeat is not None
    right = sum(row.correct for row in found.rows)
    assert (pair.repeat.passes, pair.repeat.n, pair.repeat.correct) == (3, N, (right, right, right))
    # Another order and other batches, and in float32 the same answers.
    assert (pair.repeat.flips, pair.repeat.answers, pair.repeat.rate) == (0, 0, 0.0)


def test_what_moves_is_counted(tmp_path: Path) -> None:
    """Weights that change between the passes stand for noise; the oracle is a measurement with the changed weights."""
    evaluator = Evaluator(settings_of(tmp_path, 1, "off"), None, print)
    catalog = evaluator.settings.catalog
    model, images = evaluator.model(catalog.model("llava-mini")), evaluator.image_set(catalog.image_set("fashion-mini"))
    nothing = Store(tmp_path, "off")

    def scorers() -> PairScorers:
        return PairScorers(evaluator.settings.scoring, catalog, nothing, model, images, model, None)

    def plain() -> tuple[list[str | None], list[bool]]:
        made, answers, right = scorers(), [], []
        for batch in made.observer.observed(images.items):
            answers += [seen.observation.answer for seen in batch]
            right += [bool(score["answer"].correct) for score in made.scores(batch)]
        return answers, right

    encoder = evaluator._observed
    pair = started(model, images, evaluator.settings)
    rows = encoder(pair, images, scorers(), None, None, None)
    with torch.no_grad():
        weight = model.loaded().backend.engine.model.model.multi_modal_projector.linear_1.weight
        weight += 0.5 * weight.std() * torch.randn(weight.shape, generator=torch.Generator().manual_seed(1))
    with model.loaded().backend.anew():
        answers, right = plain()
    found = repeated(model, images, rows, 2, scorers, no_progress)
    flips = sum(row.correct != now for row, now in zip(rows, right, strict=True))
    assert 0 < flips == found.flips < N
    assert found.answers == sum(row.answer != now for row, now in zip(rows, answers, strict=True))
    assert found.correct == (sum(row.correct for row in rows), sum(right))
    assert found.rate == flips / N
    assert found.low < found.rate < found.high
    evaluator.close()


def test_each_pass_has_another_order_of_the_same_images() -> None:
    assert _strided(7, 2) == [0, 2, 4, 6, 1, 3, 5]
    assert all(sorted(_strided(10, step)) == list(range(10)) for step in range(2, 6))
