"""The folder of a mended model: its weights, where it is from, and what it promises."""

from __future__ import annotations

import shlex
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from emt_plugin.analysis import DECIDES, PROMISES, Trajectory
from emt_plugin.catalog import CatalogError, ModelSpec
from emt_plugin.catalog.checkpoints import PROVENANCE, CheckpointOnDisk, Provenance, base_of
from emt_plugin.records import PairRecord
from emt_plugin.report.words.trajectory import changed, concluded
from emt_plugin.report.words.verdicts import points
from emt_plugin.store.files import synced

CARD = "README.md"


@dataclass(frozen=True)
class Written:
    """What is said of a mended model.

    Attributes:
        base: the model that it is of.
        base_weights: their content hash.
        base_name: what an adapter finds its base by.
        checkpoint: what was tuned.
        checkpoint_weights: content hash of its weights, with the base's for an adapter.
        trained_on: ids of the image sets in the domain.
        line: the states, on the half that promises, and which was chosen.
        limit: images of each set at most, both halves together.
        run_id: the run that chose it.
        pairs: the chosen state on all image sets, on the half that promises.
    """

    base: ModelSpec
    base_weights: str
    base_name: str
    checkpoint: CheckpointOnDisk
    checkpoint_weights: str
    trained_on: tuple[str, ...]
    line: Trajectory
    limit: int
    run_id: str
    pairs: tuple[PairRecord, ...]

    @property
    def alpha(self) -> float:
        """Where it is on the line."""
        assert self.line.mending is not None
        assert self.line.mending.alpha is not None
        return self.line.mending.alpha


def claim_output(out: Path) -> None:
    """Refuse an output that is there already.

    Raises:
        CatalogError: it is a file, or a folder with something in it.
    """
    if out.is_symlink() or (out.exists() and (not out.is_dir() or any(out.iterdir()))):
        raise CatalogError(f"{out} is there already; name another folder with --out, or take it away")


def write_chosen(told: Written, made: Path, out: Path) -> None:
    """Put the chosen state, with what is said of it, into its place in one step.

    Args:
        told: what is said of it.
        made: a folder with its weights, beside ``out``, which it becomes.
        out: where it goes: nothing, or an empty folder.

    Raises:
        OSError: it cannot be written, or something came there meanwhile.
    """
    (made / PROVENANCE).write_text(_provenance(told).to_json(), encoding="utf-8")
    (made / CARD).write_text(card(told), encoding="utf-8")
    synced(made)
    made.rename(out)
    synced(out.parent, files=False)


def named_base(base: ModelSpec, checkpoint: CheckpointOnDisk, source_of: Any) -> str:
    """What a mended adapter finds its base by: as the adapter found it where that leads to the base, else as it was given.

    Args:
        base: the base.
        checkpoint: what was tuned.
        source_of: the folder or hub id behind a model's name, None for a name that is not known.
    """
    if checkpoint.provenance:
        return checkpoint.provenance.base
    try:
        named = base_of(checkpoint.folder) if checkpoint.adapter else ""
    except CatalogError:
        named = ""
    return named if named and source_of(named) == base.source else base.name


def _provenance(told: Written) -> Provenance:
    known = told.checkpoint.provenance or Provenance(
        base=told.base_name,
        base_weights=told.base_weights,
        step=told.checkpoint.step,
        epoch=told.checkpoint.epoch or 0.0,
        method="adapter" if told.checkpoint.adapter else "full",
        image_set=told.trained_on[0],
        image_set_fingerprint="",
    )
    assert told.line.mending is not None
    state = _state(told)
    mended = {
        "alpha": told.alpha,
        "checkpoint": told.line.mending.checkpoint,
        "checkpoint_weights": told.checkpoint_weights,
        "trained_on": list(told.trained_on),
        "run": told.run_id,
        "limit": told.limit,
        "decided_on_half": DECIDES,
        "promised_on_half": PROMISES,
        "promise": [_promise(pair, told.trained_on) for pair in told.pairs],
        "in_domain": asdict(state.domain) if state.domain else None,
        "elsewhere": asdict(state.elsewhere) if state.elsewhere else None,
    }
    return replace(known, loss=None, mended=mended)


def _state(told: Written) -> Any:
    return next(state for state in told.line.states if state.alpha == told.alpha)


def _promise(pair: PairRecord, trained_on: tuple[str, ...]) -> dict[str, Any]:
    """What is promised of one image set: the gate's own comparison with the base on that half."""
    assert pair.gating is not None
    found = pair.gating
    return {
        "image_set": pair.key.image_set,
        "trained_on": pair.key.image_set in trained_on,
        "images": pair.image_set_facts["fingerprint"],
        "n": found.n,
        "gap": found.gap,
        "low": found.low,
        "high": found.high,
        "level": found.level,
        "tolerance": found.tolerance.policy,
        "verdict": found.verdict_at(found.tolerance.policy),
    }


def card(told: Written) -> str:
    """The README of a mended model."""
    kind = "peft" if told.checkpoint.adapter else "transformers"
    rows = [_row(pair, told.trained_on) for pair in told.pairs]
    loads = (
        "An ordinary PEFT adapter: `PeftModel.from_pretrained(base, DIR)` loads it."
        if told.checkpoint.adapter
        else "An ordinary model: `AutoModelForImageTextToText.from_pretrained(DIR)` loads it."
    )
    assert told.line.mending is not None
    hub = "" if Path(told.base.source).is_dir() else f"base_model: {told.base.source}\n"
    return f"""---
{hub}library_name: {kind}
tags:
- mended
---
# {told.line.mending.checkpoint}, mended

Every weight is base + {told.alpha:g} x (tuned - base), of the base {told.base_name} and {told.line.mending.checkpoint},
which was trained on {", ".join(told.trained_on)}. {loads}

{concluded(told.line)}

The promise, against the base, on the half of the images by which it was not chosen (90 % intervals, points):

| image set | images | change since the base | tolerance | verdict |
|---|---|---|---|---|
{chr(10).join(rows)}

In domain {changed(_state(told).domain)}, elsewhere {changed(_state(told).elsewhere)}. The same images are measured again by

    {_again(told)}

Chosen by run {told.run_id} of `emt mend`; `{PROVENANCE}` has all of this as data.
"""


def _again(told: Written) -> str:
    """The command that measures the promise again, as far as it is not by default what was measured."""
    asked = ["pytest", "benchmarks", "--emt-model=DIR", f"--emt-reference={told.base.name}", f"--emt-limit={told.limit}"]
    names = [str(pair.image_set_facts.get("name", pair.key.image_set)) for pair in told.pairs]
    if set(names) != set(told.base.image_sets):
        asked += [f"--emt-image-set={name}" for name in names]
    tolerances = {pair.gating.tolerance for pair in told.pairs if pair.gating}
    given = {found.policy for found in tolerances if found.source == "--emt-tolerance"}
    return shlex.join([*asked, *(f"--emt-tolerance={value:g}" for value in given), f"--emt-half={PROMISES}"])


def _row(pair: PairRecord, trained_on: tuple[str, ...]) -> str:
    assert pair.gating is not None
    found = pair.gating
    mark = " (trained on)" if pair.key.image_set in trained_on else ""
    change = f"{points(found.gap)} [{points(found.low)}, {points(found.high)}]"
    verdict = found.verdict_at(found.tolerance.policy)
    return f"| {pair.key.image_set}{mark} | {found.n} | {change} | {100 * found.tolerance.policy:.3g} | {verdict} |"
