"""Names, paths and hub ids, and what a typo gets."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from emt_plugin.catalog import Catalog, CatalogError, bundled_folder
from emt_plugin.catalog.catalog import MODEL_KEYS

CATALOG = Catalog.load()


def test_llava_is_the_7b_model_with_its_encoder() -> None:
    spec = CATALOG.model("llava")
    assert (spec.id, spec.source, spec.encoder) == (
        "llava-1.5-7b",
        "llava-hf/llava-1.5-7b-hf",
        "openai/clip-vit-large-patch14-336",
    )
    assert spec.image_sets == ("mnist", "cifar10", "cifar100", "miniimagenet")


def test_a_hub_id_of_the_catalog_is_the_catalog_entry() -> None:
    assert CATALOG.model("llava-hf/llava-1.5-7b-hf") == CATALOG.model("llava")


def test_the_papers_prompts_word_for_word() -> None:
    digits = tuple(str(digit) for digit in range(10))
    assert CATALOG.image_set("mnist").question(digits).prompt == (
        "What is the number in the image? Please only answer a single number in 0, 1, 2, 3, 4, 5, 6, 7, 8, 9."
    )
    cifar10 = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
    assert CATALOG.image_set("cifar10").question(cifar10).prompt == (
        "What is the object in the image? Please only answer a single object in "
        "airplane, automobile, bird, cat, deer, dog, frog, horse, ship, truck."
    )
    assert CATALOG.image_set("mnist").caption("3") == 'a photo of the number: "3".'
    assert CATALOG.image_set("cifar100").caption("apple") == "a photo of a apple."


def test_columns_and_sources_of_the_papers_sets() -> None:
    specs = map(CATALOG.image_set, ("mnist", "cifar10", "cifar100", "miniimagenet"))
    assert [(spec.source, spec.image, spec.label, spec.kind) for spec in specs] == [
        ("ylecun/mnist", "image", "label", "hub"),
        ("uoft-cs/cifar10", "img", "label", "hub"),
        ("uoft-cs/cifar100", "img", "fine_label", "hub"),
        ("timm/mini-imagenet", "image", "label", "hub"),
    ]


def test_miniimagenet_lists_its_labels_in_the_papers_order() -> None:
    question = CATALOG.image_set("miniimagenet").question(("yawl", "wok", "African hunting dog")).prompt
    assert question.endswith("in African hunting dog, wok, yawl.")


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("llvaa", r"unknown model 'llvaa' \(did you mean 'llava'\?\); known: aya-vision-8b, .* llava, "),
        ("./nowhere", r"no model at './nowhere': the path does not exist"),
        ("a/b/c", r"no model at 'a/b/c'"),
        ("", r"unknown model ''"),
    ],
)
def test_a_typo_names_what_is_known(name: str, says: str) -> None:
    with pytest.raises(CatalogError, match=says):
        CATALOG.model(name)


def test_an_unknown_image_set_names_what_is_known() -> None:
    with pytest.raises(CatalogError, match=r"unknown image set 'cifra10' \(did you mean 'cifar10'\?\)"):
        CATALOG.image_set("cifra10")
    with pytest.raises(CatalogError, match="unknown image set 'unknown'"):
        CATALOG.image_set("unknown")


def test_ids_of_paths_and_hub_ids(tmp_path: Path) -> None:
    folder = tmp_path / "runs" / ".my llava+v2"
    folder.mkdir(parents=True)
    assert CATALOG.model(str(folder)).id == "my-llava-v2"
    assert CATALOG.model("someone/their-llava").id == "their-llava"
    assert CATALOG.model("someone/their-llava").encoder is None


def test_one_folder_with_two_wordings_is_two_image_sets(tmp_path: Path) -> None:
    (tmp_path / "birds").mkdir()
    file = tmp_path / "catalog.toml"
    file.write_text('[image_sets.birds]\nsource = "birds"\nbackground = "black"\n')
    named = Catalog.load(file).image_sets_named(["birds", str(tmp_path / "birds")])
    assert len({spec.id for spec in named.values()}) == 2


def test_clashing_ids_get_six_digits_of_their_source(tmp_path: Path) -> None:
    for parent in ("one", "two"):
        (tmp_path / parent / "model").mkdir(parents=True)
    names = [str(tmp_path / parent / "model") for parent in ("one", "two")]
    first, second = CATALOG.models_named([*names, names[0]], None, None)
    assert first.id != second.id
    assert first.id.startswith("model-")
    assert len(first.id) == len("model-") + 6


def test_one_model_under_two_names_is_one_model() -> None:
    (only,) = CATALOG.models_named(["llava", "llava-1.5-7b", "llava-hf/llava-1.5-7b-hf"], None, None)
    assert only.id == "llava-1.5-7b"


def test_ids_of_catalog_names_are_plain(tmp_path: Path) -> None:
    file = tmp_path / "catalog.toml"
    file.write_text('[models."größe v2"]\nsource = "a/b"\n')
    assert Catalog.load(file).model("größe v2").id == "gr--e-v2"


def test_a_given_encoder_wins_and_says_so() -> None:
    spec = CATALOG.model("llava", encoder="clip-mini")
    assert spec.encoder_from == "--emt-encoder"
    assert str(spec.encoder).endswith("models/clip-mini")


def test_the_encoder_of_a_tower_by_its_shape() -> None:
    large = {
        "model_type": "clip_vision_model",
        "hidden_size": 1024,
        "num_hidden_layers": 24,
        "image_size": 336,
        "patch_size": 14,
    }
    assert CATALOG.encoders_of_tower(large) == ("openai/clip-vit-large-patch14-336",)
    assert CATALOG.encoders_of_tower({**large, "image_size": 224}) == ("openai/clip-vit-large-patch14",)
    assert CATALOG.encoders_of_tower({**large, "hidden_size": 7}) == ()
    siglip = {"model_type": "siglip_vision_model", "hidden_size": 1152, "num_hidden_layers": 27, "image_size": 384}
    both = ("google/siglip-so400m-patch14-384", "google/siglip2-so400m-patch14-384")
    assert CATALOG.encoders_of_tower({**siglip, "patch_size": 14}) == both


@pytest.mark.parametrize("name", CATALOG.models)
def test_an_entry_has_known_keys_and_one_reference_at_most(name: str) -> None:
    entry = CATALOG.models[name]
    assert set(entry) <= MODEL_KEYS
    assert "backend" in entry or re.fullmatch(r"bundled:[a-z-]+|[\w-]+/[\w.-]+", entry["source"])
    assert not {"encoder", "reference"} <= set(entry)
    assert CATALOG.model(entry["source"] if "/" in entry["source"] else name) == CATALOG.model(name)


@pytest.mark.parametrize(
    ("name", "reference"),
    [
        ("Qwen/Qwen2.5-VL-7B-Instruct", "probe"),
        ("OpenGVLab/InternVL3-8B-hf", "probe"),
        ("Salesforce/instructblip-vicuna-13b", "probe"),
        ("mistral-community/pixtral-12b", "probe"),
        ("meta-llama/Llama-3.2-11B-Vision-Instruct", "probe"),
        ("google/paligemma2-3b-mix-224", "probe"),
        ("llava-1.5-13b", "encoder"),
        ("some/unknown-model", "encoder"),
    ],
)
def test_the_reference_of_a_model_where_nobody_names_one(name: str, reference: str) -> None:
    assert CATALOG.model(name).reference == reference
    assert CATALOG.model(name, encoder="laion/CLIP-ViT-g-14-laion2B-s12B-b42K").reference == "encoder"


def test_a_users_catalog_adds_and_replaces(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "birds").mkdir()
    file = tmp_path / "catalog.toml"
    file.write_text(
        '[models.mine]\nsource = "model"\nencoder = "someone/clip"\nimage_sets = ["birds"]\n'
        '[image_sets.birds]\nsource = "birds"\nprompt = "Which bird? {labels}"\nlike = "mnist"\nsplit = "validation"\n'
    )
    catalog = Catalog.load(file)
    assert catalog.model("mine").source == str(tmp_path / "model")
    assert catalog.model("mine").image_sets == ("birds",)
    birds = catalog.image_set("birds")
    assert (birds.source, birds.prompt, birds.split) == (str(tmp_path / "birds"), "Which bird? {labels}", "validation")
    assert birds.template == CATALOG.image_set("mnist").template
    assert catalog.model("llava").id == "llava-1.5-7b"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[models.mine]\n", "has no source"),
        (
            '[models.mine]\nsource = "a/b"\nencodr = "x/y"\n',
            r"'encodr' in \[models.mine\] means nothing \(did you mean 'encoder'\?\)",
        ),
        ("[modles.mine]\n", r"table \[modles\] means nothing"),
        ("[models", "cannot read the catalog file"),
        ("models = 3\n", "must be tables"),
        ('[image_sets.x]\nsource = "a/b"\ntemplate = "a photo of a {label}."\n', r"must be a string with \{\} where"),
        ('[image_sets.x]\nsource = "a/b"\nprompt = "What is it?"\n', r"must be a string with \{labels\}"),
        ('[image_sets.x]\nsource = "a/b"\nlabel_order = "alphabetic"\n', 'must be "index" or "alphabetical"'),
        ('[image_sets.x]\nsource = "a/b"\nstems = "it is"\n', "must be a list of strings"),
        ('[image_sets.x]\nsource = "a/b"\nlike = ["mnist"]\n', "must be a string"),
    ],
)
def test_a_wrong_catalog_file_says_what_is_wrong(tmp_path: Path, text: str, says: str) -> None:
    file = tmp_path / "catalog.toml"
    file.write_text(text)
    with pytest.raises(CatalogError, match=says):
        Catalog.load(file)


def test_names_resolve_without_anything_heavy() -> None:
    code = (
        "import sys; from emt_plugin.catalog import Catalog; c = Catalog.load(); c.model('llava'); c.image_set('cifar10'); "
        "print([m for m in ('torch', 'datasets', 'transformers', 'numpy', 'huggingface_hub') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_same_weights_are_told_from_others(tmp_path: Path) -> None:
    catalog = Catalog.load()
    base = catalog.model("llava-mini")
    adapter = bundled_folder() / "adapters" / "lora-emoji" / "checkpoint-2"
    assert catalog.model(str(adapter)).source == base.source
    assert catalog.model(str(adapter)).weights != base.weights
    assert catalog.model("someone/model", revision="v2").weights != catalog.model("someone/model").weights
    (tmp_path / "link").symlink_to(base.source)
    assert catalog.model(str(tmp_path / "link")).weights == catalog.model(base.source).weights == base.weights
