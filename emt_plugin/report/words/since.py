"""How changes since an earlier run are said, the same in terminal, summary and report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from emt_plugin.errors import one_line
from emt_plugin.records import Difference, Flip, PairChange, PairRecord, RunChanges, RunRecord
from emt_plugin.report.words.verdicts import accuracies, interval, nothing_to_forget, percent, points
from emt_plugin.report.words.visible import cut

Tone = Literal["worse", "missing", "refused", "better", "differs", "same", "absent"]
ORDER: tuple[Tone, ...] = ("worse", "missing", "refused", "better", "differs", "same", "absent")
# How each is called where a sign alone would not do.
NAMES: dict[Tone, str] = {
    "worse": "Worse",
    "missing": "Not measured",
    "refused": "Not compared",
    "better": "Better",
    "differs": "Changed",
    "same": "As before",
    "absent": "Not in both",
}
MOST_VALUE = 60


@dataclass(frozen=True)
class Said:
    """One line about what changed."""

    tone: Tone
    text: str

    @property
    def name(self) -> str:
        """What its tone is called."""
        return NAMES[self.tone]


def since(changes: RunChanges, run: RunRecord) -> list[Said]:
    """What changed since an earlier run, what matters most first."""
    here = {pair.key.id: pair.status == "measured" for pair in run.pairs}
    said = [line for change in changes.pairs if (line := _pair(change, here))]
    said += _differences(changes.pairs)
    same = [change for change in changes.pairs if change.moved == "same"]
    still = [change for change in same if not _flips(change) and not change.reason]
    if still:
        said.append(Said("same", f"no image changed in {_some([change.pair for change in still])}"))
    for change in same:
        if change not in still:
            what = "no change is shown" if _flips(change) else "no image changed"
            said.append(Said("same", f"{change.pair}: {what}{_flips(change)}{_note(change)}"))
    return sorted(said, key=lambda line: ORDER.index(line.tone))


def head(changes: RunChanges) -> str:
    """What a run was compared with."""
    return f"Since {changes.name} ({changes.started.replace('T', ' ')[:16]} UTC{_named(changes)})"


def _named(changes: RunChanges) -> str:
    return "" if changes.run_id in changes.name else f", run {changes.run_id}"


def _pair(change: PairChange, here: Mapping[str, bool]) -> Said | None:
    if change.comparison is None:
        measured = here.get(change.pair)
        tone: Tone = "absent" if measured is None else "refused" if measured else "missing"
        return Said(tone, f"{change.pair}: {change.reason}")
    if change.moved == "same":
        return None
    chance = "; may be chance" if change.may_be_chance else ""
    return Said("worse" if change.moved == "worse" else "better", f"{change.pair}: {moved(change)}{chance}{_note(change)}")


def _note(change: PairChange) -> str:
    blind = nothing_to_forget(change.comparison) if change.comparison else ""
    return "".join(f"; {text}" for text in (change.reason, blind) if text)


def moved(change: PairChange) -> str:
    """By how much a pair moved, how sure that is, and what it is at its tolerance."""
    comparison = change.comparison
    assert comparison is not None
    now, before = accuracies(comparison)
    return (
        f"{percent(before)} to {percent(now)}, {points(comparison.gap)} {interval(comparison)} points, "
        f"{comparison.verdict} at a tolerance of {100 * comparison.tolerance.value:.3g}; "
        f"{comparison.n01} images right to wrong, {comparison.n10} wrong to right"
    )


def _flips(change: PairChange) -> str:
    comparison = change.comparison
    assert comparison is not None
    if not comparison.n01 and not comparison.n10:
        return ""
    unexplained = "" if change.differences else ", although nothing else that is recorded differs"
    return f" ({comparison.n01} images right to wrong, {comparison.n10} wrong to right{unexplained})"


def _differences(changes: Sequence[PairChange]) -> list[Said]:
    """What differs beside the answers, each once, with the pairs that it is of."""
    pairs: dict[Difference, list[str]] = {}
    for change in changes:
        for difference in change.differences:
            pairs.setdefault(difference, []).append(change.pair)
    everywhere = sum(change.comparison is not None or bool(change.differences) for change in changes)
    return [
        Said("differs", f"{differs(difference)}{'' if len(of) == everywhere > 1 else f' ({_some(of)})'}")
        for difference, of in pairs.items()
    ]


def differs(difference: Difference) -> str:
    """One difference in words."""
    return f"{difference.name} {_value(difference.before)} is now {_value(difference.after)}"


def _value(value: str | None) -> str:
    if value is None:
        return "(not said)"
    return value if len(value) <= MOST_VALUE else f"{value[:MOST_VALUE]}…"


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def lines(run: RunRecord) -> list[str]:
    """All that changed since earlier runs, for a terminal."""
    said: list[str] = []
    for changes in run.changes:
        said += ["", head(changes), *(f"  {line.name.lower()}: {line.text}" for line in since(changes, run))]
    return said


def flips(pair: PairRecord, found: Sequence[Flip], title: str, most: int) -> list[str]:
    """Images that flipped in one direction, the first ``most``; empty without any."""
    if not found:
        return []

    def read(index: int | None) -> str:
        return "no class" if index is None else pair.labels[index]

    shown = [
        f"  row {flip.row}, image {flip.image[:12]}: {_answer(flip.before)} (read as {read(flip.read_before)}), "
        f"now {_answer(flip.after)} (read as {read(flip.read_after)})"
        for flip in found[:most]
    ]
    return ["", f"{pair.key.id}, {title}: {len(found)} images", *map(one_line_of, shown), *_rest(len(found) - most)]


def one_line_of(text: str) -> str:
    """A line of a list: a stranger's text must not write to the terminal."""
    return f"  {one_line(text)}"


def _rest(more: int) -> list[str]:
    return [f"  and {more} more; --flips N lists more"] if more > 0 else []


def _answer(answer: str | None) -> str:
    return "(no answer)" if answer is None else f"“{cut(answer, MOST_VALUE)}”"


def repeat_rows(run: RunRecord) -> list[tuple[str, ...]]:
    """What moved when the images were measured again, with a head; empty without ``--emt-repeat``."""
    rows = [
        (
            pair.key.id,
            str(found.n),
            ", ".join(percent(correct, found.n) for correct in found.correct),
            str(found.flips),
            percent(found.rate),
            f"[{percent(found.low)}, {percent(found.high)}]",
            str(found.answers),
        )
        for pair in run.pairs
        if (found := pair.repeat)
    ]
    head = ("pair", "n", "accuracy each time", "images that flipped", "share", "90% interval", "answers with another text")
    return [head, *rows] if rows else []


def repeats(run: RunRecord) -> list[str]:
    """What moved when the images were measured again, a line for each pair."""
    said = []
    for pair in run.pairs:
        found = pair.repeat
        if found is None:
            continue
        rights = ", ".join(percent(correct, found.n) for correct in found.correct)
        said.append(
            f"{pair.key.id}: measured {found.passes} times ({rights}), {found.flips} of {found.n} images flipped, "
            f"{percent(found.rate)} [{percent(found.low)}, {percent(found.high)}]; "
            f"{found.answers} answers were not the same text"
        )
        if pair.gating and found.rate >= NOISY * pair.gating.tolerance.value:
            said.append(
                f"attention: {pair.key.id} flips {percent(found.rate)} of its images where nothing changed, which is much "
                f"beside a tolerance of {100 * pair.gating.tolerance.value:.3g} points"
            )
    return said


# Noise of so much of the tolerance makes a verdict a matter of the day.
NOISY = 0.5
