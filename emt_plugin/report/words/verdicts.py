"""How numbers and verdicts are said, the same in terminal, summary, report and assertion."""

from __future__ import annotations

from collections.abc import Sequence

from emt_plugin.analysis import Mending
from emt_plugin.analysis.steps import CLEAN_ANSWER
from emt_plugin.errors import one_line
from emt_plugin.gate import Comparison, Sequential
from emt_plugin.gate.exit_code import PASSED
from emt_plugin.records import Cost, PairRecord, RunRecord, Shard
from emt_plugin.report.words.visible import cut

# Of names in a sentence.
MOST_NAMED = 8


def percent(part: float, whole: float = 1.0) -> str:
    """A share in percent, one decimal; a dash where there is nothing to share."""
    return f"{100 * part / whole:.1f}%" if whole else "–"


def points(difference: float) -> str:
    """A signed difference in percentage points, one decimal."""
    text = f"{100 * difference:+.1f}"
    return "0.0" if text in {"+0.0", "-0.0"} else text.replace("-", "−")


def interval(comparison: Comparison) -> str:
    """The interval of the gap in points, and that it is sequential where it holds whenever one stops."""
    return f"[{points(comparison.low)}, {points(comparison.high)}]{' sequential' if comparison.sequential else ''}"


def verdict(pair: PairRecord) -> str:
    """The verdict of a pair, or why there is none, with what must be said beside it."""
    comparison = pair.gating
    if pair.part and pair.is_awaited:
        return pair.part.words.upper()
    if comparison is None:
        return {"measured": "NO VERDICT", "crashed": "CRASHED", "not-run": "NOT RUN"}.get(pair.status, "COULD NOT RUN")
    if comparison.by_accepted_loss:
        return f"PASS (accepted {comparison.tolerance.value:.4g}, policy {comparison.tolerance.policy:g})"
    return f"{comparison.verdict} (may be chance)" if comparison.may_be_chance else comparison.verdict


def accuracies(comparison: Comparison) -> tuple[float, float]:
    """Accuracy of the model and of the reference, fractions."""
    n = comparison.n
    return (comparison.n11 + comparison.n10) / n, (comparison.n11 + comparison.n01) / n


def verdict_line(pair: PairRecord) -> str:
    """One line that starts with the verdict: what failed, by how much, how sure, at what tolerance."""
    comparison = pair.gating
    if comparison is None:
        return f"{verdict(pair)} {pair.key.id}: {pair.reason}"
    model, reference = accuracies(comparison)
    against = f"{reference_name(comparison)}{mentions_scorer(comparison)}"
    line = (
        f"{verdict(pair)} {pair.key.id}: {percent(model)} against {percent(reference)} of {against}, "
        f"gap {points(comparison.gap)} points, 90% interval {interval(comparison)}, "
        f"tolerance {100 * comparison.tolerance.value:.3g} points ({comparison.tolerance.source}), {images(comparison)}"
    )
    return f"{line}; {to_settle(pair)}" if comparison.verdict == "INCONCLUSIVE" else line


def images(comparison: Comparison) -> str:
    """On how many images a comparison is, and of how many where it was taken one by one."""
    if comparison.sequential is None:
        return f"{comparison.n} images"
    return f"{comparison.sequential.stopped_at} images one by one of the split's {comparison.sequential.of}"


def stopped_early(run: RunRecord) -> str:
    """How many images were not needed; empty where all were measured."""
    found = [pair.gating.sequential for pair in run.pairs if pair.gating and pair.gating.sequential]
    if not found:
        return ""
    return (
        f"verdicts were taken image by image (--emt-early-stop): {sum(pair.stopped_at for pair in found)} of the "
        f"{sum(pair.of for pair in found)} images of the splits; they, and the intervals called sequential, are of whole splits"
    )


def to_settle(pair: PairRecord) -> str:
    """What would settle an INCONCLUSIVE pair."""
    comparison = pair.gating
    if comparison is None or comparison.verdict != "INCONCLUSIVE":
        return ""
    if comparison.nothing_to_forget:
        return nothing_to_forget(comparison)
    if comparison.sequential:
        return _to_settle_in_order(comparison.sequential)
    if comparison.n_needed is None:
        return "no number of images would settle this: the gap lies on the tolerance"
    if comparison.n_needed > pair.n_split:
        return (
            f"about {comparison.n_needed} images would settle it at this gap and discordance, "
            f"and the split has {pair.n_split}: this image set cannot"
        )
    return f"about {comparison.n_needed} images would settle it at this gap and discordance: --emt-limit {comparison.n_needed}"


def _to_settle_in_order(found: Sequential) -> str:
    if found.stopped_at == found.of:
        return "no number of images would settle this: the gap of the whole split is the tolerance"
    return f"{found.stopped_at} images one by one do not settle it, and the split has {found.of}: raise --emt-limit"


def nothing_to_forget(comparison: Comparison) -> str:
    """That a reference does not beat chance; empty where it does."""
    if not comparison.nothing_to_forget or comparison.chance is None:
        return ""
    _, reference = accuracies(comparison)
    if comparison.sequential:
        return (
            f"{reference_name(comparison)} is not shown to beat chance ({percent(reference)} of {images(comparison)}, where "
            f"{percent(comparison.chance)} takes no look at them)"
        )
    return (
        f"{reference_name(comparison)} does not beat chance ({percent(reference)} of {comparison.n} images, where "
        f"{percent(comparison.chance)} takes no look at them), so there is nothing that could be forgotten: "
        f"look at the images, labels and wording"
    )


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


def reference_name(comparison: Comparison) -> str:
    """What a model was compared with, and that a probe has been taught."""
    reference = comparison.reference
    kind = {"probe": "supervised", "checkpoint": "base"}.get(reference.kind, reference.kind)
    return f"{kind} {reference.id}"


def mentions_scorer(comparison: Comparison) -> str:
    """Which scorer a comparison is by, where it is not the usual one."""
    return "" if comparison.scorer == "answer" else f" by {comparison.scorer}"


def where_it_falls(pair: PairRecord) -> str:
    """One sentence that says between which steps most of the accuracy goes; empty where there are but two to go between."""
    steps = [step.name for step in pair.steps if step.name != CLEAN_ANSWER]
    found = pair.largest_loss
    if len(steps) < 3 and (found is None or found.step != CLEAN_ANSWER):
        return ""
    if found is None:
        return f"Accuracy does not fall from {pair.steps[0].name} to {pair.steps[-1].name}."
    way = f"{points(found.whole)} points from {found.first} to {found.last}"
    place = PLACES.get((found.before, found.step), f"between {found.before} and {found.step}")
    part = f"{points(found.change)} [{points(found.low)}, {points(found.high)}]"
    chance = " That may be chance." if found.high >= 0 else ""
    if (found.before, found.step) == (found.first, found.last):
        return f"All of the fall is {place}: {part} points from {found.first} to {found.last}.{chance}"
    if found.share >= MOST:
        return f"Most of the fall is {place}: {part} of {way}.{chance}"
    return f"The fall is in several places: {way}; the largest part {place}: {part}.{chance}"


MOST = 0.5
# What it means that accuracy falls between two steps.
PLACES = {
    ("encoder", "vision probe"): "before the projector, whose input holds less than the encoder's pooled output",
    ("vision probe", "projector probe"): "in the projector",
    ("encoder", "projector probe"): "up to and in the projector",
    ("projector probe", "likelihood"): "in the language model, which ranks by less than the projector hands it",
    ("vision probe", "likelihood"): "in projector and language model",
    ("encoder", "likelihood"): "before anything is said: the language model ranks other labels first",
    ("likelihood", "answer"): "in saying it: the language model ranks the label first and answers something else",
    ("encoder", "answer"): "between encoder and answer, and --emt-scorer answer,likelihood would show where",
    ("answer", "clean answer"): "in form: the class is named in a sentence that says more or less than was asked",
}


# An answer that makes up more than this share of a set's answers is no coincidence.
SAME_ANSWER = 0.5
# A class of which more images are answered than so many times its own has swallowed others.
SWALLOWED = 2


def reader_notes(pair: PairRecord) -> list[str]:
    """What says that the reader may be at fault, or that the model does not do what it is asked; one sentence each."""
    score = pair.score("answer")
    found = score.facts.get("reader") if score else None
    if not isinstance(found, dict) or not pair.n:
        return []
    said = []
    if found["outside_with_label"]:
        said.append(
            f"{found['outside_with_label']} of the {found['outside']} answers that name no label contain a label's letters: "
            f"the reader may be at fault, so look at them"
        )
    answer, count = cut(one_line(str(found["most_common"])), MOST_ANSWER), found["most_common_count"]
    if count > SAME_ANSWER * pair.n and not found["most_common_names"]:
        said.append(f"“{answer}” is {count} of {pair.n} answers: the model does not follow the question")
    elif count > SAME_ANSWER * pair.n and count > SWALLOWED * found["largest_class"]:
        said.append(f"“{answer}” is {count} of {pair.n} answers, whatever the images show")
    return said


MOST_ANSWER = 60


def lost_title(pair: PairRecord) -> str:
    """What the images have in common that a pair lost."""
    if pair.gating is None:
        return "the model got wrong"
    return f"{reference_name(pair.gating)} got right and the model wrong"


def replayed(run: RunRecord) -> str:
    """How much of a run came from the store, and from when; empty where nothing did."""
    replays = [pair.replay for pair in run.pairs if pair.replay]
    count = sum(replay.replayed for replay in replays)
    total = count + sum(replay.computed for replay in replays)
    since = min((replay.since for replay in replays if replay.since), default=None)
    if not count or since is None:
        return ""
    when = since.replace("T", " ")[:16]
    return (
        f"{count} of {total} images were replayed from the store, the oldest computed {when} UTC; "
        f"--emt-store=refresh computes anew"
    )


def cost_words(cost: Cost) -> str:
    """What was asked of endpoints, and what that cost where prices are known."""
    if not cost.requests:
        return "nothing in this run"
    again = f" ({cost.retries:,} of them again)" if cost.retries else ""
    money = "" if cost.money is None else f", ${cost.money:,.4f}"
    counted = cost.tokens_in or cost.tokens_out
    tokens = f"{cost.tokens_in:,} tokens in, {cost.tokens_out:,} out" if counted else "tokens not reported"
    return f"{cost.requests:,} requests{again}, {tokens}{money}"


def asked(run: RunRecord) -> str:
    """What a run asked of endpoints; empty where it asked nothing."""
    costs = [pair.cost for pair in run.pairs if pair.cost]
    return f"asked of endpoints, whose weights nobody verified: {cost_words(sum(costs[1:], costs[0]))}" if costs else ""


def terms(run: RunRecord) -> str:
    """By which scorer and against what the verdicts are, where that is not the answer against the encoder."""
    found = [pair.gating for pair in run.pairs if pair.gating]
    if not found or (found[0].scorer == "answer" and all(gating.reference.kind == "encoder" for gating in found)):
        return ""
    against = " or ".join(dict.fromkeys(_gates(gating) for gating in found))
    return f"Verdicts are by the scorer {found[0].scorer}, against {against}.{_by_catalog(run)}"


def _gates(gating: Comparison) -> str:
    return "each model's own encoder" if gating.reference.kind == "encoder" else f"the {reference_name(gating)}"


def _by_catalog(run: RunRecord) -> str:
    """What is said of models that nobody but the catalog compares with a probe."""
    found = [str(name) for name in run.settings.get("probed_by_catalog") or ()]
    if not found:
        return ""
    return f" The catalog chose the probe for {some(found)}, whose tower no public encoder with a text tower has."


# What a FAIL says of pairs, by the kind of their reference. Only what was another state before can have been forgotten.
SHORT_OF = {"encoder": "below {} encoder", "probe": "below the supervised probe"}


def fails(found: Sequence[Comparison]) -> tuple[str, str]:
    """How failed comparisons are called, and what is said of their pairs behind how many they are.

    Against an encoder or a probe a model falls short; against an earlier state, a base, a checkpoint or a model, it forgot.
    """
    kinds = {comparison.reference.kind for comparison in found}
    verb, whose = ("is", "its") if len(found) == 1 else ("are", "their")
    short = [words.format(whose) for kind, words in SHORT_OF.items() if kind in kinds]
    if short:
        return "FAIL", f"{verb} {' or '.join(short)} by more than the tolerance"
    return "FORGOT", "lost more than the tolerance"


def against(run: RunRecord) -> str:
    """What the verdicts are against, in one sentence; empty without any."""
    found = [pair.gating for pair in run.pairs if pair.gating]
    if not found:
        return ""
    encoders = dict.fromkeys(gating.reference.id for gating in found if gating.reference.kind == "encoder")
    named = [f"each model's own vision encoder ({', '.join(encoders)})"] if encoders else []
    named += dict.fromkeys(f"the {reference_name(gating)}" for gating in found if gating.reference.kind != "encoder")
    return f"The reference that gates is {' or '.join(named)}.{_by_catalog(run)}"


def headline(run: RunRecord) -> str:
    """The run in one line."""
    failed = [pair.gating for pair in run.pairs if pair.gating and pair.gating.verdict == "FAIL"]
    verdicts = [pair.gating.verdict for pair in run.pairs if pair.gating]
    total = len(run.pairs)
    if not run.complete:
        missing = sum(pair.gating is None and not pair.is_awaited for pair in run.pairs)
        also = f"; {len(failed)} {fails(failed)[1]}" if failed else ""
        if run.shard and any(pair.is_awaited for pair in run.pairs):
            return f"INCOMPLETE: {_awaited(run.shard, missing, total)}"
        if not missing:
            return f"INCOMPLETE: every pair has a verdict, and something else went wrong{also}"
        return f"INCOMPLETE: {missing} of {total} pairs have no verdict{also}"
    mended = next((found for found in run.trajectories if found.mending), None)
    if mended and mended.mending:
        return _mended(mended.mending, run.exit_code)
    if failed:
        called, said = fails(failed)
        return f"{called}: {len(failed)} of {total} pairs {said}"
    if "INCONCLUSIVE" in verdicts:
        return f"INCONCLUSIVE: {verdicts.count('INCONCLUSIVE')} of {total} pairs are not settled by these images"
    accepted = sum(bool(pair.gating and pair.gating.by_accepted_loss) for pair in run.pairs)
    note = f", {accepted} of them by an accepted loss" if accepted else ""
    return f"PASS: {total} of {total} pairs{note}"


def _awaited(shard: Shard, missing: int, total: int) -> str:
    """What a run of a part of the images says of itself."""
    if missing:
        return f"{missing} of {total} pairs were not measured in {shard.words} by images, and no part has a verdict"
    return f"{shard.words} by images of {total} pairs, without a verdict: `emt merge` joins the parts, and takes it"


def _mended(found: Mending, code: int) -> str:
    """Whether a state between a base and what was tuned from it holds, in one line."""
    if not found.written:
        return f"FAIL: no state between the base and {found.checkpoint} passes outside its domain"
    where = "every image set outside the domain passes, on images that did not choose it"
    if code == PASSED:
        return f"PASS: at alpha {found.alpha:g} {where}"
    return f"INCONCLUSIVE: at alpha {found.alpha:g} it is not settled that {where}"


def some(found: Sequence[str], most: int = MOST_NAMED) -> str:
    """The first of some names, and how many more there are."""
    return ", ".join(found[:most]) + (f" and {len(found) - most} more" if len(found) > most else "")


def tower_warnings(run: RunRecord) -> list[str]:
    """Models whose tower is not the named encoder's, one line each."""
    said = {
        f"{pair.key.id.partition('/')[0]}: encoder {pair.encoder.id}: {pair.encoder.tower}{_honest(pair)}"
        for pair in run.pairs
        if pair.encoder and not pair.encoder.own
    }
    return sorted(said)


def _honest(pair: PairRecord) -> str:
    """What to compare with instead of an encoder that gates and is not the model's own."""
    if pair.gating is None or pair.gating.reference.kind != "encoder":
        return ""
    if pair.model_facts.get("device") == "elsewhere":
        return "; an honest reference is --emt-reference BASE, the model that it was tuned from"
    return "; honest references are --emt-reference probe and --emt-reference BASE, the model that it was tuned from"
