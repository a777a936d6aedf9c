"""How far work is, told where no terminal shows it."""

from __future__ import annotations

from emt_plugin.evaluation.progress import told_progress


def told(seconds_a_batch: float, batches: int = 10, batch: int = 20) -> list[str]:
    said: list[str] = []
    now = [0.0]
    with told_progress(said.append, 60, lambda: now[0])("llava/birds", batches * batch) as advance:
        for _ in range(batches):
            now[0] += seconds_a_batch
            advance(batch)
    return said


def test_a_line_a_minute_with_rate_and_time_left() -> None:
    assert told(30, 6) == [
        "emt: llava/birds: 40 of 120 images, 0.667 a second, about 2 min left",
        "emt: llava/birds: 80 of 120 images, 0.667 a second, about 60 s left",
    ]
    assert told(3600, 3)[0] == "emt: llava/birds: 20 of 60 images, 0.00556 a second, about 2.0 h left"


def test_short_work_says_nothing() -> None:
    assert told(5) == []
