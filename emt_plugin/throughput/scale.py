"""What an image costs beside the model, from the journal to the report. ``python -m emt_plugin.throughput.scale`` measures it.

The rows are made up; what they go through is the real journal, store, predictions, record, history, report and merge. Each
measurement has a process of its own, whose CPU-seconds and largest memory are read from the system.
"""

from __future__ import annotations

import json
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from datetime import UTC, datetime
from functools import cache, partial
from hashlib import sha256
from pathlib import Path
from random import Random
from statistics import median
from typing import NamedTuple

from emt_plugin.analysis import largest_loss, steps
from emt_plugin.evaluation.written import in_part
from emt_plugin.gate import Reference, Tolerance, chance_of
from emt_plugin.records import (
    EncoderFacts,
    Journal,
    OnePairAtATime,
    PairKey,
    PairRecord,
    Part,
    Replay,
    Row,
    RunRecord,
    Shard,
    Timing,
    images_hashes,
    place_of,
    read_journals,
    write_predictions,
)
from emt_plugin.report import write_all
from emt_plugin.report.writers.marks import put_between
from emt_plugin.runs.history import append
from emt_plugin.runs.lines import lines_of
from emt_plugin.runs.merging import merge
from emt_plugin.runs.outcomes import comparisons, score_summary, stage_outcomes
from emt_plugin.scoring import AnswerScorer, Observation, ScorerContext
from emt_plugin.store import Store
from emt_plugin.store.files import write_atomically

DOCUMENT = Path("docs/scale.md")
COMMAND = "make scale-doc"
REPEATS = 3
BATCH = 32
PARTS = 4
COLOURS = ("red", "green", "blue", "grey", "black")
THINGS = ("horse", "otter", "heron", "salmon", "beetle", "spider", "lizard", "toad", "whale", "badger")
LABELS = tuple(f"{colour} {thing}" for colour in COLOURS for thing in THINGS)
ENCODER = Reference("encoder", "openai/clip-vit-large-patch14-336")
STARTED = "2026-01-07T02:00:00+00:00"


Numbers = Mapping[str, float]


class Size(NamedTuple):
    """How much there is of everything."""

    pairs: int
    images: int

    @property
    def rows(self) -> int:
        """Images of all pairs."""
        return self.pairs * self.images


# What grows with the pairs, and what with the images of one, is seen between them.
FEW, MANY, LARGE = Size(2, 3_000), Size(8, 3_000), Size(2, 12_000)
# As many pairs as a thousand checkpoints are, of few images: what a run of them writes and draws, as it is.
WIDE = Size(1_000, 20)


@cache
def _scorer() -> AnswerScorer:
    return AnswerScorer(ScorerContext(LABELS, stems=("The animal is",)))


def rows_of(pair: int, images: int) -> list[Row]:
    """Made-up rows of a pair in the fixed order, three of four answers right, by the real scorer."""
    chance = Random(pair)
    scorer = _scorer()
    rows = []
    for number in range(images):
        label, said = (chance.randrange(len(LABELS)) for _ in range(2))
        said = label if chance.random() < 0.75 else said
        answer = f"The animal is a {LABELS[said]}."
        score = scorer.score(Observation(answer=answer), label, LABELS)
        rows.append(
            Row(number, sha256(f"{number}".encode()).hexdigest(), 0, label, answer, score.prediction, bool(score.correct),
                score.kind, score.well_formed, {ENCODER.key: label if chance.random() < 0.8 else said}, 8,
                {"answer": {"prediction": score.prediction, "correct": score.correct, "kind": score.kind,
                            "well_formed": score.well_formed, "detail": score.detail}})
        )  # fmt: skip
    return sorted(rows, key=lambda row: place_of(row.image, row.occurrence))


def begun(index: int, rows: Sequence[Row], split: int) -> PairRecord:
    """A pair before its first image."""
    *_, images = images_hashes(LABELS, ((row.image, row.occurrence, row.label) for row in rows))
    return PairRecord(
        PairKey("my-llava", "animals", f"checkpoint-{index}"),
        prompt=f"What is the animal in the image? Please only answer a single animal in {', '.join(LABELS)}.",
        n_split=split,
        labels=LABELS,
        model_facts={"source": f"./runs/my-llava/checkpoint-{index}", "fingerprint": f"{index:064x}", "dtype": "bfloat16"},
        image_set_facts={"source": "./animals.parquet", "split": "test", "fingerprint": images},
        measurement=f"{index:016x}",
    )


def measured(pair: PairRecord, rows: Sequence[Row]) -> PairRecord:
    """A pair behind its last image, as a worker records it."""
    scorer = _scorer()
    chance = chance_of([row.label for row in rows], len(LABELS))
    outcomes = stage_outcomes(rows, ENCODER, "")
    return replace(
        pair,
        status="measured",
        n=len(rows),
        scores=(score_summary(scorer, rows, LABELS),),
        comparisons=comparisons(["answer"], [ENCODER], rows, chance, lambda *_: Tolerance(0.05, "default", 0.05)),
        gate=0,
        encoder=EncoderFacts(ENCODER.id, "catalog", "own encoder", True, sum(outcomes[0].correct)),
        steps=steps(outcomes),
        largest_loss=largest_loss(outcomes),
        replay=Replay(0, len(rows)),
        timing=Timing(1.0, 1.0, 8 * len(rows)),
    )


def run_of(name: str, pairs: Sequence[PairRecord], shard: Shard | None = None) -> RunRecord:
    """A run of some pairs."""
    return RunRecord(name, STARTED, 1.0, shard is None, 3 if shard else 1, None, {}, {}, tuple(pairs), shard=shard)


class Costs:
    """CPU-seconds and bytes of each thing that was done, by name."""

    def __init__(self) -> None:
        self.cpu: dict[str, float] = {}
        self.size: dict[str, int] = {}

    @contextmanager
    def of(self, name: str, files: Callable[[], Iterator[Path]] | None = None) -> Iterator[None]:
        """Count what is done inside; ``files`` are what it leaves."""
        start = time.process_time()
        yield
        self.cpu[name] = self.cpu.get(name, 0.0) + time.process_time() - start
        if files:
            self.size[name] = sum(path.stat().st_size for path in files())


def memory(name: str) -> int:
    """Bytes of this process now (``VmRSS``) or at most so far (``VmHWM``); Linux alone says so."""
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(f"{name}:"))
    return int(line.split()[1]) * 1024


def work(folder: Path, pairs: int, images: int) -> Costs:
    """What workers do beside the model: journal, store, and the record of each pair."""
    costs = Costs()
    store = Store(folder / "store")
    journal = Journal(folder / "journal", "main")
    for index in range(pairs):
        rows = rows_of(index, images)
        pair = begun(index, rows, images)
        journal.start(pair)
        shelves = [store.shelf(kind, {"pair": index}) for kind in ("answer", "encoder")]
        for first in range(0, images, BATCH):
            batch = rows[first : first + BATCH]
            with costs.of("journal"):
                journal.append(pair, batch)
            with costs.of("store"):
                shelves[0].put({f"{row.image}:{row.occurrence}": [row.answer, row.new_tokens] for row in batch})
                shelves[1].put({f"{row.image}:{row.occurrence}": row.references[ENCODER.key] for row in batch})
        with costs.of("pair"):
            pair = measured(pair, rows)
        (folder / f"pair-{index}.json").write_text(pair.to_json())
    with costs.of("journal", lambda: (folder / "journal").iterdir()):
        journal.close()
    with costs.of("store", lambda: (folder / "store").rglob("*.jsonl")):
        pass
    return costs


def end(folder: Path, at_once: bool) -> Costs:
    """What the controller does when the last pair is measured."""
    costs = Costs()
    with costs.of("read journals"):
        journals = read_journals(folder / "journal")
    pairs = [PairRecord.from_json(path.read_text()) for path in sorted(folder.glob("pair-*.json"))]
    rows: Mapping[str, Sequence[Row]] = OnePairAtATime({name: partial(getattr, of, "rows") for name, of in journals.items()})
    if at_once:
        with costs.of("read journals"):
            rows = dict(rows.items())
    for pair in pairs:
        with costs.of("read journals"):
            found = rows[pair.key.id]
        with costs.of("predictions"):
            write_predictions(folder, pair.key.file_name, found)
        if not at_once:
            with costs.of("predictions with copies"):
                _written_with_copies(folder / "copies.jsonl", found)
    with costs.of("predictions", lambda: (folder / "predictions").iterdir()):
        run = run_of("20260107-020000-5e7d", pairs)
    with costs.of("history", lambda: iter([folder / "history.jsonl"])):
        append(folder / "history.jsonl", lines_of(run, rows))
    with costs.of("record", lambda: iter([folder / "run.json"])):
        run.write(folder)
    if isinstance(rows, OnePairAtATime):
        rows.let_go()
    with costs.of("report", lambda: iter([folder / "report.html"])):
        write_all(folder)
    return costs


def _written_with_copies(path: Path, rows: Sequence[Row]) -> None:
    """How predictions were written before."""
    lines = (json.dumps(asdict(row), allow_nan=False, ensure_ascii=False) for row in rows)
    write_atomically(path, "".join(f"{line}\n" for line in lines).encode())


def part(folder: Path, pairs: int, images: int) -> None:
    """Write the runs of parts by images, to be joined."""
    names = tuple(begun(index, rows_of(index, 1), images).key.id for index in range(pairs))
    for index in range(pairs):
        rows = rows_of(index, images)
        whole = begun(index, rows, images)
        for number in range(1, PARTS + 1):
            mine = rows[number - 1 :: PARTS]
            which = Part(number, PARTS, images, str(whole.image_set_facts["fingerprint"]))
            pair = in_part(measured(replace(begun(index, mine, images), part=which), mine), "")
            place = folder / f"part-{number}"
            place.mkdir(exist_ok=True)
            write_predictions(place, pair.key.file_name, mine)
            (place / f"pair-{index}.json").write_text(pair.to_json())
    for number in range(1, PARTS + 1):
        place = folder / f"part-{number}"
        found = [PairRecord.from_json(path.read_text()) for path in sorted(place.glob("pair-*.json"))]
        run_of(f"part-{number}", found, Shard(number, PARTS, names, "images")).write(place)


def join(folder: Path) -> Costs:
    """What ``emt merge`` does before it draws."""
    costs = Costs()
    parts = [folder / f"part-{number}" for number in range(1, PARTS + 1)]
    with costs.of("merge", lambda: (folder / "joined").rglob("*.jsonl")):
        merge(parts, folder / "joined")
    return costs


TASKS: Mapping[str, Callable[[Path, int, int], Costs | None]] = {
    "work": work,
    "end": lambda folder, pairs, images: end(folder, at_once=False),
    "end at once": lambda folder, pairs, images: end(folder, at_once=True),
    "part": part,
    "merge": lambda folder, pairs, images: join(folder),
}


def in_a_process(task: str, folder: Path, size: Size) -> dict[str, dict[str, float]]:
    """Do something in a process of its own, and say what it cost."""
    command = [sys.executable, "-m", "emt_plugin.throughput.scale", task, str(folder), *map(str, size)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found: dict[str, dict[str, float]] = json.loads(done.stdout.splitlines()[-1])
    return found


def do(task: str, folder: Path, pairs: int, images: int) -> None:
    """One process's part."""
    folder.mkdir(exist_ok=True)
    before = memory("VmHWM")
    costs = TASKS[task](folder, pairs, images) or Costs()
    print(json.dumps({"cpu": costs.cpu, "size": costs.size, "memory": {"more": memory("VmHWM") - before}}))


def once(folder: Path) -> Numbers:
    """Everything once: for each image, for each pair beside its images, and of many pairs as they are."""
    found = {at: _at(folder / f"{at.pairs}-{at.images}", at, TASKS) for at in (FEW, MANY, LARGE)}
    rows, pairs = LARGE.rows - FEW.rows, MANY.pairs - FEW.pairs
    larger = {name: found[LARGE][name] - found[FEW][name] for name in found[LARGE]}
    more = {name: found[MANY][name] - found[FEW][name] for name in found[MANY]}
    counted = {name for name in more if name.startswith(("cpu", "size"))}
    each = {name: larger[name] / rows for name in counted}
    wide = _at(folder / "wide", WIDE, ("work", "end"))
    return {
        **each,
        **{f"pair {name}": (more[name] - each[name] * (MANY.rows - FEW.rows)) / pairs for name in counted},
        **{f"wide {name}": wide[name] for name in ("size record", "size report", "cpu report", "memory end")},
        "memory at once, a row": more["memory end at once"] / (MANY.rows - FEW.rows),
        "memory, a row of the largest pair": larger["memory end"] / (LARGE.images - FEW.images),
        "memory, a pair": more["memory end"] / pairs,
        "memory merge, a row of the largest pair": larger["memory merge"] / (LARGE.images - FEW.images),
        "memory worker, a row": more["memory work"] / (MANY.rows - FEW.rows),
    }


def _at(folder: Path, size: Size, tasks: Iterable[str]) -> Numbers:
    """CPU-seconds and bytes of all rows, and bytes of memory beyond what was imported."""
    found: dict[str, float] = {}
    for task in tasks:
        cost = in_a_process(task, folder, size)
        found[f"memory {task}"] = cost["memory"]["more"]
        if task == "end at once":
            continue
        found |= {f"cpu {name}": value for name, value in cost["cpu"].items()}
        found |= {f"size {name}": value for name, value in cost["size"].items()}
        if task == "end":
            found["cpu end"] = sum(value for name, value in cost["cpu"].items() if name != "predictions with copies")
    return found


def spread(runs: Sequence[Numbers]) -> dict[str, tuple[float, float, float]]:
    """Least, median and most of each number."""
    return {name: (min(found), median(found), max(found)) for name in runs[0] if (found := [run[name] for run in runs])}


WRITTEN = (
    ("a worker's journal", "journal", "`journal/`, beside the record"),
    ("the store: answer and encoder's class", "store", "`.emt_store/`"),
    ("reading the journals", "read journals", ""),
    ("predictions", "predictions", "`predictions/`"),
    ("the same, each row copied first, as before", "predictions with copies", ""),
    ("a line of the history, with reading the rows again", "history", "the history"),
    ("the report, with reading the rows again", "report", "`report.html`"),
    (f"`emt merge` of {PARTS} parts by images, before it draws", "merge", "the joined run"),
)  # fmt: skip


def costs_table(found: Mapping[str, tuple[float, float, float]], repeats: int) -> str:
    """What one image costs, by what is done."""
    lines = ["| of one image of one pair | CPU, microseconds | bytes written | where |", "|---|---|---|---|"]
    for said, name, where in WRITTEN:
        size = f"{found[f'size {name}'][1]:,.1f}" if where else "–"
        lines.append(f"| {said} | {_range(found[f'cpu {name}'], 1e6)} | {size} | {where or '–'} |")
    return "\n".join([*lines, "", _made(repeats)])


def memory_table(found: Mapping[str, tuple[float, float, float]]) -> str:
    """What the processes hold."""
    said = {
        "memory at once, a row": "controller with the rows of all pairs at once, as before: for each image of each pair",
        "memory, a row of the largest pair": "controller now: for each image of the largest pair",
        "memory, a pair": "controller now: for each pair more",
        "memory merge, a row of the largest pair": "`emt merge`, before it draws: for each image of the largest pair",
        "memory worker, a row": "worker, beside the model: for each image of each pair that it measures",
    }
    lines = ["| memory | bytes |", "|---|---|"]
    lines += [f"| {words} | {_range(found[name])} |" for name, words in said.items()]
    return "\n".join(lines)


def plan_table(found: Mapping[str, tuple[float, float, float]], images: int = 10**6, pairs: int = 10**3) -> str:
    """The same for so many images of so many pairs, multiplied out."""
    middle = {name: values[1] for name, values in found.items()}
    rows = images * pairs

    def all_of(name: str) -> float:
        return middle[name] * rows + middle[f"pair {name}"] * pairs

    def hours(*names: str) -> str:
        return f"{sum(all_of(f'cpu {name}') for name in names) / 3600:,.1f}"

    def gigabytes(size: float) -> str:
        return f"{size / 1e9:,.1f}"

    now = middle["memory, a row of the largest pair"] * images + middle["memory, a pair"] * pairs
    lines = {
        **{f"{name}, GB": gigabytes(all_of(f"size {name}")) for name in ("journal", "store", "predictions", "history")},
        "memory of one controller that holds all rows, as before, GB": gigabytes(middle["memory at once, a row"] * rows),
        "memory of one controller now, GB": gigabytes(now),
        "all workers together, beside the models, CPU-hours": hours("journal", "store", "pair"),
        "one controller behind the last image, CPU-hours": hours("end"),
        "the same with rows copied before they are written, as before, CPU-hours": f"{_before(middle, rows) / 3600:,.1f}",
        "`emt merge` of parts by images before it draws, CPU-hours": hours("merge"),
        "images that a controller ends with in a CPU-second": f"{1 / middle['cpu end']:,.0f}",
    }
    table = [
        f"| {pairs:,} pairs of {images:,} images | |",
        "|---|---|",
        *(f"| {name} | {said} |" for name, said in lines.items()),
    ]
    wide = {
        "`run.json`, MB": middle["wide size record"] / 1e6,
        "`report.html`, MB": middle["wide size report"] / 1e6,
        "drawing it, CPU-seconds": middle["wide cpu report"],
        "memory of the controller, MB": middle["wide memory end"] / 1e6,
    }
    table += ["", f"| {WIDE.pairs:,} pairs of {WIDE.images:,} images, as measured | |", "|---|---|"]
    return "\n".join([*table, *(f"| {name} | {value:,.1f} |" for name, value in wide.items())])


def _before(middle: Mapping[str, float], rows: int) -> float:
    """CPU-seconds of the controller with copied rows."""
    return rows * (middle["cpu end"] - middle["cpu predictions"] + middle["cpu predictions with copies"])


def _range(values: tuple[float, float, float], scale: float = 1.0) -> str:
    least, middle, most = (value * scale for value in values)
    return f"{middle:,.1f} ({least:,.1f} to {most:,.1f})"


def _made(repeats: int) -> str:
    processor = next(
        (line.partition(":")[2].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line),
        "a CPU",
    )
    sizes = f"{FEW.pairs} and {MANY.pairs} pairs of {FEW.images:,} images, and {LARGE.pairs} of {LARGE.images:,}"
    return (
        f"{datetime.now(UTC):%Y-%m-%d}, one core of {processor}, Python {platform.python_version()}: median, least and most of "
        f"{repeats} repeats. What more images cost more, between {sizes}, so that nothing is counted that a run costs anyway."
    )


if __name__ == "__main__":
    if sys.argv[1:]:
        do(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]))
    else:
        runs: list[Numbers] = []
        for _ in range(REPEATS):
            with tempfile.TemporaryDirectory() as folder:
                runs.append(once(Path(folder)))
            numbers = spread(runs)
            costs = f"{costs_table(numbers, len(runs))}\n\n{memory_table(numbers)}"
            put_between(DOCUMENT, "costs", COMMAND, costs)
            put_between(DOCUMENT, "plan", COMMAND, plan_table(numbers))
            print(f"{len(runs)} of {REPEATS}", flush=True)
