"""What a release manager reads first: what to do, and why, in words that need no statistics."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from emt_plugin.analysis import Trajectory
from emt_plugin.gate import Comparison
from emt_plugin.records import PairRecord, RunRecord
from emt_plugin.report.words import trajectory as trajectory_words
from emt_plugin.report.words.verdicts import accuracies, fails, nothing_to_forget, percent, reference_name, some

MOST_NAMES = 3
KINDS = {"encoder": "its own encoder", "probe": "supervised probe", "checkpoint": "its base"}
Gating = Sequence[tuple[PairRecord, Comparison]]


@dataclass(frozen=True)
class Decision:
    """The first words of a report.

    Attributes:
        title: what to do.
        plain: why, in one sentence.
        tone: ``pass``, ``fail``, ``open``, or ``missing`` for a run that is not complete.
        facts: model, reference, date and images, each with what it is called.
    """

    title: str
    plain: str
    tone: str
    facts: tuple[tuple[str, str], ...]


def decision(run: RunRecord) -> Decision:
    """What to do about a run's models."""
    gating = [(pair, pair.gating) for pair in run.pairs if pair.gating]
    return Decision(_title(run, gating), _plain(run, gating), _tone(run, gating), _facts(run, gating))


def _of(gating: Gating, verdict: str) -> list[tuple[PairRecord, Comparison]]:
    return [found for found in gating if found[1].verdict == verdict]


def _tone(run: RunRecord, gating: Gating) -> str:
    if not run.complete:
        return "missing"
    if _of(gating, "FAIL"):
        return "fail"
    return "pass" if gating and not _of(gating, "INCONCLUSIVE") and run.exit_code == 0 else "open"


def _title(run: RunRecord, gating: Gating) -> str:
    missing = len(run.pairs) - len(gating)
    failed = _of(gating, "FAIL")
    if run.trajectories and run.complete:
        return _to_keep(run)
    if failed:
        return f"Do not release: {_short_of(run, failed)}{f', and {_unmeasured(run, missing)}' if missing else ''}"
    if missing:
        return f"Do not release yet: {_unmeasured(run, missing)}"
    if not gating:
        return "Do not release yet: nothing was compared"
    if not run.complete:
        return "Do not release yet: something went wrong in the run"
    if _of(gating, "INCONCLUSIVE"):
        return f"Not settled: {_more(_of(gating, 'INCONCLUSIVE'))}"
    if run.exit_code:
        return "Do not release yet: something beside the gate failed"
    accepted = sum(comparison.by_accepted_loss for _, comparison in gating)
    every = len({_name(pair) for pair in run.pairs})
    said = "Release" if every == 1 else f"Release: all {every} models passed"
    return f"{said}, with {accepted} accepted {'loss' if accepted == 1 else 'losses'}" if accepted else said


def _to_keep(run: RunRecord) -> str:
    """Which checkpoint to keep, or how many runs have one."""
    if len(run.trajectories) == 1:
        return kept(run.trajectories[0])
    tuned = sum(bool(found.keep and found.keep.kept) for found in run.trajectories)
    if not tuned:
        return f"Keep the base: none of {len(run.trajectories)} fine-tuning runs has a checkpoint to keep"
    return f"Keep a checkpoint of {tuned} of {len(run.trajectories)} fine-tuning runs"


def kept(run: Trajectory) -> str:
    """What to keep of one fine-tuning run."""
    if run.keep is None or len(run.states) == 1:
        return f"Keep nothing of {run.name} by this run"
    state = run.states[run.keep.kept]
    if state.checkpoint is None:
        return f"Keep the base, no checkpoint of {run.name}"
    return f"Keep {trajectory_words.state_name(state)} of {run.name}"


def _along(run: Trajectory) -> str:
    """Why, of one fine-tuning run, in one sentence."""
    if run.keep is None or len(run.states) == 1:
        return trajectory_words.to_keep(run)
    state = trajectory_words.state_name(run.states[run.keep.kept])
    until = f"Up to {state} no image set that it was not trained on fell by more than is tolerated"
    if run.keep.stopped_at is None:
        return f"{until}."
    at = trajectory_words.state_name(run.states[run.keep.stopped_at])
    fell = [name for name, verdict in run.keep.because.items() if verdict == "FAIL"]
    names = _and(fell or list(run.keep.because))
    if not run.keep.kept:
        return f"Already at {at} {names} {'fell' if fell else 'may have fallen'} by more than is tolerated."
    return f"{until}; at {at} {names} {'did' if fell else 'may have'}."


def _name(pair: PairRecord) -> str:
    """A model, with its checkpoint."""
    return pair.key.id.removesuffix(f"/{pair.key.image_set}")


def _short_of(run: RunRecord, failed: Gating) -> str:
    """Who fell short, of what, and where."""
    names = list(dict.fromkeys(_name(pair) for pair, _ in failed))
    kinds = {comparison.reference.kind for _, comparison in failed}
    if len(names) > 1:
        every = len({_name(pair) for pair in run.pairs})
        return f"{len(names)} of {every} models {fails([comparison for _, comparison in failed])[1]}"
    what = {"encoder": "is below its encoder", "probe": "is below the supervised probe"}.get(next(iter(kinds)), "forgot")
    return f"{names[0]} {what} on {_some_sets(run, names[0], len(failed))}"


def _some_sets(run: RunRecord, name: str, count: int) -> str:
    sets = [pair.key.image_set for pair in run.pairs if _name(pair) == name]
    return sets[0] if len(sets) == 1 else f"{count} of {len(sets)} image sets"


def _unmeasured(run: RunRecord, missing: int) -> str:
    one_model = len({_name(pair) for pair in run.pairs}) == 1
    what = f"{'image set' if one_model else 'pair'}{'' if len(run.pairs) == 1 else 's'}"
    return f"{missing} of {len(run.pairs)} {what} {'has' if missing == 1 else 'have'} no verdict"


def _more(open_pairs: Gating) -> str:
    """How many images would settle it, where any number does."""
    needed = [
        comparison.n_needed - comparison.n
        for pair, comparison in open_pairs
        if comparison.n_needed is not None and comparison.n < comparison.n_needed <= pair.n_split and not comparison.sequential
        and not comparison.nothing_to_forget
    ]  # fmt: skip
    if needed and len(open_pairs) == 1:
        return f"about {max(needed):,} more images of {open_pairs[0][0].key.image_set}"
    if needed:
        return f"up to {max(needed):,} more images of each of {len(needed)} image sets"
    if any(comparison.nothing_to_forget for _, comparison in open_pairs):
        return "a reference does not beat chance"
    sets = list(dict.fromkeys(pair.key.image_set for pair, _ in open_pairs))
    return f"{_and(sets)} {'has' if len(sets) == 1 else 'have'} too few images to tell"


def _plain(run: RunRecord, gating: Gating) -> str:
    """One sentence for a reader without statistics, about what decided."""
    missing = [pair for pair in run.pairs if pair.gating is None]
    failed, unsettled = _of(gating, "FAIL"), _of(gating, "INCONCLUSIVE")
    if run.trajectories and run.complete:
        return _along(run.trajectories[0]) if len(run.trajectories) == 1 else ""
    if failed:
        pair, comparison = min(failed, key=lambda found: found[1].gap)
        return _far_below(pair, comparison, _who(run, pair))
    if missing:
        names = _and(list(dict.fromkeys(pair.key.image_set for pair in missing)))
        return f"Nothing is known of {names}, and a result that is missing is no pass."
    if not run.complete:
        return "Every pair has its verdict, and what went wrong beside them may have touched them: run it again."
    if unsettled:
        pair, comparison = min(unsettled, key=lambda found: found[1].gap)
        return _may_be_either(pair, comparison, _who(run, pair))
    return _good_enough(run, gating)


def _who(run: RunRecord, pair: PairRecord) -> str:
    """How a model is called in a sentence: by its name where there are several."""
    return "it" if len({_name(other) for other in run.pairs}) == 1 else _name(pair)


def _far_below(pair: PairRecord, comparison: Comparison, who: str) -> str:
    model, reference = _rights(comparison)
    chance = "which may be chance among so many pairs" if comparison.may_be_chance else "and unlikely to be chance"
    return (
        f"On {pair.key.image_set} {who} gets {model} right where {_reference(comparison)} gets {reference}: that is worse "
        f"by more than the {_tolerances([comparison])} that are tolerated, {chance}."
    )


def _may_be_either(pair: PairRecord, comparison: Comparison, who: str) -> str:
    if comparison.nothing_to_forget:
        return f"On {pair.key.image_set} {nothing_to_forget(comparison)}."
    model, reference = _rights(comparison)
    limit = ""
    if comparison.n_needed and comparison.n < comparison.n_needed <= pair.n_split and not comparison.sequential:
        limit = f" --emt-limit {comparison.n_needed} would tell."
    return (
        f"On {pair.key.image_set} {who} gets {model} right and {_reference(comparison)} {reference}: from {comparison.n:,} "
        f"images nobody can say whether it is worse by more than the {_tolerances([comparison])} that are tolerated.{limit}"
    )


def _good_enough(run: RunRecord, gating: Gating) -> str:
    if not gating:
        return "Nothing was compared."
    sets = list(dict.fromkeys(pair.key.image_set for pair, _ in gating))
    where = f"On {sets[0]}" if len(sets) == 1 else f"On each of the {len(sets)} image sets"
    whose = list(dict.fromkeys(_reference(comparison) for _, comparison in gating))
    who = "it" if len({_name(pair) for pair in run.pairs}) == 1 else "each model"
    return (
        f"{where} {who} gets as many images right as {' or '.join(whose[:2])}, or fewer by no more than the "
        f"{_tolerances([comparison for _, comparison in gating])} that are tolerated; a model that is worse than that would "
        f"pass by luck about once in 20 times."
    )


def _rights(comparison: Comparison) -> tuple[str, str]:
    """What model and reference get right: of 100, unless that would round the difference away."""
    model, reference = accuracies(comparison)
    whole = round(100 * reference) - round(100 * model)
    if (whole > 100 * comparison.tolerance.value) == (reference - model > comparison.tolerance.value):
        return f"{100 * model:.0f} of 100 images", f"{100 * reference:.0f}"
    return f"{percent(model)} of the images", percent(reference)


def _reference(comparison: Comparison) -> str:
    reference = comparison.reference
    return {
        "encoder": "its own vision encoder",
        "probe": "a linear classifier on its vision features",
        "checkpoint": f"its base {reference.id}",
    }.get(reference.kind, f"the {reference_name(comparison)}")


def _tolerances(comparisons: Sequence[Comparison]) -> str:
    found = sorted({comparison.tolerance.value for comparison in comparisons})
    ends = [f"{100 * value:.3g}" for value in dict.fromkeys((found[0], found[-1]))]
    return f"{' to '.join(ends)} in 100"


def _facts(run: RunRecord, gating: Gating) -> tuple[tuple[str, str], ...]:
    models = list(dict.fromkeys(pair.key.model if run.trajectories else _name(pair) for pair in run.pairs))
    against = list(dict.fromkeys(_named(comparison) for _, comparison in gating))
    sets = dict.fromkeys(pair.key.image_set for pair in run.pairs)
    images = sum(pair.n for pair in run.pairs)
    facts = [
        ("Model" if len(models) == 1 else "Models", some(models, MOST_NAMES)),
        ("Reference", some(against, MOST_NAMES) if against else "none"),
        ("Date", f"{run.started.replace('T', ' ')[:16]} UTC"),
        ("Images", f"{images:,} in {len(sets)} image {'set' if len(sets) == 1 else 'sets'}"),
    ]
    if run.trajectories:
        states = sum(len(found.states) - 1 for found in run.trajectories)
        facts.insert(1, ("Checkpoints", f"{states} of {len(run.trajectories)} run{'' if len(run.trajectories) == 1 else 's'}"))
    return tuple(facts)


def _named(comparison: Comparison) -> str:
    reference = comparison.reference
    return f"{reference.id} ({KINDS.get(reference.kind, reference.kind)})"


def _and(names: Sequence[str]) -> str:
    """A few names as people list them."""
    if len(names) > MOST_NAMES:
        return some(names, MOST_NAMES)
    return " and ".join(filter(None, (", ".join(names[:-1]), names[-1])))
