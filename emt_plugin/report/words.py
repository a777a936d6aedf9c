"""How numbers and verdicts are said, the same in terminal, summary, report and assertion."""

from __future__ import annotations

from emt_plugin.gate import Comparison
from emt_plugin.records import PairRecord, RunRecord


def percent(part: float, whole: float = 1.0) -> str:
    """A share in percent, one decimal; a dash where there is nothing to share."""
    return f"{100 * part / whole:.1f}%" if whole else "–"


def points(difference: float) -> str:
    """A signed difference in percentage points, one decimal."""
    text = f"{100 * difference:+.1f}"
    return "0.0" if text in {"+0.0", "-0.0"} else text.replace("-", "−")


def interval(comparison: Comparison) -> str:
    """The interval of the gap in points."""
    return f"[{points(comparison.low)}, {points(comparison.high)}]"


def verdict(pair: PairRecord) -> str:
    """The verdict of a pair, or why there is none, with what must be said beside it."""
    comparison = pair.gating
    if comparison is None:
        return {"measured": "NO VERDICT", "crashed": "CRASHED", "not-run": "NOT RUN"}.get(pair.status, "COULD NOT RUN")
    if comparison.by_accepted_loss:
        return f"PASS (accepted {comparison.tolerance.value:.4g}, policy {comparison.tolerance.policy:g})"
    return f"{comparison.verdict} (may be chance)" if comparison.may_be_chance else comparison.verdict


def accuracies(comparison: Comparison) -> tuple[float, float]:
    """Accuracy of the model and of the reference, fractions."""
    n = comparison.n11 + comparison.n10 + comparison.n01 + comparison.n00
    return (comparison.n11 + comparison.n10) / n, (comparison.n11 + comparison.n01) / n


def verdict_line(pair: PairRecord) -> str:
    """One line that starts with the verdict: what failed, by how much, how sure, at what tolerance."""
    comparison = pair.gating
    if comparison is None:
        return f"{verdict(pair)} {pair.key.id}: {pair.reason}"
    model, reference = accuracies(comparison)
    line = (
        f"{verdict(pair)} {pair.key.id}: {percent(model)} against {percent(reference)} of "
        f"{comparison.reference.kind} {comparison.reference.id}, gap {points(comparison.gap)} points, "
        f"90% interval {interval(comparison)}, tolerance {100 * comparison.tolerance.value:.3g} points "
        f"({comparison.tolerance.source}), {pair.n} images"
    )
    return f"{line}; {to_settle(pair)}" if comparison.verdict == "INCONCLUSIVE" else line


def to_settle(pair: PairRecord) -> str:
    """What would settle an INCONCLUSIVE pair."""
    comparison = pair.gating
    if comparison is None or comparison.verdict != "INCONCLUSIVE":
        return ""
    if comparison.n_needed is None:
        return "no number of images would settle this: the gap lies on the tolerance"
    if comparison.n_needed > pair.n_split:
        return (
            f"about {comparison.n_needed} images would settle it at this gap and discordance, "
            f"and the split has {pair.n_split}: this image set cannot"
        )
    return f"about {comparison.n_needed} images would settle it at this gap and discordance: --emt-limit {comparison.n_needed}"


def accepted_note(pair: PairRecord) -> str:
    """What a reader should know of an accepted loss."""
    comparison = pair.gating
    if comparison is None or not comparison.tolerance.accepted:
        return ""
    tolerance = comparison.tolerance
    if comparison.low > -tolerance.policy:
        return f"passes by policy alone now: its accepted loss of {tolerance.value:.4g} can go"
    notes = []
    if -comparison.low < tolerance.value / 2:
        notes.append(f"much better than its accepted loss of {tolerance.value:.4g}: accept less")
    if tolerance.accepted_images and str(pair.image_set_facts.get("fingerprint", "")).startswith(tolerance.accepted_images):
        notes.append(f"the loss was accepted on these same images ({tolerance.accepted_on})")
    return "; ".join(notes)


def headline(run: RunRecord) -> str:
    """The run in one line."""
    verdicts = [pair.gating.verdict for pair in run.pairs if pair.gating]
    total = len(run.pairs)
    if not run.complete:
        missing = sum(pair.gating is None for pair in run.pairs)
        failed = verdicts.count("FAIL")
        also = f"; {failed} forgot" if failed else ""
        return f"INCOMPLETE: {missing} of {total} pairs have no verdict{also}"
    if "FAIL" in verdicts:
        return f"FORGOT: {verdicts.count('FAIL')} of {total} pairs lost more than their tolerance"
    if "INCONCLUSIVE" in verdicts:
        return f"INCONCLUSIVE: {verdicts.count('INCONCLUSIVE')} of {total} pairs are not settled by these images"
    accepted = sum(bool(pair.gating and pair.gating.by_accepted_loss) for pair in run.pairs)
    note = f", {accepted} of them by an accepted loss" if accepted else ""
    return f"PASS: {total} of {total} pairs{note}"


def tower_warnings(run: RunRecord) -> list[str]:
    """Models whose tower is not the named encoder's, one line each."""
    said = {
        f"{pair.key.model}: encoder {pair.encoder.id}: {pair.encoder.tower}"
        for pair in run.pairs
        if pair.encoder and not pair.encoder.own
    }
    return sorted(said)
