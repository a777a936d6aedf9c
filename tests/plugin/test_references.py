"""What a model is compared with where nobody names a reference: its own encoder, a probe by the catalog, or nothing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from emt_plugin.runs.merging import merge
from tests.checkpoints import Recipe, save_encoder
from tests.families import save_family
from tests.plugin.conftest import Run

Start = Callable[..., Run]
SMALL = ("--emt-image-set", "emoji-mini", "--emt-limit", "12", "--emt-probe-images", "4", "--emt-batch-size", "6")
OTHER = "wrong encoder: its tower has another structure, so it is not the model's own"
BASE = "--emt-reference BASE (the name, folder or hub id of the model that it was tuned from)"


def catalog(suite: Path, *entries: str) -> str:
    """A user's catalog file, as an option."""
    (suite / "emt.toml").write_text("\n".join(entries))
    return f"--emt-catalog={suite / 'emt.toml'}"


@pytest.mark.parametrize("family", ["qwen2_5_vl", "instructblip_t5"])
def test_the_catalog_chooses_a_probe_for_a_tower_without_a_twin(family: str, run: Start, suite: Path) -> None:
    save_family(family, suite / "tiny")
    named = catalog(suite, "[models.known]", 'source = "tiny"', 'reference = "probe"')
    done = run(named, "--emt-model", "known", *SMALL)
    assert done.code in (0, 1, 7), done.output
    pair = done.pair("known/emoji-mini")
    assert pair["comparisons"][pair["gate"]]["reference"] == {"kind": "probe", "id": "vision probe"}
    assert (done.record["settings"]["reference"], done.record["settings"]["probed_by_catalog"]) == ("encoder", ["known"])
    assert done.record["settings"]["probe_images"] == 4
    assert pair["model_facts"]["reference"].startswith("a probe, by the catalog")
    said = "The catalog chose the probe for known, whose tower no public encoder with a text tower has."
    for text in (done.output, (done.place / "report.html").read_text(), (done.place / "summary.md").read_text()):
        assert "against the supervised vision probe" in text or "gates is the supervised vision probe" in text
        assert said in " ".join(text.split())


def test_models_of_one_run_have_each_their_own_reference(run: Start, suite: Path) -> None:
    save_family("internvl", suite / "tiny")
    named = catalog(suite, "[models.known]", 'source = "tiny"', 'reference = "probe"')
    done = run(named, "--emt-model", "known", "--emt-model", "llava-mini", *SMALL, f"--emt-tolerances={suite / 't.toml'}",
               "--emt-update-tolerances")  # fmt: skip
    kinds = {name: done.pair(f"{name}/emoji-mini")["comparisons"] for name in ("known", "llava-mini")}
    gates = {name: comparisons[done.pair(f"{name}/emoji-mini")["gate"]] for name, comparisons in kinds.items()}
    assert {name: gate["reference"]["kind"] for name, gate in gates.items()} == {"known": "probe", "llava-mini": "encoder"}
    assert "against the supervised vision probe or each model's own encoder." in done.output
    for name, gate in gates.items():
        section = "[reference.probe.pair." if name == "known" else "[pair."
        accepted = gate["low"] <= -gate["tolerance"]
        assert (f'{section}"{name}/emoji-mini"]' in (suite / "t.toml").read_text()) is accepted


def test_shards_with_and_without_a_probe_make_one_run(run: Start, suite: Path) -> None:
    save_family("internvl", suite / "tiny")
    named = catalog(suite, "[models.known]", 'source = "tiny"', 'reference = "probe"')
    both = ("--emt-model", "llava-mini", "--emt-model", "known")
    parts = [run(named, *both, *SMALL, "--emt-shard", f"{index}/2").place for index in (1, 2)]
    merged, _ = merge(parts, suite / "merged")
    assert [pair.gating.reference.kind for pair in merged.pairs if pair.gating] == ["encoder", "probe"]
    assert merged.settings["probed_by_catalog"] == ["known"]
    assert merged.settings["probe_images"] == 4


def test_a_named_reference_stands_above_the_catalogs(run: Start, suite: Path) -> None:
    save_family("internvl", suite / "tiny")
    save_family("internvl", suite / "base", seed=1)
    named = catalog(suite, "[models.known]", 'source = "tiny"', 'reference = "probe"')
    done = run(named, "--emt-model", "known", *SMALL, "--emt-reference", "./base")
    pair = done.pair("known/emoji-mini")
    assert pair["comparisons"][pair["gate"]]["reference"] == {"kind": "model", "id": "base"}
    assert done.record["settings"]["probed_by_catalog"] == []
    assert "The catalog chose" not in done.output


@pytest.mark.parametrize(
    ("family", "kind", "probe"),
    [
        ("qwen3_vl", "qwen3_vl", "a probe on its own features, --emt-reference probe, or with "),
        ("pixtral", "llava", "a probe on its own features, --emt-reference probe, or with "),
        ("mllama", "mllama", ""),
    ],
)
def test_a_path_without_an_encoder_is_told_of_both_honest_references(
    family: str, kind: str, probe: str, run: Start, suite: Path
) -> None:
    save_family(family, suite / "mine")
    done = run("--emt-model", "./mine", *SMALL)
    assert done.code == 3, done.output
    pair = done.pair("mine/emoji-mini")
    assert (pair["status"], pair["n"], pair["gate"]) == ("measured", 12, None)
    said = (
        f"no encoder is known for mine, a {kind}, so there is nothing to compare it with: compare it with {probe}its base, "
        f"{BASE}, or name an encoder with --emt-encoder"
    )
    assert pair["reason"] == said
    assert said in " ".join(done.output.split())
    assert "Traceback" not in done.output
    if probe:
        assert run("--emt-model", "./mine", *SMALL, "--emt-reference", "probe").code in (0, 1, 7)


def test_a_probe_that_cannot_be_fitted_names_the_base(run: Start, suite: Path) -> None:
    save_family("mllama", suite / "mine")
    done = run("--emt-model", "./mine", *SMALL, "--emt-reference", "probe")
    assert done.code == 3, done.output
    reason = done.pair("mine/emoji-mini")["reason"]
    assert reason == f"no probe can be fitted on the vision features of mine, a mllama: compare it with its base, {BASE}"


def test_an_encoder_that_is_not_the_models_own_is_flagged(run: Start, suite: Path) -> None:
    """As the paper compared InstructBLIP, whose tower is EVA-CLIP's, with OpenCLIP's."""
    save_family("instructblip_llama", suite / "blip")
    save_encoder(Recipe("openclip", image_size=28), suite / "openclip")
    named = catalog(suite, "[models.known]", 'source = "blip"', 'reference = "probe"')
    done = run(named, "--emt-model", "known", *SMALL, f"--emt-encoder={suite / 'openclip'}")
    assert done.code in (0, 1, 7), done.output
    pair = done.pair("known/emoji-mini")
    assert pair["comparisons"][pair["gate"]]["reference"] == {"kind": "encoder", "id": "openclip"}
    assert pair["encoder"]["own"] is False
    assert pair["encoder"]["tower"] == OTHER
    said = f"known: encoder openclip: {OTHER}"
    assert said in done.output
    assert said in (done.place / "report.html").read_text().replace("&#39;", "'")
    honest = "; honest references are --emt-reference probe and --emt-reference BASE, the model that it was tuned from"
    assert f"{said}{honest}" in done.output
    probed = run(named, "--emt-model", "known", *SMALL, f"--emt-encoder={suite / 'openclip'}", "--emt-reference", "probe")
    assert said in probed.output
    assert honest not in probed.output


@pytest.mark.parametrize("value", ["prob", "model"])
def test_a_reference_that_means_nothing_is_refused(value: str, run: Start, suite: Path) -> None:
    named = catalog(suite, "[models.known]", 'source = "llava-hf/x"', f'reference = "{value}"')
    done = run(named, "--emt-model", "known")
    assert done.code == 4
    assert f'reference = \'{value}\' in [models.known] must be "encoder" or "probe"' in done.output


def test_a_probe_by_the_catalog_needs_probes(run: Start, suite: Path) -> None:
    named = catalog(suite, "[models.known]", 'source = "llava-hf/x"', 'reference = "probe"')
    done = run(named, "--emt-model", "known", "--emt-probe-images", "0")
    assert done.code == 4
    assert "known is compared with a probe; leave --emt-probe-images 0 out" in done.output
