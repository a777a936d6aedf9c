"""What may move a pair's numbers beside the model's answers: a change of it makes two measurements two things."""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import sha256
from typing import Any

from emt_plugin.records import Difference, PairRecord, ScoreSummary

# Enough of a hash to tell two apart, and short enough to read.
SHOWN = 12
# What a run knows only where it computed something.
OF_A_RUN = ("batch size", "threads")


def fingerprint(pair: PairRecord, environment: Mapping[str, Any]) -> dict[str, str]:
    """Model, data, question, scorer, device and versions of a pair, by name; what a record does not say is left out."""
    model, images = pair.model_facts, pair.image_set_facts
    packages = environment.get("packages") or {}
    found = {
        "model weights": _short(model.get("fingerprint")),
        "model source": model.get("source"),
        "model revision": model.get("revision"),
        "adapter": model.get("adapter"),
        "encoder": f"{pair.encoder.id} ({pair.encoder.tower})" if pair.encoder else None,
        "images": _short(images.get("fingerprint")),
        "split": images.get("split"),
        "image set revision": images.get("revision"),
        "prompt": _short(sha256(str(model.get("rendered_prompt", pair.prompt)).encode("utf-8", "replace")).hexdigest()),
        "scorer": _scorer(pair.scores[0]) if pair.scores else None,
        "dtype": model.get("dtype"),
        "device": model.get("device"),
        "attention": model.get("attention"),
        "batch size": model.get("batch_size"),
        "threads": model.get("threads"),
        "platform": environment.get("platform"),
        "python": environment.get("python"),
        "pytest-emt": environment.get("pytest_emt"),
        **{name: packages.get(name) for name in ("torch", "transformers", "tokenizers", "datasets", "pillow")},
    }
    return {name: str(value) for name, value in found.items() if value is not None}


def differences(before: Mapping[str, str], after: Mapping[str, str]) -> tuple[Difference, ...]:
    """What two fingerprints do not share, in the order of the later one."""
    names = [name for name in dict.fromkeys([*after, *before]) if name not in OF_A_RUN or (name in before and name in after)]
    return tuple(Difference(name, before.get(name), after.get(name)) for name in names if before.get(name) != after.get(name))


def _scorer(score: ScoreSummary) -> str:
    facts = "".join(f", {name} {value}" for name, value in sorted(score.facts.items()) if isinstance(value, str))
    return f"{score.scorer} {score.version}{facts}"


def _short(digest: Any) -> str | None:
    return str(digest)[:SHOWN] if digest else None
