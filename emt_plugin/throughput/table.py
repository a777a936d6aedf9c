"""The performance table of docs/throughput.md, written from the JSON that pytest-benchmark leaves."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from emt_plugin.report.writers.marks import put_between

HEAD = ("| | CPU-seconds an image | compared with | CPU-seconds an image | ratio |", "|---|---|---|---|---|")
EACH = "a forward for each label"
ALONE = "the same, logits of the label alone"


class TimingsError(ValueError):
    """A file that holds no timings; the message says what to do."""


def table(path: Path) -> str:
    """The timings of a file as a Markdown table.

    Raises:
        TimingsError: the file holds none.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        found = [benchmark["extra_info"] for benchmark in content["benchmarks"] if benchmark["extra_info"]]
        machine = content["machine_info"]
        rows = [row for timing in found if "wall_seconds" not in timing for row in _rows(timing)]
        engines = [_engines(timing) for timing in found if "wall_seconds" in timing]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise TimingsError(
            f"{path} holds no timings ({type(error).__name__}: {error}); make it with: "
            f"pytest benchmarks --emt-throughput --benchmark-json={path}"
        ) from None
    processor = machine.get("cpu", {}).get("brand_raw", machine.get("machine", "a CPU"))
    made = f"{content['datetime'][:10]}, {processor}, {machine.get('cpu', {}).get('count', '?')} cores, float32."
    return "\n".join([*HEAD, *rows, "", *engines, made])


def write(path: Path, document: Path) -> None:
    """Put the table between its marks in a document.

    Raises:
        TimingsError: the file holds no timings.
        MarksError: the document has no marks.
    """
    put_between(document, "throughput", "emt throughput", table(path))


def _rows(timing: Mapping[str, Any]) -> list[str]:
    """The rows of one benchmark."""
    seconds = timing["cpu_seconds_per_image"]
    if "shape" in timing:
        what = (
            f"{timing['labels']} labels ranked by a {timing['shape']} ({timing['prompt_tokens']} prompt tokens, "
            f"{timing['label_tokens']} label tokens)"
        )
        return [_row(what, seconds, "likelihood", "prefill", "the prefill alone")]
    if "likelihood" in seconds:
        what = (
            f"{timing['labels']} labels ranked ({timing['prompt_tokens']} prompt tokens, {timing['label_tokens']} label tokens)"
        )
        some = (
            ""
            if timing["labels_timed_one_by_one"] == timing["labels"]
            else f", from {timing['labels_timed_one_by_one']} of them"
        )
        alone = f"{EACH}, logits of its own tokens alone{some}"
        ways = (("prefill", "the prefill alone"), (EACH, EACH + some), (ALONE, alone))
        return [_row(what, seconds, "likelihood", way, words) for way, words in ways]
    if "answer" in seconds:
        what = f"answers ({timing['new_tokens']} tokens, batches of {timing['batch']})"
        return [_row(what, seconds, "answer", "bare generate", "a bare loop of `model.generate`")]
    return [
        _row("the same pair again", seconds, "second run", "first run", "the first time"),
        _row("a second checkpoint, same tower", seconds, "second checkpoint, same tower", "first run", "the first time"),
    ]


def _engines(timing: Mapping[str, Any]) -> str:
    whole, measuring = timing["wall_seconds"], timing["measuring_wall_seconds"]
    return (
        f"{timing['images']} images of the bundled model in {timing['pairs']} pairs, by the wall clock: "
        f"two workers of pytest-xdist {whole['workers']:.0f} s, two actors of a Ray cluster {whole['actors']:.0f} s, "
        f"of which {measuring['actors']:.0f} s measured and the rest started the cluster and its actors.\n"
    )


def _row(what: str, seconds: Mapping[str, float], ours: str, theirs: str, words: str) -> str:
    one, other = seconds[ours], seconds[theirs]
    ratio = f"{one / other:.2f}×" if one >= other / 2 else f"1 / {other / one:.0f}"
    return f"| {what} | {_number(one)} | {words} | {_number(other)} | {ratio} |"


def _number(seconds: float) -> str:
    return f"{seconds:.3g}" if seconds < 1000 else f"{seconds:.0f}"
