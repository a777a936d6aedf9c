"""How a trajectory is said, the same in terminal, summary and report."""

from __future__ import annotations

from collections.abc import Sequence

from emt_plugin.analysis import Change, Decision, Mending, Trajectory
from emt_plugin.analysis.trajectory import Cell, State
from emt_plugin.report.words.verdicts import percent, points

MARKS = {"PASS": "", "FAIL": " ✗", "INCONCLUSIVE": " ?", None: ""}
# A label set that less than this share of answers name is not worth a word.
WORTH_SAYING = 0.01


def state_name(state: State) -> str:
    """A state in words: how far training was, and the checkpoint."""
    if state.checkpoint is None:
        return "base"
    if state.alpha is not None:
        return f"alpha {state.alpha:g}"
    if state.epoch is None:
        return f"step {state.step}"
    return f"epoch {state.epoch:.3g}" if state.epoch >= 1 else f"epoch {state.epoch:.2g}"


def changed(change: Change | None) -> str:
    """A change in points with its interval; a dash for none."""
    return f"{points(change.value)} [{points(change.low)}, {points(change.high)}]" if change else "–"


def cost(state: State) -> str:
    """What a state gained in its domain and what that cost elsewhere."""
    parts = [
        f"{points(change.value)} {where}"
        for change, where in ((state.domain, "in domain"), (state.elsewhere, "elsewhere"))
        if change
    ]
    return ", ".join(parts)


def to_keep(run: Trajectory) -> str:
    """Which checkpoint to keep, in one or two sentences."""
    if run.mending:
        return concluded(run)
    keep, states = run.keep, run.states
    last = states[-1]
    if len(states) == 1:
        return "Only the base was measured: there is no checkpoint to keep."
    if keep is None:
        return f"No image set outside the domain was evaluated, so none is recommended. The last, {_named(last)}: {cost(last)}."
    kept = states[keep.kept]
    if keep.stopped_at is not None:
        return _stopped(run, keep.kept, keep.stopped_at)
    if run.unmeasured:
        behind = ", ".join(run.unmeasured)
        return f"Keep no later one than {_named(kept)}{_cost(kept)}: {behind} was not measured on all image sets."
    trained = _in_domain(run)
    alone = " It is the only checkpoint: between it and the base nothing was saved." if len(states) == 2 else ""
    held = "no image set outside the domain lost more than its tolerance"
    return f"Keep the last, {_named(last)}: {cost(last)}; {held}.{alone}{trained}"


def concluded(run: Trajectory) -> str:
    """Which state between a base and what was tuned from it was chosen, in some sentences; empty of a fine-tuning run."""
    found = run.mending
    if found is None:
        return ""
    alphas = [state.alpha for state in run.states if state.alpha is not None]
    held = "on the half of the images that did not choose it"
    if found.alpha is None:
        lost = found.not_passed(alphas[0], run.trained_on)
        open_ = all(decision.verdict == "INCONCLUSIVE" for decision in lost)
        more = ": more images, or a smaller alpha, may settle that" if open_ else ": a smaller alpha may pass"
        return f"No alpha helps: already at the smallest, {alphas[0]:g}, {_said(lost)}{more}."
    state = next(state for state in run.states if state.alpha == found.alpha)
    promised = [f"{cell.image_set} {cell.verdict}" for cell in state.cells if cell.image_set not in run.trained_on]
    if not found.written:
        return (
            f"No alpha helps: {found.alpha:g} passes outside the domain on the half of the images that decides, and on the "
            f"half that did not choose it it does not: {', '.join(promised)}."
        )
    after = alphas[alphas.index(found.alpha) + 1 :]
    stop = f" At {after[0]:g}, on the half that decides, {_said(found.not_passed(after[0], run.trained_on))}." if after else ""
    whole = " It is what was tuned, whole." if found.alpha == 1 else ""
    gained = ", ".join(
        f"{changed(change)} {where}"
        for change, where in ((state.domain, "in domain"), (state.elsewhere, "elsewhere"))
        if change
    )
    return (
        f"Alpha {found.alpha:g}: {gained}, {held}, where it promises {', '.join(promised)}.{_gain(state.domain)}{whole}{stop}"
    )


def _gain(domain: Change | None) -> str:
    """That a state which loses nothing elsewhere gains nothing either, where no gain is shown."""
    if domain is None or domain.low > 0:
        return ""
    if domain.high < 0:
        return " In the domain it is worse than the base: it recovers nothing, so keep the base."
    return " No gain in the domain is shown: the base may do as well."


def _said(decisions: Sequence[Decision]) -> str:
    return ", ".join(f"{found.image_set} is {found.verdict} ({changed(found.change)})" for found in decisions)


def _in_domain(run: Trajectory) -> str:
    """That image sets which were trained on did not pass, which a run exits with and which decides nothing here."""
    found: dict[str, list[str]] = {}
    for state in run.states[1:]:
        for cell in state.cells:
            if cell.image_set in run.trained_on and cell.verdict not in (None, "PASS"):
                found.setdefault(f"{cell.image_set} {cell.verdict}", []).append(state_name(state))
    if not found:
        return ""
    said = "; ".join(f"{name} at {', '.join(states)}" for name, states in found.items())
    return f" The exit code counts the image sets that it was trained on too ({said}); what to keep does not depend on them."


def _stopped(run: Trajectory, kept: int, at: int) -> str:
    """What is said of a trajectory on which something was lost."""
    assert run.keep is not None
    states, stopped, last = run.states, run.states[at], run.states[-1]
    why = ", ".join(f"{name} {verdict}{_by(stopped, name)}" for name, verdict in run.keep.because.items())
    if kept == 0:
        text = f"Keep the base: at {_named(stopped)} ({cost(stopped)}) already {why}."
    else:
        text = f"Stop at {_named(states[kept])}: {cost(states[kept])}. At {_named(stopped)} ({cost(stopped)}): {why}."
    if last is not stopped:
        text += f" The last, {_named(last)}: {cost(last)}."
    if run.keep.recovered:
        later = ", ".join(state_name(states[index]) for index in run.keep.recovered)
        text += f" Later all pass again ({later}): shown, not recommended."
    if run.unmeasured:
        text += f" Not measured on all image sets: {', '.join(run.unmeasured)}."
    return text


def _cost(state: State) -> str:
    return f" ({cost(state)})" if cost(state) else ""


def domain(run: Trajectory) -> str:
    """What a run was trained on, in words."""
    if run.trained_on:
        trained = f"Trained on {', '.join(run.trained_on)}{f' ({run.method})' if run.method else ''}."
        return f"{trained}{_between(run.mending) if run.mending else ''}"
    return "What it was trained on is not evaluated or not recorded, so every image set counts; --emt-trained-on names it."


def _between(found: Mending) -> str:
    """What the states of a line are."""
    return (
        f" States between the base (alpha 0) and {found.checkpoint} (alpha 1). One half of the images chose among them; what "
        f"is shown is of the other."
    )


def table(run: Trajectory) -> list[tuple[str, ...]]:
    """Accuracy of every state on every image set, with a head: the paper's tables 9 to 11."""
    head = ("state", *(f"{name}{' *' if name in run.trained_on else ''}" for name in run.image_sets))
    head += ("in domain", "elsewhere", "gap to encoder")
    rows = [head]
    for state in run.states:
        kept = " <- keep" if run.keep and state is run.states[run.keep.kept] else ""
        cells = (f"{percent(cell.correct, cell.n)}{MARKS[cell.verdict]}" for cell in state.cells)
        rows.append(
            (f"{state_name(state)}{kept}", *cells, changed(state.domain), changed(state.elsewhere), changed(state.encoder_gap))
        )
    return rows


def decided_table(run: Trajectory) -> list[tuple[str, ...]]:
    """The changes on the half of the images that decides, with a head; empty of a fine-tuning run."""
    if run.mending is None:
        return []
    rows = [("state", *(f"{name}{' *' if name in run.trained_on else ''}" for name in run.image_sets))]
    for alpha in dict.fromkeys(found.alpha for found in run.mending.decided):
        here = {found.image_set: found for found in run.mending.decided if found.alpha == alpha}
        rows.append((f"alpha {alpha:g}", *(f"{changed(found.change)}{MARKS[found.verdict]}"
                                          for found in map(here.__getitem__, run.image_sets))))  # fmt: skip
    return rows


def metrics(run: Trajectory) -> str:
    """The field's numbers for a trajectory, in one line."""
    last = run.states[-1]
    parts = [f"Average accuracy {percent(run.states[0].average)} to {percent(last.average)}"]
    if run.backward_transfer:
        parts.append(f"backward transfer {changed(run.backward_transfer)}")
    if run.forgetting_from_first and run.forgetting_from_max:
        parts.append(f"forgetting first - last {points(run.forgetting_from_first.value)}")
        parts.append(f"max - last {points(run.forgetting_from_max.value)}, which is biased upwards")
    if last.retention is not None:
        parts.append(f"retention {percent(last.retention)} of the encoder's accuracy")
    return f"{'; '.join(parts)}."


def foreign(cell: Cell) -> str:
    """Of the answers on an image set, how many name a label of another one; empty where hardly any does."""
    found = {name: count for name, count in cell.named.items() if cell.image_set not in name.split(" = ")}
    said = [f"{name} {percent(count, cell.n)}" for name, count in found.items() if count >= WORTH_SAYING * cell.n]
    return ", ".join(said)


def gone(state: State) -> list[str]:
    """Which classes went at a state, one line for each image set that lost some."""
    lines = []
    for cell in state.cells:
        if cell.gone:
            classes = ", ".join(f"{loss.label} {loss.before} to {loss.after} of {loss.n}" for loss in cell.gone)
            lines.append(f"{cell.image_set}: {classes}")
    return lines


def _named(state: State) -> str:
    return f"{state_name(state)} ({state.checkpoint})" if state.checkpoint else "the base"


def _by(state: State, image_set: str) -> str:
    change = next((cell.change for cell in state.cells if cell.image_set == image_set), None)
    return f" ({points(change.value)})" if change else ""
