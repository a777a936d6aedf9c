"""Run folders made without a model: large ones, and hostile ones. The same folder every time."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache
from hashlib import sha256
from pathlib import Path
from random import Random

from PIL import Image, ImageDraw

from emt_plugin.analysis import largest_loss, steps
from emt_plugin.gate import Reference, Tolerance, compare, with_holm
from emt_plugin.gate.exit_code import Outcome, exit_code
from emt_plugin.records import (
    EncoderFacts,
    PairKey,
    PairRecord,
    Replay,
    Row,
    RunRecord,
    ScoreSummary,
    Timing,
    Trend,
    TrendPoint,
    kind_rates,
    write_predictions,
)
from emt_plugin.runs.outcomes import PROBES, comparisons, score_summary, stage_outcomes
from emt_plugin.scoring import AnswerScorer, LikelihoodScorer, Observation, Score, ScorerContext

MODEL = "synthetic"
ENCODER = Reference("encoder", "clip-synthetic")
POLICY = 0.05
SIDE = 96
STARTED = "2026-01-07T02:00:00+00:00"
STEM, ARTICLE = "The object is", "a"


@dataclass(frozen=True)
class Subject:
    """What a synthetic image set is about.

    Attributes:
        name: its id.
        labels: its label names.
        photo: thumbnails are noisy, as a photograph's are, and take more than 10 kB.
        loss: the model's accuracy less the encoder's, made positive.
        accepted: a loss accepted for it.
    """

    name: str
    labels: tuple[str, ...]
    photo: bool
    loss: float
    accepted: float | None = None


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


COLOURS = _words("red orange yellow green blue violet white black brown grey")
FLOWERS = _words("rose tulip lily iris aster poppy daisy peony orchid dahlia")
# One for each verdict, whatever the number of images: a loss of the tolerance itself is never settled.
SUBJECTS = (
    Subject("tools", _words("hammer saw drill pliers wrench chisel file level clamp plane"), False, 0.0),
    Subject("flowers", tuple(f"{colour} {flower}" for colour in COLOURS for flower in FLOWERS), True, 0.25),
    Subject("animals", _words("horse otter badger heron salmon beetle spider lizard toad whale"), True, POLICY),
    Subject("shapes", _words("circle square triangle star cross ring arrow spiral heart moon"), False, 0.12, accepted=0.2),
)


def large_run(folder: Path, images: int = 10_000, image_sets: int = 4, thumbs: int = 400) -> Path:
    """A run over as many images of as many image sets, with two scorers, probes, a history, and thumbnails.

    Args:
        folder: where it goes; made if it is not there.
        images: of each image set.
        image_sets: pairs; their verdicts are PASS, FAIL, INCONCLUSIVE and PASS by an accepted loss, over and over.
        thumbs: at most so many thumbnails of each pair, for the first images that the model gets wrong.
    """
    folder.mkdir(parents=True, exist_ok=True)
    pairs = []
    for index in range(image_sets):
        subject = SUBJECTS[index % len(SUBJECTS)]
        round_ = index // len(SUBJECTS)
        subject = replace(subject, name=f"{subject.name}-{round_}") if round_ else subject
        pairs.append(_pair(folder, subject, images, thumbs))
    _run(pairs, tuple(_trend(pair) for pair in pairs)).write(folder)
    return folder


def _run(pairs: Sequence[PairRecord], trends: tuple[Trend, ...] = ()) -> RunRecord:
    gating = [pair for pair in pairs if pair.gating]
    adjusted = iter(with_holm([pair.comparisons[0] for pair in gating]))
    judged = tuple(
        replace(pair, comparisons=(next(adjusted), *pair.comparisons[1:])) if pair.gating else pair for pair in pairs
    )
    complete = len(gating) == len(pairs)
    verdicts = [pair.comparisons[0].verdict for pair in gating]
    return RunRecord(
        run_id="20260107-020000-5e7d",
        started=STARTED,
        seconds=1234.5,
        complete=complete,
        exit_code=exit_code(Outcome(0, False, not complete, False, verdicts)),
        reason=None,
        settings={"models": [MODEL], "scorers": ["answer", "likelihood"], "compute": {"limit": None}},
        environment={"python": "3.11.7", "packages": {"torch": "2.13.0"}, "platform": "Linux x86_64", "git": None},
        pairs=tuple(judged),
        trends=trends,
    )


def _pair(folder: Path, subject: Subject, images: int, thumbs: int) -> PairRecord:
    key = PairKey(MODEL, subject.name)
    prompt = f"What is the object in the image? Please only answer with one of {', '.join(subject.labels)}."
    context = ScorerContext(subject.labels, stems=(STEM,), frames=(prompt.partition(" one of ")[0],), others=_others(subject))
    scorers = (AnswerScorer(context), LikelihoodScorer(context))
    rows = _rows(subject, scorers, prompt, images)
    write_predictions(folder, key.file_name, rows)
    _write_thumbs(folder / "thumbs", subject, [row for row in rows if not row.correct][:thumbs])
    passed = stage_outcomes(rows, ENCODER, "")
    tolerance = Tolerance(subject.accepted or POLICY, "default", POLICY, accepted=subject.accepted is not None)
    return PairRecord(
        key=key,
        prompt=prompt,
        status="measured",
        n=images,
        n_split=2 * images,
        labels=subject.labels,
        scores=tuple(score_summary(scorer, rows, subject.labels) for scorer in scorers),
        comparisons=comparisons(["answer", "likelihood"], [ENCODER], rows, len(subject.labels), lambda *_: tolerance),
        gate=0,
        encoder=EncoderFacts(ENCODER.id, "catalog", "own encoder", True, passed[0].correct.count(True)),
        steps=steps(passed),
        largest_loss=largest_loss(passed),
        model_facts={"source": f"./runs/{MODEL}", "fingerprint": _hash(MODEL), "dtype": "float32", "device": "cpu"},
        image_set_facts={"source": f"./data/{subject.name}.parquet", "split": "test", "fingerprint": _hash(subject.name)},
        replay=Replay(images // 2, images - images // 2, STARTED),
        timing=Timing(321.0, 300.0, 7 * images),
    )


def _rows(subject: Subject, scorers: tuple[AnswerScorer, LikelihoodScorer], prompt: str, images: int) -> list[Row]:
    """The rows of a pair, their answers read by the real scorers."""
    chance = Random(subject.name)
    labels = subject.labels
    read = cache(lambda answer, label: scorers[0].score(Observation(answer=answer), label, labels))
    rows = []
    for number, (right, encoder_right) in enumerate(_outcomes(chance, images, subject.loss)):
        label = chance.randrange(len(labels))
        answer = _answer(chance, labels, label, right, _others(subject), prompt)
        score = read(answer, label)
        assert score.correct is right, f"{answer!r} is read as something else than was meant"
        ranked = scorers[1].score(_logprobs(chance, len(labels), label, 0.97 if right else 0.4), label, labels)
        row = _row(number, _hash(f"{subject.name}/{number}"), label, answer, score, ranked)
        encoder = label if encoder_right else _other(chance, len(labels), label)
        probes = {name: label if chance.random() < 0.93 else _other(chance, len(labels), label) for name in PROBES}
        rows.append(replace(row, references={ENCODER.key: encoder}, probes=probes))
    return rows


def _row(number: int, image: str, label: int, answer: str, score: Score, ranked: Score) -> Row:
    return Row(
        row=number,
        image=image,
        occurrence=0,
        label=label,
        answer=answer,
        prediction=score.prediction,
        correct=bool(score.correct),
        kind=score.kind,
        well_formed=score.well_formed,
        references={},
        new_tokens=7,
        scores={"answer": asdict(score), "likelihood": asdict(ranked)},
    )


def _outcomes(chance: Random, images: int, loss: float) -> list[tuple[bool, bool]]:
    """Whether model and encoder are right, image by image: the loss is met exactly, whatever chance does."""
    gained, neither = round(0.03 * images), round(0.1 * images)
    lost = gained + round(loss * images)
    found = [(True, False)] * gained + [(False, True)] * lost + [(False, False)] * neither
    found += [(True, True)] * (images - len(found))
    chance.shuffle(found)
    return found


def _answer(chance: Random, labels: Sequence[str], label: int, right: bool, others: Sequence[str], prompt: str) -> str:
    said = STEM, ARTICLE
    if right:
        return " ".join((*said, f"{labels[label]}."))
    other = labels[_other(chance, len(labels), label)]
    wrong: dict[str, int] = {
        " ".join((*said, f"{other}.")): 60,
        f"Either a {labels[label]} or a {other}, it is hard to tell.": 12,
        "Something that I have no word for.": 9,
        " ".join((*said, f"{chance.choice(others)}.")): 8,
        "I'm sorry, but I cannot help with that.": 5,
        prompt: 3,
        "": 3,
    }
    return chance.choices(list(wrong), list(wrong.values()))[0]


def _logprobs(chance: Random, labels: int, label: int, right: float) -> Observation:
    values = [-3.0 - 9.0 * chance.random() for _ in range(labels)]
    values[label if chance.random() < right else _other(chance, labels, label)] = -2.0 * chance.random()
    return Observation(label_logprobs=tuple(values))


def _other(chance: Random, labels: int, label: int) -> int:
    return (label + chance.randrange(1, labels)) % labels


def _others(subject: Subject) -> tuple[str, ...]:
    """Labels of a set that has none in common with a subject's."""
    return SUBJECTS[0].labels if subject.labels != SUBJECTS[0].labels else SUBJECTS[2].labels


def _trend(pair: PairRecord) -> Trend:
    """Six nights with the same numbers, the first with more images and another torch."""
    comparison = pair.comparisons[0]
    return Trend(
        pair.key.id,
        tuple(
            TrendPoint(
                run_id=f"2026010{night}-020000-5e7d",
                started=STARTED.replace("07T", f"0{night}T"),
                status="measured",
                verdict=comparison.verdict,
                n=pair.n,
                accuracy=(comparison.n11 + comparison.n10) / pair.n,
                reference=(comparison.n11 + comparison.n01) / pair.n,
                gap=comparison.gap,
                low=comparison.low,
                high=comparison.high,
                tolerance=comparison.tolerance.value,
                changed=("torch",) if night == 3 else (),
                release="1.2" if night == 4 else None,
            )
            for night in range(2, 8)
        ),
    )


def _write_thumbs(folder: Path, subject: Subject, rows: Sequence[Row]) -> None:
    folder.mkdir(exist_ok=True)
    for row in rows:
        chance = Random(row.image)
        image = _photo(chance) if subject.photo else _sketch(chance)
        image.save(folder / f"{row.image}.png", compress_level=1)


def _photo(chance: Random) -> Image.Image:
    """Soft patches of colour under noise that PNG cannot pack."""
    patches = Image.frombytes("RGB", (5, 5), chance.randbytes(75)).resize((SIDE, SIDE), Image.Resampling.BICUBIC)
    noise = Image.frombytes("RGB", (SIDE, SIDE), chance.randbytes(3 * SIDE * SIDE))
    return Image.blend(patches, noise, 0.1)


def _sketch(chance: Random) -> Image.Image:
    image = Image.new("L", (28, 28))
    ImageDraw.Draw(image).ellipse([chance.randrange(2, 10), chance.randrange(2, 10), 22, 24], outline=255, width=3)
    return image


def _hash(text: str) -> str:
    return sha256(text.encode()).hexdigest()


# What a hostile text would set, were it executed.
RAN = "emtRan"
MARKUP = (
    f"<script>{RAN}=1;alert(1)</script>",
    f"</script><script>{RAN}=2</script>",
    f'<img src="x" onerror="{RAN}=3">',
    f"'\"><svg onload={RAN}=4>",
    f"</option></select></textarea></title></style></details><iframe srcdoc='<script>parent.{RAN}=5</script>'></iframe>",
    f"<a href=javascript:{RAN}=6>go</a><form action=//example.invalid><input autofocus onfocus={RAN}=7>",
    "<!-- <base href=//example.invalid> <style>*{display:none}</style>",
    "{{ 7 * 7 }}{% raw %}${7*7}&lt;b&gt;&#0;",
    f"javascript:{RAN}=8",
)
ODD = (
    "\u202egnp.elgae\u202c eagle.png",
    "\u2066\u202eesroh",
    "nul\x00bell\x07escape\x1b[31m",
    "lone \ud800 surrogate \udfff",
    "line\u2028separator\nbreak\ttab",
    "long " + "a" * 100_000,
)
TEXTS = (*MARKUP, *ODD)
# Of the file that has it as its name: an image that is there, with a hash that is none.
HOSTILE_HASH = f'x" onerror="{RAN}=9'


def hostile_run(folder: Path) -> Path:
    """A run in which every text that comes from elsewhere attacks the page: labels, answers, sources, prompts, reasons."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = [_hostile_row(number) for number in range(4 * len(TEXTS))]
    pair = _hostile_pair(PairKey("hostile", "images"), rows)
    # By escapes a file holds even what UTF-8 does not, and people may hand us such files.
    predictions = folder / "predictions" / f"{pair.key.file_name}.jsonl"
    predictions.parent.mkdir(exist_ok=True)
    predictions.write_text("".join(f"{json.dumps(asdict(row))}\n" for row in rows))
    thumbs = folder / "thumbs"
    thumbs.mkdir(exist_ok=True)
    for row in rows[: len(rows) // 2]:
        _sketch(Random(row.image)).save(thumbs / f"{row.image}.png")
    everything = "\n".join(TEXTS)
    gone = PairRecord(PairKey("hostile", "gone"), status="could-not-run", reason=everything, prompt=everything)
    facts = {f"fact {number}": text for number, text in enumerate(TEXTS)}
    run = _run([pair, gone], (_spoilt(_trend(pair), everything),))
    replace(run, reason=everything, settings={**facts, **_by_text(lambda text: [text])}, environment=facts).write(folder)
    return folder


def _by_text(value: Callable[[str], object]) -> dict[str, object]:
    return {text: value(text) for text in MARKUP}


def _spoilt(trend: Trend, text: str) -> Trend:
    return replace(trend, points=tuple(replace(point, changed=(text,), release=text) for point in trend.points))


def _hostile_row(number: int) -> Row:
    label = number % len(TEXTS)
    read_as = (label + 1) % len(TEXTS) if number % 3 else None
    kind = "outside the label set" if read_as is None else "wrong class"
    score = Score(read_as, False, kind, False)
    ranked = Score(label, True, None, detail=[[label, -0.5], [(label + 1) % len(TEXTS), -1.5]])
    image = HOSTILE_HASH if number == 0 else _hash(f"hostile {number}")
    row = _row(number, image, label, TEXTS[number * 2 % len(TEXTS)], score, ranked)
    return replace(row, references={Reference("encoder", MARKUP[0]).key: label})


def _hostile_pair(key: PairKey, rows: Sequence[Row]) -> PairRecord:
    n = len(rows)
    everything = "\n".join(TEXTS)
    tolerance = Tolerance(POLICY, everything, POLICY)
    kinds = [row.kind for row in rows]
    return PairRecord(
        key=key,
        prompt=everything,
        status="measured",
        reason=everything,
        n=n,
        n_split=n,
        labels=TEXTS,
        scores=(
            ScoreSummary(
                "answer", "2", 0, sum(row.prediction is None for row in rows), 0,
                kind_rates({kind: kinds.count(kind) for kind in set(kinds) if kind}, n), _by_text(str),
            ),
            ScoreSummary("likelihood", "1", n, 0, None, ()),
        ),
        comparisons=(
            compare([False] * n, [True] * n, Reference("encoder", MARKUP[0]), tolerance),
            compare([True] * n, [True] * n, Reference("encoder", MARKUP[0]), tolerance, "likelihood"),
        ),
        gate=0,
        encoder=EncoderFacts(MARKUP[0], MARKUP[1], everything, False, n),
        steps=steps(stage_outcomes(rows, Reference("encoder", MARKUP[0]), everything)),
        model_facts={"source": everything, "rendered_prompt": everything, **_by_text(str)},
        image_set_facts={"source": everything, "split": MARKUP[2]},
        replay=Replay(0, n),
        timing=Timing(1.0, 1.0, n),
    )  # fmt: skip
