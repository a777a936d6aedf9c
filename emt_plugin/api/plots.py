"""Figures of a run, as matplotlib Axes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from emt_plugin.analysis import Trajectory
from emt_plugin.analysis.steps import ORDER
from emt_plugin.analysis.trajectory import Cell
from emt_plugin.api.extras import needed
from emt_plugin.errors import one_line
from emt_plugin.records import PairRecord, RecordError, Row, RunRecord
from emt_plugin.report.words.verdicts import verdict
from emt_plugin.report.words.visible import visible
from emt_plugin.stats import LEVEL, wilson_interval

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Makes Axes on a figure of so many inches, its width first.
NewAxes = Callable[[float, float], "Axes"]
# Told apart by marks too; the lines' colours are Okabe and Ito's, which most colour-blind people tell apart.
VERDICTS = {"PASS": ("#1c7040", "o"), "FAIL": ("#b3261e", "X"), "INCONCLUSIVE": ("#b07a10", "D")}
LINES = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")
MARKERS = "osD^vP*X<>"
SOFT = "#6b7280"
POINTS = "percentage points"
MOST_SIGNS = 48
# A cell of a larger matrix has no room for its count.
MOST_COUNTED = 15
# Labels of more classes would lie over each other.
MOST_LABELLED = 60


class Plots:
    """Figures of one run.

    Each takes the Axes to draw on, or makes a figure of its own size, and returns the Axes. Each raises ``CouldNotRun`` where
    matplotlib is not installed, and ``RecordError`` where the run has nothing to draw.
    """

    def __init__(self, run: RunRecord, rows: Callable[[], Mapping[str, Sequence[Row]]], axes: NewAxes | None = None) -> None:
        self._run = run
        self._rows = rows
        self._axes = axes or shown_axes

    def gaps(self, ax: Axes | None = None) -> Axes:
        """Each pair's gap in percentage points with its 90 % interval, beside 0 and the tolerance.

        Args:
            ax: where to draw; None for a new figure.

        Raises:
            CouldNotRun: matplotlib is not installed.
            RecordError: the run has no pair.
        """
        pairs = self._run.pairs
        if not pairs:
            raise RecordError(f"run {self._run.run_id} has no pair to draw")
        ax = ax or self._axes(7.5, 1.5 + 0.36 * len(pairs))
        for place, pair in enumerate(pairs):
            _gap(ax, place, pair)
        _tolerances(ax, pairs)
        ax.axvline(0, color="black", linewidth=1, zorder=1)
        ax.set_yticks(range(len(pairs)), [_plain(pair.key.id) for pair in pairs])
        ax.set_ylim(len(pairs) - 0.4, -0.6)
        ax.grid(axis="x", color="#e5e7eb")
        ax.set_xlabel(f"gap to the reference with its 90 % interval, {POINTS}")
        _finish(ax)
        _legend(ax)
        return ax

    def stages(self, pairs: Sequence[str] | None = None, ax: Axes | None = None) -> Axes:
        """Accuracy of each pair from the encoder to the answer, in percent with 90 % intervals (Wilson 1927).

        Args:
            pairs: their ids; None for all that have stages.
            ax: where to draw; None for a new figure.

        Raises:
            CouldNotRun: matplotlib is not installed.
            RecordError: no stage of any of these pairs was measured.
        """
        found = [pair for pair in self._run.pairs if pair.steps and pair.n and (pairs is None or pair.key.id in pairs)]
        if not found:
            raise RecordError(f"run {self._run.run_id} measured no stage{'' if pairs is None else ' of these pairs'}")
        known = {step.name for pair in found for step in pair.steps}
        places = {name: place for place, name in enumerate(name for name in ORDER if name in known)}
        ax = ax or self._axes(8.5, max(4.2, 0.8 + 0.2 * len(found)))
        # Intervals that lie over each other cannot be read.
        shift = min(0.06, 0.5 / len(found))
        for index, (pair, style) in enumerate(zip(found, _styles(found), strict=True)):
            shares = [100 * step.correct / pair.n for step in pair.steps]
            ends = [wilson_interval(step.correct, pair.n, LEVEL) for step in pair.steps]
            ax.errorbar(
                [places[step.name] + shift * (index - (len(found) - 1) / 2) for step in pair.steps],
                shares,
                yerr=[
                    [share - 100 * end.low for share, end in zip(shares, ends, strict=True)],
                    [100 * end.high - share for share, end in zip(shares, ends, strict=True)],
                ],
                label=_plain(pair.key.id),
                **style,
            )
        ax.set_xticks(range(len(places)), [name.replace(" ", "\n") for name in places])
        ax.set_xlim(-0.4, len(places) - 0.6)
        ax.set_xlabel("stage, from the encoder to the answer")
        ax.set_ylabel("accuracy with its 90 % interval, %")
        ax.grid(axis="y", color="#e5e7eb")
        _finish(ax)
        _legend(ax)
        return ax

    def trajectory(self, name: str | None = None, ax: Axes | None = None) -> Axes:
        """Change of accuracy since the base on each image set, in percentage points with 90 % intervals (Tango 1998).

        Args:
            name: of the fine-tuning run; None where there is but one.
            ax: where to draw; None for a new figure.

        Raises:
            CouldNotRun: matplotlib is not installed.
            RecordError: the run has no such trajectory, or several of which none was named.
        """
        found = self._trajectory(name)
        ax = ax or self._axes(8, 4.6)
        for index, image_set in enumerate(found.image_sets):
            trained = image_set in found.trained_on
            cells = [(state.step, next(cell for cell in state.cells if cell.image_set == image_set)) for state in found.states]
            changes = [
                (cell.change.value, cell.change.low, cell.change.high) if cell.change else (0.0,) * 3 for _, cell in cells
            ]
            ax.errorbar(
                [step for step, _ in cells],
                [100 * value for value, _, _ in changes],
                yerr=[[100 * (value - low) for value, low, _ in changes], [100 * (high - value) for value, _, high in changes]],
                label=_plain(image_set) + (" (trained on)" if trained else ""),
                linestyle="--" if trained else "-",
                **_style(index, index),
            )
        ax.axhline(0, color="black", linewidth=1, zorder=1)
        for tolerance in self._policies(found):
            ax.axhline(-100 * tolerance, color=SOFT, linestyle=":", label=f"tolerance −{100 * tolerance:.3g}")
        if found.keep:
            kept = found.states[found.keep.kept]
            ax.axvline(kept.step, color=SOFT, linewidth=5, alpha=0.25, zorder=0,
                       label=f"to keep: {_plain(kept.checkpoint or 'the base')}")  # fmt: skip
        ax.set_title(f"{_plain(found.name)} of {_plain(found.model)}", loc="left", fontsize="medium")
        ax.set_xlabel("optimiser steps since the base")
        ax.set_ylabel(f"change since the base\nwith its 90 % interval, {POINTS}")
        ax.grid(axis="y", color="#e5e7eb")
        _finish(ax)
        _legend(ax)
        return ax

    def confusion(self, pair: str | None = None, ax: Axes | None = None) -> Axes:
        """How the images of each class were read: counts, and as shade the share of the class's images.

        Args:
            pair: its id; None where there is but one.
            ax: where to draw; None for a new figure.

        Raises:
            CouldNotRun: matplotlib is not installed.
            RecordError: the run has no such pair, several of which none was named, or no predictions of it that fit its record;
                or its scorer names no class.
        """
        found = self._pair(pair)
        rows = self._rows().get(found.key.id, ())
        if not rows or not found.scores:
            raise RecordError(f"there are no predictions of {found.key.id}")
        if found.scores[0].no_class is None:
            raise RecordError(f"the scorer {found.scores[0].scorer} of {found.key.id} names no class, so nothing is confused")
        classes = len(found.labels)
        names = [_plain(label) for label in found.labels]
        side = min(max(2.4, 0.42 * classes), 12) + 0.6 + 0.08 * max(map(len, names))
        ax = ax or self._axes(side + 0.9, side)
        counts = [[0] * (classes + 1) for _ in range(classes)]
        for row in rows:
            read = classes if row.prediction is None else row.prediction
            if not (0 <= row.label < classes and 0 <= read <= classes):
                raise RecordError(
                    f"the predictions of {found.key.id} have a label that its record does not: one of them is damaged"
                )
            counts[row.label][read] += 1
        shares = [[count / max(1, sum(line)) for count in line] for line in counts]
        drawn = ax.imshow(shares, cmap="Blues", vmin=0, vmax=1, aspect="equal")
        bar = ax.figure.colorbar(drawn, ax=ax, fraction=0.04, pad=0.02)
        bar.set_label("share of the class's images")
        if classes <= MOST_COUNTED:
            _counts(ax, counts, shares)
        if classes <= MOST_LABELLED:
            ax.set_xticks(
                range(classes + 1), [*names, "no class"], rotation=90 if classes > 5 and max(map(len, names)) > 2 else 0
            )
            ax.set_yticks(range(classes), names)
            ax.tick_params(labelsize="small" if classes <= MOST_COUNTED else 7)
        ax.axvline(classes - 0.5, color=SOFT, linewidth=1)
        ax.set_title(f"{_plain(found.key.id)}, {len(rows)} images", loc="left", fontsize="medium")
        ax.set_xlabel("read as")
        ax.set_ylabel("label")
        return ax

    def _trajectory(self, name: str | None) -> Trajectory:
        found = [one for one in self._run.trajectories if name in (None, one.name)]
        names = ", ".join(one.name for one in self._run.trajectories)
        if not self._run.trajectories:
            raise RecordError(f"run {self._run.run_id} has no trajectory: it was made without --emt-checkpoint")
        if not found:
            raise RecordError(f"run {self._run.run_id} has no trajectory {name}; name one of {names}")
        if len(found) > 1:
            raise RecordError(f"run {self._run.run_id} has several trajectories; name one of {names}")
        return found[0]

    def _pair(self, name: str | None) -> PairRecord:
        found = [pair for pair in self._run.pairs if name in (None, pair.key.id)]
        names = ", ".join(pair.key.id for pair in self._run.pairs)
        if not found:
            raise RecordError(f"run {self._run.run_id} has no pair {name}; name one of {names}")
        if len(found) > 1:
            raise RecordError(f"run {self._run.run_id} has several pairs; name one of {names}")
        return found[0]

    def _policies(self, found: Trajectory) -> list[float]:
        """The tolerances of a trajectory's pairs outside the domain."""
        gates = {
            pair.gating.tolerance.policy
            for pair in self._run.pairs
            if pair.gating and pair.key.model == found.model and pair.key.image_set not in found.trained_on
        }
        return sorted(gates)


def shown_axes(width: float, height: float) -> Any:
    """Axes on a figure that a notebook shows.

    Raises:
        CouldNotRun: matplotlib is not installed.
    """
    return needed("matplotlib.pyplot", "a figure").subplots(figsize=(width, height), layout="constrained")[1]


def own_axes(width: float, height: float) -> Any:
    """Axes on a figure that nothing shows and nothing keeps.

    Raises:
        CouldNotRun: matplotlib is not installed.
    """
    return needed("matplotlib.figure", "a figure").Figure(figsize=(width, height), layout="constrained").subplots()


def _gap(ax: Axes, place: int, pair: PairRecord) -> None:
    """One pair's row."""
    gating = pair.gating
    if gating is None:
        ax.annotate(
            verdict(pair), (0, place), xytext=(6, 0), textcoords="offset points", va="center", color=SOFT, fontsize="small"
        )
        return
    colour, mark = VERDICTS[gating.verdict]
    # Of several with one verdict the legend needs one.
    known = ax.get_legend_handles_labels()[1]
    ends = [[100 * (gating.gap - gating.low)], [100 * (gating.high - gating.gap)]]
    label = "_" if gating.verdict in known else gating.verdict
    ax.errorbar([100 * gating.gap], [place], xerr=ends, fmt=mark, color=colour, capsize=3, markersize=7, zorder=3, label=label)


def _tolerances(ax: Axes, pairs: Sequence[PairRecord]) -> None:
    """One line where all tolerances are the same, else a mark in each row."""
    found = [(place, pair.gating.tolerance.value) for place, pair in enumerate(pairs) if pair.gating]
    same = len({tolerance for _, tolerance in found}) == 1
    if same:
        ax.axvline(-100 * found[0][1], color=SOFT, linestyle="--", linewidth=1.2, zorder=1,
                   label=f"tolerance −{100 * found[0][1]:.3g}")  # fmt: skip
        return
    for place, tolerance in found:
        label = "_" if place != found[0][0] else "tolerance"
        ax.plot([-100 * tolerance] * 2, [place - 0.38, place + 0.38], color=SOFT, linestyle="--", linewidth=1.2, label=label)


def _changed(cell: Cell) -> tuple[float, float, float]:
    """Change since the base and the ends of its interval; 0 at the base itself."""
    return (cell.change.value, cell.change.low, cell.change.high) if cell.change else (0.0, 0.0, 0.0)


def _counts(ax: Axes, counts: Sequence[Sequence[int]], shares: Sequence[Sequence[float]]) -> None:
    for row, line in enumerate(counts):
        for column, count in enumerate(line):
            if count:
                colour = "white" if shares[row][column] > 0.55 else "black"
                ax.text(column, row, str(count), ha="center", va="center", color=colour, fontsize="small")


def _styles(pairs: Sequence[PairRecord]) -> list[dict[str, Any]]:
    """How lines are told apart: of one model by their image sets, of several by a colour for a set and a mark for a model."""
    models = list(dict.fromkeys((pair.key.model, pair.key.checkpoint) for pair in pairs))
    sets = list(dict.fromkeys(pair.key.image_set for pair in pairs))
    places = [(sets.index(pair.key.image_set), models.index((pair.key.model, pair.key.checkpoint))) for pair in pairs]
    return [_style(colour, mark if len(models) > 1 else colour) for colour, mark in places]


def _style(colour: int, mark: int) -> dict[str, Any]:
    """A line by its colour and its mark, each the number of one."""
    return {
        "color": LINES[colour % len(LINES)], "marker": MARKERS[mark % len(MARKERS)], "markersize": 5, "linewidth": 1.5,
        "capsize": 2, "elinewidth": 1,
    }  # fmt: skip


def _finish(ax: Axes) -> None:
    ax.spines[["top", "right"]].set_visible(False)
    ax.set_axisbelow(True)


def _legend(ax: Axes) -> None:
    """Beside the Axes, where it hides nothing."""
    ax.legend(loc="upper left", bbox_to_anchor=(1.01, 1), borderaxespad=0, frameon=False, fontsize="small")


def _plain(text: str) -> str:
    """A stranger's text as a figure shows it: no formula, no sign that cannot be seen, not endless."""
    shown = one_line(str(visible(text)))
    half = MOST_SIGNS // 2
    return (shown if len(shown) <= MOST_SIGNS else f"{shown[:half]}…{shown[1 - half :]}").replace("$", r"\$")
