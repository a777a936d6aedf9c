"""The tables of docs/models.md: what the tests showed of each family, and the models of the catalog.

``python -m tests.models_doc build/families.xml`` writes them from the JUnit report of the families' tests; ``make models-doc``
runs those first.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from xml.etree import ElementTree

from emt_plugin.catalog import BUNDLED, Catalog
from emt_plugin.report.writers.marks import marks, put_between
from tests.compute import test_families, test_finetune_families
from tests.families import FAMILIES

DOCUMENT = Path(__file__).parents[1] / "docs" / "models.md"
COMMAND = "make models-doc"
# What a test shows, by its name.
SHOWS = {
    "answers": "test_answers_equal_plain_generate",
    "likelihood": "test_labels_are_ranked_as_the_loss_of_the_whole_text_says",
    "prefill": "test_labels_are_ranked_behind_one_prefill",
    "features": "test_features_are_what_the_model_says_an_image_has",
    "seen once": "test_a_second_checkpoint_with_the_same_tower_runs_no_vision_forward",
    "loss": "test_the_loss_of_a_batch_is_that_of_its_conversations",
    "step": "test_a_step_moves_the_language_model_and_the_projector_alone",
}
# Towers that public encoders have.
WITH_TEXT_TOWERS = {"clip_vision_model", "siglip_vision_model"}
# What a family is called, and models of it in the catalog.
NAMES: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "llava": ("LLaVA", ("llava-1.5-7b", "llava-1.5-13b")),
    "vipllava": ("ViP-LLaVA", ("vip-llava-7b",)),
    "llava_next": ("LLaVA-NeXT", ("llava-v1.6-mistral-7b", "llava-v1.6-34b")),
    "llava_onevision": ("LLaVA-OneVision", ("llava-onevision-7b",)),
    "internvl": ("InternVL 2.5, 3", ("internvl2.5-8b-mpo", "internvl3-8b")),
    "qwen2_vl": ("Qwen2-VL", ("qwen2-vl-7b",)),
    "qwen2_5_vl": ("Qwen2.5-VL", ("qwen2.5-vl-7b",)),
    "qwen3_vl": ("Qwen3-VL", ("qwen3-vl-4b", "qwen3-vl-8b")),
    "qwen3_5": ("Qwen3.5", ()),
    "glm4v": ("GLM-4.1V", ("glm-4.1v-9b",)),
    "smolvlm": ("SmolVLM2", ("smolvlm2-2.2b",)),
    "idefics3": ("Idefics3, SmolVLM", ("idefics3-8b", "smolvlm-2.2b")),
    "idefics2": ("Idefics2", ("idefics2-8b",)),
    "deepseek_vl": ("DeepSeek-VL", ()),
    "gemma3": ("Gemma 3", ("gemma-3-4b",)),
    "paligemma": ("PaliGemma", ("paligemma-3b-pt-224",)),
    "pixtral": ("Pixtral", ("pixtral-12b",)),
    "mistral3": ("Mistral 3", ("mistral-small-3.1-24b",)),
    "aya_vision": ("Aya Vision", ("aya-vision-8b",)),
    "mllama": ("Llama 3.2 Vision", ("llama-3.2-11b-vision",)),
    "blip2_opt": ("BLIP-2, OPT", ("blip2-opt-2.7b",)),
    "blip2_t5": ("BLIP-2, Flan-T5", ("blip2-flan-t5-xl",)),
    "instructblip_llama": ("InstructBLIP, Vicuna", ("instructblip-vicuna-7b", "instructblip-vicuna-13b")),
    "instructblip_t5": ("InstructBLIP, Flan-T5", ("instructblip-flan-t5-xl",)),
    "florence2": ("Florence-2", ("florence-2-base",)),
    "kosmos2": ("Kosmos-2", ("kosmos-2",)),
    "paligemma2": ("PaliGemma 2, Gemma 2 inside", ("paligemma2-3b-mix-224",)),
    "qwen3_vl_moe": ("Qwen3-VL, mixture of experts", ()),
    "paddleocr_vl": ("PaddleOCR-VL", ()),
    "video_llama_3": ("VideoLLaMA3", ()),
    "gemma4": ("Gemma 4", ()),
    "internvl_qwen3": ("InternVL, Qwen3 inside", ()),
    "ovis2": ("Ovis2", ()),
    "janus": ("Janus", ()),
    "deepseek_vl_hybrid": ("DeepSeek-VL, two towers", ()),
    "chameleon": ("Chameleon", ()),
    "idefics": ("Idefics", ()),
    "git": ("GIT", ()),
}
BY_SHAPE = "an encoder of its tower's shape, where one is known"
Shown = Collection[tuple[str, str]]


def claims() -> set[tuple[str, str]]:
    """(test, family) of everything that the tests claim, passed or not."""
    found = set()
    for test in SHOWS.values():
        module = test_families if hasattr(test_families, test) else test_finetune_families
        for mark in getattr(module, test).pytestmark:
            found |= {(test, parameters.id) for parameters in mark.args[1]}
    return found


def passed(report: Path) -> set[tuple[str, str]]:
    """(test, family) of the tests that passed.

    Args:
        report: what pytest wrote with ``--junitxml``.

    Raises:
        SystemExit: one that the table is made of did not.
    """
    found, failed = set(), []
    for case in ElementTree.parse(report).iter("testcase"):
        named = re.fullmatch(r"(\w+)\[(\w+)\]", case.get("name", ""))
        if named and named[1] in SHOWS.values():
            if any(case.find(kind) is not None for kind in ("failure", "error", "skipped")):
                failed.append(named[0])
            found.add((named[1], named[2]))
    if failed:
        raise SystemExit(f"the table is not written, because these did not pass: {', '.join(failed)}")
    return found


def families(shown: Shown) -> str:
    """A row for each family."""
    head = (
        "family",
        "`model_type`",
        "answers",
        "labels ranked",
        "features",
        "tower runs once",
        "fine-tuning",
        "references",
        "such as",
    )
    return _table([head, *(_family(name, {what: (test, name) in shown for what, test in SHOWS.items()}) for name in FAMILIES)])


def models() -> str:
    """A row for each model of the catalog, the bundled ones aside."""
    rows = []
    for name, entry in Catalog.load().models.items():
        if not str(entry["source"]).startswith(BUNDLED):
            reference = f"`{entry['encoder']}`" if "encoder" in entry else entry.get("reference", BY_SHAPE)
            hub = f"[{entry['source']}](https://huggingface.co/{entry['source']})"
            link = "a pipeline: [backends.md](backends.md)" if "backend" in entry else hub
            rows.append((f"`{name}`", link, entry.get("licence", "–"), reference))
    return _table([("name", "hub id", "licence", "reference by default"), *rows])


def _family(name: str, shows: Mapping[str, bool]) -> tuple[str, ...]:
    title, examples = NAMES.get(name, (name, ()))
    rows, plain = name in test_families.EXPANDED, name in test_families.ONE_BY_ONE
    ranked = "one by one" if plain else "in rows" if rows else "packed"
    return (
        title,
        f"`{FAMILIES[name].config(lambda token: 0)['model_type']}`",
        _said(shows["answers"]),
        ranked if shows["likelihood"] and shows["prefill"] else "–",
        _said(shows["features"]),
        _said(shows["seen once"]),
        _said(shows["loss"] and shows["step"]),
        _references(name, examples, shows["features"]),
        ", ".join(f"`{example}`" for example in examples) or "–",
    )


def _references(name: str, examples: Sequence[str], features: bool) -> str:
    """What such a model can honestly be compared with, its default first."""
    probed = any("reference" in Catalog.load().models[example] for example in examples)
    tower = FAMILIES[name].config(lambda token: 0).get("vision_config", {}).get("model_type")
    encoder = "encoder" if tower in WITH_TEXT_TOWERS and not probed else ""
    return ", ".join(filter(None, (encoder, "probe" if features else "", "base")))


def _said(shown: bool) -> str:
    return "yes" if shown else "–"


def _table(rows: Sequence[Sequence[str]]) -> str:
    lines = [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join([lines[0], "|" + "---|" * len(rows[0]), *lines[1:]])


def between(document: str, name: str) -> str:
    """What stands between a document's marks."""
    begin, end = marks(name, COMMAND)
    return document.partition(f"{begin}\n")[2].partition(f"\n{end}")[0]


if __name__ == "__main__":
    put_between(DOCUMENT, "families", COMMAND, families(passed(Path(sys.argv[1]))))
    put_between(DOCUMENT, "catalog", COMMAND, models())
